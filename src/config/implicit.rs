//! What there is without a configuration: one connection on an embedded store, and any name is a queue of the built-in
//! command.

use std::path::Path;
use std::sync::Arc;

use super::connections::entry;
use super::decode::Tables;
use super::find::Surroundings;
use super::model::{ConnectionEntry, ConsumerEntry, ProducerEntry};
use super::names::wrong_with;
use crate::consumer::{ExitCodes, RetryPolicy};
use crate::error::{Error, Result};
use crate::handlers;
use crate::queue::topology::usual_dead_letter;
use crate::queue::{Queue, Topology};
use crate::settings::{Environment, Settings, Source, Value};
use crate::signing::Strictness;

/// The connection there is where none is configured, and the driver it uses.
pub(super) const CONNECTION: &str = "local";
const DRIVER: &str = "sqlite";
/// The handler of a consumer that is not configured: with no `commands:` it runs the built-in one only.
const HANDLER: &str = "command";
/// What errors call the place where such settings stand.
const PLACE: &str = "built-in defaults";

/// The connection on the embedded store in the state folder.
pub(super) fn connection(surroundings: &Surroundings, folder: &Path, tables: Tables) -> Result<ConnectionEntry> {
    let path = folder.join("queue.db");
    let Some(path) = path.to_str() else {
        return Err(Error::config(
            "the path of the state folder is not UTF-8; set XDG_STATE_HOME to one that is",
        ));
    };
    let source = Source::new(PLACE, folder, String::new(), surroundings.environment.clone());
    let text = |text: &str| Value::Text(text.replace("${", "$${"));
    let entries = [("driver", text(DRIVER)), ("path", text(path))];
    entry(CONNECTION, Settings::built_in("connections", source, entries), tables)
}

/// The queue that any entry has by default: durable, with the usual dead-letter queue.
pub(super) fn queue(name: &str) -> Queue {
    Queue {
        dead_letter: usual_dead_letter(name),
        ..dead_letter_queue(name)
    }
}

/// A dead-letter queue that nobody configures.
pub(super) fn dead_letter_queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        durable: true,
        ..Queue::default()
    }
}

fn topology(name: &str) -> Topology {
    let queue = queue(name);
    let dead = queue.dead_letter.as_deref().map(dead_letter_queue);
    Topology {
        exchanges: Vec::new(),
        queues: std::iter::once(queue).chain(dead).collect(),
    }
}

/// A producer for this name where qctl runs without a configuration: it sends to the queue of that name.
pub fn implicit_producer(name: &str) -> ProducerEntry {
    ProducerEntry {
        name: name.to_owned(),
        connection: CONNECTION.to_owned(),
        queue: name.to_owned(),
        topology: Arc::new(topology(name)),
        ..ProducerEntry::default()
    }
}

/// A consumer for this name where qctl runs without a configuration: it runs the built-in command only.
pub fn implicit_consumer(name: &str) -> Result<ConsumerEntry> {
    let handler =
        handlers::find(HANDLER).ok_or_else(|| Error::bug(format!("the handler {HANDLER} is not in the table")))?;
    let source = Source::new(PLACE, "/", String::new(), Environment::of::<String, String>([]));
    if let Some(message) = wrong_with("the name of a queue", name) {
        return Err(Error::bad_input(format!("{message}; give another name")));
    }
    let queue = queue(name);
    Ok(ConsumerEntry {
        name: name.to_owned(),
        connection: CONNECTION.to_owned(),
        topology: topology(name),
        handler,
        handler_settings: Settings::built_in::<String>("handler", source, []),
        concurrency: 1,
        prefetch: None,
        retry: RetryPolicy {
            keep: queue.dead_letter.is_none(),
            ..RetryPolicy::default()
        },
        queue,
        exit_codes: ExitCodes::default(),
        replies_allow: Vec::new(),
        signing: Strictness::Off,
        origins: Vec::new(),
        stop_grace: None,
        written: None,
    })
}
