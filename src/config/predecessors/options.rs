//! One map of a predecessor's file, taken apart key by key. What nobody asks for is left out, and can be told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use super::parameters::Parameters;
use crate::error::Result;
use crate::settings::{Content, Piece, Value};

/// A section of qctl's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Connections,
    Producers,
    Consumers,
}

/// Something that is not taken over, and why.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// The entry that it belonged to.
    pub(super) entry: Option<(Section, String)>,
    /// Its key.
    pub(super) key: String,
    piece: Piece,
    /// What that means, or what to do instead.
    pub(super) why: String,
}

/// File, line, key and reason, in one line.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.piece.error(format_args!("left out: {}", self.why)))
    }
}

/// A line for each thing that is left out. What is the same in many places is told at the first of them: nobody reads the
/// rest, and each place takes time to be found.
pub fn left_out_lines(all: &[LeftOut]) -> Vec<String> {
    let mut groups: Vec<(&LeftOut, usize)> = Vec::new();
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    for left in all {
        match known.entry((&left.key, &left.why)) {
            Entry::Occupied(group) => groups[*group.get()].1 += 1,
            Entry::Vacant(group) => {
                group.insert(groups.len());
                groups.push((left, 0));
            }
        }
    }
    let line = |(left, more): (&LeftOut, usize)| match more {
        0 => left.to_string(),
        more => format!("{left} (and in {more} more places)"),
    };
    groups.into_iter().map(line).collect()
}

/// What was left out so far.
#[derive(Default)]
pub(super) struct Remains {
    entry: Option<(Section, String)>,
    pub(super) all: Vec<LeftOut>,
}

impl Remains {
    /// What follows belongs to this entry.
    pub(super) fn of_entry(&mut self, section: Section, name: &str) {
        self.entry = Some((section, name.to_owned()));
    }

    /// What follows belongs to no entry.
    pub(super) fn of_all(&mut self) {
        self.entry = None;
    }

    pub(super) fn add(&mut self, key: &str, piece: &Piece, why: impl Into<String>) {
        self.all.push(LeftOut {
            entry: self.entry.clone(),
            key: key.to_owned(),
            piece: piece.clone(),
            why: why.into(),
        });
    }
}

/// A map's keys, not yet asked for. Cloned to look ahead. Dashes and underscores in keys are the same, as in Symfony's files.
#[derive(Clone)]
pub(super) struct Options<'a> {
    /// The map itself.
    pub(super) piece: Piece,
    entries: Vec<(String, Piece)>,
    /// `None`: they are put in already.
    parameters: Option<&'a Parameters>,
}

impl<'a> Options<'a> {
    /// A map; nothing at all, and PHP's empty list, are empty ones. A parameter may stand for the whole of it.
    pub(super) fn of(piece: &Piece, parameters: &'a Parameters) -> Result<Self> {
        Self::below("", piece, Some(parameters))
    }

    fn below(key: &str, piece: &Piece, parameters: Option<&'a Parameters>) -> Result<Self> {
        let (piece, parameters) = match parameters {
            Some(parameters) if piece.as_text().is_some() => (parameters.resolve(key, piece)?, None),
            parameters => (piece.clone(), parameters),
        };
        let entries = match piece.content() {
            Content::Map(entries) => entries.clone(),
            Content::Scalar(Value::Null) => Vec::new(),
            Content::List(list) if list.is_empty() => Vec::new(),
            _ => return Err(piece.error(format!("must be a map of keys, not {}", piece.value().kind()))),
        };
        Ok(Self {
            piece,
            entries,
            parameters,
        })
    }

    /// The first of these keys that has a value, as it is written.
    fn first(&mut self, keys: &[&str]) -> Option<(String, Piece)> {
        let mut found = None;
        for key in keys {
            while let Some(position) = self.entries.iter().position(|(known, _)| is_same(known, key)) {
                let (written, piece) = self.entries.remove(position);
                if found.is_none() && !piece.is_null() {
                    found = Some((written, piece));
                }
            }
        }
        found
    }

    /// The value of the first of these keys that has one, its parameters put in.
    pub(super) fn take(&mut self, keys: &[&str]) -> Result<Option<Piece>> {
        let Some((key, piece)) = self.first(keys) else {
            return Ok(None);
        };
        let piece = match self.parameters {
            Some(parameters) => parameters.resolve(&key, &piece)?,
            None => piece,
        };
        Ok(Some(piece).filter(|piece| !piece.is_null()))
    }

    /// The same as text.
    pub(super) fn text(&mut self, keys: &[&str]) -> Result<Option<Piece>> {
        self.take(keys)?.map(as_text).transpose()
    }

    /// The value of a key that is a map.
    pub(super) fn map(&mut self, keys: &[&str]) -> Result<Option<Self>> {
        let Some((key, piece)) = self.first(keys) else {
            return Ok(None);
        };
        Self::below(&key, &piece, self.parameters).map(Some)
    }

    /// The values of a key that is a list of maps, or one map.
    pub(super) fn maps(&mut self, keys: &[&str]) -> Result<Vec<Self>> {
        let Some((key, piece)) = self.first(keys) else {
            return Ok(Vec::new());
        };
        match piece.content() {
            Content::List(list) => {
                let maps = list.iter().map(|piece| Self::below(&key, piece, self.parameters));
                maps.collect()
            }
            _ => Ok(vec![Self::below(&key, &piece, self.parameters)?]),
        }
    }

    /// The entries of a section, each a map under its name. What is `false` is taken out of a section, as in Symfony.
    pub(super) fn named(&mut self, key: &str) -> Result<Vec<(String, Self)>> {
        let Some(section) = self.map(&[key])? else {
            return Ok(Vec::new());
        };
        let is_there = |piece: &Piece| !matches!(piece.content(), Content::Scalar(Value::Bool(false)));
        section
            .entries
            .iter()
            .filter(|(_, piece)| is_there(piece))
            .map(|(name, piece)| Ok((name.clone(), Self::below(name, piece, section.parameters)?)))
            .collect()
    }

    /// It has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, _)| is_same(known, key))
    }

    /// True or false; text from a variable is left to be read later.
    pub(super) fn boolean(&mut self, keys: &[&str]) -> Result<Option<Piece>> {
        let Some(piece) = self.take(keys)? else {
            return Ok(None);
        };
        if piece.as_text().is_some_and(|text| text.contains("${")) {
            return Ok(Some(piece));
        }
        let value = piece.setting().boolean()?;
        Ok(Some(piece.made(Content::Scalar(Value::Bool(value)))))
    }

    /// Keys that say nothing to qctl and whose absence changes nothing.
    pub(super) fn pass_over(&mut self, keys: &[&str]) {
        self.entries
            .retain(|(known, _)| !keys.iter().any(|key| is_same(known, key)));
    }

    /// Tells of all that nobody asked for; `reasons` are those that are known, by key.
    pub(super) fn finish(self, reasons: &[(&str, &str)], remains: &mut Remains) {
        for (key, piece) in &self.entries {
            let known = reasons.iter().find(|(name, _)| is_same(key, name));
            remains.add(key, piece, known.map_or("it means nothing to qctl", |(_, why)| why));
        }
    }
}

/// A text, as which numbers are taken as they are written: `1.10` is no `1.1`.
pub(super) fn as_text(piece: Piece) -> Result<Piece> {
    match piece.as_text() {
        Some(_) => Ok(piece),
        None => Ok(piece.made_text(piece.setting().text()?)),
    }
}

fn is_same(written: &str, key: &str) -> bool {
    written.len() == key.len()
        && written
            .bytes()
            .zip(key.bytes())
            .all(|(a, b)| a == b || (a == b'-' && b == b'_'))
}

/// The value of a boolean that [`Options::boolean`] gave; one that is not known yet is not this one.
pub(super) fn is(piece: Option<&Piece>, wanted: bool) -> bool {
    matches!(piece.map(Piece::content), Some(Content::Scalar(Value::Bool(value))) if *value == wanted)
}
