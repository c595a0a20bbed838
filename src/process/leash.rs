//! A living child and the promise that it does not outlive its runner.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::guardian::Announced;

/// A living child. Whatever happens, it does not outlive this: dropped, its group is killed and it is reaped.
pub(super) struct Leash {
    child: Child,
    /// Holds the child's ends of the pipes open until it has ended.
    ends: Option<Command>,
    group: Pid,
    pidfd: Option<OwnedFd>,
    reaped: bool,
    /// Its line in the guardian's record.
    announced: Option<Announced>,
}

impl Leash {
    pub(super) fn new(child: Child, ends: Command, announced: Option<Announced>) -> Self {
        // Not yet reaped, so the pid cannot be anyone else's. Without a pidfd (an old kernel, no descriptor left) the
        // child's end is looked for instead.
        let group = Pid::from_child(&child);
        if let Some(announced) = &announced {
            announced.began(group.as_raw_nonzero().get());
        }
        let pidfd = pidfd_open(group, PidfdFlags::empty()).ok();
        Self {
            child,
            ends: Some(ends),
            group,
            pidfd,
            reaped: false,
            announced,
        }
    }

    /// Its process group, which is named after it.
    pub(super) fn group(&self) -> Pid {
        self.group
    }

    /// Signals the group, and the child by itself should it have moved to another one.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
        if getpgid(Some(self.group)).is_ok_and(|group| group != self.group) {
            match &self.pidfd {
                Some(pidfd) => drop(pidfd_send_signal(pidfd, signal)),
                None => drop(kill_process(self.group, signal)),
            }
        }
    }

    /// Becomes readable at the child's end; `None` where the system has none.
    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Whether the child has ended; `told` is what its pidfd says.
    pub(super) fn has_ended(&mut self, told: bool) -> bool {
        if self.pidfd.is_some() {
            return told;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    /// Takes the status of a child that has ended, after its group was killed and taken off the record: the unreaped child
    /// keeps the group's number from being given to anyone else until then.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        let _ = kill_process_group(self.group, Signal::KILL);
        self.announced = None;
        self.reaped = true;
        self.ends = None;
        self.child.wait().ok()
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            self.reap();
        }
    }
}
