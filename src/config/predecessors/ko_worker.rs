//! ko-worker's configuration: `connections`, `producers` and `consumers` at the top, nearly as qctl has them. What is its
//! own is told by its shape: see [`is_one`].

use super::amqp::{self, ExchangeOptions};
use super::entries::{Bound, Entries, Sender, Taker, Target};
use super::kaliop;
use super::options::{Options, Remains, Section};
use crate::error::Result;
use crate::settings::{Content, Piece, Settings, Value};

/// Keys of connections: ko-worker's name, and qctl's.
const OF_CONNECTIONS: &[(&str, &str)] = &[
    ("host", "host"),
    ("port", "port"),
    ("login", "login"),
    ("password", "password"),
    ("vhost", "vhost"),
    ("heartbeat", "heartbeat"),
    ("frame_max", "frame_max"),
];
/// Those of them that are no text.
const NUMBERS: &[&str] = &["port", "heartbeat", "frame_max"];
/// The same of its certificates.
const CERTIFICATES: &[(&str, &str)] = &[("cacert", "ca_file"), ("cert", "cert_file"), ("key", "key_file")];
/// What only qctl's own files have at the top.
const QCTLS: &[&str] = &[
    "include",
    "default",
    "commands",
    "state_dir",
    "workers",
    "listeners",
    "signing",
];

const REASONS: &[(&str, &str)] = &[
    ("connect_timeout", "qctl has `--connect-timeout` for all connections"),
    ("read_timeout", "qctl notices a dead broker by the heartbeat"),
    ("write_timeout", "qctl notices a dead broker by the heartbeat"),
    ("rpc_timeout", "qctl notices a dead broker by the heartbeat"),
    ("timeout", "qctl notices a dead broker by the heartbeat"),
    (
        "verify",
        "qctl verifies every certificate; name the authority with `cacert`",
    ),
    (
        "binding",
        "qctl binds queues, not exchanges; bind the exchange once with the broker's own tools (it stays bound)",
    ),
];

/// Whether this is a file of ko-worker's: some consumer has a `class`, or some producer's exchange a `binding`, which qctl's
/// own files cannot have; and nothing in it is qctl's alone (`include`, `default`, `commands`, a consumer's `handler`, …).
pub(super) fn is_one(root: &Settings) -> bool {
    if QCTLS.iter().any(|key| root.has(key)) {
        return false;
    }
    let entries = |section: &str| match root.written(section) {
        Some(Value::Map(entries)) => entries.iter().map(|(_, entry)| entry).collect(),
        _ => Vec::new(),
    };
    let consumers = entries("consumers");
    if consumers
        .iter()
        .any(|entry| has(entry, "handler") || has(entry, "callback"))
    {
        return false;
    }
    let has_class =
        |entry: &&Value| has(entry, "class") || within(entry, "queue_options").is_some_and(|queue| has(queue, "class"));
    let is_bound = |entry: &&Value| within(entry, "exchange_options").is_some_and(|exchange| has(exchange, "binding"));
    consumers.iter().any(has_class) || entries("producers").iter().any(is_bound)
}

fn within<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Map(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, value)| value),
        _ => None,
    }
}

fn has(value: &Value, key: &str) -> bool {
    within(value, key).is_some()
}

/// What a file comes to.
#[derive(Default)]
pub(super) struct Read {
    pub(super) connections: Vec<(String, Piece)>,
    pub(super) entries: Entries,
}

/// Reads a file.
pub(super) fn read(mut root: Options<'_>, remains: &mut Remains) -> Result<Read> {
    let mut read = Read::default();
    for (name, options) in root.named("connections")? {
        remains.of_entry(Section::Connections, &name);
        read.connections.push((name, connection(options, remains)?));
    }
    for (name, options) in root.named("producers")? {
        remains.of_entry(Section::Producers, &name);
        read.entries.producers.extend(producer(name, options, remains)?);
    }
    for (name, options) in root.named("consumers")? {
        remains.of_entry(Section::Consumers, &name);
        read.entries.consumers.push(consumer(name, options, remains)?);
    }
    remains.of_all();
    root.finish(REASONS, remains);
    Ok(read)
}

fn connection(mut options: Options<'_>, remains: &mut Remains) -> Result<Piece> {
    let place = options.piece.clone();
    let mut entries = Vec::new();
    for (theirs, ours) in OF_CONNECTIONS {
        let piece = if NUMBERS.contains(theirs) {
            options.take(&[theirs])?
        } else {
            options.text(&[theirs])?
        };
        entries.extend(piece.map(|piece| (*ours, piece)));
    }
    if !entries.iter().any(|(key, _)| *key == "host") {
        entries.insert(0, ("host", place.made_text("localhost")));
    }
    let mut tls = Vec::new();
    for (theirs, ours) in CERTIFICATES {
        tls.extend(options.take(&[theirs])?.map(|piece| (*ours, piece)));
    }
    if !tls.is_empty() {
        entries.push(("tls", place.made_map(tls)));
    }
    options.finish(REASONS, remains);
    Ok(place.made_map(entries))
}

fn producer(name: String, mut options: Options<'_>, remains: &mut Remains) -> Result<Option<Sender>> {
    let place = options.piece.clone();
    let connection = options.text(&["connection"])?;
    let exchange = match options.map(&["exchange_options"])? {
        Some(mut exchange) => {
            let read = amqp::exchange(&mut exchange)?;
            exchange.finish(REASONS, remains);
            read
        }
        None => None,
    };
    options.finish(REASONS, remains);
    let Some(exchange) = exchange else {
        return Err(place.error("`exchange_options` is missing: the exchange that it publishes to, with its `name`"));
    };
    if exchange.is_default() {
        remains.add(
            &name,
            &place,
            format!(
                "it sends to the default exchange, where a routing key is a queue's name; write `producers: {{ {name}: {{ queue: \
                 NAME }} }}` in a qctl.yml that includes this file"
            ),
        );
        return Ok(None);
    }
    Ok(Some(Sender {
        name,
        place,
        connection,
        target: Target::Exchange(exchange),
        routing_key: None,
    }))
}

fn consumer(name: String, mut options: Options<'_>, remains: &mut Remains) -> Result<Taker> {
    let place = options.piece.clone();
    let connection = options.text(&["connection"])?;
    let mut class = options.text(&["class"])?;
    let Some(mut queue_options) = options.map(&["queue_options"])? else {
        return Err(place.error("`queue_options` is missing: the queue that it takes from"));
    };
    class = class.or(queue_options.text(&["class"])?);
    let prefetch = prefetch(&mut queue_options, &mut options)?;
    // ext-amqp makes queues of no connection's own.
    queue_options.pass_over(&["exclusive"]);
    let mut bindings = Vec::new();
    for mut binding in queue_options.maps(&["binding", "bindings"])? {
        let keys = amqp::routing_keys(&mut binding)?;
        let Some(exchange) = binding.text(&["name", "exchange"])? else {
            return Err(binding
                .piece
                .error("`name` is missing: the exchange that the queue is bound to"));
        };
        bindings.push(Bound {
            place: binding.piece.clone(),
            exchange: ExchangeOptions::named(exchange),
            keys,
            arguments: None,
        });
        binding.finish(REASONS, remains);
    }
    let queue = amqp::queue(&mut queue_options)?;
    let queue_place = queue_options.piece.clone();
    queue_options.finish(REASONS, remains);
    options.finish(REASONS, remains);
    let Some(queue) = queue else {
        return Err(queue_place.error("`name` is missing: the queue that it takes from"));
    };
    let handler = match class {
        Some(class) => kaliop::elsewhere(
            &class,
            &format!(
                "ko-worker's class {} (docs/workers.md has a bridge that runs it)",
                class.as_text().unwrap_or_default()
            ),
        ),
        None => kaliop::elsewhere(&place, "ko-worker"),
    };
    Ok(Taker {
        name,
        place,
        connection,
        queue,
        bindings,
        handler,
        prefetch,
    })
}

/// `qos_count`, and as the documentation spells it.
fn prefetch<'a>(queue: &mut Options<'a>, consumer: &mut Options<'a>) -> Result<Option<Piece>> {
    for options in [queue, consumer] {
        let Some(piece) = options.take(&["qos_count", "qos"])? else {
            continue;
        };
        let count = match piece.content() {
            Content::Map(_) => piece.get("prefetch_count").cloned(),
            _ => Some(piece),
        };
        return Ok(count.filter(|count| count.value() != Value::Int(0)));
    }
    Ok(None)
}
