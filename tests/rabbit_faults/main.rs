//! The driver for RabbitMQ under attack, on the real broker: connections that are cut or stand still, consumers killed,
//! queues and logins taken away, and a broker that is stopped, killed, paused, or out of disk. After each of them nothing
//! that was confirmed is lost, what was handled again is counted, the consumer consumes again, and its log says what
//! happened, once.
//!
//! What harms the broker itself is below `broker`, one test at a time (`.config/nextest.toml`); the rest shares a
//! broker, each test in a virtual host of its own.
// Counts are told on standard error; the harness is used in part.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "../it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

#[path = "../rabbit/mod.rs"]
mod rabbit;

#[path = "../it/observer.rs"]
mod observer;

mod ground;

mod channels;
mod connections;
mod deaths;
mod observed;
mod one_shots;
mod poison;
mod settlements;
mod stops;

mod broker {
    mod alarms;
    mod hangs;
    mod restarts;
    mod timeouts;
}
