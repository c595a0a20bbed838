//! The program as its users meet it: arguments in, streams and exit codes out. One file a subcommand.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod observer;
#[path = "../rabbit/mod.rs"]
mod rabbit;
mod support;

mod command_line;
mod completions;
mod config;
mod consumer;
mod echoback;
mod init;
mod listeners;
mod managedriver;
mod managequeue;
mod managequeue_rabbit;
mod metrics;
mod predecessors;
mod print;
mod queuecommand;
mod queuemessage;
mod readme;
mod signing;
mod store;
mod wait;
