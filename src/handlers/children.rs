//! What `command` and `exec` share: one child a message, guarded, its end judged by the consumer's exit codes.

use std::sync::Arc;
use std::time::Duration;

use super::HandlerContext;
use super::facts::Facts;
use crate::consumer::handler::{Call, ExitCodes, OUTPUT_LIMIT, Outcome, Report};
use crate::error::Result;
use crate::process::{ChildOutput, Ended, GRACE, Job, LineSink, OWNER, Pool, SpawnError, Stopped, Stream, signal_name};
use crate::queue::Lifeline;
use crate::residents::{Guard, Launcher};
use crate::settings::Settings;

/// How long a child may run unless it is said otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// The key `output:` of a handler that runs children.
pub(super) fn child_output(settings: &mut Settings) -> Result<ChildOutput> {
    let words = [("capture", ChildOutput::Captured), ("inherit", ChildOutput::Inherited)];
    Ok(settings.choice(&["output"], &words)?.unwrap_or_default())
}

/// Runs the children of one consumer.
#[derive(Debug)]
pub(super) struct Children {
    pool: Pool,
    exit_codes: ExitCodes,
    timeout: Option<Duration>,
    output: ChildOutput,
    guard: Arc<Guard>,
}

impl Children {
    pub(super) fn new(context: &HandlerContext, timeout: Option<Duration>, output: ChildOutput) -> Self {
        Self {
            pool: Pool::new("qctl-child", context.concurrency),
            exit_codes: context.exit_codes.clone(),
            timeout,
            output,
            guard: Arc::clone(&context.guard),
        }
    }

    /// How long a child may run.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Has a guardian for this lifeline.
    pub(super) async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.guard.prepare(lifeline).await
    }

    /// Ends the guardian once no child is left.
    pub(super) async fn finish(&self) {
        self.guard.finish().await;
    }

    /// Runs one child with this body on its standard input, and says what came of it. The facts are put into its
    /// environment.
    pub(super) async fn run(
        &self,
        launcher: &Launcher,
        arguments: Vec<String>,
        input: Vec<u8>,
        facts: &Facts,
        call: &Call,
    ) -> Outcome {
        let mut program = match launcher.program() {
            Ok(program) => program,
            Err(error) => return not_started(&error, launcher),
        };
        program.argv.extend(arguments);
        facts.put_into(&mut program.env);
        let guardian = self.guard.current();
        if let Some(guardian) = &guardian {
            program.env.set(OWNER, guardian.token());
        }
        let job = Job {
            program,
            input,
            timeout: self.timeout,
            grace: GRACE,
            keep: if call.output_wanted { OUTPUT_LIMIT } else { 0 },
            // Who waits for a reply waits for the output.
            output: if call.output_wanted {
                ChildOutput::Captured
            } else {
                self.output
            },
            lines: line_sink(&call.queue, call.message.id.as_deref()),
            guardian,
            deferrable: call.patience.is_some(),
        };
        match self.watch(job, call).await {
            Ok(None) => Outcome::Cancelled,
            Ok(Some(ended)) => judge(&self.exit_codes, self.timeout, ended),
            Err(error) => not_started(&error, launcher),
        }
    }

    /// `None`: it was cancelled, or had to wait too long, before it began.
    async fn watch(&self, job: Job, call: &Call) -> Result<Option<Ended>, SpawnError> {
        let mut running = self.pool.submit(job);
        let patience = async {
            match call.patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = &mut running => return result.map(Some),
            () = call.cancel.cancelled() => {
                if running.withdraw() {
                    return Ok(None);
                }
                running.cancel();
            }
            () = patience => {
                if running.withdraw() {
                    return Ok(None);
                }
                tokio::select! {
                    biased;
                    result = &mut running => return result.map(Some),
                    () = call.cancel.cancelled() => running.cancel(),
                }
            }
        }
        running.await.map(Some)
    }
}

/// Sends a child's lines to the log; `None` where nobody would see them.
pub(super) fn line_sink(queue: &str, id: Option<&str>) -> Option<LineSink> {
    if !tracing::enabled!(target: "child", tracing::Level::INFO) {
        return None;
    }
    let (queue, id) = (queue.to_owned(), id.unwrap_or("-").to_owned());
    Some(Box::new(move |stream: Stream, line: &str| {
        tracing::info!(target: "child", queue, id, stream = stream.name(), "{line}");
    }))
}

fn not_started(error: &SpawnError, launcher: &Launcher) -> Outcome {
    match error {
        SpawnError::Fault(_) => Outcome::WorkerFault(launcher.fault(error)),
        SpawnError::Busy(reason) => Outcome::Pause(reason.clone()),
        SpawnError::Refused(reason) => Outcome::reject(reason.clone()),
    }
}

/// What came of a call whose child has ended.
fn judge(exit_codes: &ExitCodes, timeout: Option<Duration>, ended: Ended) -> Outcome {
    let report = Report {
        exit_code: ended.exit_code,
        signal: ended.signal,
        stdout: ended.stdout.bytes,
        stderr: ended.stderr.bytes,
        stdout_truncated: ended.stdout.truncated,
        stderr_truncated: ended.stderr.truncated,
        stderr_tail: ended.stderr_tail,
    };
    let (verdict, reason, by_signal) = match (ended.stopped, ended.exit_code, ended.signal) {
        (Some(Stopped::Cancelled), ..) => return Outcome::Cancelled,
        (Some(Stopped::TimedOut), ..) => {
            let after = humantime::format_duration(timeout.unwrap_or_default());
            (exit_codes.timeout, format!("timed out after {after}"), false)
        }
        (None, Some(code), _) => (exit_codes.verdict(code), format!("exit code {code}"), false),
        (None, None, Some(signal)) => (exit_codes.signal, format!("killed by {}", signal_name(signal)), true),
        (None, None, None) => {
            let reason = "its exit code is lost: another part of this process has taken it";
            (exit_codes.other, reason.to_owned(), false)
        }
    };
    verdict.on(reason, by_signal, report)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{Ended, ExitCodes, Outcome, Stopped, judge};
    use crate::consumer::handler::Verdict;

    fn told(ended: Ended) -> String {
        let mut codes = ExitCodes::default();
        codes.codes.insert(7, Verdict::Ack);
        match judge(&codes, Some(Duration::from_mins(1)), ended) {
            Outcome::Done(report) => format!("done {:?}", report.exit_code),
            Outcome::Retry(failure) => format!("retry {} {}", failure.reason, failure.by_signal),
            Outcome::Reject(failure) => format!("reject {} {}", failure.reason, failure.by_signal),
            Outcome::Cancelled => "cancelled".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn exited(code: i32) -> Ended {
        Ended {
            exit_code: Some(code),
            ..Ended::default()
        }
    }

    #[test]
    fn the_end_of_a_child_is_judged_by_the_exit_codes() {
        assert_eq!(told(exited(0)), "done Some(0)");
        assert_eq!(told(exited(7)), "done Some(7)");
        assert_eq!(told(exited(1)), "retry exit code 1 false");
        assert_eq!(told(exited(127)), "retry exit code 127 false");
        assert_eq!(told(exited(65)), "reject exit code 65 false");
        assert_eq!(
            told(Ended {
                signal: Some(11),
                ..Ended::default()
            }),
            "retry killed by SIGSEGV true"
        );
        assert!(told(Ended::default()).starts_with("retry its exit code is lost"));
    }

    #[test]
    fn what_we_ended_ourselves_is_no_death_by_a_signal() {
        let stopped = |stopped, ended| {
            told(Ended {
                stopped: Some(stopped),
                ..ended
            })
        };
        let killed = Ended {
            signal: Some(9),
            ..Ended::default()
        };
        assert_eq!(
            stopped(Stopped::TimedOut, killed.clone()),
            "retry timed out after 1m false"
        );
        assert_eq!(stopped(Stopped::TimedOut, exited(0)), "retry timed out after 1m false");
        assert_eq!(stopped(Stopped::Cancelled, killed), "cancelled");
        assert_eq!(stopped(Stopped::Cancelled, exited(0)), "cancelled");
    }
}
