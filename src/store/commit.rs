//! Group commit: whoever comes first commits what all are waiting for.
//!
//! An operation is queued, then somebody leads: takes everything queued, runs it in one transaction (a savepoint each, so
//! that one failure is one failure), commits, and makes it durable with one flush. A lone caller leads on its own thread,
//! which costs no hand-over; as soon as others wait, a thread of the store takes over and a second one does the flushing,
//! so that the next group is put together while the disk works. Nobody ever waits for a group to fill.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::failure::Failures;
use super::turnstile::{Turnstile, busy, holders};
use super::writer::{Committed, Tx, Writer};
use crate::error::{Error, Result};

/// One operation of a group.
pub(crate) trait Work: Send {
    /// Does it, inside the group's transaction. After an error its changes are rolled back, alone.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// The transaction is committed: every process sees it, though it may not be on disk yet.
    fn committed(&mut self) {}
    /// Whether its end is told only when it is on disk.
    fn durable(&self) -> bool {
        true
    }
    /// The end: done (and durable), or failed and rolled back.
    fn finish(self: Box<Self>, result: Result<()>);
}

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const ABANDONED: u8 = 2;

struct Entry {
    work: Box<dyn Work>,
    /// Lets a caller whose patience ends take the operation back, unless it has begun.
    state: Option<Arc<AtomicU8>>,
}

#[derive(Default)]
struct Pending {
    entries: Vec<Entry>,
    thread: bool,
    closed: bool,
}

#[derive(Default)]
struct Unflushed {
    finished: Vec<Box<dyn Work>>,
    thread: bool,
    closed: bool,
}

/// Queues operations and sees to it that they are committed.
pub(crate) struct Committer {
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Locked before `writer`: waiting for the turn, however long, must not keep readers from the connection. Both locks
    /// of the turnstile belong to one open file, so two threads could otherwise take the same turn.
    turnstile: Mutex<Turnstile>,
    writer: Mutex<Writer>,
    unflushed: Mutex<Unflushed>,
    flush: Condvar,
    /// So many groups of one there were since the last larger one.
    alone: AtomicU32,
    settings: Settings,
}

/// A caller who was alone so many times looks around again.
const ALONE_AT_MOST: u32 = 16;

/// How a store commits.
pub(crate) struct Settings {
    /// The write-ahead log, to flush it; `None`: commits are not flushed.
    pub(crate) wal: Option<File>,
    pub(crate) failures: Failures,
    pub(crate) work_lock: PathBuf,
    /// A lone caller may lead on its own thread.
    pub(crate) inline: bool,
    /// How long a caller waits for its turn.
    pub(crate) patience: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while leading leaves a transaction open at worst, and the next leader rolls it back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Committer {
    pub(crate) fn new(turnstile: Turnstile, writer: Writer, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            pending: Mutex::default(),
            wake: Condvar::new(),
            turnstile: Mutex::new(turnstile),
            writer: Mutex::new(writer),
            unflushed: Mutex::default(),
            flush: Condvar::new(),
            alone: AtomicU32::new(0),
            settings,
        })
    }

    /// Runs `operation` in a transaction and returns its value once it is durable.
    pub(crate) async fn write<T, F>(self: &Arc<Self>, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, mut answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(WAITING));
        self.push(Entry {
            work: Box::new(Call {
                operation: Some(operation),
                value: None,
                reply,
            }),
            state: Some(Arc::clone(&state)),
        })?;
        let alone = self.alone.load(Ordering::Relaxed);
        if self.settings.inline && (alone == 0 || alone >= ALONE_AT_MOST) {
            self.alone.store(0, Ordering::Relaxed);
            // Let every caller that is ready now queue its operation too, so that one flush serves all of them.
            tokio::task::yield_now().await;
            if let Ok(result) = answer.try_recv() {
                return result;
            }
        }
        self.drive();
        if let Ok(result) = answer.try_recv() {
            return result;
        }
        loop {
            match tokio::time::timeout(self.settings.patience, &mut answer).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_)) => return Err(Error::bug("a store operation was dropped")),
                Err(_) => {
                    if state
                        .compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
                        .is_ok()
                    {
                        return Err(self.busy());
                    }
                }
            }
        }
    }

    /// Queues an operation that is driven by the store's thread.
    pub(crate) fn submit(self: &Arc<Self>, work: Box<dyn Work>) -> Result<()> {
        self.push(Entry { work, state: None })?;
        self.wake_thread();
        Ok(())
    }

    fn push(&self, entry: Entry) -> Result<()> {
        let mut pending = lock(&self.pending);
        if pending.closed {
            return Err(Error::unavailable("the store is closed"));
        }
        pending.entries.push(entry);
        Ok(())
    }

    /// Leads here if nobody else does and the turn is free; otherwise leaves it to the thread.
    fn drive(self: &Arc<Self>) {
        if self.settings.inline
            && let Ok(turnstile) = self.turnstile.try_lock()
            && turnstile.try_enter()
        {
            self.lead(&turnstile, true);
            drop(turnstile);
            if lock(&self.pending).entries.is_empty() {
                return;
            }
        }
        self.wake_thread();
    }

    fn wake_thread(self: &Arc<Self>) {
        let mut pending = lock(&self.pending);
        if pending.thread {
            drop(pending);
            self.wake.notify_one();
            return;
        }
        let this = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("store".to_owned())
            .stack_size(512 << 10)
            .spawn(move || this.serve());
        match spawned {
            Ok(_) => pending.thread = true,
            Err(error) => {
                let entries = std::mem::take(&mut pending.entries);
                drop(pending);
                for entry in entries {
                    entry.work.finish(Err(Error::temporary(format!(
                        "no thread for the store can be started: {error}"
                    ))));
                }
            }
        }
    }

    /// The store's thread: leads whenever something is queued.
    fn serve(self: &Arc<Self>) {
        loop {
            {
                let mut pending = lock(&self.pending);
                while pending.entries.is_empty() {
                    if pending.closed {
                        pending.thread = false;
                        lock(&self.unflushed).closed = true;
                        self.flush.notify_one();
                        return;
                    }
                    pending = self.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let turnstile = lock(&self.turnstile);
            if let Err(error) = turnstile.enter() {
                for entry in std::mem::take(&mut lock(&self.pending).entries) {
                    entry.work.finish(Err(error.duplicate()));
                }
                continue;
            }
            self.lead(&turnstile, false);
        }
    }

    /// With the turn taken: commits everything that is queued and gives the turn back.
    fn lead(self: &Arc<Self>, turnstile: &Turnstile, flush_here: bool) {
        let entries: Vec<Entry> = std::mem::take(&mut lock(&self.pending).entries)
            .into_iter()
            .filter(|entry| {
                entry.state.as_ref().is_none_or(|state| {
                    state
                        .compare_exchange(WAITING, RUNNING, Ordering::AcqRel, Ordering::Acquire)
                        .is_ok()
                })
            })
            .collect();
        if entries.is_empty() {
            turnstile.leave();
            return;
        }
        if entries.len() > 1 {
            self.alone.store(0, Ordering::Relaxed);
        } else {
            self.alone.fetch_add(1, Ordering::Relaxed);
        }
        let mut writer = lock(&self.writer);
        let Committed { mut done, failed } = writer.commit(entries.into_iter().map(|entry| entry.work).collect());
        turnstile.leave();
        writer.ring();
        drop(writer);
        for work in &mut done {
            work.committed();
        }
        for (work, error) in failed {
            work.finish(Err(error));
        }
        let (durable, volatile): (Vec<_>, Vec<_>) = done
            .into_iter()
            .partition(|work| work.durable() && self.settings.wal.is_some());
        for work in volatile {
            work.finish(Ok(()));
        }
        if durable.is_empty() {
            return;
        }
        if flush_here {
            self.flush_and_finish(durable);
        } else {
            self.hand_to_flusher(durable);
        }
    }

    fn hand_to_flusher(self: &Arc<Self>, work: Vec<Box<dyn Work>>) {
        let mut unflushed = lock(&self.unflushed);
        unflushed.finished.extend(work);
        if unflushed.thread {
            drop(unflushed);
            self.flush.notify_one();
            return;
        }
        let this = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("store-flush".to_owned())
            .stack_size(256 << 10)
            .spawn(move || this.serve_flushes());
        if spawned.is_ok() {
            unflushed.thread = true;
        } else {
            let work = std::mem::take(&mut unflushed.finished);
            drop(unflushed);
            self.flush_and_finish(work);
        }
    }

    fn serve_flushes(self: &Arc<Self>) {
        loop {
            let work = {
                let mut unflushed = lock(&self.unflushed);
                while unflushed.finished.is_empty() {
                    if unflushed.closed {
                        unflushed.thread = false;
                        return;
                    }
                    unflushed = self.flush.wait(unflushed).unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::take(&mut unflushed.finished)
            };
            self.flush_and_finish(work);
        }
    }

    /// One flush for all of them. The log is what SQLite itself flushes with `synchronous=FULL`; flushing it after the
    /// commit, by a descriptor of our own, is the same guarantee with the next transaction free to begin.
    fn flush_and_finish(&self, work: Vec<Box<dyn Work>>) {
        let flushed = match &self.settings.wal {
            None => Ok(()),
            Some(wal) => rustix::fs::fdatasync(wal).map_err(|error| {
                Error::unavailable(format!(
                    "store {}: the disk did not take the write, so it may be lost in a power cut; look at the kernel's log",
                    self.settings.failures.path()
                ))
                .because(error)
            }),
        };
        for work in work {
            work.finish(match &flushed {
                Ok(()) => Ok(()),
                Err(error) => Err(error.duplicate()),
            });
        }
    }

    fn busy(&self) -> Error {
        busy(
            &self.settings.failures,
            &holders(&self.settings.work_lock),
            self.settings.patience,
        )
    }

    /// Reads, outside the groups, on the writer's connection.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        lock(&self.writer).read(read)
    }

    /// Lets the threads end when nothing is queued any more; later operations are refused.
    pub(crate) fn close(&self) {
        let mut pending = lock(&self.pending);
        pending.closed = true;
        let thread = pending.thread;
        drop(pending);
        if thread {
            self.wake.notify_one();
        }
        if !thread {
            lock(&self.unflushed).closed = true;
            self.flush.notify_one();
        }
    }
}

/// An operation given as a closure, its value sent back when it is durable.
struct Call<T, F> {
    operation: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        if let Some(operation) = self.operation.take() {
            self.value = Some(operation(tx)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        let Self { value, reply, .. } = *self;
        let answer = result.and_then(|()| value.ok_or_else(|| Error::bug("a store operation left no value")));
        // The caller may have gone; what it asked for is done all the same.
        let _ = reply.send(answer);
    }
}
