//! `qctl echoback`: prints a line that says when and where it was printed. It is the one command allowed everywhere.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::wire::echoback;

/// Arguments of `qctl echoback`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  qctl echoback hello
  qctl queuecommand demo echoback 'hello again' -f=out.txt")]
pub struct EchobackArgs {
    /// The text to print
    pub text: String,
    /// Append the line to this file (default: print it)
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}

/// Runs `qctl echoback`.
pub fn run(args: &EchobackArgs, context: &Context) -> Result<Outcome> {
    let host = rustix::system::uname();
    let line = echoback::line(
        jiff::Zoned::now().datetime(),
        std::process::id(),
        &host.nodename().to_string_lossy(),
        &args.text,
    );
    let Some(path) = &args.file else {
        context.output.bytes(line.as_bytes())?;
        return Ok(Outcome::DONE);
    };
    // One write of the whole line, so that lines of several processes do not mix.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| Error::unwritable(path.display(), error))?;
    Ok(Outcome::DONE)
}
