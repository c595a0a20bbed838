//! A fair write lock between processes.
//!
//! SQLite's own busy handler sleeps and tries again, so a process in a tight loop keeps the lock and the others starve.
//! Here a writer passes two locks: it waits for `next`, then for `work`, then lets `next` go. Whoever has just worked must
//! queue behind the one that already holds `next`, and all are woken by the kernel, not by a timer. Both locks end with
//! their holder, however it dies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::failure::Failures;
use super::files::{Files, lock_holders};
use crate::error::{Error, Result};

pub(crate) struct Turnstile {
    next: File,
    work: File,
}

impl Turnstile {
    pub(crate) fn open(files: &Files) -> Result<Self> {
        Ok(Self {
            next: files.open_side(&files.locks.join("next"))?,
            work: files.open_side(&work_lock(files))?,
        })
    }

    /// Waits for the turn, however long that takes; it is given up with [`Turnstile::leave`].
    pub(crate) fn enter(&self) -> Result<()> {
        wait(&self.next)?;
        let entered = wait(&self.work);
        release(&self.next);
        entered
    }

    /// Takes the turn if nobody has it or waits for it.
    pub(crate) fn try_enter(&self) -> bool {
        if flock(&self.next, FlockOperation::NonBlockingLockExclusive).is_err() {
            return false;
        }
        let entered = flock(&self.work, FlockOperation::NonBlockingLockExclusive).is_ok();
        release(&self.next);
        entered
    }

    /// Waits for the turn for at most so long, and then names who has it.
    pub(crate) fn enter_within(&self, patience: Duration, failures: &Failures) -> Result<()> {
        let until = Instant::now() + patience;
        while !self.try_enter() {
            if Instant::now() >= until {
                return Err(busy(failures, &lock_holders(&self.work), patience));
            }
            std::thread::sleep(TRY_EVERY);
        }
        Ok(())
    }

    pub(crate) fn leave(&self) {
        release(&self.work);
    }
}

/// How often a waiting opener tries.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// The error of a writer whose patience has ended.
pub(crate) fn busy(failures: &Failures, holders: &[u32], patience: Duration) -> Error {
    let who = if holders.is_empty() {
        "another process".to_owned()
    } else {
        format!(
            "pid {}",
            holders.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        )
    };
    Error::temporary(format!(
        "store {} has been locked by {who} for {} s; nothing was stored, see what that process does and try again",
        failures.path(),
        patience.as_secs()
    ))
}

/// The processes that have or await the turn; for display.
pub(crate) fn holders(work_lock: &Path) -> Vec<u32> {
    File::open(work_lock).map_or_else(|_| Vec::new(), |file| lock_holders(&file))
}

/// Where the lock is that whoever writes holds.
pub(crate) fn work_lock(files: &Files) -> PathBuf {
    files.locks.join("work")
}

fn wait(file: &File) -> Result<()> {
    loop {
        match flock(file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::unavailable("the store's lock file cannot be locked").because(error)),
        }
    }
}

fn release(file: &File) {
    // Unlocking a lock that we hold cannot fail; if the kernel says otherwise, closing the file ends the lock.
    let _ = flock(file, FlockOperation::Unlock);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::fs::{FlockOperation, flock};

    use super::Turnstile;
    use crate::store::StoreOptions;
    use crate::store::files::{Create, Files};

    /// Three turnstiles of one store. Each has files of its own, as in a process of its own.
    fn three() -> (tempfile::TempDir, [Turnstile; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions::at(folder.path().join("queue.db"));
        let files = Files::prepare(&options, Create::Store).unwrap();
        files.make_sides().unwrap();
        let turnstiles = std::array::from_fn(|_| Turnstile::open(&files).unwrap());
        (folder, turnstiles)
    }

    /// Waits until somebody stands in the turnstile behind whoever works; `false`: nobody comes.
    fn somebody_waits(observer: &Turnstile) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while flock(&observer.next, FlockOperation::NonBlockingLockExclusive).is_ok() {
            flock(&observer.next, FlockOperation::Unlock).unwrap();
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whoever has just worked and wants to work again at once stands behind the one that waits.
    #[test]
    fn a_waiting_writer_is_next() {
        let (_folder, [greedy, modest, observer]) = three();
        for _ in 0..50 {
            let (turn, turns) = mpsc::channel();
            greedy.enter().unwrap();
            let waited = thread::scope(|scope| {
                let (modest, modest_turn) = (&modest, turn.clone());
                scope.spawn(move || {
                    modest.enter().unwrap();
                    modest_turn.send("modest").unwrap();
                    modest.leave();
                });
                let waited = somebody_waits(&observer);
                greedy.leave();
                greedy.enter().unwrap();
                turn.send("greedy").unwrap();
                greedy.leave();
                waited
            });
            assert!(waited, "whoever waits keeps its place");
            assert_eq!(turns.try_iter().collect::<Vec<_>>(), ["modest", "greedy"]);
        }
    }

    /// One is inside at a time; a try tells at once, and takes nobody's place.
    #[test]
    fn one_is_inside_at_a_time() {
        let (_folder, [one, other, observer]) = three();
        assert!(one.try_enter());
        assert!(!other.try_enter());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| other.enter().unwrap());
            let refused = somebody_waits(&observer) && !observer.try_enter();
            one.leave();
            waiting.join().unwrap();
            assert!(refused, "whoever waits keeps its place");
        });
        assert!(!one.try_enter());
        other.leave();
        assert!(one.try_enter());
        one.leave();
    }
}
