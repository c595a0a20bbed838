//! A piece of configuration that knows where it stands, so that whoever reads it can say file, line and key.
//!
//! Drivers and handlers decode their own keys from a [`Settings`]; the configuration loader never learns them.

use std::time::Duration;

use crate::error::{Error, Result};

/// A YAML value as written; interpolation of `${VAR}` happens when text is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map, in the order written.
    Map(Vec<(String, Value)>),
}

/// The keys of one map of the configuration. Each reader takes a canonical key and its aliases; `finish` refuses what
/// nobody has read.
#[derive(Clone, Debug)]
pub struct Settings {}

#[allow(unused_variables, missing_docs, clippy::unused_self, clippy::todo)]
impl Settings {
    pub fn text(&mut self, keys: &[&str]) -> Result<Option<String>> {
        todo!()
    }
    pub fn boolean(&mut self, keys: &[&str]) -> Result<Option<bool>> {
        todo!()
    }
    pub fn integer(&mut self, keys: &[&str]) -> Result<Option<i64>> {
        todo!()
    }
    pub fn count(&mut self, keys: &[&str]) -> Result<Option<u64>> {
        todo!()
    }
    pub fn duration(&mut self, keys: &[&str]) -> Result<Option<Duration>> {
        todo!()
    }
    /// As `duration`, but `none` and `0` are `Some(None)`: no limit.
    pub fn limit_duration(&mut self, keys: &[&str]) -> Result<Option<Option<Duration>>> {
        todo!()
    }
    pub fn size(&mut self, keys: &[&str]) -> Result<Option<u64>> {
        todo!()
    }
    /// A list of texts; a single text is a list of one.
    pub fn texts(&mut self, keys: &[&str]) -> Result<Option<Vec<String>>> {
        todo!()
    }
    /// A map of texts, such as `env:`.
    pub fn text_map(&mut self, keys: &[&str]) -> Result<Option<Vec<(String, String)>>> {
        todo!()
    }
    /// A nested map.
    pub fn map(&mut self, keys: &[&str]) -> Result<Option<Settings>> {
        todo!()
    }
    /// A list of maps; a single map is a list of one.
    pub fn maps(&mut self, keys: &[&str]) -> Result<Option<Vec<Settings>>> {
        todo!()
    }
    /// Any value, for keys with several forms.
    pub fn value(&mut self, keys: &[&str]) -> Option<Value> {
        todo!()
    }
    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, keys: &[&str], choices: &[(&str, T)]) -> Result<Option<T>> {
        todo!()
    }
    /// An error that names file, line and `key`.
    pub fn error(&self, key: &str, message: impl std::fmt::Display) -> Error {
        todo!()
    }
    /// The folder of the file it is in, for relative paths.
    pub fn folder(&self) -> std::path::PathBuf {
        todo!()
    }
    /// The path of this map, such as `connections.rabbit`.
    pub fn path(&self) -> String {
        todo!()
    }
    /// Refuses keys that were not read, with "did you mean".
    pub fn finish(self) -> Result<()> {
        todo!()
    }
}

/// STUB
pub fn suggestion<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .find(|candidate| strsim::damerau_levenshtein(given, candidate) <= 2)
}
