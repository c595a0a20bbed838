//! `qctl watchdog`: keeps the workers of the configuration alive.

mod report;
mod roster;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use super::Outcome;
use crate::cli::names;
use crate::context::Context;
use crate::error::Result;
use crate::output::one_line;
use crate::watchdog::{self, Asking, Finding, Severity, Talk};
use roster::{Purpose, load};

/// Arguments of `qctl watchdog`.
#[derive(Args, Debug)]
#[command(after_help = "Without an action it starts all workers.

Keep them alive from crontab, or with `run` from systemd or as a container's main process:
  * * * * * qctl watchdog check

Examples:
  qctl watchdog start
  qctl watchdog status
  qctl watchdog stop mail
  qctl watchdog restart mail
  qctl watchdog status --format nagios")]
pub struct WatchdogArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

/// The actions.
#[derive(Debug, Subcommand)]
enum Action {
    /// Start workers, and have them kept alive from now on
    Start(Names),
    /// Stop workers when their work is finished, and leave them stopped
    Stop {
        /// End them at once, with all that they have started
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        names: Names,
    },
    /// Bring what should run to running; silent when all is well (for crontab)
    Check {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        names: Names,
    },
    /// Show what the workers are doing
    Status {
        /// Form of the report (default: that of --output)
        #[arg(long, value_name = "FORMAT", value_enum)]
        format: Option<StatusFormat>,
        #[command(flatten)]
        names: Names,
    },
    /// Start workers anew, one instance after the other
    Restart(Names),
    /// Keep workers in the foreground, for systemd and containers
    Run(Names),
}

/// Which workers.
#[derive(Args, Debug, Default)]
struct Names {
    /// Workers (default: all)
    #[arg(value_name = "WORKER", add = ArgValueCandidates::new(names::workers))]
    workers: Vec<String>,
}

/// The forms of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One line and an exit code 0 to 3, for Nagios and its like
    Nagios,
    /// Metrics for Prometheus
    Prometheus,
}

/// Runs `qctl watchdog`.
pub fn run(args: &WatchdogArgs, context: &Context) -> Result<Outcome> {
    match &args.action {
        None => start(context, &[]),
        Some(Action::Start(names)) => start(context, &names.workers),
        Some(Action::Stop { now, names }) => stop(context, &names.workers, *now),
        Some(Action::Check { dry_run, names }) => check(context, &names.workers, *dry_run),
        // A monitor reads one line and a code from 0 to 3, whatever is wrong.
        Some(Action::Status {
            format: Some(StatusFormat::Nagios),
            names,
        }) => match status(context, &names.workers, Some(StatusFormat::Nagios)) {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let text = one_line(&format!("WORKERS UNKNOWN - {error}")).replace('|', "_");
                context.output.line(text)?;
                Ok(Outcome(3))
            }
        },
        Some(Action::Status { format, names }) => status(context, &names.workers, *format),
        Some(Action::Restart(names)) => restart(context, &names.workers),
        Some(Action::Run(names)) => keep(context, &names.workers),
    }
}

fn start(context: &Context, names: &[String]) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let loaded = load(context, names, Purpose::Change)?;
    let findings = loaded.site.start(&loaded.roster, names, &mut |id| {
        let text = format!("qctl: {id} was asked to stop and finishes its work; waiting for that, to start it");
        context.output.note(one_line(&text));
    })?;
    let shown: Vec<&Finding> = findings.iter().collect();
    report::findings(context, &shown)?;
    Ok(outcome(&findings))
}

fn check(context: &Context, names: &[String], dry: bool) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let purpose = if dry { Purpose::Look } else { Purpose::Change };
    let loaded = load(context, names, purpose)?;
    let findings = loaded.site.check(&loaded.roster, names, dry)?;
    let is_all = context.global.verbose > 0;
    let shown: Vec<&Finding> = findings
        .iter()
        .filter(|finding| is_all || finding.severity > Severity::Fine)
        .collect();
    report::findings(context, &shown)?;
    Ok(outcome(&findings))
}

fn stop(context: &Context, names: &[String], now: bool) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let loaded = load(context, names, Purpose::Change)?;
    let asking = if now { Asking::Now } else { Asking::Drain };
    let mut lines = report::Lines::new(context);
    loaded
        .site
        .stop(&loaded.roster, names, asking, &mut |finding| lines.tell(finding))?;
    lines.finish()?;
    Ok(Outcome::DONE)
}

fn restart(context: &Context, names: &[String]) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let loaded = load(context, names, Purpose::Change)?;
    let mut lines = report::Lines::new(context);
    loaded
        .site
        .restart(&loaded.roster, names, &mut |finding| lines.tell(finding))?;
    let told = lines.finish()?;
    Ok(outcome(&told))
}

fn status(context: &Context, names: &[String], format: Option<StatusFormat>) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    let loaded = load(context, names, Purpose::Look)?;
    let all = loaded.site.status(&loaded.roster, names);
    let usual = if context.output.is_json() {
        StatusFormat::Json
    } else {
        StatusFormat::Table
    };
    match format.unwrap_or(usual) {
        StatusFormat::Table => context.output.line(report::table(&all))?,
        StatusFormat::Json => context.output.json(&all)?,
        StatusFormat::Prometheus => context.output.bytes(report::prometheus(&all).as_bytes())?,
        StatusFormat::Nagios => {
            let (code, line) = report::nagios(&all);
            context.output.line(line)?;
            return Ok(Outcome(code));
        }
    }
    Ok(Outcome::DONE)
}

fn keep(context: &Context, names: &[String]) -> Result<Outcome> {
    context.log(LevelFilter::INFO)?;
    let talk = Talk {
        json: context.global.talks_json(),
        verbose: context.global.verbose,
        quiet: context.global.quiet,
    };
    let mut load = || {
        let mut loaded = load(context, names, Purpose::Change)?;
        loaded.site.talk = Some(talk);
        Ok(loaded)
    };
    watchdog::run(&mut load, names)?;
    Ok(Outcome::DONE)
}

/// 78 where a configuration is wrong, 75 where something is in backoff.
fn outcome(findings: &[Finding]) -> Outcome {
    match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Config) => Outcome(78),
        Some(Severity::Backoff) => Outcome(75),
        _ => Outcome::DONE,
    }
}
