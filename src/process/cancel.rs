//! Asking a child to be ended, from any thread.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends a running job, or keeps it from beginning. Clones mean the same job.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// The event counter of the thread that runs the job at this moment.
    wake: Option<Arc<OwnedFd>>,
}

impl Cancel {
    /// For a job that is not yet running.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end of the job. Asking twice, or after its end, does nothing.
    pub fn cancel(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.cancelled, true)
            && let Some(wake) = &state.wake
        {
            // A counter that cannot be raised is one already raised.
            let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
        }
    }

    /// Whether its end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// The job begins on a thread that listens to `wake`; `false` if it was cancelled before.
    pub(super) fn attach(&self, wake: &Arc<OwnedFd>) -> bool {
        let mut state = self.lock();
        if state.cancelled {
            return false;
        }
        state.wake = Some(Arc::clone(wake));
        true
    }

    /// The job is over: its thread's counter is not touched after this, and is clear for the next job.
    pub(super) fn detach(&self) {
        let mut state = self.lock();
        if let Some(wake) = state.wake.take()
            && state.cancelled
        {
            let mut count = [0; 8];
            let _ = rustix::io::read(&*wake, &mut count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
