//! The options that `queuecommand` and `queuemessage` share, and what they do to a message.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::Outcome;
use crate::cli::{names, values};
use crate::config::ProducerEntry;
use crate::context::Context;
use crate::error::Result;
use crate::output::{encoded, one_line, printable};
use crate::queue::{HeaderValue, Message};

/// Options of everything that sends.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// Connection to use, or a driver's name where one connection has it (default: the producer's)
    #[arg(short = 'i', long, alias = "driver", value_name = "NAME", add = ArgValueCandidates::new(names::connections))]
    pub connection: Option<String>,
    /// The message expires after this time, in seconds or with a unit (default: never)
    #[arg(short = 't', long, value_name = "DURATION", value_parser = values::ttl)]
    pub ttl: Option<Duration>,
    /// Routing key (default: the producer's, else one made from the message)
    #[arg(short = 'r', long, alias = "route", value_name = "KEY")]
    pub routing_key: Option<String>,
    /// Hold the message back for this time, in seconds or with a unit (default: 0)
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub delay: Option<Duration>,
    /// Priority from 0 to 255, higher is sooner, where the queue has priorities (default: 0)
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
    /// Application header; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::pair)]
    pub headers: Vec<(String, String)>,
    /// Message id; sending one id twice is one message where the driver can tell (default: a new one)
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// Print the body and the routing key, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl SendArgs {
    /// Sets what the options say; the routing key is the option's, else the entry's, else `own`.
    pub fn apply(&self, mut message: Message, entry: &ProducerEntry, own: &str) -> Message {
        message.routing_key = self.key(entry, own);
        message.ttl = self.validity(entry);
        message.delay = self.delay.filter(|delay| !delay.is_zero());
        message.priority = self.priority;
        message.id.clone_from(&self.message_id);
        for (name, value) in &self.headers {
            message.headers.insert(name.clone(), HeaderValue::Text(value.clone()));
        }
        message
    }

    /// The routing key of a message whose own key is `own`.
    pub fn key(&self, entry: &ProducerEntry, own: &str) -> String {
        self.routing_key
            .as_ref()
            .or(entry.routing_key.as_ref().filter(|key| !key.is_empty()))
            .map_or(own, String::as_str)
            .to_owned()
    }

    /// How long messages are valid; 0 is for ever.
    pub fn validity(&self, entry: &ProducerEntry) -> Option<Duration> {
        self.ttl.or(entry.ttl).filter(|ttl| !ttl.is_zero())
    }
}

/// `, will be valid for N seconds`, or nothing.
pub fn validity_note(ttl: Option<Duration>) -> String {
    ttl.map(|ttl| format!(", will be valid for {} seconds", ttl.as_secs_f64()))
        .unwrap_or_default()
}

/// Where a producer's messages go, for people.
pub fn destination(entry: &ProducerEntry) -> &str {
    entry
        .exchange
        .as_ref()
        .map_or(entry.queue.as_str(), |exchange| exchange.name.as_str())
}

/// A dry run: shows the message and sends nothing.
pub fn show_draft(context: &Context, message: &Message, entry: &ProducerEntry) -> Result<Outcome> {
    context.output.report(&draft(message, entry), |_| {
        let kind = if entry.exchange.is_some() { "exchange" } else { "queue" };
        format!(
            "{}\nrouting key: {}\n{kind}: {}",
            printable(&message.body),
            one_line(&message.routing_key),
            destination(entry)
        )
    })?;
    Ok(Outcome::DONE)
}

fn draft(message: &Message, entry: &ProducerEntry) -> serde_json::Value {
    let (encoding, body) = encoded(&message.body);
    serde_json::json!({
        "exchange": entry.exchange.as_ref().map_or("", |exchange| exchange.name.as_str()),
        "queue": entry.exchange.is_none().then_some(entry.queue.as_str()),
        "routing_key": message.routing_key,
        "content_type": message.content_type,
        "body": body,
        "encoding": encoding,
        "ttl": message.ttl.map(|ttl| ttl.as_secs_f64()),
        "delay": message.delay.map(|delay| delay.as_secs_f64()),
        "priority": message.priority,
        "headers": headers_json(&message.headers),
    })
}

/// Headers as plain JSON.
pub fn headers_json(headers: &crate::queue::Headers) -> serde_json::Value {
    headers
        .iter()
        .map(|(name, value)| (name.clone(), header_json(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn header_json(value: &HeaderValue) -> serde_json::Value {
    match value {
        HeaderValue::Null => serde_json::Value::Null,
        HeaderValue::Bool(value) => (*value).into(),
        HeaderValue::Int(value) | HeaderValue::Time(value) => (*value).into(),
        HeaderValue::Float(value) => (*value).into(),
        HeaderValue::Text(value) => value.as_str().into(),
        HeaderValue::Bytes(value) => encoded(value).1.into(),
        HeaderValue::List(values) => values.iter().map(header_json).collect::<Vec<_>>().into(),
        HeaderValue::Table(table) => headers_json(table),
    }
}
