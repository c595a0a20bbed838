//! A fixed number of threads, each running one child at a time, for callers that await.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::oneshot;

use super::cancel::Cancel;
use super::run::{Ended, Job, Runner};
use super::spawn::SpawnError;

/// A runner's thread needs little: its buffers are on the heap.
const STACK: usize = 256 * 1024;

/// How often a thread that has just done a job looks for another one before it sleeps, giving way to others each time. The
/// one who waited for the job usually has the next one ready within microseconds; going to sleep and being woken costs more
/// (a tenth of a short child's whole life, `benches/spawn.rs`).
const PATIENCE: u32 = 30;

/// Runs jobs on at most so many threads, which are started when there is work for them. Dropped, it takes no new job; those
/// that were given to it go on.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    threads: usize,
    state: Mutex<State>,
    work: Condvar,
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether a job has begun or was taken back: only one of them can come true.
#[derive(Clone, Debug, Default)]
struct Start(Arc<AtomicU8>);

impl Start {
    /// Takes the job back; `false`: it has begun.
    fn withdraw(&self) -> bool {
        self.0
            .compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Begins it; `false`: it was taken back.
    fn begin(&self) -> bool {
        self.0
            .compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Who is to be told, and what.
type Told = (oneshot::Sender<Result<Ended, SpawnError>>, Result<Ended, SpawnError>);

#[derive(Debug, Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Ends that wait to be told together.
    untold: Vec<Told>,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Task {
    start: Start,
    job: Job,
    cancel: Cancel,
    done: oneshot::Sender<Result<Ended, SpawnError>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("program", &self.job.program)
            .finish_non_exhaustive()
    }
}

/// A job that was given to a [`Pool`]: a future of how its child ended, on any runtime. Dropped before that, it cancels the
/// job.
#[derive(Debug)]
#[must_use = "a job that nobody waits for is cancelled"]
pub struct Running {
    shared: Arc<Shared>,
    start: Start,
    cancel: Cancel,
    done: oneshot::Receiver<Result<Ended, SpawnError>>,
}

impl Pool {
    /// A pool of `slots` threads, named `name` and a number.
    pub fn new(name: impl Into<String>, slots: usize) -> Self {
        let shared = Shared {
            name: name.into(),
            threads: slots.max(1),
            state: Mutex::default(),
            work: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Gives it a job; it begins when a thread is free.
    pub fn submit(&self, job: Job) -> Running {
        let cancel = Cancel::new();
        let (done, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        let start = Start::default();
        state.tasks.push_back(Task {
            start: start.clone(),
            job,
            cancel: cancel.clone(),
            done,
        });
        if state.idle < state.tasks.len() && state.threads < self.shared.threads {
            self.shared.add_thread(&mut state);
        }
        drop(state);
        self.shared.work.notify_one();
        Running {
            shared: Arc::clone(&self.shared),
            start,
            cancel,
            done: receiver,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_thread(self: &Arc<Self>, state: &mut State) {
        let shared = Arc::clone(self);
        let started = Runner::new().and_then(|runner| {
            let name = format!("{}-{}", self.name, state.threads + 1);
            thread::Builder::new()
                .name(name)
                .stack_size(STACK)
                .spawn(move || shared.serve(runner))
        });
        match started {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => fail_all(state, &error),
            // The threads there are will do it.
            Err(_) => {}
        }
    }

    fn serve(&self, mut runner: Runner) {
        let mut patience = 0;
        loop {
            let mut state = self.lock();
            let task = loop {
                if let Some(task) = state.tasks.pop_front() {
                    if !task.start.begin() {
                        continue;
                    }
                    break task;
                }
                if !state.untold.is_empty() {
                    // What seemed to wait behind it was taken back meanwhile.
                    let untold = std::mem::take(&mut state.untold);
                    drop(state);
                    tell_all(untold);
                    state = self.lock();
                    continue;
                }
                if state.closed {
                    return;
                }
                if patience > 0 {
                    patience -= 1;
                    drop(state);
                    thread::yield_now();
                    state = self.lock();
                    continue;
                }
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            };
            drop(state);
            let deferrable = task.job.deferrable;
            // A line sink that panics must not take the thread, and with it the jobs that wait, away; its child is ended.
            let result =
                panic::catch_unwind(AssertUnwindSafe(|| runner.run(task.job, &task.cancel))).unwrap_or_else(|_| {
                    Err(SpawnError::Busy(
                        "what takes the child's output has panicked".to_owned(),
                    ))
                });
            self.tell(deferrable, (task.done, result));
            patience = PATIENCE;
        }
    }
}

impl Shared {
    /// Tells how a job ended: at once, or, where the caller allows it and has given us enough to go on with, together with
    /// the next ones. Waking the caller costs as much as a tenth of a short child.
    fn tell(&self, deferrable: bool, told: Told) {
        let mut state = self.lock();
        state.untold.push(told);
        if deferrable && state.tasks.len() >= self.threads {
            return;
        }
        let untold = std::mem::take(&mut state.untold);
        drop(state);
        tell_all(untold);
    }
}

fn tell_all(untold: Vec<Told>) {
    for (done, result) in untold {
        // Nobody waits for it any more: then nobody needs to know.
        let _ = done.send(result);
    }
}

fn fail_all(state: &mut State, error: &io::Error) {
    for task in state.tasks.drain(..) {
        let _ = task
            .done
            .send(Err(SpawnError::Busy(format!("cannot start a thread: {error}"))));
    }
}

impl Running {
    /// Asks for the job's end; the future then tells how it ended.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Takes the job back if its child has not been started; `true`: it never will be, and the future must not be awaited
    /// any more.
    pub fn withdraw(&self) -> bool {
        // The caller is not busy: it can be told what was kept back.
        let untold = std::mem::take(&mut self.shared.lock().untold);
        tell_all(untold);
        self.start.withdraw()
    }
}

impl Future for Running {
    type Output = Result<Ended, SpawnError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context).map(|result| {
            result.unwrap_or_else(|_| Err(SpawnError::Busy("the thread that ran the child is gone".to_owned())))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After the job's end neither does anything.
        self.start.withdraw();
        self.cancel.cancel();
    }
}
