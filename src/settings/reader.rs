//! One map of the configuration, read key by key.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::parse::{Tags, parse};
use super::path::Path;
use super::secret::{Secret, SecretSource};
use super::setting::Setting;
use super::source::{Form, Source};
use super::suggest::suggestion;
use super::value::Value;
use crate::error::{Error, Result};

/// The keys of one map of the configuration. Each reader takes a canonical key and its aliases; `finish` refuses what
/// nobody has read.
#[derive(Clone)]
pub struct Settings {
    source: Arc<Source>,
    path: Path,
    entries: Vec<(String, Value)>,
    /// Every group of keys asked for: the canonical one first, then its aliases.
    asked: Vec<Vec<String>>,
    /// The map stands for a single value at `path`.
    short: bool,
    /// An error found where none could be returned; `finish` tells it.
    pending: Option<String>,
}

impl Settings {
    /// Reads a file's text. An empty file is an empty map.
    pub fn parse(source: Source) -> Result<Self> {
        Self::parse_with(source, Tags::Refused)
    }

    /// As [`parse`](Self::parse), for files of others too, whose YAML tags may mean something to them.
    pub fn parse_with(source: Source, tags: Tags) -> Result<Self> {
        let value = parse(source.text(), tags).map_err(|error| {
            let line = match error.line {
                0 => String::new(),
                line => format!(":{line}"),
            };
            let path = if error.path.is_empty() {
                String::new()
            } else {
                format!(" {}:", error.path)
            };
            Error::config(format!("{}{line}:{path} {}", source.file(), error.message))
        })?;
        let source = Arc::new(source);
        match value {
            Value::Null => Ok(Self::new(source, Path::default(), Vec::new())),
            Value::Map(entries) => Ok(Self::new(source, Path::default(), entries)),
            other => Err(Error::config(format!(
                "{}: must be a map of keys such as `connections:`, not {}",
                source.file(),
                other.kind()
            ))),
        }
    }

    /// A map that stands in no file, such as a built-in default; `name` is what errors call it.
    pub fn built_in<K: Into<String>>(
        name: &str,
        source: Source,
        entries: impl IntoIterator<Item = (K, Value)>,
    ) -> Self {
        let path = Path::default().key(name);
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
        Self::new(Arc::new(source), path, entries)
    }

    pub(super) fn new(source: Arc<Source>, path: Path, entries: Vec<(String, Value)>) -> Self {
        Self {
            source,
            path,
            entries,
            asked: Vec::new(),
            short: false,
            pending: None,
        }
    }

    pub(super) fn short_form(source: Arc<Source>, path: Path, entry: (String, Value)) -> Self {
        Self {
            short: true,
            ..Self::new(source, path, vec![entry])
        }
    }

    /// Text.
    pub fn text(&mut self, keys: &[&str]) -> Result<Option<String>> {
        self.read(keys, Form::Text, Setting::text)
    }

    /// True or false; 0 and 1 are understood.
    pub fn boolean(&mut self, keys: &[&str]) -> Result<Option<bool>> {
        self.read(keys, Form::Boolean, Setting::boolean)
    }

    /// A whole number.
    pub fn integer(&mut self, keys: &[&str]) -> Result<Option<i64>> {
        self.read(keys, Form::Integer, Setting::integer)
    }

    /// A whole number that is not negative.
    pub fn count(&mut self, keys: &[&str]) -> Result<Option<u64>> {
        self.read(keys, Form::Integer, Setting::count)
    }

    /// A whole number within these limits, both included.
    pub fn count_within(&mut self, keys: &[&str], least: u64, most: u64) -> Result<Option<u64>> {
        self.read(keys, Form::Integer, |setting| setting.count_within(least, most))
    }

    /// A duration: `5m`, `1h30m`, `250ms`, `30d`, or bare seconds.
    pub fn duration(&mut self, keys: &[&str]) -> Result<Option<Duration>> {
        self.read(keys, Form::Duration, Setting::duration)
    }

    /// As `duration`, but `none` and `0` are `Some(None)`: no limit.
    pub fn limit_duration(&mut self, keys: &[&str]) -> Result<Option<Option<Duration>>> {
        self.read(keys, Form::LimitDuration, Setting::limit_duration)
    }

    /// A size in bytes: `256M`, `1MiB`, `16K`, or bare bytes. (The `-l` flag takes a bare number as megabytes; that is
    /// the command line's own rule.)
    pub fn size(&mut self, keys: &[&str]) -> Result<Option<u64>> {
        self.read(keys, Form::Size, Setting::size)
    }

    /// A list of texts; a single text is a list of one.
    pub fn texts(&mut self, keys: &[&str]) -> Result<Option<Vec<String>>> {
        self.read(keys, Form::Texts, Setting::texts)
    }

    /// A program and its leading arguments, as [`Setting::command_line`] reads them.
    pub fn command_line(&mut self, keys: &[&str]) -> Result<Option<Vec<String>>> {
        self.read(keys, Form::CommandLine, Setting::command_line)
    }

    /// A path; a relative one starts at the folder of this file.
    pub fn file_path(&mut self, keys: &[&str]) -> Result<Option<PathBuf>> {
        self.read(keys, Form::Text, Setting::file_path)
    }

    /// A map of texts, such as `env:`.
    pub fn text_map(&mut self, keys: &[&str]) -> Result<Option<Vec<(String, String)>>> {
        self.read(keys, Form::TextMap, Setting::text_map)
    }

    /// A nested map.
    pub fn map(&mut self, keys: &[&str]) -> Result<Option<Settings>> {
        self.read(keys, Form::Map, Setting::settings)
    }

    /// A list of maps; a single map is a list of one.
    pub fn maps(&mut self, keys: &[&str]) -> Result<Option<Vec<Settings>>> {
        self.read(keys, Form::Maps, Setting::settings_list)
    }

    /// The entries of a map whose keys are names, in the order written.
    pub fn entries(&mut self, keys: &[&str]) -> Result<Option<Vec<(String, Setting)>>> {
        self.read(keys, Form::Map, Setting::entries)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, keys: &[&str], choices: &[(&str, T)]) -> Result<Option<T>> {
        let words = choices.iter().map(|(word, _)| (*word).to_owned());
        self.source.record(&self.path, keys, Form::Choice, words);
        self.read(keys, Form::Choice, |setting| setting.choice(choices))
    }

    /// A value which knows its place, for keys with several forms.
    pub fn setting(&mut self, keys: &[&str]) -> Result<Option<Setting>> {
        self.read(keys, Form::Any, |setting| Ok(setting.clone()))
    }

    /// Any value, its variables put in. A mistake in it (a missing variable, a key beside its alias) is told by
    /// `finish`; prefer [`setting`](Self::setting), which also knows its line.
    pub fn value(&mut self, keys: &[&str]) -> Option<Value> {
        match self.read(keys, Form::Any, Setting::resolved) {
            Ok(value) => value,
            Err(error) => {
                self.pending.get_or_insert_with(|| error.to_string());
                None
            }
        }
    }

    /// A secret: `key` itself, or `key_file` naming the file that holds it, which is read when the secret is used.
    pub fn secret(&mut self, key: &str) -> Result<Option<SecretSource>> {
        let file_key = format!("{key}_file");
        let inline = self.read(&[key], Form::Text, Setting::text)?;
        let file = self.read(&[&file_key], Form::Text, Setting::file_path)?;
        match (inline, file) {
            (Some(_), Some(_)) => {
                Err(self.error(key, format!("is given, and so is `{file_key}`; keep one of the two")))
            }
            (Some(inline), None) => Ok(Some(SecretSource::Inline(Secret::new(inline)))),
            (None, Some(file)) => Ok(Some(SecretSource::File(file))),
            (None, None) => Ok(None),
        }
    }

    /// The keys there are, in the order written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }

    /// This key is there, under this very name.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, _)| known == key)
    }

    /// What a key's value is, without reading it or its variables.
    pub fn written(&self, key: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value)
    }

    /// The same map without this key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        let mut rest = self.clone();
        rest.entries.retain(|(known, _)| known != key);
        rest
    }

    /// The whole map as one value.
    pub fn to_setting(&self) -> Setting {
        let value = match self.entries.as_slice() {
            [(_, value)] if self.short => value.clone(),
            entries => Value::Map(entries.to_vec()),
        };
        Setting::new(Arc::clone(&self.source), self.path.clone(), value)
    }

    /// The file it stands in.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where its relative paths start: the folder of its file.
    pub fn folder(&self) -> &FilePath {
        self.source.folder(&self.path)
    }

    /// An error that names file, line and `key`, which may be given here under one of its aliases; with an empty key the
    /// error is about the map itself.
    pub fn error(&self, key: &str, message: impl fmt::Display) -> Error {
        if key.is_empty() || self.short {
            return self.source.error(&self.path, message);
        }
        let written = self
            .asked
            .iter()
            .filter(|group| group.iter().any(|name| name == key))
            .flatten()
            .find(|name| self.has(name))
            .map_or(key, String::as_str);
        self.source.error(&self.path.key(written), message)
    }

    /// The error for a key that must be there and is not.
    pub fn missing(&self, key: &str, meaning: impl fmt::Display) -> Error {
        self.source.error(&self.path, format!("`{key}` is missing: {meaning}"))
    }

    /// The path of this map, such as `connections.rabbit`.
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// `FILE:LINE` of this map.
    pub fn place(&self) -> String {
        self.source.place(&self.path)
    }

    /// Refuses keys that were not read, with "did you mean".
    pub fn finish(self) -> Result<()> {
        self.check_unknown()
    }

    /// As [`finish`](Self::finish), for a map that is asked further afterwards. Called before a missing key is told, once
    /// all others are read: what is missing is mostly there, misspelt.
    pub fn check_unknown(&self) -> Result<()> {
        if let Some(pending) = &self.pending {
            return Err(Error::config(pending.clone()));
        }
        let Some((unknown, _)) = self
            .entries
            .iter()
            .find(|(key, _)| !self.asked.iter().flatten().any(|known| known == key))
        else {
            return Ok(());
        };
        let names = self.asked.iter().flatten().map(String::as_str);
        let hint = suggestion(unknown, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        let mut known: Vec<&str> = self
            .asked
            .iter()
            .filter_map(|group| group.first())
            .map(String::as_str)
            .collect();
        known.dedup();
        let known = if known.is_empty() {
            "no key is known here".to_owned()
        } else {
            format!("known here: {}", known.join(", "))
        };
        let message = format!("unknown key{hint} ({known})");
        if self.short {
            return Err(self.source.error(&self.path, message));
        }
        Err(self.source.error(&self.path.key(unknown), message))
    }

    fn read<T>(&mut self, keys: &[&str], form: Form, convert: impl FnOnce(&Setting) -> Result<T>) -> Result<Option<T>> {
        self.source.record(&self.path, keys, form, std::iter::empty());
        if !self.asked.iter().any(|group| group.iter().eq(keys.iter())) {
            self.asked.push(keys.iter().map(|&key| key.to_owned()).collect());
        }
        let mut given = self.entries.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        let Some((key, value)) = given.next() else {
            return Ok(None);
        };
        if let Some((second, _)) = given.next() {
            return Err(self.source.error(
                &self.path.key(second),
                format!("means the same as `{key}`, which is given too; keep one of the two"),
            ));
        }
        let path = if self.short {
            self.path.clone()
        } else {
            self.path.key(key)
        };
        convert(&Setting::new(Arc::clone(&self.source), path, value.clone())).map(Some)
    }
}

/// The values are not shown: they may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("file", &self.source.file())
            .field("path", &self.path.to_string())
            .field("keys", &self.entries.iter().map(|(key, _)| key).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
