//! Where log lines go. Installed by the program only: the library has no process-wide defaults.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_subscriber::fmt;

use crate::error::{Error, Result};

/// How much is logged, in which form, and where.
#[derive(Clone, Debug)]
pub struct Logging<'a> {
    /// The least important level that is shown.
    pub level: LevelFilter,
    /// JSON lines instead of text.
    pub json: bool,
    /// Colours are allowed where standard error is a terminal.
    pub color: bool,
    /// Appended to instead of standard error.
    pub file: Option<&'a Path>,
}

/// The level for so many `-v`, starting from `quiet` or from what the command shows by itself.
pub fn level(verbose: u8, quiet: bool, usual: LevelFilter) -> LevelFilter {
    match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => usual,
        (false, 1) => LevelFilter::DEBUG.max(usual),
        (false, _) => LevelFilter::TRACE,
    }
}

impl Logging<'_> {
    /// Installs it for the whole process. A second call in one process keeps the first one's choice.
    pub fn install(&self) -> Result<()> {
        // A line that cannot be written is lost. To complain of it on standard error would be a panic where that is what
        // cannot be written, and a full disk under a log would end every consumer.
        let builder = fmt()
            .with_max_level(self.level)
            .with_target(false)
            .log_internal_errors(false);
        if let Some(path) = self.file {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Error::unwritable(format_args!("--log-file {}", path.display()), error))?;
            let builder = builder.with_ansi(false).with_writer(Mutex::new(file));
            if self.json {
                adopt(builder.json().finish());
            } else {
                adopt(builder.finish());
            }
        } else {
            let ansi = self.color && !self.json && std::io::stderr().is_terminal();
            let builder = builder.with_ansi(ansi).with_writer(std::io::stderr);
            if self.json {
                adopt(builder.json().finish());
            } else {
                adopt(builder.finish());
            }
        }
        Ok(())
    }
}

fn adopt(subscriber: impl Subscriber + Send + Sync + 'static) {
    // An embedding program or an earlier run in this process may have chosen already; theirs stays.
    let _ = set_global_default(subscriber);
}
