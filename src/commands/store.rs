//! `qctl store`: looks after the file of the embedded store.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use super::Outcome;
use crate::cli::names;
use crate::context::{Context, Workplace};
use crate::error::{Error, Result};
use crate::store::maintenance;

/// Arguments of `qctl store`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  qctl store check
  qctl store backup /var/backups/queue.db"
)]
pub struct StoreArgs {
    /// Connection whose store is meant (default: the default connection)
    #[arg(
        short = 'i',
        long,
        alias = "driver",
        global = true,
        value_name = "NAME",
        add = ArgValueCandidates::new(names::connections)
    )]
    connection: Option<String>,
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
    let place = context.load()?;
    let path = store_path(&place, args.connection.as_deref())?;
    match &args.action {
        Action::Check => tell(context, &maintenance::check(&path)?),
        Action::Backup { file } => tell(context, &maintenance::backup(&path, file)?),
        Action::Compact => tell(context, &maintenance::compact(&path)?),
    }
}

fn tell(context: &Context, report: &(impl Serialize + std::fmt::Display)) -> Result<Outcome> {
    context.output.report(report, ToString::to_string)?;
    Ok(Outcome::DONE)
}

/// The file behind a connection, which the connection's URL names where there is one.
fn store_path(place: &Workplace<'_>, given: Option<&str>) -> Result<PathBuf> {
    let entry = place.connection_or(given, "")?;
    let endpoint = entry.connector.endpoint();
    match endpoint.strip_prefix("sqlite://") {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(Error::unsupported(format!(
            "connection {} is not an embedded store but {endpoint}; name one that is with -i",
            entry.name
        ))),
    }
}
