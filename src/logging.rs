//! Where log lines go. Installed by the program only: the library has no process-wide defaults.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Result};

/// What the lines that a handler's programs and scripts print are logged as.
const CHILD: &str = "child";

/// How much is logged, in which form, and where.
#[derive(Clone, Debug)]
pub struct Logging<'a> {
    /// The least important level that is shown.
    pub level: LevelFilter,
    /// JSON lines instead of text.
    pub json: bool,
    /// Colours are allowed where standard error is a terminal.
    pub color: bool,
    /// Appended to instead of standard error.
    pub file: Option<&'a Path>,
}

/// The level for so many `-v`, starting from `quiet` or from what the command shows by itself.
pub fn level(verbose: u8, quiet: bool, usual: LevelFilter) -> LevelFilter {
    match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => usual,
        (false, 1) => LevelFilter::DEBUG.max(usual),
        (false, _) => LevelFilter::TRACE,
    }
}

impl Logging<'_> {
    /// Installs it for the whole process. A second call in one process keeps the first one's choice.
    pub fn install(&self) -> Result<()> {
        // A line that cannot be written is lost. To complain of it on standard error would be a panic where that is what
        // cannot be written, and a full disk under a log would end every consumer.
        let builder = fmt()
            .with_max_level(self.level)
            .with_target(false)
            .log_internal_errors(false);
        if let Some(path) = self.file {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Error::unwritable(format_args!("--log-file {}", path.display()), error))?;
            let file = Arc::new(file);
            let builder = builder.with_ansi(false).with_writer(move || OneLine {
                inner: Arc::clone(&file),
                colors: false,
            });
            if self.json {
                adopt(builder.json().finish());
            } else {
                adopt(builder.finish());
            }
        } else {
            let ansi = self.color && !self.json && std::io::stderr().is_terminal();
            let builder = builder.with_ansi(ansi).with_writer(move || OneLine {
                inner: std::io::stderr(),
                colors: ansi,
            });
            if self.json {
                adopt(builder.json().finish());
            } else {
                adopt(builder.finish());
            }
        }
        Ok(())
    }
}

/// Keeps every event on its one line: what a message's sender chose (an id, say) may hold line feeds and other control
/// characters, and must not pass for a line of ours.
struct OneLine<W> {
    inner: W,
    /// Our own colours are escape sequences; those in what is shown are made harmless before they come here.
    colors: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.inner.write_all(&one_line(event, self.colors))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn one_line(event: &[u8], colors: bool) -> Vec<u8> {
    let (text, end) = match event.split_last() {
        Some((b'\n', text)) => (text, &b"\n"[..]),
        _ => (event, &b""[..]),
    };
    let mut line = Vec::with_capacity(event.len());
    for byte in text {
        match byte {
            0x1b if colors => line.push(*byte),
            0..0x20 | 0x7f => line.extend(byte.escape_ascii()),
            _ => line.push(*byte),
        }
    }
    line.extend(end);
    line
}

/// Installs a subscriber for our own events only: what the client libraries log names messages and their content, and says
/// in their words what we say in ours.
fn adopt<S>(subscriber: S)
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
{
    let ours = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::TRACE)
        .with_target(CHILD, LevelFilter::TRACE);
    let subscriber = subscriber.with(ours);
    // An embedding program or an earlier run in this process may have chosen already; theirs stays.
    let _ = set_global_default(subscriber);
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn an_event_stays_on_its_line() {
        assert_eq!(
            one_line(b"id=a\nERROR forged\x1b[2J\n", false),
            b"id=a\\nERROR forged\\x1b[2J\n"
        );
        assert_eq!(
            one_line("\u{1b}[31mgr\u{fc}n\u{1b}[0m\n".as_bytes(), true),
            "\u{1b}[31mgr\u{fc}n\u{1b}[0m\n".as_bytes()
        );
        assert_eq!(one_line(b"", false), b"");
    }
}
