//! Persistent workers: long-lived children that are given many messages, one request a line (`docs/workers.md`).
//!
//! `desk` decides who works on what, `life` starts a worker, talks to it and ends it, `talk` is the talking.

mod desk;
mod life;
mod pidfd;
mod talk;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::HandlerContext;
use super::facts::MessageFacts;
use super::guard::Guard;
use super::launcher::Launcher;
use crate::consumer::handler::{Call, ExitCodes, Failure, OUTPUT_LIMIT, Outcome, Report, Verdict};
use crate::error::Result;
use crate::process::memory_of_group;
use crate::queue::Lifeline;
use crate::settings::Settings;
use crate::wire::jsonrpc;

use desk::{Desk, Request, Told};

/// A worker that has not said within this time that it is ready is started anew.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// So many requests are written ahead of a quick worker.
const PIPELINE: u64 = 16;
/// How much of what a worker may do before it is replaced is left to chance, so that not all are replaced at once.
const JITTER: f64 = 0.1;

/// The keys of persistent workers.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSettings {
    /// So many processes; `None`: one for each message that is handled at once.
    pub processes: Option<usize>,
    /// At most so many requests are written to a worker before it has answered those that it works on.
    pub pipeline: usize,
    /// How long a worker may take to be ready.
    pub start_timeout: Duration,
    /// When a worker is replaced by a new one.
    pub recycle: Recycle,
}

/// When a worker is replaced by a new one. `None`: never for that.
#[derive(Clone, Debug, PartialEq)]
pub struct Recycle {
    /// After so many messages.
    pub messages: Option<u64>,
    /// After this time.
    pub time: Option<Duration>,
    /// When its memory, with that of its own children, passes so many bytes.
    pub memory: Option<u64>,
    /// Each limit is lowered by up to this share of it, at random.
    pub jitter: f64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            processes: None,
            pipeline: PIPELINE as usize,
            start_timeout: START_TIMEOUT,
            recycle: Recycle {
                messages: None,
                time: None,
                memory: None,
                jitter: JITTER,
            },
        }
    }
}

impl WorkerSettings {
    /// Reads `workers`, `pipeline`, `start_timeout` and `recycle`.
    pub(super) fn read(settings: &mut Settings) -> Result<Self> {
        let default = Self::default();
        let processes = settings.count_within(&["workers"], 1, 1000)?;
        let pipeline = settings.count_within(&["pipeline"], 1, 1000)?;
        let start_timeout = settings.duration(&["start_timeout"])?;
        let mut recycle = default.recycle;
        if let Some(mut keys) = settings.map(&["recycle"])? {
            recycle.messages = keys.count(&["messages"])?.filter(|count| *count > 0);
            recycle.time = keys.limit_duration(&["time"])?.flatten().filter(|time| !time.is_zero());
            recycle.memory = keys.size(&["memory"])?.filter(|size| *size > 0);
            if let Some(setting) = keys.setting(&["jitter"])? {
                recycle.jitter = setting.share()?;
            }
            keys.finish()?;
        }
        Ok(Self {
            processes: processes.map(|count| count as usize),
            // One is written and none ahead of it, unless more is said.
            pipeline: pipeline.map_or(default.pipeline, |count| count as usize - 1),
            start_timeout: start_timeout.unwrap_or(default.start_timeout),
            recycle,
        })
    }
}

/// What the workers of one program share.
#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    launcher: Launcher,
    guard: Guard,
    settings: WorkerSettings,
    timeout: Option<Duration>,
    /// For the log: the key of the configuration.
    place: String,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The persistent workers of one program.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    seats: usize,
    exit_codes: ExitCodes,
    living: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Workers that are started when they are first needed, or with [`Workers::start`].
    pub(super) fn new(
        context: &HandlerContext,
        launcher: Launcher,
        settings: WorkerSettings,
        timeout: Option<Duration>,
        place: String,
    ) -> Self {
        let at_once = context.concurrency.max(1);
        let seats = settings.processes.unwrap_or(at_once).min(at_once);
        let desk = Desk::new(seats, at_once.div_ceil(seats), settings.pipeline);
        Self {
            shared: Arc::new(Shared {
                desk: Mutex::new(desk),
                launcher,
                guard: Guard::new(&context.program),
                settings,
                timeout,
                place,
            }),
            seats,
            exit_codes: context.exit_codes.clone(),
            living: Mutex::default(),
        }
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.shared.timeout
    }

    /// Looks for the program, and has a guardian for this lifeline. Workers of an earlier one are replaced: the guardian that
    /// they were started under watches over a connection that is no more.
    pub(super) async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.shared.launcher.check()?;
        if self.shared.guard.prepare(lifeline).await? {
            self.shared.desk().renew();
        }
        Ok(())
    }

    /// Starts the workers, on the runtime that this is called on. Once they are started it does nothing.
    pub(super) fn start(&self) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        if living.is_empty() && !self.shared.desk().is_closed() {
            living.extend((0..self.seats).map(|seat| tokio::spawn(life::live(Arc::clone(&self.shared), seat))));
        }
    }

    /// The memory that they have in use, their own children's too.
    pub(super) fn memory(&self) -> u64 {
        let pids = self.shared.desk().pids();
        pids.into_iter().map(memory_of_group).sum()
    }

    /// Has a worker do something for a message.
    pub(super) async fn call<P: Serialize>(&self, method: &str, params: &P, call: &Call) -> Outcome {
        self.start();
        let (told, mut answer) = oneshot::channel();
        let ticket = {
            let mut desk = self.shared.desk();
            let id = desk.next_id();
            let line = match jsonrpc::request(id, method, params, &MessageFacts::of(call)) {
                Ok(line) => line,
                Err(error) => return Outcome::reject(format!("the message cannot be put into JSON: {error}")),
            };
            desk.submit(Request::new(id, line, told), Instant::now());
            Ticket {
                shared: &self.shared,
                id,
                open: true,
            }
        };
        let patience = async {
            match call.patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let told = tokio::select! {
            biased;
            told = &mut answer => told,
            () = call.cancel.cancelled() => {
                self.shared.desk().abandon(ticket.id);
                // Nothing is over before nothing works on it any more; one that had not been begun is dropped at once.
                answer.await
            }
            () = patience => {
                if self.shared.desk().withdraw(ticket.id) {
                    ticket.over();
                    return Outcome::Cancelled;
                }
                tokio::select! {
                    biased;
                    told = &mut answer => told,
                    () = call.cancel.cancelled() => {
                        self.shared.desk().abandon(ticket.id);
                        answer.await
                    }
                }
            }
        };
        ticket.over();
        // It is dropped untold when it was taken back before a worker had it.
        self.judge(told.unwrap_or(Told::Cancelled), call)
    }

    fn judge(&self, told: Told, call: &Call) -> Outcome {
        match told {
            Told::Answer(Ok(result)) => self.judge_result(&result, call),
            Told::Answer(Err(error)) => {
                let failure = Failure {
                    reason: format!("the worker says: {} (code {})", one_line(&error.message), error.code),
                    retry_after: error
                        .retry_after
                        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                    ..Failure::default()
                };
                if error.may_be_tried_again() {
                    Outcome::Retry(failure)
                } else {
                    Outcome::Reject(failure)
                }
            }
            Told::Died(death) => {
                let verdict = if death.by_signal {
                    self.exit_codes.signal
                } else {
                    self.exit_codes.other
                };
                let report = Report {
                    exit_code: death.exit_code,
                    signal: death.signal,
                    stderr_tail: death.stderr_tail,
                    ..Report::default()
                };
                // A worker that dies has not done its work, whatever its exit codes are said to mean.
                let verdict = if verdict == Verdict::Ack {
                    Verdict::Retry
                } else {
                    verdict
                };
                verdict.on(death.reason, death.by_signal, report)
            }
            Told::TimedOut { stderr_tail } => {
                let after = humantime::format_duration(self.shared.timeout.unwrap_or_default());
                let report = Report {
                    stderr_tail,
                    ..Report::default()
                };
                self.exit_codes
                    .timeout
                    .on(format!("timed out after {after}"), false, report)
            }
            Told::Cancelled => Outcome::Cancelled,
            Told::Fault(reason) => Outcome::WorkerFault(reason),
        }
    }

    /// What a result says: an object with an `exit_code` is judged like a child, with its `stdout` and `stderr`; anything
    /// else is done, and its own answer.
    fn judge_result(&self, result: &str, call: &Call) -> Outcome {
        let as_child = result
            .starts_with('{')
            .then(|| serde_json::from_str::<AsChild>(result).ok())
            .flatten();
        let Some(child) = as_child else {
            let answer = if result == "null" { "" } else { result };
            return Outcome::Done(Report {
                stdout_truncated: call.reply_wanted && answer.len() > OUTPUT_LIMIT,
                stdout: kept(answer, call),
                ..Report::default()
            });
        };
        let report = Report {
            exit_code: Some(child.exit_code),
            stdout_truncated: call.reply_wanted && child.stdout.len() > OUTPUT_LIMIT,
            stderr_truncated: call.reply_wanted && child.stderr.len() > OUTPUT_LIMIT,
            stdout: kept(&child.stdout, call),
            stderr: kept(&child.stderr, call),
            stderr_tail: crate::process::last_lines(child.stderr.as_bytes()),
            signal: None,
        };
        let code = child.exit_code;
        self.exit_codes
            .verdict(code)
            .on(format!("exit code {code}"), false, report)
    }

    /// Lets the workers finish what they have, and ends them.
    pub(super) async fn finish(&self) {
        self.shared.desk().close();
        let living = std::mem::take(&mut *self.living.lock().unwrap_or_else(PoisonError::into_inner));
        for life in living {
            // It panicked: its worker was ended with it.
            let _ = life.await;
        }
        self.shared.guard.finish().await;
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for life in self.living.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Its worker is killed when it is dropped.
            life.abort();
        }
    }
}

/// A request that is under way. Whoever drops its call wants nothing to go on working on it.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    open: bool,
}

impl Ticket<'_> {
    fn over(mut self) {
        self.open = false;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.open {
            self.shared.desk().abandon(self.id);
        }
    }
}

/// A result that says what a child would have.
#[derive(Deserialize)]
struct AsChild {
    exit_code: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

fn kept(text: &str, call: &Call) -> Vec<u8> {
    if !call.reply_wanted {
        return Vec::new();
    }
    text.as_bytes()[..text.len().min(OUTPUT_LIMIT)].to_vec()
}

/// What a worker says of itself ends up in logs and headers: no control characters, and not without end.
fn one_line(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(500)
        .collect()
}
