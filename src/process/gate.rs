//! How many children live at once, where more threads than that prepare and clear away: the next child is ready to start
//! when one ends, and what is left to do for the ended one is done beside it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Lets so many in.
#[derive(Debug)]
pub(super) struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One child may live until this is dropped.
#[derive(Debug)]
pub(super) struct Pass(Arc<Gate>);

impl Gate {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(slots),
            freed: Condvar::new(),
        })
    }

    fn enter(self: &Arc<Self>) -> Pass {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Pass(Arc::clone(self))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether a job has begun or was taken back: only one of them can come true.
#[derive(Clone, Debug, Default)]
pub(super) struct Start(Arc<AtomicU8>);

impl Start {
    /// Takes the job back; `false`: it has begun.
    pub(super) fn withdraw(&self) -> bool {
        self.0
            .compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }

    fn begin(&self) -> bool {
        self.0
            .compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// What a prepared job waits for.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) gate: Arc<Gate>,
    pub(super) start: Start,
}

impl Door {
    /// Waits until the child may start; `None`: the job was taken back meanwhile.
    pub(super) fn pass(&self) -> Option<Pass> {
        let pass = self.gate.enter();
        self.start.begin().then_some(pass)
    }
}
