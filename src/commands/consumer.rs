//! `qctl consumer`: takes messages from a queue, has them handled, and ends on a signal or at a limit.

mod signs;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use super::Outcome;
use crate::cli::{ConnectionArgs, names, values};
use crate::config::ConsumerEntry;
use crate::consumer::{self, ConsumerSettings, EndReason, Ended, Limits, Meter, Pulse, Stop, check_hold};
use crate::context::{Context, program};
use crate::error::{Error, Result};
use crate::handlers::{HandlerContext, Printer};
use crate::logging::Logging;
use crate::observe::{Address, ConsumerLabels, ConsumerPage, Server};
use crate::output::{self, human_bytes, human_duration};
use crate::queue::Binding;
use crate::settings::SecretSource;
use crate::signals;
use crate::watchdog::beat;
use signs::{NOTIFY_SOCKET, keep_beating, say_stopping, tell_systemd};

/// Arguments of `qctl consumer`.
#[derive(Args, Debug)]
#[command(
    mut_arg("connection", |connection| connection.help(
        "Connection to use, or a driver's name where one connection has it (default: the consumer's)"
    )),
    after_help = "The first SIGTERM, SIGINT or SIGHUP finishes what runs, the second gives it back and ends at once.
A program of the handler that is missing ends it at the start with exit code 72.

A handler's program finds its message in QCTL_QUEUE, QCTL_ROUTING_KEY, QCTL_MESSAGE_ID,
QCTL_DELIVERIES, ..., and in QCTL_ATTEMPT how often it has failed so far (0 the first time).
Only the handler exec also gives it the body, on standard input, and all of it with the headers
as JSON in QCTL_MESSAGE.

Examples:
  qctl consumer mail
  qctl consumer -m 1000 -t 1h -l 256 --label web1 mail
  qctl consumer --until-empty demo
  qctl consumer --metrics 127.0.0.1:9100 mail"
)]
pub struct ConsumerArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Leave signals alone, so that they end the process at once
    #[arg(short, long)]
    without_signals: bool,
    /// Bind the queue with this key, where the configuration has none (default: the configured keys)
    #[arg(short, long, alias = "route", value_name = "KEY")]
    routing_key: Option<String>,
    /// End after so many messages (default 0: no limit)
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = values::count)]
    messages: u64,
    /// End after this time, in seconds or with a unit (default 0: no limit)
    #[arg(
        short,
        long,
        alias = "timeout",
        value_name = "DURATION",
        default_value = "0",
        hide_default_value = true,
        value_parser = values::duration
    )]
    time_limit: Duration,
    /// End when the memory in use passes this many MB, or 256M, 1G (default 0: no limit)
    #[arg(
        short = 'l',
        long,
        value_name = "SIZE",
        default_value = "0",
        hide_default_value = true,
        value_parser = values::memory
    )]
    memory_limit: u64,
    /// Name shown to operators (default: the consumer's name)
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Append log lines to this file (default: standard error)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    log_file: Option<PathBuf>,
    /// Handle so many messages at once, 1 to 1000 (default: the configured number, else 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: Option<u32>,
    /// Hold at most so many messages, 1 to 65535 (default: as many as are handled at once)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    prefetch: Option<u32>,
    /// End when no message is ready; delayed ones do not count
    #[arg(long)]
    until_empty: bool,
    /// End when no message came for this many seconds, or 5m (default 0: no limit)
    #[arg(
        long,
        value_name = "SECS",
        default_value = "0",
        hide_default_value = true,
        value_parser = values::duration
    )]
    idle: Duration,
    /// End with exit code 75 after so many failed messages in a row (default 0: no limit)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = values::count)]
    failures: u64,
    /// Exit code when a limit ended it (not --failures)
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit_exit_code: u8,
    // Not a doc comment: what looks like a URL there is taken for a link.
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = Address::parse,
        help = "Serve metrics and health at 127.0.0.1:PORT or unix:///PATH (default: nowhere)"
    )]
    metrics: Option<Address>,
    /// Let in only who sends the bearer token in this file (default: anybody on this machine)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, requires = "metrics")]
    metrics_token_file: Option<PathBuf>,
    /// Consumer to run
    #[arg(value_name = "CONSUMER", add = ArgValueCandidates::new(names::consumers))]
    name: String,
}

/// Runs `qctl consumer`.
pub fn run(args: &ConsumerArgs, context: &Context) -> Result<Outcome> {
    let logging = context.global.logging(LevelFilter::INFO);
    Logging {
        file: args.log_file.as_deref(),
        ..logging
    }
    .install()?;
    let place = context.load()?;
    let mut entry = place.consumer(&args.name)?;
    if let Some(key) = &args.routing_key {
        bind_with(&mut entry, key)?;
    }
    let connection = place.connection_or(args.connection.given(), &entry.connection)?;
    let mut settings = settings(args, &entry);
    settings.topology.check_names()?;
    let mut handler_context = HandlerContext::new(
        place.config.commands.clone(),
        entry.exit_codes.clone(),
        program()?,
        settings.concurrency,
    );
    handler_context.printer = Printer::new(output::write_some);
    settings.listeners = place.listeners(&handler_context.guard)?;
    settings.verifier = place.verifier(&entry)?;
    let handler = (entry.handler.parse)(entry.handler_settings.clone(), &handler_context)?;
    handler.check()?;
    check_hold(&*handler, connection.connector.capabilities().hold_limit)
        .map_err(|reason| entry.handler_settings.error("timeout", reason))?;
    place.tell_implicit_store(connection);
    context.output.note(format_args!(
        "qctl: consumer {} takes from {} on {}, handler {}, {} at once; limits: {}",
        settings.name,
        settings.queue,
        connection.name,
        entry.handler.kind,
        settings.concurrency,
        limits_text(&settings.limits)
    ));
    let options = place.connect_options(&settings.label);
    // Served to the last: it is dropped when the consumer has ended.
    let _server = observe(args, context, &settings, &entry)?;
    let has_systemd = std::env::var_os(NOTIFY_SOCKET).is_some();
    let ended = context.block_on(async {
        if let Some(path) = std::env::var_os(beat::VARIABLE) {
            keep_beating(Path::new(&path), settings.pulse.clone());
        }
        if has_systemd {
            tell_systemd(settings.pulse.clone(), &settings.meter);
        }
        let stop = if args.without_signals {
            Stop::default()
        } else {
            signals::watch(move || {
                if has_systemd {
                    say_stopping();
                }
            })?
        };
        consumer::run(connection.connector.clone(), options, settings, handler, stop).await
    });
    if has_systemd {
        say_stopping();
    }
    Ok(tell(args, context, &ended?))
}

/// What is seen from outside, where that is wanted.
fn observe(
    args: &ConsumerArgs,
    context: &Context,
    settings: &ConsumerSettings,
    entry: &ConsumerEntry,
) -> Result<Option<Server>> {
    let token = args.metrics_token_file.clone().map(SecretSource::File);
    let Some(address) = &args.metrics else {
        return Ok(None);
    };
    settings.pulse.watch();
    let labels = ConsumerLabels {
        consumer: settings.name.clone(),
        queue: settings.queue.clone(),
        handler: entry.handler.kind.to_owned(),
    };
    let page = ConsumerPage::new(labels, &settings.limits, settings.meter.clone(), settings.pulse.clone());
    let server = Server::start(address, token, Arc::new(page)).map_err(|error| error.at("--metrics"))?;
    context.output.note(format_args!(
        "qctl: consumer {} is observed at {}: /metrics, /healthz, /readyz",
        settings.name,
        server.address()
    ));
    Ok(Some(server))
}

/// A durable binding is never changed by a flag: the key is used only where the configuration names none.
fn bind_with(entry: &mut ConsumerEntry, key: &str) -> Result<()> {
    let configured: Vec<&str> = entry
        .queue
        .bindings
        .iter()
        .map(|binding| binding.routing_key.as_str())
        .filter(|key| !key.is_empty())
        .collect();
    if !configured.is_empty() {
        return Err(Error::config(format!(
            "consumer {} is bound with {} by the configuration; leave out -r, or change `bindings:` there",
            entry.name,
            configured.join(", ")
        )));
    }
    if entry.queue.bindings.is_empty() {
        return Err(Error::config(format!(
            "queue {} is bound to no exchange, so -r has nothing to bind; add `bindings:` to consumer {}",
            entry.queue.name, entry.name
        )));
    }
    let rebind = |bindings: &mut Vec<Binding>| {
        for binding in bindings {
            key.clone_into(&mut binding.routing_key);
        }
    };
    rebind(&mut entry.queue.bindings);
    if let Some(queue) = entry
        .topology
        .queues
        .iter_mut()
        .find(|queue| queue.name == entry.queue.name)
    {
        rebind(&mut queue.bindings);
    }
    Ok(())
}

fn settings(args: &ConsumerArgs, entry: &ConsumerEntry) -> ConsumerSettings {
    let as_count = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    ConsumerSettings {
        name: entry.name.clone(),
        queue: entry.queue.name.clone(),
        topology: entry.topology.clone(),
        concurrency: args.concurrency.map_or(entry.concurrency, as_count).max(1),
        prefetch: args.prefetch.map(as_count).or(entry.prefetch),
        retry: entry.retry.clone(),
        replies_allow: entry.replies_allow.clone(),
        stop_grace: entry.stop_grace,
        label: args.label.clone().unwrap_or_else(|| entry.name.clone()),
        limits: Limits {
            messages: some_count(args.messages),
            time: some_time(args.time_limit),
            memory: some_count(args.memory_limit),
            until_empty: args.until_empty,
            idle: some_time(args.idle),
            failures: some_count(args.failures),
        },
        pulse: Pulse::default(),
        listeners: Arc::default(),
        verifier: None,
        meter: if args.metrics.is_some() || std::env::var_os(NOTIFY_SOCKET).is_some() {
            Meter::counting()
        } else {
            Meter::default()
        },
    }
}

fn some_count(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}

fn some_time(value: Duration) -> Option<Duration> {
    (!value.is_zero()).then_some(value)
}

/// The limits as they were understood: `-m` and `-l` mean other things elsewhere.
fn limits_text(limits: &Limits) -> String {
    let mut parts = Vec::new();
    parts.extend(limits.messages.map(|count| format!("{count} messages")));
    parts.extend(limits.time.map(|time| format!("{} of time", human_duration(time))));
    parts.extend(limits.memory.map(|bytes| format!("{} of memory", human_bytes(bytes))));
    parts.extend(limits.until_empty.then(|| "until empty".to_owned()));
    parts.extend(limits.idle.map(|time| format!("{} idle", human_duration(time))));
    parts.extend(limits.failures.map(|count| format!("{count} failures in a row")));
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    }
}

fn tell(args: &ConsumerArgs, context: &Context, ended: &Ended) -> Outcome {
    let (reason, outcome) = match &ended.reason {
        EndReason::Stopped => ("asked to stop".to_owned(), Outcome::DONE),
        EndReason::Interrupted => ("asked to stop twice".to_owned(), Outcome::INTERRUPTED),
        EndReason::Limit(limit) => (format!("limit reached: {limit}"), Outcome(args.limit_exit_code)),
        EndReason::Listener(by) => (format!("{by} wants it"), Outcome::DONE),
        EndReason::Enough(why) => (why.clone(), Outcome::DONE),
        EndReason::Unheard(why) => (why.clone(), Outcome(75)),
        EndReason::Failures(count) => (format!("{count} failures in a row"), Outcome(75)),
    };
    let Ended {
        done,
        failed,
        swallowed,
        ..
    } = ended;
    let swallowed = if *swallowed > 0 {
        format!(", {swallowed} swallowed")
    } else {
        String::new()
    };
    context.output.note(format_args!(
        "qctl: Stopped because: {reason} ({done} done, {failed} not{swallowed})"
    ));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_as_understood() {
        let limits = Limits {
            messages: Some(1000),
            time: Some(Duration::from_hours(1)),
            memory: Some(256 << 20),
            until_empty: true,
            idle: Some(Duration::from_secs(5)),
            failures: Some(3),
        };
        assert_eq!(
            limits_text(&limits),
            "1000 messages, 1h of time, 256.0 MiB of memory, until empty, 5s idle, 3 failures in a row"
        );
        assert_eq!(limits_text(&Limits::default()), "none");
    }
}
