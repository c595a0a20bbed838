//! What happens to one delivery: begun, handled, settled, reported, answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use tokio::time::Instant;

use super::Session;
use crate::consumer::EndReason;
use crate::consumer::hand::{Facts, Finished, Hand, Settled, ToSettle};
use crate::consumer::handler::{Call, Outcome};
use crate::consumer::pace::{AHEAD_AT_MOST, SETTLE_WITHIN};
use crate::consumer::policy::{Counts, decide_before};
use crate::consumer::reply::{Reply, answer};
use crate::consumer::telling::{End, Handled};
use crate::error::{Error, ErrorKind};
use crate::queue::message::header;
use crate::queue::{Delivery, HeaderValue, Settlement};

/// How long nothing is taken after the machine was found short of something.
const PAUSE: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Begins what fits.
    pub(super) fn begin(&mut self, this: &mut Hand) {
        if this.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        this.paused_until = None;
        let limit = self.settings.limits.messages.unwrap_or(u64::MAX);
        // What is begun ahead may be given back: the last ones are begun in slots only, or there would be too few.
        let ahead = |begun: u64, ahead: usize| {
            if limit.saturating_sub(begun) > ahead as u64 {
                ahead
            } else {
                0
            }
        };
        while this.ending.is_none()
            && this.fault.is_none()
            && this.lost.is_none()
            && this.running.len() < self.slots + ahead(self.progress.begun, this.pace.ahead)
            && (!this.alone || this.running.is_empty())
            && self.progress.begun < limit
        {
            let Some(delivery) = this.waiting.pop_front() else {
                break;
            };
            self.progress.begun += 1;
            self.watchman.message();
            self.take(this, delivery);
        }
        if self.progress.begun >= limit && this.running.len() <= self.slots && this.ending.is_none() {
            this.ending = Some(EndReason::Limit(format!("messages {limit}")));
        }
    }

    /// Hands a delivery to the handler, unless its counts say that it must not be handled again.
    fn take(&self, this: &mut Hand, delivery: Delivery) {
        let message = &delivery.message;
        let counts = Counts {
            attempt: delivery.attempt,
            deliveries: delivery.deliveries,
            allowed: message
                .headers
                .get(header::MAX_ATTEMPTS)
                .and_then(HeaderValue::as_int)
                .and_then(|value| u32::try_from(value).ok()),
        };
        let facts = Facts {
            id: message.id.clone().unwrap_or_default(),
            counts,
            reply: Reply::wanted(message, &*self.connection, &self.settings.replies_allow),
            alone: delivery.alone,
            verified: None,
        };
        if delivery.redelivered {
            tracing::info!(queue = %delivery.queue, id = %facts.id, attempt = delivery.attempt + 1, deliveries = delivery.deliveries,
                alone = delivery.alone, "handed out again");
        }
        let given_up = decide_before(counts, &self.settings.retry);
        if given_up.is_none() {
            this.alone = delivery.alone;
            self.settings.meter.begun();
        }
        let call = Call {
            output_wanted: facts.reply.is_some() || self.teller.wants_output(),
            message: delivery.message,
            queue: delivery.queue,
            exchange: delivery.exchange,
            attempt: delivery.attempt,
            deliveries: delivery.deliveries,
            cancel: this.cancel.clone(),
            patience: (this.running.len() >= self.slots).then_some(AHEAD_AT_MOST),
        };
        let handler = Arc::clone(&self.handler);
        let teller = Arc::clone(&self.teller);
        let ticket = delivery.ticket;
        let settler = Arc::clone(&this.settler);
        this.running.push(Box::pin(async move {
            let begun = Instant::now();
            let handled = match given_up {
                Some(settlement) => teller.give_up(call, settlement).await,
                // Beyond the slots a delivery counts only when it is begun; within them this is free.
                None => match settler.start(&ticket).await {
                    Err(_) => Handled::not_begun(),
                    Ok(()) => teller.handle(&*handler, call, counts).await,
                },
            };
            Finished {
                ticket,
                facts,
                handled,
                took: begun.elapsed(),
            }
        }));
    }

    /// Takes in every handler and every settlement that has ended, without waiting.
    pub(super) fn collect(&mut self, this: &mut Hand) {
        while let Some(Some(finished)) = this.running.next().now_or_never() {
            self.finished(this, finished);
        }
        while let Some(Some(settled)) = this.settling.next().now_or_never() {
            self.settled(this, settled);
        }
    }

    /// Sends what is handled to be settled: at once, or when several have come together.
    pub(super) fn settle_handled(this: &mut Hand) {
        let Some(since) = this.handled_since else { return };
        let enough =
            this.handled.len() >= this.pace.ahead || this.waiting.is_empty() && this.running.len() <= this.pace.ahead;
        if !enough && this.ending.is_none() && this.lost.is_none() && since.elapsed() < SETTLE_WITHIN {
            return;
        }
        this.handled_since = None;
        for handled in std::mem::take(&mut this.handled) {
            let ToSettle {
                ticket,
                facts,
                settlement,
                outcome,
                took,
            } = handled;
            this.settle(ticket, facts, settlement, Some((outcome, took)));
        }
    }

    pub(super) fn finished(&mut self, this: &mut Hand, finished: Finished) {
        let Finished {
            ticket,
            mut facts,
            handled,
            took,
        } = finished;
        let Handled {
            outcome,
            settlement,
            end,
            verified,
        } = handled;
        // One that comes again may be here before its settlement is answered, and is no copy of itself.
        facts.verified = verified.filter(|_| settlement == Settlement::Ack);
        match end {
            Some(End::Failed(error)) => {
                this.ending.get_or_insert_with(|| EndReason::Unheard(error.to_string()));
            }
            Some(End::Wanted(by)) => {
                this.ending.get_or_insert(EndReason::Listener(by));
            }
            None => {}
        }
        if facts.alone {
            this.alone = false;
        }
        match outcome {
            Outcome::Cancelled if this.cancel.is_cancelled() => {}
            Outcome::Cancelled => this.pace.slow_down(),
            _ => {
                this.pace.took(took, self.slots);
                self.settings.meter.took(took);
            }
        }
        match &outcome {
            Outcome::WorkerFault(reason) => {
                this.fault.get_or_insert_with(|| Error::worker_fault(reason.clone()));
            }
            Outcome::Enough(reason) => {
                this.ending.get_or_insert_with(|| EndReason::Enough(reason.clone()));
            }
            Outcome::Pause(reason) => {
                tracing::warn!(%reason, "the machine is short of something; nothing is taken for a second");
                this.paused_until = Some(Instant::now() + PAUSE);
            }
            _ => {}
        }
        if matches!(
            outcome,
            Outcome::WorkerFault(_) | Outcome::Enough(_) | Outcome::Pause(_) | Outcome::Cancelled
        ) {
            self.progress.begun = self.progress.begun.saturating_sub(1);
        }
        this.handled_since.get_or_insert_with(Instant::now);
        this.handled.push(ToSettle {
            ticket,
            facts,
            settlement,
            outcome,
            took,
        });
    }

    pub(super) fn settled(&mut self, this: &mut Hand, settled: Option<Settled>) {
        let Some(settled) = settled else { return };
        let Settled {
            facts,
            settlement,
            report,
            result,
        } = settled;
        let (outcome, took) = report.map_or((None, Duration::ZERO), |(outcome, took)| (Some(outcome), took));
        let reason = match &outcome {
            Some(Outcome::Retry(failure) | Outcome::Reject(failure)) => failure.reason.as_str(),
            _ => "",
        };
        let (id, took_ms, attempt) = (&facts.id, took.as_millis() as u64, facts.counts.attempt + 1);
        let consumer = &self.settings.name;
        if result.is_ok()
            && let (Some(verified), Some(verifier)) = (&facts.verified, &self.settings.verifier)
        {
            verifier.done(verified);
        }
        if let Err(error) = result {
            self.settings.meter.settled(None);
            tracing::warn!(%consumer, %id, attempt, %error, "not settled; the message comes back if its queue is still there");
            if error.kind() != ErrorKind::DeliveryLost {
                this.lost.get_or_insert(error);
            }
            return;
        }
        if let Some(Outcome::Swallowed(_)) = &outcome {
            self.settings.meter.swallowed();
        } else {
            self.settings.meter.settled(Some(&settlement));
        }
        match &settlement {
            Settlement::Ack => {
                if let Some(Outcome::Swallowed(by)) = &outcome {
                    tracing::warn!(%consumer, %id, attempt, listener = %by, "swallowed by a listener, and removed unhandled");
                    self.progress.ended.swallowed += 1;
                } else {
                    tracing::info!(%consumer, %id, attempt, took_ms, "done");
                    self.progress.ended.done += 1;
                    self.progress.failures_in_a_row = 0;
                }
            }
            Settlement::Retry { after } => {
                tracing::warn!(%consumer, %id, attempt, took_ms, %reason, retry_ms = after.as_millis() as u64, "failed, to be tried again");
            }
            Settlement::Reject(dead) => {
                tracing::error!(%consumer, %id, attempt, took_ms, reason = %dead.reason, "failed for good, dead-lettered");
            }
            Settlement::Release { .. } => {
                if this.forced && !took.is_zero() {
                    tracing::warn!(%consumer, %id, took_ms, "ended and given back; it will be run again from its beginning");
                } else {
                    tracing::info!(%consumer, %id, "given back untouched");
                }
                return;
            }
        }
        self.settings.pulse.settled(id, settlement == Settlement::Ack);
        if settlement != Settlement::Ack {
            self.progress.ended.failed += 1;
            self.progress.failures_in_a_row += 1;
            let limit = self.settings.limits.failures.unwrap_or(u64::MAX);
            if self.progress.failures_in_a_row >= limit && this.ending.is_none() {
                this.ending = Some(EndReason::Failures(limit));
            }
        }
        if let Some(reply) = facts.reply
            && !matches!(settlement, Settlement::Retry { .. })
        {
            let connection = Arc::clone(&self.connection);
            // A reply that cannot be sent changes nothing about the settlement.
            this.settling.push(Box::pin(async move {
                answer(&*connection, &reply, &settlement, outcome.as_ref()).await;
                None
            }));
        }
    }
}
