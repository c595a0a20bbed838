//! What a session has in hand: deliveries from taken to settled, and where each of them stands.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::EndReason;
use super::handler::Outcome;
use super::pace::Pace;
use super::policy::Counts;
use super::reply::Reply;
use super::telling::Handled;
use crate::error::{Error, Result};
use crate::queue::{Delivery, Settle, Settlement, Ticket};
use crate::signing::Verified;

/// How long a consumer that must stop now waits for the broker to take what it settles at the end.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(3);

/// How long one that stops in order waits for that.
const LAST_WORD_IN_ORDER: Duration = Duration::from_secs(10);

pub(super) type Running = Pin<Box<dyn Future<Output = Finished> + Send>>;
/// A settlement on its way, or a reply: a reply leaves nothing to do.
pub(super) type Settling = Pin<Box<dyn Future<Output = Option<Settled>> + Send>>;

/// A delivery whose handler has ended.
pub(super) struct Finished {
    pub(super) ticket: Ticket,
    pub(super) facts: Facts,
    pub(super) handled: Handled,
    pub(super) took: Duration,
}

/// What the log and the reply need to know of a delivery.
pub(super) struct Facts {
    pub(super) id: String,
    pub(super) counts: Counts,
    pub(super) reply: Option<Reply>,
    pub(super) alone: bool,
    /// Its signature is good; to be told when it is settled.
    pub(super) verified: Option<Verified>,
}

/// A delivery that waits to be sent to be settled.
pub(super) struct ToSettle {
    pub(super) ticket: Ticket,
    pub(super) facts: Facts,
    pub(super) settlement: Settlement,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// A delivery whose settlement has been answered.
pub(super) struct Settled {
    pub(super) facts: Facts,
    pub(super) settlement: Settlement,
    pub(super) report: Option<(Outcome, Duration)>,
    pub(super) result: Result<()>,
}

/// What a session has in hand.
pub(super) struct Hand {
    /// Taken but not begun.
    pub(super) waiting: VecDeque<Delivery>,
    /// Since when some wait while all slots are taken.
    pub(super) waiting_since: Option<Instant>,
    /// Handled but not yet sent to be settled, and since when.
    pub(super) handled: Vec<ToSettle>,
    pub(super) handled_since: Option<Instant>,
    pub(super) pace: Pace,
    pub(super) running: FuturesUnordered<Running>,
    pub(super) settling: FuturesUnordered<Settling>,
    pub(super) settler: Arc<dyn Settle>,
    pub(super) cancel: CancellationToken,
    pub(super) ending: Option<EndReason>,
    pub(super) fault: Option<Error>,
    pub(super) lost: Option<Error>,
    /// Nothing more will come from the subscription.
    pub(super) dry: bool,
    pub(super) paused_until: Option<Instant>,
    pub(super) grace_until: Option<Instant>,
    pub(super) forced: bool,
    /// Asked twice to stop, it waits until then for the settlements that are under way, and no longer.
    pub(super) last_word_until: Option<Instant>,
    /// A suspect is being handled: nothing is begun beside it.
    pub(super) alone: bool,
}

impl Hand {
    pub(super) fn new(settler: Arc<dyn Settle>, pace: Pace) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_since: None,
            handled: Vec::new(),
            handled_since: None,
            pace,
            running: FuturesUnordered::new(),
            settling: FuturesUnordered::new(),
            settler,
            cancel: CancellationToken::new(),
            ending: None,
            fault: None,
            lost: None,
            dry: false,
            paused_until: None,
            grace_until: None,
            forced: false,
            last_word_until: None,
            alone: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_idle() && (self.dry || self.lost.is_some())
    }

    /// Nothing is in hand.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.settling.is_empty() && self.waiting.is_empty() && self.handled.is_empty()
    }

    /// Sends a settlement on its way.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        facts: Facts,
        settlement: Settlement,
        report: Option<(Outcome, Duration)>,
    ) {
        let settler = Arc::clone(&self.settler);
        self.settling.push(Box::pin(async move {
            let result = settler.settle(ticket, settlement.clone()).await;
            Some(Settled {
                facts,
                settlement,
                report,
                result,
            })
        }));
    }

    pub(super) fn force(&mut self) {
        self.forced = true;
        self.cancel.cancel();
    }

    /// The subscription is over. What is lost to us may run elsewhere in a moment: nothing of it may go on here.
    pub(super) fn lose(&mut self, error: Error) {
        self.cancel.cancel();
        self.waiting.clear();
        self.dry = true;
        self.lost.get_or_insert(error);
    }

    /// Whether who ends has waited long enough for the settlements of what ran.
    pub(super) fn last_word_is_due(&mut self) -> bool {
        if !(self.forced || self.ending.is_some() && self.dry) || !self.running.is_empty() {
            return false;
        }
        let now = Instant::now();
        let within = if self.forced {
            LAST_WORD_WITHIN
        } else {
            LAST_WORD_IN_ORDER
        };
        let until = self
            .last_word_until
            .map_or(now + within, |until| until.min(now + within));
        self.last_word_until = Some(until);
        until <= now
    }
}
