//! The events.

use std::time::Duration;

use serde::Serialize;

use super::journal::{ProcessEvent, ProcessEventKind};
use crate::queue::Message;
use crate::wire::message::{Body, MessageFacts};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A message was sent: the broker has it.
    MessageSent,
    /// A message is about to be handled; its body could be read.
    MessageReceived,
    /// A message was handled, and is done.
    MessageConsumed,
    /// A message was not handled, or not well.
    MessageConsumptionFailed,
    /// A worker was started.
    ProcessStarted,
    /// A worker has ended.
    ProcessStopped,
}

/// The names of all events.
const NAMES: [(&str, EventKind); 6] = [
    ("message_sent", EventKind::MessageSent),
    ("message_received", EventKind::MessageReceived),
    ("message_consumed", EventKind::MessageConsumed),
    ("message_consumption_failed", EventKind::MessageConsumptionFailed),
    ("process_started", EventKind::ProcessStarted),
    ("process_stopped", EventKind::ProcessStopped),
];

impl EventKind {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(_, kind)| *kind)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }

    /// The event of this name, or of the name that it had in the Kaliop bundle (`kaliop_queueing.message_sent`).
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("kaliop_queueing.").unwrap_or(name);
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// It is about a worker, not about a message.
    pub fn is_of_processes(self) -> bool {
        matches!(self, Self::ProcessStarted | Self::ProcessStopped)
    }
}

impl From<ProcessEventKind> for EventKind {
    fn from(kind: ProcessEventKind) -> Self {
        match kind {
            ProcessEventKind::ProcessStarted => Self::ProcessStarted,
            ProcessEventKind::ProcessStopped => Self::ProcessStopped,
        }
    }
}

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What.
    pub kind: EventKind,
    /// The consumer, the producer, or the worker.
    pub name: &'a str,
    /// The queue, where one is concerned.
    pub queue: &'a str,
    /// The exchange, where one is concerned.
    pub exchange: &'a str,
    /// The message, where one is concerned.
    pub message: Option<&'a Message>,
    /// Failed attempts before this one.
    pub attempt: Option<u32>,
    /// How often it was handed out.
    pub deliveries: Option<u32>,
    /// How its handling ended.
    pub ended: Option<Ended<'a>>,
    /// Nobody has doubted the message: its signature is good, or nobody asks for one.
    pub trusted: bool,
    /// What happened to a worker.
    pub process: Option<&'a ProcessEvent>,
}

/// How the handling of a message ended.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ended<'a> {
    /// What becomes of the message: `done`, `retry`, `dead_letter` or `release`.
    pub settlement: &'static str,
    /// Why, where it is not done.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'a str,
    /// The exit code, where there is one.
    pub exit_code: Option<i32>,
    /// The signal that ended the child, where one did.
    pub signal: Option<i32>,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
    /// The answer, where it was kept.
    #[serde(skip)]
    pub output: &'a [u8],
}

fn milliseconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(took.as_millis() as u64)
}

#[derive(Serialize)]
struct Json<'a> {
    event: EventKind,
    name: &'a str,
    #[serde(flatten)]
    facts: Option<MessageFacts<'a>>,
    #[serde(flatten)]
    body: Option<Body<'a>>,
    #[serde(flatten)]
    ended: Option<Ended<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(flatten)]
    process: Option<Process<'a>>,
}

#[derive(Serialize)]
struct Process<'a> {
    time: &'a str,
    worker: &'a str,
    instance: u32,
    pid: Option<i32>,
    reason: &'a str,
}

impl Event<'_> {
    /// As programs read it: one object, with the message's facts and body, and how it ended.
    pub fn to_json(&self) -> serde_json::Value {
        let facts = self.message.map(|message| {
            MessageFacts::of(message, self.queue, self.exchange).delivered(self.attempt, self.deliveries)
        });
        let output = self.ended.map(|ended| ended.output).filter(|output| !output.is_empty());
        let json = Json {
            event: self.kind,
            name: self.name,
            facts,
            body: self.message.map(|message| Body::of(&message.body)),
            ended: self.ended,
            output: output.map(|output| String::from_utf8_lossy(output).into_owned()),
            process: self.process.map(|process| Process {
                time: &process.time,
                worker: &process.worker,
                instance: process.instance,
                pid: process.pid,
                reason: &process.reason,
            }),
        };
        serde_json::to_value(json).expect("texts and numbers have a JSON form")
    }
}
