//! What operators ask of a queue: its figures, a look at its messages, and moving them by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::message::Message;
use super::topology::Binding;

/// The figures of one queue.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// Messages that could be handed out now.
    pub ready: u64,
    /// Messages held back until a time; `None` where the broker cannot tell.
    pub delayed: Option<u64>,
    /// Messages in consumers' hands.
    pub held: Option<u64>,
    /// Messages in its dead-letter queue.
    pub dead: Option<u64>,
    /// Consumers now connected; `None` where the broker cannot tell.
    pub consumers: Option<u64>,
    /// Who they are, where that is known.
    pub consumer_list: Vec<ConsumerInfo>,
    /// The age of the oldest ready message, in seconds.
    pub oldest_seconds: Option<f64>,
    /// Bytes of bodies waiting (ready and delayed).
    pub bytes: Option<u64>,
    /// When the next delayed message is due: milliseconds since 1970.
    #[serde(rename = "next_due_at", serialize_with = "rfc3339")]
    pub next_due: Option<i64>,
    /// Taking is paused.
    pub paused: bool,
    /// Where rejected messages go.
    pub dead_letter: Option<String>,
    /// The limits and kind of the queue by name.
    pub properties: BTreeMap<String, Value>,
    /// The broker's own arguments that the queue was made with.
    pub arguments: BTreeMap<String, Value>,
    /// Where it is bound, where the broker can tell.
    pub bindings: Vec<Binding>,
    /// What qctl has counted since the queue was made: expired, dropped, dead-lettered messages.
    pub counters: BTreeMap<String, u64>,
    /// What stands in the way, each a sentence; empty when messages can move.
    pub blocked_by: Vec<String>,
}

/// One consumer of a queue.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConsumerInfo {
    /// Its process id, for display only.
    pub pid: Option<u32>,
    /// The host it runs on.
    pub host: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Since when it is connected: milliseconds since 1970.
    #[serde(serialize_with = "rfc3339")]
    pub since: Option<i64>,
    /// How many messages it holds.
    pub held: u64,
    /// For how long it has held the oldest of them, in seconds.
    pub held_seconds: Option<f64>,
}

/// Which messages a look is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeekState {
    /// Could be handed out now.
    Ready,
    /// Held back until a time.
    Delayed,
    /// In a consumer's hands.
    Held,
}

/// A look at messages that takes none away.
#[derive(Clone, Debug, Default)]
pub struct Peek {
    /// Only messages in this state; `None`: all that the driver can show.
    pub state: Option<PeekState>,
    /// Only the message with this id.
    pub id: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// Also where [`LookPrice::Delivery`] is the price.
    pub at_any_price: bool,
}

/// What a look at the messages of a queue does to them; each but the first with a sentence for whoever looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LookPrice {
    /// Nothing.
    #[default]
    Nothing,
    /// The broker marks them as handed out before.
    Mark(String),
    /// The broker counts a delivery, of which a message has only so many.
    Delivery(String),
}

/// A message looked at.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// The message; `message.id` names it in the other verbs.
    pub message: Message,
    /// The exchange it was published to.
    pub exchange: String,
    /// Its state.
    pub state: PeekState,
    /// Failed attempts so far; of a dead letter, all of them.
    pub attempt: u32,
    /// How often it was handed out.
    pub deliveries: Option<u32>,
    /// When it is due: milliseconds since 1970.
    pub due: Option<i64>,
    /// Who holds it.
    pub holder: Option<ConsumerInfo>,
}

/// Under which conditions a queue is deleted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delete {
    /// Although consumers hold messages of it; where the broker does not tell that, although it has consumers.
    pub force: bool,
    /// Only where it has no message.
    pub if_empty: bool,
    /// Only where it has no consumer.
    pub if_unused: bool,
}

/// What a purge takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purge {
    /// Count only.
    pub dry_run: bool,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this id.
    pub id: Option<String>,
    /// Only bodies, routing keys or reasons that contain this text.
    pub matching: Option<String>,
    /// Only those dead-lettered at or after this time (milliseconds since 1970).
    pub since: Option<i64>,
    /// Only those dead-lettered before this time.
    pub until: Option<i64>,
    /// At most this many.
    pub limit: Option<u64>,
}

/// Moving dead letters back.
#[derive(Clone, Debug, Default)]
pub struct Redrive {
    /// The dead-letter queue they are in; `None`: that of the queue. Where it is the queue itself, each letter goes back to
    /// where it came from.
    pub from: Option<String>,
    /// Which.
    pub selection: Selection,
    /// At most this many a second.
    pub rate: Option<u32>,
    /// Count only.
    pub dry_run: bool,
    /// Give up after this time.
    pub within: Option<Duration>,
    /// Also where [`LookPrice::Delivery`] is the price of looking at what is not moved.
    pub at_any_price: bool,
}

/// What a redrive did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RedriveReport {
    /// Moved (or, in a dry run, found).
    pub moved: u64,
    /// What the dead-letter queue has left (in a dry run: would have).
    pub left: u64,
}

/// Looking after what a connection stands on, where that is a file of our own.
#[derive(Clone, Debug)]
pub enum Maintenance {
    /// Look for damage; changes nothing.
    Check,
    /// Copy it, while it is used, to a file that must not exist.
    Backup(PathBuf),
    /// Give unused space back to the file system.
    Compact,
}

/// What maintenance found or did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MaintenanceReport {
    /// In a sentence.
    pub summary: String,
    /// The figures by name.
    #[serde(flatten)]
    pub facts: BTreeMap<String, u64>,
    /// What is wrong, a line each; empty when all is well.
    pub problems: Vec<String>,
}

/// A time for programs that do not count milliseconds.
#[allow(clippy::ref_option)] // the signature serde asks for
fn rfc3339<S: Serializer>(milliseconds: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    let time = milliseconds.and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok());
    time.map(|time| format!("{time:.3}")).serialize(serializer)
}
