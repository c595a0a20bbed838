//! Ending what a worker has left behind. The keeper adopts all of it, so nothing gets away: when it has no child left, nothing
//! is left.

use std::collections::HashMap;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, wait};

use crate::process::guardian::is_companion;
use crate::process::{Identity, Stat, all_pids};

/// What was found when looking for children that have ended.
#[derive(Debug, Default)]
pub(in crate::watchdog) struct Reaped {
    /// Those that have, and how.
    pub(super) ended: Vec<(Pid, WaitStatus)>,
    /// There are others that live.
    pub(in crate::watchdog) left: bool,
}

impl Reaped {
    /// How this one has ended, if it has.
    pub(super) fn of(&self, child: Pid) -> Option<WaitStatus> {
        let found = self.ended.iter().find(|(pid, _)| *pid == child);
        found.map(|(_, status)| *status)
    }
}

/// Takes the status of every child that has ended, one's own and adopted ones.
pub(in crate::watchdog) fn reap() -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(ended)) => reaped.ended.push(ended),
            Ok(None) => {
                reaped.left = true;
                return reaped;
            }
            Err(Errno::INTR) => {}
            Err(_) => return reaped,
        }
    }
}

/// Whether there is a child that is none of these. They must not have been waited for.
pub(super) fn has_others(these: &[Pid]) -> bool {
    let own = getpid().as_raw_nonzero().get();
    all_pids()
        .into_iter()
        .filter(|pid| !these.contains(pid))
        .any(|pid| Stat::of(pid).is_some_and(|stat| stat.parent == own))
}

/// Kills every descendant, but for these children and what they have started. The guardian of a consumer is spared as long as `patient`: it ends the consumer's children in the
/// right order, and then itself.
pub(super) fn kill(patient: bool, spared: &[Pid]) {
    let mut children: HashMap<i32, Vec<Identity>> = HashMap::new();
    for pid in all_pids() {
        if let Some(stat) = Stat::of(pid) {
            children
                .entry(stat.parent)
                .or_default()
                .push(Identity::seen(pid, &stat));
        }
    }
    let mut open = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if spared.iter().any(|pid| pid.as_raw_nonzero().get() == child.pid) {
                continue;
            }
            open.push(child.pid);
            let is_spared = || patient && Pid::from_raw(child.pid).is_some_and(is_companion);
            if let Some(found) = child.find()
                && !is_spared()
            {
                // Where it is not allowed (a program with other rights) its end is waited for.
                let _ = found.signal(Signal::KILL);
            }
        }
    }
}
