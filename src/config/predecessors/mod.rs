//! Configurations of the programs that qctl succeeds, as they are: the Kaliop queueing bundle with its RabbitMqBundle (files
//! of a Symfony application), and ko-worker.
//!
//! Such a file is recognised by its shape, translated into qctl's own form with every value still knowing its place, and
//! read on from there like a file of qctl's. [`import`](import::import) writes the same translation down.

mod amqp;
mod console;
mod entries;
pub(super) mod import;
mod kaliop;
mod ko_worker;
mod options;
mod parameters;
mod patterns;
mod rabbitmq_bundle;
mod references;
pub(super) mod symfony;
mod warnings;
mod write;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use entries::{Entries, Written};
pub(super) use kaliop::CONSOLE;
pub use options::{LeftOut, left_out_lines};
use options::{Options, Remains};
use parameters::{Need, Parameters, Purpose};
use rabbitmq_bundle::Around;
use symfony::SymfonyFiles;
pub(super) use warnings::warnings;

use super::decode::Tables;
use crate::error::Result;
use crate::settings::{Environment, Piece, Setting, Settings, Value};

/// A program that qctl succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// The Kaliop queueing bundle.
    Kaliop,
    /// RabbitMqBundle alone.
    RabbitMqBundle,
    /// ko-worker.
    KoWorker,
}

impl Predecessor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kaliop, Self::RabbitMqBundle, Self::KoWorker];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kaliop => "kaliop",
            Self::RabbitMqBundle => "rabbitmq-bundle",
            Self::KoWorker => "ko-worker",
        }
    }

    /// Its name in a sentence.
    fn title(self) -> &'static str {
        match self {
            Self::Kaliop => "the Kaliop queueing bundle",
            Self::RabbitMqBundle => "RabbitMqBundle",
            Self::KoWorker => "ko-worker",
        }
    }

    /// How its files are written.
    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::Kaliop | Self::RabbitMqBundle => Dialect::Symfony,
            Self::KoWorker => Dialect::KoWorker,
        }
    }
}

/// How a predecessor's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A configuration file of a Symfony application: parameters, services, imports, and a section for each bundle.
    Symfony,
    /// A file of ko-worker's alone.
    KoWorker,
}

/// A file that was read and is not qctl's own.
pub(super) struct ForeignFile {
    pub(super) dialect: Dialect,
    pub(super) path: PathBuf,
    /// Its top-level map.
    pub(super) root: Settings,
    /// What it imports and qctl cannot read.
    pub(super) unread: Vec<Setting>,
}

/// Top-level keys of Symfony's that say what a file is.
const SYMFONYS: &[&str] = &["parameters", "services", "imports", symfony::BUNDLE];
/// Top-level keys of qctl's own files. A file that has one of them and one of Symfony's is qctl's, with a slip in it.
const QCTLS: &[&str] = &[
    "include",
    "connections",
    "producers",
    "consumers",
    "commands",
    "state_dir",
    "workers",
    "listeners",
    "signing",
];

/// Whose a file is; `None`: qctl's own.
pub(super) fn recognise(root: &Settings) -> Option<Dialect> {
    let is_symfonys = |key: &str| SYMFONYS.contains(&key) || key.starts_with("kaliop_queueing");
    if root.keys().any(is_symfonys) && !QCTLS.iter().any(|key| root.has(key)) {
        return Some(Dialect::Symfony);
    }
    ko_worker::is_one(root).then_some(Dialect::KoWorker)
}

/// Whether a text looks like a file of Symfony's, judged before it is read: tags in it then are its own affair.
pub(super) fn looks_like_symfony(text: &str) -> bool {
    let has = |keys: &[&str]| {
        let key = |line: &str| {
            line.split_once(':')
                .map(|(key, _)| key.trim_matches(['"', '\'']).to_owned())
        };
        text.lines()
            .filter_map(key)
            .any(|key| keys.contains(&key.as_str()) || key.starts_with("kaliop_queueing"))
    };
    has(SYMFONYS) && !has(QCTLS)
}

/// Predecessors' files in qctl's own form.
pub(super) struct Translation {
    pub(super) predecessor: Predecessor,
    /// What errors call its files, the first one being the one that was named.
    pub(super) files: Vec<String>,
    /// `connections`, `producers`, `consumers`, `commands`, `workers` and `default`, each where there is one.
    pub(super) top: Piece,
    /// What is not taken over.
    pub(super) left_out: Vec<LeftOut>,
    /// It says nothing of what may run, where its predecessor allowed everything.
    pub(super) allows_nothing: bool,
    /// The variables that it needs.
    needed: BTreeMap<String, Need>,
}

/// What a translation depends on besides the files.
struct Circumstances<'a> {
    purpose: Purpose,
    tables: Tables,
    environment: &'a Environment,
    /// Connections that qctl's own files give.
    replaced: HashSet<String>,
}

/// Translates all files that are not qctl's own, to be used below these of its own.
pub(super) fn translate(
    files: &[ForeignFile],
    own: &[Settings],
    tables: Tables,
    environment: &Environment,
) -> Result<Vec<Translation>> {
    let connections = own.iter().filter_map(|root| match root.written("connections") {
        Some(Value::Map(entries)) => Some(entries.iter().map(|(name, _)| name.clone())),
        _ => None,
    });
    let circumstances = Circumstances {
        purpose: Purpose::Use,
        tables,
        environment,
        replaced: connections.flatten().collect(),
    };
    translate_in(&circumstances, files)
}

fn translate_in(circumstances: &Circumstances<'_>, files: &[ForeignFile]) -> Result<Vec<Translation>> {
    let mut translations = Vec::new();
    let symfony: Vec<&ForeignFile> = files.iter().filter(|file| file.dialect == Dialect::Symfony).collect();
    if let Some(last) = symfony.last() {
        let top = Piece::of(&last.root.to_setting());
        translations.push(of_symfony(circumstances, &symfony, &top)?);
    }
    for file in files.iter().filter(|file| file.dialect == Dialect::KoWorker) {
        translations.push(of_ko_worker(circumstances, file)?);
    }
    Ok(translations)
}

/// `top` stands for all files where none in particular is meant.
fn of_symfony(circumstances: &Circumstances<'_>, files: &[&ForeignFile], top: &Piece) -> Result<Translation> {
    let all = SymfonyFiles::of(files.iter().copied());
    let names = files.iter().rev().map(|file| file.root.source().file().to_owned());
    let parameters = Parameters::new(
        all.parameters.clone(),
        all.unread
            .iter()
            .filter_map(Piece::as_text)
            .map(str::to_owned)
            .collect(),
        circumstances.purpose,
        circumstances.environment.clone(),
    );
    let mut remains = Remains::default();
    let urls = kaliop::urls(&parameters, &mut remains)?;
    let around = Around {
        tables: circumstances.tables,
        services: all.services.as_ref(),
        urls: urls.as_ref(),
        replaced: &circumstances.replaced,
    };
    let bundle = match &all.bundle {
        Some(section) => rabbitmq_bundle::read(Options::of(section, &parameters)?, &around, &mut remains)?,
        None => rabbitmq_bundle::Bundle::default(),
    };
    for import in &all.unread {
        remains.add(
            "imports",
            import,
            "only YAML files are read, by paths without parameters",
        );
    }
    for (name, section) in &all.drivers {
        remains.add(name, section, "its driver is not in this version of qctl yet");
    }
    kaliop::remains(&parameters, &mut remains)?;
    let commands = kaliop::commands(&parameters, &all)?;
    let workers = kaliop::workers(&parameters, &bundle.entries.consumers, &mut remains)?;
    let is_kaliops = all.parameters.keys().any(|name| name.starts_with(kaliop::PREFIX))
        || !all.drivers.is_empty()
        || takes_commands(&bundle.entries);
    Ok(Translation {
        predecessor: if is_kaliops {
            Predecessor::Kaliop
        } else {
            Predecessor::RabbitMqBundle
        },
        files: names.collect(),
        top: top_of(top, &bundle.connections, &bundle.entries, commands.as_ref(), workers),
        left_out: remains.all,
        allows_nothing: commands.is_none() && takes_commands(&bundle.entries),
        needed: parameters.needed(),
    })
}

fn of_ko_worker(circumstances: &Circumstances<'_>, file: &ForeignFile) -> Result<Translation> {
    let top = Piece::of(&file.root.to_setting());
    let parameters = Parameters::none(circumstances.purpose, circumstances.environment.clone());
    let mut remains = Remains::default();
    let read = ko_worker::read(Options::of(&top, &parameters)?, &mut remains)?;
    Ok(Translation {
        predecessor: Predecessor::KoWorker,
        files: vec![file.root.source().file().to_owned()],
        top: top_of(&top, &read.connections, &read.entries, None, None),
        left_out: remains.all,
        allows_nothing: false,
        needed: BTreeMap::new(),
    })
}

fn takes_commands(entries: &Entries) -> bool {
    entries
        .consumers
        .iter()
        .any(|taker| taker.handler.as_text() == Some("command"))
}

fn top_of(
    top: &Piece,
    connections: &[(String, Piece)],
    entries: &Entries,
    commands: Option<&Piece>,
    workers: Option<Piece>,
) -> Piece {
    let Written { producers, consumers } = entries.written();
    let mut sections = Vec::new();
    // Where none is the default by its name, the first one is: nothing else names one.
    if connections.len() > 1 && !connections.iter().any(|(name, _)| name == "default") {
        sections.push(("default", top.made_text(connections[0].0.replace("${", "$${"))));
    }
    for (name, section) in [
        ("connections", connections.to_vec()),
        ("producers", producers),
        ("consumers", consumers),
    ] {
        if !section.is_empty() {
            sections.push((name, top.made_map(section)));
        }
    }
    if let Some(commands) = commands {
        sections.push(("commands", top.made_map([(CONSOLE, commands.clone())])));
    }
    sections.extend(workers.map(|workers| ("workers", workers)));
    top.made_map(sections)
}
