//! `qctl init`: writes a first configuration, asking on a terminal.

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use dialoguer::Input;

use super::Outcome;
use crate::config::{self, InitAnswers};
use crate::context::Context;
use crate::error::{Error, Result};

/// Arguments of `qctl init`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  qctl init
  qctl init --yes /etc/qctl/qctl.yml")]
pub struct InitArgs {
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
    /// Print the configuration instead of writing it
    #[arg(long)]
    dry_run: bool,
    /// Where to write (default: --config, else ./qctl.yml)
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

/// Runs `qctl init`.
pub fn run(args: &InitArgs, context: &Context) -> Result<Outcome> {
    let path = args
        .file
        .clone()
        .or_else(|| context.global.config.clone())
        .unwrap_or_else(|| PathBuf::from("qctl.yml"));
    if !args.force && !args.dry_run && path.exists() {
        return Err(there_already(&path));
    }
    let asks =
        !context.global.yes && !args.dry_run && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !asks && !context.global.yes && !args.dry_run {
        return Err(Error::usage(
            "nobody can be asked here: add --yes for the defaults, or --dry-run to see them",
        ));
    }
    let answers = if asks { ask()? } else { InitAnswers::default() };
    let text = config::first_file(&answers);
    if args.dry_run {
        context.output.bytes(text.as_bytes())?;
        return Ok(Outcome::DONE);
    }
    write(&path, &text, args.force)?;
    let report = serde_json::json!({ "file": path });
    context
        .output
        .report(&report, |_| format!("wrote {}", path.display()))?;
    context
        .output
        .note("next: `qctl config check`, then `qctl queuecommand demo echoback hello`");
    Ok(Outcome::DONE)
}

fn ask() -> Result<InitAnswers> {
    let defaults = InitAnswers::default();
    Ok(InitAnswers {
        url: question(
            "Where messages are kept (a URL; sqlite:// is a file on this host)",
            &defaults.url,
        )?,
        queue: question("Name of the first queue", &defaults.queue)?,
    })
}

fn question(prompt: &str, default: &str) -> Result<String> {
    Input::new()
        .with_prompt(prompt)
        .default(default.to_owned())
        .interact_text()
        .map_err(|error| Error::general("the question could not be asked; add --yes").because(error))
}

fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            if error.kind() == ErrorKind::AlreadyExists {
                return there_already(path);
            }
            Error::bad_input(format!("{} cannot be written; name another FILE", path.display())).because(error)
        })
}

fn there_already(path: &Path) -> Error {
    Error::bad_input(format!(
        "{} is there already; name another FILE, or add --force",
        path.display()
    ))
}
