//! What the system says of its processes, read from `/proc`.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

/// How long the system has been up, its sleep included: a clock that nobody can set.
pub fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// The numbers of all processes that can be seen from here.
pub fn all_pids() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Whose process it is.
pub fn user_of(pid: Pid) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{}", pid.as_raw_nonzero())).ok()?.uid())
}

/// More of an environment than the system lets a program have by default.
const ENVIRONMENT_LIMIT: u64 = 8 << 20;

/// Reads the environment that a process was started with into `buffer`, and gives its entries, `NAME=VALUE` each; none of a
/// process that is dead, or not ours to look at.
pub fn environment_of(pid: Pid, buffer: &mut Vec<u8>) -> impl Iterator<Item = &[u8]> {
    buffer.clear();
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    let read = File::open(path).and_then(|file| file.take(ENVIRONMENT_LIMIT).read_to_end(buffer));
    if read.is_err() {
        buffer.clear();
    }
    buffer.split(|byte| *byte == 0)
}

/// What `/proc/PID/stat` says. Read instead of asking `getpgid`: kernel threads, and processes whose group began outside
/// of this pid namespace, have the number 0 there, which is no [`Pid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// It has not ended; one that waits to be reaped has.
    pub alive: bool,
    /// It is suspended by a signal such as SIGSTOP, or by a debugger.
    pub suspended: bool,
    /// The number of its parent.
    pub parent: i32,
    pub(super) group: i32,
    /// In ticks since the system's start.
    pub started: u64,
    /// Pages of memory in use.
    pages: u64,
}

impl Stat {
    /// Of a process; `None`: there is none with this number.
    pub fn of(pid: Pid) -> Option<Self> {
        // Far more than it ever is; a whole reading of the file costs two more calls.
        let mut text = [0; 1024];
        let length = File::open(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .ok()?
            .read(&mut text)
            .ok()?;
        Self::parse(&String::from_utf8_lossy(&text[..length]))
    }

    /// The memory it has in use, in bytes; what is shared is counted for each.
    pub fn memory(&self) -> u64 {
        self.pages * rustix::param::page_size() as u64
    }

    /// The program's name, the second field, may itself hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let started = fields.nth(16)?.parse().ok()?;
        let pages = fields.nth(1)?.parse().ok()?;
        Some(Self {
            alive: !matches!(state, "Z" | "X" | "x"),
            suspended: matches!(state, "T" | "t"),
            parent,
            group,
            started,
            pages,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::process::{getpgid, getpid, getppid};

    use super::Stat;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let own = Stat::of(getpid()).unwrap();
        assert!(own.alive && !own.suspended && own.started > 0 && own.memory() > 100_000);
        assert_eq!(own.group, getpgid(None).unwrap().as_raw_nonzero().get());
        assert_eq!(own.parent, getppid().unwrap().as_raw_nonzero().get());
        let odd = "7 (a) Z (b) R 1 5 6 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 4096 3 0";
        let odd = Stat::parse(odd).unwrap();
        assert_eq!((odd.alive, odd.group, odd.started, odd.pages), (true, 5, 99, 3));
        let dead = Stat::parse("7 (x) Z 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0 0").unwrap();
        assert!(!dead.alive);
        assert!(Stat::parse("7 (x").is_none() && Stat::parse("").is_none());
    }
}
