//! The configuration as the rest of the program sees it: resolved, validated, defaults filled in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::predecessors::LeftOut;
use super::signing::SigningEntry;
use crate::consumer::{ExitCodes, RetryPolicy};
use crate::events::{EventKind, ListenerSpec, Policy};
use crate::handlers::{Commands, HandlerSpec};
use crate::queue::{Connector, DriverSpec, Exchange, Queue, Topology};
use crate::settings::{Setting, Settings};
use crate::signing::Strictness;

/// Everything that was configured.
pub struct Config {
    /// The file found; `None`: qctl runs without one.
    pub file: Option<PathBuf>,
    /// All files read, includes too, in the order read.
    pub files: Vec<PathBuf>,
    /// The connection used where none is named.
    pub default: String,
    /// Connections by name; without a file there is one, `local`.
    pub connections: BTreeMap<String, ConnectionEntry>,
    /// Producers by name.
    pub producers: BTreeMap<String, ProducerEntry>,
    /// Consumers by name.
    pub consumers: BTreeMap<String, ConsumerEntry>,
    /// The processes that are kept alive, by name.
    pub workers: BTreeMap<String, WorkerEntry>,
    /// The keys of signed messages.
    pub signing: SigningEntry,
    /// Who hears of what happens.
    pub listeners: Vec<ListenerEntry>,
    /// What a queued command may run.
    pub commands: Arc<Commands>,
    /// Where state is kept that is not the store's.
    pub state_dir: PathBuf,
    /// `state_dir:` was given.
    pub state_dir_given: bool,
    /// The entries of `commands:` as written, to be shown.
    pub written_commands: Vec<(String, Setting)>,
    /// The variables of the environment that it was read with, whether they are set or not.
    pub variables: Vec<String>,
    /// What the files of predecessors are to be warned of, a sentence each.
    pub warnings: Vec<String>,
    /// What of the files of predecessors is not taken over.
    pub left_out: Vec<LeftOut>,
}

/// A named connection.
pub struct ConnectionEntry {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: &'static DriverSpec,
    /// Opens it.
    pub connector: Arc<dyn Connector>,
    /// Its keys as written, to be shown.
    pub settings: Settings,
}

/// A named producer.
#[derive(Clone, Debug, Default)]
pub struct ProducerEntry {
    /// Its name.
    pub name: String,
    /// Its connection.
    pub connection: String,
    /// The exchange it publishes to; `None`: the default exchange.
    pub exchange: Option<Exchange>,
    /// With no exchange: the queue it publishes to.
    pub queue: String,
    /// The routing key used where the command line gives none.
    pub routing_key: Option<String>,
    /// The ttl of every message that does not bring one.
    pub ttl: Option<Duration>,
    /// Its messages are not signed, though there is a key to sign with.
    pub unsigned: bool,
    /// All that must be there before the first message: its exchange or queue, and every queue of this connection's
    /// consumers that is bound to its exchange.
    pub topology: Arc<Topology>,
}

/// A named consumer.
#[derive(Clone)]
pub struct ConsumerEntry {
    /// Its name.
    pub name: String,
    /// Its connection.
    pub connection: String,
    /// Its queue, dead-letter queue included.
    pub queue: Queue,
    /// The exchanges its bindings name, its queue and its dead-letter queue.
    pub topology: Topology,
    /// The handler's kind.
    pub handler: &'static HandlerSpec,
    /// The handler's own keys, validated at load.
    pub handler_settings: Settings,
    /// How many messages are handled at once.
    pub concurrency: usize,
    /// At most this many unsettled deliveries; `None`: as many as there are slots.
    pub prefetch: Option<usize>,
    /// When a failed message is tried again.
    pub retry: RetryPolicy,
    /// What a child's exit code means.
    pub exit_codes: ExitCodes,
    /// Queues that a reply may be sent to besides temporary ones.
    pub replies_allow: Vec<String>,
    /// What becomes of a message whose signature is not good.
    pub signing: Strictness,
    /// Other queues whose messages come here, for their signatures.
    pub origins: Vec<String>,
    /// How long a stop waits for what runs, before it is ended; `None`: as long as its time-out lets it run.
    pub stop_grace: Option<Duration>,
    /// As written; `None`: nowhere.
    pub written: Option<Setting>,
}

/// A listener.
pub struct ListenerEntry {
    /// Where it stands, such as `listeners[0]`.
    pub place: String,
    /// The events that it hears of.
    pub on: Vec<EventKind>,
    /// Of which queues, producers, consumers or workers; empty: of all.
    pub of: Vec<String>,
    /// Higher hears earlier.
    pub priority: i64,
    /// What becomes of what it does not hear.
    pub policy: Policy,
    /// How long it may take.
    pub within: Duration,
    /// What it is.
    pub spec: &'static ListenerSpec,
    /// Its own keys.
    pub settings: Settings,
}

/// A process that is kept alive.
pub struct WorkerEntry {
    /// Its name.
    pub name: String,
    /// As written.
    pub setting: Setting,
    /// The folder of its file.
    pub folder: PathBuf,
    /// What it is.
    pub runs: WorkerRuns,
    /// So many of it.
    pub instances: u32,
    /// Variables, besides those that every worker has.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in; `None`: the one of the configuration.
    pub cwd: Option<PathBuf>,
    /// Whom it runs as; `None`: whoever runs the watchdog.
    pub user: Option<String>,
    /// In which group; `None`: the user's.
    pub group: Option<String>,
    /// How it yields to others.
    pub nice: Option<i32>,
    /// The permissions that its new files do not have.
    pub umask: Option<u32>,
    /// Limits of the system's, by name; `None`: no limit.
    pub limits: Vec<(String, Option<u64>)>,
    /// Where what it prints goes.
    pub log: WorkerLog,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// How long it may take to; `Some(None)`: as long as it likes; `None`: not said.
    pub stop_timeout: Option<Option<Duration>>,
    /// How often it must give a sign of life; `Some(None)`: never; `None`: not said.
    pub heartbeat: Option<Option<Duration>>,
    /// The first and the longest wait after a failure.
    pub backoff: (Duration, Duration),
    /// A change of one of these is a reason to start it anew.
    pub restart_on: Vec<PathBuf>,
    /// The exit codes of one that has ended because it was to.
    pub expected: Vec<i32>,
}

/// What a worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerRuns {
    /// A consumer of qctl's.
    Consumer {
        /// Its name.
        name: String,
        /// Words of its command line.
        options: Vec<String>,
    },
    /// Any program with its arguments.
    Program(Vec<String>),
}

/// Where what a worker prints goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLog {
    /// The folder; `None`: the watchdog's own.
    pub folder: Option<PathBuf>,
    /// A log of this size is put aside; 0: never.
    pub size: u64,
    /// So many of those are kept.
    pub keep: u32,
}
