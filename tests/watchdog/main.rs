//! The watchdog with real processes: what it keeps alive, through what, and what it leaves behind (nothing). One file a kind of
//! trouble; every test ends all that it has started, and fails if something is left, see [`ground`].
// The harness is used in part.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

mod ground;

mod changes;
mod crowd;
mod disk;
mod ends;
mod foreground;
mod gaps;
mod hearts;
mod identity;
mod kills;
mod listeners;
mod reports;
mod samples;
mod services;
mod trees;
mod verbs;
