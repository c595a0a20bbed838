//! Finding and ending the processes that carry an owner's mark, wherever they have gone: children, grandchildren, those
//! that left their group or session.
//!
//! A process is signalled through a pidfd that was opened before it was looked at (again): should its number have gone to
//! another process meanwhile, the look tells, or the signal reaches nobody. A group is signalled by its number too, since only
//! that reaches what a member is forking at that moment.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal};

use super::environment::OWNER;
use super::guardian::record::{self, Noted, Told};
use super::identity::ends_by;
use super::stat::{Stat, all_pids, environment_of, user_of};

/// How long what is left behind may take to be gone.
const LIMIT: Duration = Duration::from_secs(5);

/// What ending an owner's processes came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// So many processes were ended.
    pub ended: usize,
    /// So many could not be ended within 5 s.
    pub left: usize,
}

/// Kills every process that carries the mark `QCTL_OWNER=<token>`, until none is left or 5 s have passed.
///
/// For whoever takes over the messages of a consumer that is dead together with its guardian. The caller must know that no
/// process holds that owner's lifeline: then no marked child can be in the making either.
///
/// `lifeline` is that owner's file, if there is one. It says which process groups ran, so that those are ended too which
/// have thrown their environment away. Another user's word about processes that are not his is not taken: they are waited
/// for, not ended.
pub fn end_marked(token: &str, lifeline: Option<&File>) -> Sweep {
    let told = lifeline.and_then(|file| record::read(file).ok()).unwrap_or_default();
    sweep(Search::new(token, &told, false))
}

/// As [`end_marked`], for the guardian, who sees the consumer's death at once.
pub(super) fn end_left_behind(token: &str, told: &Told) -> Sweep {
    sweep(Search::new(token, told, true))
}

fn sweep(mut search: Search<'_>) -> Sweep {
    let until = Instant::now() + LIMIT;
    let mut killed = HashSet::new();
    let mut clean = 0;
    loop {
        let found = search.kill_once();
        if found.is_empty() {
            clean += 1;
            // One more look: a process may have been born behind the first one's back while its parent died before it.
            if clean == 2 {
                return Sweep {
                    ended: killed.len(),
                    left: 0,
                };
            }
            continue;
        }
        clean = 0;
        killed.extend(found.iter().map(|(pid, _)| *pid));
        let left = found
            .iter()
            .filter(|(_, pidfd)| !is_gone_by(pidfd.as_ref(), until))
            .count();
        if Instant::now() >= until {
            return Sweep {
                ended: killed.len().saturating_sub(left),
                left,
            };
        }
    }
}

/// What is to become of a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    End,
    /// It is the owner's by another user's word alone.
    Await,
}

struct Search<'a> {
    mark: Vec<u8>,
    told: &'a Told,
    /// The owner has died this moment.
    at_once: bool,
    own: Pid,
    group: i32,
    buffer: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(token: &str, told: &'a Told, at_once: bool) -> Self {
        let own = getpid();
        Self {
            mark: format!("{OWNER}={token}").into_bytes(),
            told,
            at_once,
            own,
            group: Stat::of(own).map_or(0, |stat| stat.group),
            buffer: Vec::new(),
        }
    }

    /// Looks at every process once and kills those that are to be ended; says which are still there. A process without a
    /// pidfd is one that could not be signalled.
    fn kill_once(&mut self) -> Vec<(Pid, Option<OwnedFd>)> {
        let pids = all_pids();
        let alone: HashMap<Pid, Fate> = pids
            .iter()
            .filter_map(|pid| Some((*pid, self.fate_of(*pid)?)))
            .collect();
        let groups = self.groups_of(&alone);
        let mut found = Vec::new();
        let mut to_end = Vec::new();
        for pid in pids {
            let grouped = || {
                Stat::of(pid)
                    .filter(|stat| stat.alive)
                    .and_then(|stat| groups.get(&stat.group))
            };
            if pid == self.own || !(alone.contains_key(&pid) || (!groups.is_empty() && grouped().is_some())) {
                continue;
            }
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => {
                    let fates = [self.fate_of(pid), grouped().copied()];
                    if fates.contains(&Some(Fate::End)) {
                        to_end.push(found.len());
                    }
                    if fates != [None, None] {
                        found.push((pid, Some(pidfd)));
                    }
                }
                Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => {}
                Err(_) => found.push((pid, None)),
            }
        }
        let whole = groups.iter().filter(|(_, fate)| **fate == Fate::End);
        for group in whole.filter_map(|(group, _)| Pid::from_raw(*group)) {
            // As a whole first: that reaches those too that a member is forking at this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
        for pidfd in to_end.into_iter().filter_map(|index: usize| found[index].1.as_ref()) {
            // One that is dead already needs no signal; one that may not be signalled is counted as left.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        found
    }

    /// The groups that are surely the owner's: one whose leader is marked; one that was noted and has a marked member;
    /// one that was noted and whose leader, though it has thrown its environment away, is no younger than the note; and, right
    /// after the owner's death, one that was noted and has lost its leader. What only the record tells of is ended or awaited,
    /// by whose word it is.
    fn groups_of(&self, alone: &HashMap<Pid, Fate>) -> HashMap<i32, Fate> {
        let mut groups = HashMap::new();
        for Noted { group, at, .. } in &self.told.running {
            let Some(group) = *group else { continue };
            match Pid::from_raw(group).and_then(|leader| Some((leader, Stat::of(leader)?))) {
                Some((leader, stat)) if stat.started <= *at => {
                    groups.insert(group, self.by_their_word(leader));
                }
                // As long as one member lives, the number cannot go to a new group: right after the end it is still theirs.
                None if self.at_once && self.told.user.is_some() => {
                    groups.insert(group, Fate::End);
                }
                _ => {}
            }
        }
        for pid in alone
            .iter()
            .filter(|(_, fate)| **fate == Fate::End)
            .map(|(pid, _)| *pid)
        {
            if let Some(stat) = Stat::of(pid)
                && (stat.group == pid.as_raw_nonzero().get()
                    || self.told.running.iter().any(|noted| noted.group == Some(stat.group)))
            {
                groups.insert(stat.group, Fate::End);
            }
        }
        groups.retain(|group, _| *group > 1 && *group != self.group);
        groups
    }

    /// What is to become of a process by itself, for its mark or for the pipe that it still writes to.
    fn fate_of(&mut self, pid: Pid) -> Option<Fate> {
        if self.is_marked(pid) {
            Some(Fate::End)
        } else if pid != self.own && self.holds_a_pipe(pid) {
            Some(self.by_their_word(pid))
        } else {
            None
        }
    }

    /// What is to become of a process that only the record tells of.
    fn by_their_word(&self, pid: Pid) -> Fate {
        match self.told.user {
            Some(0) => Fate::End,
            Some(user) if user_of(pid) == Some(user) => Fate::End,
            _ => Fate::Await,
        }
    }

    /// Whether standard output or error of a process is a pipe that was made for one of the owner's children.
    fn holds_a_pipe(&self, pid: Pid) -> bool {
        !self.told.running.is_empty()
            && [1, 2].into_iter().any(|descriptor| {
                let Ok(file) = fs::read_link(format!("/proc/{}/fd/{descriptor}", pid.as_raw_nonzero())) else {
                    return false;
                };
                let pipe = file
                    .to_str()
                    .and_then(|name| name.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok());
                pipe.is_some_and(|pipe: u64| self.told.running.iter().any(|noted| noted.pipe == pipe))
            })
    }

    /// Whether a process carries the mark. One that is dead, or not ours to look at, does not.
    fn is_marked(&mut self, pid: Pid) -> bool {
        environment_of(pid, &mut self.buffer).any(|entry| entry == self.mark)
    }
}

/// Waits for the end of a killed process.
fn is_gone_by(pidfd: Option<&OwnedFd>, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let Some(pidfd) = pidfd else {
        // Not to be signalled for want of a descriptor: a little later there may be one.
        thread::sleep(left.min(Duration::from_millis(10)));
        return false;
    };
    ends_by(pidfd, until)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use rustix::process::getuid;

    use super::{Noted, Pid, Search, Stat, Told};

    fn told(child: &Child, at: u64, user: Option<u32>) -> Told {
        let group = Pid::from_child(child).as_raw_nonzero().get();
        Told {
            closed: false,
            running: vec![Noted {
                group: Some(group),
                at,
                pipe: 0,
            }],
            user,
        }
    }

    #[test]
    fn a_noted_group_is_ended_unless_it_is_younger_or_another_users() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let started = Stat::of(Pid::from_child(&child)).unwrap().started;
        let user = getuid().as_raw();
        let mut look = |at, user: Option<u32>| {
            let told = told(&child, at, user);
            let found = Search::new("none", &told, false).kill_once().len();
            let ended = child.try_wait().unwrap().is_some();
            (found, ended)
        };
        // The number went to a younger process.
        assert_eq!(look(started - 1, Some(user)), (0, false));
        // Another user wrote that down, or could have: it is waited for.
        assert_eq!(look(started, Some(user + 1)), (1, false));
        assert_eq!(look(started, None), (1, false));
        assert_eq!(look(started, Some(user)).0, 1);
        assert!(!child.wait().unwrap().success());
    }
}
