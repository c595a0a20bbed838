//! Messages as AMQP properties and back. What qctl adds rides in headers `x-qctl-*`, which other programs ignore.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::SPEC_NAME;
use super::ladder;
use crate::error::{Error, Result};
use crate::queue::message::header;
use crate::queue::{HeaderValue, Headers, Message};

/// Where a message was first published, on copies that go round by the default exchange.
const EXCHANGE: &str = "x-qctl-exchange";
/// The key it was first published with.
const ROUTING_KEY: &str = "x-qctl-routing-key";
/// The queue whose failures and deliveries the counts are: a dead letter keeps them for those who look, and starts anew.
const COUNTED_IN: &str = "x-qctl-queue";
/// The message comes back after its consumer has died.
const SUSPECT: &str = "x-qctl-suspect";
/// When it was published, to the millisecond; AMQP's own property has seconds.
const TIMESTAMP: &str = "x-qctl-timestamp";
/// Until when it is held back, in milliseconds since 1970, where that is longer than the longest rung.
const DUE: &str = "x-qctl-due";

/// Headers that steer this driver and are nobody else's: a copy carries those that are true of it.
const OWN: &[&str] = &[
    EXCHANGE,
    ROUTING_KEY,
    COUNTED_IN,
    SUSPECT,
    TIMESTAMP,
    DUE,
    header::DELIVERIES,
];
/// What RabbitMQ adds when it dead-letters, and what it routes by beside the routing key. A copy is a new message: it must be
/// neither taken for one that goes in circles nor sent to others.
const OF_THE_BROKER: &[&str] = &[
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
    "CC",
    "BCC",
];

/// The headers without which a copy is not what it is made for.
pub(super) fn is_needed(name: &str) -> bool {
    const NEEDED: &[&str] = &[
        header::ATTEMPT,
        header::EXPIRES_AT,
        header::MAX_ATTEMPTS,
        header::REASON,
        header::DEAD_QUEUE,
        header::SIGNATURE,
    ];
    OWN.contains(&name) || NEEDED.contains(&name)
}

/// Persistent, as AMQP spells it.
const PERSISTENT: u8 = 2;
/// AMQP's limit for names and short properties.
const SHORT: usize = 255;

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A name or key as AMQP carries it.
pub(super) fn short(what: &str, text: impl Into<String>) -> Result<ShortString> {
    let text = text.into();
    let length = text.len();
    ShortString::try_new(text).map_err(|_| {
        Error::bad_input(format!(
            "{what} has {length} bytes, and AMQP carries {SHORT}; make it shorter"
        ))
    })
}

/// The properties of a message that is published for the first time.
pub(super) fn of_message(message: &Message) -> Result<BasicProperties> {
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(content_type) = &message.content_type {
        properties = properties.with_content_type(short("the content type", content_type)?);
    }
    if let Some(id) = &message.id {
        properties = properties.with_message_id(short("the message id", id)?);
    }
    if let Some(id) = &message.correlation_id {
        properties = properties.with_correlation_id(short("the correlation id", id)?);
    }
    if let Some(reply_to) = &message.reply_to {
        properties = properties.with_reply_to(short("reply-to", reply_to)?);
    }
    if let Some(priority) = message.priority {
        properties = properties.with_priority(priority);
    }
    let mut headers = table(&message.headers)?;
    if let Some(timestamp) = message.timestamp {
        properties = properties.with_timestamp(u64::try_from(timestamp / 1000).unwrap_or(0));
        if timestamp % 1000 != 0 {
            headers.insert(TIMESTAMP.into(), AMQPValue::LongLongInt(timestamp));
        }
    }
    if let Some(ttl) = message.ttl {
        let milliseconds = ladder::milliseconds(ttl);
        properties = properties.with_expiration(milliseconds.to_string().into());
        headers.insert(
            header::EXPIRES_AT.into(),
            AMQPValue::LongLongInt(now().saturating_add(milliseconds)),
        );
    }
    Ok(if headers.inner().is_empty() {
        properties
    } else {
        properties.with_headers(headers)
    })
}

/// What a delivery says beside its body.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The exchange it was first published to.
    pub(super) exchange: String,
    /// Failed attempts in this queue.
    pub(super) attempt: u32,
    /// Earlier deliveries from this queue.
    pub(super) deliveries: u32,
    /// Its consumer died under it.
    pub(super) suspect: bool,
    /// The broker's own count of deliveries before this one (quorum queues).
    pub(super) native_count: Option<u32>,
    /// When it stops being worth delivering.
    pub(super) expires_at: Option<i64>,
    /// It is to be held back until then.
    pub(super) due: Option<i64>,
}

/// The message and the facts of a delivery from `queue`.
pub(super) fn to_message(
    properties: &BasicProperties,
    exchange: &str,
    routing_key: &str,
    queue: &str,
    body: Vec<u8>,
) -> (Message, Facts) {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let mut headers = properties.headers().as_ref().map(headers).unwrap_or_default();
    let died = Death::read(&headers);
    let take_int = |headers: &mut Headers, name: &str| headers.remove(name).and_then(|value| value.as_int());
    let take_text = |headers: &mut Headers, name: &str| match headers.remove(name) {
        Some(HeaderValue::Text(text)) => Some(text),
        _ => None,
    };
    let dead_letter = headers.contains_key(header::DEAD_QUEUE) || died.is_some();
    let counted_in = take_text(&mut headers, COUNTED_IN);
    let counts = match counted_in.as_deref() {
        Some(counted) => counted == queue,
        None => !dead_letter,
    };
    let count = |value: Option<i64>| value.filter(|_| counts).and_then(|count| u32::try_from(count).ok());
    let attempt = headers.get(header::ATTEMPT).and_then(HeaderValue::as_int);
    if counts {
        headers.remove(header::ATTEMPT);
    }
    let mut facts = Facts {
        exchange: exchange.to_owned(),
        attempt: count(attempt).unwrap_or(0),
        deliveries: count(take_int(&mut headers, header::DELIVERIES)).unwrap_or(0),
        suspect: headers.remove(SUSPECT).is_some(),
        native_count: take_int(&mut headers, "x-delivery-count").and_then(|count| u32::try_from(count).ok()),
        expires_at: headers
            .get(header::EXPIRES_AT)
            .and_then(HeaderValue::as_int)
            // What was given up is kept until somebody looks at it.
            .filter(|_| !dead_letter),
        due: take_int(&mut headers, DUE),
    };
    let mut routing_key = routing_key.to_owned();
    // Only what came by the default exchange to this very queue can have been somewhere else before.
    let went_round = exchange.is_empty() && routing_key == queue;
    let origin = (take_text(&mut headers, EXCHANGE), take_text(&mut headers, ROUTING_KEY));
    match (origin, &died) {
        ((None, None), Some(death)) if went_round => {
            facts.exchange.clone_from(&death.exchange);
            routing_key.clone_from(&death.routing_key);
        }
        ((first, key), _) if went_round => {
            facts.exchange = first.unwrap_or_default();
            routing_key = key.unwrap_or(routing_key);
        }
        _ => {}
    }
    if let Some(death) = died {
        death.tell(&mut headers);
    } else if ladder::went_through(&headers) {
        for name in OF_THE_BROKER {
            headers.remove(*name);
        }
    }
    let timestamp = take_int(&mut headers, TIMESTAMP).or_else(|| {
        properties
            .timestamp()
            .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1000))
    });
    let message = Message {
        body,
        content_type: text(properties.content_type()),
        routing_key,
        id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        priority: *properties.priority(),
        ttl: properties
            .expiration()
            .as_ref()
            .and_then(|text| text.as_str().parse().ok())
            .map(Duration::from_millis),
        delay: None,
        timestamp,
        headers,
    };
    (message, facts)
}

/// Why and from where RabbitMQ itself moved a message to a dead-letter queue.
struct Death {
    queue: String,
    exchange: String,
    routing_key: String,
    reason: String,
    time: Option<i64>,
}

impl Death {
    /// The latest move that was not one of our own delay queues giving a message back.
    fn read(headers: &Headers) -> Option<Self> {
        let Some(HeaderValue::List(deaths)) = headers.get("x-death") else {
            return None;
        };
        let tables = deaths.iter().filter_map(|death| match death {
            HeaderValue::Table(table) => Some(table),
            _ => None,
        });
        let text = |table: &Headers, key: &str| {
            table
                .get(key)
                .and_then(HeaderValue::as_text)
                .unwrap_or_default()
                .to_owned()
        };
        let table = tables
            .into_iter()
            .find(|table| !ladder::is_rung(&text(table, "queue")))?;
        let routing_key = match table.get("routing-keys") {
            Some(HeaderValue::List(keys)) => keys
                .first()
                .and_then(HeaderValue::as_text)
                .unwrap_or_default()
                .to_owned(),
            _ => String::new(),
        };
        Some(Self {
            queue: text(table, "queue"),
            exchange: text(table, "exchange"),
            routing_key,
            reason: text(table, "reason"),
            time: table.get("time").and_then(HeaderValue::as_int),
        })
    }

    /// Says it in the words of our own dead letters, unless one of those was there first.
    fn tell(&self, headers: &mut Headers) {
        let mut add = |name: &str, value: HeaderValue| {
            headers.entry(name.to_owned()).or_insert(value);
        };
        add(header::REASON, self.reason.as_str().into());
        add(header::DEAD_QUEUE, self.queue.as_str().into());
        if let Some(time) = self.time {
            add(header::DEAD_AT, time.saturating_mul(1000).into());
        }
    }
}

/// What a copy says that its original did not.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Headers set on the copy.
    pub(super) set: Headers,
    /// Failed attempts and earlier deliveries, counted in this queue.
    pub(super) counts: Option<(String, u32, u32)>,
    /// Its consumer died under it.
    pub(super) suspect: bool,
    /// It is held back until then.
    pub(super) due: Option<i64>,
    /// It stays as long as it takes: the ttl of its publication is over, or is kept by its absolute time alone.
    pub(super) keep_expiration: bool,
    /// Of qctl's own nothing is left on it but where it was first published: it is as fresh as new.
    pub(super) fresh: bool,
}

/// The properties of a copy that goes round by the default exchange. Everything else is byte for byte the original's.
pub(super) fn of_copy(
    original: &BasicProperties,
    exchange: &str,
    routing_key: &str,
    changes: &Changes,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    if let Some(old) = original.headers() {
        for (name, value) in old.inner() {
            let name_text = name.as_str();
            let own = OWN.contains(&name_text)
                || changes.fresh && name_text.starts_with("x-qctl-") && name_text != header::SIGNATURE;
            if (!own || name_text == TIMESTAMP) && !OF_THE_BROKER.contains(&name_text) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    let mut set = |name: &str, value: AMQPValue| {
        headers.insert(name.into(), value);
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    if !exchange.is_empty() {
        set(EXCHANGE, text(exchange));
    }
    if !routing_key.is_empty() {
        set(ROUTING_KEY, text(routing_key));
    }
    if let Some((queue, attempt, deliveries)) = &changes.counts {
        set(COUNTED_IN, text(queue));
        set(header::ATTEMPT, AMQPValue::LongLongInt(i64::from(*attempt)));
        set(header::DELIVERIES, AMQPValue::LongLongInt(i64::from(*deliveries)));
    }
    if changes.suspect {
        set(SUSPECT, AMQPValue::Boolean(true));
    }
    if let Some(due) = changes.due {
        set(DUE, AMQPValue::LongLongInt(due));
    }
    for (name, header) in &changes.set {
        // A header that was made here is never too long.
        headers.insert(name.as_str().into(), value(header));
    }
    let mut copy = original.clone().with_headers(headers).with_delivery_mode(PERSISTENT);
    let expiration = copy.expiration().clone().filter(|_| changes.keep_expiration);
    copy = carried(copy);
    match expiration {
        Some(expiration) => copy.with_expiration(expiration),
        None => copy,
    }
}

/// The client library can set a property and not remove it: everything is carried over but the expiration, and the user, which
/// the broker takes from nobody but that user.
fn carried(full: BasicProperties) -> BasicProperties {
    if full.expiration().is_none() && full.user_id().is_none() {
        return full;
    }
    let mut bare = BasicProperties::default();
    macro_rules! carry {
        ($($get:ident $with:ident;)*) => {
            $(if let Some(value) = full.$get().clone() { bare = bare.$with(value); })*
        };
    }
    carry! {
        content_type with_content_type;
        content_encoding with_content_encoding;
        headers with_headers;
        delivery_mode with_delivery_mode;
        priority with_priority;
        correlation_id with_correlation_id;
        reply_to with_reply_to;
        message_id with_message_id;
        timestamp with_timestamp;
        kind with_type;
        app_id with_app_id;
        cluster_id with_cluster_id;
    }
    bare
}

/// Headers as an AMQP table.
pub(super) fn table(headers: &Headers) -> Result<FieldTable> {
    let mut table = FieldTable::default();
    for (name, header) in headers {
        table.insert(short(&format!("the header name {name:.40}…"), name)?, checked(header)?);
    }
    Ok(table)
}

/// A value whose names within fit.
fn checked(header: &HeaderValue) -> Result<AMQPValue> {
    Ok(match header {
        HeaderValue::List(list) => {
            let values: Vec<AMQPValue> = list.iter().map(checked).collect::<Result<_>>()?;
            AMQPValue::FieldArray(values.into())
        }
        HeaderValue::Table(inner) => AMQPValue::FieldTable(table(inner)?),
        HeaderValue::Time(time) => AMQPValue::Timestamp(u64::try_from(*time).map_err(|_| {
            Error::bad_input(format!(
                "{SPEC_NAME} carries no time before 1970 in a header, and {time} is one"
            ))
        })?),
        other => value(other),
    })
}

fn value(header: &HeaderValue) -> AMQPValue {
    match header {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Int(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::Float(value) => AMQPValue::Double(*value),
        HeaderValue::Text(value) => AMQPValue::LongString(value.as_str().into()),
        HeaderValue::Bytes(value) => AMQPValue::ByteArray(value.clone().into()),
        HeaderValue::Time(value) => AMQPValue::Timestamp(u64::try_from(*value).unwrap_or(0)),
        HeaderValue::List(list) => AMQPValue::FieldArray(list.iter().map(value).collect::<Vec<_>>().into()),
        HeaderValue::Table(inner) => {
            let mut table = FieldTable::default();
            for (name, inner) in inner {
                if let Ok(name) = ShortString::try_new(name.as_str()) {
                    table.insert(name, value(inner));
                }
            }
            AMQPValue::FieldTable(table)
        }
    }
}

/// An AMQP table as headers.
pub(super) fn headers(table: &FieldTable) -> Headers {
    table
        .inner()
        .iter()
        .map(|(name, value)| (name.to_string(), header_value(value)))
        .collect()
}

fn header_value(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::Void => HeaderValue::Null,
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongLongInt(value) => HeaderValue::Int(*value),
        AMQPValue::Float(value) => HeaderValue::Float((*value).into()),
        AMQPValue::Double(value) => HeaderValue::Float(*value),
        AMQPValue::DecimalValue(value) => {
            HeaderValue::Float(f64::from(value.value) / 10_f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(value) => HeaderValue::Text(value.to_string()),
        AMQPValue::LongString(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Bytes(value.as_bytes().to_vec()),
        },
        AMQPValue::FieldArray(values) => HeaderValue::List(values.as_slice().iter().map(header_value).collect()),
        AMQPValue::Timestamp(value) => HeaderValue::Time(i64::try_from(*value).unwrap_or(i64::MAX)),
        AMQPValue::FieldTable(table) => HeaderValue::Table(headers(table)),
        AMQPValue::ByteArray(value) => HeaderValue::Bytes(value.as_slice().to_vec()),
    }
}
