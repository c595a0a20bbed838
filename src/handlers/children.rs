//! What `command` and `exec` share: one child a message, guarded, its end judged by the consumer's exit codes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::HandlerContext;
use super::facts::Facts;
use crate::consumer::handler::{Call, ExitCodes, Failure, OUTPUT_LIMIT, Outcome, Report, Verdict};
use crate::error::{Error, Result};
use crate::process::{
    ChildOutput, Ended, Environment, GRACE, Guardian, Job, LineSink, OWNER, Pool, Program, SpawnError, Stopped, Stream,
    is_ignored, signal_name,
};
use crate::queue::Lifeline;
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
    /// qctl itself.
    qctl: PathBuf,
    exit_codes: ExitCodes,
    timeout: Option<Duration>,
    output: ChildOutput,
    guardian: Mutex<Option<Arc<Guardian>>>,
}

/// A program that is looked for once, in `prepare` or at the first message, and not at every one.
#[derive(Debug)]
pub(super) struct Launcher {
    argv: Vec<String>,
    env: Environment,
    cwd: Option<PathBuf>,
    /// The key of the configuration that names it.
    key: String,
    found: Mutex<Option<Program>>,
}

impl Launcher {
    pub(super) fn new(key: String, argv: Vec<String>, env: &[(String, String)], cwd: Option<PathBuf>) -> Self {
        let mut environment = Environment::inherited();
        for (name, value) in env {
            environment.set(name, value);
        }
        Self {
            argv,
            env: environment,
            cwd,
            key,
            found: Mutex::default(),
        }
    }

    /// Looks for the program anew.
    pub(super) fn check(&self) -> Result<()> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        *found = None;
        *found = Some(self.locate().map_err(|error| Error::worker_fault(self.fault(&error)))?);
        Ok(())
    }

    /// The program, ready to be given more arguments.
    pub(super) fn program(&self) -> Result<Program, SpawnError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_none() {
            *found = Some(self.locate()?);
        }
        Ok(found.clone().expect("it was just put there"))
    }

    /// What to say of a program that cannot be run.
    pub(super) fn fault(&self, error: &SpawnError) -> String {
        format!("{}: {error}; correct it, then start the consumer again", self.key)
    }

    fn locate(&self) -> Result<Program, SpawnError> {
        Program::locate(self.argv.clone(), self.env.clone(), self.cwd.clone())
    }
}

impl Children {
    pub(super) fn new(context: &HandlerContext, timeout: Option<Duration>, output: ChildOutput) -> Self {
        Self {
            pool: Pool::new("qctl-child", context.concurrency),
            qctl: context.program.clone(),
            exit_codes: context.exit_codes.clone(),
            timeout,
            output,
            guardian: Mutex::default(),
        }
    }

    /// How long a child may run.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Has a guardian for this lifeline. One for an earlier lifeline goes on until its last child has ended.
    pub(super) async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        check_child_signal()?;
        if self
            .guardian()
            .as_ref()
            .is_some_and(|guardian| guardian.serves(lifeline))
        {
            return Ok(());
        }
        // It answers within milliseconds, but the runtime is not to wait even for these.
        let (qctl, lifeline) = (self.qctl.clone(), lifeline.clone());
        let guardian = beside(move || Guardian::start(Path::new(&qctl), &lifeline)).await??;
        *self.guardian() = Some(Arc::new(guardian));
        Ok(())
    }

    /// Ends the guardian once no child is left.
    pub(super) async fn finish(&self) {
        let guardian = self.guardian().take();
        // Its end is waited for, or a zombie would be left; where no thread can be had, it ends when it is dropped here.
        let _ = beside(move || drop(guardian)).await;
    }

    fn guardian(&self) -> MutexGuard<'_, Option<Arc<Guardian>>> {
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner)
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
        let guardian = self.guardian().clone();
        if let Some(guardian) = &guardian {
            program.env.set(OWNER, guardian.token());
        }
        let job = Job {
            program,
            input,
            timeout: self.timeout,
            grace: GRACE,
            keep: if call.reply_wanted { OUTPUT_LIMIT } else { 0 },
            // Who waits for a reply waits for the output.
            output: if call.reply_wanted {
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

/// Runs something that blocks for a moment on a thread of its own.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name("qctl-prepare".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            // Nobody waits any more: the consumer has ended meanwhile.
            let _ = done.send(work());
        })
        .map_err(|error| {
            Error::temporary("cannot start a thread; try again when the machine has room").because(error)
        })?;
    result
        .await
        .map_err(|error| Error::bug("a thread that prepares a handler has panicked").because(error))
}

/// Whoever started us may have had `SIGCHLD` ignored, which is inherited: the system then throws every child's exit code
/// away.
fn check_child_signal() -> Result<()> {
    if is_ignored(libc::SIGCHLD) {
        return Err(Error::worker_fault(
            "SIGCHLD is ignored, so no child's exit code can be known; start the consumer from a program that leaves it at \
             its default",
        ));
    }
    Ok(())
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
    let failure = |report| Failure {
        reason,
        by_signal,
        retry_after: None,
        report,
    };
    match verdict {
        Verdict::Ack => Outcome::Done(report),
        Verdict::Retry => Outcome::Retry(failure(report)),
        Verdict::Reject => Outcome::Reject(failure(report)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{Ended, ExitCodes, Outcome, Stopped, Verdict, judge};

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
