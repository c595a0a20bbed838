//! A program that is to run by itself: in a session of its own, as whom, with which limits.
//!
//! Unlike a message's child it is started rarely and by a small process, so the fork that all of this takes costs little.

#![allow(unsafe_code)] // `pre_exec` is the only way to set limits, masks and accounts between fork and exec

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setuid};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit, setsid, umask};
use serde::{Deserialize, Serialize};

use super::spawn::{Program, SpawnError};

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's name.
    pub name: String,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// The home folder.
    pub home: String,
    /// The login shell.
    pub shell: String,
}

impl Account {
    /// The account of a user, by name or number, with this group instead of its own. The error says which of the two
    /// nobody knows.
    pub fn named(user: &str, group: Option<&str>) -> Result<Self, String> {
        let found = match user.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(user),
        };
        let found = found
            .map_err(|error| format!("user {user} cannot be looked up: {error}"))?
            .ok_or_else(|| format!("there is no user {user}"))?;
        Self::of(&found, group)
    }

    /// The account of the user who runs this process.
    pub fn own(group: Option<&str>) -> Result<Self, String> {
        let uid = Uid::effective();
        match User::from_uid(uid) {
            Ok(Some(user)) => Self::of(&user, group),
            // In a container there often is no such user.
            _ => Ok(Self {
                name: uid.to_string(),
                uid: uid.as_raw(),
                gid: match group {
                    Some(group) => group_number(group)?,
                    None => Gid::effective().as_raw(),
                },
                groups: Vec::new(),
                home: std::env::var("HOME").unwrap_or_else(|_| "/".to_owned()),
                shell: "/bin/sh".to_owned(),
            }),
        }
    }

    fn of(user: &User, group: Option<&str>) -> Result<Self, String> {
        let gid = match group {
            Some(group) => group_number(group)?,
            None => user.gid.as_raw(),
        };
        let name = CString::new(user.name.as_str()).map_err(|_| "its name holds a NUL character".to_owned())?;
        let groups = getgrouplist(&name, Gid::from_raw(gid))
            .map_err(|error| format!("the groups of {} cannot be looked up: {error}", user.name))?;
        Ok(Self {
            name: user.name.clone(),
            uid: user.uid.as_raw(),
            gid,
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: user.dir.to_string_lossy().into_owned(),
            shell: user.shell.to_string_lossy().into_owned(),
        })
    }

    /// Makes this process run as this account from now on; it must be root. Nothing brings it back.
    pub fn become_it(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        setgroups(&groups)?;
        setgid(Gid::from_raw(self.gid))?;
        setuid(Uid::from_raw(self.uid))?;
        Ok(())
    }
}

/// Closes what this process was given by whoever started it, but for the standard streams: somebody may wait for the end of a
/// pipe that it knows nothing of. Only for a program that has just begun and has opened nothing itself.
pub fn close_inherited() {
    // SAFETY: nothing in this process refers to a descriptor above the standard streams yet, so none is closed under anybody.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

fn group_number(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(format!("there is no group {group}")),
        Err(error) => Err(format!("group {group} cannot be looked up: {error}")),
    }
}

/// A limit of the system's on a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name, one of [`Limit::NAMES`].
    pub name: String,
    /// Its value; `None`: no limit.
    pub value: Option<u64>,
}

impl Limit {
    /// The limits there are, as `ulimit` and `/etc/security/limits.conf` call them.
    pub const NAMES: [&str; 9] = [
        "as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack",
    ];

    fn resource(&self) -> Option<Resource> {
        Some(match self.name.as_str() {
            "as" => Resource::As,
            "core" => Resource::Core,
            "cpu" => Resource::Cpu,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "memlock" => Resource::Memlock,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "stack" => Resource::Stack,
            _ => return None,
        })
    }
}

/// How a program runs by itself.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// As whom; `None`: as this process.
    pub account: Option<Account>,
    /// How it yields to others, -20 to 19.
    pub nice: Option<i32>,
    /// The permissions that its new files do not have.
    pub umask: Option<u32>,
    /// Its limits.
    pub limits: Vec<Limit>,
}

impl Service {
    /// Starts the program in a session of its own. Must be called
    /// by a process of one thread.
    pub fn start(&self, program: &Program, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child, SpawnError> {
        let mut command = program.ungrouped(stdin, stdout, stderr);
        let service = self.clone();
        // SAFETY: the process has one thread, so no lock is held by anyone else in its copy, and the closure may allocate
        // and call what it likes.
        unsafe { command.pre_exec(move || service.settle_in()) };
        command.spawn().map_err(|error| match program.explain(&error) {
            SpawnError::Fault(text) if error.raw_os_error() == Some(libc::EPERM) => SpawnError::Fault(format!(
                "{text}; its `limits`, `nice`, `user` or `group` are more than the system allows here"
            )),
            other => other,
        })
    }

    /// Runs in the child, before the program takes its place. What only root may do comes before the account changes.
    fn settle_in(&self) -> io::Result<()> {
        setsid()?;
        // What the parent takes through a descriptor is blocked in it, and would stay so.
        SigSet::empty().thread_set_mask()?;
        for limit in &self.limits {
            setrlimit(
                limit.resource().ok_or(io::ErrorKind::InvalidInput)?,
                Rlimit {
                    current: limit.value,
                    maximum: limit.value,
                },
            )?;
        }
        if let Some(nice) = self.nice {
            setpriority_process(None, nice)?;
        }
        if let Some(mask) = self.umask {
            umask(Mode::from_raw_mode(mask));
        }
        if let Some(account) = &self.account {
            account.become_it()?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Account, Limit};

    #[test]
    fn every_limit_that_is_named_is_one() {
        for name in Limit::NAMES {
            let limit = Limit {
                name: name.to_owned(),
                value: None,
            };
            assert!(limit.resource().is_some(), "{name}");
        }
    }

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let root = Account::named("root", None).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(Account::named("0", None).unwrap(), root);
        let other = Account::named("root", Some("1")).unwrap();
        assert_eq!(other.gid, 1);
        assert_eq!(
            Account::named("nobody-of-this-name", None).unwrap_err(),
            "there is no user nobody-of-this-name"
        );
        assert!(Account::named("root", Some("no-such-group")).is_err());
    }
}
