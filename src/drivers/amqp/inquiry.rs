//! Asking the broker what a queue or an exchange is like. AMQP has no such question: what there is is declared as something
//! else, and the broker's refusal names the first field that differs, with its value. Taken over, the next refusal names the
//! next field.
//!
//! For a queue one argument is always one that no broker can make, so that nothing is made where there is nothing: first its
//! type and, where that turns out to be quorum, what the broker compares last of those. Each question leaves a line in the
//! broker's log; so this is for those who ask, not for those who work.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value};

use super::difference::{CLASSIC, Difference, TYPE};
use super::fault;
use super::link::Link;
use super::properties::short;
use crate::error::Result;

/// A value that no queue has.
const IMPOSSIBLE: &str = "qctl-asks";
const QUORUM: &str = "quorum";
/// The argument of a quorum queue that is compared after all others.
const LAST_OF_QUORUM: &str = "x-queue-leader-locator";
/// More fields than queues and exchanges have.
const MOST_FIELDS: usize = 40;

/// What is declared.
#[derive(Clone, Debug)]
pub(super) enum Declared {
    Queue {
        durable: bool,
        auto_delete: bool,
        exclusive: bool,
    },
    Exchange {
        /// By its name.
        kind: String,
        durable: bool,
        auto_delete: bool,
        internal: bool,
    },
}

/// What was found out.
#[derive(Default)]
pub(super) struct Found {
    /// The fields that differ from what was asked for, in the broker's order.
    pub(super) differences: Vec<Difference>,
    /// A queue's type, once that is known.
    kind: Option<String>,
}

/// Compares a queue or exchange that is there with what is wanted of it.
pub(super) async fn compare(link: &Link, name: &str, wanted: &Declared, arguments: &FieldTable) -> Result<Found> {
    let mut asked = wanted.clone();
    let mut asked_arguments = arguments.clone();
    let mut found = Found::default();
    let mut impossible = matches!(wanted, Declared::Queue { .. }).then_some(TYPE);
    for _ in 0..MOST_FIELDS {
        if let Some(argument) = impossible {
            asked_arguments.insert(argument.into(), AMQPValue::LongString(IMPOSSIBLE.into()));
        }
        let refusal = declare(link, name, &asked, &asked_arguments).await?;
        let Some(mut difference) = refusal.as_deref().and_then(Difference::parse) else {
            break;
        };
        if impossible != Some(difference.field.as_str()) {
            if found.differences.iter().any(|known| known.field == difference.field) {
                // It does not compare as we do.
                break;
            }
            if let Some(wanted) = asked_arguments.inner().get(difference.field.as_str()) {
                difference.is_of_type(wanted);
            }
            let taken_over = take_over(&mut asked, &mut asked_arguments, &difference);
            found.differences.push(difference);
            if taken_over {
                continue;
            }
            break;
        }
        difference.here = text_of(arguments, &difference.field).map_or(Value::Null, Value::String);
        let is_type = impossible == Some(TYPE);
        let plain = |value: &Value| value.as_str().or(is_type.then_some(CLASSIC)).map(str::to_owned);
        let there = plain(&difference.there);
        if is_type {
            found.kind.clone_from(&there);
        }
        if plain(&difference.here) != there {
            found.differences.push(difference);
        }
        if !is_type || there.as_deref() != Some(QUORUM) {
            break;
        }
        asked_arguments.insert(TYPE.into(), AMQPValue::LongString(QUORUM.into()));
        impossible = Some(LAST_OF_QUORUM);
    }
    Ok(found)
}

/// What a queue that is there is like: its fields by the names of AMQP and the arguments it was made with. `None`: the broker
/// does not answer as RabbitMQ does.
pub(super) async fn queue(link: &Link, name: &str) -> Result<Option<Map<String, Value>>> {
    let plain = Declared::Queue {
        durable: true,
        auto_delete: false,
        exclusive: false,
    };
    let found = compare(link, name, &plain, &FieldTable::default()).await?;
    let Some(kind) = found.kind else { return Ok(None) };
    let differences = found.differences.into_iter();
    let mut fields: Map<String, Value> = differences
        .map(|difference| (difference.field, difference.there))
        .collect();
    if kind != CLASSIC {
        fields.insert(TYPE.to_owned(), kind.into());
    }
    Ok(Some(fields))
}

/// Declares; `None`: it is there and just so, else the broker's sentence.
async fn declare(link: &Link, name: &str, asked: &Declared, arguments: &FieldTable) -> Result<Option<String>> {
    let channel = link.channel().await?;
    let result = match asked {
        Declared::Queue {
            durable,
            auto_delete,
            exclusive,
        } => {
            let options = QueueDeclareOptions {
                durable: *durable,
                auto_delete: *auto_delete,
                exclusive: *exclusive,
                ..QueueDeclareOptions::default()
            };
            let name = short("the queue's name", name)?;
            channel.queue_declare(name, options, arguments.clone()).await.map(drop)
        }
        Declared::Exchange {
            kind,
            durable,
            auto_delete,
            internal,
        } => {
            let options = ExchangeDeclareOptions {
                durable: *durable,
                auto_delete: *auto_delete,
                internal: *internal,
                ..ExchangeDeclareOptions::default()
            };
            let name = short("the exchange's name", name)?;
            channel
                .exchange_declare(name, named(kind), options, arguments.clone())
                .await
        }
    };
    match result {
        Ok(()) => {
            let _ = channel.close(200, "done".into()).await;
            Ok(None)
        }
        Err(error) if fault::is_soft(&error, &AMQPSoftError::PRECONDITIONFAILED) => {
            Ok(Some(fault::answer(&error).map(fault::told).unwrap_or_default()))
        }
        Err(error) => Err(fault::refused(&error, link.endpoint(), &format!("`{name}`"))),
    }
}

fn named(kind: &str) -> ExchangeKind {
    match kind {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "topic" => ExchangeKind::Topic,
        "headers" => ExchangeKind::Headers,
        other => ExchangeKind::Custom(other.to_owned()),
    }
}

/// Asks for the broker's value from now on; `false` where it cannot be asked for.
fn take_over(asked: &mut Declared, arguments: &mut FieldTable, difference: &Difference) -> bool {
    let truth = difference.there.as_bool();
    match (difference.field.as_str(), &mut *asked, truth) {
        ("durable", Declared::Queue { durable, .. } | Declared::Exchange { durable, .. }, Some(truth)) => {
            *durable = truth;
        }
        ("auto_delete", Declared::Queue { auto_delete, .. } | Declared::Exchange { auto_delete, .. }, Some(truth)) => {
            *auto_delete = truth;
        }
        ("internal", Declared::Exchange { internal, .. }, Some(truth)) => *internal = truth,
        ("type", Declared::Exchange { kind, .. }, None) => match difference.there.as_str() {
            Some(there) => there.clone_into(kind),
            None => return false,
        },
        ("durable" | "auto_delete" | "internal" | "type" | "exclusive", ..) => return false,
        (argument, ..) => match amqp(&difference.there) {
            Some(value) => {
                arguments.insert(argument.into(), value);
            }
            None => *arguments = without(arguments, argument),
        },
    }
    true
}

/// `None`: not set.
fn amqp(value: &Value) -> Option<AMQPValue> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        other => AMQPValue::LongString(other.to_string().into()),
    })
}

fn without(table: &FieldTable, name: &str) -> FieldTable {
    let mut rest = FieldTable::default();
    for (key, value) in table.inner().iter().filter(|(key, _)| key.as_str() != name) {
        rest.insert(key.clone(), value.clone());
    }
    rest
}

fn text_of(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    }
}
