//! One connection's worth of consuming: take, handle, settle, until a limit, a stop or a lost connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use tokio::time::Instant;

use super::hand::{Facts, Finished, Hand, Handled, Settled};
use super::handler::{Call, Failure, Handler, Outcome};
use super::limits::Watchman;
use super::pace::{AHEAD_AT_MOST, Pace, SETTLE_WITHIN};
use super::policy::{Counts, decide, decide_before};
use super::reply::{Reply, answer};
use super::{ConsumerSettings, EndReason, Ended, Stop};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::message::header;
use crate::queue::{Connection, Delivery, HeaderValue, Settlement, Subscription};

/// How long nothing is taken after the machine was found short of something.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an empty queue is given before `until_empty` asks for its figures.
const SETTLE_DOWN: Duration = Duration::from_millis(5);

/// Progress that outlives a lost connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) ended: Ended,
    /// A connection stood at least once.
    pub(super) connected: bool,
    /// Messages begun so far, for the message limit.
    begun: u64,
    failures_in_a_row: u64,
}

/// Whether the consumer is over, or only its connection.
pub(super) enum After {
    /// The consumer ends.
    End(EndReason),
    /// The connection is to be made anew.
    Reconnect(Error),
}

pub(super) struct Session<'a> {
    pub(super) connection: Arc<dyn Connection>,
    pub(super) settings: &'a ConsumerSettings,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) stop: &'a Stop,
    pub(super) watchman: &'a mut Watchman,
    pub(super) progress: &'a mut Progress,
    pub(super) slots: usize,
}

impl Session<'_> {
    /// Consumes until something ends it; everything taken is settled or given back by then.
    pub(super) async fn run(mut self, mut subscription: Box<dyn Subscription>) -> Result<After> {
        let pace = Pace::new(self.handler.in_process() || self.settings.prefetch.is_some());
        let mut this = Hand::new(subscription.settler(), pace);
        loop {
            self.begin(&mut this);
            self.collect(&mut this);
            Self::settle_handled(&mut this);
            self.collect(&mut this);
            self.keep_pace(&mut this, &mut *subscription);
            if this.ending.is_none() {
                self.check_limits(&mut this).await;
            }
            if this.ending.is_some() || this.fault.is_some() {
                self.drain(&mut this, &mut *subscription).await;
            }
            if this.is_over() {
                break;
            }
            self.step(&mut this, &mut subscription).await;
        }
        let closed = subscription.close().await;
        if let Some(error) = this.fault {
            return Err(error);
        }
        if let Some(reason) = this.ending {
            if let Err(error) = closed {
                tracing::warn!(%error, "the subscription did not close cleanly; what was held comes back by itself");
            }
            return Ok(After::End(reason));
        }
        Ok(After::Reconnect(
            this.lost
                .unwrap_or_else(|| Error::unavailable("the subscription ended")),
        ))
    }

    /// Begins what fits.
    fn begin(&mut self, this: &mut Hand) {
        if this.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        this.paused_until = None;
        let limit = self.settings.limits.messages.unwrap_or(u64::MAX);
        while this.ending.is_none()
            && this.fault.is_none()
            && this.lost.is_none()
            && this.running.len() < self.slots + this.pace.ahead
            && (!this.alone || this.running.is_empty())
            && self.progress.begun < limit
        {
            let Some(delivery) = this.waiting.pop_front() else {
                break;
            };
            self.progress.begun += 1;
            self.watchman.message();
            this.alone = delivery.alone;
            self.take(this, delivery);
        }
        if self.progress.begun >= limit && this.ending.is_none() {
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
        };
        if delivery.redelivered {
            tracing::info!(queue = %delivery.queue, id = %facts.id, attempt = delivery.attempt + 1, deliveries = delivery.deliveries,
                alone = delivery.alone, "handed out again");
        }
        if let Some(settlement) = decide_before(counts, &self.settings.retry) {
            this.settle(delivery.ticket, facts, settlement, None);
            return;
        }
        let call = Call {
            reply_wanted: facts.reply.is_some(),
            message: delivery.message,
            queue: delivery.queue,
            exchange: delivery.exchange,
            attempt: delivery.attempt,
            deliveries: delivery.deliveries,
            cancel: this.cancel.clone(),
            patience: (this.running.len() >= self.slots).then_some(AHEAD_AT_MOST),
        };
        let handler = Arc::clone(&self.handler);
        let ticket = delivery.ticket;
        let settler = Arc::clone(&this.settler);
        this.running.push(Box::pin(async move {
            let begun = Instant::now();
            // Beyond the slots a delivery counts only when it is begun; within them this is free.
            let outcome = match settler.start(&ticket).await {
                Err(_) => Outcome::Cancelled,
                Ok(()) => match AssertUnwindSafe(handler.handle(call)).catch_unwind().await {
                    Ok(outcome) => outcome,
                    Err(panic) => Outcome::Retry(Failure {
                        reason: format!("the handler panicked: {}", panic_text(&*panic)),
                        ..Failure::default()
                    }),
                },
            };
            Finished {
                ticket,
                facts,
                outcome,
                took: begun.elapsed(),
            }
        }));
    }

    /// Takes in every handler and every settlement that has ended, without waiting.
    fn collect(&mut self, this: &mut Hand) {
        while let Some(Some(finished)) = this.running.next().now_or_never() {
            self.finished(this, finished);
        }
        while let Some(Some(settled)) = this.settling.next().now_or_never() {
            self.settled(this, settled);
        }
    }

    /// Sends what is handled to be settled: at once, or when several have come together.
    fn settle_handled(this: &mut Hand) {
        let Some(since) = this.handled_since else { return };
        let enough =
            this.handled.len() >= this.pace.ahead || this.waiting.is_empty() && this.running.len() <= this.pace.ahead;
        if !enough && this.ending.is_none() && this.lost.is_none() && since.elapsed() < SETTLE_WITHIN {
            return;
        }
        this.handled_since = None;
        for handled in std::mem::take(&mut this.handled) {
            let Handled {
                ticket,
                facts,
                settlement,
                outcome,
                took,
            } = handled;
            this.settle(ticket, facts, settlement, Some((outcome, took)));
        }
    }

    fn finished(&mut self, this: &mut Hand, finished: Finished) {
        let Finished {
            ticket,
            facts,
            outcome,
            took,
        } = finished;
        if facts.alone {
            this.alone = false;
        }
        match outcome {
            Outcome::Cancelled if this.cancel.is_cancelled() => {}
            Outcome::Cancelled => this.pace.slow_down(),
            _ => this.pace.took(took, self.slots),
        }
        match &outcome {
            Outcome::WorkerFault(reason) => {
                this.fault.get_or_insert_with(|| Error::worker_fault(reason.clone()));
            }
            Outcome::Pause(reason) => {
                tracing::warn!(%reason, "the machine is short of something; nothing is taken for a second");
                this.paused_until = Some(Instant::now() + PAUSE);
            }
            _ => {}
        }
        if matches!(
            outcome,
            Outcome::WorkerFault(_) | Outcome::Pause(_) | Outcome::Cancelled
        ) {
            self.progress.begun = self.progress.begun.saturating_sub(1);
        }
        let settlement = decide(&outcome, facts.counts, &self.settings.retry, fastrand::f64());
        this.handled_since.get_or_insert_with(Instant::now);
        this.handled.push(Handled {
            ticket,
            facts,
            settlement,
            outcome,
            took,
        });
    }

    fn settled(&mut self, this: &mut Hand, settled: Option<Settled>) {
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
        if let Err(error) = result {
            tracing::warn!(%consumer, %id, attempt, %error, "not settled; the message comes back");
            if error.kind() != ErrorKind::DeliveryLost {
                this.lost.get_or_insert(error);
            }
            return;
        }
        match &settlement {
            Settlement::Ack => {
                tracing::info!(%consumer, %id, attempt, took_ms, "done");
                self.progress.ended.done += 1;
                self.progress.failures_in_a_row = 0;
            }
            Settlement::Retry { after } => {
                tracing::warn!(%consumer, %id, attempt, took_ms, %reason, retry_ms = after.as_millis() as u64, "failed, to be tried again");
            }
            Settlement::Reject(dead) => {
                tracing::error!(%consumer, %id, attempt, took_ms, reason = %dead.reason, "failed for good, dead-lettered");
            }
            Settlement::Release { .. } => {
                tracing::info!(%consumer, %id, "given back untouched");
                return;
            }
        }
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

    /// While the handler is quick, takes messages ahead of the slots and settles several at once, so that no slot ever waits
    /// for the store. A message that cannot be begun soon is given back, so none waits here while another consumer is idle.
    fn keep_pace(&self, this: &mut Hand, subscription: &mut dyn Subscription) {
        if this.dry {
            return;
        }
        if let Some(ahead) = this.pace.changed(self.slots) {
            subscription.set_window(self.slots + 2 * ahead);
        }
        if this.waiting.is_empty() || this.running.len() < self.slots {
            this.waiting_since = None;
            return;
        }
        let since = *this.waiting_since.get_or_insert_with(Instant::now);
        if !this.pace.fixed() && (this.pace.ahead == 0 || since.elapsed() >= AHEAD_AT_MOST) {
            this.pace.slow_down();
            this.waiting_since = None;
            Self::give_back(this);
        }
    }

    async fn check_limits(&mut self, this: &mut Hand) {
        let idle = this.is_idle();
        if let Some(reached) = self.watchman.reached(idle) {
            this.ending = Some(EndReason::Limit(reached));
            return;
        }
        if self.settings.limits.until_empty && idle && self.watchman.idle_for() >= SETTLE_DOWN {
            match self.connection.info(&self.settings.queue).await {
                Ok(info) if info.ready == 0 => this.ending = Some(EndReason::Limit("until-empty".to_owned())),
                Ok(info) if info.paused => {
                    this.ending = Some(EndReason::Limit(format!(
                        "until-empty: {} is paused, {} left",
                        info.name, info.ready
                    )));
                }
                Ok(_) => {}
                Err(error) => {
                    this.lost.get_or_insert(error);
                }
            }
        }
    }

    /// Takes nothing new, gives back what was not begun, and bounds how long the rest may take.
    async fn drain(&mut self, this: &mut Hand, subscription: &mut dyn Subscription) {
        if !this.dry {
            if let Err(error) = subscription.stop().await {
                this.lost.get_or_insert(error);
            }
            loop {
                tokio::select! {
                    more = subscription.next() => match more {
                        Ok(more) if !more.is_empty() => this.waiting.extend(more),
                        _ => break,
                    },
                    // Whoever asks twice does not wait for the store either: closing gives back what is held.
                    () = self.stop.now.cancelled() => break,
                }
            }
            this.dry = true;
            this.grace_until = self.settings.stop_grace.map(|grace| Instant::now() + grace);
        }
        Self::give_back(this);
    }

    /// Gives back what was taken but not begun.
    fn give_back(this: &mut Hand) {
        for delivery in std::mem::take(&mut this.waiting) {
            let facts = Facts {
                id: delivery.message.id.unwrap_or_default(),
                counts: Counts {
                    attempt: delivery.attempt,
                    ..Counts::default()
                },
                reply: None,
                alone: false,
            };
            this.settle(delivery.ticket, facts, Settlement::Release { uncounted: true }, None);
        }
    }

    /// Waits for the next thing to happen.
    async fn step(&mut self, this: &mut Hand, subscription: &mut Box<dyn Subscription>) {
        let now = Instant::now();
        let paused = this.paused_until.is_some_and(|until| now < until);
        let taking = !this.dry
            && this.lost.is_none()
            && !paused
            && !this.alone
            && this.waiting.is_empty()
            && this.running.len() < self.slots + this.pace.ahead;
        let mut wake = self.watchman.next_look();
        for moment in [
            this.paused_until,
            this.grace_until.filter(|_| !this.forced),
            this.handled_since.map(|since| since + SETTLE_WITHIN),
            this.waiting_since.map(|since| since + AHEAD_AT_MOST),
        ]
        .into_iter()
        .flatten()
        {
            wake = Some(wake.map_or(moment, |wake| wake.min(moment)));
        }
        if self.settings.limits.until_empty && this.ending.is_none() {
            let soon = now + SETTLE_DOWN;
            wake = Some(wake.map_or(soon, |wake| wake.min(soon)));
        }
        tokio::select! {
            biased;
            () = self.stop.now.cancelled(), if !this.forced => {
                tracing::warn!(running = this.running.len(), "stopping now; what runs is ended and given back");
                this.force();
                this.ending = Some(EndReason::Interrupted);
            }
            () = self.stop.drain.cancelled(), if this.ending.is_none() => {
                tracing::info!(running = this.running.len(), "stopping: nothing new is taken, what runs is finished; a second signal gives it back at once");
                this.ending = Some(EndReason::Stopped);
            }
            Some(finished) = this.running.next(), if !this.running.is_empty() => self.finished(this, finished),
            Some(settled) = this.settling.next(), if !this.settling.is_empty() => self.settled(this, settled),
            taken = subscription.next(), if taking => match taken {
                Ok(deliveries) => this.waiting.extend(deliveries),
                Err(error) => {
                    // Deliveries that are lost to us may run elsewhere in a moment: nothing of them may go on here.
                    this.cancel.cancel();
                    this.waiting.clear();
                    this.dry = true;
                    this.lost = Some(error);
                }
            },
            () = sleep_until(wake) => {
                if this.grace_until.is_some_and(|until| until <= Instant::now()) && !this.forced {
                    tracing::warn!(running = this.running.len(), "the stop's grace is over; what runs is ended and given back");
                    this.force();
                }
            }
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
