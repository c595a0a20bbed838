//! `qctl queuecommand`: puts a command on a queue, to be run by a consumer that allows it.

use clap::Args;
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use super::Outcome;
use super::sending::{Receipt, SendArgs, show_draft, validity_note, warn_of_misplaced_flags};
use super::waiting::{self, WaitArgs};
use crate::cli::flags::Flags;
use crate::cli::{names, values};
use crate::context::{Context, Workplace};
use crate::error::{Error, Result};
use crate::handlers::command::arguments_for;
use crate::output::one_line;
use crate::queue::Message;
use crate::wire::kaliop::ConsoleCommand;

/// Arguments of `qctl queuecommand`.
#[derive(Args, Debug)]
#[command(
    override_usage = "qctl queuecommand [OPTIONS] <PRODUCER> <COMMAND> [ARGS]...",
    after_help = "Everything behind COMMAND belongs to it: --name=value and --name become its
options, the rest (and all behind --) its arguments. An argument that begins with
a dash needs `dash_arguments: separator` in the command's entry of `commands:`.

Examples:
  qctl queuecommand demo echoback 'hello again'
  qctl queuecommand demo echoback -- -5
  qctl queuecommand -t 60 mail app:send --to=ann@example.org 42
  qctl queuecommand --wait import app:import --format=csv ./file.csv"
)]
pub struct QueueCommandArgs {
    #[command(flatten)]
    send: SendArgs,
    /// Option of the command; may be repeated
    #[arg(
        short,
        long = "option",
        value_name = "NAME=VALUE",
        allow_hyphen_values = true,
        value_parser = values::option
    )]
    option: Vec<String>,
    /// Send although the command is not allowed on this host (for hosts that only send)
    #[arg(long)]
    novalidate: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Producer to send with
    #[arg(value_name = "PRODUCER", add = ArgValueCandidates::new(names::producers))]
    producer: String,
    /// Command to run, and all that belongs to it
    #[arg(
        value_name = "COMMAND",
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        add = ArgValueCandidates::new(names::commands)
    )]
    command: Vec<String>,
}

/// Runs `qctl queuecommand`.
pub fn run(args: &QueueCommandArgs, context: &Context) -> Result<Outcome> {
    waiting::guarded(&args.wait, context, || queue(args, context))
}

fn queue(args: &QueueCommandArgs, context: &Context) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let (name, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Error::usage("no COMMAND given"))?;
    if name.is_empty() || name.starts_with('-') {
        return Err(Error::usage(format!(
            "'{name}' is neither an option of queuecommand nor a command's name; see `qctl queuecommand --help`"
        )));
    }
    warn_of_misplaced_flags(context, "queuecommand", &args.producer, arguments);
    if args
        .option
        .iter()
        .any(|option| matches!(option.as_str(), "json" | "table" | "yaml"))
    {
        context
            .output
            .warn("-o sets an option of the queued command; for JSON output write --output json");
    }
    let command = command_message(args, name, arguments)?;
    let place = context.load()?;
    let entry = place.producer(&args.producer)?;
    if !args.novalidate {
        require_allowed(&place, &command)?;
    }
    let own_key = command.routing_key();
    let message = Message::new(command.body()).with_content_type("application/json");
    let message = args.send.apply(message, &entry, &own_key)?;
    if args.send.dry_run {
        return show_draft(context, &message, &entry, &own_key);
    }
    let receipt = Receipt::of(&message, &entry);
    place.block_on(async {
        let producer = place.open_producer(&entry, args.send.connection.given()).await?;
        if args.wait.wait {
            return waiting::send_and_wait(&args.wait, context, &producer, message).await;
        }
        let id = producer.send(message).await?;
        let report = receipt.report(serde_json::json!({ "queued": 1, "id": id }));
        context.output.report(&report, |_| {
            if context.output.is_quiet() {
                return id;
            }
            format!("Command queued for execution{}\nid: {id}", validity_note(receipt.ttl))
        })?;
        Ok(Outcome::DONE)
    })
}

/// The command as it travels; `-o` options come before those typed behind the command, and mean the same.
fn command_message(args: &QueueCommandArgs, name: &str, words: &[String]) -> Result<ConsoleCommand> {
    let mut command = ConsoleCommand::from_command_line(name, &[])?;
    for option in &args.option {
        if option.starts_with('-') {
            refuse_swallowed(option)?;
            command.add_words(std::slice::from_ref(option))?;
            continue;
        }
        match option.split_once('=') {
            Some((name, value)) => command.add_option(name, Some(value))?,
            None => command.add_option(option, None)?,
        }
    }
    command.add_words(words)?;
    Ok(command)
}

/// `-o --dry-run`: a forgotten value that would turn a dry run into a real one.
fn refuse_swallowed(option: &str) -> Result<()> {
    if option.contains('=') || Flags::of("queuecommand").recognised(option).is_none() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "-o is followed by {option}, an option of qctl; give -o its NAME=VALUE, or write -o {} for an option of the command",
        option.trim_start_matches('-')
    )))
}

/// Refuses what no consumer with this configuration would run.
fn require_allowed(place: &Workplace<'_>, command: &ConsoleCommand) -> Result<()> {
    let commands = &place.config.commands;
    let Some(allowed) = commands.allowed(&command.command) else {
        let file = place.config.file.as_ref().map_or_else(
            || "a qctl.yml (`qctl init` writes one)".to_owned(),
            |file| file.display().to_string(),
        );
        let shown = one_line(&command.command);
        let meant = commands
            .suggestion(&command.command)
            .map_or_else(String::new, |name| format!("did you mean '{name}'? If not, "));
        return Err(Error::not_allowed(format!(
            "the command '{shown}' is not allowed here (allowed: {}); {meant}add `commands: {{ NAME: {{ run: [PROGRAM], \
             allow: [\"{shown}\"] }} }}` to {file}, or send it unchecked with --novalidate",
            commands.patterns().join(", ")
        )));
    };
    arguments_for(allowed, command).map(drop).map_err(|reason| {
        Error::not_allowed(format!(
            "the command '{}' would be refused: {reason}; --novalidate sends it unchecked",
            one_line(&command.command)
        ))
    })
}
