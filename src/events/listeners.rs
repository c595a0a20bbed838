//! Telling events to listeners: in order, and with a policy for those that fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::event::{Event, EventKind};
use crate::error::{Error, Result};
use crate::queue::Lifeline;

/// The wait before a listener that has failed is told again; it doubles.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_AGAIN: Duration = Duration::from_secs(30);

/// Hears of events.
#[async_trait]
pub trait Listener: Send + Sync {
    /// An event. An error says that it was not heard: what then happens is the listener's [`Policy`].
    async fn hear(&self, event: &Event<'_>) -> Result<Answer>;
    /// Called before the first event and after each reconnect of a consumer: what must watch over its children is started.
    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        let _ = lifeline;
        Ok(())
    }
    /// It wants what a handler's child prints, which is otherwise not kept.
    fn wants_output(&self) -> bool {
        false
    }
    /// Called once at the end.
    async fn finish(&self) {}
}

/// What a listener answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    #[default]
    Go,
    /// Of a message that was received: it is not to be handled, and is done. No listener after this one hears of it.
    Swallow,
    /// The consumer is to end: it takes nothing new and finishes what runs, this message too.
    Stop,
    /// Of a message that is given up: it was taken elsewhere, and is done here.
    Moved,
}

impl Answer {
    /// The answer of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" | "go" | "null" => Some(Self::Go),
            "swallow" => Some(Self::Swallow),
            "stop" => Some(Self::Stop),
            _ => None,
        }
    }
}

/// What becomes of an event that a listener has not heard, because it failed, died or took too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It is told again, and what it is about waits.
    #[default]
    Wait,
    /// It is skipped; that is logged and counted.
    Skip,
    /// The consumer ends with 75, and the message is given back.
    Stop,
}

/// A listener, and what it hears of.
#[derive(Clone)]
pub struct Entry {
    /// Where it is configured, for the log.
    pub place: String,
    /// Which events.
    pub on: Vec<EventKind>,
    /// Of which consumers, producers, workers or queues; empty: of all.
    pub of: Vec<String>,
    /// Higher hears earlier.
    pub priority: i64,
    /// What becomes of what it does not hear.
    pub policy: Policy,
    /// So long may it take.
    pub within: Duration,
    /// It.
    pub listener: Arc<dyn Listener>,
}

/// All listeners of a process.
#[derive(Default)]
pub struct Listeners {
    entries: Vec<Entry>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries.iter().map(|entry| &entry.place))
            .finish()
    }
}

/// What all listeners together have answered.
#[derive(Debug, Default)]
pub struct Reaction {
    /// Who swallowed the message.
    pub swallowed: Option<String>,
    /// Who has taken the message elsewhere.
    pub moved: Option<String>,
    /// Who wants the consumer to end.
    pub stop: Option<String>,
    /// A listener whose policy is to stop was not to be had.
    pub failed: Option<Error>,
    /// It was given up before all had heard.
    pub cancelled: bool,
    /// So many were skipped.
    pub skipped: u64,
}

impl Listeners {
    /// These listeners.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        // A stable sort: of the same priority, the first written hears first.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.priority));
        Self { entries }
    }

    /// Each of them by itself, those with the highest priority first.
    pub fn apart(&self) -> Vec<Self> {
        let alone = |entry: &Entry| Self {
            entries: vec![entry.clone()],
        };
        self.entries.iter().map(alone).collect()
    }

    /// Whether anyone wants to hear of this.
    pub fn hear_of(&self, kind: EventKind, name: &str, queue: &str) -> bool {
        self.entries.iter().any(|entry| entry.wants(kind, name, queue))
    }

    /// Whether anyone wants what children print.
    pub fn want_output(&self) -> bool {
        self.entries.iter().any(|entry| entry.listener.wants_output())
    }

    /// Readies them.
    pub async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        for entry in &self.entries {
            entry
                .listener
                .prepare(lifeline)
                .await
                .map_err(|error| error.at(&entry.place))?;
        }
        Ok(())
    }

    /// Ends them.
    pub async fn finish(&self) {
        for entry in &self.entries {
            entry.listener.finish().await;
        }
    }

    /// Tells an event, until all have heard it, one has swallowed it, or it is cancelled. Once `hurry` is cancelled, nobody who
    /// has failed is told again.
    pub async fn tell(&self, event: &Event<'_>, cancel: &CancellationToken, hurry: &CancellationToken) -> Reaction {
        let mut reaction = Reaction::default();
        for entry in &self.entries {
            if !entry.wants(event.kind, event.name, event.queue) {
                continue;
            }
            match entry.tell(event, cancel, hurry).await {
                Ok(Heard::Answer(Answer::Go)) => {}
                Ok(Heard::Skipped) => reaction.skipped += 1,
                Ok(Heard::Answer(Answer::Swallow)) if event.kind == EventKind::MessageReceived => {
                    reaction.swallowed = Some(entry.place.clone());
                    return reaction;
                }
                Ok(Heard::Answer(Answer::Swallow)) => {
                    tracing::warn!(listener = %entry.place, event = event.kind.name(),
                        "it wants to swallow what is no message_received; passed over");
                }
                Ok(Heard::Answer(Answer::Stop)) => reaction.stop = Some(entry.place.clone()),
                Ok(Heard::Answer(Answer::Moved)) => reaction.moved = Some(entry.place.clone()),
                Ok(Heard::Cancelled) => {
                    reaction.cancelled = true;
                    return reaction;
                }
                Err(error) => {
                    reaction.failed.get_or_insert(error);
                    return reaction;
                }
            }
        }
        reaction
    }
}

/// What came of telling one listener.
enum Heard {
    Answer(Answer),
    Skipped,
    Cancelled,
}

impl Entry {
    fn wants(&self, kind: EventKind, name: &str, queue: &str) -> bool {
        self.on.contains(&kind) && (self.of.is_empty() || self.of.iter().any(|known| known == name || known == queue))
    }

    /// An error: its policy is to stop.
    async fn tell(&self, event: &Event<'_>, cancel: &CancellationToken, hurry: &CancellationToken) -> Result<Heard> {
        let mut wait = AGAIN;
        loop {
            let heard = tokio::select! {
                biased;
                heard = tokio::time::timeout(self.within, self.listener.hear(event)) => heard,
                () = cancel.cancelled() => return Ok(Heard::Cancelled),
            };
            let error = match heard {
                Ok(Ok(answer)) => return Ok(Heard::Answer(answer)),
                Ok(Err(error)) => error,
                Err(_) => Error::temporary(format!(
                    "it did not hear within {}",
                    humantime::format_duration(self.within)
                )),
            };
            let (place, name) = (&self.place, event.kind.name());
            match self.policy {
                Policy::Skip => {
                    tracing::warn!(listener = %place, event = name, %error, "the listener did not hear it; skipped");
                    return Ok(Heard::Skipped);
                }
                Policy::Stop => {
                    return Err(Error::temporary(format!(
                        "the listener {place} did not hear of {name}, and its policy is to stop"
                    ))
                    .because(error));
                }
                Policy::Wait => {
                    let held = if event.kind.is_of_processes() {
                        ""
                    } else {
                        "what it is about waits, and "
                    };
                    tracing::warn!(listener = %place, event = name, %error, again_ms = wait.as_millis() as u64,
                        "the listener did not hear it; {held}it is told again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => return Ok(Heard::Cancelled),
                () = hurry.cancelled() => return Ok(Heard::Cancelled),
            }
            wait = (wait * 2).min(LONGEST_AGAIN);
        }
    }
}
