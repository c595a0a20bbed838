//! SQLite's failures, said so that an operator knows what to do.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::error::{Error, Result};

/// Explains failures of one store.
#[derive(Clone, Debug)]
pub(crate) struct Failures {
    path: PathBuf,
}

impl Failures {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    pub(crate) fn explain(&self, error: rusqlite::Error) -> Error {
        let store = format!("store {}", self.path.display());
        let Some(code) = error.sqlite_error_code() else {
            return self.unexpected(error);
        };
        match code {
            ErrorCode::DiskFull => {
                Error::temporary(format!("{store}: the disk is full; nothing was stored, free some space and try again"))
            }
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::temporary(format!(
                "{store} is locked by another program (a backup or an sqlite3 shell?); try again when it is done"
            )),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Error::not_allowed(format!(
                "{store} cannot be written by this user; run as its owner, or set `mode:` and `group:` of the connection"
            )),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => self.damaged(),
            ErrorCode::CannotOpen => Error::unavailable(format!("{store} cannot be opened; check that its folder is there and writable")),
            ErrorCode::SystemIoFailure => {
                Error::unavailable(format!("{store}: reading or writing failed; look at the kernel's log for the disk"))
            }
            ErrorCode::TooBig => Error::bad_input(format!("{store}: the message is too large")),
            _ => Error::bug(format!("{store}: an unexpected failure")),
        }
        .because(error)
    }

    /// An answer that our statements cannot give.
    fn unexpected(&self, error: rusqlite::Error) -> Error {
        match error {
            // What we write reads back: the bytes on the disk are others now.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows => self.damaged(),
            _ => Error::bug(format!("store {}: an unexpected answer", self.path.display())),
        }
        .because(error)
    }

    fn damaged(&self) -> Error {
        Error::protocol(format!(
            "store {} is damaged or not a store; `qctl store check` says what is wrong, then restore a backup",
            self.path.display()
        ))
    }

    pub(crate) fn result<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|error| self.explain(error))
    }
}
