//! qctl puts work on a queue, takes it off safely, and keeps the processes that do so alive.
//!
//! This is the library behind the command of the same name: everything the commands do can be done from Rust. It installs
//! no signal handlers and sets nothing for the whole process; a runtime, a stop signal and a place for logs
//! ([`tracing`](https://docs.rs/tracing)) are the caller's.
//!
//! # A producer
//!
//! ```
//! use qctl::drivers::sqlite;
//! use qctl::producer::{Producer, ProducerSettings};
//! use qctl::queue::{ConnectOptions, Message};
//! use qctl::store::StoreOptions;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> qctl::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("queue.db");
//! let options = ConnectOptions { implicit_queues: true, ..ConnectOptions::default() };
//! let connection = sqlite::connector(StoreOptions::at(path)).connect(&options).await?;
//! let settings = ProducerSettings { queue: "mail".to_owned(), ..ProducerSettings::default() };
//! let producer = Producer::new(connection, settings).await?;
//! let id = producer.send(Message::new("hello")).await?; // on disk when this returns
//! # assert!(!id.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # A consumer
//!
//! ```
//! use std::sync::Arc;
//!
//! use qctl::consumer::{self, Call, ConsumerSettings, Handler, Limits, Outcome, Report, Stop};
//! use qctl::drivers::sqlite;
//! use qctl::queue::ConnectOptions;
//! use qctl::store::StoreOptions;
//!
//! struct Mailer;
//!
//! #[async_trait::async_trait]
//! impl Handler for Mailer {
//!     async fn handle(&self, call: Call) -> Outcome {
//!         // … the work; a handler says what came of it and never settles by itself.
//!         # assert_eq!(call.message.body, b"hello");
//!         Outcome::Done(Report::default())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> qctl::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("queue.db");
//! # let options = ConnectOptions { implicit_queues: true, ..ConnectOptions::default() };
//! # let connection = sqlite::connector(StoreOptions::at(&path)).connect(&options).await?;
//! # let producer = qctl::producer::ProducerSettings { queue: "mail".to_owned(), ..Default::default() };
//! # qctl::producer::Producer::new(connection, producer).await?.send(qctl::queue::Message::new("hello")).await?;
//! let settings = ConsumerSettings {
//!     queue: "mail".to_owned(),
//!     concurrency: 4,
//!     limits: Limits { until_empty: true, ..Limits::default() },
//!     ..ConsumerSettings::default()
//! };
//! let store = sqlite::connector(StoreOptions::at(path));
//! let ended = consumer::run(store, options, settings, Arc::new(Mailer), Stop::default()).await?;
//! assert_eq!(ended.done, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The rooms
//!
//! [`queue`] is the contract of every driver, with the numbered rules; [`drivers`] are its implementations and [`store`] the
//! embedded one's ground. [`producer`] sends; [`consumer`] takes, has a [`handlers`] entry handle, and settles. [`observe`] shows a consumer to those outside. [`process`] runs
//! children, [`residents`] are those that live on; [`events`] tells listeners, [`signing`] checks who sent a message, [`web`] asks
//! over HTTP behind a fence. [`wire`] holds formats that others read and write, [`config`] reads the file, [`settings`] is a piece of it
//! that knows its place. `ARCHITECTURE.md` is the tour.

#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod commands;
pub mod config;
pub mod consumer;
#[doc(hidden)]
pub mod context;
pub mod drivers;
pub mod error;
pub mod events;
pub mod handlers;
#[doc(hidden)]
pub mod logging;
pub mod observe;
#[doc(hidden)]
pub mod output;
pub mod process;
pub mod producer;
pub mod queue;
pub mod residents;
pub mod settings;
#[doc(hidden)]
pub mod signals;
pub mod signing;
pub mod store;
pub mod watchdog;
pub mod web;
pub mod wire;

pub use error::{Error, ErrorKind, Result};

use std::ffi::OsString;
use std::process::ExitCode;

/// The command `qctl`: parses these arguments (the program's name first), does what they say, and returns the exit code.
/// It may be called more than once in a process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // A guardian lives as long as its consumer, so it is spared what the parser would leave in memory.
    if arguments
        .get(1)
        .is_some_and(|word| word == process::guardian::SUBCOMMAND)
    {
        return ExitCode::from(process::guardian::main());
    }
    if arguments
        .get(1)
        .is_some_and(|word| word == watchdog::keeper::SUBCOMMAND)
    {
        return ExitCode::from(watchdog::keeper::main(|talk| {
            // Where lines cannot be shown, the worker is kept all the same.
            let _ = logging::Logging {
                level: logging::level(talk.verbose, talk.quiet, tracing::level_filters::LevelFilter::INFO),
                json: talk.json,
                color: false,
                file: None,
            }
            .install();
        }));
    }
    if arguments.get(1).is_some_and(|word| word == watchdog::NOTIFY) {
        return ExitCode::from(commands::notify::main(&arguments));
    }
    match commands::completions::answer(&arguments) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return ExitCode::from(error.exit_code()),
    }
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let context = context::Context::new(cli.global);
    match commands::run(&cli.command, &context) {
        Ok(outcome) => ExitCode::from(outcome.0),
        Err(error) => {
            context.output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
