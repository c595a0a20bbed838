//! Looking after a store's file: checking, backing up, compacting, migrating.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode};
use rustix::fs::{FlockOperation, flock};

use super::failure::Failures;
use super::files::{Create, Files, lock_holders, open_lock};
use super::schema::{self, Found, MIGRATIONS};
use super::{StoreOptions, connect};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::MaintenanceReport;

/// Opens a store that must be there and ours.
fn find(options: &StoreOptions) -> Result<(Files, Failures, Connection)> {
    let files = Files::prepare(options, Create::Nothing)?;
    let failures = Failures::of(&files.database);
    let connection = connect(&files, &failures)?;
    schema::inspect(&connection, &failures)?;
    files.make_sides()?;
    Ok((files, failures, connection))
}

/// Looks for damage, in the file's structure and in what qctl keeps in it. Changes nothing; consumers may go on.
pub(crate) fn check(options: &StoreOptions) -> Result<MaintenanceReport> {
    let mut report = MaintenanceReport::default();
    if let Err(error) = look_for_damage(options, &mut report) {
        // So much damage that the look could not go on is a finding too, and what was found before it stands.
        report.problems.push(damage(&error).ok_or(error)?);
    }
    let store = options.path.display();
    report.summary = if report.problems.is_empty() {
        format!("store {store} is sound")
    } else {
        format!(
            "store {store} is damaged; stop its users, then put a backup in its place (`qctl store backup` makes them) or keep \
             the file for a repair"
        )
    };
    Ok(report)
}

/// What SQLite says of a damaged file; `None` for any other error, such as a file of another program.
fn damage(error: &Error) -> Option<String> {
    let cause = std::error::Error::source(error).filter(|_| error.kind() == ErrorKind::Protocol)?;
    let code = cause.downcast_ref().and_then(rusqlite::Error::sqlite_error_code);
    Some(match code {
        // Nothing in it tells that it ever was a store: a backup must not be put over somebody's letters.
        Some(ErrorCode::NotADatabase) => format!("{cause}; if it never was a store, correct `url` of the connection"),
        _ => cause.to_string(),
    })
}

fn look_for_damage(options: &StoreOptions, report: &mut MaintenanceReport) -> Result<()> {
    let (files, failures, connection) = find(options)?;
    let _open = open_lock(&files)?;
    let MaintenanceReport { facts, problems, .. } = report;
    let schema = match schema::inspect(&connection, &failures)? {
        Found::Empty => {
            return Err(Error::not_found(format!(
                "store {} is empty; nothing was ever put in it",
                failures.path()
            )));
        }
        Found::Current => schema::VERSION,
        Found::Older(version) => version,
    };
    let lines: Vec<String> = failures.result(
        connection
            .prepare("PRAGMA integrity_check")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect()),
    )?;
    problems.extend(lines.into_iter().filter(|line| line != "ok").take(20));
    let count = |statement: &str| failures.result(connection.query_row(statement, [], |row| row.get::<_, i64>(0)));
    for (what, statement) in [
        (
            "messages whose queue is gone",
            "SELECT count(*) FROM message WHERE queue NOT IN (SELECT id FROM queue)",
        ),
        (
            "messages whose body is gone",
            "SELECT count(*) FROM message WHERE body_ref IS NOT NULL AND body_ref NOT IN (SELECT id FROM body)",
        ),
        (
            "messages held by nobody",
            "SELECT count(*) FROM message WHERE state >= 2 AND owner NOT IN (SELECT id FROM owner)",
        ),
        (
            "bodies that no message uses",
            "SELECT count(*) FROM body WHERE id NOT IN (SELECT body_ref FROM message WHERE body_ref IS NOT NULL)",
        ),
    ] {
        let found = count(statement)?;
        if found > 0 {
            problems.push(format!("{found} {what}"));
        }
    }
    let page = count("SELECT page_size FROM pragma_page_size")? as u64;
    facts.extend([
        ("schema".to_owned(), schema as u64),
        ("queues".to_owned(), count("SELECT count(*) FROM queue")? as u64),
        ("messages".to_owned(), count("SELECT count(*) FROM message")? as u64),
        (
            "bytes".to_owned(),
            page * count("SELECT page_count FROM pragma_page_count")? as u64,
        ),
        (
            "free_bytes".to_owned(),
            page * count("SELECT freelist_count FROM pragma_freelist_count")? as u64,
        ),
    ]);
    Ok(())
}

/// Copies the store, while it is used, to a file that must not exist yet.
pub(crate) fn backup(options: &StoreOptions, to: &Path) -> Result<MaintenanceReport> {
    let (files, failures, connection) = find(options)?;
    let _open = open_lock(&files)?;
    if to.exists() {
        return Err(Error::bad_input(format!(
            "{} is there already; name a file that is not, nothing was written",
            to.display()
        )));
    }
    copy(&connection, to, &failures)?;
    let bytes = std::fs::metadata(to).map_or(0, |metadata| metadata.len());
    Ok(MaintenanceReport {
        summary: format!("copied to {}", to.display()),
        facts: BTreeMap::from([("bytes".to_owned(), bytes)]),
        problems: Vec::new(),
    })
}

/// Writes a consistent copy beside its final name, and renames it when it is complete and checked.
fn copy(connection: &Connection, to: &Path, failures: &Failures) -> Result<()> {
    let mut draft = to.as_os_str().to_owned();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let _ = std::fs::remove_file(&draft);
    // Messages are nobody else's business in a copy either.
    if let Some(mode) = connection.path().and_then(|path| std::fs::metadata(path).ok()) {
        let _ = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode.permissions().mode() & 0o777)
            .open(&draft);
    }
    let copied = (|| {
        let mut target = Connection::open(&draft)?;
        Backup::new(connection, &mut target)?.run_to_completion(1000, Duration::ZERO, None)?;
        // The copy must be one file, whole by itself.
        target.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0))?;
        target.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0))
    })();
    let placed = match copied {
        Ok(verdict) if verdict == "ok" => File::open(&draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&draft, to))
            .map_err(|error| {
                Error::unavailable(format!("backup {} cannot be put in place", to.display())).because(error)
            }),
        Ok(verdict) => Err(Error::protocol(format!(
            "store {} is damaged, so nothing was copied; run `qctl store check`: {}",
            failures.path(),
            verdict.replace('\n', " ")
        ))),
        // What is damaged is what was read, what cannot be opened or is full is where it goes.
        Err(error) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => failures.explain(error),
            _ => Failures::of(to).explain(error).at("backup"),
        }),
    };
    if placed.is_err() {
        for rest in ["", "-journal", "-wal", "-shm"] {
            let mut path = draft.clone().into_os_string();
            path.push(rest);
            let _ = std::fs::remove_file(path);
        }
    }
    placed
}

/// Gives unused space back to the file system. Refused while any other process has the store open.
pub(crate) fn compact(options: &StoreOptions) -> Result<MaintenanceReport> {
    let (files, failures, connection) = find(options)?;
    let _alone = alone(open_lock(&files)?, &files, "compact it")?;
    if schema::inspect(&connection, &failures)? == Found::Empty {
        return Err(Error::not_found(format!(
            "store {} is empty; nothing was ever put in it",
            failures.path()
        )));
    }
    let size = || std::fs::metadata(&files.database).map_or(0, |metadata| metadata.len());
    let before = size();
    failures.result(connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"))?;
    Ok(MaintenanceReport {
        summary: format!("store {} compacted", failures.path()),
        facts: BTreeMap::from([("bytes_before".to_owned(), before), ("bytes_after".to_owned(), size())]),
        problems: Vec::new(),
    })
}

/// Turns the shared lock into an exclusive one, or names those who have the store open.
fn alone(lock: File, files: &Files, what: &str) -> Result<File> {
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(lock);
    }
    let holders = lock_holders(&lock)
        .into_iter()
        .map(|pid| format!("{} (pid {pid})", process_name(pid)))
        .collect::<Vec<_>>()
        .join(", ");
    Err(Error::temporary(format!(
        "store {} is in use by {}; stop them to {what}",
        files.database.display(),
        if holders.is_empty() {
            "another process"
        } else {
            &holders
        }
    )))
}

fn process_name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "a process".to_owned(), |name| name.trim().to_owned())
}

/// Brings an older store up to date: copies it first, and refuses while anybody else has it open.
pub(super) fn upgrade(
    connection: &Connection,
    open: File,
    files: &Files,
    failures: &Failures,
    from: i32,
) -> Result<File> {
    let open = alone(
        open,
        files,
        &format!("migrate it from schema {from} to {}", schema::VERSION),
    )?;
    let mut copy_path = files.database.as_os_str().to_owned();
    copy_path.push(format!(".schema-{from}"));
    let copy_path = PathBuf::from(copy_path);
    if !copy_path.exists() {
        copy(connection, &copy_path, failures)?;
    }
    let migrated = (|| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        schema::migrate(connection, from, MIGRATIONS)?;
        connection.execute_batch("COMMIT")
    })();
    if migrated.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    failures.result(migrated)?;
    tracing::warn!(from, to = schema::VERSION, copy = %copy_path.display(), "store migrated; the copy is the way back");
    flock(&open, FlockOperation::LockShared)
        .map_err(|error| Error::unavailable("the store's lock file cannot be locked").because(error))?;
    Ok(open)
}
