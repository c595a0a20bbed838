//! What this process had in hand when it lost a connection. Whoever remembers that is alive, so none of it has killed its consumer:
//! when it comes back it is no suspect. A process that died remembers nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The broker hands out again within moments; later somebody else has had it in hand.
const REMEMBERED_FOR: Duration = Duration::from_mins(10);

/// The messages, by queue and id.
#[derive(Default)]
pub(super) struct Survivors {
    known: Mutex<BTreeMap<(String, String), Instant>>,
}

impl Survivors {
    /// These were in hand.
    pub(super) fn remember<'a>(&self, queue: &str, ids: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, since| now.saturating_duration_since(*since) < REMEMBERED_FOR);
        known.extend(ids.map(|id| ((queue.to_owned(), id.to_owned()), now)));
    }

    /// Whether this one was. It is asked once: if its consumer dies next time, that counts.
    pub(super) fn recall(&self, queue: &str, id: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.remove(&(queue.to_owned(), id.to_owned()));
        since.is_some_and(|since| since.elapsed() < REMEMBERED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::Survivors;

    #[test]
    fn each_is_recalled_once() {
        let survivors = Survivors::default();
        survivors.remember("q", ["a", "b"].into_iter());
        assert!(!survivors.recall("other", "a"));
        assert!(survivors.recall("q", "a"));
        assert!(!survivors.recall("q", "a"));
        assert!(survivors.recall("q", "b"));
    }
}
