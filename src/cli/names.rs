//! Names from the configuration, for completion at a TAB. Nothing here connects to a broker, and a configuration that
//! cannot be read completes nothing rather than disturb the prompt.

use clap_complete::CompletionCandidate;

use crate::config::{self, Config, Surroundings};

fn configured() -> Option<Config> {
    config::load(&Surroundings::of_process(), None).ok()
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
    names.extend(config.consumers.values().map(|consumer| consumer.queue.name.clone()));
    names.sort_unstable();
    names.dedup();
    candidates(names)
}

/// Commands that may be queued.
pub fn commands() -> Vec<CompletionCandidate> {
    candidates(configured().into_iter().flat_map(|config| config.commands.names()))
}
