//! `declare`: makes a queue, as configured or with the properties given.

use std::time::Duration;

use serde_json::Value;

use super::DeclareArgs;
use super::target::Target;
use crate::cli::values;
use crate::commands::Outcome;
use crate::context::Workplace;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::topology::usual_dead_letter;
use crate::queue::{HeaderValue, Headers, Queue, QueueInfo, Topology};
use crate::settings::suggestion;

const PROPERTIES: &[&str] = &[
    "durable",
    "auto_delete",
    "exclusive",
    "max_priority",
    "ttl",
    "max_length",
    "max_bytes",
    "dead_letter",
];

/// Declares one queue with all that its entry needs.
pub(super) async fn run(place: &Workplace<'_>, given: Option<&str>, args: &DeclareArgs) -> Result<Outcome> {
    let target = Target::open_or_new(place, given, &args.name.name).await?;
    let mut queue = match &target.configured {
        Some(configured) => configured.clone(),
        None => unconfigured(&target).await?,
    };
    if target.configured.is_some() && !args.argument.is_empty() {
        place.context.output.warn(format_args!(
            "queue {} is configured; whoever sends or consumes next may set it back to what the configuration says",
            queue.name
        ));
    }
    for (name, value) in &args.argument {
        set(&mut queue, name, value)?;
    }
    let mut topology = Topology {
        exchanges: Vec::new(),
        queues: vec![queue.clone()],
    };
    topology.merge(&target.topology);
    if let Some(entry) = place.config.connections.get(&target.connection_name) {
        entry.connector.check(&topology)?;
    }
    let report = serde_json::json!({
        "queue": queue.name,
        "declared": !args.dry_run,
        "dead_letter": queue.dead_letter,
        "exchanges": topology.exchanges.iter().map(|exchange| exchange.name.as_str()).collect::<Vec<_>>(),
        "bindings": queue.bindings.iter().map(|binding| {
            serde_json::json!({ "exchange": binding.exchange, "routing_key": binding.routing_key })
        }).collect::<Vec<_>>(),
    });
    if !args.dry_run {
        target.connection.declare(&topology).await?;
    }
    place.context.output.report(&report, |_| {
        let verb = if args.dry_run { "would declare" } else { "declared" };
        format!("{verb} queue {}", queue.name)
    })?;
    Ok(Outcome::DONE)
}

/// The queue as it is, so that naming one property leaves the others alone; a new one has what all queues have.
async fn unconfigured(target: &Target) -> Result<Queue> {
    let new = Queue {
        name: target.queue.clone(),
        durable: true,
        dead_letter: usual_dead_letter(&target.queue),
        ..Queue::default()
    };
    let info = match target.connection.info(&target.queue).await {
        Ok(info) => info,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => return Ok(new),
        Err(error) => return Err(error),
    };
    if !info.arguments.is_empty() {
        return Ok(as_it_is(new, &info));
    }
    let number = |name: &str| info.properties.get(name).and_then(Value::as_u64);
    let ttl = info.properties.get("ttl_seconds").and_then(Value::as_f64);
    Ok(Queue {
        max_priority: number("max_priority").and_then(|most| u8::try_from(most).ok()),
        ttl: ttl.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        max_length: number("max_length"),
        max_bytes: number("max_bytes"),
        dead_letter: info.dead_letter,
        ..new
    })
}

/// A queue of a broker that tells the arguments it was made with.
fn as_it_is(new: Queue, info: &QueueInfo) -> Queue {
    let is = |name: &str, usually: bool| info.properties.get(name).and_then(Value::as_bool).unwrap_or(usually);
    let arguments: Headers = info
        .arguments
        .iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((name.clone(), HeaderValue::of_scalar(value)?)))
        .collect();
    Queue {
        durable: is("durable", true),
        auto_delete: is("auto_delete", false),
        exclusive: is("exclusive", false),
        dead_letter: info
            .dead_letter
            .clone()
            .filter(|_| arguments.contains_key("x-dead-letter-exchange")),
        arguments,
        ..new
    }
}

fn set(queue: &mut Queue, name: &str, value: &str) -> Result<()> {
    let wrong = |reason: String| Error::bad_input(format!("-a {name}: {reason}"));
    // What a queue has by the broker's own argument is said anew by the portable key.
    for argument in spelt(name) {
        queue.arguments.remove(*argument);
    }
    match name {
        "durable" => queue.durable = boolean(value).map_err(wrong)?,
        "auto_delete" | "autodelete" => queue.auto_delete = boolean(value).map_err(wrong)?,
        "exclusive" => queue.exclusive = boolean(value).map_err(wrong)?,
        "max_priority" => {
            queue.max_priority = Some(
                value
                    .parse()
                    .map_err(|_| wrong("write a number from 0 to 255".to_owned()))?,
            );
        }
        "ttl" => queue.ttl = Some(values::duration(value).map_err(wrong)?),
        "max_length" => {
            queue.max_length = Some(
                value
                    .parse()
                    .map_err(|_| wrong("write a number of messages".to_owned()))?,
            );
        }
        "max_bytes" => {
            queue.max_bytes = Some(value.parse().map_err(|_| wrong("write a number of bytes".to_owned()))?);
        }
        "dead_letter" => queue.dead_letter = (!value.is_empty()).then(|| value.to_owned()),
        native if native.starts_with("x-") => {
            queue.arguments.insert(native.to_owned(), typed(value));
        }
        unknown => {
            let hint = suggestion(unknown, PROPERTIES.iter().copied())
                .map(|near| format!("; did you mean '{near}'?"))
                .unwrap_or_default();
            return Err(Error::usage(format!(
                "no queue property '{unknown}'{hint} (there are: {}, and the broker's own x-…)",
                PROPERTIES.join(", ")
            )));
        }
    }
    Ok(())
}

/// The broker's arguments that a portable key is spelt as.
fn spelt(name: &str) -> &'static [&'static str] {
    match name {
        "max_priority" => &["x-max-priority"],
        "ttl" => &["x-message-ttl"],
        "max_length" => &["x-max-length"],
        "max_bytes" => &["x-max-length-bytes"],
        "dead_letter" => &["x-dead-letter-exchange", "x-dead-letter-routing-key"],
        _ => &[],
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "write true or false".to_owned())
}

/// A broker's own argument: a number or truth value where it reads as one, else text.
fn typed(value: &str) -> HeaderValue {
    // `[I, 5]`, as the configuration has it.
    let pair = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']')?.split_once(','));
    if let Some((letter, value)) = pair
        && let Some(typed) = of_letter(letter.trim(), value.trim())
    {
        return typed;
    }
    if let Ok(number) = value.parse::<i64>() {
        HeaderValue::Int(number)
    } else if let Ok(truth) = value.parse::<bool>() {
        HeaderValue::Bool(truth)
    } else {
        HeaderValue::Text(value.to_owned())
    }
}

fn of_letter(letter: &str, value: &str) -> Option<HeaderValue> {
    match letter {
        "I" => value.parse().ok().map(HeaderValue::Int),
        "t" => value.parse().ok().map(HeaderValue::Bool),
        "D" => value.parse().ok().map(HeaderValue::Float),
        "S" => Some(HeaderValue::Text(value.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_and_unknown_ones_refused() {
        let mut queue = Queue::default();
        for (name, value) in [
            ("max_priority", "10"),
            ("ttl", "5m"),
            ("durable", "true"),
            ("x-queue-type", "quorum"),
        ] {
            set(&mut queue, name, value).expect(name);
        }
        assert_eq!(queue.max_priority, Some(10));
        assert_eq!(queue.ttl, Some(std::time::Duration::from_mins(5)));
        assert_eq!(
            queue.arguments.get("x-queue-type"),
            Some(&HeaderValue::Text("quorum".to_owned()))
        );
        let error = set(&mut queue, "max_lenght", "1").expect_err("misspelt");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("did you mean 'max_length'"), "{error}");
        assert_eq!(set(&mut queue, "ttl", "soon").expect_err("no duration").exit_code(), 65);
    }
}
