//! What was meant: the configuration, the output, and names resolved to entries and open connections.

mod sender;

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::cli::Global;
use crate::config::{self, Config, ConnectionEntry, ConsumerEntry, ProducerEntry, Surroundings};
use crate::error::{Error, Result};
use crate::events::{EventKind, ListenerContext, Listeners};
use crate::output::{Output, one_line};
use crate::process;
use crate::producer::{Producer, ProducerSettings};
use crate::queue::{ConnectOptions, Connection};
use crate::residents::Guard;
use crate::signing::{Memory, Origins, Signer, Strictness, Verifier};
use sender::Producers;

/// Where a message may be as old as it likes, it is remembered for so long that it was done.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// What every command is given: the global options and where to print.
pub struct Context {
    /// Options that every command shares.
    pub global: Global,
    /// Prints.
    pub output: Output,
}

impl Context {
    /// A context for these options. Nothing is read or opened before a command asks for it.
    pub fn new(global: Global) -> Self {
        let output = Output::new(global.format(), global.quiet, global.talks_json());
        Self { global, output }
    }

    /// Installs logging; `usual` is the level that the command shows without `-v`.
    pub fn log(&self, usual: LevelFilter) -> Result<()> {
        self.global.logging(usual).install()
    }

    /// Reads the configuration.
    pub fn load(&self) -> Result<Workplace<'_>> {
        let config = config::load(&Surroundings::of_process(), self.global.config.as_deref())?;
        for warning in &config.warnings {
            self.output.warn(one_line(warning));
        }
        Ok(Workplace {
            context: self,
            config,
            opened: RefCell::default(),
            hearing: OnceCell::new(),
        })
    }

    /// Runs a future to its end on a runtime made for it.
    pub fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::temporary("the event loop cannot be started").because(error))?
            .block_on(future)
    }
}

/// The qctl program itself.
pub fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::general("the path of this program is unknown").because(error))
}

/// A context with its configuration read.
pub struct Workplace<'a> {
    /// The context.
    pub context: &'a Context,
    /// The configuration.
    pub config: Config,
    /// Connections to say good-bye to.
    opened: RefCell<Vec<Arc<dyn Connection>>>,
    /// Who hears of what is sent.
    hearing: OnceCell<Arc<Listeners>>,
}

impl Workplace<'_> {
    /// As [`Context::block_on`], and closes what was connected to: a broker notes down whoever just goes away.
    pub fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.context.block_on(async {
            let result = future.await;
            if let Some(listeners) = self.hearing.get() {
                listeners.finish().await;
            }
            for connection in self.opened.take() {
                if let Err(error) = connection.close().await {
                    // What was done is done.
                    tracing::info!(%error, "the connection did not close cleanly");
                }
            }
            result
        })
    }

    /// Whether qctl runs without a configuration file, so that any name is a queue.
    pub fn is_implicit(&self) -> bool {
        self.config.file.is_none()
    }

    /// The connection given with `-i` (a driver's name does where one connection has it), or else the entry's.
    pub fn connection_or(&self, given: Option<&str>, entry: &str) -> Result<&ConnectionEntry> {
        self.config
            .connection(given.or(Some(entry).filter(|name| !name.is_empty())))
    }

    /// The producer with this name; without a configuration file any name is a queue.
    pub fn producer(&self, name: &str) -> Result<ProducerEntry> {
        require_name("producer", name)?;
        if self.is_implicit() {
            refuse_own_name(name)?;
            return Ok(config::implicit_producer(name));
        }
        self.config.producer(name).cloned()
    }

    /// The consumer with this name; without a configuration file any name is a queue of built-in commands.
    pub fn consumer(&self, name: &str) -> Result<ConsumerEntry> {
        require_name("consumer", name)?;
        if self.is_implicit() {
            refuse_own_name(name)?;
            return config::implicit_consumer(name);
        }
        self.config.consumer(name).cloned()
    }

    /// Opens a connection for one short command. An implicit store is named on standard error.
    pub async fn connect(&self, entry: &ConnectionEntry) -> Result<Arc<dyn Connection>> {
        self.connect_as(entry, ConnectOptions::default()).await
    }

    /// As `connect`, to what must be there already.
    pub async fn connect_existing(&self, entry: &ConnectionEntry) -> Result<Arc<dyn Connection>> {
        let existing = ConnectOptions {
            existing: true,
            ..ConnectOptions::default()
        };
        self.connect_as(entry, existing).await
    }

    async fn connect_as(&self, entry: &ConnectionEntry, how: ConnectOptions) -> Result<Arc<dyn Connection>> {
        self.tell_implicit_store(entry);
        let options = ConnectOptions {
            one_shot: true,
            sends_only: how.sends_only,
            existing: how.existing,
            ..self.connect_options("qctl")
        };
        let connection = entry
            .connector
            .connect(&options)
            .await
            .map_err(|error| error.at(format!("connection {}", entry.name)))?;
        self.opened.borrow_mut().push(Arc::clone(&connection));
        Ok(connection)
    }

    /// How to connect, with this label.
    pub fn connect_options(&self, label: &str) -> ConnectOptions {
        ConnectOptions {
            label: label.to_owned(),
            timeout: self.context.global.connect_timeout,
            one_shot: false,
            sends_only: false,
            existing: false,
            implicit_queues: self.is_implicit(),
            end_marked: Some(Arc::new(|token, lifeline| process::end_marked(token, lifeline).left)),
        }
    }

    /// Says which store is used where nothing was configured.
    pub fn tell_implicit_store(&self, entry: &ConnectionEntry) {
        if self.is_implicit() {
            self.context.output.note(format_args!(
                "qctl: no configuration file; using the embedded store {} (`qctl init` writes a configuration)",
                entry.connector.endpoint()
            ));
        }
    }

    /// The listeners that hear of messages, whose children this guard watches over.
    pub fn listeners(&self, guard: &Arc<Guard>) -> Result<Arc<Listeners>> {
        self.listeners_of(|kind| !kind.is_of_processes(), guard)
    }

    /// The listeners that hear of workers, whose children this guard watches over.
    pub fn process_listeners(&self, guard: &Arc<Guard>) -> Result<Arc<Listeners>> {
        self.listeners_of(EventKind::is_of_processes, guard)
    }

    fn listeners_of(&self, wanted: impl Fn(EventKind) -> bool, guard: &Arc<Guard>) -> Result<Arc<Listeners>> {
        let entries = self.config.listeners.iter();
        let mut entries = entries
            .filter(|entry| entry.on.iter().any(|kind| wanted(*kind)))
            .peekable();
        if entries.peek().is_none() {
            return Ok(Arc::default());
        }
        let sending = ConnectOptions {
            sends_only: true,
            ..self.connect_options("qctl")
        };
        let context = ListenerContext {
            guard: Arc::clone(guard),
            sender: Arc::new(Producers::new(&self.config, sending)),
            place: String::new(),
        };
        let entries = entries.map(|entry| entry.build(&context));
        Ok(Arc::new(Listeners::new(entries.collect::<Result<_>>()?)))
    }

    /// What checks the signatures of a consumer's messages; `None`: nobody looks.
    pub fn verifier(&self, entry: &ConsumerEntry) -> Result<Option<Arc<Verifier>>> {
        if entry.signing == Strictness::Off {
            return Ok(None);
        }
        let signing = &self.config.signing;
        // What other queues are bound to, their consumers know.
        let mut topology = entry.topology.clone();
        for other in self.config.consumers.values() {
            if entry.origins.contains(&other.queue.name) {
                topology.merge(&other.topology);
            }
        }
        let keep = signing.window.unwrap_or(REMEMBERED);
        let file = self.config.state_dir.join("signing").join(file_name(&entry.queue.name));
        let mut memory = Memory::at(file, keep);
        memory.prepare()?;
        let verifier = Verifier::new(
            entry.signing,
            signing.keyring.clone(),
            Origins::of(&entry.queue.name, &topology, &entry.origins),
            signing.window,
            Some(memory),
        )?;
        Ok(Some(Arc::new(verifier)))
    }

    /// Opens what a producer needs.
    pub async fn open_producer(&self, entry: &ProducerEntry, given: Option<&str>) -> Result<Producer> {
        let sending = ConnectOptions {
            sends_only: true,
            ..ConnectOptions::default()
        };
        let connection = self
            .connect_as(self.connection_or(given, &entry.connection)?, sending)
            .await?;
        let listeners = if let Some(listeners) = self.hearing.get() {
            Arc::clone(listeners)
        } else {
            let listeners = self.listeners(&Arc::new(Guard::new(&program()?)))?;
            Arc::clone(self.hearing.get_or_init(|| listeners))
        };
        let settings = ProducerSettings {
            listeners,
            signer: signer(&self.config, entry)?,
            ..producer_settings(entry)
        };
        Producer::new(connection, settings).await
    }
}

fn producer_settings(entry: &ProducerEntry) -> ProducerSettings {
    ProducerSettings {
        name: entry.name.clone(),
        listeners: Arc::default(),
        signer: None,
        exchange: entry
            .exchange
            .as_ref()
            .map(|exchange| exchange.name.clone())
            .unwrap_or_default(),
        queue: entry.queue.clone(),
        ttl: entry.ttl,
        topology: (*entry.topology).clone(),
    }
}

/// What signs a producer's messages, if anything does.
fn signer(config: &Config, entry: &ProducerEntry) -> Result<Option<Signer>> {
    let key = config.signing.signs_with.as_ref().filter(|_| !entry.unsigned);
    match key.and_then(|id| config.signing.keyring.key(id)) {
        Some(key) => Ok(Some(Signer::new(key?))),
        None => Ok(None),
    }
}

fn require_name(kind: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::usage(format!("the {kind}'s name is empty")));
    }
    Ok(())
}

/// Where any name is a queue, those of qctl's own making are still not: replies wait there for whoever asked.
fn refuse_own_name(name: &str) -> Result<()> {
    if name.starts_with("qctl.") {
        return Err(Error::not_allowed(format!(
            "names beginning with `qctl.` are those of qctl's own queues, and '{}' is one; choose another name",
            one_line(name)
        )));
    }
    Ok(())
}

/// A queue's name as a file's: what is no plain character is written as its bytes.
fn file_name(queue: &str) -> String {
    percent_encoding::utf8_percent_encode(queue, percent_encoding::NON_ALPHANUMERIC).to_string() + ".seen"
}
