//! qctl puts work on a queue, takes it off safely, and keeps the processes that do so alive.

pub mod config;
pub mod consumer;
pub mod drivers;
pub mod error;
pub mod handlers;
pub mod process;
pub mod producer;
pub mod queue;
pub mod settings;
pub mod store;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
