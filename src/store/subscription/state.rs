//! What a subscription, its pump and its settler know together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::queue::{Delivery, Settlement};
use crate::store::Store;
use crate::store::owners::Reaped;

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) owner: i64,
    pub(super) queue: String,
    /// Another queue of the same name, made after ours was deleted, is another one.
    pub(super) queue_id: i64,
    pub(super) state: Mutex<State>,
    pub(super) changed: Notify,
}

pub(super) struct State {
    pub(super) prefetch: usize,
    pub(super) slots: usize,
    pub(super) out: HashMap<u64, Out>,
    pub(super) settling: Vec<Settling>,
    pub(super) ready: VecDeque<Delivery>,
    /// A pump is queued or running.
    pub(super) pumping: bool,
    /// Something may be there to claim.
    pub(super) look: bool,
    pub(super) stopped: bool,
    /// A suspect is next, and waits until nothing else is out.
    pub(super) suspect_waits: bool,
    /// The store did not take the last claim: not before this moment again.
    pub(super) hold_until: Option<Instant>,
    pub(super) next_due: Option<i64>,
    pub(super) failed: Option<Error>,
    pub(super) next_tag: u64,
    /// Somebody may have died, and nobody has looked yet.
    pub(super) reap_wanted: bool,
    /// A task is looking.
    pub(super) reaping: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) id: i64,
    pub(super) started: bool,
    pub(super) suspect: bool,
}

#[derive(Clone)]
pub(super) enum Step {
    Settle(Settlement),
    Start,
}

pub(super) struct Settling {
    pub(super) tag: u64,
    pub(super) step: Step,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a look for dead owners came to; `true`: there is no need to look again.
    pub(super) fn looked_for_dead(&self, reaped: Result<Reaped>, swept: Result<u64>) -> bool {
        let mut state = self.lock();
        match (reaped, swept) {
            (Ok(reaped), Ok(_)) => {
                state.look |= reaped.messages > 0;
                state.reap_wanted |= reaped.haunted > 0;
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(queue = %self.queue, %error, "dead consumers cannot be looked for; trying again");
                state.reap_wanted = true;
            }
        }
        state.reaping = state.reap_wanted && !state.stopped;
        state.reap_wanted = false;
        !state.reaping
    }
}
