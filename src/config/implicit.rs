//! What there is without a configuration: one connection on an embedded store, and any name is a queue of the built-in
//! command.

use std::path::Path;

use super::connections::entry;
use super::decode::Tables;
use super::find::Surroundings;
use super::model::{ConnectionEntry, ConsumerEntry, ProducerEntry};
use crate::consumer::{ExitCodes, RetryPolicy};
use crate::error::{Error, Result};
use crate::handlers;
use crate::queue::{Queue, Topology};
use crate::settings::{Environment, Settings, Source, Value};

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

/// The queue that any entry has by default: durable, with a dead-letter queue.
pub(super) fn queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        durable: true,
        dead_letter: Some(format!("{name}.dead")),
        ..Queue::default()
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
    Topology {
        exchanges: Vec::new(),
        queues: vec![queue(name), dead_letter_queue(&format!("{name}.dead"))],
    }
}

/// A producer for this name where qctl runs without a configuration: it sends to the queue of that name.
pub fn implicit_producer(name: &str) -> ProducerEntry {
    ProducerEntry {
        name: name.to_owned(),
        connection: CONNECTION.to_owned(),
        queue: name.to_owned(),
        topology: topology(name),
        ..ProducerEntry::default()
    }
}

/// A consumer for this name where qctl runs without a configuration: it runs the built-in command only.
pub fn implicit_consumer(name: &str) -> Result<ConsumerEntry> {
    let handler =
        handlers::find(HANDLER).ok_or_else(|| Error::bug(format!("the handler {HANDLER} is not in the table")))?;
    let source = Source::new(PLACE, "/", String::new(), Environment::of::<String, String>([]));
    Ok(ConsumerEntry {
        name: name.to_owned(),
        connection: CONNECTION.to_owned(),
        queue: queue(name),
        topology: topology(name),
        handler,
        handler_settings: Settings::built_in::<String>("handler", source, []),
        concurrency: 1,
        prefetch: None,
        retry: RetryPolicy::default(),
        exit_codes: ExitCodes::default(),
        replies_allow: Vec::new(),
        stop_grace: None,
    })
}
