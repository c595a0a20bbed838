//! The files of a store: the database, and beside it owners, bells and locks.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind as IoKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Mode, OFlags};

use super::StoreOptions;
use crate::error::{Error, Result};

/// What may be made where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    /// Nothing: the store must be there.
    Nothing,
    /// The store, and the folder it is in.
    Store,
    /// The store, and all folders on the way.
    Folders,
}

/// Paths of a store and the permissions all of them get.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) database: PathBuf,
    pub(crate) wal: PathBuf,
    pub(crate) owners: PathBuf,
    pub(crate) bells: PathBuf,
    pub(crate) locks: PathBuf,
    mode: u32,
    group: Option<u32>,
}

impl Files {
    /// Finds the paths and creates what is missing.
    pub(crate) fn prepare(options: &StoreOptions, create: Create) -> Result<Self> {
        let database = resolved(&absolute(&options.path)?)?;
        let group = options.group.as_deref().map(group_id).transpose()?;
        let files = Self {
            wal: with_suffix(&database, "-wal"),
            owners: with_suffix(&database, ".owners"),
            bells: with_suffix(&database, ".bells"),
            locks: with_suffix(&database, ".locks"),
            database,
            mode: options.mode,
            group,
        };
        if create == Create::Nothing {
            files.expect_database()?;
        }
        let folder = files.database.parent().unwrap_or(Path::new("/"));
        if create != Create::Nothing && !folder.is_dir() {
            // Only the last folder: a path of which more is missing is rather a typing error than a wish.
            let made = DirBuilder::new()
                .recursive(create == Create::Folders)
                .mode(0o700)
                .create(folder);
            match made {
                Ok(()) => files.dress_folder(folder)?,
                Err(error) if error.kind() == IoKind::AlreadyExists => {}
                Err(error) => {
                    let what = format!(
                        "its folder {} cannot be made; create it, or correct `url` (or `path`) of the connection",
                        folder.display()
                    );
                    return Err(files.trouble(&what, error));
                }
            }
        }
        refuse_network_file_system(folder)?;
        files.create_database(create)?;
        // Asked by path: opening the file here, beside SQLite, would drop its locks when it is closed again.
        rustix::fs::access(
            &files.database,
            rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
        )
        .map_err(|error| files.trouble("it cannot be read and written by this user", error.into()))?;
        Ok(files)
    }

    /// Makes the side folders; called when the database is known to be a store of ours.
    pub(crate) fn make_sides(&self) -> Result<()> {
        for side in [&self.owners, &self.bells, &self.locks] {
            match DirBuilder::new().mode(0o700).create(side) {
                Ok(()) => self.dress_folder(side)?,
                Err(error) if error.kind() == IoKind::AlreadyExists => {}
                Err(error) => return Err(self.trouble(&format!("{} cannot be made", side.display()), error)),
            }
        }
        Ok(())
    }

    fn expect_database(&self) -> Result<()> {
        match fs::metadata(&self.database) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == IoKind::NotFound => Err(Error::not_found(format!(
                "there is no store at {}; the first message or consumer makes it",
                self.database.display()
            ))),
            Err(error) => Err(self.trouble("it cannot be read", error)),
        }
    }

    /// SQLite gives its -wal and -shm files the mode of the database, so the database must exist with the right one first.
    fn create_database(&self, create: Create) -> Result<()> {
        if create == Create::Nothing {
            return Ok(());
        }
        if let Ok(found) = fs::metadata(&self.database) {
            return if found.is_dir() {
                Err(Error::config(format!(
                    "store {} is a folder; the path must name a file in it",
                    self.database.display()
                )))
            } else {
                Ok(())
            };
        }
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.database)
        {
            Ok(file) => self.dress(&file, self.mode),
            Err(error) if error.kind() == IoKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.trouble("it cannot be created", error)),
        }
    }

    /// Gives a file or folder its mode and the store's group: by its descriptor, since whoever shares the folder could put
    /// something else in its place meanwhile.
    fn dress(&self, file: &File, mode: u32) -> Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(|error| self.trouble("its mode cannot be set", error))?;
        if let Some(group) = self.group {
            rustix::fs::fchown(file, None, Some(Gid::from_raw(group)))
                .map_err(|error| self.trouble("its group cannot be set", error.into()))?;
        }
        Ok(())
    }

    /// As `dress`, for a folder: who may read or write it must be able to enter it.
    fn dress_folder(&self, path: &Path) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| self.trouble(&path.display().to_string(), error.into()))?;
        self.dress(&folder.into(), self.mode | ((self.mode & 0o444) >> 2))
    }

    /// Opens (and creates with the store's permissions) a side file.
    pub(crate) fn open_side(&self, path: &Path) -> Result<File> {
        self.open_side_as(path, self.mode)
    }

    /// Opens a side file that nobody but its owner may write.
    pub(crate) fn open_own_side(&self, path: &Path) -> Result<File> {
        self.open_side_as(path, self.mode & !0o022)
    }

    fn open_side_as(&self, path: &Path, mode: u32) -> Result<File> {
        let open = |new: bool| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(new)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(path)
        };
        match open(false) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == IoKind::NotFound => match open(true) {
                Ok(file) => {
                    self.dress(&file, mode)?;
                    Ok(file)
                }
                Err(error) if error.kind() == IoKind::AlreadyExists => {
                    open(false).map_err(|error| self.trouble(&path.display().to_string(), error))
                }
                Err(error) => Err(self.trouble(&path.display().to_string(), error)),
            },
            Err(error) => Err(self.trouble(&path.display().to_string(), error)),
        }
    }

    fn trouble(&self, what: &str, error: std::io::Error) -> Error {
        let message = format!("store {}: {what}", self.database.display());
        match error.kind() {
            IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => Error::not_allowed(format!(
                "{message}; run as its owner, or set `mode:` and `group:` of the connection"
            )),
            IoKind::StorageFull => Error::temporary(format!("{message}; free some disk space")),
            _ => Error::unavailable(message),
        }
        .because(error)
    }
}

/// Holds a shared lock as long as this process has the store open, so that a migration knows of it.
pub(crate) fn open_lock(files: &Files) -> Result<File> {
    let lock = files.open_side(&files.locks.join("open"))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).map_err(|_| {
        Error::temporary(format!(
            "store {} is being migrated or compacted by another process; try again when that is done",
            files.database.display()
        ))
    })?;
    Ok(lock)
}

/// The pids of the processes that hold a lock on this file, from `/proc/locks`; for display.
pub(crate) fn lock_holders(lock: &File) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(inode) = lock.metadata().map(|metadata| metadata.ino()) else {
        return Vec::new();
    };
    // The list is read in parts, and misses lines where locks come and go meanwhile.
    (0..LOOKS_FOR_HOLDERS)
        .map(|_| holders_now(inode))
        .find(|holders| !holders.is_empty())
        .unwrap_or_default()
}

const LOOKS_FOR_HOLDERS: usize = 10;

fn holders_now(inode: u64) -> Vec<u32> {
    let suffix = format!(":{inode}");
    let own = std::process::id();
    let mut pids: Vec<u32> = fs::read_to_string("/proc/locks")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let at = fields.iter().position(|field| field.ends_with(&suffix))?;
            fields.get(at.checked_sub(1)?)?.parse().ok()
        })
        .filter(|pid| *pid != own)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::config(format!(
            "store path {} cannot be resolved; write an absolute one",
            path.display()
        ))
        .because(error)
    })
}

/// As many links as the kernel follows.
const LINKS_AT_MOST: usize = 40;

/// The same path for everybody, whichever links lead to it: the side files must be the same too.
fn resolved(path: &Path) -> Result<PathBuf> {
    if let Ok(found) = fs::canonicalize(path) {
        use std::os::unix::fs::MetadataExt;
        if fs::metadata(&found).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() > 1) {
            return Err(Error::config(format!(
                "store {} has several hard links, whose side files would differ; keep one name for it",
                path.display()
            )));
        }
        return Ok(found);
    }
    // It is not there yet, but a link to it may be.
    let mut path = path.to_owned();
    for _ in 0..LINKS_AT_MOST {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    Ok(match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path,
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn group_id(name: &str) -> Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    fs::read_to_string("/etc/group")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
        .ok_or_else(|| {
            Error::config(format!(
                "there is no group `{name}` on this machine; check `group:` of the connection"
            ))
        })
}

/// Locks and shared memory do not work across hosts, so a store there would lose messages.
fn refuse_network_file_system(folder: &Path) -> Result<()> {
    let found = rustix::fs::statfs(folder).map_err(|error| {
        Error::unavailable(format!("store folder {} cannot be looked at", folder.display())).because(error)
    })?;
    #[allow(clippy::unnecessary_cast)] // the field's type differs between architectures
    match network_file_system(found.f_type as i64) {
        None => Ok(()),
        Some(name) => Err(Error::unsupported(format!(
            "store folder {} is on {name}, a network file system, where locks cannot be trusted; put the store on a local disk",
            folder.display()
        ))),
    }
}

/// The name of a network file system by its magic number (statfs(2)).
fn network_file_system(magic: i64) -> Option<&'static str> {
    match magic & 0xffff_ffff {
        0x6969 => Some("NFS"),
        0x517b => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 => Some("SMB2"),
        0x5346_414f => Some("AFS"),
        0x6b41_4653 => Some("kAFS"),
        0x7375_7245 => Some("Coda"),
        0x564c => Some("NCP"),
        0x0102_1997 => Some("9P"),
        0x00c3_6400 => Some("Ceph"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636f => Some("OCFS2"),
        0x4750_4653 => Some("GPFS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::network_file_system;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(
            network_file_system(i64::from(0xff53_4d42_u32 as i32)),
            Some("CIFS"),
            "sign-extended on some machines"
        );
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_file_system(local), None, "{local:x}");
        }
    }
}
