//! The watchdog's folder: a lock and record for each instance, what the operator wishes, and the key of the digests.
//!
//! ```text
//! key             random bytes that digests of configurations are made with
//! listeners.json  the workers that listeners hear of
//! events.jsonl    what was started and stopped, one JSON document a line
//! W.stopped       the operator wants worker W stopped
//! W.turn          locked by the keeper of W that restarts its instance in turn
//! W.run           locked by whoever keeps W in the foreground
//! W.N.lock        locked by the keeper of instance N
//! W.N.next        locked by the keeper that is to take over
//! W.N.state       the keeper's record
//! W.N.telling     locked by whoever tells listeners of instance N
//! W.N.beat        the worker's heartbeat
//! log/W.N.log     what the worker prints
//! ```
//!
//! Locks are files of their own that nobody else may open: whoever can open a file can lock it. Records may be read by all.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{open, open_to_read, open_with_mode, try_lock, unwritable};
use super::record::Record;
use crate::error::{Error, Result};

/// Its name within the folder of the state.
const NAME: &str = "watchdog";
/// The length of the key.
const KEY: usize = 32;
/// As long as a name in a folder can be, less what is put behind it.
const LONGEST_NAME: usize = 200;

/// One instance of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The worker.
    pub worker: String,
    /// Which of its instances, from 1.
    pub number: u32,
}

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.worker, self.number)
    }
}

/// The folder. Made when it is first needed; whoever only looks finds nothing in one that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The watchdog's folder within this one.
    pub fn within(state: &Path) -> Self {
        Self { path: state.join(NAME) }
    }

    /// The very folder.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, with its `log` folder. Everyone may look at records; logs are the owner's.
    pub fn make(&self) -> Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|facts| facts.is_symlink()) {
            return Err(Error::not_allowed(format!(
                "the watchdog's state {} is a link, which whoever made it could lead anywhere; name the folder itself with `state_dir:`",
                self.path.display()
            )));
        }
        let make = |path: &Path, mode: u32| -> Result<()> {
            if path.is_dir() {
                return Ok(());
            }
            let made = DirBuilder::new().recursive(true).mode(mode).create(path);
            // Whatever the mask of whoever makes it.
            let made = made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
            made.map_err(|error| unwritable(path, &error))
        };
        make(&self.path, 0o755)?;
        make(&self.log_folder(), 0o750)
    }

    /// The folder as it is called in marks: the same by whatever way it was named.
    pub fn true_path(&self) -> Result<PathBuf> {
        self.path.canonicalize().map_err(|error| unwritable(&self.path, &error))
    }

    /// Whom it belongs to, or, while it is not there, will: the owner of what it will be in.
    pub fn owner(&self) -> Option<u32> {
        self.path
            .ancestors()
            .find_map(|path| fs::metadata(path).ok())
            .map(|facts| facts.uid())
    }

    /// Where logs are unless it is said otherwise.
    pub fn log_folder(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where events are written.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// An instance's heartbeat.
    pub fn beat(&self, id: &InstanceId) -> PathBuf {
        self.of_instance(id, "beat")
    }

    /// An instance's record.
    pub(super) fn state(&self, id: &InstanceId) -> PathBuf {
        self.of_instance(id, "state")
    }

    /// What an instance's keeper has written down; `None`: nothing that can be read, or what another one's has.
    pub(super) fn record(&self, id: &InstanceId) -> Option<Record> {
        let file = open_to_read(&self.state(id)).ok()?;
        Record::read(&file).filter(|record| record.id == *id)
    }

    /// An instance's lock.
    pub(super) fn lock(&self, id: &InstanceId) -> PathBuf {
        self.of_instance(id, "lock")
    }

    /// The lock of whoever keeps a worker in the foreground.
    pub(super) fn run(&self, worker: &str) -> PathBuf {
        self.path.join(format!("{}.run", encoded(worker)))
    }

    /// The lock of a keeper that is to take over.
    pub(super) fn next(&self, id: &InstanceId) -> PathBuf {
        self.of_instance(id, "next")
    }

    /// Takes the lock of an instance that nobody keeps and nobody is about to; `None`: somebody does or is.
    pub(super) fn take(&self, id: &InstanceId) -> Result<Option<File>> {
        let path = self.lock(id);
        let Some(lock) = try_lock(&path).map_err(|error| unwritable(&path, &error))? else {
            return Ok(None);
        };
        // The keeper that was here has just made room for its successor.
        Ok((!self.has_successor(id)).then_some(lock))
    }

    /// Writes down which configuration an instance is to run with next: a keeper that waits to take over with another one
    /// withdraws.
    pub(super) fn set_next(&self, id: &InstanceId, digest: &str) -> Result<()> {
        let path = self.next(id);
        let write = || {
            let file = open(&path)?;
            file.write_all_at(digest.as_bytes(), 0)?;
            file.set_len(digest.len() as u64)
        };
        write().map_err(|error| unwritable(&path, &error))
    }

    /// The configuration that it is to run with next.
    pub(super) fn next_digest(&self, id: &InstanceId) -> String {
        let mut text = String::new();
        let read = open_to_read(&self.next(id)).and_then(|file| file.take(1024).read_to_string(&mut text));
        if read.is_ok() { text } else { String::new() }
    }

    /// Whether a keeper waits to take over.
    pub(super) fn has_successor(&self, id: &InstanceId) -> bool {
        let path = self.next(id);
        path.exists() && matches!(try_lock(&path), Ok(None))
    }

    /// The lock of a worker's instances, for restarting one after the other.
    pub(super) fn turn(&self, worker: &str) -> PathBuf {
        self.path.join(format!("{}.turn", encoded(worker)))
    }

    pub(super) fn of_instance(&self, id: &InstanceId, what: &str) -> PathBuf {
        self.path.join(format!("{}.{}.{what}", encoded(&id.worker), id.number))
    }

    /// The instances that there are files of.
    pub(super) fn instances(&self) -> Vec<InstanceId> {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut found: Vec<InstanceId> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let (worker, number) = name.to_str()?.strip_suffix(".lock")?.rsplit_once('.')?;
                Some(InstanceId {
                    worker: decoded(worker)?,
                    number: number.parse().ok()?,
                })
            })
            .collect();
        found.sort();
        found
    }

    /// The workers of which an instance is or was kept here.
    pub fn workers(&self) -> BTreeSet<String> {
        self.instances().into_iter().map(|id| id.worker).collect()
    }

    /// Whether anything was ever kept here.
    pub fn is_used(&self) -> bool {
        !self.instances().is_empty()
    }

    fn stopped(&self, worker: &str) -> PathBuf {
        self.path.join(format!("{}.stopped", encoded(worker)))
    }

    /// Whether the operator wants this worker stopped.
    pub fn is_stopped(&self, worker: &str) -> bool {
        self.stopped(worker).exists()
    }

    /// Writes down that the operator wants it stopped.
    pub(super) fn stop(&self, worker: &str) -> Result<()> {
        let path = self.stopped(worker);
        let made = open_with_mode(&path, 0o644);
        made.map(drop).map_err(|error| unwritable(&path, &error))
    }

    /// Writes down that the operator wants it running.
    pub(super) fn start(&self, worker: &str) -> Result<()> {
        let path = self.stopped(worker);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(&path, &error)),
            _ => Ok(()),
        }
    }

    /// The key, if it is there and may be read.
    pub fn read_key(&self) -> Option<Vec<u8>> {
        read_key_at(&self.path.join("key")).ok().filter(|key| key.len() == KEY)
    }

    /// The key of the digests. A digest stands where all may read it, and what it is of may be a secret.
    pub fn key(&self) -> Result<Vec<u8>> {
        let path = self.path.join("key");
        let unreadable = |error: &io::Error| unwritable(&path, error);
        loop {
            match read_key_at(&path) {
                Ok(key) if key.len() == KEY => return Ok(key),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&error)),
            }
            let mut key = [0; KEY];
            getrandom::fill(&mut key).map_err(|error| Error::general("no random bytes can be had").because(error))?;
            // Whole or not at all, and the first one wins: two that begin at once must go on with the same key.
            let fresh = self.path.join(format!("key.{:016x}", fastrand::u64(..)));
            let write = || -> io::Result<()> {
                let _ = fs::remove_file(&fresh);
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&fresh)?;
                file.write_all(&key)?;
                if fs::metadata(&path).is_ok_and(|facts| facts.len() != KEY as u64) {
                    fs::rename(&fresh, &path)
                } else {
                    fs::hard_link(&fresh, &path)
                }
            };
            let written = write();
            let _ = fs::remove_file(&fresh);
            match written {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unreadable(&error)),
                _ => {}
            }
        }
    }
}

fn read_key_at(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    open_to_read(path)?.take(KEY as u64 + 1).read_to_end(&mut key)?;
    Ok(key)
}

/// What is wrong with a worker's name.
pub fn wrong_with_name(name: &str) -> Option<String> {
    (encoded(name).len() > LONGEST_NAME).then(|| {
        format!("the name of a worker is the name of files too, and must not be longer than {LONGEST_NAME} bytes")
    })
}

/// A worker's name as the name of a file.
pub(super) fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (at, char) in name.char_indices() {
        if char == '/' || char == '%' || char.is_control() || (at == 0 && char == '.') {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(char);
        }
    }
    text
}

fn decoded(name: &str) -> Option<String> {
    percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .ok()
        .map(Into::into)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_a_file_name_and_comes_back() {
        for name in ["mail", "a.1", "../x", ".hidden", "50%", "a/b", "größe", "%41", "a\nb"] {
            let file = encoded(name);
            assert!(!file.contains('/') && !file.starts_with('.'), "{file}");
            assert_eq!(decoded(&file).unwrap(), name);
        }
        assert!(wrong_with_name(&"x".repeat(201)).is_some() && wrong_with_name("mail").is_none());
    }

    #[test]
    fn instances_are_found_again() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::within(state.path());
        assert_eq!(folder.instances(), []);
        folder.make().unwrap();
        let ids = [("a.1", 2), ("mail", 1), ("mail", 10), ("x/y", 1)].map(|(worker, number)| InstanceId {
            worker: worker.to_owned(),
            number,
        });
        for id in &ids {
            open(&folder.lock(id)).unwrap();
            open(&folder.beat(id)).unwrap();
        }
        folder.stop("mail").unwrap();
        open(&folder.turn("mail")).unwrap();
        assert_eq!(folder.instances(), ids);
        assert!(folder.is_stopped("mail") && !folder.is_stopped("a.1"));
        folder.start("mail").unwrap();
        folder.start("mail").unwrap();
        assert!(!folder.is_stopped("mail"));
    }

    #[test]
    fn there_is_one_key() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::at(state.path().to_owned());
        let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let folder = &folder;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| folder.key().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]) && keys[0].len() == 32);
        // Cut short by a full disk: a new one is made.
        fs::write(state.path().join("key"), "x").unwrap();
        assert_eq!(folder.key().unwrap().len(), 32);
    }
}
