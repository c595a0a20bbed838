//! The options that `queuecommand` and `queuemessage` share, and what they do to a message.

use std::time::Duration;

use clap::Args;

use super::Outcome;
use crate::cli::flags::Flags;
use crate::cli::{ConnectionArgs, values};
use crate::config::ProducerEntry;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{encoded, one_line, printable};
use crate::producer::check_routing_key;
use crate::queue::{HeaderValue, Message};

/// Options of everything that sends.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("connection", |connection| connection.help(
    "Connection to use, or a driver's name where one connection has it (default: the producer's)"
)))]
pub struct SendArgs {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The message expires after this time, in seconds or with a unit (default: never)
    #[arg(short = 't', long, value_name = "DURATION", value_parser = values::ttl)]
    pub ttl: Option<Duration>,
    /// Routing key, for a producer with an exchange (default: the producer's, else one made from the message)
    #[arg(short = 'r', long, alias = "route", value_name = "KEY")]
    pub routing_key: Option<String>,
    /// Hold the message back for this time, in seconds or with a unit (default: 0)
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub delay: Option<Duration>,
    /// Priority from 0 to 255, higher is sooner, where the queue has priorities (default: 0)
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
    /// Application header; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    pub headers: Vec<(String, String)>,
    /// Message id; sending one id twice is one message where the driver can tell (default: a new one)
    #[arg(long, value_name = "ID", value_parser = values::message_id)]
    pub message_id: Option<String>,
    /// Print the body and the routing key, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl SendArgs {
    /// Sets what the options say. `own` is the routing key that the message makes by itself.
    pub fn apply(&self, mut message: Message, entry: &ProducerEntry, own: &str) -> Result<Message> {
        message.routing_key = self.key(entry, own)?;
        message.ttl = self.ttl.or(entry.ttl).filter(|ttl| !ttl.is_zero());
        message.delay = self.delay.filter(|delay| !delay.is_zero());
        message.priority = self.priority;
        message.id.clone_from(&self.message_id);
        for (name, value) in &self.headers {
            let before = message.headers.insert(name.clone(), HeaderValue::Text(value.clone()));
            if before.is_some() {
                return Err(Error::usage(format!(
                    "the header {name} is given twice, and a message has each header once; keep one"
                )));
            }
        }
        Ok(message)
    }

    /// The routing key that is really sent: the option's, else the entry's, else the message's own; straight to a queue it is
    /// the queue's name, and a flag that could change nothing is refused rather than passed over.
    fn key(&self, entry: &ProducerEntry, own: &str) -> Result<String> {
        if entry.exchange.is_none() {
            return match &self.routing_key {
                Some(given) if *given != entry.queue => Err(Error::usage(format!(
                    "producer {} sends straight to queue {}, where a routing key has no effect; leave out -r, or give the \
                     producer an `exchange` in the configuration",
                    one_line(&entry.name),
                    one_line(&entry.queue)
                ))),
                _ => Ok(entry.queue.clone()),
            };
        }
        let key = self
            .routing_key
            .as_ref()
            .or(entry.routing_key.as_ref().filter(|key| !key.is_empty()))
            .map_or(own, String::as_str);
        check_routing_key(key)?;
        Ok(key.to_owned())
    }
}

/// What is told of messages that were queued.
#[derive(Debug)]
pub struct Receipt<'a> {
    entry: &'a ProducerEntry,
    routing_key: String,
    /// How long they are valid.
    pub ttl: Option<Duration>,
}

impl<'a> Receipt<'a> {
    /// The receipt for copies of this message.
    pub fn of(message: &Message, entry: &'a ProducerEntry) -> Self {
        Self {
            entry,
            routing_key: message.routing_key.clone(),
            ttl: message.ttl,
        }
    }

    /// The report, with `facts` of the command's own.
    pub fn report(&self, facts: serde_json::Value) -> serde_json::Value {
        let mut report = serde_json::json!({
            "exchange": self.entry.exchange.as_ref().map_or("", |exchange| exchange.name.as_str()),
            "destination": destination(self.entry),
            "routing_key": self.routing_key,
            "ttl": self.ttl.map(|ttl| ttl.as_secs_f64()),
        });
        if let (Some(report), serde_json::Value::Object(facts)) = (report.as_object_mut(), facts) {
            report.extend(facts);
        }
        report
    }
}

/// A flag of qctl behind a queued command goes to the command, which is seldom what was meant.
pub fn warn_of_misplaced_flags(context: &Context, subcommand: &str, producer: &str, words: &[String]) {
    let words = words.iter().take_while(|word| *word != "--");
    let mut suspects = words.filter(|word| word.starts_with('-')).peekable();
    if suspects.peek().is_none() {
        return;
    }
    let flags = Flags::of(subcommand);
    for flag in suspects.filter_map(|word| flags.recognised(word)) {
        context.output.warn(format_args!(
            "{} stands behind the command and is passed to it; qctl's own options stand before {}",
            one_line(flag),
            one_line(producer)
        ));
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

/// A dry run: shows the message and sends nothing. `own` is the routing key that the message makes by itself.
pub fn show_draft(context: &Context, message: &Message, entry: &ProducerEntry, own: &str) -> Result<Outcome> {
    context.output.report(&draft(message, entry, own), |_| {
        let (kind, remark) = match &entry.exchange {
            Some(_) => ("exchange", String::new()),
            None if own.is_empty() => ("queue", String::new()),
            None => ("queue", format!(" (to an exchange it would be {})", one_line(own))),
        };
        format!(
            "{}\nrouting key: {}{remark}\n{kind}: {}",
            printable(&message.body),
            one_line(&message.routing_key),
            destination(entry)
        )
    })?;
    Ok(Outcome::DONE)
}

fn draft(message: &Message, entry: &ProducerEntry, own: &str) -> serde_json::Value {
    let (encoding, body) = encoded(&message.body);
    serde_json::json!({
        "exchange": entry.exchange.as_ref().map_or("", |exchange| exchange.name.as_str()),
        "queue": entry.exchange.is_none().then_some(entry.queue.as_str()),
        "routing_key": message.routing_key,
        "own_routing_key": own,
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
