//! `qctl managequeue`: looks at queues and changes them. A name is a consumer's, else a producer's, else a queue's.

mod change;
mod check;
mod declare;
mod info;
mod listing;
mod peek;
mod target;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use super::Outcome;
use crate::cli::values::Threshold;
use crate::cli::{ConnectionArgs, names, values};
use crate::context::Context;
use crate::error::Result;

/// Arguments of `qctl managequeue`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    mut_arg("connection", |connection| connection.global(true).help(
        "Connection to use, or a driver's name where one connection has it (default: the entry's, else the default one)"
    )),
    after_help = "NAME is a consumer, else a producer, else a queue of the broker; which one it is, is told.

Examples:
  qctl managequeue list
  qctl managequeue info mail
  qctl managequeue peek --state dead --limit 5 mail
  qctl managequeue redrive --match timeout --rate 10 mail
  qctl managequeue check --max-ready 100:1000 --max-dead 0 mail"
)]
pub struct ManageQueueArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List configured producers (1), consumers (2) and names that are both (3)
    ListConfigured,
    /// List the queues of the broker
    #[command(visible_alias = "list-available")]
    List {
        /// Only names that match, with * for any text (default: all)
        pattern: Option<String>,
    },
    /// Show a queue's figures and why nothing moves
    Info(Name),
    /// Make a queue as configured; -a is for queues that are not
    #[command(visible_alias = "create")]
    Declare(DeclareArgs),
    /// Look at messages and take none away
    Peek(PeekArgs),
    /// Hand out no messages until resumed
    Pause(Name),
    /// Hand out messages again
    Resume(Name),
    /// Remove ready and delayed messages
    Purge(PurgeArgs),
    /// Delete a queue and its messages
    Delete(DeleteArgs),
    /// Remove one message
    Drop(MessageArgs),
    /// Make one delayed message ready now
    Release(MessageArgs),
    /// Move dead letters back to their queue
    #[command(visible_alias = "retry")]
    Redrive(RedriveArgs),
    /// Compare figures with limits; exits 0, 1 (warning) or 2 (critical) for monitors
    Check(CheckArgs),
}

#[derive(Args, Debug)]
struct Name {
    /// Consumer, producer or queue
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(names::queues))]
    name: String,
}

#[derive(Args, Debug)]
struct DeclareArgs {
    #[arg(
        short,
        long = "argument",
        value_name = "NAME=VALUE",
        value_parser = values::pair,
        help = "Property: durable, max_priority, ttl, max_length, max_bytes, dead_letter, or the broker's x-…; may be repeated"
    )]
    argument: Vec<(String, String)>,
    /// Print what would be declared, and declare nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    name: Name,
}

#[derive(Args, Debug)]
struct PeekArgs {
    /// Only messages in this state (default: all that the driver shows: ready, delayed and held)
    #[arg(long, value_name = "STATE", value_enum)]
    state: Option<State>,
    /// Only the message with this id (default: any)
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// At most so many messages (0: all)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = values::count)]
    limit: u64,
    /// Show whole bodies and headers
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// Could be handed out now
    Ready,
    /// Held back until a time
    Delayed,
    /// In a consumer's hands
    Held,
    /// In the dead-letter queue
    Dead,
}

#[derive(Args, Debug)]
struct PurgeArgs {
    /// Also empty the dead-letter queue
    #[arg(long)]
    dead: bool,
    /// Count, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    name: Name,
}

#[derive(Args, Debug)]
struct DeleteArgs {
    /// Delete although consumers hold messages (RabbitMQ: although there are consumers)
    #[arg(long, conflicts_with = "if_unused")]
    force: bool,
    /// Delete only a queue without messages
    #[arg(long)]
    if_empty: bool,
    /// Delete only a queue without consumers
    #[arg(long)]
    if_unused: bool,
    /// Tell what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    name: Name,
}

#[derive(Args, Debug)]
struct MessageArgs {
    /// The message's id, as peek shows it
    #[arg(long, value_name = "ID", required = true)]
    id: String,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    name: Name,
}

#[derive(Args, Debug)]
struct RedriveArgs {
    /// Only the message with this id (default: any)
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only messages whose body, routing key or reason has this text (default: any)
    #[arg(long = "match", value_name = "TEXT")]
    matching: Option<String>,
    /// Only messages dead since this time: 2026-01-31T08:00, or 2h for two hours ago (default: any)
    #[arg(long, value_name = "TIME", value_parser = values::moment_from_now, allow_hyphen_values = true)]
    since: Option<i64>,
    /// Only messages dead before this time (default: any)
    #[arg(long, value_name = "TIME", value_parser = values::moment_from_now, allow_hyphen_values = true)]
    until: Option<i64>,
    /// At most so many messages (default 0: all)
    #[arg(long, value_name = "N", value_parser = values::count)]
    limit: Option<u64>,
    /// At most so many messages a second (default 0: no limit)
    #[arg(long, value_name = "N", value_parser = values::rate)]
    rate: Option<u32>,
    /// Count, and move nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    name: Name,
}

impl RedriveArgs {
    /// Whether some dead letters are looked at and left.
    fn selects(&self) -> bool {
        self.id.is_some()
            || self.matching.is_some()
            || self.since.is_some()
            || self.until.is_some()
            || self.limit.is_some_and(|limit| limit > 0)
    }
}

#[derive(Args, Debug)]
#[group(id = "limits", required = true, multiple = true, args = ["max_ready", "max_age", "max_dead"])]
struct CheckArgs {
    /// Most ready messages: CRITICAL, or WARNING:CRITICAL (default: any number)
    #[arg(long, value_name = "N", value_parser = values::count_threshold)]
    max_ready: Option<Threshold<u64>>,
    /// Highest age of the oldest ready message, in seconds or with a unit (default: any)
    #[arg(long, value_name = "AGE", value_parser = values::age_threshold)]
    max_age: Option<Threshold<Duration>>,
    /// Most dead letters: CRITICAL, or WARNING:CRITICAL (default: any number)
    #[arg(long, value_name = "N", value_parser = values::count_threshold)]
    max_dead: Option<Threshold<u64>>,
    #[command(flatten)]
    name: Name,
}

/// Runs `qctl managequeue`.
pub fn run(args: &ManageQueueArgs, context: &Context) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let place = context.load()?;
    let given = args.connection.given();
    match &args.action {
        Action::ListConfigured => listing::configured(&place),
        Action::List { pattern } => place.block_on(listing::available(&place, given, pattern.as_deref())),
        Action::Info(name) => place.block_on(info::run(&place, given, name)),
        Action::Declare(args) => place.block_on(declare::run(&place, given, args)),
        Action::Peek(args) => place.block_on(peek::run(&place, given, args)),
        Action::Pause(name) => place.block_on(change::set_paused(&place, given, name, true)),
        Action::Resume(name) => place.block_on(change::set_paused(&place, given, name, false)),
        Action::Purge(args) => place.block_on(change::purge(&place, given, args)),
        Action::Delete(args) => place.block_on(change::delete(&place, given, args)),
        Action::Drop(args) => place.block_on(change::drop_message(&place, given, args)),
        Action::Release(args) => place.block_on(change::release(&place, given, args)),
        Action::Redrive(args) => place.block_on(change::redrive(&place, given, args)),
        Action::Check(args) => place.block_on(check::run(&place, given, args)),
    }
}
