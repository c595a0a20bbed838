//! `qctl queuecommand`: puts a command on a queue, to be run by a consumer that allows it.

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use super::Outcome;
use super::sending::{SendArgs, destination, show_draft, validity_note};
use super::waiting::{self, WaitArgs};
use crate::cli::{names, parser, values};
use crate::context::{Context, Workplace};
use crate::error::{Error, Result};
use crate::queue::Message;
use crate::wire::kaliop::ConsoleCommand;

/// Arguments of `qctl queuecommand`.
#[derive(Args, Debug)]
#[command(
    override_usage = "qctl queuecommand [OPTIONS] <PRODUCER> <COMMAND> [ARGS]...",
    after_help = "Everything behind COMMAND belongs to it: --name=value and --name become its
options, the rest (and all behind --) its arguments.

Examples:
  qctl queuecommand demo echoback 'hello again'
  qctl queuecommand -t 60 mail app:send --to=ann@example.org 42
  qctl queuecommand --wait import app:import -- -file.csv"
)]
pub struct QueueCommandArgs {
    #[command(flatten)]
    send: SendArgs,
    /// Option of the command; may be repeated
    #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = values::option)]
    option: Vec<(String, Option<String>)>,
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
    warn_of_misplaced_flags(context, &args.producer, arguments);
    if args
        .option
        .iter()
        .any(|(name, value)| value.is_none() && matches!(name.as_str(), "json" | "table" | "yaml"))
    {
        context
            .output
            .warn("-o sets an option of the queued command; for JSON output write --output json");
    }
    let command = command_message(args, name, arguments)?;
    let place = context.load()?;
    let entry = place.producer(&args.producer)?;
    if !args.novalidate {
        require_allowed(&place, name)?;
    }
    let message = Message::new(command.body()).with_content_type("application/json");
    let message = args.send.apply(message, &entry, &command.routing_key());
    if args.send.dry_run {
        return show_draft(context, &message, &entry);
    }
    let ttl = message.ttl;
    let routing_key = message.routing_key.clone();
    context.block_on(async {
        let producer = place.open_producer(&entry, args.send.connection.as_deref()).await?;
        if args.wait.wait {
            return waiting::send_and_wait(&args.wait, context, &producer, message).await;
        }
        let id = producer.send(message).await?;
        let report = serde_json::json!({
            "queued": 1,
            "id": id,
            "exchange": entry.exchange.as_ref().map_or("", |exchange| exchange.name.as_str()),
            "destination": destination(&entry),
            "routing_key": routing_key,
            "ttl": ttl.map(|ttl| ttl.as_secs_f64()),
        });
        context.output.report(&report, |_| {
            if context.output.is_quiet() {
                return id;
            }
            format!("Command queued for execution{}\nid: {id}", validity_note(ttl))
        })?;
        Ok(Outcome::DONE)
    })
}

/// The command as it travels; `-o` options come before those typed behind the command.
fn command_message(args: &QueueCommandArgs, name: &str, words: &[String]) -> Result<ConsoleCommand> {
    let mut command = ConsoleCommand::from_command_line(name, &[])?;
    for (name, value) in &args.option {
        command.add_option(name, value.as_deref())?;
    }
    command.add_words(words)?;
    Ok(command)
}

/// A flag of qctl behind the command goes to the command, which is seldom what was meant.
fn warn_of_misplaced_flags(context: &Context, producer: &str, arguments: &[String]) {
    let ours = own_flags();
    for argument in arguments.iter().take_while(|argument| *argument != "--") {
        let flag = argument.split('=').next().unwrap_or(argument);
        if ours.contains(flag) {
            context.output.warn(format_args!(
                "{flag} stands behind the command and is passed to it; qctl's own options stand before {producer}"
            ));
        }
    }
}

fn own_flags() -> BTreeSet<String> {
    let root = parser();
    let own = root
        .find_subcommand("queuecommand")
        .into_iter()
        .flat_map(clap::Command::get_arguments);
    let mut flags = BTreeSet::new();
    for argument in own
        .chain(root.get_arguments())
        .filter(|argument| !argument.is_positional())
    {
        flags.extend(argument.get_short().map(|short| format!("-{short}")));
        flags.extend(argument.get_long().map(|long| format!("--{long}")));
    }
    flags
}

fn require_allowed(place: &Workplace<'_>, name: &str) -> Result<()> {
    if place.config.commands.allowed(name).is_some() {
        return Ok(());
    }
    let file = place.config.file.as_ref().map_or_else(
        || "a qctl.yml (`qctl init` writes one)".to_owned(),
        |file| file.display().to_string(),
    );
    let shown = crate::output::one_line(name);
    Err(Error::not_allowed(format!(
        "the command '{shown}' is not allowed here (allowed: {}); add `commands: {{ NAME: {{ run: [PROGRAM], allow: \
         [\"{shown}\"] }} }}` to {file}, or send it unchecked with --novalidate",
        place.config.commands.patterns().join(", ")
    )))
}
