//! Starting a worker, and what becomes of it when it has ended.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::log::now;
use super::running::Running;
use super::{Keeper, Phase, Reply, seconds};
use crate::events::{ProcessEvent, ProcessEventKind};
use crate::process::{DEFAULT_PATH, Environment, Identity, Program, signal_name};
use crate::watchdog::beat;
use crate::watchdog::files;
use crate::watchdog::marks::{WORKER, mark};
use crate::watchdog::record::{LastEnd, State, boot_now, wall_now};
use crate::watchdog::verdict::{End, Next, PARKED, next};
use crate::watchdog::watched::Watched;

impl Keeper {
    pub(super) fn start(&mut self, reason: &str) -> Phase {
        if self.is_stopping() || self.folder.is_stopped(&self.plan.spec.id.worker) {
            self.reply(&Reply::Needless("the operator wants it stopped".to_owned()));
            return self.finish();
        }
        // Without its lock it does not know whether somebody else keeps this instance by now.
        if !files::is_at(&self.lock, &self.folder.lock(&self.plan.spec.id)) {
            self.reply(&Reply::Needless(
                "its state was removed meanwhile; check again".to_owned(),
            ));
            return Phase::Over;
        }
        self.log.follow();
        // Written before there is a process, so that whoever comes after a keeper killed here looks for one.
        self.record.next = None;
        self.record.started = Some(wall_now());
        self.write(State::Starting);
        match self.spawn() {
            Ok((pid, beat)) => {
                self.record.worker = Identity::of(pid);
                self.write(State::Starting);
                let number = pid.as_raw_nonzero().get();
                self.tell(ProcessEventKind::ProcessStarted, Some(number), reason);
                let trouble = self.log.trouble();
                self.reply(&Reply::Started { pid: number, trouble });
                Phase::Running(Running::new(pid, beat, self.folder.beat(&self.plan.spec.id)))
            }
            Err(why) => {
                let why = format!("cannot be started: {why}");
                self.ended(None, End::NotStarted, Duration::ZERO, &why)
            }
        }
    }

    fn spawn(&self) -> Result<(Pid, Option<File>), String> {
        let spec = &self.plan.spec;
        let mut env = Environment::empty();
        let account = &self.plan.account;
        for (name, value) in [
            ("PATH", DEFAULT_PATH),
            ("HOME", &account.home),
            ("USER", &account.name),
            ("LOGNAME", &account.name),
            ("SHELL", &account.shell),
        ] {
            env.set(name, value);
        }
        for (name, value) in self.plan.inherited.iter().chain(&spec.env) {
            env.set(name, value);
        }
        env.set(WORKER, mark(&self.plan.folder, &spec.id));
        env.set("QCTL_INSTANCE", spec.id.number.to_string());
        let path = self.folder.beat(&spec.id);
        let owner = spec.account.as_ref().map(|account| account.uid);
        let beat = beat::prepare(&path, owner);
        if beat.is_ok() || spec.heartbeat.is_some() {
            env.set(beat::VARIABLE, path);
        }
        if let (Err(error), Some(_)) = (&beat, spec.heartbeat) {
            return Err(format!("its heartbeat's file cannot be made: {error}"));
        }
        let program =
            Program::locate(spec.argv.clone(), env, Some(spec.cwd.clone())).map_err(|error| error.to_string())?;
        let output = || {
            self.output
                .1
                .try_clone()
                .map(Stdio::from)
                .map_err(|error| error.to_string())
        };
        let child = self
            .plan
            .service()
            .start(&program, Stdio::null(), output()?, output()?)
            .map_err(|error| error.to_string())?;
        Ok((Pid::from_child(&child), beat.ok()))
    }

    /// The worker has ended by itself, or could not be started: what now?
    pub(super) fn ended(&mut self, pid: Option<i32>, end: End, ran: Duration, words: &str) -> Phase {
        self.stopped(pid, end, ran, words);
        if self.is_stopping() || self.folder.is_stopped(&self.plan.spec.id.worker) {
            self.reply(&Reply::Needless("it was stopped meanwhile".to_owned()));
            return self.finish();
        }
        let spec = &self.plan.spec;
        let (next, failures) = next(
            end,
            ran,
            self.record.failures,
            &spec.expected,
            spec.backoff,
            fastrand::f64(),
        );
        self.record.failures = failures;
        self.record.restarts += 1;
        let (wait, parked) = match next {
            Next::AtOnce => return self.start(&format!("ended by its own limit ({words})")),
            Next::After(wait) => (wait, None),
            Next::Parked => (PARKED, Some(Watched::new(&spec.wakes))),
        };
        let when = if parked.is_some() {
            format!(
                "{words}; tried again when its configuration has changed, or after {}",
                seconds(wait)
            )
        } else {
            format!("{words}; started again in {}", seconds(wait))
        };
        self.log.note(&when);
        self.record.next = Some(boot_now() + wait.as_millis() as u64);
        self.write(if parked.is_some() {
            State::Parked
        } else {
            State::Backoff
        });
        self.reply(&Reply::Waiting(when));
        Phase::Resting {
            until: Instant::now() + wait,
            parked,
            reason: format!("ended: {words}"),
        }
    }

    /// Writes down how it ended.
    pub(super) fn stopped(&mut self, pid: Option<i32>, end: End, ran: Duration, reason: &str) {
        let (code, signal) = match end {
            End::Exit(code) => (Some(code), None),
            End::Signal(signal) => (None, Some(signal)),
            End::Hung | End::NotStarted | End::Unseen => (None, None),
        };
        self.record.last = Some(LastEnd {
            code,
            signal,
            reason: reason.to_owned(),
            at: wall_now(),
            ran: ran.as_millis() as u64,
        });
        if pid.is_some() {
            self.tell(ProcessEventKind::ProcessStopped, pid, reason);
        }
    }

    pub(super) fn finish(&mut self) -> Phase {
        self.record.failures = 0;
        self.record.next = None;
        self.write(State::Stopped);
        Phase::Over
    }

    fn tell(&mut self, event: ProcessEventKind, pid: Option<i32>, reason: &str) {
        let id = &self.plan.spec.id;
        let number = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        tracing::info!(worker = %id, pid = %number, reason, "{}", event.name());
        self.log.note(&format!("{} pid={number} reason={reason}", event.name()));
        let told = ProcessEvent {
            time: now(),
            event,
            worker: id.worker.clone(),
            instance: id.number,
            pid,
            reason: reason.to_owned(),
        };
        // A full disk must not stop a worker.
        let _ = self.journal.append(&told);
        self.notify(&told);
    }
}

pub(super) fn words(end: End) -> String {
    match end {
        End::Exit(code) => format!("exit {code}"),
        End::Signal(signal) => format!("killed by {}", signal_name(signal)),
        End::Hung => "hung".to_owned(),
        End::NotStarted => "not started".to_owned(),
        End::Unseen => "ended unseen".to_owned(),
    }
}
