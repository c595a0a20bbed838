//! A consumer's stream of deliveries from one queue.
//!
//! One operation, the *pump*, does all of its work in the store: it settles whatever waits to be settled and claims what
//! then fits, in one transaction. At most one pump is queued at a time, so the busier the consumer, the more each does.
//! Deliveries are handed on as soon as the pump is committed; settlements are confirmed when it is on disk.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::claim::{self, Claim, Wanted};
use super::commit::Work;
use super::owners::{Owner, reap};
use super::watch::{Watch, Woken};
use super::writer::Tx;
use super::{Store, admin};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Delivery, Lifeline, Settlement, Ticket};

/// Look for dead owners this often even if nothing was heard.
const REAP_EVERY: Duration = Duration::from_mins(1);
/// The kernel tells of the closed file a moment before it frees the lock, so look a second time.
const REAP_AGAIN: Duration = Duration::from_millis(25);
/// How long to wait after the store could not be written.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// For how long a settlement is tried again before it is given up; its message then comes back.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);
/// Say so when the store has not answered for this long.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct StoreSubscription {
    store: Store,
    shared: Arc<Shared>,
    watch: Watch,
    owner: Owner,
    queue_id: i64,
    /// When to look for dead owners even if nothing was heard.
    reap_at: Instant,
}

struct Shared {
    store: Store,
    owner: i64,
    queue: String,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    prefetch: usize,
    slots: usize,
    out: HashMap<u64, Out>,
    settling: Vec<Settling>,
    ready: VecDeque<Delivery>,
    /// A pump is queued or running.
    pumping: bool,
    /// Something may be there to claim.
    look: bool,
    stopped: bool,
    /// A suspect is next, and waits until nothing else is out.
    suspect_waits: bool,
    /// The store did not take the last claim: not before this moment again.
    hold_until: Option<Instant>,
    next_due: Option<i64>,
    failed: Option<Error>,
    next_tag: u64,
    /// Somebody may have died, and nobody has looked yet.
    reap_wanted: bool,
    /// A task is looking.
    reaping: bool,
}

#[derive(Clone, Copy)]
struct Out {
    id: i64,
    started: bool,
    suspect: bool,
}

#[derive(Clone)]
enum Step {
    Settle(Settlement),
    Start,
}

struct Settling {
    tag: u64,
    step: Step,
    reply: oneshot::Sender<Result<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a look for dead owners came to; `true`: there is no need to look again.
    fn looked_for_dead(&self, given_back: Result<u64>, swept: Result<u64>) -> bool {
        let mut state = self.lock();
        match (given_back, swept) {
            (Ok(given_back), Ok(_)) => state.look |= given_back > 0,
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(queue = %self.queue, %error, "dead consumers cannot be looked for; trying again");
                state.reap_wanted = true;
            }
        }
        state.reaping = state.reap_wanted && !state.stopped;
        state.reap_wanted = false;
        !state.reaping
    }

    /// Queues a pump if there is something to do and none is queued.
    fn pump(self: &Arc<Self>) {
        let mut state = self.lock();
        let room = state.out.len() < state.prefetch && !state.out.values().any(|out| out.suspect);
        let held_off = state.hold_until.is_some_and(|until| Instant::now() < until);
        let claim = state.look && room && !state.stopped && !held_off;
        if state.pumping || (state.settling.is_empty() && !claim) {
            return;
        }
        state.pumping = true;
        drop(state);
        let pump = Pump {
            shared: Arc::clone(self),
            settled: Vec::new(),
            claim: Claim::default(),
            gone: false,
            over: false,
            claiming: false,
        };
        if let Err(error) = self.store.submit(Box::new(pump)) {
            let mut state = self.lock();
            state.pumping = false;
            for settling in state.settling.drain(..) {
                let _ = settling.reply.send(Err(error.duplicate()));
            }
            state.failed.get_or_insert(error);
            self.changed.notify_one();
        }
    }
}

/// One turn of the pump.
struct Pump {
    shared: Arc<Shared>,
    settled: Vec<(Settling, Result<()>)>,
    claim: Claim,
    /// The queue was deleted.
    gone: bool,
    /// The state was brought up to date after the commit.
    over: bool,
    /// It claimed, so that its claim says whether more is there.
    claiming: bool,
}

impl Work for Pump {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let (settling, outs, mut held, mut started, mut suspect, prefetch, slots, claiming) = {
            let mut state = self.shared.lock();
            let settling = std::mem::take(&mut state.settling);
            let outs: Vec<Option<Out>> = settling.iter().map(|item| state.out.get(&item.tag).copied()).collect();
            (
                settling,
                outs,
                state.out.len(),
                state.out.values().filter(|out| out.started).count(),
                state.out.values().filter(|out| out.suspect).count(),
                state.prefetch,
                state.slots,
                state.look && !state.stopped,
            )
        };
        let queue = match tx.queue(&self.shared.queue) {
            Ok(queue) => queue,
            Err(error) => {
                self.settled.extend(settling.into_iter().map(|item| (item, Ok(()))));
                return Err(error);
            }
        };
        let Some(queue) = queue else {
            self.gone = true;
            self.settled.extend(settling.into_iter().map(|step| {
                (
                    step,
                    Err(Error::delivery_lost(format!(
                        "queue `{}` was deleted, and its messages with it",
                        self.shared.queue
                    ))),
                )
            }));
            return Ok(());
        };
        let mut failure = None;
        for (step, out) in settling.into_iter().zip(outs) {
            let result = match (&failure, out) {
                (Some(_), _) => Ok(()),
                (None, None) => Err(Error::delivery_lost("the delivery was settled before")),
                (None, Some(out)) => match &step.step {
                    Step::Start => claim::start(tx, self.shared.owner, out.id),
                    Step::Settle(settlement) => {
                        held -= 1;
                        started -= usize::from(out.started);
                        suspect -= usize::from(out.suspect);
                        claim::settle(tx, self.shared.owner, &queue, out.id, settlement)
                    }
                },
            };
            let result = match result {
                Err(error) if error.kind() != ErrorKind::DeliveryLost => {
                    failure = Some(error);
                    Ok(())
                }
                other => other,
            };
            self.settled.push((step, result));
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if claiming && suspect == 0 {
            // Cleared before the claim looks: a bell from now on means something that it may not see.
            self.shared.lock().look = false;
            self.claiming = true;
            let wanted = Wanted {
                owner: self.shared.owner,
                count: prefetch.saturating_sub(held),
                start: slots.saturating_sub(started),
                alone: held == 0,
            };
            self.claim = claim::claim(tx, &queue, wanted)?;
        }
        Ok(())
    }

    fn committed(&mut self) {
        let mut state = self.shared.lock();
        for (item, result) in &self.settled {
            match item.step {
                Step::Settle(_) => {
                    state.out.remove(&item.tag);
                }
                Step::Start => {
                    if result.is_ok()
                        && let Some(out) = state.out.get_mut(&item.tag)
                    {
                        out.started = true;
                    }
                }
            }
        }
        let claim = std::mem::take(&mut self.claim);
        for claimed in claim.messages {
            state.next_tag += 1;
            let tag = state.next_tag;
            state.out.insert(
                tag,
                Out {
                    id: claimed.id,
                    started: claimed.started,
                    suspect: claimed.suspect,
                },
            );
            state.ready.push_back(Delivery {
                message: claimed.message,
                queue: self.shared.queue.clone(),
                exchange: claimed.exchange,
                attempt: claimed.attempt,
                redelivered: claimed.deliveries > 1 || claimed.attempt > 0 || claimed.suspect,
                deliveries: Some(claimed.deliveries),
                alone: claimed.suspect,
                ticket: Ticket::new(tag),
            });
        }
        // Whatever rang since the claim has set it too, and must not be forgotten.
        state.look |= self.claiming && !claim.drained && !claim.suspect_waits;
        state.suspect_waits = claim.suspect_waits;
        state.hold_until = None;
        state.next_due = claim.next_due.or(state.next_due.filter(|_| !claim.drained));
        if self.gone {
            state.failed.get_or_insert_with(|| {
                Error::not_found(format!(
                    "queue `{}` was deleted; declare it again or stop this consumer",
                    self.shared.queue
                ))
            });
        }
        state.pumping = false;
        self.over = true;
        drop(state);
        self.shared.changed.notify_one();
        self.shared.pump();
    }

    fn durable(&self) -> bool {
        !self.settled.is_empty()
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        if !self.over {
            let mut state = self.shared.lock();
            state.pumping = false;
            state.look |= self.claiming;
            if let Err(error) = &result {
                // What was not even begun fails with the rest.
                for item in state.settling.drain(..) {
                    let _ = item.reply.send(Err(error.duplicate()));
                }
                if error.is_transient() {
                    // A full disk, say: the consumer lives and keeps what it holds until there is room again.
                    tracing::warn!(queue = %self.shared.queue, %error, "the store cannot be written; trying again");
                    state.hold_until = Some(Instant::now() + TRY_AGAIN);
                } else {
                    state.failed.get_or_insert(error.duplicate());
                }
            }
            drop(state);
            self.shared.changed.notify_one();
        }
        for (item, own) in self.settled {
            // The consumer may be gone; the settlement stands all the same.
            let _ = item.reply.send(match &result {
                Ok(()) => own,
                Err(error) => Err(error.duplicate()),
            });
        }
    }
}

impl StoreSubscription {
    /// Starts to take from a queue.
    pub(crate) async fn start(store: &Store, queue: &str, prefetch: usize, slots: usize, label: &str) -> Result<Self> {
        let row = store.read(|tx| tx.expect_queue(queue))?;
        let owner = Owner::register(store, label, Some(row.id)).await?;
        let watch = Watch::start(store, row.id, &owner.token)?;
        reap(store, Some(&owner.token)).await?;
        store.sweep_dead().await?;
        let shared = Arc::new(Shared {
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
                reap_wanted: false,
                reaping: false,
            }),
            changed: Notify::new(),
        });
        Ok(Self {
            store: store.clone(),
            shared,
            watch,
            owner,
            queue_id: row.id,
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
                (state.pumping, state.next_due, state.hold_until)
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
                    if self.reap_at <= Instant::now() {
                        let evicted = self.watch.is_replaced();
                        self.heed(Woken { owners: true, bell: true, evicted });
                        self.reap_at = Instant::now() + REAP_EVERY;
                    }
                    self.shared.lock().look = true;
                }
            }
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
        let queue = self.queue_id;
        self.store
            .write(move |tx| {
                let deserted: bool = tx.sql(tx.connection.query_row(
                    "SELECT EXISTS (SELECT 1 FROM queue WHERE id = ?1 AND auto_delete)
                        AND NOT EXISTS (SELECT 1 FROM owner WHERE queue = ?1)",
                    [queue],
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
        if matches!(result, Ok(0)) {
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

/// Settles deliveries of one subscription.
pub(crate) struct StoreSettler {
    shared: Arc<Shared>,
}

impl StoreSettler {
    pub(crate) async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<()> {
        self.step(ticket.tag(), Step::Settle(settlement)).await
    }

    pub(crate) async fn start(&self, ticket: &Ticket) -> Result<()> {
        let started = self.shared.lock().out.get(&ticket.tag()).is_some_and(|out| out.started);
        if started {
            Ok(())
        } else {
            self.step(ticket.tag(), Step::Start).await
        }
    }

    /// Waits until the step is done. While the store cannot be written it is tried again: the work behind a settlement is
    /// done, and forgetting that would do it twice.
    async fn step(&self, tag: u64, step: Step) -> Result<()> {
        let give_up = Instant::now() + SETTLE_PATIENCE;
        loop {
            let (reply, answer) = oneshot::channel();
            {
                let mut state = self.shared.lock();
                state.settling.push(Settling {
                    tag,
                    step: step.clone(),
                    reply,
                });
                if state.suspect_waits {
                    state.look = true;
                }
            }
            self.shared.pump();
            let result = answer
                .await
                .unwrap_or_else(|_| Err(Error::bug("a settlement was dropped by the store")));
            match result {
                Err(error)
                    if error.is_transient() && error.kind() != ErrorKind::DeliveryLost && Instant::now() < give_up =>
                {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                result => return result,
            }
        }
    }
}
