//! `qctl completions`: prints the script that makes a shell ask qctl itself for completions, names of the configuration
//! included.

mod bash;

use std::ffi::OsString;

use clap::{Arg, Args, Command, ValueEnum, ValueHint};
use clap_complete::CompleteEnv;
use clap_complete::env::{Elvish, Fish, Powershell, Shells, Zsh};

use self::bash::Bash;
use super::Outcome;
use crate::cli::parser;
use crate::cli::typed::Typed;
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

/// Behind zsh's script: the first TAB of a shell that finds it in `fpath` runs the file itself, and is to be answered too.
const ZSH_FIRST_TAB: &str = "[[ $funcstack[1] == _qctl ]] && _clap_dynamic_completer_qctl\n";

/// Runs `qctl completions`.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Outcome> {
    let nothing = Typed::default();
    let bash = Bash(&nothing);
    let name = args.shell.name();
    let mut script = Vec::new();
    Shells(&[&bash, &Elvish, &Fish, &Powershell, &Zsh])
        .completer(name)
        .ok_or_else(|| Error::bug(format!("no completion script for {name}")))?
        .write_registration(VARIABLE, "qctl", "qctl", "qctl", &mut script)
        .map_err(|error| Error::general("the script cannot be made").because(error))?;
    if args.shell == Shell::Zsh {
        script.extend(ZSH_FIRST_TAB.bytes());
    }
    context.output.bytes(&script)?;
    Ok(Outcome::DONE)
}

/// Answers a shell that asks for completions; `false`: nobody asked. Connects to nothing.
pub fn answer(arguments: &[OsString]) -> Result<bool> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(false);
    }
    let typed = Typed::of_process(arguments);
    let bash = Bash(&typed);
    let here = std::env::current_dir().ok();
    let paths = typed.redirected || typed.is_behind_queued_command();
    let words = if paths {
        let (current, before) = typed.words.split_last().expect("a shell asks for a word");
        let before = before.iter().map(|_| "--".to_owned());
        before.chain([current.clone()]).collect()
    } else {
        typed.words.clone()
    };
    // The program, then what it is to complete.
    let asked = ["qctl", "--"]
        .into_iter()
        .map(OsString::from)
        .chain(words.into_iter().map(OsString::from));
    CompleteEnv::with_factory(|| if paths { any_path() } else { offered(&typed) })
        .var(VARIABLE)
        .bin("qctl")
        .completer("qctl")
        .shells(Shells(&[&bash, &Elvish, &Fish, &Powershell, &Zsh]))
        .try_complete(asked, here.as_deref())
        .map_err(|error| Error::usage("completions cannot be made").because(error))
}

/// What belongs to a queued command or to the shell: any path may be meant.
fn any_path() -> Command {
    let path = Arg::new("path").num_args(0..).value_hint(ValueHint::AnyPath);
    Command::new("qctl").disable_help_flag(true).arg(path)
}

/// The parser, so that a TAB offers one name for one thing, and flags only where one is begun or nothing else fits.
fn offered(typed: &Typed) -> Command {
    plain(parser(), typed.current().is_empty())
}

fn plain(command: Command, hide_flags: bool) -> Command {
    // What is hidden is offered where nothing else fits, so that an alias completes too once it is begun.
    let aliases: Vec<String> = command.get_visible_aliases().map(str::to_owned).collect();
    let command = if aliases.is_empty() {
        command
    } else {
        let hidden: Vec<String> = command.get_aliases().map(str::to_owned).collect();
        command.visible_alias(None).aliases(hidden.into_iter().chain(aliases))
    };
    command
        .disable_help_flag(hide_flags)
        .disable_version_flag(hide_flags)
        .mut_args(|argument| {
            let hide = argument.is_hide_set() || (hide_flags && !argument.is_positional());
            argument.hide(hide)
        })
        .mut_subcommands(|subcommand| plain(subcommand, hide_flags))
}
