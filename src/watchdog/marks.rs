//! The marks by which keepers and workers are known again: variables in their environment.
//!
//! A keeper's copy that is about to become a worker still has the keeper's mark, so there is no moment at which a process of an
//! instance has none.

use std::collections::HashMap;
use std::path::Path;

use rustix::process::{Pid, getpid};

use super::folder::{InstanceId, encoded};
use crate::process::{Identity, Stat, all_pids, environment_of, user_of};

/// A keeper's variable.
pub(super) const KEEPER: &str = "QCTL_KEEPER";
/// A worker's variable, and that of what it starts.
pub(super) const WORKER: &str = "QCTL_WORKER";

/// The value of both variables; `folder` is the watchdog's, by its true path.
pub(super) fn mark(folder: &Path, id: &InstanceId) -> String {
    format!("{}/{}.{}", folder.display(), encoded(&id.worker), id.number)
}

/// A process with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) identity: Identity,
    pub(super) parent: i32,
    /// Whose it is.
    pub(super) user: u32,
    /// It is a keeper, or the copy of one.
    pub(super) is_keeper: bool,
}

/// All living processes of the instances of this folder, by their marks.
pub(super) fn of_folder(folder: &Path) -> HashMap<String, Vec<Marked>> {
    let folder = format!("{}/", folder.display());
    find(|mark| mark.starts_with(&folder))
}

/// All living processes with a mark for which `wanted` holds, by their marks. This process is not among them.
pub(super) fn find(wanted: impl Fn(&str) -> bool) -> HashMap<String, Vec<Marked>> {
    let own = getpid();
    let mut found: HashMap<String, Vec<Marked>> = HashMap::new();
    let mut buffer = Vec::new();
    for pid in all_pids().into_iter().filter(|pid| *pid != own) {
        let Some((mark, is_keeper)) = mark_of(pid, &mut buffer, &wanted) else {
            continue;
        };
        let Some(user) = user_of(pid) else { continue };
        if let Some(stat) = Stat::of(pid).filter(|stat| stat.alive) {
            found.entry(mark).or_default().push(Marked {
                identity: Identity::seen(pid, &stat),
                parent: stat.parent,
                user,
                is_keeper,
            });
        }
    }
    found
}

/// What this process carries, if it is wanted.
fn mark_of(pid: Pid, buffer: &mut Vec<u8>, wanted: &impl Fn(&str) -> bool) -> Option<(String, bool)> {
    environment_of(pid, buffer).find_map(|entry| {
        let entry = std::str::from_utf8(entry).ok()?;
        let (name, value) = entry.split_once('=')?;
        let is_keeper = name == KEEPER;
        ((is_keeper || name == WORKER) && wanted(value)).then(|| (value.to_owned(), is_keeper))
    })
}
