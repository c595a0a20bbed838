//! Publishes messages: fills in ids and timestamps, declares what is needed, sends in windows.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::queue::{Connection, Message, PublishFailure, Topology};

/// Where a producer's messages go.
#[derive(Clone, Debug, Default)]
pub struct ProducerSettings {
    /// The exchange; empty: the default one.
    pub exchange: String,
    /// With the default exchange: the queue, which then is every message's routing key.
    pub queue: String,
    /// The ttl of messages that bring none.
    pub ttl: Option<Duration>,
    /// Declared before the first message.
    pub topology: Topology,
}

/// Publishes to one place. Cheap to share.
pub struct Producer {}

/// A reply to a message sent with [`Producer::request`].
#[derive(Debug)]
pub struct Pending {}

#[allow(
    clippy::todo,
    clippy::unused_async,
    clippy::unused_self,
    unused_variables,
    missing_docs
)]
impl Producer {
    /// Declares what is needed and returns a producer.
    pub async fn new(connection: Arc<dyn Connection>, settings: ProducerSettings) -> Result<Self> {
        todo!()
    }
    /// Publishes one message and returns its id once the broker has it.
    pub async fn send(&self, message: Message) -> Result<String> {
        todo!()
    }
    /// Publishes a batch in order.
    pub async fn send_all(&self, messages: Vec<Message>) -> Result<(), PublishFailure> {
        todo!()
    }
    /// Publishes a message that asks for a reply (a temporary queue is made for it).
    pub async fn request(&self, message: Message) -> Result<Pending> {
        todo!()
    }
}

#[allow(
    clippy::todo,
    clippy::unused_async,
    clippy::unused_self,
    unused_variables,
    missing_docs
)]
impl Pending {
    /// The request's message id.
    pub fn id(&self) -> &str {
        todo!()
    }
    /// Waits for the reply. Cancel-safe.
    pub async fn reply(&mut self) -> Result<Message> {
        todo!()
    }
    /// Takes the request back if it was not started; `false`: it was.
    pub async fn withdraw(&self) -> Result<bool> {
        todo!()
    }
}
