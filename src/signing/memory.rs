//! What was done, remembered on this host: a file for each queue, to which all its consumers append.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The bytes of a record: a mark, and when it was sent.
const RECORD: usize = 24;
/// A file with more than twice as many records as are still of use, and more than this, is written anew.
const WORTH_IT: usize = 4096;

/// What stands for a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    digest: [u8; 16],
    sent_at: i64,
}

impl Mark {
    pub(super) fn of(key: &str, id: &str, sent_at: i64, code: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [key.as_bytes(), id.as_bytes(), code] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self { digest, sent_at }
    }

    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..16].copy_from_slice(&self.digest);
        bytes[16..].copy_from_slice(&self.sent_at.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            digest: bytes.get(..16)?.try_into().ok()?,
            sent_at: i64::from_be_bytes(bytes.get(16..RECORD)?.try_into().ok()?),
        })
    }
}

/// Remembers what was done with the messages of one queue, for a time. What another process on this host appends is read
/// before each answer.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    keep: Duration,
    file: Option<File>,
    /// The file that was read, and how far.
    inode: u64,
    read: u64,
    known: HashMap<[u8; 16], i64>,
}

impl Memory {
    /// The memory in this file, whose folder is made if it is not there. Nothing is kept for longer than `keep`.
    pub fn at(path: impl Into<PathBuf>, keep: Duration) -> Self {
        Self {
            path: path.into(),
            keep,
            file: None,
            inode: 0,
            read: 0,
            known: HashMap::new(),
        }
    }

    /// Opens it, so that one that cannot be had is told before anything is handled.
    pub fn prepare(&mut self) -> Result<()> {
        self.catch_up()
            .map_err(|error| Error::unwritable(self.path.display(), error))
    }

    /// Whether it was done.
    pub(super) fn knows(&mut self, mark: &Mark) -> io::Result<bool> {
        self.catch_up()?;
        Ok(self.known.contains_key(&mark.digest))
    }

    /// Remembers one.
    pub(super) fn remember(&mut self, mark: Mark) -> io::Result<()> {
        self.catch_up()?;
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("it is not open"));
        };
        // Held for one write: whoever writes the file anew has it alone.
        flock(&*file, FlockOperation::LockShared)?;
        let written = file.write_all(&mark.to_bytes());
        flock(&*file, FlockOperation::Unlock)?;
        written?;
        self.known.insert(mark.digest, mark.sent_at);
        Ok(())
    }

    /// Reads what was appended since it was last read.
    fn catch_up(&mut self) -> io::Result<()> {
        let facts = fs::metadata(&self.path);
        let is_same = facts
            .as_ref()
            .is_ok_and(|facts| self.file.is_some() && facts.ino() == self.inode);
        if !is_same {
            self.open()?;
        } else if facts.is_ok_and(|facts| facts.len() == self.read) {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.len() / RECORD * RECORD;
        for mark in bytes[..whole].chunks_exact(RECORD).filter_map(Mark::from_bytes) {
            self.known.insert(mark.digest, mark.sent_at);
        }
        self.read += whole as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        self.tidy()?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        self.inode = file.metadata()?.ino();
        self.read = 0;
        self.known.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Writes the file anew without what is too old to be of use.
    fn tidy(&self) -> io::Result<()> {
        let Ok(mut file) = OpenOptions::new().read(true).write(true).open(&self.path) else {
            return Ok(());
        };
        // Who cannot have it alone leaves it to another time.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest = i64::try_from(now.saturating_sub(self.keep).as_millis()).unwrap_or(i64::MAX);
        let all = bytes.len() / RECORD;
        let kept: Vec<u8> = bytes
            .chunks_exact(RECORD)
            .filter(|record| Mark::from_bytes(record).is_some_and(|mark| mark.sent_at >= oldest))
            .flatten()
            .copied()
            .collect();
        let is_torn = !bytes.len().is_multiple_of(RECORD);
        if !is_torn && (all < WORTH_IT || kept.len() / RECORD * 2 > all) {
            return Ok(());
        }
        let beside = beside(&self.path);
        let mut new = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        new.write_all(&kept)?;
        fs::rename(&beside, &self.path)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn now() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
    }

    fn mark(id: u32, sent_at: i64) -> Mark {
        Mark::of("k", &id.to_string(), sent_at, b"code")
    }

    #[test]
    fn what_one_remembers_the_other_knows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing/mail.seen");
        let (mut one, mut other) = (
            Memory::at(&path, Duration::from_hours(1)),
            Memory::at(&path, Duration::from_hours(1)),
        );
        let sent_at = now();
        assert!(!one.knows(&mark(1, sent_at)).unwrap() && !other.knows(&mark(1, sent_at)).unwrap());
        one.remember(mark(1, sent_at)).unwrap();
        assert!(other.knows(&mark(1, sent_at)).unwrap() && one.knows(&mark(1, sent_at)).unwrap());
        assert!(!other.knows(&mark(2, sent_at)).unwrap());
        other.remember(mark(2, sent_at)).unwrap();
        assert!(one.knows(&mark(2, sent_at)).unwrap());
        let mut third = Memory::at(&path, Duration::from_hours(1));
        assert!(third.knows(&mark(1, sent_at)).unwrap() && third.knows(&mark(2, sent_at)).unwrap());
    }

    #[test]
    fn what_is_too_old_is_forgotten_when_the_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mail.seen");
        let mut one = Memory::at(&path, Duration::from_hours(1));
        let sent_at = now();
        for id in 0..WORTH_IT as u32 {
            one.remember(mark(id, sent_at - 7_200_000)).unwrap();
        }
        one.remember(mark(WORTH_IT as u32, sent_at)).unwrap();
        let mut next = Memory::at(&path, Duration::from_hours(1));
        assert!(next.knows(&mark(WORTH_IT as u32, sent_at)).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), RECORD as u64);
        // The one that has the old file open goes on with the new one.
        next.remember(mark(99_999, sent_at)).unwrap();
        assert!(one.knows(&mark(99_999, sent_at)).unwrap());
    }

    #[test]
    fn a_torn_record_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mail.seen");
        let sent_at = now();
        Memory::at(&path, Duration::from_hours(1))
            .remember(mark(1, sent_at))
            .unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"torn").unwrap();
        let mut next = Memory::at(&path, Duration::from_hours(1));
        assert!(next.knows(&mark(1, sent_at)).unwrap());
        next.remember(mark(2, sent_at)).unwrap();
        assert!(
            Memory::at(&path, Duration::from_hours(1))
                .knows(&mark(2, sent_at))
                .unwrap()
        );
    }
}
