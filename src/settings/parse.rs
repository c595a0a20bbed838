//! From YAML text to a [`Value`]: duplicate keys and tags are refused, merge keys (`<<`) are applied, aliases are bounded.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::locate;
use super::path::{Path, Segment};
use super::value::Value;

/// Beyond what its own text holds, a document may grow by this much through aliases (a node counts one more than its
/// bytes): plenty for people, nothing for a file of a few lines that unfolds to gigabytes.
const ALIAS_BUDGET: usize = 1 << 20;

/// Brackets deeper than this are refused before the parser sees them: its time grows with the square of the depth.
const MAX_FLOW_DEPTH: usize = 500;

/// The key that merges other maps into the one it stands in.
pub(super) const MERGE_KEY: &str = "<<";

/// Why a text could not be read.
#[derive(Debug)]
pub(super) struct ParseError {
    /// From 1; 0 where it is not known.
    pub(super) line: usize,
    /// Where it was, when the text was understood so far.
    pub(super) path: Path,
    /// What is wrong and what to do.
    pub(super) message: String,
}

/// What becomes of YAML tags such as `!tagged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// They are a mistake.
    Refused,
    /// What they stand at is read without them: they are another program's.
    PassedOver,
}

/// Reads one document.
pub(super) fn parse(text: &str, tags: Tags) -> Result<Value, ParseError> {
    if let Some(line) = too_deep(text) {
        return Err(ParseError {
            line,
            path: Path::default(),
            message: format!("lists or maps are nested more than {MAX_FLOW_DEPTH} deep; write it flatter"),
        });
    }
    let context = Context {
        problem: RefCell::new(None),
        budget: Cell::new(text.len().saturating_mul(2).saturating_add(ALIAS_BUDGET)),
        tags,
    };
    let node = Node {
        context: &context,
        parent: None,
        step: Step::Top,
    };
    node.deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| explain(text, &error, context.problem.into_inner()))
}

struct Problem {
    path: Path,
    message: String,
}

struct Context {
    problem: RefCell<Option<Problem>>,
    budget: Cell<usize>,
    tags: Tags,
}

/// A place while parsing; it costs nothing until an error asks for its path.
#[derive(Clone, Copy)]
struct Node<'a> {
    context: &'a Context,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

impl Node<'_> {
    fn path(&self) -> Path {
        let mut segments = Vec::new();
        let mut node = Some(self);
        while let Some(here) = node {
            match here.step {
                Step::Top => {}
                Step::Key(key) => segments.push(Segment::Key(key.to_owned())),
                Step::Index(index) => segments.push(Segment::Index(index)),
            }
            node = here.parent;
        }
        segments.into_iter().rev().collect()
    }

    fn fail<E: serde::de::Error>(&self, path: Path, message: String) -> E {
        self.context.problem.replace(Some(Problem { path, message }));
        E::custom("refused")
    }

    fn spend<E: serde::de::Error>(&self, amount: usize) -> Result<(), E> {
        match self.context.budget.get().checked_sub(amount.saturating_add(1)) {
            Some(left) => {
                self.context.budget.set(left);
                Ok(())
            }
            None => Err(self.fail(
                self.path(),
                "the aliases (`*name`) of this file unfold to too much; write out what is meant".to_owned(),
            )),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Float(value as f64))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        while let Some(value) = elements.next_element_seed(Node {
            context: self.context,
            parent: Some(&self),
            step: Step::Index(list.len()),
        })? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut map: Vec<(String, Value)> = Vec::new();
        let mut seen = Seen::default();
        let mut merged = None;
        while let Some(key) = entries.next_key_seed(Key {
            node: &self,
            map: &map,
            seen: &seen,
            merged: merged.is_some(),
        })? {
            self.spend(key.len())?;
            let value = entries.next_value_seed(Node {
                context: self.context,
                parent: Some(&self),
                step: Step::Key(&key),
            })?;
            if key == MERGE_KEY {
                merged = Some(value);
            } else {
                seen.insert(&map, &key);
                map.push((key, value));
            }
        }
        if let Some(merged) = merged {
            self.merge(&mut map, merged)?;
        }
        Ok(Value::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (tag, tagged) = data.variant::<String>()?;
        if self.context.tags == Tags::PassedOver {
            return tagged.newtype_variant_seed(self);
        }
        Err(self.fail(
            self.path(),
            format!("the YAML tag {:?} means nothing here; remove it", format!("!{tag}")),
        ))
    }
}

impl Node<'_> {
    /// What a map says itself wins over what is merged into it, and the first of several merged maps over the next.
    fn merge<E: serde::de::Error>(&self, map: &mut Vec<(String, Value)>, merged: Value) -> Result<(), E> {
        let maps = match merged {
            Value::List(list) => list,
            other => vec![other],
        };
        for merged in maps {
            let Value::Map(entries) = merged else {
                return Err(self.fail(
                    self.path().key(MERGE_KEY),
                    format!(
                        "`<<` merges maps into this one, such as `<<: *name`, not {}",
                        merged.kind()
                    ),
                ));
            };
            let known: HashSet<String> = map.iter().map(|(key, _)| key.clone()).collect();
            map.extend(entries.into_iter().filter(|(key, _)| !known.contains(key)));
        }
        Ok(())
    }
}

/// The keys of a map so far: a few are compared one by one, many are hashed.
#[derive(Default)]
struct Seen(HashSet<String>);

impl Seen {
    const FEW: usize = 16;

    fn contains(&self, map: &[(String, Value)], key: &str) -> bool {
        if self.0.is_empty() {
            map.iter().any(|(known, _)| known == key)
        } else {
            self.0.contains(key)
        }
    }

    /// Called before `key` is pushed to `map`.
    fn insert(&mut self, map: &[(String, Value)], key: &str) {
        if map.len() == Self::FEW {
            self.0.extend(map.iter().map(|(known, _)| known.clone()));
        }
        if map.len() >= Self::FEW {
            self.0.insert(key.to_owned());
        }
    }
}

/// Reads a key exactly as written: `1.10` stays `1.10`.
struct Key<'a> {
    node: &'a Node<'a>,
    map: &'a [(String, Value)],
    seen: &'a Seen,
    merged: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.seen.contains(self.map, key) || (key == MERGE_KEY && self.merged) {
            return Err(self.node.fail(self.node.path().key(key), DUPLICATE.to_owned()));
        }
        Ok(key.to_owned())
    }
}

/// Stands for the sentence that [`explain`] makes of it: only there is the line of the first one known.
const DUPLICATE: &str = "duplicate";

fn explain(text: &str, error: &serde_yaml::Error, problem: Option<Problem>) -> ParseError {
    let line = error.location().map_or(0, |location| location.line());
    if let Some(Problem { path, message }) = problem {
        let message = if message == DUPLICATE {
            let first = locate::line(text, &path).map_or_else(String::new, |line| format!(" on line {line}"));
            format!("this key was already given{first}; keep one of the two")
        } else {
            message
        };
        return ParseError { line, path, message };
    }
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let written = line
        .checked_sub(1)
        .and_then(|index| text.lines().nth(index))
        .unwrap_or_default();
    let before = &written[..written.find(|c: char| !c.is_whitespace()).unwrap_or(written.len())];
    let hint = if before.contains('\t') {
        "; YAML is indented with spaces, not with tabs"
    } else if said.contains("recursion limit") {
        "; write it flatter"
    } else if said.contains("repetition limit") {
        "; the aliases (`*name`) of this file unfold to too much"
    } else if let Some(hint) = unquoted(written) {
        hint
    } else if written.contains("${") {
        "; put text with `${…}` in quotes, above all inside `{ }` and `[ ]`"
    } else {
        "; look at indentation, quotes and colons there"
    };
    if said.contains("more than one document") {
        return ParseError {
            line,
            path: Path::default(),
            message: "holds more than one YAML document; keep one document, without a second `---`".to_owned(),
        };
    }
    ParseError {
        line,
        path: Path::default(),
        message: format!("not valid YAML: {}{hint}", said.replace('\n', " ")),
    }
}

/// What to do where a text begins with a character that means something else to YAML.
fn unquoted(line: &str) -> Option<&'static str> {
    let mut before = ' ';
    let mut opens = false;
    for character in line.chars() {
        // A value begins behind a colon, a dash or a comma and a space, or behind an opening bracket.
        if opens && !character.is_whitespace() {
            let hint = match character {
                '*' => "; put text that begins with `*` in quotes, such as '*' or '*.news'",
                '%' => "; put text that begins with `%` in quotes, such as '%name%'",
                '@' => "; put text that begins with `@` in quotes, such as '@service'",
                _ => "",
            };
            if !hint.is_empty() {
                return Some(hint);
            }
        }
        opens = match character {
            '[' | '{' => true,
            ' ' => opens || matches!(before, ':' | '-' | ','),
            _ => false,
        };
        before = character;
    }
    None
}

/// The line at which brackets are open deeper than any configuration needs.
///
/// Quotes and comments are not told apart: text with hundreds of unclosed brackets in it is refused too, a fair price for
/// a check that cannot itself be led astray.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut line = 1;
    for byte in text.bytes() {
        match byte {
            b'\n' => line += 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_FLOW_DEPTH {
            return Some(line);
        }
    }
    None
}
