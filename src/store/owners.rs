//! Owners: who holds messages, and how their death is noticed.
//!
//! An owner is a file in `<db>.owners/`, locked for as long as any process that acts for the consumer has it open (the
//! consumer itself and its guardian share one descriptor). A lock that can be taken means that all of them are dead. The
//! process id stands in the store for display only: another container cannot see it.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::Store;
use super::claim::recover;
use super::writer::Tx;
use crate::error::{Error, Result};
use crate::queue::Lifeline;

/// The random bytes of a token.
const TOKEN_BYTES: usize = 16;

/// A living owner; dropping it without [`Owner::leave`] is like dying.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) id: i64,
    pub(crate) token: String,
    file: Arc<File>,
}

impl Owner {
    /// Registers a new owner.
    pub(crate) async fn register(store: &Store, label: &str, queue: Option<i64>) -> Result<Self> {
        let token = random_token()?;
        let folder = &store.files().owners;
        // The file appears under its name only when it is locked, so that nobody takes it for a dead one.
        let draft = folder.join(format!(".{token}"));
        let file = store.files().open_own_side(&draft)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::unavailable("the owner file cannot be locked").because(error))?;
        fs::rename(&draft, folder.join(&token))
            .map_err(|error| Error::unavailable("the owner file cannot be put in place").because(error))?;
        let (row_token, label, host) = (token.clone(), label.to_owned(), host_name());
        let id = store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO owner(token, queue, pid, host, label, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    (row_token, queue, std::process::id(), host, label, tx.now),
                )?;
                let id = tx.connection.last_insert_rowid();
                tx.execute("UPDATE meta SET value = ?1 WHERE key = 'last'", [tx.now])?;
                if queue.is_some() {
                    // Whoever publishes from now on has to ring.
                    tx.changed()?;
                }
                Ok(id)
            })
            .await?;
        Ok(Self {
            id,
            token,
            file: Arc::new(file),
        })
    }

    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline {
            token: self.token.clone(),
            file: Some(Arc::clone(&self.file)),
            socket: None,
        }
    }

    /// Leaves in order: what is held goes back at once and counts as untouched.
    pub(crate) async fn leave(&self, store: &Store) -> Result<u64> {
        let (id, token) = (self.id, self.token.clone());
        let given_back = store.write(move |tx| recover(tx, id, &token, false)).await?;
        let _ = fs::remove_file(store.files().owners.join(&self.token));
        Ok(given_back)
    }
}

/// What a look for dead owners came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaped {
    /// So many messages were given back.
    pub(crate) messages: u64,
    /// So many owners are dead but have processes that could not be ended; their messages wait for those.
    pub(crate) haunted: usize,
}

/// Looks for dead owners, ends what still runs for them, and gives their messages back.
pub(crate) async fn reap(store: &Store, own: Option<&str>) -> Result<Reaped> {
    let owners: Vec<(i64, String)> = store.read(|tx| {
        tx.sql(
            tx.connection
                .prepare_cached("SELECT id, token FROM owner")
                .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()),
        )
    })?;
    let mut reaped = Reaped::default();
    for (id, token) in owners {
        if own == Some(token.as_str()) || !is_dead(store, &token) {
            continue;
        }
        let left = store.end_marked(&token).await;
        if left > 0 {
            tracing::warn!(
                owner = %token,
                processes = left,
                "a consumer died, but not all of its processes can be ended from here (another user's, or stuck); its \
                 messages wait until they are gone"
            );
            reaped.haunted += 1;
            continue;
        }
        let row_token = token.clone();
        let messages = store.write(move |tx| recover_once(tx, id, &row_token)).await?;
        if let Some(path) = path_of(store, &token) {
            let _ = fs::remove_file(path);
        }
        if let Some((messages, who)) = messages {
            if messages == 0 {
                // One-shot commands leave no word; what held nothing is no news.
                tracing::debug!(owner = %who, "an owner that held nothing is gone");
            } else {
                tracing::warn!(owner = %who, messages, "a consumer died; what it held is given back");
            }
            reaped.messages += messages;
        }
    }
    Ok(reaped)
}

/// Recovers an owner unless another process has just done so.
fn recover_once(tx: &mut Tx<'_>, id: i64, token: &str) -> Result<Option<(u64, String)>> {
    use rusqlite::OptionalExtension;
    let found: Option<(Option<i64>, Option<String>)> = tx.sql(
        tx.connection
            .query_row(
                "SELECT pid, label FROM owner WHERE id = ?1 AND token = ?2",
                (id, token),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional(),
    )?;
    let Some((pid, label)) = found else {
        return Ok(None);
    };
    let who = format!("{} (pid {})", label.unwrap_or_default(), pid.unwrap_or_default());
    Ok(Some((recover(tx, id, token, true)?, who)))
}

/// Opens an owner's file to look at it.
pub(super) fn open(store: &Store, token: &str) -> io::Result<File> {
    let path = path_of(store, token).ok_or(io::ErrorKind::NotFound)?;
    // Whoever shares the store could put a link to any file in its place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(path, flags, Mode::empty())?.into();
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Where an owner's file is. A token comes from the store, which others may write: one that we did not make names no file.
fn path_of(store: &Store, token: &str) -> Option<PathBuf> {
    let made_here = token.len() == 2 * TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    made_here.then(|| store.files().owners.join(token))
}

/// Whether nobody holds the owner's lock.
pub(crate) fn is_dead(store: &Store, token: &str) -> bool {
    match open(store, token) {
        // The file is gone: the folder was cleaned by hand. Its owner, if it lives, notices and stops.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_ok(),
    }
}

/// 128 random bits in hexadecimal.
pub(crate) fn random_token() -> Result<String> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::unavailable("the system gives no random numbers").because(std::io::Error::other(error.to_string()))
    })?;
    Ok(bytes
        .iter()
        .fold(String::with_capacity(2 * TOKEN_BYTES), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        }))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
