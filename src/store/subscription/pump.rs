//! The pump: one transaction that settles what waits to be settled and claims what then fits.

use std::sync::Arc;

use tokio::time::Instant;

use super::TRY_AGAIN;
use super::state::{Out, Settling, Shared, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Delivery, Ticket};
use crate::store::claim::{self, Claim, Wanted};
use crate::store::commit::Work;
use crate::store::writer::Tx;

impl Shared {
    /// Queues a pump if there is something to do and none is queued.
    pub(super) fn pump(self: &Arc<Self>) {
        let mut state = self.lock();
        let room = state.out.len() < state.prefetch && !state.out.values().any(|out| out.suspect);
        let held_off = state.hold_until.is_some_and(|until| Instant::now() < until);
        let claim = state.look && room && !state.stopped && !held_off;
        if state.pumping || (state.settling.is_empty() && !claim) {
            return;
        }
        state.pumping = true;
        drop(state);
        let pump = Pump {
            shared: Arc::clone(self),
            settled: Vec::new(),
            claim: Claim::default(),
            gone: false,
            over: false,
            claiming: false,
        };
        if let Err(error) = self.store.submit(Box::new(pump)) {
            let mut state = self.lock();
            state.pumping = false;
            for settling in state.settling.drain(..) {
                let _ = settling.reply.send(Err(error.duplicate()));
            }
            state.failed.get_or_insert(error);
            self.changed.notify_one();
        }
    }
}

/// One turn of the pump.
struct Pump {
    shared: Arc<Shared>,
    settled: Vec<(Settling, Result<()>)>,
    claim: Claim,
    /// The queue was deleted.
    gone: bool,
    /// The state was brought up to date after the commit.
    over: bool,
    /// It claimed, so that its claim says whether more is there.
    claiming: bool,
}

impl Work for Pump {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let (settling, outs, mut held, mut started, mut suspect, prefetch, slots) = {
            let mut state = self.shared.lock();
            let settling = std::mem::take(&mut state.settling);
            // Cleared before the claim looks: a bell from now on means something that it may not see.
            self.claiming = state.look && !state.stopped;
            state.look &= !self.claiming;
            let outs: Vec<Option<Out>> = settling.iter().map(|item| state.out.get(&item.tag).copied()).collect();
            (
                settling,
                outs,
                state.out.len(),
                state.out.values().filter(|out| out.started).count(),
                state.out.values().filter(|out| out.suspect).count(),
                state.prefetch,
                state.slots,
            )
        };
        let queue = match tx.queue(&self.shared.queue) {
            Ok(queue) => queue,
            Err(error) => {
                self.settled.extend(settling.into_iter().map(|item| (item, Ok(()))));
                return Err(error);
            }
        };
        let Some(queue) = queue.filter(|queue| queue.id == self.shared.queue_id) else {
            self.gone = true;
            self.settled.extend(settling.into_iter().map(|step| {
                (
                    step,
                    Err(Error::delivery_lost(format!(
                        "queue `{}` was deleted, and its messages with it",
                        self.shared.queue
                    ))),
                )
            }));
            return Ok(());
        };
        let mut failure = None;
        for (step, out) in settling.into_iter().zip(outs) {
            let result = match (&failure, out) {
                (Some(_), _) => Ok(()),
                (None, None) => Err(Error::delivery_lost("the delivery was settled before")),
                (None, Some(out)) => match &step.step {
                    Step::Start => claim::start(tx, self.shared.owner, out.id),
                    Step::Settle(settlement) => {
                        held -= 1;
                        started -= usize::from(out.started);
                        suspect -= usize::from(out.suspect);
                        claim::settle(tx, self.shared.owner, &queue, out.id, settlement)
                    }
                },
            };
            let result = match result {
                Err(error) if error.kind() != ErrorKind::DeliveryLost => {
                    failure = Some(error);
                    Ok(())
                }
                other => other,
            };
            self.settled.push((step, result));
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if self.claiming && suspect > 0 {
            self.claiming = false;
            self.shared.lock().look = true;
        }
        if self.claiming {
            let wanted = Wanted {
                owner: self.shared.owner,
                count: prefetch.saturating_sub(held),
                start: slots.saturating_sub(started),
                alone: held == 0,
            };
            self.claim = claim::claim(tx, &queue, wanted)?;
        }
        Ok(())
    }

    fn committed(&mut self) {
        let mut state = self.shared.lock();
        for (item, result) in &self.settled {
            match item.step {
                Step::Settle(_) => {
                    state.out.remove(&item.tag);
                }
                Step::Start => {
                    if result.is_ok()
                        && let Some(out) = state.out.get_mut(&item.tag)
                    {
                        out.started = true;
                    }
                }
            }
        }
        let claim = std::mem::take(&mut self.claim);
        for claimed in claim.messages {
            state.next_tag += 1;
            let tag = state.next_tag;
            state.out.insert(
                tag,
                Out {
                    id: claimed.id,
                    started: claimed.started,
                    suspect: claimed.suspect,
                },
            );
            state.ready.push_back(Delivery {
                message: claimed.message,
                queue: self.shared.queue.clone(),
                exchange: claimed.exchange,
                attempt: claimed.attempt,
                redelivered: claimed.deliveries > 1 || claimed.attempt > 0 || claimed.suspect,
                deliveries: Some(claimed.deliveries),
                alone: claimed.suspect,
                ticket: Ticket::new(tag),
            });
        }
        // Whatever rang since the claim has set it too, and must not be forgotten.
        state.look |= self.claiming && !claim.drained && !claim.suspect_waits;
        if self.claiming {
            state.suspect_waits = claim.suspect_waits;
        }
        state.hold_until = None;
        state.next_due = claim.next_due.or(state.next_due.filter(|_| !claim.drained));
        if self.gone {
            state.failed.get_or_insert_with(|| {
                Error::not_found(format!(
                    "queue `{}` was deleted; declare it again or stop this consumer",
                    self.shared.queue
                ))
            });
        }
        state.pumping = false;
        self.over = true;
        drop(state);
        self.shared.changed.notify_one();
        self.shared.pump();
    }

    fn durable(&self) -> bool {
        !self.settled.is_empty()
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        if !self.over {
            let mut state = self.shared.lock();
            state.pumping = false;
            state.look |= self.claiming;
            if let Err(error) = &result {
                // What was not even begun fails with the rest.
                for item in state.settling.drain(..) {
                    let _ = item.reply.send(Err(error.duplicate()));
                }
                if error.is_transient() {
                    // A full disk, say: the consumer lives and keeps what it holds until there is room again.
                    tracing::warn!(queue = %self.shared.queue, %error, "the store cannot be written; trying again");
                    state.hold_until = Some(Instant::now() + TRY_AGAIN);
                } else {
                    state.failed.get_or_insert(error.duplicate());
                }
            }
            drop(state);
            self.shared.changed.notify_one();
        }
        for (item, own) in self.settled {
            // The consumer may be gone; the settlement stands all the same.
            let _ = item.reply.send(match &result {
                Ok(()) => own,
                Err(error) => Err(error.duplicate()),
            });
        }
    }
}
