//! A consumer's guardian, as all that have children for it share it: one for each lifeline.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::process::{Guardian, is_ignored};
use crate::queue::Lifeline;

/// Has a guardian for the lifeline that counts.
#[derive(Debug)]
pub struct Guard {
    /// qctl itself.
    qctl: PathBuf,
    guardian: Mutex<Option<Arc<Guardian>>>,
}

impl Guard {
    /// `qctl` is this program itself.
    pub fn new(qctl: &Path) -> Self {
        Self {
            qctl: qctl.to_owned(),
            guardian: Mutex::default(),
        }
    }

    /// Has a guardian for this lifeline. One for an earlier lifeline goes on until its last child has ended.
    pub async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        check_child_signal()?;
        if self.slot().as_ref().is_some_and(|guardian| guardian.serves(lifeline)) {
            return Ok(());
        }
        // It answers within milliseconds, but the runtime is not to wait even for these.
        let (qctl, lifeline) = (self.qctl.clone(), lifeline.clone());
        let guardian = beside(move || Guardian::start(&qctl, &lifeline)).await??;
        *self.slot() = Some(Arc::new(guardian));
        Ok(())
    }

    /// The guardian that children are to be started under.
    pub fn current(&self) -> Option<Arc<Guardian>> {
        self.slot().clone()
    }

    /// Ends the guardian once no child is left.
    pub async fn finish(&self) {
        let guardian = self.slot().take();
        // Its end is waited for, or a zombie would be left; where no thread can be had, it ends when it is dropped here.
        let _ = beside(move || drop(guardian)).await;
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Guardian>>> {
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs something that blocks for a moment on a thread of its own.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name("qctl-prepare".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            // Nobody waits any more: the consumer has ended meanwhile.
            let _ = done.send(work());
        })
        .map_err(|error| {
            Error::temporary("cannot start a thread; try again when the machine has room").because(error)
        })?;
    result
        .await
        .map_err(|error| Error::bug("a thread that prepares a handler has panicked").because(error))
}

/// Whoever started us may have had `SIGCHLD` ignored, which is inherited: the system then throws every child's exit code
/// away.
fn check_child_signal() -> Result<()> {
    if is_ignored(libc::SIGCHLD) {
        return Err(Error::worker_fault(
            "SIGCHLD is ignored, so no child's exit code can be known; start the consumer from a program that leaves it at \
             its default",
        ));
    }
    Ok(())
}
