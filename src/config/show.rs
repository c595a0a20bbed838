//! The configuration in force, for people and scripts to look at: defaults filled in, secrets masked.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{Config, ConnectionEntry, ConsumerEntry, ProducerEntry, WorkerEntry, WorkerRuns};
use crate::consumer::{Backoff, ExitCodes, RetryPolicy, Verdict};
use crate::queue::{Exchange, HeaderValue, Headers, Queue};

/// The configuration as one JSON document. Passwords, in URLs too, and variables whose names speak of secrets are `***`.
pub fn show(config: &Config) -> Value {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    json!({
        "file": config.file.as_ref().map(path),
        "files": config.files.iter().map(path).collect::<Vec<_>>(),
        "default": config.default,
        "connections": named(config.connections.values().map(|entry| (entry.name.as_str(), connection(entry)))),
        "producers": named(config.producers.values().map(|entry| (entry.name.as_str(), producer(entry)))),
        "consumers": named(config.consumers.values().map(|entry| (entry.name.as_str(), consumer(entry)))),
        "commands": commands(config),
        "workers": named(config.workers.values().map(|entry| (entry.name.as_str(), worker(entry)))),
        "state_dir": path(&config.state_dir),
    })
}

fn named<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The driver and the keys as written: their defaults are the driver's own.
fn connection(entry: &ConnectionEntry) -> Value {
    let mut shown = Map::from_iter([
        ("driver".to_owned(), json!(entry.driver.name)),
        ("endpoint".to_owned(), json!(entry.connector.endpoint())),
    ]);
    match entry.settings.to_setting().shown() {
        Value::Object(keys) => shown.extend(keys),
        url => {
            shown.insert("url".to_owned(), url);
        }
    }
    Value::Object(shown)
}

fn producer(entry: &ProducerEntry) -> Value {
    json!({
        "connection": entry.connection,
        "exchange": entry.exchange.as_ref().map(exchange),
        "queue": Some(&entry.queue).filter(|queue| !queue.is_empty()),
        "routing_key": entry.routing_key,
        "ttl": entry.ttl.map(duration),
    })
}

fn consumer(entry: &ConsumerEntry) -> Value {
    json!({
        "connection": entry.connection,
        "queue": queue(&entry.queue),
        "exchanges": entry.topology.exchanges.iter().map(exchange).collect::<Vec<_>>(),
        "handler": { entry.handler.kind: entry.handler_settings.to_setting().shown() },
        "concurrency": entry.concurrency,
        "prefetch": entry.prefetch,
        "retry": retry(&entry.retry),
        "exit_codes": exit_codes(&entry.exit_codes),
        "dead_letter": entry.queue.dead_letter.as_deref().unwrap_or(if entry.retry.keep { "keep" } else { "none" }),
        "stop_grace": entry.stop_grace.map_or_else(|| "none".to_owned(), duration),
        "replies": { "allow": entry.replies_allow },
    })
}

fn exchange(exchange: &Exchange) -> Value {
    json!({
        "name": exchange.name,
        "type": exchange.kind.name(),
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "passive": exchange.passive,
        "arguments": headers(&exchange.arguments),
    })
}

fn queue(queue: &Queue) -> Value {
    let bindings: Vec<Value> = queue
        .bindings
        .iter()
        .map(|binding| json!({ "exchange": binding.exchange, "routing_key": binding.routing_key }))
        .collect();
    json!({
        "name": queue.name,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "passive": queue.passive,
        "bindings": bindings,
        "max_priority": queue.max_priority,
        "ttl": queue.ttl.map(duration),
        "max_length": queue.max_length,
        "max_bytes": queue.max_bytes,
        "arguments": headers(&queue.arguments),
        "as_written": queue.as_written,
    })
}

fn retry(retry: &RetryPolicy) -> Value {
    let backoff = match retry.backoff {
        Backoff::Exponential => "exponential",
        Backoff::Linear => "linear",
        Backoff::Fixed => "fixed",
    };
    json!({
        "attempts": retry.attempts,
        "signals": retry.signals,
        "deliveries": retry.deliveries,
        "backoff": backoff,
        "min": duration(retry.min),
        "max": duration(retry.max),
        "jitter": retry.jitter,
    })
}

fn exit_codes(exit_codes: &ExitCodes) -> Value {
    let verdict = |verdict: Verdict| match verdict {
        Verdict::Ack => "ack",
        Verdict::Retry => "retry",
        Verdict::Reject => "reject",
    };
    let codes = exit_codes
        .codes
        .iter()
        .map(|(code, meaning)| (code.to_string(), *meaning));
    let words = [
        ("other", exit_codes.other),
        ("signal", exit_codes.signal),
        ("timeout", exit_codes.timeout),
    ];
    let words = words.map(|(word, meaning)| (word.to_owned(), meaning));
    codes
        .chain(words)
        .map(|(key, meaning)| (key, json!(verdict(meaning))))
        .collect::<Map<_, _>>()
        .into()
}

fn worker(entry: &WorkerEntry) -> Value {
    // As written: what is decoded no longer tells a secret variable from other text.
    let env = entry.setting.shown()["env"].clone();
    let (consumer, options, run) = match &entry.runs {
        WorkerRuns::Consumer { name, options } => (json!(name), json!(options), Value::Null),
        WorkerRuns::Program(argv) => (Value::Null, Value::Null, json!(argv)),
    };
    let limit = |limit: &Option<Duration>| limit.map_or_else(|| json!("none"), |limit| json!(duration(limit)));
    let path = |path: &std::path::PathBuf| path.display().to_string();
    json!({
        "consumer": consumer,
        "options": options,
        "run": run,
        "instances": entry.instances,
        "env": env,
        "cwd": entry.cwd.as_ref().unwrap_or(&entry.folder).display().to_string(),
        "user": entry.user,
        "group": entry.group,
        "nice": entry.nice,
        "umask": entry.umask.map(|mask| format!("{mask:03o}")),
        "limits": named(entry.limits.iter().map(|(name, value)| {
            (name.as_str(), value.map_or_else(|| json!("none"), |value| json!(value)))
        })),
        "log": { "folder": entry.log.folder.as_ref().map(path), "size": entry.log.size, "keep": entry.log.keep },
        "stop_signal": entry.stop_signal,
        "stop_timeout": entry.stop_timeout.as_ref().map(limit),
        "heartbeat": entry.heartbeat.as_ref().map(limit),
        "backoff": { "min": duration(entry.backoff.0), "max": duration(entry.backoff.1) },
        "restart_on": entry.restart_on.iter().map(path).collect::<Vec<_>>(),
        "expected_exit_codes": entry.expected,
    })
}

/// The commands as written: what is decoded no longer tells a secret variable from other text.
fn commands(config: &Config) -> Value {
    named(
        config
            .written_commands
            .iter()
            .map(|(name, setting)| (name.as_str(), setting.shown())),
    )
}

fn headers(headers: &Headers) -> Value {
    named(headers.iter().map(|(name, value)| (name.as_str(), header(value))))
}

fn header(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Null => Value::Null,
        HeaderValue::Bool(value) => json!(value),
        HeaderValue::Int(value) => json!(value),
        HeaderValue::Float(value) => json!(value),
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
        HeaderValue::Time(seconds) => json!(["T", seconds]),
        HeaderValue::List(list) => list.iter().map(header).collect(),
        HeaderValue::Table(table) => headers(table),
    }
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}
