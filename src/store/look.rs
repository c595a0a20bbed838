//! What operators see of queues: figures, consumers and messages. Nothing here changes anything.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row};
use serde_json::Value;

use super::Store;
use super::claim::read_body;
use super::owners::is_dead;
use super::publish::{decode_headers, waiting};
use super::topology::QueueRow;
use super::writer::Tx;
use crate::error::Result;
use crate::queue::message::header;
use crate::queue::{Binding, ConsumerInfo, HeaderValue, Message, Peek, PeekState, Peeked, QueueInfo};

/// Fewer free bytes than this on the store's disk are worth a warning.
const LOW_DISK: u64 = 64 << 20;

/// The figures of one queue.
pub(crate) fn info(store: &Store, name: &str) -> Result<QueueInfo> {
    let (mut info, owners) = store.read(|tx| {
        let queue = tx.expect_queue(name)?;
        Ok((figures(tx, &queue)?, owners_of(tx, &queue)?))
    })?;
    let mut holders = 0;
    for (token, consumer) in owners {
        let dead = is_dead(store, &token);
        if dead && consumer.held > 0 {
            info.blocked_by.push(format!(
                "{} message(s) are held by a dead consumer ({}); the next consumer to start gives them back",
                consumer.held,
                consumer.label.as_deref().unwrap_or("no label")
            ));
        }
        if !dead {
            holders += 1;
            info.consumer_list.push(consumer);
        }
    }
    info.consumers = Some(holders);
    if let Ok(disk) = rustix::fs::statvfs(&store.files().database)
        && disk.f_bavail * disk.f_frsize < LOW_DISK
    {
        info.blocked_by.push(format!(
            "the disk of {} has only {} kB free",
            store.files().database.display(),
            disk.f_bavail * disk.f_frsize / 1024
        ));
    }
    Ok(info)
}

fn figures(tx: &mut Tx<'_>, queue: &QueueRow) -> Result<QueueInfo> {
    let dead = match queue
        .dead_letter
        .as_deref()
        .map(|dead| tx.queue(dead))
        .transpose()?
        .flatten()
    {
        Some(dead) => Some(waiting(tx, dead.id, false)?.0),
        None => None,
    };
    let one = |statement: &str| -> Result<Option<i64>> {
        tx.sql(
            tx.connection
                .prepare_cached(statement)
                .and_then(|mut statement| statement.query_row([queue.id], |row| row.get(0)).optional())
                .map(Option::flatten),
        )
    };
    let (all, bytes) = waiting(tx, queue.id, true)?;
    let delayed = one("SELECT count(*) FROM message WHERE queue = ?1 AND state = 1 AND due > 0")?.unwrap_or(0) as u64;
    let mut oldest = None;
    for rank in -i64::from(queue.max_priority.unwrap_or(0))..=0 {
        let first: Option<i64> = tx.sql(
            tx.connection
                .prepare_cached(
                    "SELECT published FROM message WHERE queue = ?1 AND state = 0 AND rank = ?2 ORDER BY id LIMIT 1",
                )
                .and_then(|mut statement| statement.query_row((queue.id, rank), |row| row.get(0)).optional()),
        )?;
        oldest = [oldest, first].into_iter().flatten().min();
    }
    let (paused, expired, rejected): (bool, i64, i64) = tx.sql(tx.connection.query_row(
        "SELECT paused, expired, rejected FROM queue WHERE id = ?1",
        [queue.id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    ))?;
    let held = one("SELECT count(*) FROM message INDEXED BY message_held WHERE queue = ?1 AND state >= 2")?.unwrap_or(0)
        as u64;
    let next_due = one("SELECT min(due) FROM message WHERE queue = ?1 AND state = 1")?;
    let properties = [
        ("max_priority", queue.max_priority.map(Value::from)),
        ("ttl_seconds", queue.ttl.map(|ttl| Value::from(ttl as f64 / 1000.0))),
        ("max_length", queue.max_length.map(Value::from)),
        ("max_bytes", queue.max_bytes.map(Value::from)),
    ];
    Ok(QueueInfo {
        name: queue.name.clone(),
        ready: all - delayed,
        delayed: Some(delayed),
        held: Some(held),
        dead,
        oldest_seconds: oldest.map(|published| (tx.now - published).max(0) as f64 / 1000.0),
        bytes: Some(bytes),
        next_due: next_due.map(|due| tx.clock.to_wall(due)),
        paused,
        dead_letter: queue.dead_letter.clone(),
        properties: properties
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect(),
        bindings: bindings(tx, queue.id)?,
        counters: BTreeMap::from([
            ("expired".to_owned(), expired as u64),
            ("rejected".to_owned(), rejected as u64),
        ]),
        ..QueueInfo::default()
    })
}

fn bindings(tx: &Tx<'_>, queue: i64) -> Result<Vec<Binding>> {
    tx.sql(
        tx.connection
            .prepare_cached(
                "SELECT exchange.name, binding.routing_key FROM binding JOIN exchange ON exchange.id = binding.exchange
                 WHERE binding.queue = ?1 ORDER BY 1, 2",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([queue], |row| {
                        Ok(Binding {
                            exchange: row.get(0)?,
                            routing_key: row.get(1)?,
                            ..Binding::default()
                        })
                    })?
                    .collect()
            }),
    )
}

/// Owners that consume this queue, with what they hold of it.
fn owners_of(tx: &Tx<'_>, queue: &QueueRow) -> Result<Vec<(String, ConsumerInfo)>> {
    tx.sql(
        tx.connection
            .prepare_cached(
                "SELECT token, pid, host, label, since,
                        (SELECT count(*) FROM message WHERE owner = owner.id AND queue = ?1 AND state >= 2),
                        (SELECT min(held_since) FROM message WHERE owner = owner.id AND queue = ?1 AND state >= 2)
                 FROM owner WHERE queue = ?1 ORDER BY id",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([queue.id], |row| {
                        Ok((
                            row.get(0)?,
                            ConsumerInfo {
                                pid: row.get(1)?,
                                host: row.get(2)?,
                                label: row.get(3)?,
                                since: Some(tx.clock.to_wall(row.get(4)?)),
                                held: row.get::<_, i64>(5)? as u64,
                                held_seconds: row
                                    .get::<_, Option<i64>>(6)?
                                    .map(|since| (tx.now - since).max(0) as f64 / 1000.0),
                            },
                        ))
                    })?
                    .collect()
            }),
    )
}

const PEEK_COLUMNS: &str =
    "message.id, state, due, attempt, deliveries, exchange, routing_key, message_id, content_type,
    correlation_id, reply_to, priority, timestamp, headers, body_ref, body, owner, held_since";

/// Looks at messages of a queue; changes nothing.
pub(crate) fn peek(tx: &mut Tx<'_>, name: &str, peek: &Peek) -> Result<Vec<Peeked>> {
    let queue = tx.expect_queue(name)?;
    let states: &[(PeekState, &str)] = &[
        (PeekState::Ready, "state = 0 ORDER BY rank, id"),
        (PeekState::Delayed, "state = 1 ORDER BY due"),
        (PeekState::Held, "state >= 2 ORDER BY id"),
    ];
    let mut found = Vec::new();
    for (state, condition) in states {
        if peek.state.is_some_and(|wanted| wanted != *state) || found.len() >= peek.limit {
            continue;
        }
        let by_id = if peek.id.is_some() {
            "message_id = ?3 AND "
        } else {
            "?3 IS NULL AND "
        };
        let statement = format!("SELECT {PEEK_COLUMNS} FROM message WHERE queue = ?1 AND {by_id}{condition} LIMIT ?2");
        let rows: Vec<PeekedRow> = tx.sql(tx.connection.prepare_cached(&statement).and_then(|mut statement| {
            statement
                .query_map(
                    (
                        queue.id,
                        i64::try_from(peek.limit - found.len()).unwrap_or(i64::MAX),
                        &peek.id,
                    ),
                    |row| peeked(row, *state, tx),
                )?
                .collect()
        }))?;
        for (mut peeked, headers, body_ref, owner) in rows {
            peeked.message.headers = decode_headers(headers.as_deref())?;
            // A dead letter's last attempt is told by its header only: the row counts those that were to be tried again.
            let told = peeked
                .message
                .headers
                .get(header::ATTEMPT)
                .and_then(HeaderValue::as_int);
            if let Some(told) = told.and_then(|told| u32::try_from(told).ok()) {
                peeked.attempt = peeked.attempt.max(told);
            }
            if let Some(body_ref) = body_ref {
                peeked.message.body = read_body(tx, body_ref)?;
            }
            if let (Some(owner), Some(holder)) = (owner, &mut peeked.holder) {
                let known = tx.sql(
                    tx.connection
                        .query_row(
                            "SELECT pid, host, label, since FROM owner WHERE id = ?1",
                            [owner],
                            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?)),
                        )
                        .optional(),
                )?;
                if let Some((pid, host, label, since)) = known {
                    (holder.pid, holder.host, holder.label, holder.since) =
                        (pid, host, label, Some(tx.clock.to_wall(since)));
                }
            }
            found.push(peeked);
        }
    }
    Ok(found)
}

type PeekedRow = (Peeked, Option<String>, Option<i64>, Option<i64>);

fn peeked(row: &Row<'_>, state: PeekState, tx: &Tx<'_>) -> rusqlite::Result<PeekedRow> {
    let owner: Option<i64> = row.get(16)?;
    let held_since: Option<i64> = row.get(17)?;
    Ok((
        Peeked {
            message: Message {
                body: row.get::<_, Option<Vec<u8>>>(15)?.unwrap_or_default(),
                content_type: row.get(8)?,
                routing_key: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
                id: row.get(7)?,
                correlation_id: row.get(9)?,
                reply_to: row.get(10)?,
                priority: row.get(11)?,
                timestamp: row.get(12)?,
                ..Message::default()
            },
            exchange: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            state,
            attempt: row.get(3)?,
            deliveries: row.get(4)?,
            due: row.get::<_, Option<i64>>(2)?.map(|due| tx.clock.to_wall(due)),
            holder: owner.map(|_| ConsumerInfo {
                held: 1,
                held_seconds: held_since.map(|since| (tx.now - since).max(0) as f64 / 1000.0),
                ..ConsumerInfo::default()
            }),
        },
        row.get(13)?,
        row.get(14)?,
        owner,
    ))
}
