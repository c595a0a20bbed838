//! `qctl init`: writes a first configuration, asking on a terminal.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use dialoguer::Input;

use super::{Outcome, new_file};
use crate::config::{self, InitAnswers, Surroundings};
use crate::context::Context;
use crate::error::{Error, Result};

/// Arguments of `qctl init`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  qctl init
  qctl init --yes /etc/qctl/qctl.yml
  qctl init - > qctl.yml")]
pub struct InitArgs {
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
    /// Print the configuration instead of writing it
    #[arg(long)]
    dry_run: bool,
    /// Where to write; - is standard output (default: --config, else ./qctl.yml)
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
    if args.dry_run || path.as_os_str() == "-" {
        let text = config::first_file(&InitAnswers::default());
        context.output.bytes(text.as_bytes())?;
        return Ok(Outcome::DONE);
    }
    new_file::refuse_existing(&path, args.force)?;
    let asks = !context.global.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !asks && !context.global.yes {
        return Err(Error::usage(
            "nobody can be asked here: add --yes for the defaults, or --dry-run to see them",
        ));
    }
    let answers = if asks { ask()? } else { InitAnswers::default() };
    let text = config::first_file(&answers);
    new_file::write(&path, &text, new_file::Readers::Usual, args.force)?;
    let report = serde_json::json!({ "file": path });
    context
        .output
        .report(&report, |_| format!("wrote {}", path.display()))?;
    let qctl = called_with(&path);
    context.output.note(format_args!(
        "next: `{qctl} config check`, then `{qctl} queuecommand {} echoback hello`",
        quoted(&answers.queue)
    ));
    Ok(Outcome::DONE)
}

/// How qctl is called so that it reads this file: with its name, unless it is found without.
fn called_with(path: &Path) -> String {
    let same = |found: &Path| matches!((found.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
    match config::locate(&Surroundings::of_process(), None) {
        Ok(Some(located)) if same(&located.file) => "qctl".to_owned(),
        _ => format!("qctl --config {}", quoted(&path.to_string_lossy())),
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
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
