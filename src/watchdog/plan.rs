//! What a keeper is given: all that it needs to know, so that it reads no configuration.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::audience::Notifying;
use super::folder::{Folder, InstanceId, encoded};
use super::verdict::Backoff;
use crate::process::{Account, Limit, Service};

/// How long a worker may take to end, unless it is said otherwise.
pub const STOP_WITHIN: Duration = Duration::from_secs(30);

/// One instance of a worker as it is to run: what a change of is a reason to start it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Which it is.
    pub id: InstanceId,
    /// So many of them there are.
    pub instances: u32,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables, besides those that every worker has.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in.
    pub cwd: PathBuf,
    /// Whom it runs as; `None`: as its keeper.
    pub account: Option<Account>,
    /// How it yields to others.
    pub nice: Option<i32>,
    /// The permissions that its new files do not have.
    pub umask: Option<u32>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Where what it prints goes; `None`: the watchdog's own folder.
    pub log_folder: Option<PathBuf>,
    /// A log file of this size is put aside.
    pub log_size: u64,
    /// So many of those are kept.
    pub log_keep: u32,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// How long it may take to; `None`: as long as it likes.
    pub stop_within: Option<Duration>,
    /// It must give a sign of life this often; `None`: it gives none.
    pub heartbeat: Option<Duration>,
    /// How long to wait after a failure.
    pub backoff: Backoff,
    /// The exit codes of a worker that has reached a limit of its own.
    pub expected: Vec<i32>,
    /// A change of one of these is a reason to start it anew.
    pub restart_on: Vec<PathBuf>,
    /// A change of one of these is a reason to try a parked one again.
    pub wakes: Vec<PathBuf>,
}

impl Spec {
    /// Of an instance of which nothing is known, or nothing but what is put over it.
    pub fn of_nothing(id: InstanceId) -> Self {
        Self {
            id,
            instances: 1,
            argv: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            account: None,
            nice: None,
            umask: None,
            limits: Vec::new(),
            log_folder: None,
            log_size: 0,
            log_keep: 0,
            stop_signal: libc::SIGTERM,
            stop_within: Some(STOP_WITHIN),
            heartbeat: None,
            backoff: Backoff::default(),
            expected: Vec::new(),
            restart_on: Vec::new(),
            wakes: Vec::new(),
        }
    }

    /// Where what it prints goes.
    pub(super) fn log_file(&self, folder: &Folder) -> PathBuf {
        let name = format!("{}.{}.log", encoded(&self.id.worker), self.id.number);
        self.log_folder
            .clone()
            .unwrap_or_else(|| folder.log_folder())
            .join(name)
    }

    /// Stands for this configuration; `more` is what the worker itself will read. With the key, it gives none of it away.
    pub fn digest(&self, key: &[u8], more: &str) -> String {
        let mut sum = Sha256::new();
        sum.update(key);
        // What a parked one waits for says nothing of how it runs.
        let told = Self {
            wakes: Vec::new(),
            // More of the others changes nothing of this one.
            instances: 0,
            ..self.clone()
        };
        sum.update(serde_json::to_vec(&told).unwrap_or_default());
        sum.update(more);
        sum.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A keeper's task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) spec: Spec,
    /// The watchdog's folder, by its true path.
    pub(super) folder: PathBuf,
    /// The file that configures it.
    pub(super) config: String,
    pub(super) digest: String,
    /// What the worker has of the environment of whoever started the watchdog.
    pub(super) inherited: Vec<(String, String)>,
    /// Whose home and name the worker finds in its environment.
    pub(super) account: Account,
    pub(super) task: Task,
    /// How listeners are told. No part of the digest: a change of it is no reason to start a worker anew.
    pub(super) notifying: Option<Notifying>,
    pub(super) talk: Option<Talk>,
}

/// How a keeper begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// It has the lock of an instance that nobody kept. `strays`: there are processes of it, left by a keeper that died.
    Keep { strays: bool },
    /// As `Keep`, of an instance that is not to run any more: only the strays are ended.
    Clear,
    /// It is to ask the keeper that there is to end, and to take its place; the reason in words.
    Succeed { reason: String },
}

/// How a keeper speaks on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talk {
    /// As lines of JSON.
    pub json: bool,
    /// How many `-v` there were.
    pub verbose: u8,
    /// Errors only.
    pub quiet: bool,
}

impl Plan {
    pub(super) fn folder(&self) -> Folder {
        Folder::at(self.folder.clone())
    }

    pub(super) fn service(&self) -> Service {
        Service {
            account: self.spec.account.clone(),
            nice: self.spec.nice,
            umask: self.spec.umask,
            limits: self.spec.limits.clone(),
        }
    }
}
