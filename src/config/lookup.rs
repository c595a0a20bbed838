//! Finds entries by the names that people type.

use std::path::PathBuf;

use super::model::{Config, ConnectionEntry, ConsumerEntry, ProducerEntry};
use super::names::those_there_are;
use super::yaml::scalar;
use crate::error::{Error, Result};

/// Where the state of a system's configuration is.
const SYSTEM_STATE: &str = "/var/lib/qctl";

/// What to do where there is no home to keep the embedded store in.
pub(super) const NO_HOME: &str = "there is no place for the embedded store, because HOME is not set; set HOME, or name a \
     configuration whose `connections:` say where messages are with --config or QCTL_CONFIG";

impl Config {
    /// Where the state of the watchdog is kept, which must be the same whoever asks: `state_dir:`, or beside the store of the
    /// default connection or of the first that has one.
    pub fn watchdog_folder(&self) -> Result<PathBuf> {
        if self.state_dir_given {
            return Ok(self.state_dir.clone());
        }
        let default = self.connections.get(&self.default);
        let mut connections = default.into_iter().chain(self.connections.values());
        if let Some(folder) = connections.find_map(|entry| entry.connector.folder()) {
            return Ok(folder);
        }
        match &self.file {
            Some(file) if file.starts_with("/etc") => Ok(PathBuf::from(SYSTEM_STATE)),
            Some(file) => Err(Error::config(format!(
                "{}: the watchdog needs a folder that is the same for everyone who runs it, and no connection has a store beside \
                 which it could be; add `state_dir: /var/lib/qctl`, or another folder",
                file.display()
            ))),
            None => Ok(self.state_dir.clone()),
        }
    }

    /// The connection with this name, or the only one with this driver; without a name the default.
    pub fn connection(&self, name: Option<&str>) -> Result<&ConnectionEntry> {
        let wanted = name.unwrap_or(&self.default);
        if let Some(entry) = self.connections.get(wanted) {
            return Ok(entry);
        }
        if self.connections.is_empty() {
            return Err(Error::config(NO_HOME));
        }
        let of_driver: Vec<&ConnectionEntry> = self
            .connections
            .values()
            .filter(|entry| entry.driver.name == wanted)
            .collect();
        match of_driver.as_slice() {
            [only] => Ok(only),
            [] => Err(not_found("connection", wanted, self.connections.keys())),
            several => Err(Error::not_found(format!(
                "{} connections use the driver {wanted}; name one of {}",
                several.len(),
                several
                    .iter()
                    .map(|entry| entry.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// The producer with this name.
    pub fn producer(&self, name: &str) -> Result<&ProducerEntry> {
        if let Some(found) = self.producers.get(name) {
            return Ok(found);
        }
        // What is taken off a queue is not yet put on it: people forget that these are two entries.
        Err(match self.consumers.get(name) {
            Some(consumer) => self.no_producer_beside(consumer),
            None => not_found("producer", name, self.producers.keys()),
        })
    }

    fn no_producer_beside(&self, consumer: &ConsumerEntry) -> Error {
        let name = &consumer.name;
        let mut keys = format!("queue: {}", scalar(&consumer.queue.name));
        if consumer.connection != self.default {
            keys = format!("connection: {}, {keys}", scalar(&consumer.connection));
        }
        let file = self
            .file
            .as_ref()
            .map_or_else(|| "the configuration".to_owned(), |file| file.display().to_string());
        Error::not_found(format!(
            "no producer is called `{}`, only a consumer; to send to its queue add `producers: {{ {}: {{ {keys} }} }}` to {file}",
            name.escape_debug(),
            scalar(name)
        ))
    }

    /// The consumer with this name.
    pub fn consumer(&self, name: &str) -> Result<&ConsumerEntry> {
        let found = self.consumers.get(name);
        found.ok_or_else(|| not_found("consumer", name, self.consumers.keys()))
    }
}

fn not_found<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a String> + Clone) -> Error {
    let end = those_there_are(name, names.map(String::as_str));
    Error::not_found(format!("no {what} is called `{}`{end}", name.escape_debug()))
}
