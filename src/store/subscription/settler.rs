//! The settling side of a subscription.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::TRY_AGAIN;
use super::state::{Settling, Shared, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Settlement, Ticket};

/// For how long a settlement is tried again before it is given up; its message then comes back.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);

/// Settles deliveries of one subscription.
pub(crate) struct StoreSettler {
    pub(super) shared: Arc<Shared>,
}

impl StoreSettler {
    pub(crate) async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<()> {
        self.step(ticket.tag(), Step::Settle(settlement)).await
    }

    pub(crate) async fn start(&self, ticket: &Ticket) -> Result<()> {
        let started = self.shared.lock().out.get(&ticket.tag()).is_some_and(|out| out.started);
        if started {
            Ok(())
        } else {
            self.step(ticket.tag(), Step::Start).await
        }
    }

    /// Waits until the step is done. While the store cannot be written it is tried again: the work behind a settlement is
    /// done, and forgetting that would do it twice.
    async fn step(&self, tag: u64, step: Step) -> Result<()> {
        let give_up = Instant::now() + SETTLE_PATIENCE;
        loop {
            let (reply, answer) = oneshot::channel();
            {
                let mut state = self.shared.lock();
                state.settling.push(Settling {
                    tag,
                    step: step.clone(),
                    reply,
                });
                if state.suspect_waits {
                    state.look = true;
                }
            }
            self.shared.pump();
            let result = answer
                .await
                .unwrap_or_else(|_| Err(Error::bug("a settlement was dropped by the store")));
            match result {
                Err(error)
                    if error.is_transient() && error.kind() != ErrorKind::DeliveryLost && Instant::now() < give_up =>
                {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                result => return result,
            }
        }
    }
}
