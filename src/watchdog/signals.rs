//! Signals as something to read: nothing interrupts, and none is lost while something else is done.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that wait until they are read.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Has these signals wait from now on. For a process of one thread, and for those that it starts later.
    pub(super) fn block(which: &[Signal]) -> nix::Result<Self> {
        let mask: SigSet = which.iter().copied().collect();
        mask.thread_block()?;
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// The next one that has come.
    pub(super) fn next(&mut self) -> Option<Signal> {
        let found = self.0.read_signal().ok()??;
        Signal::try_from(found.ssi_signo.cast_signed()).ok()
    }
}

/// Becomes readable when one has come.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
