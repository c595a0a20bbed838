//! The tables, and how an older store becomes a newer one.

use rusqlite::{Connection, OptionalExtension};

use super::clock::{Clock, boot_id};
use super::failure::Failures;
use crate::error::{Error, Result};

/// "qctl" in ASCII; tells our stores from other SQLite files.
const APPLICATION_ID: i32 = 0x7163_746c;

/// The schema this program writes.
pub(crate) const VERSION: i32 = 1;

/// Message states. A message is `CLAIMED` when it waits in a consumer's hands and `STARTED` once its handler may have begun.
pub(crate) const READY: i64 = 0;
pub(crate) const DELAYED: i64 = 1;
pub(crate) const CLAIMED: i64 = 2;
pub(crate) const STARTED: i64 = 3;

/// Bodies larger than this have a row of their own, so that a change of a message's state does not write them again.
pub(crate) const INLINE_BODY: usize = 1024;

/// The first schema. Partial indexes keep each state's cost independent of how many messages are in the others.
const SCHEMA_1: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE exchange(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, internal INTEGER NOT NULL DEFAULT 0,
    auto_delete INTEGER NOT NULL DEFAULT 0, arguments TEXT);
CREATE TABLE queue(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, max_priority INTEGER, ttl INTEGER, max_length INTEGER,
    max_bytes INTEGER, dead_letter TEXT, arguments TEXT, auto_delete INTEGER NOT NULL DEFAULT 0,
    paused INTEGER NOT NULL DEFAULT 0, temporary TEXT,
    expired INTEGER NOT NULL DEFAULT 0, rejected INTEGER NOT NULL DEFAULT 0);
CREATE TABLE binding(
    exchange INTEGER NOT NULL, routing_key TEXT NOT NULL, queue INTEGER NOT NULL,
    PRIMARY KEY(exchange, routing_key, queue)) WITHOUT ROWID;
CREATE INDEX binding_queue ON binding(queue);
CREATE TABLE owner(
    id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL UNIQUE, queue INTEGER, pid INTEGER, host TEXT, label TEXT,
    since INTEGER NOT NULL);
CREATE TABLE message(
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, state INTEGER NOT NULL, rank INTEGER NOT NULL,
    due INTEGER, expires INTEGER, owner INTEGER, held_since INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0, suspect INTEGER NOT NULL DEFAULT 0,
    published INTEGER NOT NULL, dead_at INTEGER,
    exchange TEXT, routing_key TEXT, message_id TEXT, content_type TEXT, correlation_id TEXT, reply_to TEXT,
    priority INTEGER, timestamp INTEGER, headers TEXT,
    size INTEGER NOT NULL, body_ref INTEGER, body BLOB);
CREATE INDEX message_ready ON message(queue, rank, id, size) WHERE state = 0;
CREATE INDEX message_delayed ON message(queue, due, size) WHERE state = 1;
CREATE INDEX message_held ON message(owner, queue) WHERE state >= 2;
CREATE INDEX message_expires ON message(queue, expires) WHERE expires IS NOT NULL AND state < 2;
CREATE INDEX message_dead ON message(dead_at) WHERE dead_at IS NOT NULL;
CREATE TABLE body(id INTEGER PRIMARY KEY, refs INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE seen(key TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX seen_until ON seen(until);
";

/// What a look at the file found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No tables yet.
    Empty,
    /// Ours, and current.
    Current,
    /// Ours, of an older version.
    Older(i32),
}

/// Looks at the file's marks; anything that is not ours, or newer, is an error.
pub(crate) fn inspect(connection: &Connection, failures: &Failures) -> Result<Found> {
    // One transaction, or another process could make its tables between two of our looks.
    failures.result(connection.execute_batch("BEGIN"))?;
    let found = look(connection, failures);
    failures.result(connection.execute_batch("ROLLBACK"))?;
    found
}

fn look(connection: &Connection, failures: &Failures) -> Result<Found> {
    let pragma = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0))
            .map_err(|error| failures.explain(error))
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application == 0 && version == 0 {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|error| failures.explain(error))?;
        if tables == 0 {
            return Ok(Found::Empty);
        }
    }
    if application != APPLICATION_ID {
        return Err(Error::protocol(format!(
            "{} is a database of another program; name another path for the store",
            failures.path()
        )));
    }
    match version {
        VERSION => Ok(Found::Current),
        newer if newer > VERSION => Err(Error::protocol(format!(
            "store {} has schema {newer}, this qctl knows up to {VERSION}; install the qctl that wrote it, or a later one",
            failures.path()
        ))),
        older => Ok(Found::Older(older)),
    }
}

/// Creates all tables in an empty file, inside the caller's transaction.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(SCHEMA_1)?;
    connection.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};
         INSERT INTO meta VALUES ('topology', 1), ('schema', {VERSION});"
    ))
}

/// One step of migration: the version it starts from and what it runs. Every step has a fixture of its start version in
/// `tests/fixtures/schema`.
pub(crate) const MIGRATIONS: &[(i32, &str)] = &[];

/// Brings an older schema up to date, inside the caller's transaction.
pub(crate) fn migrate(connection: &Connection, from: i32, steps: &[(i32, &str)]) -> rusqlite::Result<()> {
    for (start, statements) in steps {
        if *start >= from {
            connection.execute_batch(statements)?;
        }
    }
    connection.execute_batch(&format!(
        "PRAGMA user_version = {VERSION}; UPDATE meta SET value = {VERSION} WHERE key = 'schema';"
    ))
}

/// The clock all processes of this boot share; the first one writes it down (and then needs a transaction).
pub(crate) fn read_clock(connection: &Connection) -> rusqlite::Result<Option<Clock>> {
    let boot: Option<String> = meta(connection, "boot")?;
    let offset: Option<i64> = meta(connection, "offset")?;
    Ok(match (boot, offset) {
        (Some(boot), Some(offset)) if boot == boot_id() => Some(Clock::with_offset(offset)),
        _ => None,
    })
}

/// Writes this boot's clock down, inside the caller's transaction; returns the one that stands.
pub(crate) fn write_clock(connection: &Connection) -> rusqlite::Result<Clock> {
    if let Some(clock) = read_clock(connection)? {
        return Ok(clock);
    }
    let last: i64 = connection.query_row(
        "SELECT max(coalesce((SELECT value FROM meta WHERE key = 'last'), 0), coalesce((SELECT published FROM message ORDER BY id DESC LIMIT 1), 0))",
        [],
        |row| row.get(0),
    )?;
    let clock = Clock::begin(last);
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES ('boot', ?1), ('offset', ?2), ('last', ?3)",
        (boot_id(), clock.offset(), clock.now()),
    )?;
    Ok(clock)
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
}
