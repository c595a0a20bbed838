//! A message as programs read it: JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::queue::{Message, message};

/// All that is known of a message but its body.
#[derive(Debug, Serialize)]
pub struct MessageFacts<'a> {
    queue: &'a str,
    exchange: &'a str,
    routing_key: &'a str,
    id: Option<&'a str>,
    content_type: Option<&'a str>,
    correlation_id: Option<&'a str>,
    reply_to: Option<&'a str>,
    priority: Option<u8>,
    timestamp: Option<i64>,
    attempt: Option<u32>,
    deliveries: Option<u32>,
    headers: Map<String, Value>,
}

impl<'a> MessageFacts<'a> {
    /// Of a message, the queue it was taken from or sent to, and the exchange it was published to.
    pub fn of(message: &'a Message, queue: &'a str, exchange: &'a str) -> Self {
        Self {
            queue,
            exchange,
            routing_key: &message.routing_key,
            id: message.id.as_deref(),
            content_type: message.content_type.as_deref(),
            correlation_id: message.correlation_id.as_deref(),
            reply_to: message.reply_to.as_deref(),
            priority: message.priority,
            timestamp: message.timestamp,
            attempt: None,
            deliveries: None,
            headers: message::to_json(&message.headers),
        }
    }

    /// And of its delivery: failed attempts so far, and how often it was handed out.
    #[must_use]
    pub fn delivered(mut self, attempt: Option<u32>, deliveries: Option<u32>) -> Self {
        self.attempt = attempt;
        self.deliveries = deliveries;
        self
    }

    /// The JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and JSON have a JSON form")
    }
}

/// A body, as text where it is text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body<'a> {
    /// UTF-8.
    Body(&'a str),
    /// Anything else.
    BodyBase64(String),
}

impl<'a> Body<'a> {
    /// Of these bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Body(text),
            Err(_) => Self::BodyBase64(STANDARD.encode(bytes)),
        }
    }
}
