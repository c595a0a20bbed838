//! `qctl managedriver`: what drivers can do, and whether connections work.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::level_filters::LevelFilter;

use super::Outcome;
use crate::cli::names;
use crate::config::ConnectionEntry;
use crate::context::{Context, Workplace};
use crate::drivers::DRIVERS;
use crate::error::{Error, ErrorKind, Result};
use crate::output::{human_duration, table};
use crate::queue::DriverSpec;
use crate::settings::suggestion;

/// Arguments of `qctl managedriver`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  qctl managedriver list
  qctl managedriver check rabbit"
)]
pub struct ManageDriverArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what drivers can do
    List {
        /// Only this driver (default: all)
        driver: Option<String>,
    },
    /// Connect, send a message through a temporary queue, and measure how long that takes
    Check {
        /// Connection to try (default: all)
        #[arg(add = ArgValueCandidates::new(names::connections))]
        connection: Option<String>,
    },
}

/// Runs `qctl managedriver`.
pub fn run(args: &ManageDriverArgs, context: &Context) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    match &args.action {
        Action::List { driver } => list(context, driver.as_deref()),
        Action::Check { connection } => {
            let place = context.load()?;
            context.block_on(check(&place, connection.as_deref()))
        }
    }
}

fn list(context: &Context, wanted: Option<&str>) -> Result<Outcome> {
    let drivers: Vec<&DriverSpec> = DRIVERS
        .iter()
        .copied()
        .filter(|spec| wanted.is_none_or(|name| name == spec.name))
        .collect();
    if let (Some(name), true) = (wanted, drivers.is_empty()) {
        let known: Vec<&str> = DRIVERS.iter().map(|spec| spec.name).collect();
        let hint = suggestion(name, known.iter().copied())
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        return Err(Error::not_found(format!(
            "no driver is called `{}`{hint} (known here: {})",
            name.escape_debug(),
            known.join(", ")
        )));
    }
    let capabilities = drivers.iter().map(|spec| as_map(spec)).collect::<Result<Vec<_>>>()?;
    let report: Map<String, Value> = drivers
        .iter()
        .zip(&capabilities)
        .map(|(spec, capabilities)| {
            let entry =
                serde_json::json!({ "about": spec.about, "schemes": spec.schemes, "capabilities": capabilities });
            (spec.name.to_owned(), entry)
        })
        .collect();
    context.output.report(&report, |_| {
        let header: Vec<&str> = ["capability"]
            .into_iter()
            .chain(drivers.iter().map(|spec| spec.name))
            .collect();
        let about = std::iter::once(
            ["schemes".to_owned()]
                .into_iter()
                .chain(drivers.iter().map(|spec| spec.schemes.join(", ")))
                .collect(),
        );
        let names = capabilities.first().into_iter().flat_map(Map::keys);
        let rows = names.map(|name| {
            let told = name.trim_end_matches("_bytes").trim_end_matches("_seconds");
            std::iter::once(told.replace('_', " "))
                .chain(capabilities.iter().map(|capabilities| shown(name, &capabilities[name])))
                .collect::<Vec<String>>()
        });
        table(&header, about.chain(rows))
    })?;
    Ok(Outcome::DONE)
}

fn as_map(spec: &DriverSpec) -> Result<Map<String, Value>> {
    match serde_json::to_value((spec.capabilities)()) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Error::bug("capabilities are not a JSON object")),
    }
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) | Value::Null => "-".to_owned(),
        Value::Number(number) if name.ends_with("_bytes") => number
            .as_u64()
            .map_or_else(|| number.to_string(), crate::output::human_bytes),
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), crate::output::human_seconds),
        other => other.to_string(),
    }
}

#[derive(Serialize)]
struct Checked {
    connection: String,
    driver: &'static str,
    endpoint: String,
    ok: bool,
    error: Option<String>,
    connect_seconds: Option<f64>,
    /// Answer time of the broker.
    ping_seconds: Option<f64>,
    /// A message there and back; not every broker has temporary queues.
    round_trip_seconds: Option<f64>,
}

async fn check(place: &Workplace<'_>, wanted: Option<&str>) -> Result<Outcome> {
    let entries: Vec<&ConnectionEntry> = match wanted {
        Some(name) => vec![place.config.connection(Some(name))?],
        None => place.config.connections.values().collect(),
    };
    let mut rows = Vec::with_capacity(entries.len());
    let mut first_error = None;
    for entry in entries {
        let mut row = Checked {
            connection: entry.name.clone(),
            driver: entry.driver.name,
            endpoint: entry.connector.endpoint(),
            ok: true,
            error: None,
            connect_seconds: None,
            ping_seconds: None,
            round_trip_seconds: None,
        };
        if let Err(error) = try_one(place, entry, &mut row).await {
            row.ok = false;
            row.error = Some(error.to_string());
            first_error.get_or_insert(error);
        }
        rows.push(row);
    }
    place.context.output.report(&rows, |rows| {
        let header = [
            "connection",
            "driver",
            "endpoint",
            "connected in",
            "answer in",
            "round trip in",
            "",
        ];
        let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), precise);
        table(
            &header,
            rows.iter().map(|row| {
                vec![
                    row.connection.clone(),
                    row.driver.to_owned(),
                    row.endpoint.clone(),
                    time(row.connect_seconds),
                    time(row.ping_seconds),
                    time(row.round_trip_seconds),
                    if row.ok { "ok" } else { "failed" }.to_owned(),
                ]
            }),
        )
    })?;
    let failed = rows.iter().filter(|row| !row.ok).count();
    match first_error {
        None => Ok(Outcome::DONE),
        Some(error) if failed == 1 => Err(error),
        Some(error) => {
            for row in rows.iter().filter(|row| !row.ok).skip(1) {
                let told = row.error.as_deref().unwrap_or_default();
                place.context.output.warn(crate::output::one_line(told));
            }
            Err(error.at(format!("{failed} connections failed, the first")))
        }
    }
}

async fn try_one(place: &Workplace<'_>, entry: &ConnectionEntry, row: &mut Checked) -> Result<()> {
    let begun = Instant::now();
    let connection = place.connect(entry).await?;
    row.connect_seconds = Some(begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    connection.ping().await?;
    row.ping_seconds = Some(begun.elapsed().as_secs_f64());
    if connection.capabilities().reply {
        let limit = place.context.global.connect_timeout;
        let late = || Error::unavailable(format!("no message came back within {}", human_duration(limit)));
        let round_trip = tokio::time::timeout(limit, connection.round_trip());
        match round_trip.await.map_err(|_| late())? {
            Ok(took) => row.round_trip_seconds = Some(took.as_secs_f64()),
            // A login that may not make queues can still be right for its work.
            Err(error) if error.kind() == ErrorKind::NotAllowed => {
                let told = error.at(format!("connection {}: no round trip was tried", entry.name));
                place.context.output.warn(told);
            }
            Err(error) => return Err(error),
        }
    }
    connection.close().await
}

/// Milliseconds with their fraction: what is measured here is short.
fn precise(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1}ms", seconds * 1000.0)
    } else {
        human_duration(Duration::from_secs_f64(seconds))
    }
}
