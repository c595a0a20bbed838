//! The handlers there are: a table. Adding one is a file, a `mod` line and a row.

mod accept;
pub mod allow;
mod body;
mod children;
pub mod command;
pub mod elsewhere;
pub mod exec;
mod facts;
pub mod fastcgi;
mod fenced;
pub mod http;
pub mod noop;
pub mod print;
mod printer;
pub mod service;
mod webhook;
mod workers;
mod xmlrpc;

use std::path::PathBuf;
use std::sync::Arc;

pub use accept::ContentTypes;
pub use allow::{Allowed, CommandEntry, Commands, DashArguments, Pattern};
pub use body::{BodyBy, BodyWay};
pub use printer::Printer;

use crate::consumer::handler::{ExitCodes, Handler};
use crate::error::Result;
use crate::residents::Guard;
use crate::settings::Settings;

/// A handler: one row of the table.
pub struct HandlerSpec {
    /// Its key under `handler:`.
    pub kind: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// A minimal consumer's `handler:` entry, as YAML; a test parses it.
    pub example: &'static str,
    /// Reads its keys. Pure: programs are looked for in `prepare`, not here.
    pub parse: fn(Settings, &HandlerContext) -> Result<Arc<dyn Handler>>,
}

/// What a handler is given besides its own keys.
#[derive(Clone, Debug)]
pub struct HandlerContext {
    /// What a queued command may run.
    pub commands: Arc<Commands>,
    /// What exit codes mean.
    pub exit_codes: ExitCodes,
    /// The qctl program itself, for the built-in command and the guardian.
    pub program: PathBuf,
    /// How many calls run at once.
    pub concurrency: usize,
    /// Watches over the consumer's children.
    pub guard: Arc<Guard>,
    /// Where a handler prints: nowhere unless it is lent something.
    pub printer: Printer,
}

impl HandlerContext {
    /// For a consumer of its own, `program` being qctl itself.
    pub fn new(commands: Arc<Commands>, exit_codes: ExitCodes, program: PathBuf, concurrency: usize) -> Self {
        Self {
            guard: Arc::new(Guard::new(&program)),
            commands,
            exit_codes,
            program,
            concurrency,
            printer: Printer::default(),
        }
    }
}

/// How a program is run: the one word that switches between a process for each message and workers that live on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A process for each message.
    #[default]
    Process,
    /// Persistent workers.
    Worker,
}

impl Mode {
    /// Reads the key `mode`.
    fn read(settings: &mut Settings) -> Result<Self> {
        let words = [("process", Self::Process), ("worker", Self::Worker)];
        Ok(settings.choice(&["mode"], &words)?.unwrap_or_default())
    }
}

/// The table.
pub static HANDLERS: &[HandlerSpec] = &[
    command::SPEC,
    exec::SPEC,
    service::SPEC,
    http::SPEC,
    webhook::SPEC,
    xmlrpc::SPEC,
    fastcgi::SPEC,
    print::SPEC,
    noop::SPEC,
    elsewhere::SPEC,
];

/// The handler of this kind.
pub fn find(kind: &str) -> Option<&'static HandlerSpec> {
    HANDLERS.iter().find(|spec| spec.kind == kind)
}

/// The key `env:` of a handler: further variables for its children.
fn environment(settings: &mut Settings) -> Result<Vec<(String, String)>> {
    let variables = settings.text_map(&["env"])?.unwrap_or_default();
    match variables
        .iter()
        .find(|(name, value)| !is_variable(name) || value.contains('\0'))
    {
        Some((name, _)) => Err(settings.error(
            "env",
            format!(
                "cannot set {name:?}: a name must not be empty, hold `=` or begin with `QCTL_`, and no value a NUL byte"
            ),
        )),
        None => Ok(variables),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !name.starts_with("QCTL_")
}
