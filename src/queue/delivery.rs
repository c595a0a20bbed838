//! A message in a consumer's hands, and the ways to give it up.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Headers, Message};

/// A message handed out; its [`Ticket`] settles it exactly once.
#[derive(Debug)]
#[must_use = "a delivery that is dropped unsettled comes back only when its subscription closes"]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The queue it came from.
    pub queue: String,
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: String,
    /// How often a handler has failed it so far; 0 for a fresh message.
    pub attempt: u32,
    /// How often it was handed out and started, this time included; `None` where the broker cannot tell.
    pub deliveries: Option<u32>,
    /// It may have been in another consumer's hands before.
    pub redelivered: bool,
    /// It was in the hands of a consumer that died: nothing else is handed out until it is settled.
    pub alone: bool,
    /// The right to settle it.
    pub ticket: Ticket,
}

/// The right to settle one delivery. It is not `Clone`, so a second settlement does not compile.
#[derive(Debug)]
pub struct Ticket {
    tag: u64,
}

impl Ticket {
    /// For drivers: a ticket for the delivery with this tag.
    pub fn new(tag: u64) -> Self {
        Self { tag }
    }

    /// For drivers: the tag this ticket was made with.
    pub fn tag(&self) -> u64 {
        self.tag
    }
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// Done: the message is removed.
    Ack,
    /// Failed: it comes back after this time, its attempts one more.
    Retry {
        /// How long it is held back.
        after: Duration,
    },
    /// Failed for good: it goes to the dead-letter queue, or is removed where there is none.
    Reject(DeadLetter),
    /// Given back untouched: not an attempt.
    Release {
        /// The handler never began, so the delivery is not counted either.
        uncounted: bool,
    },
}

/// Why a message is given up, for those who look at the dead-letter queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadLetter {
    /// The reason in a few words.
    pub reason: String,
    /// Further facts, added to the message's headers (`x-qctl-exit-code`, `x-qctl-stderr`, …).
    pub headers: Headers,
}

/// What keeps a consumer's deliveries its own: as long as any process holds `file` open, the consumer counts as alive.
///
/// Whoever acts on behalf of the consumer and may outlive it (the guardian of its children) must hold the file, so that no
/// message is handed out again beside a child that still runs for it.
#[derive(Clone, Debug)]
pub struct Lifeline {
    /// Marks every process started on the consumer's behalf (its environment variable `QCTL_OWNER`).
    pub token: String,
    /// The open file whose lock means "alive"; `None` where the broker's connection says it.
    pub file: Option<Arc<File>>,
    /// The connection whose end tells the broker of the consumer's. As long as somebody holds it open, the broker hands out
    /// nothing again.
    pub socket: Option<Arc<OwnedFd>>,
}
