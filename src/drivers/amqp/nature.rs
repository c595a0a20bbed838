//! What a queue is like: its kind, the arguments it was made with, and the limits that are in force for it.

use std::fmt;

use serde_json::{Map, Value};

use super::arguments;
use super::connection::AmqpConnection;
use super::difference::TYPE;
use super::documents::{QueueDocument, table};
use super::inquiry;
use super::management::Version;
use super::properties::headers;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Queue, message};

/// From RabbitMQ 4.0 on, a quorum queue without a delivery limit of its own has this one.
const DEFAULT_DELIVERY_LIMIT: i64 = 20;

/// The kinds of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Classic,
    Quorum,
    Stream,
}

impl Kind {
    fn named(name: Option<&str>) -> Self {
        match name {
            Some("quorum") => Self::Quorum,
            Some("stream") => Self::Stream,
            _ => Self::Classic,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        })
    }
}

/// Where the broker puts what a queue gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeadLetterTarget {
    Nowhere,
    Queue(String),
    Exchange(String),
}

/// What is known of a queue.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    pub(super) kind: Kind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) exclusive: bool,
    /// The arguments that it was made with.
    pub(super) arguments: Map<String, Value>,
    /// The policy that is in force, and what all that are say together; only the management API tells.
    pub(super) policy: Option<String>,
    definition: Map<String, Value>,
    /// The broker limits deliveries where nothing is said of it.
    limits_deliveries: bool,
}

impl Nature {
    /// By the management API, else as it was declared over this connection, else by asking the broker; `None` where none of
    /// them tells.
    pub(super) async fn of(connection: &AmqpConnection, queue: &str) -> Result<Option<Self>> {
        if let Some(told) = Self::by_management(connection, queue).await {
            return Ok(Some(told));
        }
        if let Some(known) = connection.known(queue).filter(|known| !known.passive) {
            return Self::declared(&known).map(Some);
        }
        Self::by_asking(connection, queue).await
    }

    /// As `of`, but the broker is asked before what was declared is believed: a vhost may have a default type of its own.
    pub(super) async fn exactly(connection: &AmqpConnection, queue: &str) -> Result<Option<Self>> {
        match Self::by_management(connection, queue).await {
            Some(told) => Ok(Some(told)),
            None => Self::by_asking(connection, queue).await,
        }
    }

    async fn by_management(connection: &AmqpConnection, queue: &str) -> Option<Self> {
        let document = connection.management.queue(queue).await?;
        Some(Self::told(&document, connection.management.version().await))
    }

    async fn by_asking(connection: &AmqpConnection, queue: &str) -> Result<Option<Self>> {
        match inquiry::queue(&connection.link, queue).await {
            Ok(asked) => Ok(asked.map(Self::asked)),
            Err(error) if error.kind() == ErrorKind::NotAllowed => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As the management API tells it.
    pub(super) fn told(document: &QueueDocument, version: Option<Version>) -> Self {
        let arguments = table(&document.arguments);
        let kind = document.kind.as_deref();
        Self {
            kind: Kind::named(kind.or_else(|| arguments.get(TYPE).and_then(Value::as_str))),
            durable: document.durable,
            auto_delete: document.auto_delete,
            exclusive: document.exclusive,
            policy: document.policy.clone().filter(|policy| !policy.is_empty()),
            definition: table(&document.effective_policy_definition),
            limits_deliveries: version.is_some_and(|version| version >= Version(4, 0)),
            arguments,
        }
    }

    /// As it was declared.
    pub(super) fn declared(queue: &Queue) -> Result<Self> {
        let arguments = message::to_json(&headers(&arguments::of_queue(queue, true)?));
        Ok(Self {
            kind: Kind::named(arguments.get(TYPE).and_then(Value::as_str)),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            exclusive: queue.exclusive,
            policy: None,
            definition: Map::new(),
            limits_deliveries: false,
            arguments,
        })
    }

    /// As the broker has answered.
    fn asked(mut fields: Map<String, Value>) -> Self {
        let truth = |value: Option<Value>, usually: bool| value.and_then(|value| value.as_bool()).unwrap_or(usually);
        let durable = truth(fields.remove("durable"), true);
        let auto_delete = truth(fields.remove("auto_delete"), false);
        let exclusive = truth(fields.remove("exclusive"), false);
        fields.retain(|_, value| !value.is_null());
        Self {
            kind: Kind::named(fields.get(TYPE).and_then(Value::as_str)),
            durable,
            auto_delete,
            exclusive,
            policy: None,
            definition: Map::new(),
            limits_deliveries: false,
            arguments: fields,
        }
    }

    /// A limit in force: of argument and policy the lower one.
    pub(super) fn limit(&self, argument: &str) -> Option<i64> {
        let policy = argument.trim_start_matches("x-");
        let by_argument = self.arguments.get(argument).and_then(Value::as_i64);
        let by_policy = self.definition.get(policy).and_then(Value::as_i64);
        by_argument.into_iter().chain(by_policy).min()
    }

    /// A choice in force: the argument's, else the policy's.
    pub(super) fn choice(&self, argument: &str) -> Option<&str> {
        let policy = argument.trim_start_matches("x-");
        let value = self.arguments.get(argument).or_else(|| self.definition.get(policy));
        value.and_then(Value::as_str)
    }

    /// How often the broker hands out a message again before it gives it up; `None`: for ever, or it is not known.
    pub(super) fn delivery_limit(&self) -> Option<u64> {
        if self.kind != Kind::Quorum {
            return None;
        }
        let usual = self.limits_deliveries.then_some(DEFAULT_DELIVERY_LIMIT);
        // A negative limit is none.
        self.limit("x-delivery-limit").or(usual)?.try_into().ok()
    }

    /// Whether it refuses what comes while it is full. What it drops instead is another message, which is dead-lettered.
    pub(super) fn refuses(&self) -> bool {
        let limited = ["x-max-length", "x-max-length-bytes"];
        limited.iter().any(|limit| self.limit(limit).is_some()) && self.choice("x-overflow").is_some_and(is_refusal)
    }

    /// Where the broker puts what it gives up.
    pub(super) fn dead_letter(&self) -> DeadLetterTarget {
        match (
            self.choice("x-dead-letter-exchange"),
            self.choice("x-dead-letter-routing-key"),
        ) {
            (Some(""), Some(queue)) => DeadLetterTarget::Queue(queue.to_owned()),
            (Some(exchange), _) => DeadLetterTarget::Exchange(exchange.to_owned()),
            (None, _) => DeadLetterTarget::Nowhere,
        }
    }
}

/// Whether a queue with this `overflow` refuses what comes while it is full.
pub(super) fn is_refusal(overflow: &str) -> bool {
    overflow.starts_with("reject-publish")
}

/// Refuses a queue whose broker would give a message up before its consumer does, or give it up to nowhere.
pub(super) fn check_deliveries(queue: &str, nature: &Nature, most_deliveries: Option<u32>) -> Result<()> {
    let Some(limit) = nature.delivery_limit() else {
        return Ok(());
    };
    if nature.dead_letter() == DeadLetterTarget::Nowhere {
        return Err(Error::config(format!(
            "queue `{queue}` has the delivery limit {limit} and no dead-letter target, so a message that is handed out again \
             more often is lost; give it `dead_letter`, or dead-letter-exchange by a policy"
        )));
    }
    let consumer = match most_deliveries {
        Some(most) if u64::from(most) <= limit => return Ok(()),
        Some(most) => format!("gives a message up only after {most} deliveries"),
        None => "never gives a message up".to_owned(),
    };
    Err(Error::config(format!(
        "queue `{queue}` has the delivery limit {limit}, and its consumer {consumer} \
         (`retry: deliveries`), so the broker would take it away unhandled; set `retry: {{ deliveries: {limit} }}` or less, or \
         raise x-delivery-limit"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::{DeadLetterTarget, Nature, check_deliveries};
    use crate::drivers::amqp::{documents::QueueDocument, management::Version};

    fn nature(kind: &str, arguments: Value, policy: Value, version: Version) -> Nature {
        let document = QueueDocument {
            kind: Some(kind.to_owned()),
            arguments,
            effective_policy_definition: policy,
            ..QueueDocument::default()
        };
        Nature::told(&document, Some(version))
    }

    #[test]
    fn the_lower_limit_is_in_force() {
        let limit =
            |arguments: Value, policy: Value, version| nature("quorum", arguments, policy, version).delivery_limit();
        let (old, new) = (Version(3, 10), Version(4, 0));
        assert_eq!(limit(json!([]), json!([]), old), None);
        assert_eq!(limit(json!([]), json!([]), new), Some(20));
        assert_eq!(limit(json!({"x-delivery-limit": 5}), json!({}), new), Some(5));
        assert_eq!(
            limit(json!({"x-delivery-limit": 5}), json!({"delivery-limit": 3}), old),
            Some(3)
        );
        assert_eq!(limit(json!({"x-delivery-limit": -1}), json!({}), new), None);
        let classic = nature("classic", json!({"x-delivery-limit": 5}), json!({}), new);
        assert_eq!(classic.delivery_limit(), None, "a classic queue counts nothing");
    }

    #[test]
    fn a_queue_that_loses_messages_is_refused() {
        let check = |kind: &str, arguments: Value, most: Option<u32>| {
            let nature = nature(kind, arguments, json!({}), Version(3, 10));
            check_deliveries("q", &nature, most).map_err(|error| error.to_string())
        };
        let limited = |limit: i64| json!({ "x-delivery-limit": limit, "x-dead-letter-exchange": "" });
        assert_eq!(check("quorum", limited(10), Some(10)), Ok(()));
        assert_eq!(
            check("quorum", json!({}), None),
            Ok(()),
            "without a limit nothing is given up"
        );
        assert_eq!(check("classic", json!({ "x-delivery-limit": 1 }), Some(10)), Ok(()));
        let low = check("quorum", limited(3), Some(10)).unwrap_err();
        assert!(low.contains("limit 3") && low.contains("after 10"), "{low}");
        assert!(check("quorum", limited(3), None).unwrap_err().contains("never"));
        let nowhere = check("quorum", json!({ "x-delivery-limit": 50 }), Some(10)).unwrap_err();
        assert!(nowhere.contains("no dead-letter target"), "{nowhere}");
    }

    #[test]
    fn the_argument_says_where_dead_letters_go_before_the_policy() {
        let target =
            |arguments: Value, policy: Value| nature("classic", arguments, policy, Version(3, 10)).dead_letter();
        let by_policy = json!({"dead-letter-exchange": "graves"});
        assert_eq!(target(json!({}), json!([])), DeadLetterTarget::Nowhere);
        assert_eq!(
            target(json!({}), by_policy.clone()),
            DeadLetterTarget::Exchange("graves".to_owned())
        );
        assert_eq!(
            target(
                json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q.dead"}),
                by_policy
            ),
            DeadLetterTarget::Queue("q.dead".to_owned())
        );
    }
}
