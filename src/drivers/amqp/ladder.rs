//! Holding messages back on a broker that cannot: a ladder of queues, one a rung, out of which a message falls when the
//! rung's time is over.
//!
//! A rung is a fanout exchange and a queue of the same name, `qctl.delay.MILLISECONDS`. The queue's own ttl dead-letters by
//! the default exchange with the message's own routing key, which is the name of the queue that it goes back to. So all
//! queues of a vhost share the rungs, and a rung is made when it is first needed. A ttl of the queue and not of the message,
//! because a queue expires from its head: a long wait in front would hold up the short ones behind it.
//!
//! Messages published with a delay to a named exchange have rungs of their own, `qctl.delay.MILLISECONDS.EXCHANGE`.

use std::time::Duration;

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

/// The name of a rung for messages that go to `exchange` when they fall out of it.
pub(super) fn name(rung: u64, exchange: &str) -> String {
    if exchange.is_empty() {
        format!("{PREFIX}{rung}")
    } else {
        format!("{PREFIX}{rung}.{exchange}")
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

    use super::{is_rung, name, rung};

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
        assert!(is_rung(&name(100, "")) && is_rung(&name(100, "mail")));
        assert!(!is_rung("qctl.delay.mail") && !is_rung("mail"));
    }
}
