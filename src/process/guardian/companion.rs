//! The guardian's own side: it waits for the consumer's end, and ends what the consumer has left behind.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::board::{self, Verdict};
use crate::process::ignore::ignore_requests_to_end;
use crate::process::marked;

/// What it says when it is ready.
pub(super) const READY: &[u8] = b"ready";

/// Usage: it was not started by a consumer.
const USAGE: u8 = 2;

/// The guardian's whole life; the answer is its exit code. Its standard output is the consumer's lifeline, so nothing may
/// ever be printed there.
pub fn main() -> u8 {
    ignore_requests_to_end();
    let Ok(token) = std::env::var(super::TOKEN) else {
        return USAGE;
    };
    if token.is_empty() {
        return USAGE;
    }
    // A consumer that does not listen is gone, which the board will tell.
    let _ = rustix::io::write(rustix::stdio::stderr(), READY);
    wait_for_the_end();
    match board::read(&String::from_utf8_lossy(&read_all())) {
        Verdict::Closed => 0,
        Verdict::Abandoned(groups) => {
            let sweep = marked::end_left_behind(&token, &groups);
            u8::from(sweep.left > 0)
        }
    }
}

/// Waits until no process holds the board's writing end. What is written meanwhile does not wake it.
fn wait_for_the_end() {
    let stdin = rustix::stdio::stdin();
    loop {
        let mut set = [PollFd::from_borrowed_fd(stdin, PollFlags::empty())];
        match poll(&mut set, None) {
            Ok(_) if !set[0].revents().is_empty() => return,
            // A board that cannot be watched is taken for the end: children without a guardian are worse.
            Err(error) if error != Errno::INTR => return,
            _ => {}
        }
    }
}

fn read_all() -> Vec<u8> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(count) if count > 0 => text.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            _ => return text,
        }
    }
}
