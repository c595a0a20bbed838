//! What operators change in queues by hand; [`super::look`] only looks.

use std::sync::Arc;

use rusqlite::Params;

use super::answer::{ASKED, Asked, answer};
use super::claim::{expire, unref};
use super::publish::{decode_headers, encode_headers};
use super::topology::QueueRow;
use super::writer::Tx;
use crate::error::{Error, Result};
use crate::queue::message::header;
use crate::queue::{Delete, Selection};
use crate::wire::reply::Status;

/// Removes up to `limit` ready or delayed messages; returns how many.
pub(crate) fn purge_some(tx: &mut Tx<'_>, queue: &QueueRow, limit: i64) -> Result<u64> {
    let mut removed = 0;
    for state in [0, 1] {
        removed += remove_and_answer(
            tx,
            &format!("id IN (SELECT id FROM message WHERE queue = ?1 AND state = {state} LIMIT ?2)"),
            [queue.id, limit - removed as i64],
            "its queue was purged",
        )?;
    }
    Ok(removed)
}

/// Runs a `DELETE … RETURNING body_ref` and lets go of the bodies.
fn remove(tx: &mut Tx<'_>, statement: &str, parameters: impl Params) -> Result<u64> {
    let bodies: Vec<Option<i64>> = tx.sql(
        tx.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.query_map(parameters, |row| row.get(0))?.collect()),
    )?;
    let removed = bodies.len() as u64;
    for body in bodies.into_iter().flatten() {
        unref(tx, Some(body))?;
    }
    Ok(removed)
}

/// Deletes the messages that `condition` means, and tells those who wait for an answer why there will be none.
fn remove_and_answer(tx: &mut Tx<'_>, condition: &str, parameters: impl Params, reason: &str) -> Result<u64> {
    let removed: Vec<(Option<i64>, Asked)> = tx.sql(
        tx.connection
            .prepare_cached(&format!(
                "DELETE FROM message WHERE {condition} RETURNING body_ref, {ASKED}"
            ))
            .and_then(|mut statement| {
                statement
                    .query_map(parameters, |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
                    .collect()
            }),
    )?;
    let count = removed.len() as u64;
    for (body, asked) in removed {
        unref(tx, body)?;
        answer(tx, asked, Status::Rejected, reason)?;
    }
    Ok(count)
}

/// Dead letters from before `time`, at most `limit`.
pub(crate) fn remove_dead_before(tx: &mut Tx<'_>, time: i64, limit: i64) -> Result<u64> {
    remove(
        tx,
        "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE dead_at < ?1 AND state < 2 LIMIT ?2) RETURNING body_ref",
        [time, limit],
    )
}

/// Deletes a queue with all its messages and bindings; returns how many messages.
pub(crate) fn delete_queue(tx: &mut Tx<'_>, queue: i64) -> Result<u64> {
    let mut removed = 0;
    for condition in ["state = 0", "state = 1", "state >= 2"] {
        let condition = format!("queue = ?1 AND {condition}");
        removed += remove_and_answer(tx, &condition, [queue], "its queue was deleted")?;
    }
    tx.execute("DELETE FROM binding WHERE queue = ?1", [queue])?;
    tx.execute("DELETE FROM queue WHERE id = ?1", [queue])?;
    tx.rung.insert(queue);
    tx.changed()?;
    Ok(removed)
}

/// Deletes a queue by name, unless the conditions stand against it.
pub(crate) fn delete(tx: &mut Tx<'_>, name: &str, delete: Delete) -> Result<u64> {
    let queue = tx.expect_queue(name)?;
    let count =
        |statement: &str| -> Result<i64> { tx.sql(tx.connection.query_row(statement, [queue.id], |row| row.get(0))) };
    if delete.if_unused {
        let consumers = count("SELECT count(*) FROM owner WHERE queue = ?1")?;
        if consumers > 0 {
            return Err(Error::temporary(format!(
                "queue `{name}` has {consumers} consumer(s), so it is not unused; `qctl managequeue info` names them"
            )));
        }
    }
    if delete.if_empty {
        let messages = count("SELECT count(*) FROM message WHERE queue = ?1")?;
        if messages > 0 {
            return Err(Error::temporary(format!(
                "queue `{name}` has {messages} message(s), so it is not empty; purge it first, or delete it without --if-empty"
            )));
        }
    }
    let held = count("SELECT count(*) FROM message INDEXED BY message_held WHERE queue = ?1 AND state >= 2")?;
    if held > 0 && !delete.force {
        return Err(Error::temporary(format!(
            "queue `{name}` has {held} message(s) in consumers' hands; stop its consumers, or use --force to delete them too"
        )));
    }
    delete_queue(tx, queue.id)
}

/// Pauses or resumes a queue.
pub(crate) fn set_paused(tx: &mut Tx<'_>, name: &str, paused: bool) -> Result<()> {
    let queue = tx.expect_queue(name)?;
    tx.execute("UPDATE queue SET paused = ?2 WHERE id = ?1", (queue.id, paused))?;
    tx.rung.insert(queue.id);
    tx.changed()
}

/// Removes one message that nobody holds.
pub(crate) fn drop_message(tx: &mut Tx<'_>, name: &str, id: &str) -> Result<bool> {
    let queue = tx.expect_queue(name)?;
    let removed = remove_and_answer(
        tx,
        "id = (SELECT id FROM message WHERE queue = ?1 AND message_id = ?2 AND state < 2 LIMIT 1)",
        (queue.id, id),
        "it was dropped by an operator",
    )?;
    Ok(removed > 0)
}

/// Makes one delayed message ready.
pub(crate) fn release_message(tx: &mut Tx<'_>, name: &str, id: &str) -> Result<bool> {
    let queue = tx.expect_queue(name)?;
    let changed = tx.execute(
        "UPDATE message SET state = 0, due = NULL
         WHERE id = (SELECT id FROM message WHERE queue = ?1 AND message_id = ?2 AND state = 1 LIMIT 1)",
        (queue.id, id),
    )?;
    tx.rung.insert(queue.id);
    Ok(changed == 1)
}

/// Takes back a request that no handler has ever begun. The reply queue is its sender's alone, so nobody else's message of the
/// same id is meant.
pub(crate) fn withdraw(tx: &mut Tx<'_>, id: &str, reply_to: &str) -> Result<bool> {
    let removed = remove(
        tx,
        "DELETE FROM message WHERE message_id = ?1 AND reply_to = ?2 AND state < 3 AND attempt = 0 AND deliveries = 0
            AND dead_at IS NULL RETURNING body_ref",
        (id, reply_to),
    )?;
    Ok(removed > 0)
}

/// Where the dead letters of a queue are: its dead-letter queue or, for one that holds dead letters, itself.
pub(crate) fn dead_letters_of(tx: &mut Tx<'_>, name: &str) -> Result<(Arc<QueueRow>, Option<String>)> {
    let queue = tx.expect_queue(name)?;
    match queue.dead_letter.clone() {
        Some(dead) => Ok((tx.expect_queue(&dead)?, Some(name.to_owned()))),
        None => Ok((queue, None)),
    }
}

/// The ids of the dead letters that `selection` means, oldest first.
fn select_dead(tx: &mut Tx<'_>, name: &str, selection: &Selection, limit: u64) -> Result<Vec<i64>> {
    let (dead, origin) = dead_letters_of(tx, name)?;
    tx.sql(
        tx.connection
            .prepare_cached(
                "SELECT id FROM message
                 WHERE queue = ?1 AND state = 0 AND dead_at IS NOT NULL
                   AND (?2 IS NULL OR coalesce(json_extract(headers, '$.\"x-qctl-dead-queue\".text'), ?2) = ?2)
                   AND (?3 IS NULL OR message_id = ?3) AND (?4 IS NULL OR dead_at >= ?4) AND (?5 IS NULL OR dead_at < ?5)
                   AND (?6 IS NULL
                        OR instr(coalesce(body, (SELECT data FROM body WHERE body.id = body_ref)), CAST(?6 AS BLOB)) > 0
                        OR instr(routing_key, ?6) > 0 OR instr(headers, ?6) > 0)
                 ORDER BY id LIMIT ?7",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(
                        (
                            dead.id,
                            origin,
                            &selection.id,
                            selection.since.map(|time| tx.clock.at_wall(time)),
                            selection.until.map(|time| tx.clock.at_wall(time)),
                            &selection.matching,
                            i64::try_from(limit).unwrap_or(i64::MAX),
                        ),
                        |row| row.get(0),
                    )?
                    .collect()
            }),
    )
}

/// How many dead letters `selection` means.
pub(crate) fn count_dead(tx: &mut Tx<'_>, name: &str, selection: &Selection) -> Result<u64> {
    Ok(select_dead(tx, name, selection, selection.limit.unwrap_or(u64::MAX))?.len() as u64)
}

/// Moves up to `limit` dead letters back to where they came from, as fresh messages. Returns how many were moved.
pub(crate) fn redrive_some(tx: &mut Tx<'_>, name: &str, selection: &Selection, limit: u64) -> Result<u64> {
    let (dead, origin) = dead_letters_of(tx, name)?;
    let ids = select_dead(tx, name, selection, limit)?;
    let mut moved = 0;
    for id in ids {
        let text: Option<String> = tx.sql(tx.connection.query_row(
            "SELECT headers FROM message WHERE id = ?1",
            [id],
            |row| row.get(0),
        ))?;
        let mut headers = decode_headers(text.as_deref())?;
        let from = headers
            .get(header::DEAD_QUEUE)
            .and_then(|value| value.as_text().map(str::to_owned));
        let target = origin.clone().or(from).ok_or_else(|| {
            Error::bad_input(format!(
                "dead letters in `{}` do not say where they came from; name their queue instead",
                dead.name
            ))
        })?;
        let target = tx.expect_queue(&target)?;
        for name in [
            header::REASON,
            header::DEAD_QUEUE,
            header::DEAD_AT,
            header::EXIT_CODE,
            header::SIGNAL,
            header::STDERR,
            header::ATTEMPT,
            header::EXPIRES_AT,
        ] {
            headers.remove(name);
        }
        let expires = target.ttl.map(|ttl| tx.now.saturating_add(ttl));
        tx.execute(
            "UPDATE message SET queue = ?2, state = 0, attempt = 0, deliveries = 0, suspect = 0, dead_at = NULL, published = ?3,
                    expires = ?4, headers = ?5 WHERE id = ?1",
            (id, target.id, tx.now, expires, encode_headers(&headers)?),
        )?;
        tx.rung.insert(target.id);
        moved += 1;
    }
    Ok(moved)
}

/// Moves what has expired out of the way, so that counts are true.
pub(crate) fn expire_now(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let queue = tx.expect_queue(name)?;
    expire(tx, &queue)
}
