//! `qctl man`: manual pages, made from the same tree that parses the command line.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::Outcome;
use crate::cli::parser;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::settings::suggestion;

/// Arguments of `qctl man`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  qctl man | man -l -
  qctl man queuecommand | man -l -
  qctl man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write all pages into this folder (default: print one page)
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, conflicts_with = "command")]
    dir: Option<PathBuf>,
    /// The command whose page is wanted, such as managequeue-peek (default: qctl)
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs `qctl man`.
pub fn run(args: &ManArgs, context: &Context) -> Result<Outcome> {
    let pages = pages()?;
    if let Some(dir) = &args.dir {
        for (name, page) in &pages {
            write(dir, name, page)?;
        }
        context
            .output
            .note(format_args!("wrote {} pages to {}", pages.len(), dir.display()));
        return Ok(Outcome::DONE);
    }
    let wanted = args
        .command
        .as_ref()
        .map_or_else(|| "qctl".to_owned(), |command| format!("qctl-{command}"));
    let Some((_, page)) = pages.iter().find(|(name, _)| *name == wanted) else {
        let known = pages.iter().filter_map(|(name, _)| name.strip_prefix("qctl-"));
        let hint = suggestion(&wanted["qctl-".len()..], known.clone())
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        let commands: Vec<&str> = known.filter(|name| !name.contains('-')).collect();
        return Err(Error::not_found(format!(
            "no manual page is called `{}`{hint} (there are {})",
            wanted["qctl-".len()..].escape_debug(),
            commands.join(", ")
        )));
    };
    context.output.bytes(page)?;
    Ok(Outcome::DONE)
}

/// All pages by name, such as `qctl-managequeue-peek`.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut root = without_help(parser());
    root.build();
    let mut pages = Vec::new();
    collect(&root, "qctl", &mut pages)?;
    Ok(pages)
}

/// The `help` of every command that has commands is no page.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone().display_name(name.to_owned()))
        .title(name)
        .manual("qctl manual")
        .source(concat!("qctl ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|error| Error::bug(format!("the page {name} cannot be made")).because(error))?;
    pages.push((name.to_owned(), page));
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        collect(subcommand, &format!("{name}-{}", subcommand.get_name()), pages)?;
    }
    Ok(())
}

fn write(dir: &Path, name: &str, page: &[u8]) -> Result<()> {
    let path = dir.join(format!("{name}.1"));
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|error| {
            Error::bad_input(format!("{} cannot be written; name another --dir", path.display())).because(error)
        })
}
