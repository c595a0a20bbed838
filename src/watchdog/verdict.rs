//! What is done when a worker has ended: a pure decision.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A run shorter than this was no run, however it ended.
const SHORT: Duration = Duration::from_secs(5);
/// A parked worker is tried again after this time, even if nothing has changed.
pub(super) const PARKED: Duration = Duration::from_mins(5);
/// After a run of this length earlier failures are forgotten.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// The exit codes that only a change can mend: not supported (64) and configuration (78).
const PERMANENT: [i32; 2] = [64, 78];
/// Each wait is shortened by up to this share of it, so that what failed together does not come back together.
const JITTER: f64 = 0.2;

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was ended because its heart did not beat.
    Hung,
    /// It could not be started.
    NotStarted,
    /// Nobody saw it: its keeper was killed.
    Unseen,
}

/// How long to wait after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// After the first.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_mins(1),
        }
    }
}

impl Backoff {
    /// The wait after so many failures in a row; `chance` is between 0 and 1.
    fn after(self, failures: u32, chance: f64) -> Duration {
        let doubled = self
            .min
            .saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.max).max(self.min).mul_f64(1.0 - JITTER * chance)
    }
}

/// When the worker is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    AtOnce,
    /// After this time.
    After(Duration),
    /// When something has changed, or after [`PARKED`].
    Parked,
}

/// What is done after an end. `failures` is how many came before it in a row; the answer holds the new count.
pub(super) fn next(
    end: End,
    ran: Duration,
    failures: u32,
    expected: &[i32],
    backoff: Backoff,
    chance: f64,
) -> (Next, u32) {
    if let End::Exit(code) = end
        && expected.contains(&code)
        && ran >= SHORT
    {
        return (Next::AtOnce, 0);
    }
    let failures = if ran >= FORGOTTEN {
        1
    } else {
        failures.saturating_add(1)
    };
    match end {
        End::Exit(code) if PERMANENT.contains(&code) => (Next::Parked, failures),
        _ => (Next::After(backoff.after(failures, chance)), failures),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn after(end: End, ran: Duration, failures: u32) -> (Next, u32) {
        next(end, ran, failures, &[0], Backoff::default(), 0.0)
    }

    #[test]
    fn a_limit_of_its_own_is_no_failure() {
        assert_eq!(after(End::Exit(0), SHORT, 7), (Next::AtOnce, 0));
        // A worker that has nothing to do must not spin.
        assert_eq!(
            after(End::Exit(0), SHORT.saturating_sub(Duration::from_millis(1)), 0),
            (Next::After(Duration::from_secs(1)), 1)
        );
        assert_eq!(
            next(End::Exit(12), LONG, 0, &[0, 12], Backoff::default(), 0.0),
            (Next::AtOnce, 0)
        );
        assert_eq!(after(End::Exit(12), LONG, 0), (Next::After(Duration::from_secs(1)), 1));
    }

    #[test]
    fn only_what_a_change_must_mend_is_parked() {
        for code in 0..=255 {
            let (next, _) = after(End::Exit(code), LONG, 0);
            assert_eq!(next == Next::Parked, code == 64 || code == 78, "{code}");
        }
        for end in [End::Signal(9), End::Hung, End::NotStarted, End::Unseen] {
            assert_eq!(after(end, LONG, 0), (Next::After(Duration::from_secs(1)), 1));
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_a_long_run_forgets() {
        let waits: Vec<u64> = (0..9)
            .map(|failures| match after(End::Exit(1), Duration::ZERO, failures) {
                (Next::After(wait), _) => wait.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(after(End::Exit(1), FORGOTTEN, 9).1, 1);
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds(failures in 0..u32::MAX, chance in 0.0..=1.0_f64, min in 1..10_000_u64, more in 0..1_000_000_u64) {
            let backoff = Backoff { min: Duration::from_millis(min), max: Duration::from_millis(min + more) };
            let (next, count) = next(End::Exit(1), Duration::ZERO, failures, &[0], backoff, chance);
            prop_assert_eq!(count, failures.saturating_add(1));
            let Next::After(wait) = next else { panic!("{next:?}") };
            prop_assert!(wait >= backoff.min.mul_f64(0.79) && wait <= backoff.max);
        }
    }
}
