//! What is seen from outside: a small HTTP server for metrics and for those who ask whether all is well.
//!
//! - [`Address`]: where it listens, and who may reach it there.
//! - [`Page`]: what it tells; [`ConsumerPage`] tells it of a consumer. Pure.
//! - [`Server`]: serves a page on a thread and a runtime of its own, so that it answers when what it tells of does not.

mod address;
mod consumer;
mod door;
mod server;

pub use address::Address;
pub use consumer::{ConsumerLabels, ConsumerPage};
pub use server::Server;

/// What is told.
pub trait Page: Send + Sync + 'static {
    /// All figures, as OpenMetrics text.
    fn metrics(&self) -> String;
    /// Whether the process itself works; the reason where it does not, on one line.
    fn health(&self) -> Result<(), String>;
    /// Whether it does what it is there for; the reason where it does not, on one line.
    fn readiness(&self) -> Result<(), String>;
}
