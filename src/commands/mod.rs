//! One file a subcommand: its arguments, what it does, and its private helpers, in that order.

pub mod completions;
pub mod config;
pub mod consumer;
pub mod echoback;
pub mod init;
pub mod keys;
pub mod man;
pub mod managedriver;
pub mod managequeue;
mod new_file;
pub mod notify;
pub mod queuecommand;
pub mod queuemessage;
pub mod sending;
pub mod store;
pub mod waiting;
pub mod watchdog;

use std::io::IsTerminal;

use clap::Subcommand;

use crate::context::Context;
use crate::error::{Error, Result};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Queue a command that a consumer will run
    #[command(alias = "kaliop_queueing:queuecommand")]
    Queuecommand(queuecommand::QueueCommandArgs),
    /// Queue messages: one body, many copies, or a message for each line
    #[command(alias = "kaliop_queueing:queuemessage")]
    Queuemessage(queuemessage::QueueMessageArgs),
    /// Take messages from a queue and have them handled
    #[command(alias = "kaliop_queueing:consumer")]
    Consumer(consumer::ConsumerArgs),
    /// Look at queues and change them
    #[command(alias = "kaliop_queueing:managequeue")]
    Managequeue(managequeue::ManageQueueArgs),
    /// Show what drivers can do, and try connections
    #[command(alias = "kaliop_queueing:managedriver")]
    Managedriver(managedriver::ManageDriverArgs),
    /// Keep workers alive, from crontab or as a service
    #[command(
        alias = "workerswatchdog",
        alias = "kaliop_queueing:workerswatchdog",
        alias = "kaliop_queueing:watchdog"
    )]
    Watchdog(watchdog::WatchdogArgs),
    /// Check and show the configuration
    Config(config::ConfigArgs),
    /// Write a first configuration
    Init(init::InitArgs),
    /// Make keys for signed messages
    Keys(keys::KeysArgs),
    /// Check, back up and compact the embedded store
    Store(store::StoreArgs),
    /// Print a line with the time, this process and a text
    #[command(alias = "kaliop_queueing:echoback")]
    Echoback(echoback::EchobackArgs),
    /// Print the completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print a manual page
    Man(man::ManArgs),
}

/// How a command ended, where that was not an error: its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(pub u8);

impl Outcome {
    /// All was done.
    pub const DONE: Self = Self(0);
    /// Some was done, some was not.
    pub const PARTIAL: Self = Self(3);
    /// A wait for a reply timed out.
    pub const WAIT_TIMED_OUT: Self = Self(124);
    /// Waiting for a reply failed on this side.
    pub const WAIT_FAILED: Self = Self(125);
    /// The user asked to stop twice.
    pub const INTERRUPTED: Self = Self(130);
}

/// Runs a command.
pub fn run(command: &Command, context: &Context) -> Result<Outcome> {
    match command {
        Command::Queuecommand(args) => queuecommand::run(args, context),
        Command::Queuemessage(args) => queuemessage::run(args, context),
        Command::Consumer(args) => consumer::run(args, context),
        Command::Managequeue(args) => managequeue::run(args, context),
        Command::Managedriver(args) => managedriver::run(args, context),
        Command::Watchdog(args) => watchdog::run(args, context),
        Command::Config(args) => config::run(args, context),
        Command::Init(args) => init::run(args, context),
        Command::Keys(args) => keys::run(args, context),
        Command::Store(args) => store::run(args, context),
        Command::Echoback(args) => echoback::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => man::run(args, context),
    }
}

/// Asks before something is destroyed: on a terminal the user, off it only `--yes` will do.
async fn confirm(context: &Context, question: String) -> Result<bool> {
    confirm_or(context, question, "add --yes, or try with --dry-run").await
}

/// As `confirm`; `otherwise` is what to do where nobody can be asked.
async fn confirm_or(context: &Context, question: String, otherwise: &str) -> Result<bool> {
    if context.global.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::usage(format!(
            "{question} Nobody can be asked here: {otherwise}"
        )));
    }
    // The answer may take its time; connections must go on meanwhile. A line is read and not a key: whoever leaves by
    // Ctrl-C finds the terminal as it was.
    let answer = tokio::task::spawn_blocking(move || {
        dialoguer::Input::<String>::new()
            .with_prompt(format!("{question} [y/N]"))
            .allow_empty(true)
            .interact()
    })
    .await
    .map_err(|error| Error::bug("asking ended early").because(error))?
    .map_err(|error| Error::general("the question could not be asked; add --yes").because(error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
