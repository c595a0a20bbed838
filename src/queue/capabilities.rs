//! What a driver can do, as data that code, command line and tests all read.

use std::time::Duration;

use serde::Serialize;

/// What a driver can do. A difference between brokers is a value here, never a test for a driver's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capabilities {
    /// Exchanges, queues and bindings can be declared.
    pub declare: bool,
    /// A queue can be deleted.
    pub delete: bool,
    /// A queue can be emptied.
    pub purge: bool,
    /// Queues can be listed.
    pub list: bool,
    /// Messages can be looked at.
    pub peek: bool,
    /// Looking changes nothing, and shows messages in every state.
    pub peek_is_free: bool,
    /// Counts of ready messages are exact.
    pub depth: bool,
    /// A queue can be paused for all consumers.
    pub pause: bool,
    /// One message can be dropped or released by its id.
    pub by_id: bool,
    /// Dead letters can be moved back.
    pub redrive: bool,
    /// A publisher learns that no queue takes its message.
    pub unroutable: bool,
    /// A message can be published with a delay.
    pub delay: bool,
    /// Delayed messages are counted, shown and removed with their queue.
    pub delayed_by_queue: bool,
    /// A failed message is held back by the broker itself.
    pub delayed_retry: bool,
    /// Messages can have priorities.
    pub priority: bool,
    /// Messages can expire.
    pub ttl: bool,
    /// Queues can be limited in length.
    pub max_length: bool,
    /// The broker moves what is rejected to another queue.
    pub dead_letter: bool,
    /// Deliveries are counted where the count survives the consumer's death.
    pub delivery_count: bool,
    /// Expired, dropped and dead-lettered messages are counted for each queue.
    pub counters: bool,
    /// One message id published twice within a window is one message.
    pub deduplication: bool,
    /// Replies can be waited for.
    pub reply: bool,
    /// Who replies learns that nobody waits for it any more.
    pub lost_replies: bool,
    /// A message that has not been started can be taken back by its sender.
    pub withdraw: bool,
    /// Headers can hold any bytes and nested tables.
    pub binary_headers: bool,
    /// The largest body, in bytes.
    #[serde(rename = "max_body_bytes")]
    pub max_body: u64,
    /// After a consumer's death its deliveries are back within this time.
    #[serde(rename = "crash_return_seconds", serialize_with = "seconds")]
    pub crash_return: Duration,
    /// A delivery can be held for this long and no longer, and nothing extends it.
    #[serde(rename = "hold_limit_seconds", serialize_with = "optional_seconds")]
    pub hold_limit: Option<Duration>,
    /// Deliveries are leased for this long and extended while they are handled.
    #[serde(rename = "lease_seconds", serialize_with = "optional_seconds")]
    pub lease: Option<Duration>,
}

fn seconds<S: serde::Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.as_secs_f64())
}

#[allow(clippy::ref_option)] // the signature serde asks for
fn optional_seconds<S: serde::Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_some(&value.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}
