//! What happens to workers, written down: one JSON document a line, in a file that everyone appends to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// A journal of this size is put aside; the one before it goes.
const LARGEST: u64 = 4 << 20;

/// Something that has happened to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvent {
    /// When, as RFC 3339 has it.
    pub time: String,
    /// What.
    pub event: ProcessEventKind,
    /// The worker.
    pub worker: String,
    /// Which of its instances.
    pub instance: u32,
    /// The process; `None`: it could not be started.
    pub pid: Option<i32>,
    /// Why.
    pub reason: String,
}

/// What can happen to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEventKind {
    /// It was started.
    ProcessStarted,
    /// It has ended.
    ProcessStopped,
}

impl ProcessEventKind {
    /// As events are called everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProcessStarted => "process_started",
            Self::ProcessStopped => "process_stopped",
        }
    }
}

/// The file that events are appended to.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal at this path. It is opened for each event: there are few.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Appends an event.
    pub fn append(&self, event: &ProcessEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut file = self.open()?;
        if file.metadata()?.len() > LARGEST && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Whoever has the lock moves it; an event that another one appends meanwhile moves with it.
            if is_still_large(&self.path) {
                let mut aside = self.path.clone().into_os_string();
                aside.push(".1");
                fs::rename(&self.path, aside)?;
            }
            file = self.open()?;
        }
        // In one call, so that lines of several writers do not mix.
        file.write_all(&line)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(&self.path)
    }
}

fn is_still_large(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.len() > LARGEST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_large_journal_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let event = ProcessEvent {
            time: "2026-01-01T00:00:00Z".to_owned(),
            event: ProcessEventKind::ProcessStarted,
            worker: "mail".to_owned(),
            instance: 1,
            pid: Some(7),
            reason: "wanted".to_owned(),
        };
        let journal = Journal::at(&path);
        journal.append(&event).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"time\":\"2026-01-01T00:00:00Z\",\"event\":\"process_started\",\"worker\":\"mail\",\"instance\":1,\"pid\":7,\"reason\":\"wanted\"}\n"
        );
        fs::write(&path, vec![b'\n'; (LARGEST + 1) as usize]).unwrap();
        journal.append(&event).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 200);
        assert!(fs::metadata(folder.path().join("events.jsonl.1")).unwrap().len() > LARGEST);
    }
}
