//! qctl and RabbitMQ as users meet them: the program on one side, the real broker and a foreign AMQP client (pika, in
//! Python) on the other. One file an idea; each test has a virtual host of its own.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../rabbit/mod.rs"]
mod rabbit;
#[path = "../it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

mod ground;

mod commands;
mod connect;
mod golden;
mod hostile;
mod properties;
mod publish;
mod retries;
mod rpc;
mod signing;
mod topology;
