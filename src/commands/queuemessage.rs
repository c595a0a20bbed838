//! `qctl queuemessage`: puts bodies on a queue: one, many copies of one, or each line of a stream.

mod bodies;
mod kinds;
mod lines;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use tracing::level_filters::LevelFilter;

use super::Outcome;
use super::sending::{Receipt, SendArgs, show_draft, validity_note, warn_of_misplaced_flags};
use super::waiting::{self, WaitArgs};
use crate::cli::{names, values};
use crate::consumer::Stop;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::Producer;
use crate::queue::Message;
use crate::signals;

/// Messages handed to the driver at once.
const WINDOW: usize = 1000;

/// Arguments of `qctl queuemessage`.
#[derive(Args, Debug)]
#[command(
    override_usage = "qctl queuemessage [OPTIONS] <PRODUCER> [BODY|-]\n       \
                      qctl queuemessage --lines [OPTIONS] <PRODUCER> < FILE\n       \
                      qctl queuemessage --kind KIND [OPTIONS] <PRODUCER> <WORDS>...",
    after_help = "Words by kind:
  command  COMMAND [ARGS]...            as queuecommand builds it, without its check;
                                        all behind COMMAND belongs to it
  http     URL [OPTION=VALUE]...        timeout=5, method=PUT …, or cURL's numbers: 13=5
  xmlrpc   SERVER METHOD [ARGS]...      an argument that is JSON (1, true, [2]) is sent as such
  service  SERVICE METHOD [ARGS]...

Examples:
  qctl queuemessage demo '{\"id\": 7}'
  printf 'a\\nb\\n' | qctl queuemessage --lines demo
  qctl queuemessage --lines --file big.txt --from-line 50001 demo
  qctl queuemessage --kind http calls http://localhost/ping
  qctl queuemessage --kind command mail app:send --to=ann@example.org 42"
)]
pub struct QueueMessageArgs {
    #[command(flatten)]
    send: SendArgs,
    /// Media type of the body
    #[arg(short, long, value_name = "TYPE", default_value = "application/json", value_parser = values::content_type)]
    content_type: String,
    /// Send the body this many times
    #[arg(
        short = 'm',
        long,
        alias = "messages",
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with_all = ["lines", "wait"]
    )]
    repeat: u64,
    /// With --repeat: send in batches instead of one by one
    #[arg(short, long, conflicts_with_all = ["lines", "wait"])]
    batch: bool,
    /// Build the body from WORDS (default: the body is sent as it is)
    #[arg(long, value_name = "KIND", value_enum, conflicts_with_all = ["lines", "file"])]
    kind: Option<Kind>,
    /// Send each line of standard input, or of --file, as a message
    #[arg(long, conflicts_with_all = ["wait", "dry_run", "message_id"])]
    lines: bool,
    /// With --lines: leave out empty lines (default: they are messages)
    #[arg(long, requires = "lines")]
    skip_empty: bool,
    /// With --lines: begin with this line, counted from 1 (default: the first)
    #[arg(long, value_name = "N", requires = "lines", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: Option<u64>,
    /// Read from this file (default: BODY or standard input)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Producer to send with
    #[arg(value_name = "PRODUCER", add = ArgValueCandidates::new(names::producers))]
    producer: String,
    /// The body, or - for standard input; with --kind the words it is built from
    #[arg(value_name = "BODY")]
    words: Vec<String>,
}

/// The bodies that can be built from words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A command with arguments
    Command,
    /// An HTTP request
    Http,
    /// An XML-RPC call
    Xmlrpc,
    /// A method call of a service
    Service,
}

/// Runs `qctl queuemessage`.
pub fn run(args: &QueueMessageArgs, context: &Context) -> Result<Outcome> {
    waiting::guarded(&args.wait, context, || queue(args, context))
}

fn queue(args: &QueueMessageArgs, context: &Context) -> Result<Outcome> {
    context.log(LevelFilter::WARN)?;
    check_words(args)?;
    if let (Some(Kind::Command), Some((_, words))) = (args.kind, args.words.split_first()) {
        warn_of_misplaced_flags(context, "queuemessage", &args.producer, words);
    }
    let place = context.load()?;
    let entry = place.producer(&args.producer)?;
    let connection = place.connection_or(args.send.connection.given(), &entry.connection)?;
    let max_body = connection.connector.capabilities().max_body;
    if args.lines {
        let template = Message::default().with_content_type(&args.content_type);
        return lines::send(args, &place, &entry, args.send.apply(template, &entry, "")?, max_body);
    }
    let (body, own_key) = match args.kind {
        Some(kind) => kinds::build(kind, &args.words)?,
        None => (
            bodies::read(args.words.first().map(String::as_str), args.file.as_deref(), max_body)?,
            String::new(),
        ),
    };
    bodies::check_size(body.len(), max_body)?;
    let message = Message::new(body).with_content_type(&args.content_type);
    let message = args.send.apply(message, &entry, &own_key)?;
    if args.send.dry_run {
        return show_draft(context, &message, &entry, &own_key);
    }
    let receipt = Receipt::of(&message, &entry);
    place.block_on(async {
        let producer = place.open_producer(&entry, args.send.connection.given()).await?;
        if args.wait.wait {
            return waiting::send_and_wait(&args.wait, context, &producer, message).await;
        }
        send_copies(args, context, &receipt, &producer, message).await
    })
}

fn check_words(args: &QueueMessageArgs) -> Result<()> {
    if args.send.message_id.is_some() && args.repeat > 1 {
        return Err(Error::usage(
            "--message-id makes all copies one message; leave out --repeat or the id",
        ));
    }
    let most = match args.kind {
        Some(_) => return Ok(()),
        None if args.lines || args.file.is_some() => 0,
        None => 1,
    };
    if let Some(word) = args.words.get(most) {
        // `--lines producer -` says no more than `--lines producer`.
        if args.lines && args.file.is_none() && word == "-" && args.words.len() == 1 {
            return Ok(());
        }
        return Err(Error::usage(format!(
            "'{}' is one word too many; quote a BODY that has spaces, and give either BODY, --lines or --file",
            crate::output::one_line(word)
        )));
    }
    Ok(())
}

async fn send_copies(
    args: &QueueMessageArgs,
    context: &Context,
    receipt: &Receipt<'_>,
    producer: &Producer,
    message: Message,
) -> Result<Outcome> {
    let stop = signals::watch(|| {})?;
    let mut copies = Copies::default();
    let ended = tokio::select! {
        ended = copies.send(args, producer, message, &stop) => ended,
        () = stop.now.cancelled() => Err(Error::new(
            ErrorKind::Interrupted,
            "interrupted twice; the last message or batch may have been taken",
        )),
    };
    let Copies { sent, ids } = copies;
    let output = &context.output;
    let report = receipt.report(serde_json::json!({
        "queued": sent,
        "complete": ended.is_ok(),
        "ids": ids,
        "ids_truncated": sent > ids.len() as u64,
    }));
    if let Err(error) = ended {
        if sent > 0 && output.is_json() {
            output.json(&report)?;
        }
        return Err(some_sent(sent, args.repeat, error));
    }
    let note = validity_note(receipt.ttl);
    output.report(&report, |_| match ids.as_slice() {
        [id] if output.is_quiet() => id.clone(),
        _ if output.is_quiet() => String::new(),
        [id] => format!("1 message(s) queued{note}\nid: {id}"),
        _ => format!("{sent} message(s) queued{note}"),
    })?;
    Ok(Outcome::DONE)
}

/// The copies taken so far, and the ids of the first of them: a list is for reading, millions of ids are not.
#[derive(Default)]
struct Copies {
    sent: u64,
    ids: Vec<String>,
}

impl Copies {
    async fn send(
        &mut self,
        args: &QueueMessageArgs,
        producer: &Producer,
        message: Message,
        stop: &Stop,
    ) -> Result<()> {
        while self.sent < args.repeat {
            if stop.drain.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            if args.batch {
                let count = usize::try_from(args.repeat - self.sent).unwrap_or(WINDOW).min(WINDOW);
                match producer.send_all(vec![message.clone(); count]).await {
                    Ok(ids) => self.took(count, ids),
                    Err(failure) => {
                        self.took(count - failure.failed.len().min(count), []);
                        return Err(failure.into_first());
                    }
                }
            } else {
                let id = producer.send(message.clone()).await?;
                self.took(1, [id]);
            }
        }
        Ok(())
    }

    fn took(&mut self, count: usize, ids: impl IntoIterator<Item = String>) {
        self.sent += count as u64;
        let room = WINDOW - self.ids.len();
        self.ids.extend(ids.into_iter().take(room));
    }
}

/// The error after `sent` of `wanted` copies; with none sent it stays what it is.
fn some_sent(sent: u64, wanted: u64, error: Error) -> Error {
    if sent == 0 {
        return error;
    }
    Error::new(
        ErrorKind::Partial,
        format!("{sent} of {wanted} messages were queued, the rest was not"),
    )
    .because(error)
}
