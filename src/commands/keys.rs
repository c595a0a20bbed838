//! `qctl keys`: makes keys for signed messages.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tracing::level_filters::LevelFilter;

use super::Outcome;
use super::new_file::{self, Readers};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::one_line;
use crate::signing::new_key;

/// Arguments of `qctl keys`.
#[derive(Args, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key for signed messages, in a new file that its owner alone can read
    #[command(
        after_help = "The key is not printed. What is to be added to the configuration is; docs/signing.md tells how to roll it out.

Example:
  qctl keys new /etc/qctl/keys/2026-a"
    )]
    New {
        /// File to write
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// Runs `qctl keys`.
pub fn run(args: &KeysArgs, context: &Context) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    match &args.action {
        Action::New { file } => new(context, file),
    }
}

fn new(context: &Context, file: &Path) -> Result<Outcome> {
    if file.symlink_metadata().is_ok() {
        return Err(Error::bad_input(format!(
            "{} is there already, and no key is ever overwritten; name another FILE",
            one_line(&file.to_string_lossy())
        )));
    }
    let name = file.file_stem().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::usage(format!("{} names no file", file.display())))?;
    let path = std::path::absolute(file).map_err(|error| Error::unwritable(file.display(), error))?;
    let key = new_key()?;
    new_file::write(file, &format!("{}\n", key.expose()), Readers::Owner, false)?;
    if context.output.is_json() {
        context.output.json(&serde_json::json!({ "file": path, "id": name }))?;
        return Ok(Outcome::DONE);
    }
    context.output.note(format_args!(
        "qctl: wrote a new key to {}; give it to senders and consumers, and add to their configuration:",
        one_line(&path.to_string_lossy())
    ));
    context.output.line(format!(
        "signing:\n  keys: {{ {name}: {} }}\n  use: {name}        # producers sign with it; leave it out until all consumers know the key",
        path.display()
    ))?;
    Ok(Outcome::DONE)
}
