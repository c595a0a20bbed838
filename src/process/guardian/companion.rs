//! The guardian's own side: it waits for the consumer's end, and ends what the consumer has left behind.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::record;
use crate::process::ignore::ignore_requests_to_end;
use crate::process::marked;

/// What it says when it is ready.
pub(super) const READY: &[u8] = b"ready";

/// Usage: it was not started by a consumer.
const USAGE: u8 = 2;

/// The guardian's whole life; the answer is its exit code.
pub fn main() -> u8 {
    ignore_requests_to_end();
    let Ok(token) = std::env::var(super::TOKEN) else {
        return USAGE;
    };
    if token.is_empty() {
        return USAGE;
    }
    // A consumer that does not listen is gone, which the line will tell.
    let _ = rustix::io::write(rustix::stdio::stderr(), READY);
    wait_for_the_end();
    // A record that cannot be read tells nothing, and the marks have to do.
    let told = record::read(rustix::stdio::stdin()).unwrap_or_default();
    if told.closed {
        return 0;
    }
    u8::from(marked::end_left_behind(&token, &told).left > 0)
}

/// Waits until no process holds the other end of the line.
fn wait_for_the_end() {
    let line = rustix::stdio::stderr();
    loop {
        let mut set = [PollFd::from_borrowed_fd(line, PollFlags::empty())];
        match poll(&mut set, None) {
            Ok(_) if !set[0].revents().is_empty() => return,
            // A line that cannot be watched is taken for the end: children without a guardian are worse.
            Err(error) if error != Errno::INTR => return,
            _ => {}
        }
    }
}
