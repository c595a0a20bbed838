//! Waiting for a queue's bell and for owners' deaths, by inotify.
//!
//! A bell is rung after the commit, so that whoever wakes sees the message. Where the system has no inotify instance left
//! (`fs.inotify.max_user_instances`), the store is looked at ten times a second instead, and that is logged.

// tokio registers a descriptor with its reactor by an unsafe call only: the caller promises that the descriptor stays the same
// open file for as long as it is registered. An `OwnedFd` that nobody else has keeps that promise.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::Store;
use super::files::Files;
use crate::error::{Error, Result};

/// What woke the waiting consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// The queue's bell was rung.
    pub(crate) bell: bool,
    /// An owner's file was closed: somebody may have died.
    pub(crate) owners: bool,
    /// Our own owner file is gone: the store was cleaned or replaced under us.
    pub(crate) evicted: bool,
}

/// Watches one queue.
pub(crate) struct Watch {
    inotify: Option<AsyncFd<OwnedFd>>,
    bell: i32,
    bell_path: PathBuf,
    /// The database itself, to notice that it was removed or replaced.
    database: i32,
    files: Files,
    inode: Option<u64>,
    token: String,
}

/// How often to look where nothing can be watched.
const POLL: Duration = Duration::from_millis(100);

impl Watch {
    /// Starts to watch; what happens from now on is not missed.
    pub(crate) fn start(store: &Store, queue: i64, token: &str) -> Result<Self> {
        let bell_path = store.files().bells.join(queue.to_string());
        drop(store.files().open_side(&bell_path)?);
        let unwatched = |error: rustix::io::Errno| {
            tracing::warn!(
                %error,
                "no inotify watch to be had (raise fs.inotify.max_user_instances); looking at the store ten times a second"
            );
            Self {
                inotify: None,
                bell: 0,
                bell_path: bell_path.clone(),
                database: 0,
                files: store.files().clone(),
                inode: inode_of(store.files()),
                token: token.to_owned(),
            }
        };
        let descriptor = match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(descriptor) => descriptor,
            Err(error) => return Ok(unwatched(error)),
        };
        let watches = inotify::add_watch(&descriptor, &bell_path, WatchFlags::ATTRIB | WatchFlags::DELETE_SELF)
            .and_then(|bell| {
                inotify::add_watch(
                    &descriptor,
                    &store.files().owners,
                    WatchFlags::CLOSE_WRITE | WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR,
                )
                .map(|_| bell)
            })
            .and_then(|bell| {
                let flags = WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
                inotify::add_watch(&descriptor, &store.files().database, flags).map(|database| (bell, database))
            });
        match watches {
            Err(error) => Ok(unwatched(error)),
            Ok((bell, database)) => Ok(Self {
                inotify: Some(
                    // SAFETY: the `AsyncFd` owns the descriptor and hands it out by shared reference only.
                    unsafe { AsyncFd::register(descriptor) }
                        .map_err(|error| Error::unavailable(format!("inotify cannot be waited for: {error}")))?,
                ),
                bell,
                bell_path,
                database,
                files: store.files().clone(),
                inode: inode_of(store.files()),
                token: token.to_owned(),
            }),
        }
    }

    /// Takes the events there are, without waiting.
    pub(crate) fn drain(&self) -> Woken {
        let mut woken = Woken::default();
        let Some(inotify) = &self.inotify else {
            return Woken {
                bell: true,
                owners: true,
                evicted: false,
            };
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                woken.bell = true;
                woken.owners = true;
            } else if event.wd() == self.database {
                woken.evicted |= self.is_replaced();
            } else if event.wd() == self.bell {
                woken.bell = true;
                // Removed: publishers ring another one from now on.
                woken.evicted |= !self.bell_path.exists();
            } else if event.events().intersects(ReadFlags::DELETE | ReadFlags::DELETE_SELF) {
                let own = event
                    .file_name()
                    .is_some_and(|name| name.to_bytes() == self.token.as_bytes());
                woken.evicted |= own || event.events().contains(ReadFlags::DELETE_SELF);
            } else if event.events().contains(ReadFlags::CLOSE_WRITE) {
                woken.owners = true;
            }
        }
        woken
    }

    /// Whether the database's path no longer leads to the file that is open: whatever is put there now is not for us.
    pub(crate) fn is_replaced(&self) -> bool {
        inode_of(&self.files) != self.inode
    }

    /// Waits until there are events, and takes them. Cancel-safe.
    pub(crate) async fn wait(&self) -> Woken {
        let Some(inotify) = &self.inotify else {
            tokio::time::sleep(POLL).await;
            return self.drain();
        };
        loop {
            let Ok(mut guard) = inotify.readable().await else {
                tokio::time::sleep(POLL).await;
                return Woken {
                    bell: true,
                    owners: true,
                    evicted: false,
                };
            };
            let woken = self.drain();
            if woken != Woken::default() {
                return woken;
            }
            guard.clear_ready();
        }
    }
}

fn inode_of(files: &Files) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(&files.database).ok().map(|metadata| metadata.ino())
}
