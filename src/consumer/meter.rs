//! What a consumer has done, counted for whoever looks from outside. Counting is a few atomic additions a message where
//! somebody looks, and nothing where nobody does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::queue::Settlement;

/// The upper bounds of the classes of handling times, in milliseconds; the last class has none.
const BOUNDS: [u64; 16] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000,
];

/// Counts what one consumer does; all copies count together. The default counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Meter(Option<Arc<Counters>>);

#[derive(Debug)]
struct Counters {
    state: watch::Sender<State>,
    begun: AtomicU64,
    done: AtomicU64,
    retried: AtomicU64,
    dead_lettered: AtomicU64,
    released: AtomicU64,
    unsettled: AtomicU64,
    swallowed: AtomicU64,
    unheard: AtomicU64,
    in_flight: AtomicU64,
    reconnects: AtomicU64,
    /// In milliseconds since 1970; 0: none yet.
    last_settled: AtomicU64,
    took: [AtomicU64; BOUNDS.len() + 1],
    took_in_all: AtomicU64,
}

/// Where a consumer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not connected yet.
    #[default]
    Starting,
    /// It is connected and takes messages.
    Consuming,
    /// There is no connection; why.
    Away(String),
    /// It takes nothing new and finishes what runs.
    Stopping,
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Where it stands.
    pub state: State,
    /// Messages given to the handler.
    pub begun: u64,
    /// Messages settled as done.
    pub done: u64,
    /// Messages to be tried again.
    pub retried: u64,
    /// Messages given up.
    pub dead_lettered: u64,
    /// Messages given back untouched.
    pub released: u64,
    /// Messages whose settlement was lost: they come back by themselves.
    pub unsettled: u64,
    /// Messages that a listener would not have handled.
    pub swallowed: u64,
    /// Events that a listener did not hear, and was not told again.
    pub unheard: u64,
    /// Messages with the handler now.
    pub in_flight: u64,
    /// Connections made after one was lost.
    pub reconnects: u64,
    /// When a message was settled last.
    pub last_settled: Option<SystemTime>,
    /// How many messages took how long: an upper bound each, `None` for the rest.
    pub took: Vec<(Option<Duration>, u64)>,
    /// How long all of them took together.
    pub took_in_all: Duration,
}

impl Meter {
    /// One that counts.
    pub fn counting() -> Self {
        Self(Some(Arc::new(Counters {
            state: watch::Sender::new(State::Starting),
            begun: AtomicU64::default(),
            done: AtomicU64::default(),
            retried: AtomicU64::default(),
            dead_lettered: AtomicU64::default(),
            released: AtomicU64::default(),
            unsettled: AtomicU64::default(),
            swallowed: AtomicU64::default(),
            unheard: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            reconnects: AtomicU64::default(),
            last_settled: AtomicU64::default(),
            took: std::array::from_fn(|_| AtomicU64::default()),
            took_in_all: AtomicU64::default(),
        })))
    }

    /// What was counted so far.
    pub fn reading(&self) -> Reading {
        let Some(counters) = &self.0 else {
            return Reading::default();
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bounds = BOUNDS
            .iter()
            .map(|bound| Some(Duration::from_millis(*bound)))
            .chain([None]);
        Reading {
            state: counters.state.borrow().clone(),
            begun: read(&counters.begun),
            done: read(&counters.done),
            retried: read(&counters.retried),
            dead_lettered: read(&counters.dead_lettered),
            released: read(&counters.released),
            unsettled: read(&counters.unsettled),
            swallowed: read(&counters.swallowed),
            unheard: read(&counters.unheard),
            in_flight: read(&counters.in_flight),
            reconnects: read(&counters.reconnects),
            last_settled: Some(read(&counters.last_settled))
                .filter(|at| *at > 0)
                .map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at)),
            took: bounds.zip(counters.took.iter().map(read)).collect(),
            took_in_all: Duration::from_micros(read(&counters.took_in_all)),
        }
    }

    /// Tells of each change of the state; `None` where nothing is counted.
    pub fn states(&self) -> Option<watch::Receiver<State>> {
        self.0.as_ref().map(|counters| counters.state.subscribe())
    }

    pub(super) fn set_state(&self, state: State) {
        if let Some(counters) = &self.0 {
            counters.state.send_if_modified(|current| {
                let is_news = *current != state;
                *current = state;
                is_news
            });
        }
    }

    pub(super) fn reconnected(&self) {
        if let Some(counters) = &self.0 {
            counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message is given to the handler.
    pub(super) fn begun(&self) {
        if let Some(counters) = &self.0 {
            counters.begun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A listener has swallowed a message, and it is removed.
    pub(super) fn swallowed(&self) {
        if let Some(counters) = &self.0 {
            counters.swallowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Listeners were skipped for an event.
    pub(super) fn unheard(&self, count: u64) {
        if let Some(counters) = &self.0
            && count > 0
        {
            counters.unheard.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// So many messages are with the handler.
    pub(super) fn in_flight(&self, count: usize) {
        if let Some(counters) = &self.0 {
            counters.in_flight.store(count as u64, Ordering::Relaxed);
        }
    }

    /// The handler took so long to come to a verdict.
    pub(super) fn took(&self, time: Duration) {
        let Some(counters) = &self.0 else { return };
        let class = class_of(time);
        counters.took[class].fetch_add(1, Ordering::Relaxed);
        counters
            .took_in_all
            .fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// A message was settled; `None`: its settlement was lost.
    pub(super) fn settled(&self, settlement: Option<&Settlement>) {
        let Some(counters) = &self.0 else { return };
        let counter = match settlement {
            None => &counters.unsettled,
            Some(Settlement::Ack) => &counters.done,
            Some(Settlement::Retry { .. }) => &counters.retried,
            Some(Settlement::Reject(_)) => &counters.dead_lettered,
            Some(Settlement::Release { .. }) => &counters.released,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if matches!(
            settlement,
            Some(Settlement::Ack | Settlement::Retry { .. } | Settlement::Reject(_))
        ) && let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)
        {
            counters.last_settled.store(now.as_millis() as u64, Ordering::Relaxed);
        }
    }
}

fn class_of(time: Duration) -> usize {
    BOUNDS
        .iter()
        .position(|bound| time <= Duration::from_millis(*bound))
        .unwrap_or(BOUNDS.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{BOUNDS, Meter, Reading, State, class_of};
    use crate::queue::Settlement;

    #[test]
    fn what_happens_is_counted() {
        let meter = Meter::counting();
        let mut states = meter.states().unwrap();
        meter.begun();
        meter.in_flight(3);
        meter.took(Duration::from_millis(3));
        meter.settled(Some(&Settlement::Ack));
        meter.settled(Some(&Settlement::Release { uncounted: true }));
        meter.settled(None);
        meter.set_state(State::Consuming);
        assert!(states.has_changed().unwrap());
        states.mark_unchanged();
        meter.set_state(State::Consuming);
        assert!(!states.has_changed().unwrap(), "what stays is no news");
        let reading = meter.reading();
        assert_eq!(
            (
                reading.begun,
                reading.in_flight,
                reading.done,
                reading.released,
                reading.unsettled
            ),
            (1, 3, 1, 1, 1)
        );
        assert_eq!(reading.took[2], (Some(Duration::from_millis(5)), 1));
        assert_eq!(reading.took_in_all, Duration::from_millis(3));
        assert!(reading.last_settled.is_some());
    }

    #[test]
    fn one_that_does_not_count_is_silent() {
        let meter = Meter::default();
        meter.begun();
        meter.set_state(State::Consuming);
        assert_eq!(meter.reading(), Reading::default());
        assert!(meter.states().is_none());
    }

    #[test]
    fn every_time_has_its_class() {
        assert_eq!(class_of(Duration::ZERO), 0);
        assert_eq!(class_of(Duration::from_millis(1)), 0);
        assert_eq!(class_of(Duration::from_micros(1001)), 1);
        assert_eq!(class_of(Duration::MAX), BOUNDS.len());
    }
}
