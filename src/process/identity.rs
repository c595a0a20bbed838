//! Telling a process from a later one with the same number: pid, start time, and the life of the system that both belong to.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::stat::Stat;

/// The boot and the pid namespace that process numbers mean something in. A number from another life names nobody here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Life(String);

impl Life {
    /// That of this process.
    pub fn current() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        // A container that is started again has the boot of before and all of its numbers anew.
        let namespace = fs::read_link("/proc/self/ns/pid")?;
        Ok(Self(format!("{} {}", boot.trim(), namespace.display())))
    }

    /// As it is written down.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One process, and no other that has had or will have its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it started, in ticks since the system's start.
    pub started: u64,
}

impl Identity {
    /// Of the living process with this number.
    pub fn of(pid: Pid) -> Option<Self> {
        let stat = Stat::of(pid).filter(|stat| stat.alive)?;
        Some(Self::seen(pid, &stat))
    }

    /// Of the process of which the system said this.
    pub fn seen(pid: Pid, stat: &Stat) -> Self {
        Self {
            pid: pid.as_raw_nonzero().get(),
            started: stat.started,
        }
    }

    /// Of this process.
    pub fn own() -> io::Result<Self> {
        Self::of(rustix::process::getpid()).ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// The process, if it still lives. The caller must know that the identity is of this [`Life`].
    pub fn find(self) -> Option<Found> {
        let pid = Pid::from_raw(self.pid)?;
        // Opened first: whatever has the number afterwards, the descriptor stays with the process that is looked at.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let stat = Stat::of(pid).filter(|stat| stat.alive && stat.started == self.started)?;
        Some(Found { pidfd, stat })
    }
}

/// A process that was found to be the one that was meant.
#[derive(Debug)]
pub struct Found {
    pidfd: OwnedFd,
    /// What the system said of it.
    pub stat: Stat,
}

impl Found {
    /// Signals it, or nobody.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Waits for its end; says whether it came in time.
    pub fn is_gone_by(&self, until: Instant) -> bool {
        ends_by(&self.pidfd, until)
    }
}

/// Waits for the end of a process; says whether it came in time.
pub(super) fn ends_by(pidfd: &OwnedFd, until: Instant) -> bool {
    let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
    matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref()), Ok(ready) if ready > 0)
}

/// Becomes readable at its end.
impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal};

    use super::{Identity, Life};

    #[test]
    fn only_the_very_process_is_found() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let known = Identity::of(Pid::from_child(&child)).unwrap();
        let recycled = Identity {
            started: known.started - 1,
            ..known
        };
        assert!(recycled.find().is_none());
        let found = known.find().unwrap();
        assert!(!found.is_gone_by(Instant::now()));
        found.signal(Signal::KILL).unwrap();
        assert!(found.is_gone_by(Instant::now() + Duration::from_secs(5)));
        // Dead, though its number is not given away before it is reaped.
        assert!(known.find().is_none());
        child.wait().unwrap();
        assert!(found.signal(Signal::KILL).is_err());
        assert_eq!(Life::current().unwrap(), Life::current().unwrap());
    }
}
