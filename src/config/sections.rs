//! The top-level keys of all files, put together.

use std::collections::{HashMap, HashSet};

use super::overlay::{Overlay, laid_over};
use super::workers::unwrapped;
use crate::error::Result;
use crate::settings::{Setting, Settings};

/// A section's entries, in the order read.
pub(super) type Entries = Vec<(String, Setting)>;

/// The sections of a configuration, of whichever files they are.
#[derive(Default)]
pub(super) struct Sections {
    pub(super) default: Option<Setting>,
    pub(super) state_dir: Option<Setting>,
    pub(super) connections: Entries,
    pub(super) producers: Entries,
    pub(super) consumers: Entries,
    pub(super) commands: Entries,
    pub(super) workers: Entries,
    pub(super) listeners: Option<Setting>,
    pub(super) signing: Option<Setting>,
    /// Consumers of predecessors of whose retries nobody has said anything.
    pub(super) tried_once: Vec<String>,
}

const OF_PRODUCERS: Overlay = Overlay::ByKey(&[
    &["exchange", "exchange_options", "queue"],
    &["routing_key", "routing-key"],
]);
const OF_CONSUMERS: Overlay = Overlay::ByKey(&[
    &["queue", "queue_options"],
    &["handler", "callback"],
    &["prefetch", "qos_count", "qos", "qos_options"],
]);
const OF_COMMANDS: Overlay = Overlay::ByKey(&[]);
const OF_WORKERS: Overlay = Overlay::ByKey(&[&["consumer", "queue_name", "run"], &["limits", "rlimits"]]);

/// Collects the sections of all files. A name, and a key such as `default`, is given once. `below` are the translated
/// files of predecessors: what qctl's own files say of the same entry is put over it.
pub(super) fn collect(roots: Vec<Settings>, below: Vec<Settings>) -> Result<Sections> {
    let mut sections = read(roots)?;
    let below = read(below)?;
    let says_retry = |setting: &Setting| setting.settings().is_ok_and(|own| own.has("retry"));
    let own = sections.consumers.iter().filter(|(_, setting)| says_retry(setting));
    let with_retries: HashSet<&String> = own.map(|(name, _)| name).collect();
    let names = below.consumers.iter().map(|(name, _)| name);
    sections.tried_once = names.filter(|name| !with_retries.contains(name)).cloned().collect();
    sections.default = sections.default.or(below.default);
    lay_over(&mut sections.connections, below.connections, Overlay::Whole);
    lay_over(&mut sections.producers, below.producers, OF_PRODUCERS);
    lay_over(&mut sections.consumers, below.consumers, OF_CONSUMERS);
    lay_over(&mut sections.commands, below.commands, OF_COMMANDS);
    lay_over(&mut sections.workers, below.workers, OF_WORKERS);
    Ok(sections)
}

fn read(roots: Vec<Settings>) -> Result<Sections> {
    let mut sections = Sections::default();
    for mut root in roots {
        root.setting(&["include"])?;
        once(&mut sections.default, root.setting(&["default"])?)?;
        extend(&mut sections.connections, root.entries(&["connections"])?)?;
        extend(&mut sections.producers, root.entries(&["producers"])?)?;
        extend(&mut sections.consumers, root.entries(&["consumers"])?)?;
        extend(&mut sections.commands, root.entries(&["commands"])?)?;
        once(&mut sections.state_dir, root.setting(&["state_dir"])?)?;
        let workers = root.entries(&["workers"])?.unwrap_or_default();
        extend(&mut sections.workers, Some(unwrapped(workers)?))?;
        once(&mut sections.signing, root.setting(&["signing"])?)?;
        once(&mut sections.listeners, root.setting(&["listeners"])?)?;
        root.finish()?;
    }
    Ok(sections)
}

fn lay_over(own: &mut Entries, below: Entries, overlay: Overlay) {
    let places: HashMap<String, usize> = own
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name.clone(), at))
        .collect();
    for (name, setting) in below {
        match places.get(&name) {
            Some(&at) => own[at].1 = laid_over(&own[at].1, &setting, overlay),
            None => own.push((name, setting)),
        }
    }
}

fn once(known: &mut Option<Setting>, new: Option<Setting>) -> Result<()> {
    match (&known, new) {
        (Some(known), Some(new)) => Err(twice(known, &new)),
        (None, Some(new)) => {
            *known = Some(new);
            Ok(())
        }
        (_, None) => Ok(()),
    }
}

fn extend(known: &mut Entries, new: Option<Entries>) -> Result<()> {
    let new = new.unwrap_or_default();
    // Within one file the parser has refused it.
    let first: HashMap<&str, &Setting> = known.iter().map(|(name, setting)| (name.as_str(), setting)).collect();
    if let Some((there, here)) = new
        .iter()
        .find_map(|(name, here)| Some((first.get(name.as_str())?, here)))
    {
        return Err(twice(there, here));
    }
    known.extend(new);
    Ok(())
}

fn twice(first: &Setting, second: &Setting) -> crate::error::Error {
    second.error(format!("is also given at {}; keep one of the two", first.place()))
}
