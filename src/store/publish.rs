//! Messages come in: routed, limited, stored.

use std::sync::Arc;

use rusqlite::params;

use super::schema::{DELAYED, INLINE_BODY, READY};
use super::topology::{QueueRow, milliseconds};
use super::writer::Tx;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::topology::usual_dead_letter;
use crate::queue::{Headers, Message, Publication, Queue};

/// How publishing behaves in this store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishRules {
    /// A queue comes into being when it is named.
    pub(crate) implicit_queues: bool,
    /// The largest body.
    pub(crate) max_body: u64,
    /// For how long an id chosen by the sender is remembered, in milliseconds.
    pub(crate) deduplication: i64,
}

const INSERT: &str = "INSERT INTO message(
    queue, state, rank, due, expires, published, exchange, routing_key, message_id, content_type, correlation_id,
    reply_to, priority, timestamp, headers, size, body_ref, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

/// How the names of temporary queues begin. No queue of such a name comes into being by being named: its owner has gone.
pub(crate) const REPLY_QUEUE: &str = "qctl.reply.";

/// Room left in a queue with limits, counted once a transaction.
struct Room {
    queue: i64,
    messages: u64,
    bytes: u64,
}

/// Stores a batch in order, each message in all queues it is routed to, or, on a failure, tells which were not stored.
///
/// A failure of one message (no route, a full queue) leaves the others in; a failure of the store fails the transaction.
pub(crate) fn publish(tx: &mut Tx<'_>, batch: &[Publication], rules: PublishRules) -> Result<Vec<(usize, Error)>> {
    let mut failed = Vec::new();
    let mut room = Vec::new();
    for (index, publication) in batch.iter().enumerate() {
        match publish_one(tx, publication, rules, &mut room) {
            Ok(()) => {}
            Err(error) if refused(&error) => failed.push((index, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// Failures that concern one message and are found before anything of it is written.
fn refused(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BadInput | ErrorKind::NotFound | ErrorKind::Unroutable
    ) || error.kind() == ErrorKind::Temporary && error.message().starts_with(FULL)
}

const FULL: &str = "full: ";

fn publish_one(tx: &mut Tx<'_>, publication: &Publication, rules: PublishRules, room: &mut Vec<Room>) -> Result<()> {
    let message = &publication.message;
    if message.body.len() as u64 > rules.max_body {
        return Err(Error::bad_input(format!(
            "the body has {} bytes, more than `max_body` of {}; send a reference to the data, or raise `max_body` of the connection",
            message.body.len(),
            rules.max_body
        )));
    }
    let mut targets = tx.route(&publication.exchange, &message.routing_key)?;
    if targets.is_empty()
        && publication.exchange.is_empty()
        && rules.implicit_queues
        && may_appear(&message.routing_key)
    {
        tx.insert_queue(&implicit_queue(&message.routing_key), None)?;
        if let Some(queue) = tx.queue(&message.routing_key)?
            && let Some(dead) = queue.dead_letter.as_deref()
            && tx.queue(dead)?.is_none()
        {
            tx.insert_queue(
                &Queue {
                    name: dead.to_owned(),
                    ..Queue::default()
                },
                None,
            )?;
        }
        targets = tx.route(&publication.exchange, &message.routing_key)?;
    }
    if targets.is_empty() {
        return Err(unroutable(&publication.exchange, &message.routing_key));
    }
    if publication.deduplicate && !remember(tx, publication, rules.deduplication)? {
        return Ok(());
    }
    for queue in targets.iter() {
        check_room(tx, queue, message.body.len() as u64, room)?;
    }
    insert(tx, &publication.exchange, message, &targets)
}

/// The queue that exists as soon as it is named.
pub(crate) fn implicit_queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        durable: true,
        dead_letter: usual_dead_letter(name),
        ..Queue::default()
    }
}

fn may_appear(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(REPLY_QUEUE)
}

fn unroutable(exchange: &str, routing_key: &str) -> Error {
    Error::new(
        ErrorKind::Unroutable,
        if exchange.is_empty() {
            format!("no queue `{routing_key}`; a consumer makes it, or `qctl managequeue declare {routing_key}`")
        } else {
            format!(
                "no queue is bound to exchange `{exchange}` with a key that matches `{routing_key}`; bind one in a consumer's `queue: bindings`"
            )
        },
    )
}

/// Remembers the id; false if it was seen within the window.
fn remember(tx: &mut Tx<'_>, publication: &Publication, window: i64) -> Result<bool> {
    let Some(id) = &publication.message.id else {
        return Ok(true);
    };
    let key = format!("{}\n{}\n{id}", publication.exchange, publication.message.routing_key);
    tx.execute(
        "DELETE FROM seen WHERE key IN (SELECT key FROM seen WHERE until <= ?1 LIMIT 16)",
        [tx.now],
    )?;
    tx.execute("DELETE FROM seen WHERE key = ?1 AND until <= ?2", (&key, tx.now))?;
    let added = tx.execute(
        "INSERT OR IGNORE INTO seen(key, until) VALUES (?1, ?2)",
        (&key, tx.now.saturating_add(window)),
    )?;
    Ok(added == 1)
}

fn check_room(tx: &mut Tx<'_>, queue: &QueueRow, size: u64, rooms: &mut Vec<Room>) -> Result<()> {
    let limits = [
        (queue.id, queue.max_length, queue.max_bytes),
        (0, tx.limits.max_length, tx.limits.max_bytes),
    ];
    for (id, max_length, max_bytes) in limits {
        if max_length.is_none() && max_bytes.is_none() {
            continue;
        }
        let at = if let Some(at) = rooms.iter().position(|room| room.queue == id) {
            at
        } else {
            let (messages, bytes) = waiting(tx, id, max_bytes.is_some())?;
            rooms.push(Room {
                queue: id,
                messages: max_length.map_or(u64::MAX, |limit| limit.saturating_sub(messages)),
                bytes: max_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(bytes)),
            });
            rooms.len() - 1
        };
        let room = &mut rooms[at];
        if room.messages == 0 || room.bytes < size {
            let what = if id == 0 {
                format!("store {}", tx.failures.path())
            } else {
                format!("queue `{}`", queue.name)
            };
            let limit = match (room.messages, max_length, max_bytes) {
                (0, Some(limit), _) => format!("`max_length` of {limit} messages"),
                (_, _, Some(limit)) => format!("`max_bytes` of {limit}"),
                _ => "its limit".to_owned(),
            };
            return Err(Error::temporary(format!(
                "{FULL}{what} has reached {limit}; let consumers catch up and try again, or raise the limit"
            )));
        }
        room.messages -= 1;
        room.bytes -= size;
    }
    Ok(())
}

/// Messages and bytes waiting in a queue (0: in all of them). Read from covering indexes.
pub(crate) fn waiting(tx: &Tx<'_>, queue: i64, bytes: bool) -> Result<(u64, u64)> {
    let column = if bytes { "coalesce(sum(size), 0)" } else { "0" };
    let mut total = (0, 0);
    for state in [READY, DELAYED] {
        let by_queue = if queue == 0 { "" } else { " AND queue = ?1" };
        let statement = format!("SELECT count(*), {column} FROM message WHERE state = {state}{by_queue}");
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64));
        let (messages, size) = tx.sql(tx.connection.prepare_cached(&statement).and_then(|mut statement| {
            if queue == 0 {
                statement.query_row([], read)
            } else {
                statement.query_row([queue], read)
            }
        }))?;
        total = (total.0 + messages, total.1 + size);
    }
    Ok(total)
}

/// Writes a message into each of the queues; a large or shared body is written once.
pub(crate) fn insert(tx: &mut Tx<'_>, exchange: &str, message: &Message, targets: &[Arc<QueueRow>]) -> Result<()> {
    let shared = message.body.len() > INLINE_BODY || (targets.len() > 1 && message.body.len() > 64);
    let body_ref = if shared {
        tx.execute(
            "INSERT INTO body(refs, data) VALUES (?1, ?2)",
            (targets.len() as i64, &message.body),
        )?;
        Some(tx.connection.last_insert_rowid())
    } else {
        None
    };
    let headers = encode_headers(&message.headers)?;
    let delay = message.delay.map_or(0, milliseconds);
    for queue in targets {
        let ttl = match (message.ttl.map(milliseconds), queue.ttl) {
            (Some(own), Some(limit)) => Some(own.min(limit)),
            (own, limit) => own.or(limit),
        };
        let priority = message.priority.unwrap_or(0).min(queue.max_priority.unwrap_or(0));
        tx.execute(
            INSERT,
            params![
                queue.id,
                if delay > 0 { DELAYED } else { READY },
                -i64::from(priority),
                (delay > 0).then(|| tx.now.saturating_add(delay)),
                ttl.map(|ttl| tx.now.saturating_add(ttl)),
                tx.now,
                exchange,
                message.routing_key,
                message.id,
                message.content_type,
                message.correlation_id,
                message.reply_to,
                message.priority,
                message.timestamp,
                headers,
                message.body.len() as i64,
                body_ref,
                if shared { None } else { Some(message.body.as_slice()) },
            ],
        )?;
        if queue.consumed {
            tx.rung.insert(queue.id);
        }
    }
    Ok(())
}

pub(crate) fn encode_headers(headers: &Headers) -> Result<Option<String>> {
    if headers.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(headers)
        .map(Some)
        .map_err(|error| Error::bad_input("a header's value cannot be stored; numbers must be finite").because(error))
}

pub(crate) fn decode_headers(text: Option<&str>) -> Result<Headers> {
    text.map_or_else(
        || Ok(Headers::new()),
        |text| {
            serde_json::from_str(text)
                .map_err(|error| Error::protocol("a stored message's headers are damaged").because(error))
        },
    )
}
