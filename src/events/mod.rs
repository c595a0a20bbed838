//! What happens to messages and workers, told to whoever listens.
//!
//! An [`Event`] is told to [`Listeners`], which pass it to each [`Listener`] that wants it, by priority. A listener can have a
//! message swallowed, or ask the consumer to end. One that fails or takes too long has a [`Policy`]: it is waited for, skipped
//! (told and counted), or ends the consumer; nothing is ever lost without a word.
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
