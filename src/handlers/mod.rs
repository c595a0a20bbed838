//! The handlers there are: a table. Adding one is a file, a `mod` line and a row.

pub mod allow;

use std::path::PathBuf;
use std::sync::Arc;

pub use allow::{CommandEntry, Commands, DashArguments, Pattern};

use crate::consumer::handler::{ExitCodes, Handler};
use crate::error::Result;
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
}

/// The table.
pub static HANDLERS: &[HandlerSpec] = &[];

/// The handler of this kind.
pub fn find(kind: &str) -> Option<&'static HandlerSpec> {
    HANDLERS.iter().find(|spec| spec.kind == kind)
}
