//! The configuration: found, included, interpolated, validated; every mistake names file, line and key.

pub mod model;

pub use model::{Config, ConnectionEntry, ConsumerEntry, ProducerEntry};
