//! `%parameter%` and `%env(NAME)%` in the files of a Symfony application, put in the way Symfony does it.
//!
//! What comes from the environment becomes qctl's own `${NAME}`, which is looked up when the value is read: so it is shown
//! and written like any other variable, and never as its value.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::references::{Part, escaped, is_variable, parts, variable_for, variable_of};
use crate::error::Result;
use crate::settings::{Content, Environment, Piece, Value, is_secret_name, suggestion};

/// So many steps are taken in all: parameters that double each other would otherwise never end.
const MOST_STEPS: usize = 100_000;
/// What all values may come to, in bytes.
const MOST_BYTES: usize = 4 << 20;
/// Parameters that hold parameters end here.
const DEEPEST: usize = 64;

/// What becomes of values that are looked up elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The configuration is to be used: every variable must be there.
    Use,
    /// It is to be written down: variables need not be set here, and secrets are not put in.
    Writing,
}

/// The parameters of all files.
pub(super) struct Parameters {
    known: BTreeMap<String, Piece>,
    /// Files that are imported and not read: what is missing may be there.
    unread: Vec<String>,
    purpose: Purpose,
    environment: Environment,
    /// No parameters here: texts mean what they say.
    plain: bool,
    steps: Cell<usize>,
    bytes: Cell<usize>,
    needed: RefCell<BTreeMap<String, Need>>,
}

/// A variable that the written configuration needs.
#[derive(Clone, Debug)]
pub(super) enum Need {
    /// It was a variable before, without a default.
    Variable,
    /// It was a parameter, defined at this place, that holds a secret.
    Parameter {
        /// The parameter's name.
        name: String,
        /// `FILE:LINE` of its value.
        place: String,
    },
}

/// A piece of a resolved text.
enum Segment {
    Literal(String),
    /// The inside of a `${…}`.
    Variable(String),
}

impl Parameters {
    /// Those of a Symfony application.
    pub(super) fn new(
        known: BTreeMap<String, Piece>,
        unread: Vec<String>,
        purpose: Purpose,
        environment: Environment,
    ) -> Self {
        Self {
            known,
            unread,
            purpose,
            environment,
            plain: false,
            steps: Cell::new(MOST_STEPS),
            bytes: Cell::new(MOST_BYTES),
            needed: RefCell::default(),
        }
    }

    /// For files that know neither parameters nor variables.
    pub(super) fn none(purpose: Purpose, environment: Environment) -> Self {
        Self {
            plain: true,
            ..Self::new(BTreeMap::new(), Vec::new(), purpose, environment)
        }
    }

    /// The parameter with this name, itself unresolved.
    pub(super) fn get(&self, name: &str) -> Option<&Piece> {
        self.known.get(name)
    }

    /// The variables that what was resolved so far needs.
    pub(super) fn needed(&self) -> BTreeMap<String, Need> {
        self.needed.borrow().clone()
    }

    /// A value with all parameters put in, at any depth; `key` is the key that it is the value of.
    pub(super) fn resolve(&self, key: &str, piece: &Piece) -> Result<Piece> {
        self.piece(key, piece, &mut Vec::new())
    }

    fn piece(&self, key: &str, piece: &Piece, open: &mut Vec<String>) -> Result<Piece> {
        self.step(piece)?;
        Ok(match piece.content() {
            Content::Scalar(Value::Text(text)) => self.text(key, text, piece, open)?,
            Content::Scalar(_) => piece.clone(),
            Content::List(list) => piece.made(Content::List(
                list.iter()
                    .map(|element| self.piece(key, element, open))
                    .collect::<Result<_>>()?,
            )),
            Content::Map(map) => piece.made(Content::Map(
                map.iter()
                    .map(|(key, value)| Ok((key.clone(), self.piece(key, value, open)?)))
                    .collect::<Result<_>>()?,
            )),
        })
    }

    fn text(&self, key: &str, text: &str, piece: &Piece, open: &mut Vec<String>) -> Result<Piece> {
        if self.plain {
            return Ok(piece.made_text(escaped(text)));
        }
        let parts = parts(text);
        // A parameter alone may stand for anything, a list too; within a text only for text.
        if let [Part::Reference(name)] = parts.as_slice()
            && variable_of(name).is_none()
            && !self.is_withheld(key, name)
        {
            return self.inside(name, piece, open, |open, found| self.piece(key, found, open));
        }
        let segments = self.segments(key, &parts, piece, open)?;
        Ok(piece.made_text(joined(segments, piece)?))
    }

    fn segments(&self, key: &str, parts: &[Part<'_>], piece: &Piece, open: &mut Vec<String>) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        for part in parts {
            match part {
                Part::Literal(text) => segments.push(Segment::Literal((*text).to_owned())),
                Part::Reference(name) => match variable_of(name) {
                    Some(expression) => segments.push(self.variable(key, expression, piece, open)?),
                    None if self.is_withheld(key, name) => segments.extend(self.withheld(key, name, piece, open)?),
                    None => {
                        let found =
                            self.inside(name, piece, open, |open, found| self.spliced(key, found, name, open))?;
                        segments.extend(found);
                    }
                },
            }
        }
        for segment in &segments {
            if let Segment::Literal(text) = segment {
                self.spend(text.len(), piece)?;
            }
        }
        Ok(segments)
    }

    /// A parameter's value within a longer text.
    fn spliced(&self, key: &str, found: &Piece, name: &str, open: &mut Vec<String>) -> Result<Vec<Segment>> {
        self.step(found)?;
        match found.content() {
            Content::Scalar(Value::Text(text)) => self.segments(key, &parts(text), found, open),
            Content::Scalar(Value::Null) => Ok(Vec::new()),
            Content::Scalar(_) => Ok(vec![Segment::Literal(found.setting().text()?)]),
            Content::List(_) | Content::Map(_) => Err(found.error(format!(
                "`%{}%` stands within a text, and is {}; only text, numbers and booleans can",
                name.escape_debug(),
                found.value().kind()
            ))),
        }
    }

    /// Goes into a parameter's value, and tells of those that lead back to themselves.
    fn inside<T>(
        &self,
        name: &str,
        from: &Piece,
        open: &mut Vec<String>,
        read: impl FnOnce(&mut Vec<String>, &Piece) -> Result<T>,
    ) -> Result<T> {
        let Some((known, found)) = self.find(name) else {
            return Err(from.error(self.unknown(name)));
        };
        if let Some(start) = open.iter().position(|open| open == known) {
            let circle = open[start..].iter().map(String::as_str).chain([known]);
            return Err(from.error(format!(
                "parameters refer to each other in a circle: {}; give one of them a value",
                circle.collect::<Vec<_>>().join(" → ").escape_debug()
            )));
        }
        if open.len() >= DEEPEST {
            return Err(from.error(format!(
                "parameters hold each other more than {DEEPEST} deep; write it flatter"
            )));
        }
        open.push(known.to_owned());
        let result = read(open, found);
        open.pop();
        result
    }

    /// Symfony told names apart by case only from version 4 on.
    fn find(&self, name: &str) -> Option<(&str, &Piece)> {
        let exact = self.known.get_key_value(name);
        let alike = || self.known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        exact.or_else(alike).map(|(known, piece)| (known.as_str(), piece))
    }

    fn unknown(&self, name: &str) -> String {
        let hint = suggestion(name, self.known.keys().map(String::as_str))
            .map_or_else(String::new, |near| format!("; did you mean `%{near}%`?"));
        let unread = match self.unread.as_slice() {
            [] => String::new(),
            files => format!(" (not read: {})", files.join(", ").escape_debug()),
        };
        format!(
            "no parameter is called `{}`{hint}{unread}; define it under `parameters:`, here or in a file that is included too, \
             or write `%%` for the character itself",
            name.escape_debug()
        )
    }

    /// A secret is not put into what is written down; the parameter becomes a variable.
    fn is_withheld(&self, key: &str, name: &str) -> bool {
        self.purpose == Purpose::Writing && (is_secret_name(key) || is_secret_name(name))
    }

    fn withheld(&self, key: &str, name: &str, piece: &Piece, open: &mut Vec<String>) -> Result<Vec<Segment>> {
        let (segments, place) = self.inside(name, piece, open, |open, found| {
            Ok((self.spliced(key, found, name, open)?, found.place()))
        })?;
        // Without text of its own there is nothing to hide.
        let hides = |segment: &Segment| matches!(segment, Segment::Literal(text) if !text.is_empty());
        if !segments.iter().any(hides) {
            return Ok(segments);
        }
        let variable = variable_for(name);
        let name = name.to_owned();
        let need = Need::Parameter { name, place };
        self.needed.borrow_mut().insert(variable.clone(), need);
        Ok(vec![Segment::Variable(variable)])
    }

    /// `env(NAME)`, with what may stand before the name.
    fn variable(&self, key: &str, expression: &str, piece: &Piece, open: &mut Vec<String>) -> Result<Segment> {
        let mut words: Vec<&str> = expression.split(':').collect();
        let name = words.pop().unwrap_or_default();
        if !is_variable(name) {
            return Err(piece.error(format!(
                "`%env({})%` does not name a variable; write `%env(NAME)%`",
                expression.escape_debug()
            )));
        }
        let mut default = None;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word {
                // qctl's readers take a variable for what they need.
                "string" | "int" | "bool" | "float" => {}
                "resolve" => self.refuse_references(name, piece)?,
                "default" => default = Some(words.next().unwrap_or_default()),
                _ => {
                    return Err(piece.error(format!(
                        "`%env({0})%` has the processor `{1}`, which qctl does not know (string, int, bool, float, resolve and \
                         default are); write what it comes to into a parameter",
                        expression.escape_debug(),
                        word.escape_debug()
                    )));
                }
            }
        }
        let default = match default {
            Some("") => Some(String::new()),
            Some(parameter) => Some(self.default(key, parameter, piece, open)?),
            None if self.known.contains_key(&format!("env({name})")) => {
                Some(self.default(key, &format!("env({name})"), piece, open)?)
            }
            None => None,
        };
        if let Some(default) = default {
            return Ok(Segment::Variable(format!("{name}:-{default}")));
        }
        if self.purpose == Purpose::Use && self.environment.get(name).is_none() {
            return Err(piece.error(format!(
                "the variable `{name}` is not set; set it, or give it a default as `parameters: {{ env({name}): … }}`"
            )));
        }
        self.needed
            .borrow_mut()
            .entry(name.to_owned())
            .or_insert(Need::Variable);
        Ok(Segment::Variable(name.to_owned()))
    }

    fn default(&self, key: &str, parameter: &str, piece: &Piece, open: &mut Vec<String>) -> Result<String> {
        let segments = self.inside(parameter, piece, open, |open, found| {
            self.spliced(key, found, parameter, open)
        })?;
        let mut default = String::new();
        for segment in segments {
            match segment {
                Segment::Literal(text) => default.push_str(&text),
                Segment::Variable(_) => default.push('}'),
            }
        }
        if default.contains('}') || default.contains("${") {
            return Err(piece.error(format!(
                "the default `%{}%` holds another variable or a brace, which a default cannot; set the variable",
                parameter.escape_debug()
            )));
        }
        Ok(default)
    }

    /// `resolve:` has parameters put into what the variable holds, and variables are looked up too late for that.
    fn refuse_references(&self, name: &str, piece: &Piece) -> Result<()> {
        let Some(Ok(value)) = self.environment.get(name).map(std::ffi::OsString::into_string) else {
            return Ok(());
        };
        if parts(&value)
            .iter()
            .all(|part| matches!(part, Part::Literal(text) if *text != "%"))
        {
            return Ok(());
        }
        Err(piece.error(format!(
            "the variable `{name}` holds parameters, which are put in for the application only; write what it comes to into it"
        )))
    }

    fn step(&self, piece: &Piece) -> Result<()> {
        match self.steps.get().checked_sub(1) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => Err(too_much(piece)),
        }
    }

    fn spend(&self, bytes: usize, piece: &Piece) -> Result<()> {
        match self.bytes.get().checked_sub(bytes) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => Err(too_much(piece)),
        }
    }
}

fn too_much(piece: &Piece) -> crate::error::Error {
    piece.error("the parameters here unfold to too much; write out what is meant")
}

fn joined(segments: Vec<Segment>, piece: &Piece) -> Result<String> {
    let mut result = String::new();
    let mut literal = String::new();
    for segment in segments {
        match segment {
            Segment::Literal(text) => literal.push_str(&text),
            Segment::Variable(expression) => {
                if literal.ends_with('$') {
                    return Err(piece.error(
                        "a `$` right before a variable cannot be written in qctl; put both into one parameter or variable",
                    ));
                }
                result.push_str(&escaped(&literal));
                literal.clear();
                result.push_str("${");
                result.push_str(&expression);
                result.push('}');
            }
        }
    }
    result.push_str(&escaped(&literal));
    Ok(result)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
