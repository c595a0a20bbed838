//! `qctl store`: looks after the file of the embedded store.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tracing::level_filters::LevelFilter;

use super::Outcome;
use crate::cli::ConnectionArgs;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Maintenance, MaintenanceReport};

/// Arguments of `qctl store`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    mut_arg("connection", |connection| connection.global(true).help(
        "Connection whose store is meant (default: the default connection)"
    )),
    after_help = "Examples:
  qctl store check
  qctl store backup /var/backups/queue.db"
)]
pub struct StoreArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that the file is sound
    Check,
    /// Copy the store while it is in use
    Backup {
        /// The copy; it must not be there yet
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Give free space back to the file system
    Compact,
}

/// Runs `qctl store`.
pub fn run(args: &StoreArgs, context: &Context) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    if let Action::Backup { file } = &args.action
        && file.as_os_str() == "-"
    {
        return Err(Error::usage(
            "a copy is not written to standard output; name a file, such as queue-backup.db",
        ));
    }
    let place = context.load()?;
    let entry = place.connection_or(args.connection.given(), "")?;
    let what = match &args.action {
        Action::Check => Maintenance::Check,
        Action::Backup { file } => Maintenance::Backup(file.clone()),
        Action::Compact => Maintenance::Compact,
    };
    let report = entry.connector.maintain(&what)?;
    context.output.report(&report, text)?;
    if report.problems.is_empty() {
        Ok(Outcome::DONE)
    } else {
        Ok(Outcome(ErrorKind::Protocol.exit_code()))
    }
}

fn text(report: &MaintenanceReport) -> String {
    let facts = report
        .facts
        .iter()
        .map(|(name, value)| format!("{}: {value}", name.replace('_', " ")));
    let problems = report.problems.iter().map(|problem| format!("problem: {problem}"));
    let lines: Vec<String> = [report.summary.clone()]
        .into_iter()
        .chain(facts)
        .chain(problems)
        .collect();
    lines.join("\n")
}
