//! Native `arguments:` on the embedded store: those of RabbitMQ that say what a portable key says are taken for it, and
//! every other one is refused, since nothing would come of it.

use std::borrow::Cow;
use std::time::Duration;

use super::SQLITE;
use crate::error::{Error, Result};
use crate::queue::topology::usual_dead_letter;
use crate::queue::{Exchange, ExchangeKind, HeaderValue, Queue, Topology};

/// What a queue's argument says here.
type Meaning = fn(&mut Queue, &HeaderValue) -> Result<(), String>;

const KNOWN: &[(&str, Meaning)] = &[
    ("x-max-priority", |queue, value| {
        let most = whole(value, 1, 255)? as u8;
        once(&mut queue.max_priority, most, "max_priority")
    }),
    ("x-message-ttl", |queue, value| {
        // AMQP's 0, "expired unless it can be handed over at once", has no match here.
        let ttl = Duration::from_millis(whole(value, 1, i64::MAX)?);
        once(&mut queue.ttl, ttl, "ttl")
    }),
    ("x-max-length", |queue, value| {
        let most = whole(value, 1, i64::MAX)?;
        once(&mut queue.max_length, most, "max_length")
    }),
    ("x-max-length-bytes", |queue, value| {
        let most = whole(value, 1, i64::MAX)?;
        once(&mut queue.max_bytes, most, "max_bytes")
    }),
    ("x-overflow", |_, value| match text(value)? {
        "reject-publish" => Ok(()),
        _ => Err("must be reject-publish: a full queue of this driver refuses what is published".to_owned()),
    }),
    ("x-dead-letter-exchange", |queue, value| {
        if !text(value)?.is_empty() {
            return Err("must be empty: this driver dead-letters to a queue, which `dead_letter` names".to_owned());
        }
        if queue.arguments.contains_key(DEAD_LETTER_KEY) {
            return Ok(());
        }
        Err(format!(
            "needs `{DEAD_LETTER_KEY}` beside it, the name of the dead-letter queue"
        ))
    }),
    (DEAD_LETTER_KEY, |queue, value| {
        let dead = text(value)?;
        if dead.is_empty() || dead == queue.name {
            return Err("must be the name of another queue".to_owned());
        }
        // The usual one is what nobody asked for.
        if queue.dead_letter == usual_dead_letter(&queue.name) {
            queue.dead_letter = None;
        }
        once(&mut queue.dead_letter, dead.to_owned(), "dead_letter")
    }),
];

const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";

/// The same topology without native arguments, or why this driver cannot have it.
pub(super) fn portable(topology: &Topology) -> Result<Cow<'_, Topology>> {
    topology.check_names()?;
    for exchange in &topology.exchanges {
        check_exchange(exchange)?;
    }
    if let Some(queue) = topology.queues.iter().find(|queue| queue.exclusive) {
        return Err(Error::unsupported(format!(
            "queue `{}`: {} has no exclusive queues; leave `exclusive` out, or see `auto_delete`",
            queue.name, SQLITE.name
        )));
    }
    if topology.queues.iter().all(|queue| queue.arguments.is_empty()) {
        return Ok(Cow::Borrowed(topology));
    }
    Ok(Cow::Owned(Topology {
        exchanges: topology.exchanges.clone(),
        queues: topology.queues.iter().map(portable_queue).collect::<Result<_>>()?,
    }))
}

fn portable_queue(queue: &Queue) -> Result<Queue> {
    let mut portable = queue.clone();
    for (name, value) in &queue.arguments {
        let Some((_, meaning)) = KNOWN.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
            return Err(unknown(
                "queue",
                &queue.name,
                name,
                &format!("knows {}", known.join(", ")),
            ));
        };
        meaning(&mut portable, value).map_err(|reason| {
            Error::unsupported(format!(
                "queue `{}`: the argument `{name}` {reason} (driver {})",
                queue.name, SQLITE.name
            ))
        })?;
    }
    portable.arguments.clear();
    Ok(portable)
}

fn check_exchange(exchange: &Exchange) -> Result<()> {
    if exchange.kind == ExchangeKind::Headers {
        return Err(Error::unsupported(format!(
            "exchange `{}`: {} does not route by headers; use `type: topic`, and a routing key",
            exchange.name, SQLITE.name
        )));
    }
    match exchange.arguments.keys().next() {
        None => Ok(()),
        Some(name) => Err(unknown("exchange", &exchange.name, name, "knows none for an exchange")),
    }
}

fn unknown(what: &str, of: &str, name: &str, knows: &str) -> Error {
    Error::unsupported(format!(
        "{what} `{of}`: the driver {} does not know the argument `{}`; remove it (the driver {knows})",
        SQLITE.name,
        name.escape_debug()
    ))
}

/// Whatever holds such a character is a slip, and would garble every list that shows it.
/// The key and the argument may both be given, if they agree.
fn once<T: PartialEq>(place: &mut Option<T>, value: T, key: &str) -> Result<(), String> {
    match place {
        Some(there) if *there != value => Err(format!("says something else than `{key}`; keep one of the two")),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

fn whole(value: &HeaderValue, least: i64, most: i64) -> Result<u64, String> {
    match value {
        HeaderValue::Int(number) if (least..=most).contains(number) => Ok(number.unsigned_abs()),
        _ if most == i64::MAX => Err(format!("must be a whole number, at least {least}")),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

fn text(value: &HeaderValue) -> Result<&str, String> {
    match value {
        HeaderValue::Text(text) => Ok(text),
        _ => Err("must be text".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::portable;
    use crate::ErrorKind;
    use crate::queue::{Exchange, HeaderValue, Queue, Topology};

    fn queue(arguments: &[(&str, HeaderValue)]) -> Topology {
        let arguments = arguments
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Topology {
            exchanges: Vec::new(),
            queues: vec![Queue {
                name: "q".to_owned(),
                dead_letter: Some("q.dead".to_owned()),
                arguments: arguments.collect(),
                ..Queue::default()
            }],
        }
    }

    #[test]
    fn arguments_that_portable_keys_know_are_taken_for_them() {
        let topology = queue(&[
            ("x-max-priority", HeaderValue::Int(9)),
            ("x-message-ttl", HeaderValue::Int(1500)),
            ("x-max-length", HeaderValue::Int(20_000)),
            ("x-max-length-bytes", HeaderValue::Int(1 << 20)),
            ("x-overflow", "reject-publish".into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "lost".into()),
        ]);
        let portable = portable(&topology).unwrap();
        let expected = Queue {
            name: "q".to_owned(),
            max_priority: Some(9),
            ttl: Some(Duration::from_millis(1500)),
            max_length: Some(20_000),
            max_bytes: Some(1 << 20),
            dead_letter: Some("lost".to_owned()),
            ..Queue::default()
        };
        assert_eq!(portable.queues, [expected]);
    }

    #[test]
    fn other_arguments_and_values_are_refused_by_name() {
        let refused = |topology: &Topology| {
            let error = portable(topology).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            error.to_string()
        };
        for (name, value, expected) in [
            (
                "x-foo",
                HeaderValue::Int(1),
                "the driver sqlite does not know the argument `x-foo`; remove it (the driver knows x-max-priority, ",
            ),
            (
                "x-max-priority",
                HeaderValue::Int(256),
                "must be a whole number from 1 to 255",
            ),
            (
                "x-message-ttl",
                HeaderValue::Int(0),
                "must be a whole number, at least 1",
            ),
            ("x-max-length", "20".into(), "must be a whole number"),
            ("x-overflow", "drop-head".into(), "must be reject-publish"),
            ("x-dead-letter-exchange", "dlx".into(), "dead-letters to a queue"),
            ("x-dead-letter-exchange", "".into(), "needs `x-dead-letter-routing-key`"),
            ("x-dead-letter-routing-key", "q".into(), "the name of another queue"),
        ] {
            let error = refused(&queue(&[(name, value)]));
            assert!(error.contains(expected) && error.contains("queue `q`"), "{error}");
        }
        let mut twice = queue(&[("x-max-length", HeaderValue::Int(5))]);
        twice.queues[0].max_length = Some(6);
        assert!(refused(&twice).contains("something else than `max_length`"));
        twice.queues[0].max_length = Some(5);
        portable(&twice).unwrap();
        let exchange = Topology {
            exchanges: vec![Exchange {
                name: "x".to_owned(),
                arguments: [("alternate-exchange".to_owned(), "spare".into())].into(),
                ..Exchange::default()
            }],
            queues: Vec::new(),
        };
        assert!(refused(&exchange).contains("exchange `x`: the driver sqlite does not know"));
    }
}
