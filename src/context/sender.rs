//! Sends on behalf of listeners: each producer is connected when it is first needed, and anew after a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{producer_settings, signer};
use crate::config::{Config, ProducerEntry};
use crate::error::{Error, Result};
use crate::events::Sender;
use crate::producer::{Producer, ProducerSettings};
use crate::queue::{ConnectOptions, Connector, Message};
use crate::signing::Signer;

/// The producers of a configuration.
pub(super) struct Producers {
    entries: BTreeMap<String, Target>,
    options: ConnectOptions,
    open: Mutex<BTreeMap<String, Arc<Producer>>>,
}

struct Target {
    entry: ProducerEntry,
    connector: Arc<dyn Connector>,
    /// Or why its key cannot be read.
    signer: Result<Option<Signer>, String>,
}

impl Producers {
    pub(super) fn new(config: &Config, options: ConnectOptions) -> Self {
        let entries = config.producers.values().filter_map(|entry| {
            let connection = config.connection(Some(&entry.connection)).ok()?;
            let target = Target {
                entry: entry.clone(),
                connector: Arc::clone(&connection.connector),
                signer: signer(config, entry).map_err(|error| error.to_string()),
            };
            Some((entry.name.clone(), target))
        });
        Self {
            entries: entries.collect(),
            options,
            open: Mutex::default(),
        }
    }

    async fn producer(&self, name: &str) -> Result<Arc<Producer>> {
        let mut open = self.open.lock().await;
        if let Some(producer) = open.get(name) {
            return Ok(Arc::clone(producer));
        }
        let target = self
            .entries
            .get(name)
            .ok_or_else(|| Error::not_found(format!("there is no producer called `{name}`")))?;
        let settings = ProducerSettings {
            signer: target.signer.clone().map_err(Error::config)?,
            ..producer_settings(&target.entry)
        };
        let connection = target.connector.connect(&self.options).await?;
        let producer = Arc::new(Producer::new(connection, settings).await?);
        open.insert(name.to_owned(), Arc::clone(&producer));
        Ok(producer)
    }
}

#[async_trait]
impl Sender for Producers {
    fn knows(&self, producer: &str) -> bool {
        self.entries.contains_key(producer)
    }

    async fn send(&self, producer: &str, message: Message) -> Result<()> {
        let sent = self.producer(producer).await?.send(message).await;
        if sent.is_err() {
            // Its connection may be gone; the next try makes a new one.
            self.open.lock().await.remove(producer);
        }
        sent.map(|_| ())
    }
}
