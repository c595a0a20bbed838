//! The embedded store: a durable queue in one SQLite file, used by many processes of one host at once.
//!
//! ```text
//! queue.db  queue.db-wal  queue.db-shm   SQLite's own
//! queue.db.owners/TOKEN                  one per consumer, locked while it (or its guardian) lives
//! queue.db.bells/QUEUE-ID                touched after a commit that concerns the queue; watched by inotify
//! queue.db.locks/{open,next,work}        who has the store open; the fair write lock
//! ```
//!
//! `commit` groups operations, `writer` runs them, `publish`, `claim` and `admin` are the operations, `look` is what operators
//! see, `answer` what senders who wait are told, `subscription` is a consumer's side, `owners` notices deaths, `watch` wakes consumers.

mod admin;
mod answer;
mod claim;
mod clock;
mod commit;
mod failure;
mod files;
mod look;
pub(crate) mod maintenance;
mod owners;
mod publish;
mod schema;
mod subscription;
mod topology;
mod turnstile;
mod watch;
mod writer;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

pub(crate) use owners::Owner;
pub(crate) use subscription::{StoreSettler, StoreSubscription};

use clock::Clock;
use commit::{Committer, Settings, Work};
use failure::Failures;
use files::{Create, Files};
use publish::PublishRules;
use schema::Found;
use turnstile::Turnstile;
use writer::{StoreLimits, Tx, Writer};

use crate::error::{Error, Result};
use crate::queue::EndMarked;

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk: it survives a power cut.
    #[default]
    Full,
    /// When every process sees it: it survives the death of any process, but a power cut may undo the last moments.
    Normal,
}

/// Where a store is and how it behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The database file.
    pub path: PathBuf,
    /// When a commit counts as done.
    pub durability: Durability,
    /// The mode of the database and its side files.
    pub mode: u32,
    /// Their group.
    pub group: Option<String>,
    /// At most this many waiting messages in all queues.
    pub max_length: Option<u64>,
    /// At most this many bytes of waiting bodies in all queues.
    pub max_bytes: Option<u64>,
    /// The largest body.
    pub max_body: u64,
    /// For how long an id chosen by a sender is remembered.
    pub deduplication: Duration,
    /// Dead letters older than this are removed; `None`: never.
    pub retention_dead: Option<Duration>,
}

impl StoreOptions {
    /// The defaults for a store at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Full,
            mode: 0o600,
            group: None,
            max_length: None,
            max_bytes: None,
            max_body: 16 << 20,
            deduplication: Duration::from_mins(10),
            retention_dead: None,
        }
    }
}

/// How this process uses the store.
#[derive(Clone)]
pub(crate) struct StoreUse {
    /// A short command: no checkpoint when it closes.
    pub(crate) one_shot: bool,
    /// It is not made if it is not there.
    pub(crate) existing: bool,
    /// A lone writer may commit on the caller's thread.
    pub(crate) inline: bool,
    /// How long a writer waits for its turn.
    pub(crate) patience: Duration,
    /// Queues exist as soon as they are named.
    pub(crate) implicit_queues: bool,
    /// Ends what runs for a dead owner.
    pub(crate) end_marked: Option<EndMarked>,
}

/// An open store. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    committer: Arc<Committer>,
    files: Files,
    clock: Clock,
    rules: PublishRules,
    retention_dead: Option<Duration>,
    end_marked: Option<EndMarked>,
    _open: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.committer.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.inner.files.database)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, makes it if it is not there, migrates it if it is older.
    pub(crate) fn open(options: &StoreOptions, usage: &StoreUse) -> Result<Self> {
        let files = Files::prepare(
            options,
            if usage.existing {
                Create::Nothing
            } else if usage.implicit_queues {
                Create::Folders
            } else {
                Create::Store
            },
        )?;
        let failures = Failures::of(&files.database);
        let connection = connect(&files, &failures)?;
        // A file that is not ours is left as it is: nothing is put beside it.
        schema::inspect(&connection, &failures)?;
        files.make_sides()?;
        let mut open = files::open_lock(&files)?;
        let turnstile = Turnstile::open(&files)?;
        // Only a process that goes on using the store clears the log away when it leaves.
        failures.result(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, usage.one_shot))?;
        match schema::inspect(&connection, &failures)? {
            Found::Current => use_write_ahead_log(&connection, &turnstile, &failures, usage.patience)?,
            Found::Empty => create(&connection, &turnstile, &failures, usage.patience)?,
            Found::Older(version) => open = maintenance::upgrade(&connection, open, &files, &failures, version)?,
        }
        let clock = match failures.result(schema::read_clock(&connection))? {
            Some(clock) => clock,
            None => exclusively(&connection, &turnstile, &failures, usage.patience, schema::write_clock)?,
        };
        let wal = match options.durability {
            Durability::Normal => None,
            Durability::Full => Some(File::open(&files.wal).map_err(|error| {
                Error::unavailable(format!(
                    "store {}: its write-ahead log cannot be opened",
                    failures.path()
                ))
                .because(error)
            })?),
        };
        let limits = StoreLimits {
            max_length: options.max_length,
            max_bytes: options.max_bytes,
        };
        let work_lock = turnstile::work_lock(&files);
        let writer = Writer::new(connection, files.clone(), failures.clone(), clock, limits);
        let settings = Settings {
            wal,
            failures,
            work_lock,
            inline: usage.inline,
            patience: usage.patience,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                committer: Committer::new(turnstile, writer, settings),
                files,
                clock,
                rules: PublishRules {
                    implicit_queues: usage.implicit_queues,
                    max_body: options.max_body,
                    deduplication: topology::milliseconds(options.deduplication),
                },
                retention_dead: options.retention_dead,
                end_marked: usage.end_marked.clone(),
                _open: open,
            }),
        })
    }

    fn files(&self) -> &Files {
        &self.inner.files
    }

    pub(crate) fn rules(&self) -> PublishRules {
        self.inner.rules
    }

    /// Runs an operation in a transaction; returns when it is durable.
    pub(crate) async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.inner.committer.write(operation).await
    }

    /// Reads a consistent state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.inner.committer.read(read)
    }

    fn submit(&self, work: Box<dyn Work>) -> Result<()> {
        self.inner.committer.submit(work)
    }

    /// Ends whatever still runs on behalf of a dead owner; returns how many processes could not be ended.
    async fn end_marked(&self, token: &str) -> usize {
        let Some(end) = self.inner.end_marked.clone() else {
            return 0;
        };
        let (token, lifeline) = (token.to_owned(), owners::open(self, token).ok());
        // A panic in there must not keep the messages from being given back.
        tokio::task::spawn_blocking(move || end(&token, lifeline.as_ref()))
            .await
            .unwrap_or(0)
    }

    /// Removes dead letters that are older than `retention: {dead: …}`.
    pub(crate) async fn sweep_dead(&self) -> Result<u64> {
        let Some(retention) = self.inner.retention_dead else {
            return Ok(0);
        };
        let retention = topology::milliseconds(retention);
        let mut removed = 0;
        loop {
            let step = self
                .write(move |tx| admin::remove_dead_before(tx, tx.now - retention, 1000))
                .await?;
            removed += step;
            if step == 0 {
                return Ok(removed);
            }
        }
    }

    /// A round trip through the file, writing included.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.write(|tx| {
            tx.execute("UPDATE meta SET value = ?1 WHERE key = 'last'", [tx.now])
                .map(drop)
        })
        .await
    }
}

/// Opens the database with what every connection needs.
fn connect(files: &Files, failures: &Failures) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = failures.result(Connection::open_with_flags(&files.database, flags))?;
    // The turnstile keeps our own writers apart; this is for backups and shells, and short because they are rare.
    failures.result(connection.busy_timeout(Duration::from_secs(5)))?;
    // A refused open changes nothing in the file.
    failures.result(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true))?;
    // Without this guarantee a statement with a bound LIMIT is planned anew at every use.
    failures.result(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))?;
    // The commit itself does not flush: `commit` does, once for a whole group.
    failures.result(connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 2000; PRAGMA temp_store = MEMORY;",
    ))?;
    Ok(connection)
}

/// Makes the tables; several processes may try at once.
fn create(connection: &Connection, turnstile: &Turnstile, failures: &Failures, patience: Duration) -> Result<()> {
    use_write_ahead_log(connection, turnstile, failures, patience)?;
    exclusively(connection, turnstile, failures, patience, |connection| {
        let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            schema::create(connection)
        } else {
            Ok(())
        }
    })
}

/// A new file, or a restored backup, has no write-ahead log yet.
fn use_write_ahead_log(
    connection: &Connection,
    turnstile: &Turnstile,
    failures: &Failures,
    patience: Duration,
) -> Result<()> {
    let mode = |pragma: &str| failures.result(connection.query_row(pragma, [], |row| row.get::<_, String>(0)));
    if mode("PRAGMA journal_mode")? == "wal" {
        return Ok(());
    }
    turnstile.enter_within(patience, failures)?;
    let made = mode("PRAGMA journal_mode = WAL");
    turnstile.leave();
    if made? == "wal" {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "store {}: this file system does not support a write-ahead log; put the store on a local disk",
        failures.path()
    )))
}

/// Runs a change in a transaction of its own, in turn.
fn exclusively<T>(
    connection: &Connection,
    turnstile: &Turnstile,
    failures: &Failures,
    patience: Duration,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T> {
    turnstile.enter_within(patience, failures)?;
    let result = (|| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let value = change(connection)?;
        connection.execute_batch("COMMIT")?;
        Ok(value)
    })();
    if result.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    turnstile.leave();
    failures.result(result)
}

/// The operations that the driver runs in the store.
pub(crate) mod operations {
    pub(crate) use super::admin::{
        count_dead, dead_letters_of, delete, drop_message, expire_now, purge_some, redrive_some, release_message,
        set_paused, withdraw,
    };
    pub(crate) use super::look::{info, peek};
    pub(crate) use super::owners::reap;
    pub(crate) use super::publish::{REPLY_QUEUE, implicit_queue, publish};

    use super::{Store, Tx};
    use crate::error::Result;
    use crate::queue::Topology;

    /// The names of all queues but temporary ones.
    pub(crate) fn queue_names(tx: &mut Tx<'_>) -> Result<Vec<String>> {
        tx.queue_names()
    }

    /// Whether all of it is there as described, so that no transaction is needed.
    pub(crate) fn is_declared(store: &Store, topology: &Topology) -> Result<bool> {
        store.read(|tx| tx.is_declared(topology))
    }

    /// Whether the queue has messages whose time is over.
    pub(crate) fn has_expired(store: &Store, queue: &str) -> Result<bool> {
        store.read(|tx| {
            let queue = tx.expect_queue(queue)?;
            tx.sql(tx.connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM message WHERE queue = ?1 AND expires <= ?2 AND state < 2)",
                (queue.id, tx.now),
                |row| row.get(0),
            ))
        })
    }

    /// A number this store has not given before.
    pub(crate) fn next_number(tx: &mut Tx<'_>) -> Result<i64> {
        tx.sql(tx.connection.query_row(
            "INSERT INTO meta VALUES ('number', 1) ON CONFLICT(key) DO UPDATE SET value = value + 1 RETURNING value",
            [],
            |row| row.get(0),
        ))
    }
}
