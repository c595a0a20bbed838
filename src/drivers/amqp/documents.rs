//! What the management API answers: of each document the fields that are asked for.

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::nature::is_refusal;

/// Of itself.
#[derive(Deserialize)]
pub(super) struct Overview {
    pub(super) rabbitmq_version: String,
    /// Told to users with the tag `monitoring` only.
    #[serde(default)]
    pub(super) listeners: Vec<Listener>,
}

#[derive(Deserialize)]
pub(super) struct Listener {
    pub(super) protocol: String,
    pub(super) port: u16,
}

/// Of a queue. Counts are some seconds old.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct QueueDocument {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) exclusive: bool,
    /// See [`table`].
    pub(super) arguments: Value,
    pub(super) policy: Option<String>,
    /// What of the policies is in force; see [`table`].
    pub(super) effective_policy_definition: Value,
    pub(super) messages_unacknowledged: Option<u64>,
    pub(super) message_bytes_ready: Option<u64>,
    /// The timestamp property of the first message, in seconds since 1970.
    pub(super) head_message_timestamp: Option<i64>,
    pub(super) state: Option<String>,
    pub(super) consumer_details: Vec<ConsumerDocument>,
}

/// The table in a field, which comes as an empty list where it is empty.
pub(super) fn table(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Of an exchange.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ExchangeDocument {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    /// See [`table`].
    pub(super) arguments: Value,
}

/// A consumer of a queue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConsumerDocument {
    pub(super) consumer_tag: String,
    /// An empty list where the connection has just gone.
    pub(super) channel_details: Value,
}

/// A policy, or one of the operators'.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PolicyDocument {
    pattern: String,
    definition: Map<String, Value>,
}

impl PolicyDocument {
    /// Whether it may have a queue of this name refuse what comes while it is full.
    pub(super) fn may_refuse(&self, queue: &str) -> bool {
        let overflow = self.definition.get("overflow").and_then(Value::as_str);
        // A pattern that is not ours to read may match.
        overflow.is_some_and(is_refusal) && Regex::new(&self.pattern).map_or(true, |pattern| pattern.is_match(queue))
    }
}

/// A binding of a queue.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BindingDocument {
    pub(super) source: String,
    pub(super) routing_key: String,
    /// See [`table`].
    #[serde(default)]
    pub(super) arguments: Value,
}

/// An open connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionDocument {
    pub(super) name: String,
    /// The name that the client gave it.
    pub(super) user_provided_name: Option<String>,
    /// Milliseconds since 1970.
    pub(super) connected_at: Option<i64>,
}

/// An open channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChannelDocument {
    pub(super) name: String,
    pub(super) messages_unacknowledged: u64,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeDocument {
    pub(super) name: String,
    pub(super) mem_alarm: bool,
    pub(super) disk_free_alarm: bool,
}
