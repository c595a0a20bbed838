//! STUB of the command line's branch: replaced at merge by the real configuration.
#![allow(missing_docs, clippy::unnecessary_wraps)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Config, ConnectionEntry, ConsumerEntry, ProducerEntry};
use crate::error::{Error, Result};
use crate::handlers::Commands;
use crate::queue::{Capabilities, ConnectOptions, Connection, Connector, DriverSpec};

pub struct Surroundings;

impl Surroundings {
    pub fn of_process() -> Self {
        Self
    }
}

#[derive(Default)]
pub struct InitAnswers {
    pub url: String,
    pub queue: String,
}

struct Nowhere;

fn capabilities() -> Capabilities {
    Capabilities {
        declare: true,
        delete: true,
        purge: true,
        list: true,
        peek: true,
        depth: true,
        pause: true,
        by_id: true,
        redrive: true,
        unroutable: true,
        delay: true,
        delayed_retry: true,
        priority: true,
        ttl: true,
        max_length: true,
        dead_letter: true,
        delivery_count: true,
        deduplication: true,
        reply: true,
        withdraw: true,
        binary_headers: true,
        max_body: 16 << 20,
        crash_return: std::time::Duration::from_secs(1),
        lease: None,
    }
}

#[async_trait]
impl Connector for Nowhere {
    fn endpoint(&self) -> String {
        "sqlite:///stub".to_owned()
    }
    fn capabilities(&self) -> Capabilities {
        capabilities()
    }
    async fn connect(&self, _: &ConnectOptions) -> Result<Arc<dyn Connection>> {
        Err(Error::unavailable("stub"))
    }
}

static STUB: DriverSpec = DriverSpec {
    name: "sqlite",
    schemes: &["sqlite"],
    about: "stub",
    example: "",
    capabilities,
    parse: |_| Ok(Arc::new(Nowhere)),
};

pub fn load(_: &Surroundings, explicit: Option<&Path>) -> Result<Config> {
    let default = PathBuf::from("qctl.yml");
    let file = explicit
        .map(Path::to_owned)
        .or_else(|| default.exists().then_some(default));
    let mut config = Config {
        file: file.clone(),
        files: file.iter().cloned().collect(),
        default: "local".to_owned(),
        connections: std::iter::once((
            "local".to_owned(),
            ConnectionEntry {
                name: "local".to_owned(),
                driver: &STUB,
                connector: Arc::new(Nowhere),
            },
        ))
        .collect(),
        producers: std::collections::BTreeMap::new(),
        consumers: std::collections::BTreeMap::new(),
        commands: Arc::new(Commands::default()),
        state_dir: PathBuf::from("/stub"),
    };
    if let Some(file) = &file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Error::config(format!("{} cannot be read", file.display())).because(error))?;
        let value: serde_json::Value =
            serde_yaml::from_str(&text).map_err(|error| Error::config(file.display().to_string()).because(error))?;
        for name in value["producers"]
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::keys)
        {
            let entry = ProducerEntry {
                name: name.clone(),
                queue: name.clone(),
                ..ProducerEntry::default()
            };
            config.producers.insert(name.clone(), entry);
        }
    }
    Ok(config)
}

pub fn show(_: &Config) -> serde_json::Value {
    serde_json::json!({})
}

pub fn schema() -> serde_json::Value {
    serde_json::json!({})
}

pub fn first_file(answers: &InitAnswers) -> String {
    format!("# {}\nproducers: {{}}\n", answers.url)
}

impl Config {
    pub fn connection(&self, name: Option<&str>) -> Result<&ConnectionEntry> {
        self.connections
            .get(name.unwrap_or(&self.default))
            .ok_or_else(|| Error::not_found("stub"))
    }
    pub fn producer(&self, name: &str) -> Result<&ProducerEntry> {
        self.producers.get(name).ok_or_else(|| Error::not_found("stub"))
    }
    pub fn consumer(&self, name: &str) -> Result<&ConsumerEntry> {
        self.consumers.get(name).ok_or_else(|| Error::not_found("stub"))
    }
}

pub fn implicit_producer(name: &str) -> ProducerEntry {
    ProducerEntry {
        name: name.to_owned(),
        queue: name.to_owned(),
        ..ProducerEntry::default()
    }
}

pub fn implicit_consumer(_: &str) -> Result<ConsumerEntry> {
    Err(Error::unsupported("stub"))
}
