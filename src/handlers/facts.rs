//! What a worker learns of its message: variables, of a child's environment or of a script's request.

use crate::consumer::handler::Call;
use crate::process::Environment;
use crate::queue::{HeaderValue, Message};
use crate::wire::message::MessageFacts;

/// A longer value would come near the system's limit for one variable (128 KiB): it is left out.
const VALUE_LIMIT: usize = 64 * 1024;

/// What a child is told of a call, as JSON.
pub(super) fn message_facts(call: &Call) -> MessageFacts<'_> {
    MessageFacts::of(&call.message, &call.queue, &call.exchange).delivered(Some(call.attempt), call.deliveries)
}

/// Facts about one message, as variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    variables: Vec<(&'static str, String)>,
}

impl Facts {
    /// `QCTL_QUEUE`, `QCTL_EXCHANGE`, `QCTL_ROUTING_KEY`, `QCTL_MESSAGE_ID`, `QCTL_CONTENT_TYPE`, `QCTL_CORRELATION_ID`,
    /// `QCTL_REPLY_TO`, `QCTL_PRIORITY`, `QCTL_TIMESTAMP` (milliseconds since 1970), `QCTL_ATTEMPT` (failed ones so far) and
    /// `QCTL_DELIVERIES`, each where the message has it; and `TRACEPARENT` and `TRACESTATE` from its headers.
    pub(super) fn of(call: &Call) -> Self {
        let message = &call.message;
        let mut facts = Self::default();
        facts.add("QCTL_QUEUE", Some(call.queue.clone()));
        facts.add("QCTL_EXCHANGE", Some(call.exchange.clone()));
        facts.add("QCTL_ROUTING_KEY", Some(message.routing_key.clone()));
        facts.add("QCTL_MESSAGE_ID", message.id.clone());
        facts.add("QCTL_CONTENT_TYPE", message.content_type.clone());
        facts.add("QCTL_CORRELATION_ID", message.correlation_id.clone());
        facts.add("QCTL_REPLY_TO", message.reply_to.clone());
        facts.add("QCTL_PRIORITY", message.priority.map(|priority| priority.to_string()));
        facts.add(
            "QCTL_TIMESTAMP",
            message.timestamp.map(|timestamp| timestamp.to_string()),
        );
        facts.add("QCTL_ATTEMPT", Some(call.attempt.to_string()));
        facts.add(
            "QCTL_DELIVERIES",
            call.deliveries.map(|deliveries| deliveries.to_string()),
        );
        for (header, value) in trace_headers(message) {
            let variable = if header == "traceparent" {
                "TRACEPARENT"
            } else {
                "TRACESTATE"
            };
            facts.add(variable, Some(value.to_owned()));
        }
        facts
    }

    /// Adds `QCTL_MESSAGE`: all of these facts and the headers as one JSON object. Where that is too long,
    /// `QCTL_MESSAGE_TRUNCATED=1` stands in its place.
    pub(super) fn with_json(mut self, call: &Call) -> Self {
        let text = message_facts(call).to_json();
        if text.len() <= VALUE_LIMIT {
            self.variables.push(("QCTL_MESSAGE", text));
        } else {
            self.variables.push(("QCTL_MESSAGE_TRUNCATED", "1".to_owned()));
        }
        self
    }

    pub(super) fn put_into(&self, environment: &mut Environment) {
        for (name, value) in self.variables() {
            environment.set(name, value);
        }
    }

    /// All of them, names and values.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// What no variable can hold, or what is too long for one, is left out.
    pub(super) fn add(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value.filter(|value| value.len() <= VALUE_LIMIT && !value.contains('\0')) {
            self.variables.push((name, value));
        }
    }
}

/// The headers of W3C's trace context that a message has, where they are what they should be.
pub(super) fn trace_headers(message: &Message) -> impl Iterator<Item = (&'static str, &str)> {
    ["traceparent", "tracestate"].into_iter().filter_map(|header| {
        let value = message.headers.get(header).and_then(HeaderValue::as_text)?;
        let plain = value.len() <= 512 && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        plain.then_some((header, value))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::{Facts, VALUE_LIMIT};
    use crate::consumer::handler::Call;
    use crate::queue::{HeaderValue, Message};

    fn call(message: Message) -> Call {
        Call {
            message,
            queue: "mail".to_owned(),
            exchange: String::new(),
            attempt: 2,
            deliveries: None,
            cancel: CancellationToken::new(),
            patience: None,
            output_wanted: false,
        }
    }

    fn value(facts: &Facts, name: &str) -> Option<String> {
        facts
            .variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
    }

    #[test]
    fn the_message_s_properties_are_variables() {
        let mut message = Message::new("body")
            .with_routing_key("a.b")
            .with_header("traceparent", "00-ab-cd-01");
        message.id = Some("7".to_owned());
        message.correlation_id = Some("nul\0byte".to_owned());
        let facts = Facts::of(&call(message));
        assert_eq!(value(&facts, "QCTL_QUEUE").as_deref(), Some("mail"));
        assert_eq!(value(&facts, "QCTL_EXCHANGE").as_deref(), Some(""));
        assert_eq!(value(&facts, "QCTL_ROUTING_KEY").as_deref(), Some("a.b"));
        assert_eq!(value(&facts, "QCTL_MESSAGE_ID").as_deref(), Some("7"));
        assert_eq!(value(&facts, "QCTL_ATTEMPT").as_deref(), Some("2"));
        assert_eq!(value(&facts, "TRACEPARENT").as_deref(), Some("00-ab-cd-01"));
        for absent in [
            "QCTL_CORRELATION_ID",
            "QCTL_DELIVERIES",
            "QCTL_PRIORITY",
            "QCTL_MESSAGE",
        ] {
            assert_eq!(value(&facts, absent), None, "{absent}");
        }
    }

    #[test]
    fn the_json_holds_the_headers_too() {
        let mut message = Message::new("body").with_header("n", 5);
        message.headers.insert(
            "list".to_owned(),
            HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Bool(true)]),
        );
        let call = call(message);
        let facts = Facts::of(&call).with_json(&call);
        let json: serde_json::Value = serde_json::from_str(&value(&facts, "QCTL_MESSAGE").unwrap()).unwrap();
        assert_eq!(json["headers"], serde_json::json!({"n": 5, "list": [null, true]}));
        assert_eq!(
            (json["queue"].as_str(), json["attempt"].as_u64()),
            (Some("mail"), Some(2))
        );
    }

    #[test]
    fn what_is_too_long_is_left_out_and_told() {
        let call = call(Message::new("").with_header("long", "x".repeat(VALUE_LIMIT)));
        let facts = Facts::of(&call).with_json(&call);
        assert_eq!(value(&facts, "QCTL_MESSAGE"), None);
        assert_eq!(value(&facts, "QCTL_MESSAGE_TRUNCATED").as_deref(), Some("1"));
    }
}
