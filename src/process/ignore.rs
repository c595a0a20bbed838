//! Ignoring signals, in the one process whose task is to outlive what they end.
#![allow(unsafe_code)] // `signal` is the only way to set a disposition, and no safe crate in the tree does it.

/// Ignores the signals that ask a program to end. Only for the guardian, which is a program of its own: a library must not
/// change its host's dispositions.
pub(super) fn ignore_requests_to_end() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN runs no code of ours, so nothing can be called at a wrong moment; both arguments are valid.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
