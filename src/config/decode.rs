//! From the maps of all files to the [`Config`]: defaults filled in, names looked up, everything checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::commands::commands;
use super::connections::connection;
use super::consumers::{ConsumerDraft, consumer};
use super::fabric::Fabric;
use super::find::Surroundings;
use super::implicit;
use super::include::Loaded;
use super::listeners::{Names, listeners};
use super::lookup::NO_HOME;
use super::model::{Config, ConnectionEntry, ConsumerEntry, ProducerEntry};
use super::names::those_there_are;
use super::predecessors::{self, CONSOLE, Translation};
use super::producers::{ProducerDraft, producer};
use super::sections::{self, Sections};
use super::signing::{SigningEntry, signing};
use super::workers::workers;
use crate::consumer::{RetryPolicy, check_hold};
use crate::drivers::DRIVERS;
use crate::error::{Error, Result};
use crate::handlers::{Commands, HANDLERS, HandlerContext, HandlerSpec};
use crate::queue::{DriverSpec, Topology};
use crate::settings::{Setting, Value};
use crate::signing::Strictness;

/// State is kept here when there is no home.
const LAST_STATE_FOLDER: &str = "/var/lib/qctl";

/// The drivers and handlers that a configuration can name.
#[derive(Clone, Copy)]
pub struct Tables {
    /// The drivers.
    pub drivers: &'static [&'static DriverSpec],
    /// The handlers.
    pub handlers: &'static [HandlerSpec],
}

impl Tables {
    /// Those that qctl brings.
    pub fn built_in() -> Self {
        Self {
            drivers: DRIVERS,
            handlers: HANDLERS,
        }
    }

    pub(super) fn driver(self, name: &str) -> Option<&'static DriverSpec> {
        self.drivers.iter().copied().find(|spec| spec.name == name)
    }

    pub(super) fn driver_for_scheme(self, scheme: &str) -> Option<&'static DriverSpec> {
        self.drivers.iter().copied().find(|spec| spec.schemes.contains(&scheme))
    }

    pub(super) fn handler(self, kind: &str) -> Option<&'static HandlerSpec> {
        self.handlers.iter().find(|spec| spec.kind == kind)
    }
}

/// Consumers whose handlers ask servers, and whose list of those is empty.
fn asking_nobody(consumers: &[ConsumerDraft]) -> Vec<(String, &'static str)> {
    let asks_nobody = |draft: &&ConsumerDraft| {
        matches!(draft.handler.kind, "http" | "xmlrpc")
            && matches!(draft.handler_settings.written("allow"), Some(Value::List(list)) if list.is_empty())
    };
    let asking = consumers.iter().filter(asks_nobody);
    asking.map(|draft| (draft.name.clone(), draft.handler.kind)).collect()
}

pub(super) fn decode(
    surroundings: &Surroundings,
    file: Option<PathBuf>,
    loaded: Loaded,
    tables: Tables,
) -> Result<Config> {
    let Loaded { files, roots, foreign } = loaded;
    let translations = predecessors::translate(&foreign, &roots, tables, &surroundings.environment)?;
    let own_file = roots.first().map(|root| root.source().file().to_owned());
    let below = translations
        .iter()
        .map(|translation| translation.top.clone().into_settings(surroundings.environment.clone()))
        .collect();
    let mut sections = sections::collect(roots, below)?;
    let without_program = without_program(&mut sections, &translations);
    let connections = connections(surroundings, &sections, tables)?;
    let default = default_connection(&sections, &connections)?;
    let commands = Arc::new(commands(&sections.commands)?);
    let producers = sections
        .producers
        .iter()
        .map(|(name, setting)| producer(name, setting))
        .collect::<Result<Vec<_>>>()?;
    let consumers = sections
        .consumers
        .iter()
        .map(|(name, setting)| consumer(name, setting, tables))
        .collect::<Result<Vec<_>>>()?;
    let warnings = predecessors::warnings(
        &translations,
        own_file.as_deref(),
        &sections.tried_once,
        without_program.as_ref(),
        !sections.commands.is_empty(),
        &asking_nobody(&consumers),
    );
    let state_dir = match &sections.state_dir {
        Some(setting) => setting.file_path()?,
        None => surroundings
            .state_folder()
            .unwrap_or_else(|| PathBuf::from(LAST_STATE_FOLDER)),
    };
    let entries = Entries::resolve(&producers, &consumers, &connections, &default)?;
    check_handlers(&entries.consumers, &connections, surroundings, &commands)?;
    let workers = workers(&sections.workers, &entries.consumers)?;
    let signing = signing(sections.signing.as_ref())?;
    check_signing(&consumers, &signing)?;
    let listeners = listeners(
        sections.listeners.as_ref(),
        &Names {
            producers: &entries.producers,
            consumers: &entries.consumers,
            workers: &workers,
        },
    )?;
    Ok(Config {
        file: file.map(|file| surroundings.absolute(&file)),
        files,
        default,
        connections,
        producers: entries.producers,
        consumers: entries.consumers,
        workers,
        listeners,
        signing,
        commands,
        state_dir,
        state_dir_given: sections.state_dir.is_some(),
        written_commands: sections.commands,
        variables: Vec::new(),
        warnings,
        left_out: translations
            .into_iter()
            .flat_map(|translation| translation.left_out)
            .collect(),
    })
}

/// Takes the commands that a predecessor allowed out again where nothing says by what they are run.
fn without_program(sections: &mut Sections, translations: &[Translation]) -> Option<Setting> {
    let is_theirs = |name: &str| name == CONSOLE && !translations.is_empty();
    let has_program = |setting: &Setting| setting.settings().is_ok_and(|settings| settings.has("run"));
    let mut commands = sections.commands.iter();
    let at = commands.position(|(name, setting)| is_theirs(name) && setting.is_map() && !has_program(setting))?;
    Some(sections.commands.remove(at).1)
}

fn connections(
    surroundings: &Surroundings,
    sections: &Sections,
    tables: Tables,
) -> Result<BTreeMap<String, ConnectionEntry>> {
    if sections.connections.is_empty() {
        let Some(folder) = surroundings.state_folder() else {
            // Not needed by everyone: whoever asks for a connection is told.
            return Ok(BTreeMap::new());
        };
        let implicit = implicit::connection(surroundings, &folder, tables)?;
        return Ok(BTreeMap::from([(implicit.name.clone(), implicit)]));
    }
    sections
        .connections
        .iter()
        .map(|(name, setting)| Ok((name.clone(), connection(name, setting, tables)?)))
        .collect()
}

/// `default:`; else the only connection; else the one that is called `default`.
fn default_connection(sections: &Sections, connections: &BTreeMap<String, ConnectionEntry>) -> Result<String> {
    if let Some(setting) = &sections.default {
        return connection_name(setting, connections);
    }
    let mut names = connections.keys();
    match (names.next(), names.next()) {
        (None, _) => Ok(implicit::CONNECTION.to_owned()),
        (Some(only), None) => Ok(only.clone()),
        (Some(first), Some(_)) => {
            if connections.contains_key("default") {
                return Ok("default".to_owned());
            }
            let place = sections
                .connections
                .first()
                .map_or_else(String::new, |(_, setting)| setting.place() + ": ");
            Err(Error::config(format!(
                "{place}there are {} connections and none is the default; add `default: {first}` at the top",
                connections.len()
            )))
        }
    }
}

fn connection_name(setting: &Setting, connections: &BTreeMap<String, ConnectionEntry>) -> Result<String> {
    let name = setting.text()?;
    if connections.contains_key(&name) {
        return Ok(name);
    }
    let end = those_there_are(&name, connections.keys().map(String::as_str));
    Err(setting.error(format!("no connection is called `{}`{end}", name.escape_debug())))
}

/// Producers and consumers with the names in them looked up.
struct Entries {
    producers: BTreeMap<String, ProducerEntry>,
    consumers: BTreeMap<String, ConsumerEntry>,
}

impl Entries {
    fn resolve(
        producers: &[ProducerDraft],
        consumers: &[ConsumerDraft],
        connections: &BTreeMap<String, ConnectionEntry>,
        default: &str,
    ) -> Result<Self> {
        let name_of = |setting: &Option<Setting>, entry: &Setting| match setting {
            Some(setting) => connection_name(setting, connections),
            None if connections.is_empty() => Err(entry.error(NO_HOME)),
            None => Ok(default.to_owned()),
        };
        let consumers: Vec<(String, &ConsumerDraft)> = consumers
            .iter()
            .map(|draft| Ok((name_of(&draft.connection, &draft.setting)?, draft)))
            .collect::<Result<_>>()?;
        let by_name: BTreeMap<&str, &(String, &ConsumerDraft)> = consumers
            .iter()
            .map(|consumer| (consumer.1.name.as_str(), consumer))
            .collect();
        let namesake = |producer: &ProducerDraft| by_name.get(producer.name.as_str()).copied();
        let producers: Vec<(String, &ProducerDraft)> = producers
            .iter()
            .map(|draft| {
                // A producer that says nothing else sends to the queue of the consumer of its name, wherever that is.
                let connection = match namesake(draft) {
                    Some((connection, _))
                        if draft.connection.is_none() && draft.exchange.is_none() && draft.queue.is_none() =>
                    {
                        connection.clone()
                    }
                    _ => name_of(&draft.connection, &draft.setting)?,
                };
                Ok((connection, draft))
            })
            .collect::<Result<_>>()?;
        let mut fabrics: BTreeMap<&str, Fabric<'_>> = BTreeMap::new();
        for (connection, draft) in &producers {
            fabrics.entry(connection).or_default().add_producer(draft)?;
        }
        for (connection, draft) in &consumers {
            fabrics.entry(connection).or_default().add_consumer(draft)?;
        }
        for (connection, draft) in &consumers {
            fabrics.entry(connection).or_default().bind(draft)?;
        }
        for (connection, fabric) in &fabrics {
            if let Some(entry) = connections.get(*connection) {
                fabric.check(&*entry.connector)?;
            }
        }
        let mut around: BTreeMap<&str, Shared<'_>> = BTreeMap::new();
        let producers = producers
            .iter()
            .map(|(connection, draft)| {
                let queue = namesake(draft)
                    .filter(|(other, _)| other == connection)
                    .map(|(_, consumer)| consumer.queue.queue.name.as_str());
                let around = around.entry(connection).or_default();
                let entry = producer_entry(connection, draft, queue, &fabrics[connection.as_str()], around);
                (draft.name.clone(), entry)
            })
            .collect();
        let consumers = consumers
            .iter()
            .map(|(connection, draft)| {
                let entry = consumer_entry(connection, draft, &fabrics[connection.as_str()]);
                (draft.name.clone(), entry)
            })
            .collect();
        Ok(Self { producers, consumers })
    }
}

/// What is around each exchange: one topology for all producers that send there, however many queues it has.
type Shared<'a> = BTreeMap<&'a str, Arc<Topology>>;

fn producer_entry<'a>(
    connection: &str,
    draft: &'a ProducerDraft,
    namesake: Option<&str>,
    fabric: &Fabric<'_>,
    around: &mut Shared<'a>,
) -> ProducerEntry {
    let named = draft.exchange.as_ref().map(|exchange| exchange.name.as_str());
    let exchange = named.and_then(|name| fabric.exchange(name));
    let (queue, topology) = if let Some(name) = named.filter(|_| exchange.is_some()) {
        let known = around.entry(name);
        let topology = known.or_insert_with(|| Arc::new(fabric.around_exchange(name)));
        (String::new(), Arc::clone(topology))
    } else {
        let queue = draft.queue.as_deref().or(namesake).unwrap_or(&draft.name);
        (queue.to_owned(), Arc::new(fabric.around_queue(queue)))
    };
    ProducerEntry {
        name: draft.name.clone(),
        connection: connection.to_owned(),
        exchange: exchange.cloned(),
        queue,
        routing_key: draft.routing_key.clone(),
        ttl: draft.ttl,
        unsigned: draft.unsigned,
        topology,
    }
}

fn consumer_entry(connection: &str, draft: &ConsumerDraft, fabric: &Fabric<'_>) -> ConsumerEntry {
    let queue = &draft.queue.queue.name;
    ConsumerEntry {
        name: draft.name.clone(),
        connection: connection.to_owned(),
        queue: fabric.queue(queue),
        topology: fabric.around_queue(queue),
        written: Some(draft.setting.clone()),
        handler: draft.handler,
        handler_settings: draft.handler_settings.clone(),
        concurrency: draft.concurrency,
        prefetch: draft.prefetch,
        retry: RetryPolicy {
            keep: fabric.keeps(queue),
            ..draft.retry.clone()
        },
        exit_codes: draft.exit_codes.clone(),
        replies_allow: draft.replies_allow.clone(),
        signing: draft.signing,
        origins: draft.origins.clone(),
        stop_grace: draft.stop_grace,
    }
}

/// Without a key every message would be refused.
fn check_signing(consumers: &[ConsumerDraft], signing: &SigningEntry) -> Result<()> {
    let asks = consumers.iter().find(|draft| draft.signing != Strictness::Off);
    match asks.filter(|_| signing.keyring.is_empty()) {
        Some(draft) => Err(draft.setting.settings()?.error(
            "signing",
            "asks for signatures, and there is no key to check them with; make one with `qctl keys new FILE`, and name it under \
             `signing: {keys: …}`",
        )),
        None => Ok(()),
    }
}

/// Has every handler read its keys once, so that a mistake in them is found at load and not at the first message.
fn check_handlers(
    consumers: &BTreeMap<String, ConsumerEntry>,
    connections: &BTreeMap<String, ConnectionEntry>,
    surroundings: &Surroundings,
    commands: &Arc<Commands>,
) -> Result<()> {
    for entry in consumers.values() {
        let context = HandlerContext::new(
            Arc::clone(commands),
            entry.exit_codes.clone(),
            surroundings.program.clone(),
            entry.concurrency,
        );
        let handler = (entry.handler.parse)(entry.handler_settings.clone(), &context)?;
        if let Some(connection) = connections.get(&entry.connection) {
            check_hold(&*handler, connection.connector.capabilities().hold_limit)
                .map_err(|reason| entry.handler_settings.error("timeout", reason))?;
        }
    }
    Ok(())
}
