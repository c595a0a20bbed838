//! What a keeper writes down of its instance, for those who look and for the keeper that comes after it.
//!
//! The record is written over in place, in a file whose blocks were there from the start: a full disk does not keep it from
//! being written, and a reader that meets a half-written one sees that by its checksum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::folder::InstanceId;
use crate::process::{Identity, Life, uptime};

/// The whole file.
const LENGTH: usize = 4096;
/// A reader meets a writer this often at most.
const TRIES: u32 = 5;

/// In which state an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Its worker was started and has not shown that it works.
    Starting,
    /// It works.
    Running,
    /// It failed, and is started again after a while.
    Backoff,
    /// Its end said that its configuration is wrong; it is started again when that has changed, and now and then.
    Parked,
    /// It was asked to end.
    Stopping,
    /// It ended, and nobody keeps it.
    Stopped,
}

impl State {
    /// In one word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Parked => "parked",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// How a worker ended last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why, in words.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// How long it had run, in milliseconds.
    pub ran: u64,
}

/// A keeper's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Whose it is.
    pub id: InstanceId,
    /// The boot and pid namespace that all of it is of.
    pub life: Life,
    /// The keeper.
    pub keeper: Identity,
    /// The worker, while there is one.
    pub worker: Option<Identity>,
    /// The state.
    pub state: State,
    /// Its keeper was asked to end, and will not start it again.
    pub is_last: bool,
    /// When the state began, in milliseconds of the boot's clock.
    pub since: u64,
    /// When the worker was started, in milliseconds since 1970.
    pub started: Option<i64>,
    /// When it is started again, in milliseconds of the boot's clock.
    pub next: Option<u64>,
    /// So often it was started again.
    pub restarts: u64,
    /// Failures one after the other.
    pub failures: u32,
    /// How it ended last.
    pub last: Option<LastEnd>,
    /// The configuration that it runs with.
    pub digest: String,
    /// The file that configures it.
    pub config: String,
}

impl Record {
    /// Whether it was written in this life of the system.
    pub(super) fn is_of(&self, life: &Life) -> bool {
        self.life == *life
    }

    /// Whether the keeper that wrote it, if it has ended, may have left something that runs.
    pub(super) fn is_unclean(&self, life: &Life) -> bool {
        self.is_of(life) && self.state != State::Stopped && (self.worker.is_some() || self.state == State::Starting)
    }

    /// Reads the record; `None`: there is none that can be read.
    pub(super) fn read(file: &File) -> Option<Self> {
        for _ in 0..TRIES {
            let mut bytes = [0; LENGTH];
            let length = file.read_at(&mut bytes, 0).ok()?;
            if bytes[..length].iter().all(|byte| matches!(byte, 0 | b'\n')) {
                return None;
            }
            if let Some(record) = Self::parse(&bytes[..length]) {
                return Some(record);
            }
            thread::sleep(Duration::from_millis(1));
        }
        None
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        let (json, sum) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
        if u64::from_str_radix(sum, 16).ok()? != checksum(json.as_bytes()) {
            return None;
        }
        serde_json::from_str(json).ok()
    }

    /// Writes it over the one before.
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        let mut record = self.clone();
        let mut line = record.line()?;
        if line.len() > LENGTH {
            // Only words of others can be that long.
            record.last = None;
            record.config.clear();
            line = record.line()?;
        }
        line.resize(LENGTH, b'\n');
        file.write_all_at(&line, 0)
    }

    fn line(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{json} {:016x}\n", checksum(json.as_bytes())).into_bytes())
    }
}

/// Sees to it that a record can be written later, whatever becomes of the disk.
pub(super) fn reserve(file: &File) -> io::Result<()> {
    if file.metadata()?.len() < LENGTH as u64 {
        file.write_all_at(&[b'\n'; LENGTH], 0)?;
    }
    Ok(())
}

/// FNV-1a: tells a torn record from a whole one, no more.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Milliseconds of the boot's clock, which no one can set.
pub(super) fn boot_now() -> u64 {
    uptime().as_millis() as u64
}

/// Milliseconds since 1970.
pub(super) fn wall_now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    pub(in crate::watchdog) fn record() -> Record {
        Record {
            id: InstanceId {
                worker: "w".to_owned(),
                number: 1,
            },
            life: Life::current().unwrap(),
            keeper: Identity::own().unwrap(),
            worker: None,
            state: State::Backoff,
            is_last: false,
            since: 1,
            started: Some(2),
            next: Some(3),
            restarts: 4,
            failures: 5,
            last: Some(LastEnd {
                code: Some(1),
                signal: None,
                reason: "x".to_owned(),
                at: 6,
                ran: 7,
            }),
            digest: "d".to_owned(),
            config: "/c".to_owned(),
        }
    }

    #[test]
    fn a_record_comes_back_and_a_broken_one_does_not() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Record::read(&file), None);
        reserve(&file).unwrap();
        assert_eq!(Record::read(&file), None);
        let mut record = record();
        record.write(&file).unwrap();
        assert_eq!(Record::read(&file), Some(record.clone()));
        // A shorter one leaves nothing of the longer one behind.
        record.last = None;
        record.write(&file).unwrap();
        assert_eq!(Record::read(&file), Some(record.clone()));
        assert_eq!(file.metadata().unwrap().len(), LENGTH as u64);
        for length in [0, 1, 40, 100, 200] {
            record.write(&file).unwrap();
            file.set_len(length).unwrap();
            assert_eq!(Record::read(&file), None, "cut to {length}");
        }
        record.write(&file).unwrap();
        file.write_all_at(b"!", 10).unwrap();
        assert_eq!(Record::read(&file), None);
    }

    #[test]
    fn words_too_long_are_left_out() {
        let file = tempfile::tempfile().unwrap();
        let mut record = record();
        record.last.as_mut().unwrap().reason = "x".repeat(LENGTH);
        record.write(&file).unwrap();
        assert_eq!(Record::read(&file).unwrap().last, None);
    }
}
