//! `--wait`: sends a message, waits for its final settlement, and passes on what the handler printed and how it ended.

use std::time::Duration;

use clap::Args;

use super::Outcome;
use crate::cli::values;
use crate::context::Context;
use crate::error::Result;
use crate::producer::Producer;
use crate::queue::Message;
use crate::queue::message::header;
use crate::signals;
use crate::wire::reply::Reply;

/// Options of those who wait.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// Wait until it is done, print its output and exit with its code
    #[arg(long)]
    pub wait: bool,
    /// With --wait: give up after this time, in seconds or with a unit; 0 waits for ever
    #[arg(long, value_name = "DURATION", default_value = "60s", requires = "wait", value_parser = values::duration)]
    pub wait_timeout: Duration,
    /// With --wait: let the consumer retry as it is set up to, instead of trying once
    #[arg(long, requires = "wait")]
    pub retry: bool,
}

/// Runs a command's `attempt`; where a reply is waited for, its errors are told here and exit with 125, so that they are
/// never taken for the remote command's own.
pub fn guarded(wait: &WaitArgs, context: &Context, attempt: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    match attempt() {
        Err(error) if wait.wait => {
            context.output.error(&error);
            Ok(Outcome::WAIT_FAILED)
        }
        outcome => outcome,
    }
}

/// Sends the message and waits for its reply. Must run within a runtime.
pub async fn send_and_wait(
    wait: &WaitArgs,
    context: &Context,
    producer: &Producer,
    mut message: Message,
) -> Result<Outcome> {
    if !wait.retry {
        message.headers.insert(header::MAX_ATTEMPTS.to_owned(), 1_i64.into());
    }
    let timeout = (!wait.wait_timeout.is_zero()).then_some(wait.wait_timeout);
    let stop = signals::watch(|| {})?;
    let mut pending = tokio::select! {
        pending = producer.request(message, timeout) => pending?,
        // The first interrupt is heard below, when there is an id to tell.
        () = stop.now.cancelled() => return left(context, None, Left::Unknown, Outcome::INTERRUPTED),
    };
    let expired = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        reply = pending.reply() => match reply.and_then(|reply| Reply::parse(&reply.body)) {
            Ok(reply) => return pass_on(context, pending.id(), &reply),
            Err(error) => {
                context.output.error(&error);
                return left(context, Some(pending.id()), Left::Unknown, Outcome::WAIT_FAILED);
            }
        },
        () = expired => {
            let seconds = wait.wait_timeout.as_secs_f64();
            context.output.note(format_args!("qctl: no reply within {seconds} seconds"));
            Outcome::WAIT_TIMED_OUT
        }
        () = stop.drain.cancelled() => Outcome::INTERRUPTED,
    };
    if !pending.can_withdraw() {
        let state = match pending.ttl() {
            Some(_) if outcome == Outcome::WAIT_TIMED_OUT => Left::Expired,
            Some(ttl) => Left::Expiring(ttl),
            None => Left::Unknown,
        };
        return left(context, Some(pending.id()), state, outcome);
    }
    let state = tokio::select! {
        withdrawn = pending.withdraw() => match withdrawn {
            Ok(true) => Left::Withdrawn,
            Ok(false) => Left::InProgress,
            Err(error) => {
                context.output.error(&error.at("the message could not be withdrawn"));
                Left::Unknown
            }
        },
        // A second interrupt does not wait for a broker that may be gone.
        () = stop.now.cancelled() => Left::Unknown,
        () = tokio::time::sleep(context.global.connect_timeout) => Left::Unknown,
    };
    left(context, Some(pending.id()), state, outcome)
}

/// What became of a message whose reply is waited for no longer.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// Nobody had begun it, and nobody will.
    Withdrawn,
    /// A handler has begun it.
    InProgress,
    /// Who has not begun it by now never will.
    Expired,
    /// Who has not begun it when this time is over, counted from its publication, never will.
    Expiring(Duration),
    /// The broker did not tell in time, or cannot tell.
    Unknown,
}

/// Tells how a wait without a reply ended.
fn left(context: &Context, id: Option<&str>, state: Left, outcome: Outcome) -> Result<Outcome> {
    let shown = id.unwrap_or("(not sent yet)");
    let (name, text) = match state {
        Left::Withdrawn => (
            "withdrawn",
            "the message was not started and has been withdrawn".to_owned(),
        ),
        Left::InProgress => (
            "in-progress",
            format!("message {shown} was started and is not withdrawn; it goes on, or is tried again, without us"),
        ),
        Left::Expired => (
            "unknown",
            format!("message {shown} goes on without us if it was started; if not, it has expired and will not be"),
        ),
        Left::Expiring(ttl) => (
            "unknown",
            format!(
                "message {shown} may be running, or be started until it expires, {} s after it was sent",
                ttl.as_secs_f64()
            ),
        ),
        Left::Unknown => ("unknown", format!("message {shown} may still be queued or running")),
    };
    context.output.note(format_args!("qctl: {text}"));
    if context.output.is_json() {
        context.output.json(&serde_json::json!({
            "ok": false,
            "id": id,
            "state": name,
            "exit_code": outcome.0,
        }))?;
    }
    Ok(outcome)
}

fn pass_on(context: &Context, id: &str, reply: &Reply) -> Result<Outcome> {
    if context.output.is_json() {
        let (stdout_encoding, stdout) = crate::output::encoded(&reply.stdout);
        let (stderr_encoding, stderr) = crate::output::encoded(&reply.stderr);
        context.output.json(&serde_json::json!({
            "ok": reply.ok(),
            "id": id,
            "state": "settled",
            "status": reply.status,
            "exit_code": reply.exit_code,
            "signal": reply.signal,
            "reason": reply.reason,
            "stdout": stdout,
            "stdout_encoding": stdout_encoding,
            "stdout_truncated": reply.stdout_truncated,
            "stderr": stderr,
            "stderr_encoding": stderr_encoding,
            "stderr_truncated": reply.stderr_truncated,
        }))?;
    } else {
        context.output.bytes(&reply.stdout)?;
        context.output.stderr_bytes(&reply.stderr);
    }
    for (name, truncated) in [
        ("output", reply.stdout_truncated),
        ("error output", reply.stderr_truncated),
    ] {
        if truncated {
            context.output.warn(format_args!(
                "the command's {name} was longer than 1 MiB; the rest was cut off"
            ));
        }
    }
    Ok(Outcome(exit_code(reply).unwrap_or_else(|| {
        if let Some(reason) = &reply.reason {
            context
                .output
                .error(&crate::Error::general(format!("the message was not done: {reason}")));
        }
        Outcome::WAIT_FAILED.0
    })))
}

/// The remote command's own exit code, the way a shell tells it; `None` where it never came to one.
fn exit_code(reply: &Reply) -> Option<u8> {
    if let Some(signal) = reply.signal {
        return u8::try_from(signal.saturating_add(128)).ok();
    }
    match reply.exit_code {
        Some(code) => u8::try_from(code).ok(),
        None => reply.ok().then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply::Status;

    #[test]
    fn the_exit_code_is_the_remote_ones() {
        let reply = |status, exit_code, signal| Reply {
            exit_code,
            signal,
            ..Reply::new(status)
        };
        assert_eq!(exit_code(&reply(Status::Done, Some(0), None)), Some(0));
        assert_eq!(exit_code(&reply(Status::Failed, Some(3), None)), Some(3));
        assert_eq!(exit_code(&reply(Status::Failed, None, Some(9))), Some(137));
        assert_eq!(exit_code(&reply(Status::Done, None, None)), Some(0));
        assert_eq!(exit_code(&reply(Status::Rejected, None, None)), None);
    }
}
