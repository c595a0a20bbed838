//! The files of a Symfony application, put together: what is said later wins, and maps are merged key by key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ForeignFile;
use crate::error::Result;
use crate::settings::{Content, Piece, Setting, Settings, Value};

/// The key that RabbitMqBundle reads.
pub(super) const BUNDLE: &str = "old_sound_rabbit_mq";

/// All files of an application that were read.
#[derive(Default)]
pub(super) struct SymfonyFiles {
    pub(super) paths: Vec<PathBuf>,
    /// What is imported and not read.
    pub(super) unread: Vec<Piece>,
    pub(super) parameters: BTreeMap<String, Piece>,
    pub(super) services: Option<Piece>,
    pub(super) bundle: Option<Piece>,
    /// Sections of the Kaliop bundle's drivers that qctl does not have.
    pub(super) drivers: Vec<(String, Piece)>,
}

impl SymfonyFiles {
    /// Puts files together, in the order in which Symfony lets them speak: imported ones before those that import them.
    pub(super) fn of<'a>(files: impl IntoIterator<Item = &'a ForeignFile>) -> Self {
        let mut all = Self::default();
        for file in files {
            all.paths.push(file.path.clone());
            all.unread.extend(file.unread.iter().map(Piece::of));
            let Content::Map(sections) = Piece::of(&file.root.to_setting()).content().clone() else {
                continue;
            };
            for (key, piece) in sections {
                match key.as_str() {
                    "parameters" => {
                        if let Content::Map(parameters) = piece.content() {
                            all.parameters.extend(parameters.iter().cloned());
                        }
                    }
                    "services" => all.services = Some(merged(all.services.take(), &piece)),
                    BUNDLE => all.bundle = Some(merged(all.bundle.take(), &piece)),
                    _ if key.starts_with("kaliop_queueing") => all.drivers.push((key, piece)),
                    _ => {}
                }
            }
        }
        all
    }
}

/// A map over another one, key by key; lists are put behind each other, and all else is exchanged.
fn merged(below: Option<Piece>, over: &Piece) -> Piece {
    let Some(below) = below else {
        return over.clone();
    };
    match (below.content(), over.content()) {
        (Content::Map(old), Content::Map(new)) => {
            let mut entries = old.clone();
            for (key, piece) in new {
                match entries.iter_mut().find(|(known, _)| known == key) {
                    // The bundle takes these as they are.
                    Some((_, known)) if key == "arguments" => known.clone_from(piece),
                    Some((_, known)) => *known = merged(Some(known.clone()), piece),
                    None => entries.push((key.clone(), piece.clone())),
                }
            }
            over.made_map(entries)
        }
        (Content::List(old), Content::List(new)) => over.made(Content::List([old.as_slice(), new].concat())),
        _ => over.clone(),
    }
}

/// One entry of `imports:`.
pub(in crate::config) struct Import {
    /// The file, as written.
    pub(in crate::config) resource: String,
    /// It may be absent.
    pub(in crate::config) optional: bool,
    /// Where it is named.
    pub(in crate::config) setting: Setting,
}

/// The files that a file imports.
pub(in crate::config) fn imports(root: &Settings) -> Result<Vec<Import>> {
    let mut root = root.clone();
    let Some(imports) = root.setting(&["imports"])? else {
        return Ok(Vec::new());
    };
    if *imports.written() == Value::Null {
        return Ok(Vec::new());
    }
    imports
        .list()?
        .into_iter()
        .map(|setting| {
            if !setting.is_map() {
                return Ok(Import {
                    resource: written(&setting)?,
                    optional: false,
                    setting,
                });
            }
            let mut keys = setting.settings()?;
            let Some(resource) = keys.setting(&["resource"])? else {
                return Err(keys.missing("resource", "the file that is imported"));
            };
            // `not_found` is the third thing that it may be.
            let optional = keys.setting(&["ignore_errors"])?;
            let optional = optional.is_some_and(|optional| *optional.written() != Value::Bool(false));
            Ok(Import {
                resource: written(&resource)?,
                optional,
                setting: resource,
            })
        })
        .collect()
}

/// Text in which `${` means nothing.
fn written(setting: &Setting) -> Result<String> {
    match setting.written() {
        Value::Text(text) if !text.is_empty() && !text.contains('\0') => Ok(text.clone()),
        _ => Err(setting.error("must be the name of a file")),
    }
}

impl Import {
    /// Whether this is a file of the kind that qctl reads, next to the one that names it.
    pub(in crate::config) fn is_readable(&self) -> bool {
        let is_yaml = [".yml", ".yaml", ".yml.dist", ".yaml.dist"]
            .iter()
            .any(|end| self.resource.ends_with(end));
        let folder = self.resource.rsplit_once('/').map_or("", |(folder, _)| folder);
        is_yaml
            && !self.resource.starts_with('@')
            && !self.resource.contains(['%', '{'])
            && !folder.contains(['*', '?'])
    }
}
