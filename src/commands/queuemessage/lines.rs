//! `--lines`: each line a message. A thread reads while the last windows are being committed, and sends on what is there
//! rather than wait for a window to fill, so that `tail -f` is as good an input as a big file.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::mem;

use futures_util::stream::{FuturesOrdered, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{QueueMessageArgs, WINDOW, bodies};
use crate::commands::Outcome;
use crate::commands::sending::{destination, validity_note};
use crate::config::ProducerEntry;
use crate::consumer::Stop;
use crate::context::Workplace;
use crate::error::{Error, ErrorKind, Result};
use crate::output::{Output, human_bytes};
use crate::producer::Producer;
use crate::queue::{Message, PublishFailure};
use crate::signals;

/// A window is closed at this many bytes of bodies, so that long lines do not fill the memory.
const WINDOW_BYTES: usize = 8 << 20;
/// Windows read ahead.
const AHEAD: usize = 4;
/// Windows on their way at once: one is sent while the broker works off the one before it.
const FLIGHTS: usize = 2;
const BUFFER: usize = 256 << 10;

/// Sends each line; `template` is the message without its body.
pub(super) fn send(
    args: &QueueMessageArgs,
    place: &Workplace<'_>,
    entry: &ProducerEntry,
    template: Message,
    max_body: u64,
) -> Result<Outcome> {
    let input: Box<dyn Read + Send> = if let Some(path) = args.file.as_ref().filter(|path| path.as_os_str() != "-") {
        Box::new(bodies::open(path)?)
    } else {
        if std::io::stdin().is_terminal() && args.words.is_empty() {
            return Err(Error::usage(
                "--lines reads standard input, which is a terminal; pipe lines in, name a --file, or write - to type them",
            ));
        }
        Box::new(std::io::stdin())
    };
    let ttl = template.ttl;
    let first = args.from_line.unwrap_or(1);
    let output = &place.context.output;
    let ended = place.block_on(async {
        let producer = place.open_producer(entry, args.send.connection.given()).await?;
        let stop = signals::watch(|| {})?;
        let (sender, receiver) = channel(AHEAD);
        let splitter = Splitter {
            input: BufReader::with_capacity(BUFFER, input),
            template,
            max_body,
            skip_empty: args.skip_empty,
            next_line: 1,
        };
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || splitter.run(first, &sender))
            .map_err(|error| Error::temporary("the reading thread cannot be started").because(error))?;
        Ok(forward(&producer, receiver, &stop, first, output).await)
    })?;
    let report = serde_json::json!({
        "queued": ended.taken,
        "next_line": ended.next_line,
        "complete": ended.error.is_none(),
        "destination": destination(entry),
    });
    match ended.error {
        None => {
            output.report(&report, |_| {
                format!("{} message(s) queued{}", ended.taken, validity_note(ttl))
            })?;
            Ok(Outcome::DONE)
        }
        Some(error) => {
            if output.is_json() {
                output.json(&report)?;
            }
            Err(if ended.begun {
                ended_early(ended.taken, ended.next_line, ended.beyond, &error)
            } else {
                error
            })
        }
    }
}

/// Lines read, ready to be sent.
struct Window {
    messages: Vec<Message>,
    /// The number of the line of each message; lines can be left out.
    lines: Vec<u64>,
    /// The line that comes after this window.
    next_line: u64,
    /// Reading ended here for this reason.
    error: Option<Error>,
    /// The line to begin with was reached.
    begun: bool,
}

/// How sending ended.
#[derive(Debug)]
struct Ended {
    taken: u64,
    next_line: u64,
    /// Messages behind `next_line` that were taken all the same.
    beyond: u64,
    error: Option<Error>,
    /// The line to begin with was reached, so that there is one to resume from.
    begun: bool,
    /// A line was not taken.
    failed: bool,
}

async fn forward(
    producer: &Producer,
    mut windows: Receiver<Window>,
    stop: &Stop,
    first: u64,
    output: &Output,
) -> Ended {
    let progress = progress(output);
    let mut ended = Ended {
        taken: 0,
        next_line: first,
        beyond: 0,
        error: None,
        begun: true,
        failed: false,
    };
    let mut flights = FuturesOrdered::new();
    let mut open = true;
    while open || !flights.is_empty() {
        tokio::select! {
            biased;
            () = stop.now.cancelled() => {
                ended.error = Some(Error::new(ErrorKind::Interrupted, "interrupted twice; the last window may have been taken"));
                break;
            }
            // What is on its way is waited for.
            () = stop.drain.cancelled(), if open => {
                open = false;
                ended.error.get_or_insert_with(|| Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            Some(landed) = flights.next(), if !flights.is_empty() => {
                let landed: Landed = landed;
                progress.inc(landed.count as u64);
                ended.land(landed);
                open = open && ended.error.is_none();
            }
            window = windows.recv(), if open && flights.len() < FLIGHTS => match window {
                None => open = false,
                Some(window) => flights.push_back(fly(producer, gathered(window, &mut windows))),
            },
        }
    }
    progress.finish_and_clear();
    ended
}

/// The window and what else is there already, up to a full one.
fn gathered(mut window: Window, windows: &mut Receiver<Window>) -> Window {
    while window.messages.len() < WINDOW && window.error.is_none() {
        let Ok(more) = windows.try_recv() else { break };
        window.messages.extend(more.messages);
        window.lines.extend(more.lines);
        window.next_line = more.next_line;
        window.error = more.error;
    }
    window
}

/// A window that was sent, and what became of it.
struct Landed {
    count: usize,
    lines: Vec<u64>,
    next_line: u64,
    begun: bool,
    /// Reading ended behind it for this reason.
    error: Option<Error>,
    failure: Option<PublishFailure>,
}

async fn fly(producer: &Producer, window: Window) -> Landed {
    let count = window.messages.len();
    let failure = if count == 0 {
        None
    } else {
        producer.send_all(window.messages).await.err()
    };
    Landed {
        count,
        lines: window.lines,
        next_line: window.next_line,
        begun: window.begun,
        error: window.error,
        failure,
    }
}

impl Ended {
    /// Takes in how the next window in line ended.
    fn land(&mut self, landed: Landed) {
        let failed = landed
            .failure
            .as_ref()
            .map_or(0, |failure| failure.failed.len().min(landed.count));
        let taken = (landed.count - failed) as u64;
        self.taken += taken;
        if self.failed {
            // Sent before it was known that something ahead of it was not taken.
            self.beyond += taken;
            return;
        }
        self.begun = landed.begun;
        self.next_line = landed.next_line;
        if let Some(failure) = landed.failure {
            let at = failure.failed.first().map_or(0, |(index, _)| *index);
            self.failed = true;
            self.beyond = taken.saturating_sub(at as u64);
            self.next_line = landed.lines.get(at).copied().unwrap_or(self.next_line);
            self.error = Some(failure.into_first());
        } else if let Some(error) = landed.error {
            self.error = Some(error);
        }
    }
}

fn ended_early(taken: u64, next_line: u64, beyond: u64, error: &Error) -> Error {
    let kind = if taken == 0 { error.kind() } else { ErrorKind::Partial };
    let twice = match beyond {
        0 => String::new(),
        count => format!(" ({count} of the lines behind it were taken already and would be sent twice)"),
    };
    Error::new(
        kind,
        format!(
            "{taken} message(s) queued, then line {next_line}: {error}; resume with --from-line {next_line}{twice}"
        ),
    )
}

fn progress(output: &Output) -> ProgressBar {
    if !output.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} messages queued in {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Splits the input into messages.
struct Splitter<R> {
    input: BufReader<R>,
    template: Message,
    max_body: u64,
    skip_empty: bool,
    next_line: u64,
}

impl<R: Read> Splitter<R> {
    fn run(mut self, first: u64, windows: &Sender<Window>) {
        if let Err(error) = self.skip_to(first) {
            let _ = windows.blocking_send(Window {
                begun: false,
                ..self.window(Vec::new(), Vec::new(), Some(error))
            });
            return;
        }
        let (mut messages, mut lines, mut bytes) = (Vec::with_capacity(WINDOW), Vec::with_capacity(WINDOW), 0);
        loop {
            let line = self.next_line;
            let (body, error) = match self.line() {
                Ok(body) => (body, None),
                Err(error) => (None, Some(error)),
            };
            let over = body.is_none();
            if let Some(body) = body
                && !(self.skip_empty && (body.is_empty() || body == b"\r"))
            {
                bytes += body.len();
                lines.push(line);
                messages.push(Message {
                    body,
                    ..self.template.clone()
                });
            }
            // What is here is sent on before a read that may wait.
            let would_wait = !self.input.buffer().contains(&b'\n');
            if over || would_wait || messages.len() >= WINDOW || bytes >= WINDOW_BYTES {
                bytes = 0;
                let window = self.window(
                    mem::replace(&mut messages, Vec::with_capacity(WINDOW)),
                    mem::replace(&mut lines, Vec::with_capacity(WINDOW)),
                    error,
                );
                // The other side is gone once it has met an error or an interrupt.
                if windows.blocking_send(window).is_err() || over {
                    return;
                }
            }
        }
    }

    fn window(&self, messages: Vec<Message>, lines: Vec<u64>, error: Option<Error>) -> Window {
        Window {
            messages,
            lines,
            next_line: self.next_line,
            error,
            begun: true,
        }
    }

    /// The next line without its line feed; `None` at the end. A carriage return is part of the line.
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let limit = self.max_body.saturating_add(1);
        let read = (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(unreadable)?;
        if read == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 > self.max_body {
            return Err(Error::bad_input(format!(
                "the line is longer than the connection's max_body of {}",
                human_bytes(self.max_body)
            )));
        }
        self.next_line += 1;
        Ok(Some(line))
    }

    /// Passes over the lines before `first`, however long they are. The line behind the last is the end, where nothing is left
    /// to do; any further one is not there.
    fn skip_to(&mut self, first: u64) -> Result<()> {
        let mut within_line = false;
        while self.next_line < first {
            let available = self.input.fill_buf().map_err(unreadable)?;
            if available.is_empty() {
                // The last line needs no line feed.
                self.next_line += u64::from(mem::take(&mut within_line));
                if self.next_line == first {
                    return Ok(());
                }
                let lines = self.next_line - 1;
                return Err(Error::bad_input(format!(
                    "--from-line {first} is beyond the end of the input, which has {lines} line{}; nothing was queued, name one \
                     of its lines",
                    if lines == 1 { "" } else { "s" }
                )));
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |end| end + 1);
            self.input.consume(used);
            within_line = end.is_none();
            self.next_line += u64::from(!within_line);
        }
        Ok(())
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::bad_input("the input cannot be read").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &str, first: u64, max_body: u64, skip_empty: bool) -> (Vec<(u64, String)>, u64, Option<String>) {
        let (sender, mut receiver) = channel(64);
        let splitter = Splitter {
            input: BufReader::with_capacity(8, input.as_bytes()),
            template: Message::default(),
            max_body,
            skip_empty,
            next_line: 1,
        };
        splitter.run(first, &sender);
        drop(sender);
        let (mut found, mut next_line, mut error) = (Vec::new(), 0, None);
        while let Ok(window) = receiver.try_recv() {
            let bodies = window
                .messages
                .into_iter()
                .map(|message| String::from_utf8(message.body).expect("text"));
            found.extend(window.lines.into_iter().zip(bodies));
            next_line = window.next_line;
            error = window.error.map(|error| error.to_string());
        }
        (found, next_line, error)
    }

    fn plain(input: &str) -> Vec<String> {
        split(input, 1, 100, false)
            .0
            .into_iter()
            .map(|(_, body)| body)
            .collect()
    }

    #[test]
    fn each_line_is_a_message() {
        assert_eq!(plain("a\nb\n"), ["a", "b"]);
        assert_eq!(plain("a\nb"), ["a", "b"], "the last line needs no line feed");
        assert_eq!(
            plain("a\n\nb\r\n"),
            ["a", "", "b\r"],
            "empty lines count, carriage returns stay"
        );
        assert!(plain("").is_empty());
        assert_eq!(plain("\n"), [""]);
    }

    #[test]
    fn resuming_begins_with_the_line_named() {
        let (found, next_line, error) = split("a\nb\nc\n", 3, 100, false);
        assert_eq!((found, next_line, error), (vec![(3, "c".to_owned())], 4, None));
        let (found, _, error) = split("a\nb\n", 9, 100, false);
        assert!(found.is_empty());
        assert!(error.is_some_and(|error| error.contains("has 2 lines")));
        for input in ["a\nb\n", "a\nb"] {
            let (found, next_line, error) = split(input, 3, 100, false);
            assert!(found.is_empty() && error.is_none(), "all was done already");
            assert_eq!(next_line, 3);
        }
    }

    #[test]
    fn empty_lines_can_be_left_out_and_still_count() {
        let (found, _, _) = split("a\n\n\r\nb\n", 1, 100, true);
        assert_eq!(found, [(1, "a".to_owned()), (4, "b".to_owned())]);
    }

    #[test]
    fn a_line_over_the_limit_ends_it_and_is_named() {
        let (found, next_line, error) = split("12345\n123456\nx\n", 1, 5, false);
        assert_eq!(found, [(1, "12345".to_owned())]);
        assert_eq!(next_line, 2);
        assert!(error.is_some_and(|error| error.contains("max_body of 5 B")));
    }
}
