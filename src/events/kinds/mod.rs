//! The listeners that a configuration can name: a table. Adding one is a file, a `mod` line and a row.

mod accumulate;
mod log;
mod program;
mod requeue;
mod run;
mod stop;
mod stopwatch;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::listeners::Listener;
use crate::error::Result;
use crate::process::Environment;
use crate::queue::Message;
use crate::residents::Guard;
use crate::settings::Settings;

/// A listener: one row of the table.
pub struct ListenerSpec {
    /// Its key in an entry of `listeners:`.
    pub kind: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// A minimal entry, as YAML; a test parses it.
    pub example: &'static str,
    /// The one key that may stand for all: `accumulate: FILE`.
    pub short: Option<&'static str>,
    /// Reads its keys. Pure.
    pub parse: fn(Settings, &ListenerContext) -> Result<Arc<dyn Listener>>,
}

/// What a listener is given besides its own keys.
#[derive(Clone)]
pub struct ListenerContext {
    /// Watches over the process's children.
    pub guard: Arc<Guard>,
    /// Sends to producers.
    pub sender: Arc<dyn Sender>,
    /// Where it is configured.
    pub place: String,
}

/// Sends messages to the configuration's producers.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Whether there is a producer of this name.
    fn knows(&self, producer: &str) -> bool;
    /// Sends a message, and returns when the broker has it.
    async fn send(&self, producer: &str, message: Message) -> Result<()>;
}

/// The table.
pub static KINDS: &[ListenerSpec] = &[
    log::SPEC,
    stopwatch::SPEC,
    accumulate::SPEC,
    requeue::SPEC,
    stop::SPEC,
    run::SPEC,
    program::SPEC,
];

/// The listener of this kind.
pub fn find(kind: &str) -> Option<&'static ListenerSpec> {
    KINDS.iter().find(|spec| spec.kind == kind)
}

/// What all programs of listeners are started with.
struct ProgramKeys {
    run: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
}

impl ProgramKeys {
    fn read(settings: &mut Settings, key: &'static str) -> Result<Self> {
        let run = settings.command_line(&[key])?;
        let env = settings.text_map(&["env"])?.unwrap_or_default();
        let cwd = settings.file_path(&["cwd"])?;
        if let Some((name, _)) = env.iter().find(|(name, value)| !Environment::empty().set(name, value)) {
            return Err(settings.error("env", format!("cannot set {name:?}: no environment can hold it")));
        }
        let Some(run) = run else {
            return Err(settings.missing(key, "the program and its arguments"));
        };
        Ok(Self { run, env, cwd })
    }
}
