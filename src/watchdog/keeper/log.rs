//! A worker's log: what it prints, in a file that is put aside when it has grown big.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::watchdog::files::{is_at, open_plain};

/// The file. What cannot be written is lost and counted: a full disk must not stop a worker that prints.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
    keep: u32,
    lost: u64,
}

impl Log {
    pub(super) fn open(path: PathBuf, limit: u64, keep: u32) -> Self {
        let mut log = Self {
            path,
            file: None,
            size: 0,
            limit,
            keep,
            lost: 0,
        };
        log.reopen();
        log
    }

    /// What is wrong with it, for whoever started the worker.
    pub(super) fn trouble(&self) -> Option<String> {
        self.file.is_none().then(|| {
            format!(
                "its log {} cannot be written (a link, another user's file, no permission, or no room), and is lost",
                self.path.display()
            )
        })
    }

    fn reopen(&mut self) {
        self.file = open(&self.path).ok();
        self.size = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |facts| facts.len());
    }

    /// Goes on in a new file where somebody has moved or removed the old one.
    pub(super) fn follow(&mut self) {
        if self.file.as_ref().is_none_or(|file| !is_at(file, &self.path)) {
            self.reopen();
        }
    }

    /// Appends what the worker has printed.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.limit > 0 && self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            self.put_aside();
        }
        if self.lost > 0 {
            let told = format!(
                "{} qctl: {} bytes were lost here: the log could not be written\n",
                now(),
                self.lost
            );
            if self.write(told.as_bytes()) {
                self.lost = 0;
            }
        }
        if !self.write(bytes) {
            self.lost += bytes.len() as u64;
        }
    }

    /// For a process that appends to it by itself.
    pub(super) fn writer(&self) -> Option<File> {
        self.file.as_ref()?.try_clone().ok()
    }

    /// Appends a line of the keeper's own.
    pub(super) fn note(&mut self, text: &str) {
        self.append(format!("{} qctl: {text}\n", now()).as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        let written = file.write_all(bytes).is_ok();
        if written {
            self.size += bytes.len() as u64;
        }
        written
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, and the oldest goes.
    fn put_aside(&mut self) {
        let aside = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let moved = if self.keep == 0 {
            fs::remove_file(&self.path)
        } else {
            for number in (1..self.keep).rev() {
                let _ = fs::rename(aside(number), aside(number + 1));
            }
            fs::rename(&self.path, aside(1))
        };
        // Where it cannot be moved it goes on growing: better long than lost.
        if moved.is_ok() {
            self.reopen();
        }
    }
}

/// Opens the file itself. Where the keeper is root and the folder is the worker's user's, a link there could have the worker's
/// words written into any file.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let file = open_plain(OpenOptions::new().append(true).create(true).mode(0o640), path)?;
    let facts = file.metadata()?;
    let is_own = facts.uid() == rustix::process::geteuid().as_raw();
    if facts.nlink() == 1 && is_own {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it is not a file of its own",
    ))
}

/// The moment, as it stands before lines and in events.
pub(super) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_big_log_is_put_aside_and_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/w.1.log");
        let mut log = Log::open(path.clone(), 10, 2);
        for text in ["one-one-", "two-two-", "three-", "four", "five-five-"] {
            log.append(text.as_bytes());
        }
        let read = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).unwrap_or_default();
        assert_eq!(read("w.1.log"), "five-five-");
        assert_eq!(read("w.1.log.1"), "three-four");
        assert_eq!(read("w.1.log.2"), "two-two-");
        assert_eq!(read("w.1.log.3"), "");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("other"), "").unwrap();
        std::os::unix::fs::symlink(path("other"), path("soft.log")).unwrap();
        std::os::unix::fs::symlink(path("new"), path("dangling.log")).unwrap();
        fs::hard_link(path("other"), path("hard.log")).unwrap();
        for name in ["soft.log", "dangling.log", "hard.log"] {
            let mut log = Log::open(path(name), 0, 2);
            log.append(b"words");
            assert!(log.trouble().is_some_and(|why| why.contains(name)));
        }
        assert_eq!(fs::read_to_string(path("other")).unwrap(), "");
        assert!(!path("new").exists());
    }

    #[test]
    fn it_goes_on_where_the_file_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.log");
        let mut log = Log::open(path.clone(), 0, 2);
        log.append(b"a");
        fs::remove_file(&path).unwrap();
        log.follow();
        log.append(b"b");
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
    }

    #[test]
    fn what_is_lost_is_told_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.log");
        fs::create_dir(&path).unwrap();
        let mut log = Log::open(path.clone(), 0, 2);
        assert!(log.trouble().is_some());
        log.append(b"gone");
        fs::remove_dir(&path).unwrap();
        log.follow();
        log.append(b"there\n");
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("4 bytes were lost") && text.ends_with("there\n"),
            "{text}"
        );
    }
}
