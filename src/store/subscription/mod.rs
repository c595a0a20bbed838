//! A consumer's stream of deliveries from one queue.
//!
//! One operation, the *pump*, does all of its work in the store: it settles whatever waits to be settled and claims what
//! then fits, in one transaction. At most one pump is queued at a time, so the busier the consumer, the more each does.
//! Deliveries are handed on as soon as the pump is committed; settlements are confirmed when it is on disk.

mod pump;
mod settler;
mod state;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use settler::StoreSettler;
use state::{Shared, State};

use super::owners::{Owner, Reaped, reap};
use super::watch::{Watch, Woken};
use super::{Store, admin};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Delivery, Lifeline};

/// Look for dead owners this often even if nothing was heard.
const REAP_EVERY: Duration = Duration::from_mins(1);
/// The kernel tells of the closed file a moment before it frees the lock, so look a second time.
const REAP_AGAIN: Duration = Duration::from_millis(25);
/// How long to wait after the store could not be written.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Say so when the store has not answered for this long.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct StoreSubscription {
    store: Store,
    shared: Arc<Shared>,
    watch: Watch,
    owner: Owner,
    /// When to look for dead owners even if nothing was heard.
    reap_at: Instant,
}

impl StoreSubscription {
    /// Starts to take from a queue.
    pub(crate) async fn start(store: &Store, queue: &str, prefetch: usize, slots: usize, label: &str) -> Result<Self> {
        let row = store.read(|tx| tx.expect_queue(queue))?;
        let owner = Owner::register(store, label, Some(row.id)).await?;
        let watch = Watch::start(store, row.id, &owner.token)?;
        let reaped = reap(store, Some(&owner.token)).await?;
        store.sweep_dead().await?;
        let shared = Arc::new(Shared {
            queue_id: row.id,
            store: store.clone(),
            owner: owner.id,
            queue: queue.to_owned(),
            state: Mutex::new(State {
                prefetch: prefetch.max(1),
                slots,
                out: HashMap::new(),
                settling: Vec::new(),
                ready: VecDeque::new(),
                pumping: false,
                look: true,
                stopped: false,
                suspect_waits: false,
                hold_until: None,
                next_due: None,
                failed: None,
                next_tag: 0,
                reap_wanted: reaped.haunted > 0,
                reaping: false,
            }),
            changed: Notify::new(),
        });
        Ok(Self {
            store: store.clone(),
            shared,
            watch,
            owner,
            reap_at: Instant::now() + REAP_EVERY,
        })
    }

    /// Waits for deliveries. Cancel-safe: what is claimed stays in the shared state until it is returned.
    pub(crate) async fn next(&mut self) -> Result<Vec<Delivery>> {
        let mut asked = Instant::now();
        let mut was_pumping = false;
        loop {
            let woken = self.watch.drain();
            self.heed(woken);
            self.shared.pump();
            let (pumping, next_due, hold_until) = {
                let mut state = self.shared.lock();
                if !state.ready.is_empty() {
                    return Ok(state.ready.drain(..).collect());
                }
                if let Some(error) = &state.failed {
                    return Err(error.duplicate());
                }
                if state.stopped && !state.pumping {
                    return Ok(Vec::new());
                }
                // What is due cannot be taken anyway while there is no room.
                let next_due = state.next_due.filter(|_| state.out.len() < state.prefetch);
                (state.pumping, next_due, state.hold_until)
            };
            let now = Instant::now();
            let mut until = self.reap_at;
            if let Some(due) = next_due {
                let wait = (due - self.store.inner.clock.now()).max(0) as u64 + 1;
                until = until.min(now + Duration::from_millis(wait));
            }
            if let Some(hold_until) = hold_until {
                until = until.min(hold_until);
            }
            if !was_pumping {
                asked = now;
            }
            was_pumping = pumping;
            if pumping {
                until = until.min(asked + PATIENCE);
            }
            tokio::select! {
                () = self.shared.changed.notified() => {}
                woken = self.watch.wait() => self.heed(woken),
                () = tokio::time::sleep_until(until) => {
                    if pumping && asked + PATIENCE <= Instant::now() {
                        tracing::warn!(queue = %self.shared.queue, "the store has not answered for 10 s; another process holds its lock");
                        asked = Instant::now();
                    }
                    self.look_by_the_clock();
                    self.shared.lock().look = true;
                }
            }
        }
    }

    /// Hears of deaths while nothing is taken. Returns when the subscription is over.
    pub(crate) async fn attend(&mut self) {
        while self.shared.lock().failed.is_none() {
            tokio::select! {
                woken = self.watch.wait() => self.heed(woken),
                () = tokio::time::sleep_until(self.reap_at) => self.look_by_the_clock(),
            }
        }
    }

    fn look_by_the_clock(&mut self) {
        if self.reap_at <= Instant::now() {
            let evicted = self.watch.is_replaced();
            self.heed(Woken {
                owners: true,
                bell: true,
                evicted,
            });
            self.reap_at = Instant::now() + REAP_EVERY;
        }
    }

    /// Notes what was heard where it is not forgotten, even if the future that heard it is dropped.
    fn heed(&self, woken: Woken) {
        let mut state = self.shared.lock();
        if woken.evicted {
            state.failed.get_or_insert_with(|| {
                Error::new(
                    ErrorKind::DeliveryLost,
                    format!(
                        "store {} or its side files were removed or replaced while this consumer had them open; stop \
                         consumers before you clean or restore a store",
                        self.store.files().database.display()
                    ),
                )
            });
        }
        state.look |= woken.bell;
        state.reap_wanted |= woken.owners;
        if state.reap_wanted && !state.reaping {
            state.reap_wanted = false;
            state.reaping = true;
            drop(state);
            tokio::spawn(look_for_dead(
                self.store.clone(),
                Arc::clone(&self.shared),
                self.owner.token.clone(),
            ));
        }
    }

    /// Nothing is claimed, or being claimed, that `next` has not returned.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.shared.lock();
        state.ready.is_empty() && !state.pumping
    }

    pub(crate) fn lifeline(&self) -> Lifeline {
        self.owner.lifeline()
    }

    pub(crate) fn settler(&self) -> StoreSettler {
        StoreSettler {
            shared: Arc::clone(&self.shared),
        }
    }

    /// From the next claim on, so many may be out, and all are begun at once.
    pub(crate) fn set_window(&self, window: usize) {
        let mut state = self.shared.lock();
        state.prefetch = window.max(1);
        state.slots = window;
    }

    /// Claims nothing more.
    pub(crate) fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
    }

    /// Gives back what is held and takes the consumer off the list.
    pub(crate) async fn close(self) -> Result<()> {
        self.stop();
        self.owner.leave(&self.store).await?;
        let queue = self.shared.queue_id;
        let name = self.shared.queue.clone();
        self.store
            .write(move |tx| {
                let deserted: bool = tx.sql(tx.connection.query_row(
                    "SELECT EXISTS (SELECT 1 FROM queue WHERE id = ?1 AND name = ?2 AND auto_delete)
                        AND NOT EXISTS (SELECT 1 FROM owner WHERE queue = ?1)",
                    (queue, name),
                    |row| row.get(0),
                ))?;
                if deserted {
                    admin::delete_queue(tx, queue).map(drop)
                } else {
                    Ok(())
                }
            })
            .await
    }
}

/// Looks for dead owners, twice because the kernel tells of a closed file a moment before it frees the lock. A store that
/// cannot be written just now is tried again; our own deliveries have nothing to do with it.
async fn look_for_dead(store: Store, shared: Arc<Shared>, token: String) {
    loop {
        let mut result = reap(&store, Some(&token)).await;
        if matches!(
            result,
            Ok(Reaped {
                messages: 0,
                haunted: 0
            })
        ) {
            tokio::time::sleep(REAP_AGAIN).await;
            result = reap(&store, Some(&token)).await;
        }
        let swept = store.sweep_dead().await;
        if shared.looked_for_dead(result, swept) {
            shared.changed.notify_one();
            return;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

impl Drop for StoreSubscription {
    fn drop(&mut self) {
        // Nobody is to look for dead owners on its behalf any more.
        self.stop();
    }
}
