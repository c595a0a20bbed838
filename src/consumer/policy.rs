//! What becomes of a delivery: one pure function of outcome, counts and settings.

use std::time::Duration;

use super::handler::{Failure, Outcome};
use crate::queue::message::header;
use crate::queue::{DeadLetter, Headers, Settlement};

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backoff {
    /// Twice as long each time.
    #[default]
    Exponential,
    /// As much longer each time.
    Linear,
    /// Always the same.
    Fixed,
}

/// The limits and waits of a consumer's retries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// So many attempts in all, then the message is dead-lettered.
    pub attempts: u32,
    /// A death by a signal is the last attempt from this one on: what is killed thrice is rarely cured by a fourth time.
    pub signals: u32,
    /// Handed out more often than this (its consumer died under it), it is dead-lettered unhandled; 0: no limit.
    pub deliveries: u32,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Each wait is shortened by up to this share of it, at random, so that what failed together does not return together.
    pub jitter: f64,
    /// What is given up stays in the queue and is tried again after the longest wait: for queues that hold dead letters,
    /// behind which there is no other.
    pub keep: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            signals: 3,
            deliveries: 10,
            backoff: Backoff::Exponential,
            min: Duration::from_secs(1),
            max: Duration::from_mins(10),
            jitter: 0.2,
            keep: false,
        }
    }
}

/// The shortest wait of a message that is kept after all its attempts.
const KEPT_AT_LEAST: Duration = Duration::from_secs(1);

impl RetryPolicy {
    /// The wait after `failed` attempts have failed (1 or more); `random` is between 0 and 1.
    pub fn wait(&self, failed: u32, random: f64) -> Duration {
        let steps = failed.saturating_sub(1);
        let wait = match self.backoff {
            Backoff::Fixed => self.min,
            Backoff::Linear => self.min.saturating_mul(steps.saturating_add(1)),
            Backoff::Exponential => self.min.saturating_mul(1_u32.checked_shl(steps).unwrap_or(u32::MAX)),
        };
        let wait = wait.min(self.max);
        wait.mul_f64(1.0 - (self.jitter * random).clamp(0.0, 1.0))
    }

    fn give_up(&self, dead_letter: DeadLetter) -> Settlement {
        if self.keep {
            // However short the waits are set, what is never given up must not spin.
            Settlement::Retry {
                after: self.max.max(KEPT_AT_LEAST),
            }
        } else {
            Settlement::Reject(dead_letter)
        }
    }
}

/// What the counts say about a delivery.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Failed attempts before this one.
    pub attempt: u32,
    /// How often it was handed out, this time included, where that is known.
    pub deliveries: Option<u32>,
    /// The sender allows this many attempts.
    pub allowed: Option<u32>,
}

/// Decides, before the handler is called, whether a delivery is given up because it kills its consumers.
pub fn decide_before(counts: Counts, policy: &RetryPolicy) -> Option<Settlement> {
    let deliveries = counts.deliveries?;
    (policy.deliveries > 0 && deliveries > policy.deliveries).then(|| {
        policy.give_up(DeadLetter {
            reason: format!("handed out {deliveries} times and never settled: it may kill its consumer"),
            ..DeadLetter::default()
        })
    })
}

/// Decides what becomes of a delivery.
pub fn decide(outcome: &Outcome, counts: Counts, policy: &RetryPolicy, random: f64) -> Settlement {
    match outcome {
        Outcome::Done(_) | Outcome::Swallowed(_) => Settlement::Ack,
        Outcome::Reject(failure) => policy.give_up(dead_letter(failure, &failure.reason, counts)),
        Outcome::Retry(failure) => {
            let failed = counts.attempt.saturating_add(1);
            let allowed = policy.attempts.min(counts.allowed.unwrap_or(u32::MAX)).max(1);
            if failed >= allowed {
                let reason = format!("{} (attempt {failed} of {allowed})", failure.reason);
                return policy.give_up(dead_letter(failure, &reason, counts));
            }
            if failure.by_signal && failed >= policy.signals.max(1) {
                let reason = format!(
                    "{} (attempt {failed}, and signals are tried {} times)",
                    failure.reason, policy.signals
                );
                return policy.give_up(dead_letter(failure, &reason, counts));
            }
            let wait = policy.wait(failed, random);
            Settlement::Retry {
                after: failure.retry_after.map_or(wait, |asked| asked.max(wait)),
            }
        }
        Outcome::WorkerFault(_) | Outcome::Enough(_) | Outcome::Pause(_) | Outcome::Cancelled => {
            Settlement::Release { uncounted: true }
        }
    }
}

fn dead_letter(failure: &Failure, reason: &str, counts: Counts) -> DeadLetter {
    let mut headers = Headers::new();
    // Whoever looks at the dead letter is told of the last attempt too.
    let failed = i64::from(counts.attempt) + 1;
    headers.insert(header::ATTEMPT.to_owned(), failed.into());
    if let Some(code) = failure.report.exit_code {
        headers.insert(header::EXIT_CODE.to_owned(), i64::from(code).into());
    }
    if let Some(signal) = failure.report.signal {
        headers.insert(header::SIGNAL.to_owned(), i64::from(signal).into());
    }
    if !failure.report.stderr_tail.is_empty() {
        headers.insert(header::STDERR.to_owned(), failure.report.stderr_tail.as_str().into());
    }
    DeadLetter {
        reason: reason.to_owned(),
        headers,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, Counts, RetryPolicy, decide, decide_before, header};
    use crate::consumer::handler::{Failure, Outcome, Report};
    use crate::queue::Settlement;

    fn failing(by_signal: bool) -> Outcome {
        Outcome::Retry(Failure {
            reason: "exit code 1".to_owned(),
            by_signal,
            ..Failure::default()
        })
    }

    fn attempt(attempt: u32) -> Counts {
        Counts {
            attempt,
            ..Counts::default()
        }
    }

    #[test]
    fn what_is_kept_never_spins() {
        let policy = RetryPolicy {
            keep: true,
            attempts: 1,
            min: Duration::ZERO,
            max: Duration::ZERO,
            ..RetryPolicy::default()
        };
        let after = Duration::from_secs(1);
        assert_eq!(
            decide(&failing(false), attempt(0), &policy, 0.0),
            Settlement::Retry { after }
        );
    }

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_only_shortens() {
        let policy = RetryPolicy {
            max: Duration::from_secs(5),
            ..RetryPolicy::default()
        };
        let waits: Vec<u64> = (1..6).map(|failed| policy.wait(failed, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(policy.wait(1, 1.0), Duration::from_millis(800));
        assert_eq!(policy.wait(u32::MAX, 0.0), Duration::from_secs(5), "no overflow");
        let linear = RetryPolicy {
            backoff: Backoff::Linear,
            ..policy
        };
        assert_eq!(linear.wait(3, 0.0), Duration::from_secs(3));
    }

    #[test]
    fn the_last_attempt_is_dead_lettered_with_its_reason() {
        let policy = RetryPolicy::default();
        assert!(matches!(
            decide(&failing(false), attempt(3), &policy, 0.0),
            Settlement::Retry { .. }
        ));
        let Settlement::Reject(dead) = decide(&failing(false), attempt(4), &policy, 0.0) else {
            panic!("not rejected")
        };
        assert_eq!(dead.reason, "exit code 1 (attempt 5 of 5)");
        assert_eq!(dead.headers.get(header::ATTEMPT), Some(&5_i64.into()));
    }

    #[test]
    fn signals_have_their_own_smaller_limit() {
        let policy = RetryPolicy::default();
        assert!(matches!(
            decide(&failing(true), attempt(1), &policy, 0.0),
            Settlement::Retry { .. }
        ));
        assert!(matches!(
            decide(&failing(true), attempt(2), &policy, 0.0),
            Settlement::Reject(_)
        ));
        assert!(matches!(
            decide(&failing(false), attempt(2), &policy, 0.0),
            Settlement::Retry { .. }
        ));
    }

    #[test]
    fn the_sender_can_allow_fewer_attempts_but_not_more() {
        let policy = RetryPolicy::default();
        let one = Counts {
            allowed: Some(1),
            ..Counts::default()
        };
        assert!(matches!(
            decide(&failing(false), one, &policy, 0.0),
            Settlement::Reject(_)
        ));
        let many = Counts {
            allowed: Some(99),
            ..attempt(4)
        };
        assert!(matches!(
            decide(&failing(false), many, &policy, 0.0),
            Settlement::Reject(_)
        ));
    }

    #[test]
    fn what_was_never_begun_or_was_stopped_is_given_back_untouched() {
        let policy = RetryPolicy::default();
        for outcome in [
            Outcome::Cancelled,
            Outcome::Pause(String::new()),
            Outcome::WorkerFault(String::new()),
            Outcome::Enough(String::new()),
        ] {
            assert_eq!(
                decide(&outcome, attempt(4), &policy, 0.0),
                Settlement::Release { uncounted: true }
            );
        }
        assert_eq!(
            decide(&Outcome::Done(Report::default()), attempt(4), &policy, 0.0),
            Settlement::Ack
        );
    }

    #[test]
    fn a_message_handed_out_too_often_is_given_up_unhandled() {
        let policy = RetryPolicy::default();
        let counts = |deliveries| Counts {
            deliveries: Some(deliveries),
            ..Counts::default()
        };
        assert_eq!(decide_before(counts(10), &policy), None);
        assert!(matches!(
            decide_before(counts(11), &policy),
            Some(Settlement::Reject(_))
        ));
        let unlimited = RetryPolicy {
            deliveries: 0,
            ..RetryPolicy::default()
        };
        assert_eq!(decide_before(counts(99), &unlimited), None);
    }

    #[test]
    fn a_queue_of_dead_letters_keeps_what_it_cannot_do() {
        let policy = RetryPolicy {
            keep: true,
            attempts: 2,
            ..RetryPolicy::default()
        };
        let kept = Settlement::Retry { after: policy.max };
        let rejected = Outcome::Reject(Failure::default());
        assert_eq!(decide(&rejected, attempt(0), &policy, 1.0), kept);
        assert_eq!(decide(&failing(false), attempt(7), &policy, 1.0), kept);
        assert_eq!(
            decide(&failing(false), attempt(0), &policy, 0.0),
            Settlement::Retry {
                after: Duration::from_secs(1)
            }
        );
        let counts = Counts {
            deliveries: Some(11),
            ..Counts::default()
        };
        assert_eq!(decide_before(counts, &policy), Some(kept));
    }
}
