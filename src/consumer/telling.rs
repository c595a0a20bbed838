//! Handling with listeners around it: who hears of a message before it is handled, and of what came of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handler::{Call, Failure, Handler, Outcome, Report};
use super::policy::{Counts, RetryPolicy, decide};
use super::{ConsumerSettings, Meter, Stop};
use crate::error::Error;
use crate::events::{self, Event, EventKind, Listeners, Reaction};
use crate::queue::{Message, Settlement};
use crate::signing::{Strictness, Verified, Verifier};

/// Has messages handled, and tells listeners.
pub(super) struct Teller {
    listeners: Arc<Listeners>,
    consumer: String,
    retry: RetryPolicy,
    meter: Meter,
    verifier: Option<Arc<Verifier>>,
    /// The consumer takes nothing new.
    drain: CancellationToken,
    hear_received: bool,
    hear_consumed: bool,
    hear_failed: bool,
}

/// What came of a message, and of telling of it.
pub(super) struct Handled {
    pub(super) outcome: Outcome,
    pub(super) settlement: Settlement,
    /// The consumer is to end.
    pub(super) end: Option<End>,
    /// Its signature is good.
    pub(super) verified: Option<Verified>,
}

/// Why a consumer is to end for a listener's sake.
pub(super) enum End {
    /// It wants it: where it is configured.
    Wanted(String),
    /// It was not to be had, and its policy is to stop.
    Failed(Error),
}

impl Handled {
    /// It was not begun: somebody else has it by now, or may have it.
    pub(super) fn not_begun() -> Self {
        Self {
            outcome: Outcome::Cancelled,
            settlement: Settlement::Release { uncounted: true },
            end: None,
            verified: None,
        }
    }

    fn note(&mut self, reaction: Reaction) {
        if let Some(error) = reaction.failed {
            self.end = Some(End::Failed(error));
        } else if let Some(by) = reaction.stop {
            self.end.get_or_insert(End::Wanted(by));
        }
    }
}

impl Teller {
    pub(super) fn new(settings: &ConsumerSettings, stop: &Stop) -> Self {
        let hear = |kind| settings.listeners.hear_of(kind, &settings.name, &settings.queue);
        Self {
            listeners: Arc::clone(&settings.listeners),
            consumer: settings.name.clone(),
            retry: settings.retry.clone(),
            meter: settings.meter.clone(),
            verifier: settings.verifier.clone(),
            drain: stop.drain.clone(),
            hear_received: hear(EventKind::MessageReceived),
            hear_consumed: hear(EventKind::MessageConsumed),
            hear_failed: hear(EventKind::MessageConsumptionFailed),
        }
    }

    async fn tell(&self, event: &Event<'_>, cancel: &CancellationToken) -> Reaction {
        let reaction = self.listeners.tell(event, cancel, &self.drain).await;
        self.meter.unheard(reaction.skipped);
        reaction
    }

    /// Whether somebody wants what a handler's child prints.
    pub(super) fn wants_output(&self) -> bool {
        (self.hear_consumed || self.hear_failed) && self.listeners.want_output()
    }

    /// Has a message handled, if its signature is good where that is asked for.
    pub(super) async fn handle(&self, handler: &dyn Handler, mut call: Call, counts: Counts) -> Handled {
        let begun = Instant::now();
        let signature = self.check(&mut call);
        let trusted = signature.is_ok();
        let (verified, refused) = match signature {
            Ok(verified) => (verified, None),
            Err(reason) => (None, self.refusal(&call, &reason)),
        };
        let mut end = None;
        let told = self.is_heard().then(|| Told::of(&call, trusted));
        let outcome = match (refused, &told) {
            (Some(outcome), _) => outcome,
            (None, None) => handled(handler, call).await,
            (None, Some(told)) => match self.received(handler, &call, told, &mut end).await {
                Some(outcome) => outcome,
                None => handled(handler, call).await,
            },
        };
        let mut result = Handled {
            settlement: decide(&outcome, counts, &self.retry, fastrand::f64()),
            outcome,
            end,
            verified,
        };
        if let Some(told) = &told {
            self.ended(told, &mut result, begun.elapsed()).await;
        }
        result
    }

    fn is_heard(&self) -> bool {
        self.hear_received || self.hear_consumed || self.hear_failed
    }

    /// What a good signature says is what the handler is told, whatever stands on the message.
    fn check(&self, call: &mut Call) -> Result<Option<Verified>, String> {
        let Some(verifier) = &self.verifier else {
            return Ok(None);
        };
        let verified = verifier.check(&call.message)?;
        call.exchange.clone_from(&verified.exchange);
        call.message.routing_key.clone_from(&verified.routing_key);
        Ok(Some(verified))
    }

    /// What becomes of a message whose signature is not good; `None`: it is handled all the same.
    fn refusal(&self, call: &Call, reason: &str) -> Option<Outcome> {
        let strictness = self.verifier.as_ref().map(|verifier| verifier.strictness());
        if strictness == Some(Strictness::Require) {
            return Some(Outcome::reject(format!("signature: {reason}")));
        }
        tracing::warn!(consumer = %self.consumer, id = call.message.id.as_deref().unwrap_or(""),
            "signature: {reason}; with `signing: require` it would not be handled");
        None
    }

    /// Tells of a message that is given up unhandled.
    pub(super) async fn give_up(&self, call: Call, settlement: Settlement) -> Handled {
        let reason = match &settlement {
            Settlement::Reject(dead) => dead.reason.clone(),
            _ => String::new(),
        };
        let mut result = Handled {
            outcome: Outcome::reject(reason),
            settlement,
            end: None,
            verified: None,
        };
        self.ended(&Told::of(&call, self.verifier.is_none()), &mut result, Duration::ZERO)
            .await;
        result
    }

    /// Tells that it was received; an outcome stands in place of its being handled.
    async fn received(
        &self,
        handler: &dyn Handler,
        call: &Call,
        told: &Told,
        end: &mut Option<End>,
    ) -> Option<Outcome> {
        if !self.hear_received {
            return None;
        }
        if let Err(reason) = handler.decode(&call.message) {
            return Some(Outcome::reject(reason));
        }
        let event = told.event(EventKind::MessageReceived, &self.consumer, None);
        let reaction = self.tell(&event, &call.cancel).await;
        if let Some(by) = &reaction.swallowed {
            return Some(Outcome::Swallowed(by.clone()));
        }
        if reaction.cancelled {
            return Some(Outcome::Cancelled);
        }
        if let Some(error) = reaction.failed {
            *end = Some(End::Failed(error));
            return Some(Outcome::Cancelled);
        }
        *end = reaction.stop.map(End::Wanted);
        None
    }

    /// Tells what came of it.
    async fn ended(&self, told: &Told, result: &mut Handled, took: Duration) {
        let (kind, wanted) = match &result.outcome {
            Outcome::Done(_) => (EventKind::MessageConsumed, self.hear_consumed),
            Outcome::Swallowed(_) => return,
            _ => (EventKind::MessageConsumptionFailed, self.hear_failed),
        };
        if !wanted {
            return;
        }
        let empty = Report::default();
        let (report, reason) = match &result.outcome {
            Outcome::Done(report) => (report, ""),
            Outcome::Retry(failure) | Outcome::Reject(failure) => (&failure.report, failure.reason.as_str()),
            Outcome::WorkerFault(reason) | Outcome::Pause(reason) | Outcome::Enough(reason) => {
                (&empty, reason.as_str())
            }
            Outcome::Cancelled | Outcome::Swallowed(_) => (&empty, "it was given back before it was done"),
        };
        let ended = events::Ended {
            settlement: word(&result.settlement),
            reason,
            exit_code: report.exit_code,
            signal: report.signal,
            took,
            output: &report.stdout,
        };
        let event = told.event(kind, &self.consumer, Some(ended));
        let reaction = self.tell(&event, &told.cancel).await;
        if reaction.cancelled {
            tracing::warn!(consumer = %self.consumer, id = told.message.id.as_deref().unwrap_or(""), event = kind.name(),
                "the consumer ends before its listeners have heard of it");
        }
        if let (Some(by), Settlement::Reject(_)) = (&reaction.moved, &result.settlement) {
            tracing::warn!(consumer = %self.consumer, id = told.message.id.as_deref().unwrap_or(""), listener = %by, %reason,
                "failed for good, and sent on by a listener instead of being dead-lettered");
            result.settlement = Settlement::Ack;
        }
        result.note(reaction);
    }
}

/// Has it handled, whatever the handler does.
async fn handled(handler: &dyn Handler, call: Call) -> Outcome {
    match AssertUnwindSafe(handler.handle(call)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Outcome::Retry(Failure::because(format!(
            "the handler panicked: {}",
            panic_text(&*panic)
        ))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// As listeners call it.
fn word(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Ack => "done",
        Settlement::Retry { .. } => "retry",
        Settlement::Reject(_) => "dead_letter",
        Settlement::Release { .. } => "release",
    }
}

/// What is kept of a call, which its handler takes, for those who hear of it afterwards.
struct Told {
    trusted: bool,
    message: Message,
    queue: String,
    exchange: String,
    attempt: u32,
    deliveries: Option<u32>,
    cancel: CancellationToken,
}

impl Told {
    fn of(call: &Call, trusted: bool) -> Self {
        Self {
            trusted,
            message: call.message.clone(),
            queue: call.queue.clone(),
            exchange: call.exchange.clone(),
            attempt: call.attempt,
            deliveries: call.deliveries,
            cancel: call.cancel.clone(),
        }
    }

    fn event<'a>(&'a self, kind: EventKind, consumer: &'a str, ended: Option<events::Ended<'a>>) -> Event<'a> {
        Event {
            kind,
            name: consumer,
            queue: &self.queue,
            exchange: &self.exchange,
            message: Some(&self.message),
            attempt: Some(self.attempt),
            deliveries: self.deliveries,
            ended,
            trusted: self.trusted,
            process: None,
        }
    }
}
