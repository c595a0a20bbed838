//! Files of the watchdog's: opened for what they are, locked, and found again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind as Kind};

/// Opens a file that is to be written, and makes it where there is none, for its owner alone.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with_mode(path, 0o600)
}

/// As [`open`], with this mode. What is no plain file, or a link to one, is refused.
pub(super) fn open_with_mode(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(mode);
    open_plain(&mut options, path)
}

/// Opens a file that is to be read.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open_plain(OpenOptions::new().read(true), path)
}

/// Opens what is a plain file, and no link to one.
pub(super) fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Without waiting: a pipe in its place would wait for somebody to write.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a file; remove it"));
    }
    Ok(file)
}

/// Takes a lock without waiting; `None`: another process has it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        if !lock_now(&file)? {
            return Ok(None);
        }
        if is_at(&file, path) {
            return Ok(Some(file));
        }
        // It was removed, and perhaps made anew, since it was opened: whoever has the new one has the lock.
    }
}

/// Takes the lock of an open file without waiting; says whether it was to be had.
pub(super) fn lock_now(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether this open file is the one at this path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => Error::not_allowed(format!(
            "the watchdog's state {shown} belongs to another user; run this as that user or as root"
        )),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::temporary(format!(
            "the watchdog's state {shown} cannot be written: the disk is full; make room"
        )),
        _ => Error::new(
            Kind::General,
            format!("the watchdog's state {shown} cannot be used: {error}; see `state_dir:`"),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_that_of_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&first, &path));
        let second = try_lock(&path).unwrap().unwrap();
        assert!(is_at(&second, &path));
    }

    #[test]
    fn only_plain_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        assert!(open(&path("file")).is_ok() && open_to_read(&path("file")).is_ok());
        for name in ["link", "."] {
            assert!(
                open(&path(name)).is_err() && open_to_read(&path(name)).is_err(),
                "{name}"
            );
        }
    }
}
