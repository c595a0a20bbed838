//! `qctl config`: checks and shows the configuration.

mod import;

use clap::{Args, Subcommand};

use super::Outcome;
use crate::config;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{facts, one_line};
use import::ImportArgs;

/// Arguments of `qctl config`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  qctl config check
  qctl --config /etc/qctl/qctl.yml config show
  qctl config schema > qctl.schema.json
  qctl config import -o qctl.yml app/config/config.yml"
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read everything and report the first mistake with file, line and key
    Check,
    /// Show the configuration in force, secrets masked
    Show,
    /// Show which configuration, stores and state folder are in force
    Path,
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Write the configuration of a predecessor in qctl's own form
    Import(ImportArgs),
}

/// Runs `qctl config`.
pub fn run(args: &ConfigArgs, context: &Context) -> Result<Outcome> {
    match &args.action {
        Action::Check => check(context),
        Action::Show => show(context),
        Action::Path => path(context),
        Action::Schema => {
            context.output.json(&config::schema())?;
            Ok(Outcome::DONE)
        }
        Action::Import(args) => import::run(args, context),
    }
}

fn check(context: &Context) -> Result<Outcome> {
    let config = context.load()?.config;
    let left_out = config::left_out_lines(&config.left_out);
    let report = serde_json::json!({
        "ok": true,
        "file": config.file,
        "files": config.files,
        "connections": config.connections.len(),
        "producers": config.producers.len(),
        "consumers": config.consumers.len(),
        "workers": config.workers.len(),
        "commands": config.commands.names(),
        "warnings": config.warnings,
        "left_out": left_out,
    });
    for line in &left_out {
        context.output.note(one_line(line));
    }
    context.output.report(&report, |_| {
        let Some(file) = &config.file else {
            return "no configuration file: the built-in defaults are in force".to_owned();
        };
        let files = match config.files.len() {
            0 | 1 => String::new(),
            count => format!(" (with {} more)", count - 1),
        };
        format!(
            "{}{files} is right: {} connection(s), {} producer(s), {} consumer(s)",
            file.display(),
            config.connections.len(),
            config.producers.len(),
            config.consumers.len()
        )
    })?;
    Ok(Outcome::DONE)
}

fn show(context: &Context) -> Result<Outcome> {
    let shown = config::show(&context.load()?.config);
    let yaml = serde_yaml::to_string(&shown)
        .map_err(|error| Error::bug("the configuration cannot be written as YAML").because(error))?;
    context.output.report(&shown, |_| yaml)?;
    Ok(Outcome::DONE)
}

fn path(context: &Context) -> Result<Outcome> {
    let config = context.load()?.config;
    let connections: serde_json::Map<String, serde_json::Value> = config
        .connections
        .values()
        .map(|entry| (entry.name.clone(), entry.connector.endpoint().into()))
        .collect();
    let report = serde_json::json!({
        "config": config.file,
        "files": config.files,
        "connections": connections,
        "state": config.state_dir,
    });
    context.output.report(&report, |_| {
        let file = config.file.as_ref().map_or_else(
            || "none (built-in defaults)".to_owned(),
            |file| file.display().to_string(),
        );
        let mut rows = vec![("configuration".to_owned(), file)];
        rows.extend(
            config
                .files
                .iter()
                .skip(1)
                .map(|file| ("included".to_owned(), file.display().to_string())),
        );
        rows.extend(
            config
                .connections
                .values()
                .map(|entry| (format!("connection {}", entry.name), entry.connector.endpoint())),
        );
        rows.push(("state".to_owned(), config.state_dir.display().to_string()));
        facts(rows)
    })?;
    Ok(Outcome::DONE)
}
