//! The arguments of queues and exchanges: RabbitMQ's own by name, and how the portable keys are spelt as arguments.

use lapin::types::{AMQPValue, FieldTable};

use super::SPEC_NAME;
use super::ladder::milliseconds;
use super::properties::table;
use crate::error::{Error, Result};
use crate::queue::{HeaderValue, Headers, Queue, Topology};

/// Arguments of queues that RabbitMQ (3.10 to 4) or a plugin shipped with it knows. It ignores every other one without a
/// word, so a misspelt limit would be no limit.
const OF_QUEUES: &[&str] = &[
    "x-cancel-on-ha-failover",
    "x-consumer-timeout",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-expires",
    "x-ha-policy",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-deduplication",
    "x-message-ttl",
    "x-overflow",
    "x-queue-leader-locator",
    "x-queue-master-locator",
    "x-queue-mode",
    "x-queue-type",
    "x-queue-version",
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
    "x-single-active-consumer",
];
/// The same for exchanges.
const OF_EXCHANGES: &[&str] = &[
    "alternate-exchange",
    "hash-header",
    "hash-property",
    "x-cache-persistence",
    "x-cache-size",
    "x-cache-ttl",
    "x-delayed-type",
    "x-message-deduplication",
];

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";

/// Refuses what the broker would ignore or could not do, without connecting.
pub(super) fn check(topology: &Topology) -> Result<()> {
    topology.check_names()?;
    for exchange in &topology.exchanges {
        check_names("exchange", &exchange.name, &exchange.arguments, OF_EXCHANGES)?;
    }
    for queue in &topology.queues {
        if !queue.as_written {
            check_names("queue", &queue.name, &queue.arguments, OF_QUEUES)?;
        }
        check_queue(queue)?;
    }
    Ok(())
}

fn check_names(what: &str, of: &str, arguments: &Headers, known: &[&str]) -> Result<()> {
    let Some(name) = arguments.keys().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map_or_else(String::new, |(_, known)| format!("did you mean `{known}`? "));
    Err(Error::unsupported(format!(
        "{what} `{of}`: RabbitMQ does not know the argument `{}` and would ignore it; {nearest}correct or remove it \
         (driver {SPEC_NAME})",
        name.escape_debug()
    )))
}

fn check_queue(queue: &Queue) -> Result<()> {
    let refused = |reason: &str| {
        Err(Error::unsupported(format!(
            "queue `{}`: {reason} (driver {SPEC_NAME})",
            queue.name
        )))
    };
    match kind(queue) {
        "classic" | "quorum" => {}
        "stream" => {
            return refused("a stream gives nothing back and settles nothing; use a queue of type quorum or classic");
        }
        _ => return refused("`x-queue-type` must be classic or quorum"),
    }
    if is_quorum(queue) {
        if queue.max_priority.is_some() {
            return refused("a quorum queue has no priorities; leave `max_priority` out, or use a classic queue");
        }
        if !queue.durable || queue.exclusive || queue.auto_delete {
            return refused("a quorum queue is durable, and neither exclusive nor auto_delete");
        }
    }
    for (portable, argument) in [
        (queue.max_priority.is_some(), "x-max-priority"),
        (queue.ttl.is_some(), "x-message-ttl"),
        (queue.max_length.is_some(), "x-max-length"),
        (queue.max_bytes.is_some(), "x-max-length-bytes"),
    ] {
        if portable && queue.arguments.contains_key(argument) {
            return refused(&format!(
                "`{argument}` is said twice, as an argument and by its portable key; keep one"
            ));
        }
    }
    Ok(())
}

fn kind(queue: &Queue) -> &str {
    queue
        .arguments
        .get("x-queue-type")
        .and_then(HeaderValue::as_text)
        .unwrap_or("classic")
}

/// Whether a queue is to be a quorum queue.
pub(super) fn is_quorum(queue: &Queue) -> bool {
    kind(queue) == "quorum"
}

/// The arguments to declare a queue with; without its dead-letter target where that is left to qctl's consumers alone.
pub(super) fn of_queue(queue: &Queue, dead_letter: bool) -> Result<FieldTable> {
    let mut arguments = table(&queue.arguments)?;
    let number = |value: u64| AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX));
    if let Some(most) = queue.max_priority {
        arguments.insert("x-max-priority".into(), number(most.into()));
    }
    if let Some(ttl) = queue.ttl {
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds(ttl)));
    }
    if let Some(most) = queue.max_length {
        arguments.insert("x-max-length".into(), number(most));
    }
    if let Some(most) = queue.max_bytes {
        arguments.insert("x-max-length-bytes".into(), number(most));
    }
    if (queue.max_length.is_some() || queue.max_bytes.is_some()) && !queue.arguments.contains_key("x-overflow") {
        // RabbitMQ's own choice is to drop the oldest message.
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    }
    if dead_letter
        && adds_dead_letter(queue)
        && let Some(dead) = &queue.dead_letter
    {
        arguments.insert(DEAD_LETTER_EXCHANGE.into(), AMQPValue::LongString("".into()));
        arguments.insert(DEAD_LETTER_KEY.into(), AMQPValue::LongString(dead.as_str().into()));
    }
    Ok(arguments)
}

/// Whether the broker is told of the dead-letter queue although no argument of the configuration says so.
pub(super) fn adds_dead_letter(queue: &Queue) -> bool {
    !queue.as_written && queue.dead_letter.is_some() && !queue.arguments.contains_key(DEAD_LETTER_EXCHANGE)
}
