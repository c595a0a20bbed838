//! A worker's heartbeat: a small file that it writes over again and again, named by a variable in its environment.
//!
//! Any program may touch the file. qctl's own consumers write into it what they have done, for `status`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Timestamps, futimens};
use serde::{Deserialize, Serialize};

use super::files::{open_to_read, open_with_mode};

/// The variable that names the file.
pub const VARIABLE: &str = "QCTL_HEARTBEAT";

/// A consumer's heart beats this often.
pub const EVERY: Duration = Duration::from_secs(2);

/// The whole file: its blocks are there before it is needed, so that a full disk does not stop a heart.
const LENGTH: usize = 512;
/// More of an id than this is not told.
const LONGEST_ID: usize = 128;

/// What a consumer tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Counts up.
    pub count: u64,
    /// Whose it is.
    pub pid: u32,
    /// Messages settled as done.
    pub done: u64,
    /// Messages settled in any other way.
    pub failed: u64,
    /// The message settled last.
    pub last: Option<String>,
    /// When that was, in milliseconds since 1970.
    pub last_at: Option<i64>,
}

/// Where a consumer's beats go.
#[derive(Debug)]
pub struct Heart {
    file: File,
    count: u64,
}

impl Heart {
    /// Opens the file that the environment names; it must be there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        Ok(Self { file, count: 0 })
    }

    /// Writes a beat.
    pub fn beat(&mut self, mut beat: Beat) {
        self.count += 1;
        beat.count = self.count;
        if beat.last.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
            beat.last = None;
        }
        let mut bytes = serde_json::to_vec(&beat).unwrap_or_default();
        bytes.resize(LENGTH, b'\n');
        if self.file.write_all_at(&bytes, 0).is_err() {
            // Not even in place: the file's time says that there is life.
            let _ = futimens(&self.file, &now());
        }
    }
}

fn now() -> Timestamps {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    Timestamps {
        last_access: now,
        last_modification: now,
    }
}

/// What the file says; `None`: nothing that can be read.
pub fn read(path: &Path) -> Option<Beat> {
    let mut bytes = [0; LENGTH];
    let length = open_to_read(path).ok()?.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(bytes[..length].split(|byte| *byte == b'\n').next()?).ok()
}

/// Empties the file for a new worker, whose it will be.
pub(super) fn prepare(path: &Path, owner: Option<u32>) -> io::Result<File> {
    let file = open_with_mode(path, 0o644)?;
    file.write_all_at(&[b'\n'; LENGTH], 0)?;
    file.set_len(LENGTH as u64)?;
    if let Some(owner) = owner {
        std::os::unix::fs::fchown(&file, Some(owner), None)?;
    }
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_read_and_the_next_one_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beat");
        assert!(Heart::open(&path).is_err());
        prepare(&path, None).unwrap();
        assert_eq!(read(&path), None);
        let mut heart = Heart::open(&path).unwrap();
        let told = Beat {
            pid: 7,
            done: 3,
            last: Some("id".to_owned()),
            last_at: Some(5),
            ..Beat::default()
        };
        heart.beat(told.clone());
        assert_eq!(
            read(&path).unwrap(),
            Beat {
                count: 1,
                ..told.clone()
            }
        );
        heart.beat(Beat {
            last: Some("x".repeat(1000)),
            ..told.clone()
        });
        assert_eq!(
            read(&path).unwrap(),
            Beat {
                count: 2,
                last: None,
                ..told
            }
        );
    }
}
