//! Waiting for a process's end on the event loop.
//!
//! `AsyncFd::register` is unsafe, because the descriptor must stay open as long as it is registered; that it does is said where
//! it is called.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// The end of one process.
#[derive(Debug)]
pub(super) struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// Of the process that this descriptor stands for; `None` where it cannot be waited for.
    pub(super) fn watch(fd: &OwnedFd) -> Option<Self> {
        let own = fd.try_clone().ok()?;
        // SAFETY: the `AsyncFd` owns the descriptor and hands it out by shared reference only.
        unsafe { AsyncFd::register(own) }.ok().map(Self)
    }

    /// Waits for it.
    pub(super) async fn ended(&self) {
        let _ = self.0.readable().await;
    }
}
