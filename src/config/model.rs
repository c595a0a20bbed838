//! The configuration as the rest of the program sees it: resolved, validated, defaults filled in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::predecessors::LeftOut;
use crate::consumer::{ExitCodes, RetryPolicy};
use crate::handlers::{Commands, HandlerSpec};
use crate::queue::{Connector, DriverSpec, Exchange, Queue, Topology};
use crate::settings::{Setting, Settings};

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
    /// What a queued command may run.
    pub commands: Arc<Commands>,
    /// Where state is kept that is not the store's.
    pub state_dir: PathBuf,
    /// The entries of `commands:` as written, to be shown.
    pub written_commands: Vec<(String, Setting)>,
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
    /// How long a stop waits for what runs, before it is ended; `None`: as long as its time-out lets it run.
    pub stop_grace: Option<Duration>,
}
