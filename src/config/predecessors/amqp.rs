//! Exchanges, queues and arguments as the predecessors write them: all of them hand these to AMQP.

use super::options::{Options, as_text, is};
use crate::error::Result;
use crate::queue::ExchangeKind;
use crate::settings::{Content, Environment, Piece, Settings, Source, Value};

/// What only AMQP's wire protocol knows.
const OF_THE_WIRE: &[&str] = &["nowait", "ticket"];

/// An exchange.
#[derive(Clone)]
pub(super) struct ExchangeOptions {
    pub(super) name: Piece,
    place: Piece,
    kind: Option<Piece>,
    /// What is not as it usually is.
    options: Vec<(&'static str, Piece)>,
    /// It must be there already.
    passive: bool,
}

/// Reads `exchange_options`; `None`: it has no name.
pub(super) fn exchange(options: &mut Options<'_>) -> Result<Option<ExchangeOptions>> {
    let name = options.text(&["name"])?;
    let kind = options.take(&["type"])?;
    let passive = options.boolean(&["passive"])?;
    let declare = options.boolean(&["declare"])?;
    let mut kept = Vec::new();
    kept.extend(unusual("durable", options.boolean(&["durable"])?, true));
    kept.extend(unusual(
        "auto_delete",
        options.boolean(&["auto_delete", "autodelete"])?,
        false,
    ));
    kept.extend(unusual("internal", options.boolean(&["internal"])?, false));
    kept.extend(arguments(options.take(&["arguments"])?)?.map(|piece| ("arguments", piece)));
    options.pass_over(OF_THE_WIRE);
    Ok(name.map(|name| ExchangeOptions {
        name,
        place: options.piece.clone(),
        kind,
        options: kept,
        passive: is(passive.as_ref(), true) || is(declare.as_ref(), false),
    }))
}

impl ExchangeOptions {
    /// An exchange of which the name alone is known.
    pub(super) fn named(name: Piece) -> Self {
        Self {
            place: name.clone(),
            name,
            kind: None,
            options: Vec::new(),
            passive: true,
        }
    }

    /// The default exchange, which leads to the queue of the routing key's name.
    pub(super) fn is_default(&self) -> bool {
        self.name.as_text() == Some("")
    }

    /// Every broker has it.
    pub(super) fn is_predeclared(&self) -> bool {
        let kind = self.name.as_text().and_then(|name| name.strip_prefix("amq."));
        kind.and_then(ExchangeKind::from_name).is_some()
    }

    /// It routes by headers.
    pub(super) fn is_by_headers(&self) -> bool {
        let kind = self.kind.as_ref().and_then(Piece::as_text);
        kind == Some(ExchangeKind::Headers.name())
    }

    /// Enough is said to make it.
    pub(super) fn is_described(&self) -> bool {
        !self.passive && self.kind.is_some()
    }

    /// What is said, to be compared.
    pub(super) fn value(&self) -> Value {
        self.described(None).value()
    }

    /// Its description; `patterns`: it is made by others, and whether it is bound with patterns.
    pub(super) fn described(&self, patterns: Option<bool>) -> Piece {
        let mut entries = vec![("name", self.name.clone())];
        match (&self.kind, patterns) {
            (Some(kind), _) => entries.push(("type", kind.clone())),
            (None, Some(true)) => entries.push(("type", self.place.made_text(ExchangeKind::Topic.name()))),
            (None, _) => {}
        }
        entries.extend(self.options.iter().cloned());
        if patterns.is_some() {
            entries.push(("passive", self.place.made(Content::Scalar(Value::Bool(true)))));
        }
        self.place.made_map(entries)
    }
}

/// A queue.
pub(super) struct QueueOptions {
    pub(super) name: Piece,
    pub(super) place: Piece,
    /// What is not as it usually is.
    pub(super) options: Vec<(&'static str, Piece)>,
    pub(super) keys: Vec<Piece>,
    /// Nobody declares or binds it: it is just there.
    pub(super) undeclared: bool,
}

impl QueueOptions {
    /// What is written for a key.
    pub(super) fn option(&self, key: &str) -> Option<Piece> {
        let found = self.options.iter().find(|(name, _)| *name == key);
        found.map(|(_, piece)| piece.clone())
    }
}

/// Reads `queue_options`; `None`: it has no name of its own.
pub(super) fn queue(options: &mut Options<'_>) -> Result<Option<QueueOptions>> {
    let name = options.text(&["name"])?;
    let name = name.filter(|name| name.as_text() != Some(""));
    let passive = options.boolean(&["passive"])?;
    let declare = options.boolean(&["declare"])?;
    let undeclared = is(declare.as_ref(), false);
    let mut kept = Vec::new();
    kept.extend(unusual("durable", options.boolean(&["durable"])?, true));
    kept.extend(unusual("exclusive", options.boolean(&["exclusive"])?, false));
    kept.extend(unusual(
        "auto_delete",
        options.boolean(&["auto_delete", "autodelete"])?,
        false,
    ));
    match declare.filter(|_| undeclared) {
        Some(declare) => kept.push(("passive", declare.made(Content::Scalar(Value::Bool(true))))),
        None => kept.extend(unusual("passive", passive, false)),
    }
    kept.extend(arguments(options.take(&["arguments"])?)?.map(|piece| ("arguments", piece)));
    let keys = routing_keys(options)?;
    options.pass_over(OF_THE_WIRE);
    Ok(name.map(|name| QueueOptions {
        name,
        place: options.piece.clone(),
        options: kept,
        keys,
        undeclared,
    }))
}

/// One routing key or several.
pub(super) fn routing_keys(options: &mut Options<'_>) -> Result<Vec<Piece>> {
    let Some(piece) = options.take(&["routing_keys", "routing_key"])? else {
        return Ok(Vec::new());
    };
    let keys = match piece.content() {
        Content::List(list) => list.clone(),
        _ => vec![piece],
    };
    keys.into_iter().filter(|key| !key.is_null()).map(as_text).collect()
}

fn unusual(key: &'static str, piece: Option<Piece>, usual: bool) -> Option<(&'static str, Piece)> {
    piece.filter(|piece| !is(Some(piece), usual)).map(|piece| (key, piece))
}

/// `arguments`: a map, or a text of either form that there was.
fn arguments(piece: Option<Piece>) -> Result<Option<Piece>> {
    let Some(piece) = piece else {
        return Ok(None);
    };
    let piece = match piece.as_text() {
        Some(written) => from_text(&piece, written)?,
        None => piece,
    };
    Ok(match piece.content() {
        Content::Map(entries) if entries.is_empty() => None,
        Content::List(list) if list.is_empty() => None,
        // Symfony turns dashes into underscores, and the bundle turns them back.
        Content::Map(entries) => {
            let entry = |(key, value): &(String, Piece)| Ok((key.replace('_', "-"), argument(value)?));
            Some(piece.made_map(entries.iter().map(entry).collect::<Result<Vec<_>>>()?))
        }
        _ => Some(piece),
    })
}

/// Arguments as a text: `x-max-length: [I, 20]`, or the oldest form, `x-max-length:20:I,x-ha-policy:all`.
fn from_text(piece: &Piece, written: &str) -> Result<Piece> {
    let source = Source::new("", "/", written.to_owned(), Environment::new(|_| None));
    if let Ok(settings) = Settings::parse(source)
        && let Value::Map(entries) = settings.to_setting().written()
        && !entries.is_empty()
    {
        return Ok(of_value(piece, &Value::Map(entries.clone())));
    }
    let pair =
        |text: &str| {
            let mut words = text.split(':').map(str::trim);
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(name), Some(value), letter, None) if !name.is_empty() => {
                    let letter = piece.made_text(letter.unwrap_or("S"));
                    let pair = piece.made(Content::List(vec![letter, piece.made_text(value)]));
                    Ok((name.to_owned(), pair))
                }
                _ => Err(piece
                    .error("must be a map such as `{ x-max-length: [I, 20] }`, or a text such as `x-max-length:20:I`")),
            }
        };
    let pairs = written.split(',').filter(|text| !text.trim().is_empty()).map(pair);
    Ok(piece.made_map(pairs.collect::<Result<Vec<_>>>()?))
}

fn of_value(piece: &Piece, value: &Value) -> Piece {
    match value {
        Value::List(list) => piece.made(Content::List(list.iter().map(|value| of_value(piece, value)).collect())),
        Value::Map(map) => piece.made_map(map.iter().map(|(key, value)| (key.clone(), of_value(piece, value)))),
        scalar => piece.made(Content::Scalar(scalar.clone())),
    }
}

/// A pair's letter, where AMQP's libraries have several for what is one thing here.
fn argument(piece: &Piece) -> Result<Piece> {
    let Content::List(list) = piece.content() else {
        return Ok(piece.clone());
    };
    let [letter, value] = list.as_slice() else {
        return Ok(piece.clone());
    };
    let is_scalar = matches!(value.content(), Content::Scalar(_)) && !value.is_null();
    let (letter, value) = match letter.as_text() {
        Some("b" | "B" | "s" | "u" | "i" | "l" | "L" | "U") => (letter.made_text("I"), value.clone()),
        Some("f" | "d") => (letter.made_text("D"), value.clone()),
        Some("S" | "x") if is_scalar => (letter.made_text("S"), as_text(value.clone())?),
        Some("V") => return Ok(value.made(Content::Scalar(Value::Null))),
        _ => return Ok(piece.clone()),
    };
    Ok(piece.made(Content::List(vec![letter, value])))
}
