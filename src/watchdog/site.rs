//! Where workers are kept: the folder, the configuration that says so, and the starting of keepers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::audience::Notifying;
use super::folder::{Folder, InstanceId};
use super::keeper::{Reply, SUBCOMMAND};
use super::marks::{KEEPER, mark};
use super::plan::{Plan, Spec, Talk, Task};
use crate::error::{Error, Result};
use crate::process::{Account, Life};

/// A keeper that has said nothing after this time has something else to do; it is looked at again by the next check.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// An instance as it is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How it is to run.
    pub spec: Spec,
    /// Stands for that and for the configuration that the worker reads; empty where it cannot be known.
    pub digest: String,
}

impl Wanted {
    /// Whether what runs with this digest runs with another configuration.
    pub(super) fn is_other_than(&self, digest: &str) -> bool {
        !self.digest.is_empty() && self.digest != digest
    }
}

/// Where workers are kept, by whom and for which configuration.
#[derive(Clone, Debug)]
pub struct Site {
    /// The watchdog's folder.
    pub folder: Folder,
    /// The file that configures the workers.
    pub config: String,
    /// qctl itself.
    pub program: PathBuf,
    /// Who runs this, and so every keeper.
    pub account: Account,
    /// Variables that every worker has from here; they are no reason to start one anew.
    pub inherited: Vec<(String, String)>,
    /// How listeners are told of what happens to workers; `None`: not at all.
    pub notifying: Option<Notifying>,
    /// How keepers speak on standard error; `None`: not at all.
    pub talk: Option<Talk>,
    /// The boot and pid namespace.
    pub life: Life,
}

/// A keeper that was started and has not answered yet.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) id: InstanceId,
    line: UnixStream,
}

/// The instances of the workers that are named; of all without names.
pub(super) fn chosen<'a>(roster: &'a [Wanted], names: &'a [String]) -> impl Iterator<Item = &'a Wanted> {
    roster.iter().filter(|wanted| is_chosen(names, &wanted.spec.id))
}

pub(super) fn is_chosen(names: &[String], id: &InstanceId) -> bool {
    names.is_empty() || names.contains(&id.worker)
}

impl Site {
    /// The workers kept in this folder for this configuration.
    pub fn new(folder: Folder, config: String, program: PathBuf, account: Account) -> Result<Self> {
        let life = Life::current().map_err(|error| {
            Error::general("/proc cannot be read, without which no process can be told from another; mount it")
                .because(error)
        })?;
        Ok(Self {
            folder,
            config,
            program,
            account,
            inherited: Vec::new(),
            notifying: None,
            talk: None,
            life,
        })
    }

    /// Starts a keeper, with this open lock.
    pub(super) fn start_keeper(&self, lock: File, wanted: &Wanted, task: Task) -> Result<Starting> {
        let folder = self.folder.true_path()?;
        let id = wanted.spec.id.clone();
        let account = wanted.spec.account.as_ref().unwrap_or(&self.account).clone();
        let plan = Plan {
            spec: wanted.spec.clone(),
            folder: folder.clone(),
            config: self.config.clone(),
            digest: wanted.digest.clone(),
            inherited: self.inherited.clone(),
            account,
            task,
            notifying: self.notifying.clone(),
            talk: self.talk,
        };
        let start = || -> io::Result<Starting> {
            let plan = serde_json::to_vec(&plan)?;
            let (mut ours, theirs) = UnixStream::pair()?;
            let mut command = Command::new(&self.program);
            command
                .arg(SUBCOMMAND)
                // For those who look at the list of processes.
                .arg(id.to_string())
                .env_clear()
                .env(KEEPER, mark(&folder, &id))
                .stdin(lock)
                .stdout(OwnedFd::from(theirs));
            if self.talk.is_none() {
                command.stderr(Stdio::null());
            }
            command.spawn()?;
            // Its copy of the keeper's end would keep the end of file from us.
            drop(command);
            ours.set_read_timeout(Some(REPLY_WITHIN))?;
            ours.set_write_timeout(Some(REPLY_WITHIN))?;
            // One that has died already answers nothing, which is told then.
            if ours.write_all(&plan).is_ok() {
                let _ = ours.shutdown(Shutdown::Write);
            }
            Ok(Starting {
                id: id.clone(),
                line: ours,
            })
        };
        start().map_err(|error| {
            // Whoever starts a keeper has read the program, so that it is the keeper's user who may not.
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "let its user execute that program, with all folders above it",
                _ => "see `ulimit -u` and `ulimit -n`",
            };
            Error::temporary(format!(
                "the keeper of {id} cannot be started (`{} {SUBCOMMAND}`); {hint}",
                self.program.display()
            ))
            .because(error)
        })
    }
}

impl Starting {
    /// Waits for the keeper's first words.
    pub(super) fn reply(mut self) -> std::result::Result<Reply, String> {
        let mut text = Vec::new();
        match self.line.read_to_end(&mut text) {
            Ok(_) if text.is_empty() => Err("its keeper ended before it had begun".to_owned()),
            Ok(_) => serde_json::from_slice(&text)
                .map_err(|error| format!("its keeper says what cannot be understood: {error}")),
            Err(_) => Err("its keeper has not answered yet".to_owned()),
        }
    }
}
