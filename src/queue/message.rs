//! A message: a body and the properties that steer it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Application headers by name.
pub type Headers = BTreeMap<String, HeaderValue>;

/// A header's value; the types are those of an AMQP field table, so that nothing is lost on the way through any driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// Seconds since 1970 (AMQP's timestamp type).
    Time(i64),
    /// A list.
    List(Vec<HeaderValue>),
    /// A nested table.
    Table(Headers),
}

impl HeaderValue {
    /// What a JSON value says, if it is no list and no object.
    pub fn of_scalar(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => match value.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(value.as_f64()?),
            },
            Value::String(value) => Self::Text(value.clone()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// As JSON, for people and programs to read: bytes as the text that they spell, times as seconds.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) | Self::Time(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Bytes(value) => String::from_utf8_lossy(value).into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Table(table) => Value::Object(to_json(table)),
        }
    }
}

/// Headers as JSON, each as [`HeaderValue::to_json`] has it.
pub fn to_json(headers: &Headers) -> Map<String, Value> {
    headers
        .iter()
        .map(|(name, value)| (name.clone(), value.to_json()))
        .collect()
}

impl HeaderValue {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one or text that spells one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) | Self::Time(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<i64> for HeaderValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// What travels: a body and its properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The body, any bytes.
    pub body: Vec<u8>,
    /// The media type of the body, such as `application/json`.
    pub content_type: Option<String>,
    /// The key that exchanges route by; for the default exchange it is the queue's name.
    pub routing_key: String,
    /// The message's id; publishing one id twice within the driver's window is one message, where the driver can tell.
    pub id: Option<String>,
    /// Ties a reply to its request.
    pub correlation_id: Option<String>,
    /// Where a reply is wanted.
    pub reply_to: Option<String>,
    /// Higher is sooner, where the queue has priorities.
    pub priority: Option<u8>,
    /// How long the message is worth delivering, counted from its publication.
    pub ttl: Option<Duration>,
    /// How long the message is to be held back before it can be delivered.
    pub delay: Option<Duration>,
    /// When it was published: milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Application headers; those beginning with `x-qctl-` are qctl's own.
    pub headers: Headers,
}

impl Message {
    /// A message with this body and nothing else.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// The same message with this media type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// The same message with this routing key.
    #[must_use]
    pub fn with_routing_key(mut self, routing_key: impl Into<String>) -> Self {
        self.routing_key = routing_key.into();
        self
    }

    /// The same message with this header set.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }
}

/// The names of qctl's own headers.
pub mod header {
    /// How many attempts have failed so far (0 for a fresh message).
    pub const ATTEMPT: &str = "x-qctl-attempt";
    /// How often the message was handed out, where the broker does not count.
    pub const DELIVERIES: &str = "x-qctl-deliveries";
    /// The absolute expiry in milliseconds since 1970; a retry never extends it.
    pub const EXPIRES_AT: &str = "x-qctl-expires-at";
    /// How many attempts the sender allows (`--wait` without `--retry` allows one).
    pub const MAX_ATTEMPTS: &str = "x-qctl-max-attempts";
    /// Who signed it, where it was sent to, and when. It stays with the message wherever that goes, also when it is redriven.
    pub const SIGNATURE: &str = "x-qctl-signature";
    /// How often a listener has sent it on, after it was given up.
    pub const REQUEUED: &str = "x-qctl-requeued";
    /// Why a message was dead-lettered.
    pub const REASON: &str = "x-qctl-reason";
    /// The queue a dead letter came from.
    pub const DEAD_QUEUE: &str = "x-qctl-dead-queue";
    /// When it was dead-lettered: milliseconds since 1970.
    pub const DEAD_AT: &str = "x-qctl-dead-at";
    /// The exit code of the last attempt.
    pub const EXIT_CODE: &str = "x-qctl-exit-code";
    /// The signal that ended the last attempt.
    pub const SIGNAL: &str = "x-qctl-signal";
    /// The last lines of the last attempt's standard error.
    pub const STDERR: &str = "x-qctl-stderr";
}
