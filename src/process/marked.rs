//! Finding and ending the processes that carry an owner's mark, wherever they have gone: children, grandchildren, those
//! that left their group or session.
//!
//! A process is only ever signalled through a pidfd that was opened before it was looked at (again): should its number
//! have gone to another process meanwhile, the look tells, or the signal reaches nobody.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use super::environment::OWNER;

/// How long what is left behind may take to be gone.
const LIMIT: Duration = Duration::from_secs(5);

/// More of an environment than the system lets a program have by default.
const ENVIRONMENT_LIMIT: u64 = 8 << 20;

/// The unit of start times in `/proc`: hundredths of a second on every Linux.
const TICKS_PER_SECOND: u64 = 100;

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
pub fn end_marked(token: &str) -> Sweep {
    end_left_behind(token, &[])
}

/// As [`end_marked`], and the process groups named too.
pub(super) fn end_left_behind(token: &str, groups: &[i32]) -> Sweep {
    let mut search = Search::new(token, groups);
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

struct Search {
    mark: Vec<u8>,
    groups: HashSet<i32>,
    own: Pid,
    group: i32,
    session: i32,
    /// The moment of the search's beginning, in ticks since the system's start.
    began: u64,
    buffer: Vec<u8>,
}

impl Search {
    fn new(token: &str, groups: &[i32]) -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let hundredths = u64::try_from(now.tv_nsec).unwrap_or(0) / 10_000_000;
        let own = getpid();
        let stat = Stat::of(own);
        Self {
            mark: format!("{OWNER}={token}").into_bytes(),
            groups: groups.iter().copied().collect(),
            own,
            group: stat.as_ref().map_or(0, |stat| stat.group),
            session: stat.map_or(-1, |stat| stat.session),
            began: u64::try_from(now.tv_sec).unwrap_or(0) * TICKS_PER_SECOND + hundredths,
            buffer: Vec::new(),
        }
    }

    /// Looks at every process once and kills those that are to be ended; says which. A process without a pidfd is one that
    /// could not be signalled.
    fn kill_once(&mut self) -> Vec<(Pid, Option<OwnedFd>)> {
        let pids = all_pids();
        let marked: HashSet<Pid> = pids.iter().copied().filter(|pid| self.is_marked(*pid)).collect();
        let groups = self.groups_to_end(&marked);
        let mut found = Vec::new();
        for pid in pids {
            let grouped = || Stat::of(pid).is_some_and(|stat| stat.alive && groups.contains(&stat.group));
            if pid == self.own || !(marked.contains(&pid) || (!groups.is_empty() && grouped())) {
                continue;
            }
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => {
                    if self.is_marked(pid) || grouped() {
                        found.push((pid, Some(pidfd)));
                    }
                }
                Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => {}
                Err(_) => found.push((pid, None)),
            }
        }
        for group in groups.iter().copied().filter_map(Pid::from_raw) {
            // As a whole first: that reaches those too that a member is forking at this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
        for pidfd in found.iter().filter_map(|(_, pidfd)| pidfd.as_ref()) {
            // One that is dead already needs no signal; one that may not be signalled is counted as left.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        found
    }

    /// The groups that are surely the owner's: one whose leader is marked; one that was told and has a marked member; and
    /// one that was told and whose leader, though it has thrown its environment away, is of the consumer's session and no
    /// younger than its end. (The number of a child that was told and not yet reaped could not become another's before.)
    fn groups_to_end(&self, marked: &HashSet<Pid>) -> HashSet<i32> {
        let mut groups = HashSet::new();
        for pid in marked {
            if let Some(stat) = Stat::of(*pid)
                && (stat.group == pid.as_raw_nonzero().get() || self.groups.contains(&stat.group))
            {
                groups.insert(stat.group);
            }
        }
        for group in &self.groups {
            if let Some(leader) = Pid::from_raw(*group).and_then(Stat::of)
                && leader.session == self.session
                && leader.started <= self.began
            {
                groups.insert(*group);
            }
        }
        groups.remove(&self.group);
        groups.retain(|group| *group > 1);
        groups
    }

    /// Whether a process carries the mark. One that is dead, or not ours to look at, does not.
    fn is_marked(&mut self, pid: Pid) -> bool {
        self.buffer.clear();
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let read = File::open(path).and_then(|file| file.take(ENVIRONMENT_LIMIT).read_to_end(&mut self.buffer));
        read.is_ok() && self.buffer.split(|byte| *byte == 0).any(|entry| entry == self.mark)
    }
}

fn all_pids() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// What `/proc/PID/stat` says. Read instead of asking `getpgid` and `getsid`: kernel threads, and processes whose group or
/// session began outside of this pid namespace, have the number 0 there, which is no [`Pid`].
struct Stat {
    alive: bool,
    group: i32,
    session: i32,
    /// In ticks since the system's start.
    started: u64,
}

impl Stat {
    fn of(pid: Pid) -> Option<Self> {
        let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The program's name, the second field, may itself hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self {
            alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
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
    let timeout = Timespec {
        tv_sec: left.as_secs().cast_signed(),
        tv_nsec: left.subsec_nanos().into(),
    };
    matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)), Ok(ready) if ready > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::process::{getpgid, getpid};

    use super::Stat;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let own = Stat::of(getpid()).unwrap();
        assert!(own.alive && own.started > 0);
        assert_eq!(own.group, getpgid(None).unwrap().as_raw_nonzero().get());
        let odd = "7 (a) Z (b) R 1 5 6 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0";
        let odd = Stat::parse(odd).unwrap();
        assert_eq!((odd.alive, odd.group, odd.session, odd.started), (true, 5, 6, 99));
        assert!(
            !Stat::parse("7 (x) Z 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0")
                .unwrap()
                .alive
        );
        assert!(Stat::parse("7 (x").is_none() && Stat::parse("").is_none());
    }
}
