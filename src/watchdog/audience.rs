//! Which workers listeners hear of, where keepers find it, and what tells them: `listeners.json` in the watchdog's folder.
//!
//! A keeper looks there at each event, so a change of the configuration's listeners takes effect with the next check, and no
//! worker is started anew for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files::{open_to_read, open_with_mode, try_lock, unwritable};
use super::folder::{Folder, InstanceId};
use crate::error::Result;

/// The hidden subcommand that tells listeners.
pub const SUBCOMMAND: &str = "__notify";

/// A bigger file is none of ours.
const LARGEST: u64 = 16 << 20;

/// The workers whose starts and ends somebody wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// All of them.
    pub all: bool,
    /// These.
    pub workers: BTreeSet<String>,
}

/// How listeners are told: the process that tells them reads the configuration, which a keeper does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notifying {
    /// The program and its arguments; behind them comes the lock of those that tell of the same instance.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in.
    pub cwd: PathBuf,
}

/// Waits until whoever told of the same instance before is done, so that events are heard in their order; `None`: it was not
/// done by then.
pub fn wait_in_line(lock: &Path, within: Duration) -> Option<File> {
    let until = Instant::now() + within;
    loop {
        match try_lock(lock) {
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            // Without a lock it goes on without an order.
            taken => return taken.ok().flatten(),
        }
    }
}

impl Folder {
    /// The lock of whoever tells of this instance.
    pub(super) fn telling(&self, id: &InstanceId) -> PathBuf {
        self.of_instance(id, "telling")
    }

    fn audience(&self) -> PathBuf {
        self.path().join("listeners.json")
    }

    fn read_audience(&self) -> Option<Audience> {
        let mut text = Vec::new();
        let file = open_to_read(&self.audience()).ok()?;
        file.take(LARGEST).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether somebody wants to hear of this worker.
    pub(super) fn is_heard(&self, worker: &str) -> bool {
        self.read_audience()
            .is_some_and(|audience| audience.all || audience.workers.contains(worker))
    }

    /// Whether somebody wants to hear of any worker.
    pub(super) fn is_any_heard(&self) -> bool {
        self.audience().exists()
    }

    /// Writes down of whom somebody wants to hear.
    pub fn set_audience(&self, audience: &Audience) -> Result<()> {
        let path = self.audience();
        if !audience.all && audience.workers.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(&path, &error)),
                _ => Ok(()),
            };
        }
        if self.read_audience().as_ref() == Some(audience) {
            return Ok(());
        }
        let fresh = self.path().join(format!("listeners.{:016x}", fastrand::u64(..)));
        // Whole or not at all: keepers read it at any moment.
        let write = || {
            let mut file = open_with_mode(&fresh, 0o644)?;
            file.write_all(&serde_json::to_vec(audience)?)?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&fresh);
            unwritable(&path, &error)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_last_holds() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::at(state.path().to_owned());
        assert!(!folder.is_heard("mail") && !folder.is_any_heard());
        let some = Audience {
            all: false,
            workers: BTreeSet::from(["mail".to_owned()]),
        };
        folder.set_audience(&some).unwrap();
        assert!(folder.is_heard("mail") && !folder.is_heard("other") && folder.is_any_heard());
        let all = Audience { all: true, ..some };
        folder.set_audience(&all).unwrap();
        assert!(folder.is_heard("other"));
        fs::write(state.path().join("listeners.json"), "{").unwrap();
        assert!(!folder.is_heard("other"));
        folder.set_audience(&all).unwrap();
        assert!(folder.is_heard("other"));
        folder.set_audience(&Audience::default()).unwrap();
        folder.set_audience(&Audience::default()).unwrap();
        assert!(!folder.is_heard("mail") && !folder.is_any_heard());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }
}
