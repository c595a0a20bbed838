//! The configuration: found, included, interpolated, validated; every mistake names file, line and key.

pub mod model;

pub use model::{Config, ConnectionEntry, ConsumerEntry, ProducerEntry};

mod stub;
pub use stub::{InitAnswers, Surroundings, first_file, implicit_consumer, implicit_producer, load, schema, show};
