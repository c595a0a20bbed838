//! `list-configured` and `list`.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::commands::Outcome;
use crate::config::Config;
use crate::context::Workplace;
use crate::error::{ErrorKind, Result};
use crate::output::{human_seconds, known, table};
use crate::queue::QueueInfo;

#[derive(Serialize)]
struct Configured {
    name: String,
    /// 1 producer, 2 consumer, 3 both.
    r#type: u8,
    connection: String,
    exchange: Option<String>,
    queue: Option<String>,
    handler: Option<&'static str>,
}

/// Names of the configuration with their type codes.
pub(super) fn configured(place: &Workplace<'_>) -> Result<Outcome> {
    let config = &place.config;
    let names: BTreeSet<&String> = config.producers.keys().chain(config.consumers.keys()).collect();
    let rows: Vec<Configured> = names
        .into_iter()
        .map(|name| {
            let (producer, consumer) = (config.producers.get(name), config.consumers.get(name));
            let connection = match (producer, consumer) {
                (Some(producer), Some(consumer)) if producer.connection != consumer.connection => {
                    format!("{}, {}", producer.connection, consumer.connection)
                }
                (Some(producer), _) => producer.connection.clone(),
                (None, Some(consumer)) => consumer.connection.clone(),
                (None, None) => String::new(),
            };
            Configured {
                name: name.clone(),
                r#type: u8::from(producer.is_some()) + 2 * u8::from(consumer.is_some()),
                connection,
                exchange: producer
                    .and_then(|entry| entry.exchange.as_ref())
                    .map(|exchange| exchange.name.clone()),
                queue: consumer.map(|entry| entry.queue.name.clone()).or_else(|| {
                    producer
                        .filter(|entry| entry.exchange.is_none())
                        .map(|entry| entry.queue.clone())
                }),
                handler: consumer.map(|entry| entry.handler.kind),
            }
        })
        .collect();
    if place.is_implicit() {
        place
            .context
            .output
            .note("qctl: no configuration file, so nothing is configured; any name is a queue");
    }
    place.context.output.report(&rows, |rows| {
        if rows.is_empty() {
            return String::new();
        }
        let header = ["name", "type", "is", "connection", "exchange", "queue", "handler"];
        table(
            &header,
            rows.iter().map(|row| {
                let is = ["", "producer", "consumer", "producer and consumer"][usize::from(row.r#type)];
                vec![
                    row.name.clone(),
                    row.r#type.to_string(),
                    is.to_owned(),
                    row.connection.clone(),
                    known(row.exchange.as_ref()),
                    known(row.queue.as_ref()),
                    known(row.handler),
                ]
            }),
        )
    })?;
    Ok(Outcome::DONE)
}

/// The broker's queues with their figures.
pub(super) async fn available(place: &Workplace<'_>, given: Option<&str>, pattern: Option<&str>) -> Result<Outcome> {
    let entry = place.connection_or(given, "")?;
    let connection = place.connect(entry).await?;
    let mut names = match connection.list().await {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            place.context.output.note(format_args!(
                "{error}; these are the queues of connection {} that the configuration names",
                entry.name
            ));
            named_on(&place.config, &entry.name)
        }
        Err(error) => return Err(error),
    };
    names.sort_unstable();
    names.retain(|name| pattern.is_none_or(|pattern| glob(pattern, name)));
    let rows: Vec<QueueInfo> = match connection.figures(&names).await {
        // The driver has names only.
        Err(error) if error.kind() == ErrorKind::Unsupported => names
            .into_iter()
            .map(|name| QueueInfo {
                name,
                ..QueueInfo::default()
            })
            .collect(),
        rows => rows?,
    };
    place.context.output.report(&rows, |rows| {
        if rows.is_empty() {
            return String::new();
        }
        let header = ["name", "ready", "delayed", "held", "dead", "consumers", "oldest", ""];
        table(
            &header,
            rows.iter().map(|info| {
                vec![
                    info.name.clone(),
                    info.ready.to_string(),
                    known(info.delayed),
                    known(info.held),
                    known(info.dead),
                    known(info.consumers),
                    known(info.oldest_seconds.map(human_seconds)),
                    if info.paused {
                        "paused".to_owned()
                    } else {
                        String::new()
                    },
                ]
            }),
        )
    })?;
    Ok(Outcome::DONE)
}

/// The queues of this connection that the configuration names, those for dead letters included.
fn named_on(config: &Config, connection: &str) -> Vec<String> {
    let consumers = config
        .consumers
        .values()
        .map(|entry| (&entry.connection, &entry.topology));
    let producers = config
        .producers
        .values()
        .map(|entry| (&entry.connection, &*entry.topology));
    let queues = consumers
        .chain(producers)
        .filter(|(entry, _)| *entry == connection)
        .flat_map(|(_, topology)| &topology.queues);
    let names: BTreeSet<&String> = queues
        .flat_map(|queue| std::iter::once(&queue.name).chain(&queue.dead_letter))
        .collect();
    names.into_iter().cloned().collect()
}

/// Whether `name` matches a pattern in which `*` is any text and `?` any character; in linear memory and without
/// backtracking further than the last star.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(expected) if *expected == '?' || *expected == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_are_globs() {
        for (pattern, name, expected) in [
            ("mail", "mail", true),
            ("mail", "mails", false),
            ("mail*", "mail.dead", true),
            ("*.dead", "mail.dead", true),
            ("*a*b*", "xxaxxbxx", true),
            ("?ail", "mail", true),
            ("*", "", true),
            ("", "x", false),
            ("*x", "y", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
