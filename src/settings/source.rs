//! The text that settings were read from, and the environment that its `${VAR}` are looked up in.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::locate;
use super::path::Path;
use super::piece::{Place, Places};
use crate::error::Error;

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Where `${VAR}` is looked up.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

impl Environment {
    /// An environment that asks this function.
    pub fn new(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    /// An environment of these variables and no others.
    pub fn of<K: Into<String>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let variables: HashMap<String, OsString> = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self::new(move |name| variables.get(name).cloned())
    }

    /// The same environment, and what tells which variables it was asked for since.
    pub fn recording(&self) -> (Self, impl Fn() -> Vec<String> + use<>) {
        let asked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (inner, record) = (self.clone(), Arc::clone(&asked));
        let lookup = move |name: &str| {
            let mut asked = record.lock().unwrap_or_else(PoisonError::into_inner);
            if !asked.contains(name) {
                asked.insert(name.to_owned());
            }
            drop(asked);
            inner.get(name)
        };
        let told = move || {
            asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned()
                .collect()
        };
        (Self::new(lookup), told)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name)
    }
}

/// Values of variables are never shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// What kind of value a reader asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Text.
    Text,
    /// One of a few words.
    Choice,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A duration such as `5m`.
    Duration,
    /// A duration or `none`.
    LimitDuration,
    /// A size such as `256M`.
    Size,
    /// A text or a list of texts.
    Texts,
    /// A program, or a list of a program and its leading arguments.
    CommandLine,
    /// A map of texts.
    TextMap,
    /// A map of further keys.
    Map,
    /// A map or a list of maps.
    Maps,
    /// Several forms are taken.
    Any,
}

/// A key that was asked for while a [`Source::recording`] was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The path of the map.
    pub path: String,
    /// The key and its aliases.
    pub keys: Vec<String>,
    /// What it was asked for as.
    pub form: Form,
    /// The words of a choice.
    pub words: Vec<String>,
}

/// One file of configuration, or a text that stands for one.
pub struct Source {
    file: String,
    folder: PathBuf,
    text: String,
    environment: Environment,
    asked: Option<Mutex<Vec<Asked>>>,
    /// What stands in other sources, where this one is put together from pieces of them.
    elsewhere: Arc<Places>,
}

impl Source {
    /// A text from a file, which is called `file` in errors; relative paths in it start from `folder`.
    pub fn new(file: impl Into<String>, folder: impl Into<PathBuf>, text: String, environment: Environment) -> Self {
        Self {
            file: file.into(),
            folder: folder.into(),
            text,
            environment,
            asked: None,
            elsewhere: Arc::default(),
        }
    }

    /// The same source, holding pieces of others.
    pub(super) fn holding(mut self, pieces: Places) -> Self {
        self.elsewhere = Arc::new(pieces);
        self
    }

    /// The same text, remembering every key that is asked for.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.asked = Some(Mutex::new(Vec::new()));
        self
    }

    /// The same text with another environment.
    #[must_use]
    pub fn with_environment(&self, environment: Environment) -> Self {
        Self {
            elsewhere: Arc::clone(&self.elsewhere),
            ..Self::new(self.file.clone(), self.folder.clone(), self.text.clone(), environment)
        }
    }

    /// What errors call it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the relative paths start that stand in this place of it.
    pub(super) fn folder(&self, path: &Path) -> &FilePath {
        match self.origin(path) {
            Some((place, path)) => place.source.folder(&path),
            None => &self.folder,
        }
    }

    /// Its environment.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What was asked for so far; empty unless it is recording.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.as_ref().map_or_else(Vec::new, |asked| {
            asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn record(&self, path: &Path, keys: &[&str], form: Form, words: impl Iterator<Item = String>) {
        if let Some(asked) = &self.asked {
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked {
                path: path.to_string(),
                keys: keys.iter().map(|&key| key.to_owned()).collect(),
                form,
                words: words.collect(),
            });
        }
    }

    /// Where this path stands in another source: the place of the piece that it lies in, and its path there.
    fn origin(&self, path: &Path) -> Option<(&Place, Path)> {
        if self.elsewhere.is_empty() {
            return None;
        }
        let steps = path.segments();
        (0..=steps.len()).rev().find_map(|length| {
            let before: Path = steps[..length].iter().cloned().collect();
            let place = self.elsewhere.get(&before)?;
            Some((place, place.path.join(&steps[length..])))
        })
    }

    /// `FILE:LINE` of this path.
    pub(super) fn place(&self, path: &Path) -> String {
        if let Some((place, path)) = self.origin(path) {
            return place.source.place(&path);
        }
        match locate::line(&self.text, path) {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }

    /// `FILE:LINE: path: message`.
    pub(super) fn error(&self, path: &Path, message: impl fmt::Display) -> Error {
        if let Some((place, path)) = self.origin(path) {
            return place.source.error(&path, message);
        }
        let place = self.place(path);
        if path.is_empty() {
            Error::config(format!("{place}: {message}"))
        } else {
            Error::config(format!("{place}: {path}: {message}"))
        }
    }

    /// The scalar at this path exactly as written.
    pub(super) fn raw(&self, path: &Path) -> Option<String> {
        if let Some((place, path)) = self.origin(path) {
            return place.verbatim.then(|| place.source.raw(&path))?;
        }
        locate::raw(&self.text, path)
    }
}

/// The text is not shown: it may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
