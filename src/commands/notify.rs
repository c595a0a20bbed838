//! `qctl __notify FILE LOCK`: tells the listeners of a configuration what has happened to a worker. Keepers start it, with the
//! events as lines of JSON on its standard input; what it says stands in the worker's log.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::cli::{Global, LogFormat, OutputFormat};
use crate::context::{Context, Workplace, program};
use crate::error::{Error, Result};
use crate::events::{Event, Listeners, ProcessEvent};
use crate::logging::Logging;
use crate::residents::Guard;
use crate::watchdog::wait_in_line;

/// Whoever has not heard by then is not told again.
const AT_MOST: Duration = Duration::from_mins(5);
/// What was told before may take so long, before it is overtaken.
const IN_LINE: Duration = Duration::from_secs(10);
/// The wait before a configuration that cannot be read is read again; it doubles.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_AGAIN: Duration = Duration::from_secs(30);
/// A keeper gives less.
const LARGEST_INPUT: u64 = 16 << 20;

/// Tells them; the answer is the exit code. `arguments` begins with the program's name.
pub fn main(arguments: &[OsString]) -> u8 {
    let logging = Logging {
        level: LevelFilter::INFO,
        json: false,
        color: false,
        file: None,
    };
    // Where lines cannot be shown, listeners are told all the same.
    let _ = logging.install();
    let Some(file) = arguments.get(2).map(PathBuf::from) else {
        tracing::error!("which configuration's listeners are to be told was not said");
        return Error::usage("").exit_code();
    };
    // Held to the end.
    let turn = arguments.get(3).and_then(|lock| wait_in_line(lock.as_ref(), IN_LINE));
    if turn.is_none() {
        tracing::warn!(
            "listeners are still being told of what was before, and may hear of what follows at the same time"
        );
    }
    let context = Context::new(Global {
        config: Some(file),
        output: OutputFormat::Table,
        yes: true,
        connect_timeout: Duration::from_secs(10),
        // Warnings of the configuration are told by those who check it.
        quiet: true,
        verbose: 0,
        no_color: true,
        log_format: LogFormat::Text,
    });
    match notify(&context) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "listeners are not told what has happened to a worker");
            error.exit_code()
        }
    }
}

fn notify(context: &Context) -> Result<()> {
    let events = events()?;
    let end = Instant::now() + AT_MOST;
    let place = load(context, end)?;
    let listeners = place.process_listeners(&Arc::new(Guard::new(&program()?)))?;
    place.block_on(async {
        let hurry = CancellationToken::new();
        let each = listeners.apart();
        // One that hangs keeps nobody else waiting; each of them hears of all in order.
        let all = join_all(each.iter().map(|listener| tell(listener, &events, &hurry)));
        let in_time = async {
            tokio::time::sleep_until(end).await;
            hurry.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = all => {}
            () = in_time => {}
        }
        listeners.finish().await;
        Ok(())
    })
}

fn events() -> Result<Vec<ProcessEvent>> {
    let mut text = String::new();
    std::io::stdin()
        .take(LARGEST_INPUT)
        .read_to_string(&mut text)
        .map_err(|error| Error::general("the events cannot be read").because(error))?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|error| Error::general("an event is not understood").because(error))
        })
        .collect()
}

/// Reads the configuration. Somebody may be writing it just now.
fn load(context: &Context, end: Instant) -> Result<Workplace<'_>> {
    let mut wait = AGAIN;
    loop {
        match context.load() {
            Err(error) if Instant::now() + wait < end => {
                tracing::warn!(%error, again_ms = wait.as_millis() as u64,
                    "the configuration cannot be read, so listeners are not told yet");
            }
            loaded => return loaded,
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_AGAIN);
    }
}

/// Tells one listener of all events. Once `hurry` is cancelled it is told of each once.
async fn tell(listener: &Listeners, events: &[ProcessEvent], hurry: &CancellationToken) {
    for event in events {
        let told = Event {
            kind: event.event.into(),
            name: &event.worker,
            queue: "",
            exchange: "",
            message: None,
            attempt: None,
            deliveries: None,
            ended: None,
            trusted: true,
            process: Some(event),
        };
        let reaction = listener.tell(&told, &CancellationToken::new(), hurry).await;
        let (name, worker) = (event.event.name(), format!("{}.{}", event.worker, event.instance));
        if reaction.cancelled {
            tracing::error!(listener = ?listener, event = name, %worker, time = %event.time,
                "the listener did not hear it in all this time, and is not told again");
        }
        if reaction.stop.is_some() {
            tracing::warn!(listener = ?listener, event = name, %worker,
                "it wants to stop what no listener can; passed over");
        }
    }
}
