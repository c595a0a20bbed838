//! The loop that takes messages, has them handled and settles them.

pub mod handler;
pub mod policy;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use handler::{Call, ExitCodes, Failure, Handler, OUTPUT_LIMIT, Outcome, Report, Verdict, deadline};
pub use policy::{Backoff, RetryPolicy};

use crate::error::Result;
use crate::queue::{ConnectOptions, Connector, Topology};

/// What a consumer takes, and within which limits.
#[derive(Clone, Debug, Default)]
pub struct ConsumerSettings {
    /// Its name, for logs.
    pub name: String,
    /// The queue.
    pub queue: String,
    /// Declared before the first message.
    pub topology: Topology,
    /// How many messages are handled at once.
    pub concurrency: usize,
    /// At most this many unsettled deliveries; `None`: as many as slots.
    pub prefetch: Option<usize>,
    /// Retries.
    pub retry: RetryPolicy,
    /// Queues that a reply may be sent to besides temporary ones.
    pub replies_allow: Vec<String>,
    /// How long a stop waits for what runs.
    pub stop_grace: Option<Duration>,
    /// Shown to operators.
    pub label: String,
    /// When it ends by itself.
    pub limits: Limits,
}

/// When a consumer ends by itself. `None` is no limit.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// After so many messages.
    pub messages: Option<u64>,
    /// After this time.
    pub time: Option<Duration>,
    /// When its memory passes so many bytes.
    pub memory: Option<u64>,
    /// When the queue has no ready message.
    pub until_empty: bool,
    /// When no message came for this long.
    pub idle: Option<Duration>,
    /// After so many failed messages in a row.
    pub failures: Option<u64>,
}

/// Asks a consumer to stop: first `drain` (finish what runs), then `now` (end what runs and give it back).
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Take nothing new, finish what runs.
    pub drain: CancellationToken,
    /// End what runs.
    pub now: CancellationToken,
}

/// Why a consumer ended, and what it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// Messages settled as done.
    pub done: u64,
    /// Messages settled in any other way.
    pub failed: u64,
}

/// Why a consumer ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum EndReason {
    /// It was asked to.
    #[default]
    Stopped,
    /// It was asked to twice: what ran was ended and given back.
    Interrupted,
    /// A limit; its name and value, such as `messages 10`.
    Limit(String),
    /// Too many failures in a row.
    Failures(u64),
}

/// Runs a consumer until it is stopped or a limit ends it.
#[allow(clippy::todo, clippy::unused_async)]
pub async fn run(
    connector: Arc<dyn Connector>,
    connect: ConnectOptions,
    settings: ConsumerSettings,
    handler: Arc<dyn Handler>,
    stop: Stop,
) -> Result<Ended> {
    let _ = (connector, connect, settings, handler, stop);
    todo!()
}
