//! The record of running process groups. It stands in the consumer's lifeline file, so that whoever takes over can read it
//! even if consumer and guardian were killed together and a child has thrown its environment, and the mark with it, away.
//!
//! The file is text: a heading that names boot and process id namespace, and then one line of fixed width for every group
//! that runs, with the moment at which it was noted. A process is the one that was noted if it is not younger than that:
//! its number cannot have gone to another one while it ran. Nothing is ever flushed: the record is to survive processes,
//! not the machine, and no process survives that.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread};
use rustix::time::{ClockId, clock_gettime};

/// The width of the heading, its end of line included.
const HEADING: usize = 128;
/// The width of a line, its end included.
const LINE: usize = 32;
/// More than a consumer's slots could ever fill.
const READ_AT_MOST: usize = 1 << 20;
/// The unit of start times in `/proc`: hundredths of a second on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A process group that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Noted {
    /// The group, and the process that it is named after.
    pub(in crate::process) group: i32,
    /// When it was noted, in ticks since the system's start.
    pub(in crate::process) at: u64,
}

/// What a record says once its writer is gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::process) struct Told {
    /// The consumer ended in good order.
    pub(in crate::process) closed: bool,
    /// What ran when it ended.
    pub(in crate::process) running: Vec<Noted>,
    /// Whose file it is: what another user's process wrote is no reason to end processes of a third.
    pub(in crate::process) user: u32,
}

/// The writing side.
#[derive(Debug)]
pub(super) struct Record {
    file: Arc<File>,
    /// The group that stands in each line.
    lines: Vec<Option<i32>>,
}

impl Record {
    /// Begins the record of a consumer; where no file says that it lives, in memory.
    pub(super) fn begin(file: Option<Arc<File>>) -> io::Result<Self> {
        let file = match file {
            Some(file) => file,
            None => Arc::new(File::from(memfd_create("qctl-record", MemfdFlags::CLOEXEC)?)),
        };
        let record = Self {
            file,
            lines: Vec::new(),
        };
        record.file.set_len(0)?;
        record.put(0, HEADING, &heading("running"))?;
        Ok(record)
    }

    /// The file, for the guardian.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn add(&mut self, group: i32) {
        let line = self.lines.iter().position(Option::is_none).unwrap_or_else(|| {
            self.lines.push(None);
            self.lines.len() - 1
        });
        self.lines[line] = Some(group);
        self.write(line, &format!("{group} {}", now()));
    }

    pub(super) fn remove(&mut self, group: i32) {
        if let Some(line) = self.lines.iter().position(|known| *known == Some(group)) {
            self.lines[line] = None;
            self.write(line, "");
        }
    }

    /// All is well: nothing is to be ended.
    pub(super) fn close(self) {
        if self.lines.iter().all(Option::is_none) {
            // Otherwise the guardian looks around in vain, which does no harm.
            let _ = self.put(0, HEADING, &heading("closed"));
        }
    }

    fn write(&self, line: usize, text: &str) {
        if let Err(error) = self.put(HEADING + line * LINE, LINE, text) {
            tracing::debug!(%error, "a running child is not on record; the mark that it carries will have to do");
        }
    }

    fn put(&self, at: usize, width: usize, text: &str) -> io::Result<()> {
        let line = format!("{text:<width$}\n", width = width - 1);
        self.file.write_all_at(line.as_bytes(), at as u64)
    }
}

/// Reads a record. What was written on another machine, since another start or in another process id namespace tells
/// nothing: the numbers mean other processes here.
pub(in crate::process) fn read(file: impl AsFd) -> io::Result<Told> {
    let user = fstat(&file)?.st_uid;
    Ok(Told {
        user,
        ..understand(&String::from_utf8_lossy(&contents(file)?))
    })
}

fn understand(text: &str) -> Told {
    let mut lines = text.lines();
    let first = lines.next().map(str::trim_end);
    if first == Some(&heading("closed")) {
        return Told {
            closed: true,
            ..Told::default()
        };
    }
    if first != Some(&heading("running")) {
        return Told::default();
    }
    let noted = |line: &str| {
        let (group, at) = line.trim_end().split_once(' ')?;
        let (group, at) = (group.parse().ok()?, at.parse().ok()?);
        (group > 1).then_some(Noted { group, at })
    };
    Told {
        running: lines.filter_map(noted).collect(),
        ..Told::default()
    }
}

fn contents(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while text.len() < READ_AT_MOST {
        match pread(&file, &mut buffer, text.len() as u64) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(text)
}

fn heading(state: &str) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("qctl 1 {state} {} {}", boot.trim(), namespace.display())
}

/// Now, in ticks since the system's start.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let hundredths = u64::try_from(now.tv_nsec).unwrap_or(0) / 10_000_000;
    u64::try_from(now.tv_sec).unwrap_or(0) * TICKS_PER_SECOND + hundredths
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Noted, Record, Told, heading, now, read, understand};

    fn groups(told: &Told) -> Vec<i32> {
        told.running.iter().map(|noted| noted.group).collect()
    }

    #[test]
    fn the_record_says_what_runs_and_since_when() {
        let before = now();
        let mut record = Record::begin(None).unwrap();
        let file = record.file().try_clone().unwrap();
        assert_eq!(groups(&read(&file).unwrap()), [0; 0]);
        for group in [10, 11, 4_194_304] {
            record.add(group);
        }
        record.remove(10);
        record.remove(99);
        let told = read(&file).unwrap();
        assert!(!told.closed && told.running.iter().all(|noted| (before..=now()).contains(&noted.at)));
        assert_eq!(groups(&told), [11, 4_194_304]);
        record.add(12);
        assert_eq!(groups(&read(&file).unwrap()), [12, 11, 4_194_304]);
        // Told to close while something runs, it does not say that all is well.
        record.close();
        assert!(!read(&file).unwrap().closed);
    }

    #[test]
    fn many_groups_come_and_go_in_few_lines() {
        let mut record = Record::begin(None).unwrap();
        let file = record.file().try_clone().unwrap();
        for group in 2..5_000 {
            record.add(group);
            record.remove(group);
        }
        assert!(file.metadata().unwrap().len() < 200);
        record.close();
        assert!(read(&file).unwrap().closed);
    }

    #[test]
    fn what_is_of_another_boot_or_half_written_tells_nothing() {
        let line = "7 12\n";
        assert_eq!(
            understand(&format!("{}\n{line}x\n1 5\n-4 5\n8\n9 4", heading("running"))).running,
            [Noted { group: 7, at: 12 }, Noted { group: 9, at: 4 }]
        );
        let elsewhere = heading("running").replace("qctl 1", "qctl 2");
        for text in [String::new(), line.to_owned(), format!("{elsewhere}\n{line}")] {
            assert_eq!(understand(&text), Told::default());
        }
    }
}
