//! What was typed: the options that every command shares, and the way from arguments to a parsed command line.

pub mod compat;
pub mod dashes;
pub mod flags;
pub mod names;
pub mod typed;
pub mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::ErrorKind;
use clap::{ArgAction, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, ValueEnum};
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use crate::commands::Command;
use crate::logging::{self, Logging};
use crate::output::{self, Format};

/// Put work on a queue, take it off safely, and look after the queues in between
///
/// Works at once on an embedded store in your state folder, with no server and no configuration; with a qctl.yml the same
/// commands work on the brokers named there.
#[derive(Debug, Parser)]
#[command(
    name = "qctl",
    version,
    max_term_width = 100,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    after_long_help = EXIT_CODES,
    after_help = "Run `qctl --help` for exit codes and files, `qctl COMMAND --help` for examples."
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
    0  done; also a consumer that reached a limit or was asked to stop
    1  general error
    2  the command line is wrong
    3  partly done (bulk)
   64  not supported by this driver
   65  bad input
   66  no such queue, producer, consumer or message
   69  the broker or the store is unavailable
   70  a mistake in qctl: please report it
   72  a handler's program is missing or cannot be run
   75  temporary: try again later
   76  the other side breaks the protocol, or the store is damaged
   77  not allowed
   78  the configuration is wrong
  130  interrupted twice
  With --wait: the remote command's own code (128+N for a signal), 124 on time-out,
  125 for any failure of qctl's own, 130 interrupted (once). After 124 and 130 the
  message is withdrawn if it was not started.

Files:
  The first configuration found is used: --config, $QCTL_CONFIG, ./qctl.yml,
  $XDG_CONFIG_HOME/qctl/qctl.yml, /etc/qctl/qctl.yml. `qctl config path` shows which.

Start here:
  qctl echoback hello
  qctl queuecommand demo echoback hello
  qctl consumer --until-empty demo";

/// Options that every command takes, before or after its name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file to use (default: the first one found, see `qctl config path`)
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Form of what is printed on standard output
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// Do not ask: take it that the answer is yes
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Give up connecting after this time, in seconds or with a unit
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub connect_timeout: Duration,
    /// Print errors only, no remarks
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; give it twice for everything (also -d, --debug)
    #[arg(short, long, global = true, action = ArgAction::Count, short_alias = 'd', alias = "debug")]
    pub verbose: u8,
    #[arg(long, global = true, help = "No colours; NO_COLOR and TERM=dumb do the same")]
    pub no_color: bool,
    /// Form of log lines on standard error
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The connection of a command that works on one. What the default is, each command says in the help of its own.
#[derive(Args, Clone, Debug)]
pub struct ConnectionArgs {
    /// Connection to use, or a driver's name where one connection has it (default: the entry's)
    #[arg(short = 'i', long, alias = "driver", value_name = "NAME", add = ArgValueCandidates::new(names::connections))]
    pub connection: Option<String>,
}

impl ConnectionArgs {
    /// The name given, if one was.
    pub fn given(&self) -> Option<&str> {
        self.connection.as_deref()
    }
}

/// The forms of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Table,
    /// One JSON document
    Json,
}

/// The forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Global {
    /// The form of standard output.
    pub fn format(&self) -> Format {
        match self.output {
            OutputFormat::Table => Format::Table,
            OutputFormat::Json => Format::Json,
        }
    }

    /// Whether standard error is for machines.
    pub fn talks_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    /// Logging as asked for; `usual` is the level this command shows by itself.
    pub fn logging(&self, usual: LevelFilter) -> Logging<'static> {
        Logging {
            level: logging::level(self.verbose, self.quiet, usual),
            json: self.talks_json(),
            color: !self.no_color && colors_wanted(),
            file: None,
        }
    }
}

fn colors_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The parser of everything; for completions and man pages.
pub fn parser() -> clap::Command {
    dashes::taken_as_values(plain_parser())
}

/// The parser, as the commands make it.
fn plain_parser() -> clap::Command {
    let styles = Styles::styled()
        .header(AnsiColor::Yellow.on_default().bold())
        .usage(AnsiColor::Yellow.on_default().bold())
        .literal(AnsiColor::Green.on_default())
        .placeholder(AnsiColor::Cyan.on_default());
    Cli::command().styles(styles)
}

/// Parses the command line. `Err` is the exit code of a parse that ended here: help, version, or a mistake (which has
/// been explained on standard error).
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, u8> {
    let original = arguments.clone();
    if let Some(message) = compat::refused(&original) {
        return Err(refuse(&format!("qctl: {message}\n"), &original));
    }
    let no_color = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--no-color");
    let subcommand = compat::subcommand(&arguments).map_or("", |(_, name)| name);
    let parsed = dashes::taken_as_values_by(plain_parser(), subcommand)
        .color(if no_color {
            ColorChoice::Never
        } else {
            ColorChoice::Auto
        })
        .try_get_matches_from(compat::modernised(arguments))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => Ok(cli),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let text = error.render();
            output::help(&if no_color {
                text.to_string()
            } else {
                text.ansi().to_string()
            });
            Err(0)
        }
        Err(error) => {
            let text = sentence(&error.render().to_string());
            Err(refuse(&dashes::advised(&text, &original), &original))
        }
    }
}

/// Checks command lines that other processes will be given.
pub struct Checker(clap::Command);

impl Checker {
    /// Of this subcommand.
    pub fn of(subcommand: &str) -> Self {
        Self(dashes::taken_as_values_by(plain_parser(), subcommand))
    }

    /// The error says what is wrong with the line, in one line.
    pub fn check(&mut self, arguments: Vec<OsString>) -> Result<(), String> {
        let parsed = self.0.try_get_matches_from_mut(compat::modernised(arguments));
        parsed.map(drop).map_err(|error| {
            let text = sentence(&error.render().to_string());
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("qctl: ").unwrap_or(line).to_owned()
        })
    }
}

/// Explains a mistake on standard error; returns the exit code.
fn refuse(text: &str, arguments: &[OsString]) -> u8 {
    let mut text = text.to_owned();
    for hint in compat::hints(arguments) {
        text.push_str("hint: ");
        text.push_str(&hint);
        text.push('\n');
    }
    output::usage_error(&text);
    if compat::waits(arguments) { 125 } else { 2 }
}

/// The parser's error as one line, followed by its tips and the usage. A help text stays as it is.
fn sentence(rendered: &str) -> String {
    let Some(rest) = rendered.strip_prefix("error: ") else {
        return rendered.to_owned();
    };
    let one_line = |paragraph: &str| paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut paragraphs = rest.split("\n\n");
    let mut text = format!("qctl: {}\n", one_line(paragraphs.next().unwrap_or_default()));
    for paragraph in paragraphs {
        if paragraph.trim_start().starts_with("For more information") {
            continue;
        }
        if let Some(usage) = paragraph.strip_prefix("Usage: ") {
            text.push_str("usage: ");
            text.push_str(usage.trim_end());
            text.push('\n');
            continue;
        }
        for line in paragraph.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (lead, line) = line.strip_prefix("tip: ").map_or(("  ", line), |tip| ("hint: ", tip));
            text.extend([lead, line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        parser().debug_assert();
    }

    /// Walks the tree: every command and flag has one line of help; a flag with a value tells its default, and a flag whose
    /// value is a time or a size tells the unit.
    #[test]
    fn every_flag_and_verb_has_a_line_of_help_with_unit_and_default() {
        let mut wrong = Vec::new();
        let mut root = parser();
        root.build();
        walk(&root, "qctl", &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn walk(command: &clap::Command, path: &str, wrong: &mut Vec<String>) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if !command.is_hide_set() && (about.is_empty() || about.contains('\n')) {
            wrong.push(format!("{path}: about is '{about}'"));
        }
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let name = argument.get_id().as_str();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if help.is_empty() || help.contains('\n') || help.ends_with('.') {
                wrong.push(format!("{path} {name}: help is '{help}'"));
            }
            if argument.is_positional() || !argument.get_action().takes_values() {
                continue;
            }
            let has_default = help.contains("default")
                || !argument.get_default_values().is_empty()
                || matches!(argument.get_action(), ArgAction::Append)
                || argument.is_required_set();
            if !has_default {
                wrong.push(format!("{path} {name}: no default in '{help}'"));
            }
            let unit = match argument
                .get_value_names()
                .and_then(|names| names.first())
                .map(clap::builder::Str::as_str)
            {
                Some("DURATION" | "SECS" | "AGE") => "seconds",
                Some("SIZE") => "MB",
                _ => "",
            };
            if !help.contains(unit) {
                wrong.push(format!("{path} {name}: no unit ({unit}) in '{help}'"));
            }
        }
        for subcommand in command
            .get_subcommands()
            .filter(|subcommand| subcommand.get_name() != "help")
        {
            walk(subcommand, &format!("{path} {}", subcommand.get_name()), wrong);
        }
    }

    /// The flags that the compatibility scan skips over with their value are those of the parser.
    #[test]
    fn the_compatibility_tables_match_the_parser() {
        let root = parser();
        let with_value = |command: &clap::Command| {
            let mut names = std::collections::BTreeSet::new();
            for argument in command
                .get_arguments()
                .filter(|a| !a.is_positional() && a.get_action().takes_values())
            {
                names.extend(
                    argument
                        .get_long_and_visible_aliases()
                        .unwrap_or_default()
                        .iter()
                        .map(|n| format!("--{n}")),
                );
                names.extend(
                    argument
                        .get_all_aliases()
                        .unwrap_or_default()
                        .iter()
                        .map(|n| format!("--{n}")),
                );
                names.extend(argument.get_short().iter().map(|n| format!("-{n}")));
            }
            names
        };
        let mut queue = with_value(root.find_subcommand("queuecommand").expect("queuecommand"));
        queue.extend(with_value(root.find_subcommand("queuemessage").expect("queuemessage")));
        assert_eq!(
            queue,
            compat::QUEUE_WITH_VALUE.iter().map(ToString::to_string).collect()
        );
        assert_eq!(
            with_value(&root),
            compat::GLOBAL_WITH_VALUE.iter().map(ToString::to_string).collect()
        );
    }

    #[test]
    fn a_usage_error_begins_with_one_line() {
        let rendered = "error: unexpected argument '-o' found\n\n  tip: write it so\n\nUsage: qctl x [OPTIONS]\n\n\
                        For more information, try '--help'.\n";
        assert_eq!(
            sentence(rendered),
            "qctl: unexpected argument '-o' found\nhint: write it so\nusage: qctl x [OPTIONS]\n"
        );
        let rendered = "error: these are missing:\n  <NAME>\n  <ID>\n\nFor more information, try '--help'.\n";
        assert_eq!(sentence(rendered), "qctl: these are missing: <NAME> <ID>\n");
        assert_eq!(sentence("Usage: qctl\n"), "Usage: qctl\n");
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        for line in [
            "qctl -v --output json echoback x",
            "qctl echoback -v x --output json",
            "qctl echoback x -d --output=json",
        ] {
            let cli = parse(line.split(' ').map(OsString::from).collect()).expect(line);
            assert_eq!(cli.global.verbose, 1, "{line}");
            assert_eq!(cli.global.output, OutputFormat::Json, "{line}");
        }
    }
}
