//! A configuration put together from pieces of others. Every piece keeps the place where it was written, so that an error
//! names that, wherever the piece has come to stand.

use std::collections::HashMap;
use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::path::{Path, Segment};
use super::reader::Settings;
use super::setting::Setting;
use super::source::{Environment, Source};
use super::value::Value;
use crate::error::Error;

/// Where the pieces of a source come from, by their paths in it.
pub(super) type Places = HashMap<Path, Place>;

/// A place in another source.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    pub(super) path: Path,
    /// What stands there is the value itself, not something that it was made from.
    pub(super) verbatim: bool,
}

impl Place {
    fn step(&self, step: Segment) -> Self {
        Self {
            source: Arc::clone(&self.source),
            path: self.path.join(&[step]),
            verbatim: self.verbatim,
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.path == other.path && self.verbatim == other.verbatim
    }
}

/// A value and where it was written.
#[derive(Clone)]
pub struct Piece {
    content: Content,
    place: Place,
}

/// What a [`Piece`] holds.
#[derive(Clone)]
pub enum Content {
    /// Anything but a list or a map.
    Scalar(Value),
    /// A list.
    List(Vec<Piece>),
    /// A map, in the order written.
    Map(Vec<(String, Piece)>),
}

impl Piece {
    /// A setting as a piece, with all that is in it.
    pub fn of(setting: &Setting) -> Self {
        let place = Place {
            source: Arc::clone(setting.source()),
            path: setting.steps().clone(),
            verbatim: true,
        };
        Self::read(setting.written(), place)
    }

    fn read(value: &Value, place: Place) -> Self {
        let content = match value {
            Value::List(list) => Content::List(
                list.iter()
                    .enumerate()
                    .map(|(index, value)| Self::read(value, place.step(Segment::Index(index))))
                    .collect(),
            ),
            Value::Map(map) => Content::Map(
                map.iter()
                    .map(|(key, value)| (key.clone(), Self::read(value, place.step(Segment::Key(key.clone())))))
                    .collect(),
            ),
            scalar => Content::Scalar(scalar.clone()),
        };
        Self { content, place }
    }

    /// What it holds.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Something that was made of this piece: it is looked for where this one is.
    #[must_use]
    pub fn made(&self, content: Content) -> Self {
        let mut place = self.place.clone();
        place.verbatim = false;
        Self { content, place }
    }

    /// A text that was made of this piece.
    #[must_use]
    pub fn made_text(&self, text: impl Into<String>) -> Self {
        self.made(Content::Scalar(Value::Text(text.into())))
    }

    /// A map that was made of this piece.
    #[must_use]
    pub fn made_map<K: Into<String>>(&self, entries: impl IntoIterator<Item = (K, Piece)>) -> Self {
        let entries = entries.into_iter().map(|(key, piece)| (key.into(), piece)).collect();
        self.made(Content::Map(entries))
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// It holds nothing at all, not even an empty list.
    pub fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The value of this key, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, piece)| piece),
            _ => None,
        }
    }

    /// The value without its places.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(list) => Value::List(list.iter().map(Self::value).collect()),
            Content::Map(map) => Value::Map(map.iter().map(|(key, piece)| (key.clone(), piece.value())).collect()),
        }
    }

    /// The piece as a setting, which has the readers. Of a list or map that was put together, the elements do not know
    /// their places: this is for scalars.
    pub fn setting(&self) -> Setting {
        if self.place.verbatim {
            return Setting::new(Arc::clone(&self.place.source), self.place.path.clone(), self.value());
        }
        let environment = self.place.source.environment().clone();
        self.clone().into_setting(&Path::default(), environment)
    }

    /// An error that names file, line and key.
    pub fn error(&self, message: impl fmt::Display) -> Error {
        self.place.source.error(&self.place.path, message)
    }

    /// `FILE:LINE`.
    pub fn place(&self) -> String {
        self.place.source.place(&self.place.path)
    }

    /// What errors call its file.
    pub fn file(&self) -> &str {
        self.place.source.file()
    }

    /// Where relative paths in it start.
    pub fn folder(&self) -> &FilePath {
        self.place.source.folder(&self.place.path)
    }

    /// This piece as the setting at `path` of a source of its own, with variables looked up in `environment`.
    pub fn into_setting(self, path: &Path, environment: Environment) -> Setting {
        let mut places = Places::new();
        let value = self.settle(path, None, &mut places);
        let own = Source::new(self.file(), self.folder(), String::new(), environment);
        Setting::new(Arc::new(own.holding(places)), path.clone(), value)
    }

    /// This piece as the top of a source of its own. What is no map is an empty one.
    pub fn into_settings(self, environment: Environment) -> Settings {
        let setting = self.into_setting(&Path::default(), environment);
        setting.settings().unwrap_or_else(|_| setting.empty_settings())
    }

    /// Writes down where this piece, which comes to stand at `path`, is from, unless that follows from the place of the
    /// piece that it stands in.
    fn settle(&self, path: &Path, expected: Option<Place>, places: &mut Places) -> Value {
        if !expected.is_some_and(|expected| expected.is(&self.place)) {
            places.insert(path.clone(), self.place.clone());
        }
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(list) => Value::List(
                list.iter()
                    .enumerate()
                    .map(|(index, piece)| {
                        let expected = self.place.step(Segment::Index(index));
                        piece.settle(&path.index(index), Some(expected), places)
                    })
                    .collect(),
            ),
            Content::Map(map) => Value::Map(
                map.iter()
                    .map(|(key, piece)| {
                        let expected = self.place.step(Segment::Key(key.clone()));
                        (key.clone(), piece.settle(&path.key(key), Some(expected), places))
                    })
                    .collect(),
            ),
        }
    }
}

/// The value is not shown: it may be a secret.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({})", self.place.source.file())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Content, Path, Piece};
    use crate::settings::{Environment, Settings, Source};

    fn piece(file: &str, folder: &str, text: &str) -> Piece {
        let source = Source::new(file, folder, text.to_owned(), Environment::of([("V", "value")]));
        Piece::of(&Settings::parse(source).unwrap().to_setting())
    }

    /// Pieces of two files, one of which is itself put together.
    fn mosaic() -> Settings {
        let one = piece("one.yml", "/one", "a:\n  b: 1.10\n  path: x\n");
        let two = piece("two.yml", "/two", "top:\n- c: soon\n  path: ${V}\n");
        let Content::List(list) = two.get("top").unwrap().content().clone() else {
            panic!("a list");
        };
        let inner = one.made_map([("renamed", one.get("a").unwrap().clone()), ("list", list[0].clone())]);
        let inner = inner.into_settings(Environment::of([("V", "inner")]));
        let outer = piece("three.yml", "/three", "own: 1\n");
        let whole = outer.made_map([("deep", Piece::of(&inner.to_setting()))]);
        whole.into_settings(Environment::of([("V", "outer")]))
    }

    #[test]
    fn every_piece_knows_where_it_was_written() {
        let deep = mosaic().map(&["deep"]).unwrap().unwrap();
        let mut renamed = deep.clone().map(&["renamed"]).unwrap().unwrap();
        assert_eq!(renamed.text(&["b"]).unwrap().as_deref(), Some("1.10"), "as written");
        let path = renamed.setting(&["path"]).unwrap().unwrap();
        assert_eq!(path.file_path().unwrap().to_str(), Some("/one/x"));
        assert_eq!(path.error("wrong").to_string(), "one.yml:3: a.path: wrong");
        assert_eq!(
            renamed.missing("d", "it").to_string(),
            "one.yml:1: a: `d` is missing: it"
        );
        let mut renamed = deep.clone().map(&["renamed"]).unwrap().unwrap();
        renamed.setting(&["path"]).unwrap();
        assert_eq!(
            renamed.check_unknown().unwrap_err().to_string(),
            "one.yml:2: a.b: unknown key (known here: path)"
        );
    }

    #[test]
    fn variables_are_those_of_the_whole() {
        let mut list = mosaic()
            .map(&["deep"])
            .unwrap()
            .unwrap()
            .map(&["list"])
            .unwrap()
            .unwrap();
        let path = list.setting(&["path"]).unwrap().unwrap();
        assert_eq!(path.file_path().unwrap().to_str(), Some("/two/outer"));
        let error = list.duration(&["c"]).unwrap_err().to_string();
        assert!(error.starts_with("two.yml:2: top[0].c: must be a duration"), "{error}");
    }

    #[test]
    fn what_was_made_is_not_taken_for_what_is_written() {
        let one = piece("one.yml", "/", "a: 0x1F\n");
        let a = one.get("a").unwrap();
        assert_eq!(a.setting().text().unwrap(), "0x1F");
        assert_eq!(a.made(a.content().clone()).setting().text().unwrap(), "31");
        let made = one.made_map([("b", a.made(a.content().clone()))]);
        let mut made = made.into_settings(Environment::of::<&str, &str>([]));
        assert_eq!(made.text(&["b"]).unwrap().as_deref(), Some("31"));
        let setting = made.setting(&["b"]).unwrap().unwrap();
        assert_eq!(setting.place(), "one.yml:1");
        assert_eq!(Path::default().join(setting.steps().segments()).to_string(), "b");
    }
}
