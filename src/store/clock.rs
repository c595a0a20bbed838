//! The store's clock: milliseconds that only go forward, whatever happens to the wall clock.
//!
//! Within one boot it is `CLOCK_BOOTTIME` plus an offset that the first process of the boot writes into the store, so that
//! all processes agree. A wall clock set back an hour neither delays a retry nor brings an expired message back.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Maps boot time to store time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: i64,
}

impl Clock {
    /// The clock of a boot whose offset is known.
    pub(crate) fn with_offset(offset: i64) -> Self {
        Self { offset }
    }

    /// The clock for a boot that no process has written an offset for: it starts at the wall clock, but never before
    /// `last`, the latest time the store has seen.
    pub(crate) fn begin(last: i64) -> Self {
        Self {
            offset: wall_now().max(last) - boot_now(),
        }
    }

    pub(crate) fn offset(self) -> i64 {
        self.offset
    }

    /// Now, in store time.
    pub(crate) fn now(self) -> i64 {
        boot_now() + self.offset
    }

    /// A store time as wall time, for people.
    pub(crate) fn to_wall(self, time: i64) -> i64 {
        time - self.now() + wall_now()
    }

    /// A wall time (as people give it) as store time.
    pub(crate) fn at_wall(self, time: i64) -> i64 {
        time - wall_now() + self.now()
    }
}

/// Milliseconds since the machine started, sleep included.
fn boot_now() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn wall_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Names this boot of this machine.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}
