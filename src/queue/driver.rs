//! The traits a driver implements. The rules they keep are numbered in [`crate::queue`].

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::admin::{
    Delete, LookPrice, Maintenance, MaintenanceReport, Peek, Peeked, Purge, QueueInfo, Redrive, RedriveReport,
};
use super::capabilities::Capabilities;
use super::delivery::{Delivery, Lifeline, Settlement, Ticket};
use super::message::Message;
use super::topology::Topology;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;

/// A driver: one row of the table in `drivers/mod.rs`.
pub struct DriverSpec {
    /// Its name, such as `sqlite`.
    pub name: &'static str,
    /// The URL schemes that choose it.
    pub schemes: &'static [&'static str],
    /// What it is, in one line.
    pub about: &'static str,
    /// A minimal connection entry, as YAML; a test parses it.
    pub example: &'static str,
    /// What it can do.
    pub capabilities: fn() -> Capabilities,
    /// Reads a connection entry; touches nothing outside the process. Secrets in files are read at connect, not here.
    pub parse: fn(Settings) -> Result<Arc<dyn Connector>>,
}

impl fmt::Debug for DriverSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverSpec")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A validated connection entry, ready to connect as often as needed.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Where it leads, without secrets.
    fn endpoint(&self) -> String;
    /// What the driver can do with these settings.
    fn capabilities(&self) -> Capabilities;
    /// Connects, within `options.timeout`.
    async fn connect(&self, options: &ConnectOptions) -> Result<Arc<dyn Connection>>;
    /// Refuses a topology that `declare` would refuse whatever is there, without connecting: for the configuration, which
    /// is judged before anything runs.
    fn check(&self, topology: &Topology) -> Result<()> {
        let _ = topology;
        Ok(())
    }
    /// The folder where it keeps messages itself, if it does: what belongs to them is kept beside them.
    fn folder(&self) -> Option<PathBuf> {
        None
    }
    /// Looks after the store behind it, where there is one of our own.
    fn maintain(&self, what: &Maintenance) -> Result<MaintenanceReport> {
        let _ = what;
        Err(Error::unsupported(format!(
            "{} is a broker that looks after itself; name a connection on an embedded store with -i",
            self.endpoint()
        )))
    }
}

/// Ends every process that still runs on behalf of a dead consumer, named by its token and its lifeline file, if it has
/// one; returns how many could not be ended.
pub type EndMarked = Arc<dyn Fn(&str, Option<&File>) -> usize + Send + Sync>;

/// How to connect.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Shown to operators beside pid and host.
    pub label: String,
    /// Give up after this time.
    pub timeout: Duration,
    /// The connection serves one short command: no threads or watches that only a long life repays.
    pub one_shot: bool,
    /// It sends, and reads replies at most: no message of others with whatever they have put into it.
    pub sends_only: bool,
    /// What holds the queues must be there already: a monitor is not to find an empty one that it has just made.
    pub existing: bool,
    /// Queues exist as soon as they are named (qctl without a configuration file).
    pub implicit_queues: bool,
    /// Called for a consumer found dead, before its messages are handed out again: they are only if none of its processes
    /// is left.
    pub end_marked: Option<EndMarked>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            label: "qctl".to_owned(),
            timeout: Duration::from_secs(10),
            one_shot: false,
            sends_only: false,
            existing: false,
            implicit_queues: false,
            end_marked: None,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("label", &self.label)
            .field("timeout", &self.timeout)
            .field("one_shot", &self.one_shot)
            .finish_non_exhaustive()
    }
}

/// A message on its way to an exchange; the empty exchange is the default one, which routes by queue name.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The exchange.
    pub exchange: Arc<str>,
    /// The message; its routing key, id and timestamp are set.
    pub message: Message,
    /// The sender chose the id: the same id again within the driver's window is the same message.
    pub deduplicate: bool,
}

/// Which messages of a batch were not taken. All others were.
#[derive(Debug)]
pub struct PublishFailure {
    /// Index in the batch and reason, in order, never empty.
    pub failed: Vec<(usize, Error)>,
}

impl PublishFailure {
    /// None of `count` messages was taken, for one shared reason.
    pub fn all(count: usize, error: &Error) -> Self {
        Self {
            failed: (0..count).map(|index| (index, error.duplicate())).collect(),
        }
    }

    /// The first reason.
    pub fn into_first(self) -> Error {
        self.failed
            .into_iter()
            .next()
            .map_or_else(|| Error::bug("a publish failure without a reason"), |(_, error)| error)
    }
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub struct ConsumeOptions {
    /// The queue.
    pub queue: String,
    /// At most this many unsettled deliveries are out.
    pub prefetch: usize,
    /// How many of them are begun at once; the rest count as not started until [`Settle::start`] says so.
    pub slots: usize,
    /// Shown to operators.
    pub label: String,
    /// The consumer gives a message up when it was handed out more often than this; `None`: never. A broker that would give it
    /// up before, or give it up to nowhere, is refused (rule 10).
    pub most_deliveries: Option<u32>,
}

/// An open connection. Dropping it is allowed; `close` gives back what is held at once.
#[async_trait]
pub trait Connection: Send + Sync {
    /// The driver's name, for messages to people.
    fn driver(&self) -> &'static str;
    /// What this connection can do.
    fn capabilities(&self) -> Capabilities;
    /// Makes sure exchanges, queues and bindings are there; never deletes, never changes what is there otherwise.
    async fn declare(&self, topology: &Topology) -> Result<()>;
    /// Publishes a batch in order and returns when every message is taken (rule 1).
    async fn publish(&self, batch: Vec<Publication>) -> Result<(), PublishFailure>;
    /// Starts taking from a queue.
    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Subscription>>;
    /// A round trip.
    async fn ping(&self) -> Result<()>;
    /// Closes cleanly.
    async fn close(&self) -> Result<()>;

    /// The figures of one queue.
    async fn info(&self, queue: &str) -> Result<QueueInfo> {
        let _ = queue;
        Err(self.denied("info"))
    }
    /// Whether the queue is there.
    async fn has_queue(&self, queue: &str) -> Result<bool> {
        match self.info(queue).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    /// The names of all queues but qctl's own. `Unsupported` also where the driver could and this broker cannot.
    async fn list(&self) -> Result<Vec<String>> {
        Err(self.denied("list"))
    }
    /// The figures of several queues, without those that are not there.
    async fn figures(&self, queues: &[String]) -> Result<Vec<QueueInfo>> {
        let mut found = Vec::with_capacity(queues.len());
        for queue in queues {
            match self.info(queue).await {
                Ok(info) => found.push(info),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
    /// What [`Connection::peek`] does to the messages of this queue.
    async fn look_price(&self, queue: &str) -> Result<LookPrice> {
        let _ = queue;
        Ok(LookPrice::Nothing)
    }
    /// Looks at messages and takes none away.
    async fn peek(&self, queue: &str, peek: &Peek) -> Result<Vec<Peeked>> {
        let _ = (queue, peek);
        Err(self.denied("peek"))
    }
    /// Removes ready and delayed messages; returns how many.
    async fn purge(&self, queue: &str, purge: Purge) -> Result<u64> {
        let _ = (queue, purge);
        Err(self.denied("purge"))
    }
    /// Deletes a queue, or refuses by the conditions (`Temporary`). Returns how many messages went with it.
    async fn delete(&self, queue: &str, delete: Delete) -> Result<u64> {
        let _ = (queue, delete);
        Err(self.denied("delete"))
    }
    /// Stops or resumes handing out, for every consumer.
    async fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        let _ = (queue, paused);
        Err(self.denied("pause"))
    }
    /// Removes one message that is not held; `false` if there is none with this id.
    async fn drop_message(&self, queue: &str, id: &str) -> Result<bool> {
        let _ = (queue, id);
        Err(self.denied("drop"))
    }
    /// Makes one delayed message ready; `false` if there is none with this id.
    async fn release_message(&self, queue: &str, id: &str) -> Result<bool> {
        let _ = (queue, id);
        Err(self.denied("release"))
    }
    /// Moves dead letters of `queue` back to it.
    async fn redrive(&self, queue: &str, redrive: &Redrive) -> Result<RedriveReport> {
        let _ = (queue, redrive);
        Err(self.denied("redrive"))
    }
    /// Makes a queue that belongs to this connection and goes with it; returns its name, fit for `reply_to`.
    async fn temporary_queue(&self) -> Result<String> {
        Err(self.denied("a temporary queue"))
    }
    /// How long a message needs to a queue of this connection and back.
    async fn round_trip(&self) -> Result<Duration> {
        let queue = self.temporary_queue().await?;
        let options = ConsumeOptions {
            queue: queue.clone(),
            prefetch: 1,
            slots: 1,
            label: "qctl check".to_owned(),
            most_deliveries: None,
        };
        let mut subscription = self.consume(options).await?;
        let begun = Instant::now();
        let publication = Publication {
            exchange: "".into(),
            message: Message::new("qctl check").with_routing_key(queue),
            deduplicate: false,
        };
        self.publish(vec![publication])
            .await
            .map_err(PublishFailure::into_first)?;
        let deliveries = subscription.next().await?;
        let took = begun.elapsed();
        let settler = subscription.settler();
        for delivery in deliveries {
            settler.settle(delivery.ticket, Settlement::Ack).await?;
        }
        subscription.close().await?;
        Ok(took)
    }
    /// Whether `reply_to` names a queue that only its owner can read, so that a reply there tells nobody else anything and
    /// fills no queue of anybody else.
    fn is_reply_queue(&self, reply_to: &str) -> bool {
        let _ = reply_to;
        false
    }
    /// Takes back the request with this id and reply queue, if no handler has ever begun it; `false`: one has, or it is gone.
    async fn withdraw(&self, id: &str, reply_to: &str) -> Result<bool> {
        let _ = (id, reply_to);
        Err(self.denied("withdraw"))
    }

    /// The error for a verb that this driver does not have.
    fn denied(&self, verb: &str) -> Error {
        Error::unsupported(format!(
            "the {} driver does not support {verb}; `qctl managedriver list` shows what each driver can do",
            self.driver()
        ))
    }
}

/// A stream of deliveries from one queue.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for deliveries and returns at least one. Cancel-safe (rule 2). An error means that the subscription is over
    /// and what it handed out will come back.
    async fn next(&mut self) -> Result<Vec<Delivery>>;
    /// Does what a consumer owes the others while it takes nothing itself, such as hearing of their deaths. Returns only
    /// when the subscription is over, which `next` then tells. Cancel-safe.
    async fn attend(&mut self) {
        std::future::pending::<()>().await;
    }
    /// Settles deliveries of this subscription, from any task.
    fn settler(&self) -> Arc<dyn Settle>;
    /// What must be held by whoever acts on this consumer's behalf.
    fn lifeline(&self) -> Lifeline;
    /// Asks for another number of unsettled deliveries, all of them counted as begun when they are handed out. A driver
    /// whose broker cannot change it keeps what it has.
    fn set_window(&mut self, window: usize) {
        let _ = window;
    }
    /// Whether nothing is on its way to this subscription. What the broker counted as ready before this was asked is either
    /// still ready, or with another consumer, or makes this `false` until `next` has returned it.
    fn is_quiet(&self) -> bool;
    /// Hands out nothing more; what is held stays held. `next` returns what was already on its way, then an empty list.
    async fn stop(&mut self) -> Result<()>;
    /// Ends it and gives back at once what was not settled.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Settles deliveries.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Settles one delivery and returns when the broker has it; [`DeliveryLost`](crate::ErrorKind) if it was ours no more.
    async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<()>;
    /// Counts a delivery as started. Needed only for those beyond [`ConsumeOptions::slots`].
    async fn start(&self, ticket: &Ticket) -> Result<()>;
}
