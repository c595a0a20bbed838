//! What happens to messages and workers, told to whoever listens.
//!
//! An [`Event`] is told to [`Listeners`], which pass it to each [`Listener`] that wants it, by priority. A listener can have a
//! message swallowed, or ask the consumer to end. One that fails or takes too long has a [`Policy`]: it is waited for, skipped
//! (told and counted), or ends the consumer; nothing is ever lost without a word.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::time::Duration;
//!
//! use qctl::drivers::sqlite;
//! use qctl::events::{Answer, Entry, Event, EventKind, Listener, Listeners, Policy};
//! use qctl::producer::{Producer, ProducerSettings};
//! use qctl::queue::{ConnectOptions, Message};
//! use qctl::store::StoreOptions;
//!
//! /// Counts what is sent.
//! #[derive(Default)]
//! struct Count(AtomicUsize);
//!
//! #[async_trait::async_trait]
//! impl Listener for Count {
//!     async fn hear(&self, event: &Event<'_>) -> qctl::Result<Answer> {
//!         assert_eq!(event.kind, EventKind::MessageSent);
//!         self.0.fetch_add(1, Ordering::Relaxed);
//!         Ok(Answer::Go)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> qctl::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("queue.db");
//! # let options = ConnectOptions { implicit_queues: true, ..ConnectOptions::default() };
//! # let connection = sqlite::connector(StoreOptions::at(path)).connect(&options).await?;
//! let count = Arc::new(Count::default());
//! let entry = Entry {
//!     place: "the counter".to_owned(),
//!     on: vec![EventKind::MessageSent],
//!     of: Vec::new(), // of all producers
//!     priority: 0,
//!     policy: Policy::Skip,
//!     within: Duration::from_secs(1),
//!     listener: Arc::clone(&count) as Arc<dyn Listener>,
//! };
//! let settings = ProducerSettings {
//!     queue: "mail".to_owned(),
//!     listeners: Arc::new(Listeners::new(vec![entry])), // `ConsumerSettings` has the same
//!     ..ProducerSettings::default()
//! };
//! Producer::new(connection, settings).await?.send(Message::new("hello")).await?;
//! assert_eq!(count.0.load(Ordering::Relaxed), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`KINDS`] is the table of those that a configuration can name. The events of workers also stand in a [`Journal`].

mod event;
mod journal;
mod kinds;
mod listeners;

pub use event::{Ended, Event, EventKind};
pub use journal::{Journal, ProcessEvent, ProcessEventKind};
pub use kinds::{KINDS, ListenerContext, ListenerSpec, Sender, find};
pub use listeners::{Answer, Entry, Listener, Listeners, Policy, Reaction};
