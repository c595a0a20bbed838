//! qctl puts work on a queue, takes it off safely, and keeps the processes that do so alive.

#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod commands;
pub mod config;
pub mod consumer;
#[doc(hidden)]
pub mod context;
pub mod drivers;
pub mod error;
pub mod handlers;
#[doc(hidden)]
pub mod logging;
#[doc(hidden)]
pub mod output;
pub mod process;
pub mod producer;
pub mod queue;
pub mod settings;
#[doc(hidden)]
pub mod signals;
pub mod store;
pub mod wire;

pub use error::{Error, ErrorKind, Result};

use std::ffi::OsString;
use std::process::ExitCode;

/// The command `qctl`: parses these arguments (the program's name first), does what they say, and returns the exit code.
/// It may be called more than once in a process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // A guardian lives as long as its consumer, so it is spared what the parser would leave in memory.
    if arguments
        .get(1)
        .is_some_and(|word| word == process::guardian::SUBCOMMAND)
    {
        return ExitCode::from(process::guardian::main());
    }
    match commands::completions::answer(&arguments) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return ExitCode::from(error.exit_code()),
    }
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let context = context::Context::new(cli.global);
    match commands::run(&cli.command, &context) {
        Ok(outcome) => ExitCode::from(outcome.0),
        Err(error) => {
            context.output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
