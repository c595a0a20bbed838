//! Producers and consumers of any predecessor, and how they are said in qctl's own words.

use std::collections::BTreeMap;

use super::amqp::{ExchangeOptions, QueueOptions};
use crate::settings::{Content, Piece, Value};

/// How often a message of a predecessor's queue is tried: their consumers forgot what had failed.
const ATTEMPTS: i64 = 1;

/// What a connection's entries come to, to be put together.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) producers: Vec<Sender>,
    pub(super) consumers: Vec<Taker>,
}

/// A producer.
pub(super) struct Sender {
    pub(super) name: String,
    pub(super) place: Piece,
    pub(super) connection: Option<Piece>,
    pub(super) target: Target,
    pub(super) routing_key: Option<Piece>,
}

/// Where a producer sends.
pub(super) enum Target {
    Exchange(ExchangeOptions),
    Queue(Piece),
}

/// A consumer.
pub(super) struct Taker {
    pub(super) name: String,
    pub(super) place: Piece,
    pub(super) connection: Option<Piece>,
    pub(super) queue: QueueOptions,
    pub(super) bindings: Vec<Bound>,
    pub(super) handler: Piece,
    pub(super) prefetch: Option<Piece>,
}

/// An exchange that a queue is bound to, and the keys.
pub(super) struct Bound {
    pub(super) place: Piece,
    pub(super) exchange: ExchangeOptions,
    pub(super) keys: Vec<Piece>,
    /// What an exchange that routes by headers compares with them.
    pub(super) arguments: Option<Piece>,
}

/// The `producers:` and `consumers:` of qctl's own form.
pub(super) struct Written {
    pub(super) producers: Vec<(String, Piece)>,
    pub(super) consumers: Vec<(String, Piece)>,
}

impl Entries {
    pub(super) fn written(&self) -> Written {
        let mut exchanges = Exchanges::default();
        for sender in &self.producers {
            if let Target::Exchange(exchange) = &sender.target {
                exchanges.learn(sender.connection.as_ref(), exchange, &[]);
            }
        }
        for taker in &self.consumers {
            for bound in &taker.bindings {
                exchanges.learn(taker.connection.as_ref(), &bound.exchange, &bound.keys);
            }
        }
        let producers = self
            .producers
            .iter()
            .map(|entry| (entry.name.clone(), producer(entry, &mut exchanges)));
        let producers = producers.collect();
        let consumers = self
            .consumers
            .iter()
            .map(|entry| (entry.name.clone(), consumer(entry, &mut exchanges)));
        Written {
            producers,
            consumers: consumers.collect(),
        }
    }
}

fn producer(sender: &Sender, exchanges: &mut Exchanges) -> Piece {
    let mut entries = Vec::new();
    entries.extend(sender.connection.clone().map(|connection| ("connection", connection)));
    match &sender.target {
        Target::Exchange(exchange) => {
            entries.push(("exchange", exchanges.written(sender.connection.as_ref(), exchange)));
            entries.extend(sender.routing_key.clone().map(|key| ("routing_key", key)));
        }
        Target::Queue(name) => entries.push(("queue", name.clone())),
    }
    sender.place.made_map(entries)
}

fn consumer(taker: &Taker, exchanges: &mut Exchanges) -> Piece {
    let bindings: Vec<Piece> = taker
        .bindings
        .iter()
        .map(|bound| {
            let exchange = exchanges.written(taker.connection.as_ref(), &bound.exchange);
            let keys = match bound.keys.as_slice() {
                [] => None,
                [only] => Some(only.clone()),
                several => Some(bound.place.made(Content::List(several.to_vec()))),
            };
            let keys = keys.map(|keys| ("routing_key", keys));
            let arguments = bound.arguments.clone().map(|arguments| ("arguments", arguments));
            bound
                .place
                .made_map([("exchange", exchange)].into_iter().chain(keys).chain(arguments))
        })
        .collect();
    let mut queue: Vec<(&str, Piece)> = vec![("name", taker.queue.name.clone())];
    queue.extend(taker.queue.options.iter().cloned());
    queue.push(("as_written", taker.queue.place.made(Content::Scalar(Value::Bool(true)))));
    if !bindings.is_empty() {
        queue.push(("bindings", taker.queue.place.made(Content::List(bindings))));
    }
    let attempts = taker.place.made(Content::Scalar(Value::Int(ATTEMPTS)));
    let mut entries = Vec::new();
    entries.extend(taker.connection.clone().map(|connection| ("connection", connection)));
    entries.push(("queue", taker.queue.place.made_map(queue)));
    entries.push(("handler", taker.handler.clone()));
    entries.extend(taker.prefetch.clone().map(|prefetch| ("prefetch", prefetch)));
    entries.push(("retry", taker.place.made_map([("attempts", attempts)])));
    taker.place.made_map(entries)
}

/// The exchanges of all entries. Predecessors describe an exchange wherever they name it, qctl in one place: there the
/// description is written, and elsewhere the name alone, unless what it says is something else.
#[derive(Default)]
struct Exchanges {
    known: BTreeMap<(String, String), Known>,
}

struct Known {
    exchange: ExchangeOptions,
    /// Some queue is bound to it with a pattern.
    has_patterns: bool,
    is_written: bool,
}

impl Exchanges {
    fn learn(&mut self, connection: Option<&Piece>, exchange: &ExchangeOptions, keys: &[Piece]) {
        let is_pattern = |key: &Piece| {
            let mut words = key.as_text().unwrap_or_default().split('.');
            words.any(|word| word == "*" || word == "#")
        };
        let has_patterns = keys.iter().any(is_pattern);
        let known = self
            .known
            .entry(identity(connection, exchange))
            .or_insert_with(|| Known {
                exchange: exchange.clone(),
                has_patterns: false,
                is_written: false,
            });
        known.has_patterns |= has_patterns;
        if exchange.is_described() && !known.exchange.is_described() {
            known.exchange = exchange.clone();
        }
    }

    fn written(&mut self, connection: Option<&Piece>, exchange: &ExchangeOptions) -> Piece {
        let name = exchange.name.clone();
        let Some(known) = self.known.get_mut(&identity(connection, exchange)) else {
            return name;
        };
        if exchange.is_predeclared() {
            return name;
        }
        if known.exchange.is_described() {
            if !exchange.is_described() {
                return name;
            }
            let is_same = known.exchange.value() == exchange.value();
            if is_same && known.is_written {
                return name;
            }
            known.is_written |= is_same;
            return exchange.described(None);
        }
        if known.is_written {
            return name;
        }
        // It is made by others, who alone know its kind; what it is bound with tells enough of it.
        known.is_written = true;
        known.exchange.described(Some(known.has_patterns))
    }
}

fn identity(connection: Option<&Piece>, exchange: &ExchangeOptions) -> (String, String) {
    let text = |piece: &Piece| piece.as_text().unwrap_or_default().to_owned();
    (connection.map(text).unwrap_or_default(), text(&exchange.name))
}
