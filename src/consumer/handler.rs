//! The contract of a handler: it is given a call and says what came of it. It never settles by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::queue::{Lifeline, Message};

/// One message to handle.
#[derive(Debug)]
pub struct Call {
    /// The message.
    pub message: Message,
    /// The queue it came from.
    pub queue: String,
    /// The exchange it was published to.
    pub exchange: String,
    /// Failed attempts so far.
    pub attempt: u32,
    /// How often it was handed out, this time included, where that is known.
    pub deliveries: Option<u32>,
    /// Cancelled when the consumer must stop now, or when the message is ours no more: whatever runs is to be ended.
    pub cancel: CancellationToken,
    /// It was taken ahead: if it cannot be begun within this time it is to be given back ([`Outcome::Cancelled`]), so that
    /// another consumer may have it.
    pub patience: Option<Duration>,
    /// Somebody waits for what it prints: the sender, for a reply, or a listener. It is kept up to [`OUTPUT_LIMIT`] a stream.
    pub output_wanted: bool,
}

/// The most that is kept of a child's standard output, and of its standard error, for a reply: 1 MiB.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    /// Done.
    Done(Report),
    /// Failed; trying again may help.
    Retry(Failure),
    /// Failed; trying again cannot help.
    Reject(Failure),
    /// The handler itself cannot work (a missing program): the message is given back untouched and the consumer ends.
    WorkerFault(String),
    /// Nobody wants any more of it, which is no fault: the message is given back untouched and the consumer ends in order.
    Enough(String),
    /// The machine is short of something for now: the message is given back untouched and the consumer waits a little.
    Pause(String),
    /// Ended by `cancel`: the message is given back.
    Cancelled,
    /// A listener would not have it handled: it is done.
    Swallowed(String),
}

impl Outcome {
    /// A message that no attempt can help.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(Failure::because(reason))
    }

    /// A message that another attempt may help.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Failure::because(reason))
    }
}

impl Failure {
    /// A failure of which there is nothing to say but this.
    pub fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            ..Self::default()
        }
    }
}

/// What a handler has to say besides its verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// A child's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended a child.
    pub signal: Option<i32>,
    /// Standard output, or the handler's answer.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// `stdout` was cut at [`OUTPUT_LIMIT`].
    pub stdout_truncated: bool,
    /// `stderr` was cut.
    pub stderr_truncated: bool,
    /// The last lines of standard error, at most 2 KiB, kept for every call.
    pub stderr_tail: String,
}

/// Why a call failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// The reason in a few words, such as `exit code 3` or `timed out after 60s`.
    pub reason: String,
    /// A signal that qctl did not send ended the child; such deaths have their own, smaller limit.
    pub by_signal: bool,
    /// The peer said when to come back; the policy never waits less.
    pub retry_after: Option<Duration>,
    /// Exit code and output, where there were any.
    pub report: Report,
}

/// Does something with each message of a consumer.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Runs inside the consumer's process: cheap calls, so the consumer has at least 100 slots.
    fn in_process(&self) -> bool {
        false
    }
    /// Called once before the first connection is made: what can never work is refused here.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Called before the first message and after each reconnect: checks that what it needs is there, starts what must
    /// watch over children. An error of kind `WorkerFault` ends the consumer with 72.
    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        let _ = lifeline;
        Ok(())
    }
    /// Says why a message's body means nothing to it. Asked where somebody is to hear of a message that was received, before it
    /// is handled.
    fn decode(&self, message: &Message) -> Result<(), String> {
        let _ = message;
        Ok(())
    }
    /// The longest that a call can take; `None`: it has no limit. A consumer refuses to hold a message for longer than its
    /// broker lets it.
    fn longest_call(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
    /// The memory that lives with it beside the consumer's own, in bytes: that of the processes it keeps.
    fn memory(&self) -> u64 {
        0
    }
    /// Handles one message.
    async fn handle(&self, call: Call) -> Outcome;
    /// Called once at the end, when no call is running.
    async fn finish(&self) {}
}

/// Refuses calls that may take longer than the broker lets a delivery be held: it would take the message back and hand it
/// out again beside the one that runs.
pub fn check_hold(handler: &dyn Handler, hold_limit: Option<Duration>) -> Result<(), String> {
    let Some(limit) = hold_limit else { return Ok(()) };
    let longest = handler.longest_call();
    if longest.is_some_and(|longest| longest < limit) {
        return Ok(());
    }
    let takes = longest.map_or_else(
        || "has no time-out".to_owned(),
        |longest| format!("lets a call take {} s", longest.as_secs_f64()),
    );
    Err(format!(
        "{takes}, and the broker takes a message back after {} s and hands it out again (its consumer_timeout); set a shorter \
         `timeout`, or raise consumer_timeout at the broker and say so as `consumer_timeout:` of the connection",
        limit.as_secs_f64()
    ))
}

/// What a child's exit code means.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitCodes {
    /// By code; `0` is done unless said otherwise.
    pub codes: BTreeMap<i32, Verdict>,
    /// Any other code.
    pub other: Verdict,
    /// A death by a signal.
    pub signal: Verdict,
    /// The time-out.
    pub timeout: Verdict,
}

/// What an end of a child is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Ack,
    /// Failed, try again.
    Retry,
    /// Failed for good.
    Reject,
}

impl Verdict {
    /// The outcome of what has ended so. A reason is for those that are not done.
    pub fn on(self, reason: impl Into<String>, by_signal: bool, report: Report) -> Outcome {
        let failure = |report| Failure {
            reason: reason.into(),
            by_signal,
            retry_after: None,
            report,
        };
        match self {
            Self::Ack => Outcome::Done(report),
            Self::Retry => Outcome::Retry(failure(report)),
            Self::Reject => Outcome::Reject(failure(report)),
        }
    }
}

impl Default for ExitCodes {
    /// 0 is done, 65 (bad input) is for the dead-letter queue, all else is tried again.
    fn default() -> Self {
        Self {
            codes: BTreeMap::from([(0, Verdict::Ack), (65, Verdict::Reject), (75, Verdict::Retry)]),
            other: Verdict::Retry,
            signal: Verdict::Retry,
            timeout: Verdict::Retry,
        }
    }
}

impl ExitCodes {
    /// What this exit code means.
    pub fn verdict(&self, code: i32) -> Verdict {
        self.codes.get(&code).copied().unwrap_or(self.other)
    }
}

/// Turns a handler's time-out into the moment it strikes.
pub fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
