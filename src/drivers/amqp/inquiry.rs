//! Asking the broker what a queue or an exchange is like. AMQP has no such question: what there is is declared as something
//! else, and the broker's refusal names the first field that differs, with its value. Taken over, the next refusal names the
//! next field.
//!
//! For a queue one argument is one that no broker can make, so that nothing is made where there is nothing. That leaves a line
//! for each field in the broker's log; so it is for those who ask, not for those who work.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value};

use super::fault;
use super::link::Link;
use super::properties::short;
use crate::error::Result;

/// A type that no queue has.
const NO_TYPE: &str = "qctl-asks";
/// The argument that holds a queue's type.
pub(super) const TYPE: &str = "x-queue-type";
/// More fields than queues and exchanges have.
const MOST_FIELDS: usize = 40;

/// One field that is not as wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) field: String,
    /// As wanted; null: not set.
    pub(super) here: Value,
    /// As it is at the broker; null: not set.
    pub(super) there: Value,
}

impl Difference {
    /// Reads `inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'`.
    fn parse(said: &str) -> Option<Self> {
        let rest = said.strip_prefix("inequivalent arg '")?;
        let (field, rest) = rest.split_once('\'')?;
        let (_, values) = rest.split_once("': received ")?;
        let (here, there) = values.split_once(" but current is ")?;
        Some(Self {
            field: field.to_owned(),
            here: value(here)?,
            there: value(there)?,
        })
    }

    /// For people.
    pub(super) fn told(&self) -> String {
        let plain = |value: &Value| match value {
            Value::Null => "not set".to_owned(),
            Value::String(text) => format!("'{text}'"),
            other => other.to_string(),
        };
        format!(
            "`{}` is {} there and {} here",
            self.field,
            plain(&self.there),
            plain(&self.here)
        )
    }
}

/// A value as the broker spells it: `none`, `'true'` or `the value '5' of type 'long'`.
fn value(said: &str) -> Option<Value> {
    if said == "none" {
        return Some(Value::Null);
    }
    if let Some(rest) = said.strip_prefix("the value '") {
        let (text, kind) = rest.strip_suffix('\'')?.rsplit_once("' of type '")?;
        return Some(match kind {
            "bool" => Value::Bool(text == "true"),
            "double" | "float" => text.parse::<f64>().ok().map_or_else(|| text.into(), Value::from),
            "longstr" | "binary" => text.into(),
            _ => text.parse::<i64>().ok().map_or_else(|| text.into(), Value::from),
        });
    }
    let text = said.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(text.parse::<bool>().map_or_else(|_| text.into(), Value::Bool))
}

/// What is declared.
#[derive(Clone, Debug)]
pub(super) enum Declared {
    Queue {
        durable: bool,
        auto_delete: bool,
        exclusive: bool,
    },
    Exchange {
        kind: ExchangeKind,
        durable: bool,
        auto_delete: bool,
        internal: bool,
    },
}

/// What was found out.
pub(super) struct Found {
    /// The fields that differ from what was asked for, in the broker's order.
    pub(super) differences: Vec<Difference>,
    /// All of them are known.
    pub(super) complete: bool,
}

/// Compares a queue or exchange that is there with what is wanted of it.
pub(super) async fn compare(link: &Link, name: &str, wanted: &Declared, arguments: &FieldTable) -> Result<Found> {
    let mut asked = wanted.clone();
    let mut arguments = arguments.clone();
    let is_queue = matches!(wanted, Declared::Queue { .. });
    let wanted_type = text_of(&arguments, TYPE);
    if is_queue {
        arguments.insert(TYPE.into(), AMQPValue::LongString(NO_TYPE.into()));
    }
    let mut found = Found {
        differences: Vec::new(),
        complete: false,
    };
    for _ in 0..MOST_FIELDS {
        let Some(refusal) = declare(link, name, &asked, &arguments).await? else {
            found.complete = true;
            break;
        };
        let Some(mut difference) = Difference::parse(&refusal) else {
            break;
        };
        if is_queue && difference.field == TYPE {
            difference.here = wanted_type.clone().map_or(Value::Null, Value::String);
            let kind = |value: &Value| value.as_str().unwrap_or("classic").to_owned();
            if kind(&difference.here) != kind(&difference.there) {
                found.differences.push(difference);
            }
            found.complete = true;
            break;
        }
        let taken_over = take_over(&mut asked, &mut arguments, &difference);
        found.differences.push(difference);
        if !taken_over {
            break;
        }
    }
    Ok(found)
}

/// What a queue that is there is like: its fields by the names of AMQP and the arguments it was made with.
pub(super) async fn queue(link: &Link, name: &str) -> Result<Option<Map<String, Value>>> {
    // A type that is not the classic one nor any other is different from every queue's, so it is always told.
    let mut arguments = FieldTable::default();
    arguments.insert(TYPE.into(), AMQPValue::LongString(NO_TYPE.into()));
    let plain = Declared::Queue {
        durable: true,
        auto_delete: false,
        exclusive: false,
    };
    let found = compare(link, name, &plain, &arguments).await?;
    Ok(found.complete.then(|| {
        found
            .differences
            .into_iter()
            .map(|difference| (difference.field, difference.there))
            .collect()
    }))
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
                .exchange_declare(name, kind.clone(), options, arguments.clone())
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
            Some("direct") => *kind = ExchangeKind::Direct,
            Some("fanout") => *kind = ExchangeKind::Fanout,
            Some("topic") => *kind = ExchangeKind::Topic,
            Some("headers") => *kind = ExchangeKind::Headers,
            Some(other) => *kind = ExchangeKind::Custom(other.to_owned()),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Difference;

    #[test]
    fn the_broker_s_sentence_is_read() {
        for (said, here, there) in [
            ("received 'false' but current is 'true'", json!(false), json!(true)),
            (
                "received 'topic' but current is 'direct'",
                json!("topic"),
                json!("direct"),
            ),
            (
                "received none but current is the value '5' of type 'signedint'",
                Value::Null,
                json!(5),
            ),
            (
                "received the value 'it's' of type 'longstr' but current is none",
                json!("it's"),
                Value::Null,
            ),
            (
                "received the value '' of type 'longstr' but current is the value 'true' of type 'bool'",
                json!(""),
                json!(true),
            ),
        ] {
            let sentence = format!("inequivalent arg 'f' for queue 'q' in vhost '/': {said}");
            let read = Difference::parse(&sentence).expect(said);
            assert_eq!(
                (read.field.as_str(), read.here, read.there),
                ("f", here, there),
                "{said}"
            );
        }
        for cut in [
            "",
            "inequivalent arg 'f' for queue 'q",
            "invalid arg 'x-expires' for queue 'q'",
        ] {
            assert_eq!(Difference::parse(cut), None, "{cut}");
        }
    }

    #[test]
    fn a_difference_is_told_by_its_field() {
        let told = |here, there| {
            let field = "x-max-length".to_owned();
            Difference { field, here, there }.told()
        };
        assert_eq!(
            told(Value::Null, json!(5)),
            "`x-max-length` is 5 there and not set here"
        );
        assert_eq!(
            told(json!("a"), json!(true)),
            "`x-max-length` is true there and 'a' here"
        );
    }
}
