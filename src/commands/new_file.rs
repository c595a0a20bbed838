//! Writes a file that must not be there yet, or exchanges one whole.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Who may read a file that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// As the user's mask has it.
    Usual,
    /// Its owner alone.
    Owner,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Usual => 0o666,
            Self::Owner => 0o600,
        }
    }
}

/// Writes a new file; `force` exchanges one that is there once the new one is whole, so that a full disk leaves the old one.
pub(super) fn write(path: &Path, text: &str, readers: Readers, force: bool) -> Result<()> {
    refuse_existing(path, force)?;
    exchange(path, text, readers, force).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => there_already(path),
        _ => Error::unwritable(path.display(), error),
    })
}

/// Refuses a file that is there, before anybody is asked anything.
pub(super) fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    // A link that leads nowhere is there too.
    if !force && path.symlink_metadata().is_ok() {
        return Err(there_already(path));
    }
    Ok(())
}

fn exchange(path: &Path, text: &str, readers: Readers, force: bool) -> std::io::Result<()> {
    // What a link points to is exchanged, not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match target.metadata() {
        Ok(there) if force && there.is_file() => {
            let mut name = target.file_name().unwrap_or_default().to_owned();
            name.push(format!(".new-{}", std::process::id()));
            let new = target.with_file_name(name);
            create(&new, text, readers)?;
            let mode = match readers {
                Readers::Usual => std::fs::set_permissions(&new, there.permissions()),
                Readers::Owner => Ok(()),
            };
            mode.and_then(|()| std::fs::rename(&new, &target))
                .inspect_err(|_| drop(std::fs::remove_file(&new)))
        }
        Ok(_) if force => OpenOptions::new().write(true).open(&target)?.write_all(text.as_bytes()),
        _ => create(path, text, readers),
    }
}

fn create(path: &Path, text: &str, readers: Readers) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(readers.mode())
        .open(path)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(std::fs::remove_file(path)))
}

fn there_already(path: &Path) -> Error {
    Error::bad_input(format!(
        "{} is there already; name another FILE, or add --force",
        path.display()
    ))
}
