//! One value of the configuration, which knows where it stands.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::interpolate::{has_variables, interpolate};
use super::path::Path;
use super::reader::Settings;
use super::source::Source;
use super::suggest::{one_of, suggestion};
use super::units::{self, parse_duration, parse_size};
use super::value::Value;
use crate::error::{Error, Result};

/// One value of the configuration. Each reader takes what its name says or fails with an error that names file, line,
/// key and what was meant; `${VAR}` is put into text as it is read.
#[derive(Clone)]
pub struct Setting {
    source: Arc<Source>,
    path: Path,
    value: Value,
}

impl Setting {
    pub(super) fn new(source: Arc<Source>, path: Path, value: Value) -> Self {
        Self { source, path, value }
    }

    /// The value as written, without its variables put in.
    pub fn written(&self) -> &Value {
        &self.value
    }

    /// The value with its variables put in.
    pub fn resolved(&self) -> Result<Value> {
        Ok(match &self.value {
            Value::Text(text) => Value::Text(self.interpolated(text)?.into_owned()),
            Value::List(_) => Value::List(self.list()?.iter().map(Self::resolved).collect::<Result<_>>()?),
            Value::Map(_) => Value::Map(
                self.entries()?
                    .into_iter()
                    .map(|(name, setting)| Ok((name, setting.resolved()?)))
                    .collect::<Result<_>>()?,
            ),
            other => other.clone(),
        })
    }

    /// Its path, such as `consumers.mail.queue`.
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// `FILE:LINE`, for an error about another place.
    pub fn place(&self) -> String {
        self.source.place(&self.path)
    }

    /// The path in its source.
    pub fn steps(&self) -> &Path {
        &self.path
    }

    /// The same value, read with another environment.
    pub(super) fn with_source(&self, source: Source) -> Self {
        Self::new(Arc::new(source), self.path.clone(), self.value.clone())
    }

    /// The file it stands in.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where relative paths in it start: the folder of its file.
    pub fn folder(&self) -> &FilePath {
        self.source.folder(&self.path)
    }

    /// An error that names file, line and key.
    pub fn error(&self, message: impl fmt::Display) -> Error {
        self.source.error(&self.path, message)
    }

    /// It holds nothing: no value, or an empty list or map.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            _ => false,
        }
    }

    /// It is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// It is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.value, Value::List(_))
    }

    /// Text; numbers and booleans are taken as written.
    pub fn text(&self) -> Result<String> {
        match &self.value {
            Value::Text(text) => Ok(self.interpolated(text)?.into_owned()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => Ok(self.scalar()),
            Value::Null => Err(self.no_value()),
            Value::List(_) | Value::Map(_) => Err(self.error(format!("must be text, not {}", self.value.kind()))),
        }
    }

    /// True or false; 0 and 1 are understood.
    pub fn boolean(&self) -> Result<bool> {
        let word = match &self.value {
            Value::Bool(value) => return Ok(*value),
            Value::Int(0) => return Ok(false),
            Value::Int(1) => return Ok(true),
            Value::Null => return Err(self.no_value()),
            Value::Text(text) => self.interpolated(text)?,
            _ => Cow::Borrowed(""),
        };
        // A variable is not written by YAML's rules, so it may hold the other words there are.
        let is_of_variable = matches!(&self.value, Value::Text(text) if has_variables(text));
        match word.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            "yes" | "on" if is_of_variable => Ok(true),
            "no" | "off" if is_of_variable => Ok(false),
            _ => Err(self.error(format!("must be true or false, not {}", self.quoted()))),
        }
    }

    /// A whole number.
    pub fn integer(&self) -> Result<i64> {
        let number = match &self.value {
            Value::Int(value) => Some(*value),
            Value::Null => return Err(self.no_value()),
            Value::Text(text) => self.interpolated(text)?.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.error(format!("must be a whole number, not {}", self.quoted())))
    }

    /// A whole number that is not negative.
    pub fn count(&self) -> Result<u64> {
        let number = self.integer()?;
        u64::try_from(number).map_err(|_| self.error(format!("must not be negative, and is {}", self.quoted())))
    }

    /// A whole number within these limits, both included.
    pub fn count_within(&self, least: u64, most: u64) -> Result<u64> {
        let number = self.count()?;
        if number < least {
            Err(self.error(format!("must be at least {least}, and is {}", self.quoted())))
        } else if number > most {
            Err(self.error(format!("must be at most {most}, and is {}", self.quoted())))
        } else {
            Ok(number)
        }
    }

    /// A number.
    pub fn number(&self) -> Result<f64> {
        let number = match &self.value {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Null => return Err(self.no_value()),
            Value::Text(text) => self.interpolated(text)?.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| number.is_finite())
            .ok_or_else(|| self.error(format!("must be a number, not {}", self.quoted())))
    }

    /// A share, from 0 to 1.
    pub fn share(&self) -> Result<f64> {
        let share = self.number()?;
        if (0.0..=1.0).contains(&share) {
            Ok(share)
        } else {
            Err(self.error(format!("must be a share from 0 to 1, and is {}", self.quoted())))
        }
    }

    /// A duration: `5m`, `1h30m`, `250ms`, `30d`, or bare seconds.
    pub fn duration(&self) -> Result<Duration> {
        self.measured(parse_duration, "a duration such as 5m, or bare seconds")
    }

    /// A duration; `none` and 0 are no limit.
    pub fn limit_duration(&self) -> Result<Option<Duration>> {
        if let Value::Text(text) = &self.value
            && self.interpolated(text)? == "none"
        {
            return Ok(None);
        }
        let duration = self.measured(parse_duration, "a duration such as 5m, bare seconds, or `none`")?;
        Ok(Some(duration).filter(|duration| !duration.is_zero()))
    }

    /// A size in bytes: `256M`, `1MiB`, `16K`, or bare bytes.
    pub fn size(&self) -> Result<u64> {
        self.measured(parse_size, "a size such as 256M, or bare bytes")
    }

    /// A list of texts; a single text is a list of one.
    pub fn texts(&self) -> Result<Vec<String>> {
        match &self.value {
            Value::List(_) => self.list()?.iter().map(Self::text).collect(),
            Value::Map(_) => Err(self.error("must be a text or a list of texts, not a map")),
            _ => Ok(vec![self.text()?]),
        }
    }

    /// A map of texts, in the order written.
    pub fn text_map(&self) -> Result<Vec<(String, String)>> {
        self.entries()?
            .into_iter()
            .map(|(name, setting)| Ok((name, setting.text()?)))
            .collect()
    }

    /// A list's elements; any other value is a list of itself.
    pub fn list(&self) -> Result<Vec<Self>> {
        match &self.value {
            Value::Null => Err(self.no_value()),
            Value::List(list) => Ok(list
                .iter()
                .enumerate()
                .map(|(index, value)| Self::new(Arc::clone(&self.source), self.path.index(index), value.clone()))
                .collect()),
            _ => Ok(vec![self.clone()]),
        }
    }

    /// A map's entries in the order written, for maps whose keys are names. An empty value is an empty map.
    pub fn entries(&self) -> Result<Vec<(String, Self)>> {
        match &self.value {
            Value::Null => Ok(Vec::new()),
            Value::Map(map) => Ok(map
                .iter()
                .map(|(key, value)| {
                    let setting = Self::new(Arc::clone(&self.source), self.path.key(key), value.clone());
                    (key.clone(), setting)
                })
                .collect()),
            _ => Err(self.no_map()),
        }
    }

    /// A map of keys. An empty value is an empty map.
    pub fn settings(&self) -> Result<Settings> {
        let entries = match &self.value {
            Value::Null => Vec::new(),
            Value::Map(map) => map.clone(),
            _ => return Err(self.no_map()),
        };
        Ok(Settings::new(Arc::clone(&self.source), self.path.clone(), entries))
    }

    /// An empty map in this place, for a value that stands for a map without any key.
    pub fn empty_settings(&self) -> Settings {
        Settings::new(Arc::clone(&self.source), self.path.clone(), Vec::new())
    }

    /// A list of maps; a single map is a list of one.
    pub fn settings_list(&self) -> Result<Vec<Settings>> {
        self.list()?.iter().map(Self::settings).collect()
    }

    /// The short form of a map: this value alone, as if it were the value of `key` in a map of that one key.
    pub fn short_form(&self, key: &str) -> Settings {
        Settings::short_form(
            Arc::clone(&self.source),
            self.path.clone(),
            (key.to_owned(), self.value.clone()),
        )
    }

    /// A path; a relative one starts at the folder of this file.
    pub fn file_path(&self) -> Result<PathBuf> {
        let text = self.text()?;
        if text.is_empty() || text.contains('\0') {
            return Err(self.error(format!("must be a path, not {}", self.quoted())));
        }
        Ok(self.folder().join(text))
    }

    /// A program and its leading arguments, such as `[php, bin/console]`. A program with a slash in it is a path, and a
    /// relative one starts at the folder of this file; one without is left to be looked for in the `PATH`.
    pub fn command_line(&self) -> Result<Vec<String>> {
        let mut words = self.texts()?;
        let Some(program) = words.first_mut().filter(|program| !program.is_empty()) else {
            return Err(self.error("must name a program, such as `[php, bin/console]`"));
        };
        // No shell splits it, so this would look for a program with a space in its name.
        if !self.is_list() && program.contains(char::is_whitespace) {
            let list = match &self.value {
                // As written, so that no variable is told.
                Value::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(", "),
                _ => "php, bin/console".to_owned(),
            };
            return Err(self.error(format!(
                "is one program's name, with a space in it; write a list such as `[{list}]`, or, if the program is really \
                 called so, a list of that one name",
                list = units::quoted(&list)
            )));
        }
        if program.contains('/') && !program.starts_with('/') {
            let path = self.folder().join(&*program);
            let path = path.to_str().ok_or_else(|| self.not_utf8())?;
            path.clone_into(program);
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(self.error("must not hold NUL characters"));
        }
        Ok(words)
    }

    /// The error for a path that must be text.
    pub fn not_utf8(&self) -> Error {
        self.error("lies below a folder whose name is not UTF-8; give an absolute path")
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let word = match &self.value {
            Value::List(_) | Value::Map(_) => String::new(),
            _ => self.text()?,
        };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return Ok(*choice);
        }
        let names = || choices.iter().map(|(name, _)| *name);
        let hint = suggestion(&word, names()).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        Err(self.error(format!("must be {}, not {}{hint}", one_of(names()), self.quoted())))
    }

    /// What stands there, for an error. What came out of a variable is not shown: it may be a secret.
    pub fn quoted(&self) -> String {
        match &self.value {
            Value::Text(text) if text.is_empty() => "an empty text".to_owned(),
            Value::Text(text) if has_variables(text) => format!("what `{}` holds", units::quoted(text)),
            Value::Text(text) => format!("`{}`", units::quoted(text)),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => format!("`{}`", units::quoted(&self.scalar())),
            other => other.kind().to_owned(),
        }
    }

    fn interpolated<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        interpolate(text, self.source.environment()).map_err(|message| self.error(message))
    }

    /// A number or boolean as written, so that `1.10` as a text does not become `1.1`.
    fn scalar(&self) -> String {
        self.source.raw(&self.path).unwrap_or_else(|| match &self.value {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            other => other.kind().to_owned(),
        })
    }

    fn measured<T>(&self, parse: fn(&str) -> Result<T, String>, meant: &str) -> Result<T> {
        match &self.value {
            Value::Int(number) => parse(&number.to_string()).map_err(|message| self.error(message)),
            Value::Float(number) => parse(&number.to_string()).map_err(|message| self.error(message)),
            Value::Text(text) => parse(&self.interpolated(text)?).map_err(|message| {
                if has_variables(text) {
                    self.error(format!("must be {meant}, not {}", self.quoted()))
                } else {
                    self.error(message)
                }
            }),
            Value::Null => Err(self.no_value()),
            _ => Err(self.error(format!("must be {meant}, not {}", self.quoted()))),
        }
    }

    fn no_value(&self) -> Error {
        self.error("has no value; write one after the colon, or remove the key")
    }

    fn no_map(&self) -> Error {
        self.error(format!("must be a map of keys, not {}", self.quoted()))
    }
}

/// The value is not shown: it may be a secret.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Setting({}: {} = {})",
            self.source.file(),
            self.path,
            self.value.kind()
        )
    }
}
