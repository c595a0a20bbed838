//! `qctl completions`: prints the script that makes a shell ask qctl itself for completions, names of the configuration
//! included.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::Outcome;
use crate::cli::parser;
use crate::context::Context;
use crate::error::{Error, Result};

/// The environment variable by which the scripts ask for completions.
const VARIABLE: &str = "QCTL_COMPLETE";

/// Arguments of `qctl completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  qctl completions bash > ~/.local/share/bash-completion/completions/qctl
  qctl completions zsh > \"${fpath[1]}/_qctl\"
  qctl completions fish > ~/.config/fish/completions/qctl.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Elvish => "elvish",
            Self::Powershell => "powershell",
        }
    }
}

/// Runs `qctl completions`.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Outcome> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(args.shell.name())
        .ok_or_else(|| Error::bug(format!("no completion script for {}", args.shell.name())))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "qctl", "qctl", "qctl", &mut script)
        .map_err(|error| Error::general("the script cannot be made").because(error))?;
    context.output.bytes(&script)?;
    Ok(Outcome::DONE)
}

/// Answers a shell that asks for completions; `false`: nobody asked. Connects to nothing.
pub fn answer(arguments: &[OsString]) -> Result<bool> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(false);
    }
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(parser)
        .var(VARIABLE)
        .bin("qctl")
        .completer("qctl")
        .try_complete(arguments.iter().cloned(), here.as_deref())
        .map_err(|error| Error::usage("completions cannot be made").because(error))
}
