//! Persistent workers through the program: those of the documentation, run as they stand there, and those that misbehave in
//! every way that was thought of. A worker that was killed, or whose consumer was, leaves nothing behind.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../rabbit/mod.rs"]
mod rabbit;
#[path = "../it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

mod ground;

mod kinds;
mod lives;
mod misbehaviour;
mod process_ways;
