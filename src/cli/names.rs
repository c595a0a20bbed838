//! Names from the configuration, for completion at a TAB. Nothing here connects to a broker, and a configuration that
//! cannot be read completes nothing rather than disturb the prompt.

use std::ffi::OsString;

use clap_complete::CompletionCandidate;

use super::typed::Typed;
use crate::config::{self, Config, Surroundings};

fn configured() -> Option<Config> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let named = Typed::of_process(&arguments).config();
    config::load(&Surroundings::of_process(), named.as_deref()).ok()
}

fn candidates(names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Producers.
pub fn producers() -> Vec<CompletionCandidate> {
    candidates(configured().into_iter().flat_map(|config| config.producers.into_keys()))
}

/// Consumers.
pub fn consumers() -> Vec<CompletionCandidate> {
    candidates(configured().into_iter().flat_map(|config| config.consumers.into_keys()))
}

/// Connections.
pub fn connections() -> Vec<CompletionCandidate> {
    candidates(
        configured()
            .into_iter()
            .flat_map(|config| config.connections.into_keys()),
    )
}

/// Consumers, producers and the queues they name.
pub fn queues() -> Vec<CompletionCandidate> {
    let Some(config) = configured() else {
        return Vec::new();
    };
    let mut names: Vec<String> = config
        .consumers
        .keys()
        .chain(config.producers.keys())
        .cloned()
        .collect();
    names.extend(config.consumers.values().flat_map(|consumer| {
        let queues = consumer.topology.queues.iter();
        queues.map(|queue| queue.name.clone())
    }));
    let direct = config.producers.values().filter(|producer| producer.exchange.is_none());
    names.extend(direct.map(|producer| producer.queue.clone()));
    names.sort_unstable();
    names.dedup();
    candidates(names)
}

/// Commands that may be queued.
pub fn commands() -> Vec<CompletionCandidate> {
    candidates(configured().into_iter().flat_map(|config| config.commands.names()))
}

/// Workers.
pub fn workers() -> Vec<CompletionCandidate> {
    candidates(configured().into_iter().flat_map(|config| config.workers.into_keys()))
}
