//! Taking ahead: while the handler is quick, messages are begun beyond the slots and settled several at once, so that no slot
//! waits for the broker between two of them.

use std::time::Duration;

/// A handler that takes less than this on average is quick.
const QUICK: Duration = Duration::from_millis(20);
/// So much work is taken ahead for each slot of a quick handler: enough that none waits for the store, and no more, for it
/// counts as begun.
const WORK_AHEAD: Duration = Duration::from_millis(12);
/// The most messages taken ahead for each slot, however quick the handler.
const AHEAD_A_SLOT: usize = 16;
/// None that was taken ahead waits longer than this to be begun.
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
        let a_slot = (WORK_AHEAD.as_secs_f64() / self.average).round() as usize;
        let wanted = if quick {
            a_slot.clamp(1, AHEAD_A_SLOT) * slots
        } else {
            0
        };
        let much_the_same = wanted < 2 * self.ahead && 2 * wanted > self.ahead;
        if self.fixed || wanted == self.ahead || much_the_same {
            return None;
        }
        self.ahead = wanted;
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
        for _ in 0..80 {
            pace.took(Duration::from_millis(1), 2);
        }
        assert_eq!(pace.changed(2), Some(24), "12 ms of work for each slot");
        assert_eq!(pace.changed(2), None, "told once");
        for _ in 0..80 {
            // Thirteen in a row took thirteen milliseconds: the wait for a slot does not count.
            pace.took(Duration::from_millis(13), 2);
        }
        assert_eq!(pace.changed(2), None);
        for _ in 0..80 {
            pace.took(Duration::from_millis(13 * 3), 2);
        }
        assert_eq!(pace.changed(2), Some(8), "slower, so fewer");
        for _ in 0..80 {
            pace.took(Duration::ZERO, 2);
        }
        assert_eq!(pace.changed(2), Some(32), "but never more than this");
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
