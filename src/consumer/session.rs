//! One connection's worth of consuming: take, handle, settle, until a limit, a stop or a lost connection.

mod work;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt;
use tokio::time::Instant;

use super::hand::{Facts, Hand};
use super::handler::Handler;
use super::limits::Watchman;
use super::meter::State;
use super::pace::{AHEAD_AT_MOST, Pace, SETTLE_WITHIN};
use super::policy::Counts;
use super::telling::Teller;
use super::{ConsumerSettings, EndReason, Ended, Stop};
use crate::error::{Error, Result};
use crate::queue::{Connection, Settlement, Subscription};

/// How long an empty queue is given before `until_empty` asks for its figures.
const SETTLE_DOWN: Duration = Duration::from_millis(5);

/// Progress that outlives a lost connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) ended: Ended,
    /// A connection stood at least once.
    pub(super) connected: bool,
    /// It was, until what is now told.
    pub(super) standing: bool,
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
    pub(super) teller: Arc<Teller>,
}

impl Session<'_> {
    /// Consumes until something ends it; everything taken is settled or given back by then.
    pub(super) async fn run(mut self, mut subscription: Box<dyn Subscription>) -> Result<After> {
        let pace = Pace::new(
            self.handler.in_process() || self.settings.prefetch.is_some() || self.settings.limits.failures.is_some(),
        );
        let mut this = Hand::new(subscription.settler(), pace);
        loop {
            self.settings.pulse.sign();
            self.begin(&mut this);
            self.collect(&mut this);
            Self::settle_handled(&mut this);
            self.collect(&mut this);
            self.keep_pace(&mut this, &mut *subscription);
            self.settings.meter.in_flight(this.running.len());
            if this.ending.is_none() {
                self.check_limits(&mut this, &*subscription).await;
            }
            if this.ending.is_some() || this.fault.is_some() || this.lost.is_some() {
                self.drain(&mut this, &mut *subscription).await;
            }
            if this.is_over() {
                break;
            }
            if this.last_word_is_due() {
                tracing::warn!(
                    unsettled = this.settling.len(),
                    "the broker does not take the last settlements; their messages come back by themselves"
                );
                break;
            }
            self.step(&mut this, &mut subscription).await;
        }
        let closed = self.settings.pulse.during(subscription.close()).await;
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

    async fn check_limits(&mut self, this: &mut Hand, subscription: &dyn Subscription) {
        let idle = this.is_idle();
        if let Some(reached) = self.watchman.reached(idle) {
            this.ending = Some(EndReason::Limit(reached));
            return;
        }
        if self.settings.limits.until_empty && idle && self.watchman.idle_for() >= SETTLE_DOWN {
            let info = tokio::select! {
                info = self.settings.pulse.during(self.connection.info(&self.settings.queue)) => info,
                // A broker that does not answer keeps nobody from stopping.
                () = self.stop.drain.cancelled() => return,
            };
            match info {
                // What is no longer ready may be on its way to us. Asked in this order, nothing falls between.
                Ok(info) if info.ready == 0 && subscription.is_quiet() => {
                    this.ending = Some(EndReason::Limit("until-empty".to_owned()));
                }
                Ok(info) if info.paused && info.ready > 0 => {
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
        self.settings.meter.set_state(match &this.lost {
            Some(error) if this.ending.is_none() => State::Away(error.to_string()),
            _ => State::Stopping,
        });
        if this.ending.is_some() && this.grace_until.is_none() {
            this.grace_until = self.settings.stop_grace.map(|grace| Instant::now() + grace);
        }
        if !this.dry {
            let stopped = async {
                subscription.stop().await?;
                loop {
                    let more = subscription.next().await?;
                    if more.is_empty() {
                        return Ok(());
                    }
                    this.waiting.extend(more);
                }
            };
            let stopped = tokio::select! {
                stopped = self.settings.pulse.during(stopped) => stopped,
                // Whoever asks twice does not wait for the store either: closing gives back what is held.
                () = self.stop.now.cancelled() => Ok(()),
            };
            this.dry = true;
            if let Err(error) = stopped {
                this.lose(error);
            }
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
                verified: None,
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
            // What was taken ahead arrives even when there is no room any more: it must be seen to be given back.
            && (this.running.len() < self.slots + this.pace.ahead || !this.pace.fixed());
        let mut wake = self.watchman.next_look();
        for moment in [
            this.paused_until,
            this.grace_until.filter(|_| !this.forced),
            this.last_word_until,
            this.handled_since.map(|since| since + SETTLE_WITHIN),
            this.waiting_since.map(|since| since + AHEAD_AT_MOST),
            self.settings.pulse.next(),
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
        let take = async {
            if taking {
                subscription.next().await
            } else {
                subscription.attend().await;
                subscription.next().await
            }
        };
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
            taken = take, if taking || this.lost.is_none() => match taken {
                Ok(deliveries) => this.waiting.extend(deliveries),
                Err(error) => this.lose(error),
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
