//! The configuration: found, included, interpolated, validated; every mistake names file, line and key.
//!
//! [`load`] does it all. What is found where is told by [`locate`]; [`show`] gives the result with its secrets masked,
//! [`schema`] describes the file to editors, and [`first_file`] writes one.

mod arguments;
mod commands;
mod connections;
mod consumers;
mod decode;
mod fabric;
mod find;
mod first;
mod implicit;
mod include;
mod listeners;
mod lookup;
pub mod model;
mod names;
mod offered;
mod overlay;
mod predecessors;
mod producers;
mod queues;
mod schema;
mod sections;
mod show;
mod signing;
mod workers;
mod yaml;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fakes;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod mistakes_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::Path;

pub use decode::Tables;
pub use find::{Located, Origin, Surroundings, candidates, locate};
pub use first::{InitAnswers, first_file};
pub use implicit::{implicit_consumer, implicit_producer};
pub use model::{
    Config, ConnectionEntry, ConsumerEntry, ListenerEntry, ProducerEntry, WorkerEntry, WorkerLog, WorkerRuns,
};
pub use names::those_there_are;
pub use predecessors::import::{Imported, import};
pub use predecessors::{LeftOut, Predecessor, left_out_lines};
pub use schema::schema;
pub use show::show;
pub use signing::SigningEntry;

use crate::error::Result;

/// Finds and reads the configuration; `explicit` is the file that `--config` names. Without any file there is one
/// connection, `local`, on the embedded store in the user's state folder.
pub fn load(surroundings: &Surroundings, explicit: Option<&Path>) -> Result<Config> {
    load_with(surroundings, explicit, Tables::built_in())
}

/// As [`load`], with other drivers and handlers than the built-in ones.
pub fn load_with(surroundings: &Surroundings, explicit: Option<&Path>, tables: Tables) -> Result<Config> {
    let located = locate(surroundings, explicit)?;
    let (environment, asked) = surroundings.environment.recording();
    let surroundings = &Surroundings {
        environment,
        ..surroundings.clone()
    };
    let mut config = match located {
        None => decode::decode(surroundings, None, include::Loaded::default(), tables)?,
        Some(located) => {
            let loaded = include::read(surroundings, &located, None)?;
            decode::decode(surroundings, Some(located.file), loaded, tables)?
        }
    };
    config.variables = asked();
    Ok(config)
}
