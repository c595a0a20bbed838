//! Persistent workers: residents whose answers decide what becomes of a message.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HandlerContext;
use super::facts::message_facts;
use crate::consumer::handler::{Call, ExitCodes, Failure, OUTPUT_LIMIT, Outcome, Report, Verdict};
use crate::error::Result;
use crate::queue::Lifeline;
use crate::residents::{Guard, Launcher, Patience, Residents, Told, WorkerSettings};

/// The persistent workers of one program.
#[derive(Debug)]
pub(super) struct Workers {
    residents: Residents,
    guard: Arc<Guard>,
    exit_codes: ExitCodes,
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
        let guard = Arc::clone(&context.guard);
        Self {
            residents: Residents::new(
                place,
                launcher,
                Arc::clone(&guard),
                settings,
                timeout,
                context.concurrency,
            ),
            guard,
            exit_codes: context.exit_codes.clone(),
        }
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.residents.timeout()
    }

    /// Looks for the program, and has a guardian for this lifeline.
    pub(super) async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.residents.prepare(lifeline).await
    }

    /// Starts the workers. Once they are started it does nothing.
    pub(super) fn start(&self) {
        self.residents.start();
    }

    /// The memory that they have in use.
    pub(super) fn memory(&self) -> u64 {
        self.residents.memory()
    }

    /// Has a worker do something for a message.
    pub(super) async fn call<P: Serialize>(&self, method: &str, params: &P, call: &Call) -> Outcome {
        let patience = Patience {
            cancel: &call.cancel,
            begin_within: call.patience,
        };
        match self.residents.ask(method, params, &message_facts(call), patience).await {
            Ok(told) => self.judge(told, call),
            Err(error) => Outcome::reject(format!("the message cannot be put into JSON: {error}")),
        }
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
                let after = humantime::format_duration(self.residents.timeout().unwrap_or_default());
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
                stdout_truncated: call.output_wanted && answer.len() > OUTPUT_LIMIT,
                stdout: kept(answer, call),
                ..Report::default()
            });
        };
        let report = Report {
            exit_code: Some(child.exit_code),
            stdout_truncated: call.output_wanted && child.stdout.len() > OUTPUT_LIMIT,
            stderr_truncated: call.output_wanted && child.stderr.len() > OUTPUT_LIMIT,
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
        self.residents.finish().await;
        self.guard.finish().await;
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
    if !call.output_wanted {
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
