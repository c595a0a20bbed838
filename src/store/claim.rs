//! Messages go out: claimed for an owner, settled, and recovered when an owner dies.

use rusqlite::{OptionalExtension, params};

use super::answer::{ASKED, Asked, answer};
use super::publish::{decode_headers, encode_headers};
use super::schema::{CLAIMED, DELAYED, READY, STARTED};
use super::topology::{QueueRow, milliseconds};
use super::writer::Tx;
use crate::error::{Error, Result};
use crate::queue::message::header;
use crate::queue::{DeadLetter, Headers, Message, Settlement};
use crate::wire::reply::Status;

/// A message as claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) id: i64,
    pub(crate) message: Message,
    pub(crate) exchange: String,
    pub(crate) attempt: u32,
    pub(crate) deliveries: u32,
    pub(crate) suspect: bool,
    pub(crate) started: bool,
}

/// What a claim found.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) messages: Vec<Claimed>,
    /// When the next delayed message is due, one expires, or the next suspect has waited long enough, in store time.
    pub(crate) next_due: Option<i64>,
    /// Nothing more is ready.
    pub(crate) drained: bool,
    /// The next one is suspect and waits until its taker holds nothing else.
    pub(crate) suspect_waits: bool,
}

/// Who claims, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) owner: i64,
    /// At most this many.
    pub(crate) count: usize,
    /// How many of them are begun at once.
    pub(crate) start: usize,
    /// The owner holds nothing else, so a suspect may be handed out.
    pub(crate) alone: bool,
}

const EXPIRE_AT_ONCE: i64 = 500;

/// After so many milliseconds a suspect is handed out beside others, rather than never.
const SUSPECT_WAITS: i64 = 30_000;

/// Claims ready messages in order.
pub(crate) fn claim(tx: &mut Tx<'_>, queue: &QueueRow, wanted: Wanted) -> Result<Claim> {
    promote(tx, queue.id)?;
    expire(tx, queue)?;
    let mut claim = Claim::default();
    if wanted.count > 0 && !queue.paused {
        select(tx, queue.id, wanted, &mut claim)?;
    } else {
        claim.drained = queue.paused;
    }
    let mut update = tx.sql(tx.connection.prepare_cached(
        "UPDATE message SET state = ?2, owner = ?3, held_since = ?4, deliveries = deliveries + ?5 WHERE id = ?1",
    ))?;
    for claimed in &claim.messages {
        let (state, started) = if claimed.started { (STARTED, 1) } else { (CLAIMED, 0) };
        tx.sql(update.execute((claimed.id, state, wanted.owner, tx.now, started)))?;
    }
    let due: Option<i64> = tx.sql(
        tx.connection
            .prepare_cached("SELECT min(due) FROM message WHERE queue = ?1 AND state = 1")
            .and_then(|mut statement| statement.query_row([queue.id], |row| row.get(0))),
    )?;
    // What expires behind a message that is not taken is told to whoever waits for it, not only when the next one comes.
    let expires: Option<i64> = tx.sql(
        tx.connection
            .prepare_cached("SELECT min(expires) FROM message WHERE queue = ?1 AND expires IS NOT NULL AND state < 2")
            .and_then(|mut statement| statement.query_row([queue.id], |row| row.get(0))),
    )?;
    claim.next_due = claim.next_due.into_iter().chain(due).chain(expires).min();
    Ok(claim)
}

/// Delayed messages that are due become ready.
fn promote(tx: &mut Tx<'_>, queue: i64) -> Result<()> {
    tx.execute(
        "UPDATE message SET state = 0, due = NULL WHERE queue = ?1 AND state = 1 AND due <= ?2",
        (queue, tx.now),
    )?;
    Ok(())
}

/// Expired messages are counted and go to the dead-letter queue, where there is one.
pub(crate) fn expire(tx: &mut Tx<'_>, queue: &QueueRow) -> Result<()> {
    let expired: Vec<(i64, Asked)> = tx.sql(
        tx.connection
            .prepare_cached(&format!(
                "SELECT id, {ASKED} FROM message WHERE queue = ?1 AND expires <= ?2 AND state < 2 ORDER BY expires LIMIT ?3"
            ))
            .and_then(|mut statement| {
                statement
                    .query_map((queue.id, tx.now, EXPIRE_AT_ONCE), |row| {
                        Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
                    })?
                    .collect()
            }),
    )?;
    if expired.is_empty() {
        return Ok(());
    }
    tracing::info!(queue = %queue.name, count = expired.len(), dead_letter = ?queue.dead_letter, "messages expired");
    tx.execute(
        "UPDATE queue SET expired = expired + ?2 WHERE id = ?1",
        (queue.id, expired.len() as i64),
    )?;
    let reason = DeadLetter {
        reason: "expired".to_owned(),
        ..DeadLetter::default()
    };
    for (id, asked) in expired {
        bury(tx, queue, id, &reason)?;
        answer(tx, asked, Status::Expired, "it expired before it was handled")?;
    }
    Ok(())
}

/// A claimed message, its encoded headers, the row of its body, and its expiry.
type Row = (Claimed, Option<String>, Option<i64>, Option<i64>);

fn select(tx: &mut Tx<'_>, queue: i64, wanted: Wanted, claim: &mut Claim) -> Result<()> {
    // A suspect waits for a taker that holds nothing else, but not for ever: the others go on meanwhile.
    let not_before = if wanted.alone { i64::MAX } else { tx.now - SUSPECT_WAITS };
    let mut statement = tx.sql(tx.connection.prepare_cached(
        "SELECT id, suspect, exchange, routing_key, message_id, content_type, correlation_id, reply_to, priority, timestamp,
                headers, attempt, deliveries, body_ref, body, expires
         FROM message INDEXED BY message_ready
         WHERE queue = ?1 AND state = 0 AND (suspect = 0 OR held_since <= ?3) ORDER BY rank, id LIMIT ?2",
    ))?;
    let mut rows = tx.sql(statement.query((queue, wanted.count as i64, not_before)))?;
    while let Some(row) = tx.sql(rows.next())? {
        let suspect = tx.sql(row.get::<_, bool>(1))? && wanted.alone;
        if suspect && !claim.messages.is_empty() {
            return Ok(());
        }
        let started = claim.messages.len() < wanted.start;
        let read = || -> rusqlite::Result<Row> {
            Ok((
                Claimed {
                    id: row.get(0)?,
                    exchange: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                    message: Message {
                        body: row.get::<_, Option<Vec<u8>>>(14)?.unwrap_or_default(),
                        content_type: row.get(5)?,
                        routing_key: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                        id: row.get(4)?,
                        correlation_id: row.get(6)?,
                        reply_to: row.get(7)?,
                        priority: row.get(8)?,
                        ttl: None,
                        delay: None,
                        timestamp: row.get(9)?,
                        headers: Headers::new(),
                    },
                    attempt: row.get(11)?,
                    deliveries: row.get::<_, u32>(12)? + u32::from(started),
                    suspect,
                    started,
                },
                row.get(10)?,
                row.get(13)?,
                row.get(15)?,
            ))
        };
        let (mut claimed, headers, body_ref, expires) = tx.sql(read())?;
        claimed.message.headers = decode_headers(headers.as_deref())?;
        if let Some(expires) = expires {
            claimed
                .message
                .headers
                .insert(header::EXPIRES_AT.to_owned(), tx.clock.to_wall(expires).into());
        }
        if let Some(body_ref) = body_ref {
            claimed.message.body = read_body(tx, body_ref)?;
        }
        claim.messages.push(claimed);
        if suspect {
            return Ok(());
        }
    }
    claim.drained = claim.messages.len() < wanted.count;
    if claim.drained && !wanted.alone {
        // What is ready and not claimed just now has been passed over, so these are few.
        let since: Option<i64> = tx.sql(
            tx.connection
                .prepare_cached(
                    "SELECT min(held_since) FROM message INDEXED BY message_ready
                     WHERE queue = ?1 AND state = 0 AND suspect = 1 AND held_since > ?2",
                )
                .and_then(|mut statement| statement.query_row((queue, not_before), |row| row.get(0))),
        )?;
        claim.suspect_waits = since.is_some();
        claim.next_due = since.map(|since| since + SUSPECT_WAITS);
    }
    Ok(())
}

pub(crate) fn read_body(tx: &Tx<'_>, body_ref: i64) -> Result<Vec<u8>> {
    tx.sql(
        tx.connection
            .prepare_cached("SELECT data FROM body WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([body_ref], |row| row.get(0))),
    )
}

/// A delivery that its owner begins only now.
pub(crate) fn start(tx: &mut Tx<'_>, owner: i64, id: i64) -> Result<()> {
    let changed = tx.execute(
        "UPDATE message SET state = 3, deliveries = deliveries + 1 WHERE id = ?1 AND owner = ?2 AND state = 2",
        (id, owner),
    )?;
    if changed == 1 { Ok(()) } else { Err(lost()) }
}

/// Settles a message that `owner` holds.
pub(crate) fn settle(tx: &mut Tx<'_>, owner: i64, queue: &QueueRow, id: i64, settlement: &Settlement) -> Result<()> {
    match settlement {
        Settlement::Ack => {
            let removed: Option<Option<i64>> = tx.sql(
                tx.connection
                    .prepare_cached(
                        "DELETE FROM message WHERE id = ?1 AND owner = ?2 AND state >= 2 RETURNING body_ref",
                    )
                    .and_then(|mut statement| statement.query_row((id, owner), |row| row.get(0)).optional()),
            )?;
            unref(tx, removed.ok_or_else(lost)?)
        }
        Settlement::Retry { after } => {
            let delay = milliseconds(*after);
            let changed = tx.execute(
                "UPDATE message SET state = ?3, due = ?4, owner = NULL, held_since = NULL, attempt = attempt + 1, suspect = 0
                 WHERE id = ?1 AND owner = ?2 AND state >= 2",
                (id, owner, if delay > 0 { DELAYED } else { READY }, (delay > 0).then(|| tx.now.saturating_add(delay))),
            )?;
            tx.rung.insert(queue.id);
            if changed == 1 { Ok(()) } else { Err(lost()) }
        }
        Settlement::Release { uncounted } => {
            let changed = tx.execute(
                "UPDATE message SET state = 0, owner = NULL, held_since = CASE WHEN suspect THEN ?4 END,
                        deliveries = max(0, deliveries - (CASE WHEN ?3 AND state = 3 THEN 1 ELSE 0 END))
                 WHERE id = ?1 AND owner = ?2 AND state >= 2",
                (id, owner, *uncounted, tx.now),
            )?;
            tx.rung.insert(queue.id);
            if changed == 1 { Ok(()) } else { Err(lost()) }
        }
        Settlement::Reject(dead_letter) => {
            let held: Option<i64> = tx.sql(
                tx.connection
                    .prepare_cached("SELECT 1 FROM message WHERE id = ?1 AND owner = ?2 AND state >= 2")
                    .and_then(|mut statement| statement.query_row((id, owner), |row| row.get(0)).optional()),
            )?;
            held.ok_or_else(lost)?;
            tx.execute("UPDATE queue SET rejected = rejected + 1 WHERE id = ?1", [queue.id])?;
            bury(tx, queue, id, dead_letter)
        }
    }
}

fn lost() -> Error {
    Error::delivery_lost("the message is no longer this consumer's: it was purged, deleted or given to another one")
}

/// Moves a message to the dead-letter queue with its reason, or removes it where there is none. Whoever takes it there begins to
/// count anew; what was counted stands in its headers.
pub(crate) fn bury(tx: &mut Tx<'_>, queue: &QueueRow, id: i64, dead_letter: &DeadLetter) -> Result<()> {
    let Some(target) = queue.dead_letter.as_deref().filter(|target| *target != queue.name) else {
        let removed: Option<i64> = tx.sql(
            tx.connection
                .prepare_cached("DELETE FROM message WHERE id = ?1 RETURNING body_ref")
                .and_then(|mut statement| statement.query_row([id], |row| row.get(0))),
        )?;
        return unref(tx, removed);
    };
    let target = match tx.queue(target)? {
        Some(found) => found.id,
        None => tx.insert_queue(
            &crate::queue::Queue {
                name: target.to_owned(),
                ..Default::default()
            },
            None,
        )?,
    };
    let text: Option<String> = tx.sql(
        tx.connection
            .prepare_cached("SELECT headers FROM message WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([id], |row| row.get(0))),
    )?;
    let mut headers = decode_headers(text.as_deref())?;
    headers.extend(dead_letter.headers.clone());
    headers.insert(header::REASON.to_owned(), dead_letter.reason.as_str().into());
    headers.insert(header::DEAD_QUEUE.to_owned(), queue.name.as_str().into());
    headers.insert(header::DEAD_AT.to_owned(), tx.clock.to_wall(tx.now).into());
    let headers = encode_headers(&headers)?;
    tx.execute(
        "UPDATE message SET queue = ?2, state = 0, due = NULL, expires = NULL, owner = NULL, held_since = NULL, suspect = 0,
                attempt = 0, deliveries = 0, dead_at = ?3, headers = ?4 WHERE id = ?1",
        params![id, target, tx.now, headers],
    )?;
    tx.rung.insert(target);
    Ok(())
}

/// One message less uses this body.
pub(crate) fn unref(tx: &mut Tx<'_>, body_ref: Option<i64>) -> Result<()> {
    if let Some(body_ref) = body_ref {
        tx.execute("UPDATE body SET refs = refs - 1 WHERE id = ?1", [body_ref])?;
        tx.execute("DELETE FROM body WHERE id = ?1 AND refs <= 0", [body_ref])?;
    }
    Ok(())
}

/// What a dead (or leaving) owner holds is ready again; what it had begun is suspected unless it left in order. A suspect's
/// wait is counted from now. The owner's temporary queues go.
pub(crate) fn recover(tx: &mut Tx<'_>, owner: i64, token: &str, died: bool) -> Result<u64> {
    let queues: Vec<i64> = tx.sql(
        tx.connection
            .prepare_cached("SELECT DISTINCT queue FROM message WHERE owner = ?1 AND state >= 2")
            .and_then(|mut statement| statement.query_map([owner], |row| row.get(0))?.collect()),
    )?;
    let changed = tx.execute(
        "UPDATE message SET suspect = CASE WHEN state = 3 AND ?2 THEN 1 ELSE suspect END,
                deliveries = CASE WHEN state = 3 AND NOT ?2 THEN max(0, deliveries - 1) ELSE deliveries END,
                state = 0, owner = NULL, held_since = CASE WHEN ?2 OR suspect THEN ?3 END
         WHERE owner = ?1 AND state >= 2",
        (owner, died, tx.now),
    )?;
    tx.rung.extend(queues);
    let temporary: Vec<i64> = tx.sql(
        tx.connection
            .prepare_cached("SELECT id FROM queue WHERE temporary = ?1")
            .and_then(|mut statement| statement.query_map([token], |row| row.get(0))?.collect()),
    )?;
    for queue in temporary {
        super::admin::delete_queue(tx, queue)?;
    }
    tx.execute("DELETE FROM owner WHERE id = ?1", [owner])?;
    Ok(changed as u64)
}
