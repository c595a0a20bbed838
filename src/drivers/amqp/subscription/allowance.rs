//! How many suspects may hold everybody up. Pure.
//!
//! A classic queue that comes back from its broker's death tells of every message that it was handed out before. Handled
//! alone, one after the other, a backlog would take for ever. So only some of those that have seen one death are, the first
//! of them and then one a second. The rest is handled beside others, and who dies a second time under them is told by that.

use std::time::{Duration, Instant};

/// So many at once: more than a consumer of a few slots can have died under.
const AT_ONCE: u32 = 20;
/// How long it takes until one more may be.
const ONE_MORE: Duration = Duration::from_secs(1);

/// How many more suspects of one death may be handled alone.
pub(super) struct Allowance {
    left: u32,
    /// What is left was true then.
    as_of: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            as_of: now,
        }
    }

    /// Whether there is none at this moment.
    pub(super) fn is_used_up(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.as_of).as_secs() / ONE_MORE.as_secs();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.as_of = now;
        }
        self.left == 0
    }

    /// One is handled alone.
    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{AT_ONCE, Allowance};

    #[test]
    fn some_at_once_and_then_one_a_second() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        for _ in 0..AT_ONCE {
            assert!(!allowance.is_used_up(begin));
            allowance.take();
        }
        assert!(allowance.is_used_up(begin));
        let half = begin + Duration::from_millis(500);
        assert!(allowance.is_used_up(half), "looking does not begin the second anew");
        let later = begin + Duration::from_millis(1100);
        assert!(!allowance.is_used_up(later));
        allowance.take();
        assert!(allowance.is_used_up(later));
        let hour = later + Duration::from_hours(1);
        assert!(!allowance.is_used_up(hour));
        for _ in 0..AT_ONCE {
            allowance.take();
        }
        assert!(allowance.is_used_up(hour), "no more than so many at once");
    }
}
