//! The loop that takes messages, has them handled and settles them.

mod hand;
pub mod handler;
mod limits;
mod meter;
mod pace;
pub mod policy;
mod pulse;
mod reply;
mod session;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use handler::{Call, ExitCodes, Failure, Handler, OUTPUT_LIMIT, Outcome, Report, Verdict, check_hold, deadline};
pub use meter::{Meter, Reading, State};
pub use policy::{Backoff, RetryPolicy};
pub use pulse::{Pulse, Signs};

use limits::Watchman;
use session::{After, Progress, Session};
use telling::Teller;

use crate::error::{Error, ErrorKind, Result};
use crate::events::Listeners;
use crate::queue::{ConnectOptions, Connection, Connector, ConsumeOptions, Subscription, Topology};
use crate::signing::Verifier;

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
    /// Takes its signs of life.
    pub pulse: Pulse,
    /// Checks signatures.
    pub verifier: Option<Arc<Verifier>>,
    /// Who hears of its messages.
    pub listeners: Arc<Listeners>,
    /// Counts what it does.
    pub meter: Meter,
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
    /// Messages that a listener would not have handled.
    pub swallowed: u64,
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
    /// A listener wants it; where that one is configured.
    Listener(String),
    /// The handler has had enough: why.
    Enough(String),
    /// A listener that must hear did not: which, and why.
    Unheard(String),
}

/// The first wait before a lost connection is made anew.
const RECONNECT_MIN: Duration = Duration::from_millis(200);
/// The longest.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// How long a handler may take to clear up at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// In-process handlers get at least this many slots: waiting for their settlement, not working, is what takes time.
const IN_PROCESS_SLOTS: usize = 100;

/// Runs a consumer until it is stopped or a limit ends it. A lost connection is made anew, for as long as it takes; what
/// cannot mend itself (a wrong configuration, a missing program, a damaged store) is an error.
pub async fn run(
    connector: Arc<dyn Connector>,
    connect: ConnectOptions,
    settings: ConsumerSettings,
    handler: Arc<dyn Handler>,
    stop: Stop,
) -> Result<Ended> {
    handler.check()?;
    let mut watchman = Watchman::new(&settings.limits, &handler);
    let mut progress = Progress::default();
    let mut wait = RECONNECT_MIN;
    let mut failing_since = None;
    let result = loop {
        let begun = Instant::now();
        let after = serve(
            &*connector,
            &connect,
            &settings,
            &handler,
            &stop,
            &mut watchman,
            &mut progress,
        )
        .await;
        let error = match after {
            Ok(After::End(reason)) => break Ok(reason),
            Ok(After::Reconnect(error)) | Err(error) => error,
        };
        // A queue deleted under a running consumer is declared again, and a login that worked before is being changed, or is
        // read from its file anew; what never worked is a mistake.
        let mends = progress.connected
            && matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotAllowed | ErrorKind::Config
            );
        if !error.is_transient() && !mends {
            break Err(error);
        }
        if let Some(limit) = watchman.reached(true) {
            break Ok(EndReason::Limit(limit));
        }
        // Whoever waits for the queue to be empty waits for an answer, not for a broker that does not come back.
        if begun.elapsed() > Duration::from_secs(1) {
            failing_since = None;
        }
        let failing_for = failing_since.get_or_insert(begun).elapsed();
        if settings.limits.until_empty && failing_for > connect.timeout {
            break Err(error);
        }
        if begun.elapsed() > RECONNECT_MAX {
            wait = RECONNECT_MIN;
        }
        let pause = wait.mul_f64(1.0 - 0.2 * fastrand::f64());
        settings.meter.set_state(State::Away(error.to_string()));
        let what = if std::mem::take(&mut progress.standing) {
            "connection lost; connecting again"
        } else {
            "cannot connect yet; trying again"
        };
        tracing::warn!(consumer = %settings.name, endpoint = %connector.endpoint(), %error,
            wait_ms = pause.as_millis() as u64, "{what}");
        if let Some(reason) = settings.pulse.during(rest(pause, &mut watchman, &stop)).await {
            break Ok(reason);
        }
        wait = (wait * 2).min(RECONNECT_MAX);
    };
    settings.meter.set_state(State::Stopping);
    // A companion that does not answer must not keep a stopped consumer alive.
    let finishing = async {
        settings.listeners.finish().await;
        handler.finish().await;
    };
    if tokio::time::timeout(FINISH_WITHIN, finishing).await.is_err() {
        tracing::warn!("the handler's companion process did not end in time; it is left behind");
    }
    result.map(|reason| Ended {
        reason,
        ..progress.ended
    })
}

/// Waits before the next try to connect, unless something ends the consumer.
async fn rest(pause: Duration, watchman: &mut Watchman, stop: &Stop) -> Option<EndReason> {
    let until = Instant::now() + pause;
    loop {
        let look = watchman.next_look().map_or(until, |look| look.min(until));
        tokio::select! {
            () = tokio::time::sleep_until(look) => {}
            () = stop.drain.cancelled() => return Some(EndReason::Stopped),
        }
        if let Some(limit) = watchman.reached(true) {
            return Some(EndReason::Limit(limit));
        }
        if Instant::now() >= until {
            return None;
        }
    }
}

/// Connects, declares and begins to take.
async fn open(
    connector: &dyn Connector,
    connect: &ConnectOptions,
    settings: &ConsumerSettings,
    slots: usize,
) -> Result<(Arc<dyn Connection>, Box<dyn Subscription>)> {
    let connection = connector.connect(connect).await?;
    let beginning = async {
        connection.declare(&settings.topology).await?;
        connection
            .consume(ConsumeOptions {
                queue: settings.queue.clone(),
                prefetch: settings.prefetch.unwrap_or(slots),
                slots,
                label: settings.label.clone(),
                most_deliveries: Some(settings.retry.deliveries).filter(|most| *most > 0),
            })
            .await
    };
    // A broker whose queue has no leader keeps the connection alive and says nothing.
    let subscription = tokio::time::timeout(connect.timeout, beginning)
        .await
        .unwrap_or_else(|_| {
            Err(Error::unavailable(format!(
                "queue `{}`: the broker does not answer for it within {} s; is the queue well?",
                settings.queue,
                connect.timeout.as_secs_f64()
            )))
        })?;
    Ok((connection, subscription))
}

/// One connection, from connect to close.
async fn serve(
    connector: &dyn Connector,
    connect: &ConnectOptions,
    settings: &ConsumerSettings,
    handler: &Arc<dyn Handler>,
    stop: &Stop,
    watchman: &mut Watchman,
    progress: &mut Progress,
) -> Result<After> {
    let slots = if handler.in_process() {
        // What such a handler holds it may begin, and so begins in the order of the queue.
        let held = settings.prefetch.unwrap_or_default();
        settings.concurrency.max(IN_PROCESS_SLOTS).max(held)
    } else {
        settings.concurrency.max(1)
    };
    let (connection, subscription) = tokio::select! {
        opened = settings.pulse.during(open(connector, connect, settings, slots)) => opened?,
        // Nothing is in hand yet.
        () = stop.drain.cancelled() => return Ok(After::End(EndReason::Stopped)),
    };
    if progress.connected {
        settings.meter.reconnected();
    }
    progress.connected = true;
    progress.standing = true;
    let lifeline = subscription.lifeline();
    let preparing = async {
        handler.prepare(&lifeline).await?;
        settings.listeners.prepare(&lifeline).await
    };
    if let Err(error) = settings.pulse.during(preparing).await {
        subscription.close().await?;
        return Err(error);
    }
    settings.meter.set_state(State::Consuming);
    tracing::info!(consumer = %settings.name, queue = %settings.queue, endpoint = %connector.endpoint(), slots, "consuming");
    let session = Session {
        connection: Arc::clone(&connection),
        settings,
        handler: Arc::clone(handler),
        stop,
        watchman,
        progress,
        slots,
        teller: Arc::new(Teller::new(settings, stop)),
    };
    let after = session.run(subscription).await;
    if let Err(error) = settings.pulse.during(connection.close()).await {
        tracing::warn!(%error, "the connection did not close cleanly");
    }
    after
}
