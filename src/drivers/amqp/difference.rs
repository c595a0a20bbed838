//! In which fields a queue or an exchange that is there is not as wanted.

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value};

use super::documents::{ExchangeDocument, QueueDocument, table};
use super::inquiry::Declared;
use super::properties::headers;
use crate::queue::message;

/// The argument that holds a queue's type.
pub(super) const TYPE: &str = "x-queue-type";
/// What it is where nothing is said.
pub(super) const CLASSIC: &str = "classic";

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
    pub(super) fn parse(said: &str) -> Option<Self> {
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

    /// Where both values are set, the broker names their types no more: they are of this one's.
    pub(super) fn is_of_type(&mut self, wanted: &AMQPValue) {
        let is_text = matches!(wanted, AMQPValue::LongString(_) | AMQPValue::ShortString(_));
        for value in [&mut self.here, &mut self.there] {
            match value {
                Value::Bool(truth) if is_text => *value = truth.to_string().into(),
                Value::String(text) if !is_text => {
                    if let Ok(number) = text.parse::<i64>() {
                        *value = number.into();
                    }
                }
                _ => {}
            }
        }
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

/// The fields of a queue, as the management API tells it, that are not as wanted.
pub(super) fn of_queue(there: &QueueDocument, wanted: &Declared, arguments: &FieldTable) -> Vec<Difference> {
    let Declared::Queue {
        durable,
        auto_delete,
        exclusive,
    } = wanted
    else {
        return Vec::new();
    };
    let mut differences = fields([
        ("durable", (*durable).into(), there.durable.into()),
        ("auto_delete", (*auto_delete).into(), there.auto_delete.into()),
        ("exclusive", (*exclusive).into(), there.exclusive.into()),
    ]);
    let (mut here, mut there_too) = (message::to_json(&headers(arguments)), table(&there.arguments));
    let kind = |arguments: &mut Map<String, Value>| {
        let kind = arguments.remove(TYPE);
        kind.unwrap_or_else(|| CLASSIC.into())
    };
    let wanted_kind = kind(&mut here);
    let named = kind(&mut there_too);
    let kind = there.kind.clone().map_or(named, Value::String);
    differences.extend(fields([(TYPE, wanted_kind, kind)]));
    differences.extend(of_arguments(&here, &there_too));
    differences
}

/// The same of an exchange.
pub(super) fn of_exchange(there: &ExchangeDocument, wanted: &Declared, arguments: &FieldTable) -> Vec<Difference> {
    let Declared::Exchange {
        kind,
        durable,
        auto_delete,
        internal,
    } = wanted
    else {
        return Vec::new();
    };
    let mut differences = fields([
        ("type", kind.clone().into(), there.kind.clone().into()),
        ("durable", (*durable).into(), there.durable.into()),
        ("auto_delete", (*auto_delete).into(), there.auto_delete.into()),
        ("internal", (*internal).into(), there.internal.into()),
    ]);
    let here = message::to_json(&headers(arguments));
    differences.extend(of_arguments(&here, &table(&there.arguments)));
    differences
}

fn of_arguments(here: &Map<String, Value>, there: &Map<String, Value>) -> Vec<Difference> {
    let names = here.keys().chain(there.keys().filter(|name| !here.contains_key(*name)));
    let value = |arguments: &Map<String, Value>, name: &str| arguments.get(name).cloned().unwrap_or_default();
    fields(names.map(|name| (name.as_str(), value(here, name), value(there, name))))
}

fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Value, Value)>) -> Vec<Difference> {
    let differing = fields.into_iter().filter(|(_, here, there)| here != there);
    differing
        .map(|(field, here, there)| Difference {
            field: field.to_owned(),
            here,
            there,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldTable};
    use serde_json::{Value, json};

    use super::{Difference, of_queue};
    use crate::drivers::amqp::documents::QueueDocument;
    use crate::drivers::amqp::inquiry::Declared;

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

    #[test]
    fn all_fields_are_compared_with_what_the_api_tells() {
        let told = |there: Value, kind: &str| {
            let there = QueueDocument {
                durable: true,
                kind: Some(kind.to_owned()),
                arguments: there,
                ..QueueDocument::default()
            };
            let wanted = Declared::Queue {
                durable: false,
                auto_delete: false,
                exclusive: false,
            };
            let mut arguments = FieldTable::default();
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(5));
            let differences = of_queue(&there, &wanted, &arguments);
            differences.iter().map(Difference::told).collect::<Vec<_>>()
        };
        let durable = "`durable` is true there and false here";
        assert_eq!(told(json!({ "x-max-length": 5 }), "classic"), [durable]);
        assert_eq!(
            told(json!([]), "quorum"),
            [
                durable,
                "`x-queue-type` is 'quorum' there and 'classic' here",
                "`x-max-length` is not set there and 5 here"
            ]
        );
    }
}
