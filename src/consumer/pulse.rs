//! A consumer's signs of life: the loop gives them, and whoever watches it takes them. They come from the loop itself and not
//! from the broker, so that an idle consumer, or one whose broker is away, is told from one that hangs.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{self, Duration, SystemTime};

use tokio::time::Instant;

/// While it is watched, the loop gives a sign at least this often.
const EVERY: Duration = Duration::from_secs(1);

/// What a consumer has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Signs given.
    pub count: u64,
    /// Messages settled as done.
    pub done: u64,
    /// Messages settled in any other way.
    pub failed: u64,
    /// The message settled last, and when.
    pub last: Option<(String, SystemTime)>,
}

/// Takes the signs of one consumer; all copies are the same one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    watched: AtomicBool,
    count: AtomicU64,
    /// Since when it is watched.
    since: OnceLock<time::Instant>,
    /// The last sign, in milliseconds after that.
    last: AtomicU64,
    settled: Mutex<Signs>,
}

impl Pulse {
    /// From now on somebody watches.
    pub fn watch(&self) {
        self.0.since.get_or_init(time::Instant::now);
        self.0.watched.store(true, Ordering::Relaxed);
    }

    /// How long there was no sign; `None`: nobody watches.
    pub fn silent_for(&self) -> Option<Duration> {
        let watched_for = self.0.since.get()?.elapsed();
        Some(watched_for.saturating_sub(Duration::from_millis(self.0.last.load(Ordering::Relaxed))))
    }

    /// The signs given so far.
    pub fn signs(&self) -> Signs {
        Signs {
            count: self.0.count.load(Ordering::Relaxed),
            ..self.0.settled.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    fn is_watched(&self) -> bool {
        self.0.watched.load(Ordering::Relaxed)
    }

    /// The loop is alive.
    pub(super) fn sign(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        if let Some(since) = self.0.since.get() {
            self.0.last.store(since.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// When the next sign is due, if anyone watches.
    pub(super) fn next(&self) -> Option<Instant> {
        self.is_watched().then(|| Instant::now() + EVERY)
    }

    /// A message was settled.
    pub(super) fn settled(&self, id: &str, is_done: bool) {
        if !self.is_watched() {
            return;
        }
        let mut signs = self.0.settled.lock().unwrap_or_else(PoisonError::into_inner);
        *if is_done { &mut signs.done } else { &mut signs.failed } += 1;
        signs.last = Some((id.to_owned(), SystemTime::now()));
    }

    /// Waits for what the broker takes its time over; that is no hanging of the loop.
    pub(super) async fn during<T>(&self, waiting: impl Future<Output = T>) -> T {
        if !self.is_watched() {
            return waiting.await;
        }
        let mut waiting = pin!(waiting);
        loop {
            self.sign();
            if let Ok(done) = tokio::time::timeout(EVERY, &mut waiting).await {
                return done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pulse;

    #[test]
    fn silence_is_counted_from_the_last_sign() {
        let pulse = Pulse::default();
        assert_eq!(pulse.silent_for(), None, "nobody watches");
        pulse.watch();
        std::thread::sleep(Duration::from_millis(20));
        let silence = pulse.silent_for();
        assert!(
            silence.is_some_and(|silence| silence >= Duration::from_millis(20)),
            "{silence:?}"
        );
        pulse.sign();
        assert!(pulse.silent_for() < silence);
    }
}
