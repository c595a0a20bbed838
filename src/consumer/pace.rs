//! Taking ahead: while the handler is quick, messages are begun beyond the slots and settled several at once, so that no slot
//! waits for the broker between two of them.

use std::time::Duration;

/// A handler that takes less than this on average is quick.
const QUICK: Duration = Duration::from_millis(20);
/// So many messages are taken ahead for each slot of a quick handler,
const AHEAD_A_SLOT: usize = 8;
/// and none of them waits longer than this to be begun.
pub(super) const AHEAD_AT_MOST: Duration = Duration::from_millis(50);
/// The settlements of a quick handler are sent together, but none waits longer than this.
pub(super) const SETTLE_WITHIN: Duration = Duration::from_millis(5);

/// How quick the handler is, and how much is worth taking ahead.
pub(super) struct Pace {
    /// The number of deliveries is not ours to change.
    fixed: bool,
    /// A moving average of what the last calls took, in seconds.
    average: f64,
    /// So many messages are begun beyond the slots.
    pub(super) ahead: usize,
}

impl Pace {
    pub(super) fn new(fixed: bool) -> Self {
        Self {
            fixed,
            average: 2.0 * QUICK.as_secs_f64(),
            ahead: 0,
        }
    }

    pub(super) fn fixed(&self) -> bool {
        self.fixed
    }

    /// A call took so long, its wait for one of the slots included.
    pub(super) fn took(&mut self, took: Duration, slots: usize) {
        let share = slots as f64 / (slots + self.ahead) as f64;
        self.average = 0.8 * self.average + 0.2 * took.as_secs_f64() * share;
    }

    pub(super) fn slow_down(&mut self) {
        self.average = self.average.max(10.0 * QUICK.as_secs_f64());
    }

    /// The new number to take ahead, if it is another one.
    pub(super) fn changed(&mut self, slots: usize) -> Option<usize> {
        let quick = self.average < QUICK.as_secs_f64();
        if self.fixed || quick == (self.ahead > 0) {
            return None;
        }
        self.ahead = if quick { AHEAD_A_SLOT * slots } else { 0 };
        Some(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pace;

    #[test]
    fn only_a_quick_handler_is_given_messages_ahead() {
        let mut pace = Pace::new(false);
        assert_eq!(pace.changed(2), None, "nothing is known yet");
        for _ in 0..20 {
            pace.took(Duration::from_millis(1), 2);
        }
        assert_eq!(pace.changed(2), Some(16));
        assert_eq!(pace.changed(2), None, "told once");
        for _ in 0..20 {
            pace.took(Duration::from_millis(9), 2);
        }
        assert_eq!(
            pace.changed(2),
            None,
            "the wait for a slot does not count: nine in a row took nine milliseconds"
        );
        pace.slow_down();
        assert_eq!(pace.changed(2), Some(0));
    }

    #[test]
    fn a_fixed_number_stays() {
        let mut pace = Pace::new(true);
        for _ in 0..20 {
            pace.took(Duration::ZERO, 1);
        }
        assert_eq!(pace.changed(1), None);
    }
}
