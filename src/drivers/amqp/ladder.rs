//! Holding messages back on a broker that cannot: a ladder of queues, one a rung, out of which a message falls when the
//! rung's time is over.
//!
//! A rung is a fanout exchange and a queue of the same name, `qctl.delay.MILLISECONDS`. The queue's own ttl dead-letters by
//! the default exchange with the message's own routing key, which is the name of the queue that it goes back to. So all
//! queues of a vhost share the rungs, and a rung is made when it is first needed. A ttl of the queue and not of the message,
//! because a queue expires from its head: a long wait in front would hold up the short ones behind it.
//!
//! Messages published with a delay to a named exchange have rungs of their own, `qctl.delay.MILLISECONDS.EXCHANGE`.
//!
//! A queue that refuses what comes while it is full also refuses what falls out of a rung, and the broker then drops it. Such
//! a queue has rungs of its own, `qctl.delay.MILLISECONDS@QUEUE`, and an exchange in front of one
//! `qctl.delay.MILLISECONDS:EXCHANGE`: quorum queues, which can dead-letter at least once. A message stays in the rung until
//! the queue has taken it; the broker tries again every three minutes. They cost more than the others, so that only queues
//! with a limit have them.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use crate::queue::{HeaderValue, Headers};

const PREFIX: &str = "qctl.delay.";

/// Ten rungs to each power of ten (Renard's series R10), so that a wait is at most a quarter longer than was asked for and
/// jitter has rungs to choose from.
const STEPS: [u64; 10] = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800];
/// Up to a day. What is to wait longer goes round again.
const LONGEST: u64 = 86_400_000;

/// A duration in milliseconds, as AMQP counts them.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The rung for a wait: the shortest that is not shorter, and whether the wait goes on after it.
pub(super) fn rung(wait: Duration) -> (u64, bool) {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    if wait > LONGEST {
        return (LONGEST, true);
    }
    let mut scale = 1;
    loop {
        if let Some(step) = STEPS.iter().map(|step| step * scale).find(|step| *step >= wait) {
            return (step.min(LONGEST), false);
        }
        scale *= 10;
    }
}

/// The rung for a delay that was asked for by name: as `rung`, with a step for each second digit, so that what people write (15 min,
/// 90 s, 8 h) is met, and everything else by a tenth at most.
pub(super) fn delay(wait: Duration) -> (u64, bool) {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    if wait > LONGEST {
        return (LONGEST, true);
    }
    let mut step = 1;
    while wait > 100 * step {
        step *= 10;
    }
    (wait.div_ceil(step).saturating_mul(step).clamp(10, LONGEST), false)
}

/// Where a message goes when it falls out of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing<'a> {
    /// To the queue that its routing key names.
    Queue,
    /// To this queue, which refuses what comes while it is full.
    LimitedQueue(&'a str),
    /// To this exchange.
    Exchange(&'a str),
    /// To this exchange, behind which a queue refuses what comes while it is full.
    LimitedExchange(&'a str),
}

/// A rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rung<'a> {
    pub(super) milliseconds: u64,
    pub(super) landing: Landing<'a>,
}

impl Rung<'_> {
    /// The name of its queue, and of the exchange in front of it.
    pub(super) fn name(&self) -> String {
        let (mark, landing) = match self.landing {
            Landing::Queue => ("", ""),
            Landing::LimitedQueue(queue) => ("@", queue),
            Landing::Exchange(exchange) => (".", exchange),
            Landing::LimitedExchange(exchange) => (":", exchange),
        };
        format!("{PREFIX}{}{mark}{landing}", self.milliseconds)
    }

    /// Whether it keeps what is refused where it falls.
    pub(super) fn keeps(&self) -> bool {
        matches!(self.landing, Landing::LimitedQueue(_) | Landing::LimitedExchange(_))
    }

    /// The rung for the same wait that does not keep what is refused, where the broker has no such queues.
    pub(super) fn without_keeping(mut self) -> Self {
        self.landing = match self.landing {
            Landing::LimitedQueue(_) => Landing::Queue,
            Landing::LimitedExchange(exchange) => Landing::Exchange(exchange),
            plain => plain,
        };
        self
    }

    /// What to declare its queue with.
    pub(super) fn arguments(&self) -> FieldTable {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        let wait = i64::try_from(self.milliseconds).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(wait));
        let exchange = match self.landing {
            Landing::Queue | Landing::LimitedQueue(_) => "",
            Landing::Exchange(exchange) | Landing::LimitedExchange(exchange) => exchange,
        };
        arguments.insert("x-dead-letter-exchange".into(), text(exchange));
        if self.keeps() {
            arguments.insert("x-queue-type".into(), text("quorum"));
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            // Without it the broker falls back to the strategy that drops.
            arguments.insert("x-overflow".into(), text("reject-publish"));
        }
        arguments
    }
}

/// Whether a queue is one of the rungs.
pub(super) fn is_rung(queue: &str) -> bool {
    queue
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether a message has been on the ladder and nowhere else where the broker leaves its mark.
pub(super) fn went_through(headers: &Headers) -> bool {
    headers
        .get("x-first-death-queue")
        .and_then(HeaderValue::as_text)
        .is_some_and(is_rung)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Landing, Rung, is_rung, rung};

    #[test]
    fn a_wait_is_never_shorter_and_at_most_a_quarter_longer() {
        for asked in [
            0, 1, 100, 101, 250, 999, 1000, 1001, 60_000, 61_000, 86_399_999, 86_400_000,
        ] {
            let (rung, again) = rung(Duration::from_millis(asked));
            assert!(rung >= asked && !again, "{asked}: {rung}");
            assert!(
                rung <= (asked.max(100) * 127 / 100).min(86_400_000).max(asked),
                "{asked}: {rung}"
            );
        }
        assert_eq!(
            rung(Duration::from_millis(400)),
            (400, false),
            "a round wait has a rung of its own"
        );
        assert_eq!(rung(Duration::from_hours(48)), (86_400_000, true));
        assert_eq!(rung(Duration::MAX), (86_400_000, true));
    }

    #[test]
    fn rungs_are_known_by_their_names() {
        let name = |landing| {
            let rung = Rung {
                milliseconds: 100,
                landing,
            };
            rung.name()
        };
        for (landing, expected) in [
            (Landing::Queue, "qctl.delay.100"),
            (Landing::Exchange("mail"), "qctl.delay.100.mail"),
            (Landing::LimitedQueue("mail"), "qctl.delay.100@mail"),
            (Landing::LimitedExchange("mail"), "qctl.delay.100:mail"),
        ] {
            assert_eq!(name(landing), expected);
            assert!(is_rung(expected));
        }
        assert!(!is_rung("qctl.delay.mail") && !is_rung("mail"));
    }
}
