//! The record of running process groups. It stands in the consumer's lifeline file, so that whoever takes over can read it
//! even if consumer and guardian were killed together and a child has thrown its environment, and the mark with it, away.
//!
//! The file is text: a heading that names boot and process id namespace, and then one line of fixed width for every child:
//! its group, the moment at which that was noted, and the inode of the pipe that its output goes to. A process is the one
//! that was noted if it is not younger than the note: its number cannot have gone to another one while it ran. The pipe is
//! noted before the child is started, so that there is no moment at which it runs and nothing is known of it. Nothing is ever flushed: the record is to survive processes,
//! not the machine, and no process survives that.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FileType, MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread};

use crate::process::{Life, uptime};

/// The width of the heading, its end of line included.
const HEADING: usize = 128;
/// The width of a line, its end included.
const LINE: usize = 48;
/// More than a consumer's slots could ever fill.
const READ_AT_MOST: usize = 1 << 20;
/// The unit of start times in `/proc`: hundredths of a second on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A child that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Noted {
    /// Its group, which is named after it; `None`: it was about to be started.
    pub(in crate::process) group: Option<i32>,
    /// When that was noted, in ticks since the system's start.
    pub(in crate::process) at: u64,
    /// The pipe that takes its standard output.
    pub(in crate::process) pipe: u64,
}

/// What a record says once its writer is gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::process) struct Told {
    /// The consumer ended in good order.
    pub(in crate::process) closed: bool,
    /// What ran when it ended.
    pub(in crate::process) running: Vec<Noted>,
    /// Whose processes may be ended by it: those of the file's owner, who alone could write it. `None`: others could too,
    /// and what they say is no reason to end anything.
    pub(in crate::process) user: Option<u32>,
}

/// The writing side.
#[derive(Debug)]
pub(super) struct Record {
    file: Arc<File>,
    /// Whether each line is taken.
    lines: Vec<bool>,
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

    /// A child is about to be started whose output goes to this pipe; returns its line.
    pub(super) fn announce(&mut self, pipe: u64) -> usize {
        let line = self.lines.iter().position(|taken| !taken).unwrap_or_else(|| {
            self.lines.push(false);
            self.lines.len() - 1
        });
        self.lines[line] = true;
        self.write(line, &format!("0 {} {pipe}", now()));
        line
    }

    /// The child of this line runs.
    pub(super) fn began(&self, line: usize, group: i32, pipe: u64) {
        self.write(line, &format!("{group} {} {pipe}", now()));
    }

    pub(super) fn remove(&mut self, line: usize) {
        self.lines[line] = false;
        self.write(line, "");
    }

    /// All is well: nothing is to be ended.
    pub(super) fn close(self) {
        if !self.lines.contains(&true) {
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
    let stat = fstat(&file)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    // One name, and no writer but its owner; a file in memory, which the guardian inherits, has no name at all.
    let own = regular && (stat.st_nlink == 0 || stat.st_nlink == 1 && stat.st_mode & 0o022 == 0);
    Ok(Told {
        user: own.then_some(stat.st_uid),
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
        let mut words = line.split_ascii_whitespace();
        let group: i32 = words.next()?.parse().ok()?;
        let (at, pipe) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let group = (group != 0).then_some(group);
        // What has no end may be half written.
        let whole = line.len() == LINE - 1 && group.is_none_or(|group| group > 1);
        whole.then_some(Noted { group, at, pipe })
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
    let life = Life::current().ok();
    format!("qctl 1 {state} {}", life.as_ref().map_or(" ", Life::as_str))
}

/// Now, in ticks since the system's start.
fn now() -> u64 {
    let up = uptime();
    up.as_secs() * TICKS_PER_SECOND + u64::from(up.subsec_millis()) / 10
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::{Noted, Record, Told, heading, now, read, understand};

    fn groups(told: &Told) -> Vec<Option<i32>> {
        told.running.iter().map(|noted| noted.group).collect()
    }

    #[test]
    fn the_record_says_what_runs_and_since_when() {
        let before = now();
        let mut record = Record::begin(None).unwrap();
        let file = record.file().try_clone().unwrap();
        assert_eq!(groups(&read(&file).unwrap()), []);
        let lines: Vec<usize> = (0..3).map(|pipe| record.announce(pipe)).collect();
        record.began(lines[1], 11, 1);
        record.began(lines[2], 4_194_304, u64::from(u32::MAX));
        let told = read(&file).unwrap();
        assert!(!told.closed && told.running.iter().all(|noted| (before..=now()).contains(&noted.at)));
        assert_eq!(groups(&told), [None, Some(11), Some(4_194_304)]);
        assert_eq!(told.running[2].pipe, u64::from(u32::MAX));
        record.remove(lines[0]);
        assert_eq!(groups(&read(&file).unwrap()), [Some(11), Some(4_194_304)]);
        assert_eq!(record.announce(9), lines[0]);
        // Told to close while something runs, it does not say that all is well.
        record.close();
        assert!(!read(&file).unwrap().closed);
    }

    #[test]
    fn many_groups_come_and_go_in_few_lines() {
        let mut record = Record::begin(None).unwrap();
        let file = record.file().try_clone().unwrap();
        for group in 2..5_000 {
            let line = record.announce(7);
            record.began(line, group, 7);
            record.remove(line);
        }
        assert!(file.metadata().unwrap().len() < 200);
        record.close();
        assert!(read(&file).unwrap().closed);
    }

    #[test]
    fn what_is_of_another_boot_or_half_written_tells_nothing() {
        let line = |text: &str| format!("{text:<47}\n");
        let lines = [
            line("7 12 3"),
            line("x"),
            line("1 5 3"),
            line("-4 5 3"),
            line("8 2"),
            "9 4 3\n".to_owned(),
        ]
        .concat();
        assert_eq!(
            understand(&format!("{}\n{lines}", heading("running"))).running,
            [Noted {
                group: Some(7),
                at: 12,
                pipe: 3
            }]
        );
        let elsewhere = heading("running").replace("qctl 1", "qctl 2");
        for text in [String::new(), lines.clone(), format!("{elsewhere}\n{lines}")] {
            assert_eq!(understand(&text), Told::default());
        }
    }

    #[test]
    fn a_record_that_others_may_write_is_nobodys_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let user = |mode| {
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            read(&file).unwrap().user
        };
        let own = user(0o640);
        assert!(own.is_some());
        assert_eq!([user(0o660), user(0o602)], [None, None]);
        std::fs::hard_link(&path, folder.path().join("another")).unwrap();
        assert_eq!(user(0o640), None);
        assert_eq!(read(Record::begin(None).unwrap().file()).unwrap().user, own);
    }
}
