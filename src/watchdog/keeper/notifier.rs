//! Telling listeners. The keeper starts a process that does it, and goes on: nothing that a listener does, or fails to do,
//! can hold up a worker. One process at a time, which is given all that waits, so that events are heard in their order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Pid;

use super::Keeper;
use super::tree::{self, Reaped};
use crate::events::ProcessEvent;
use crate::process::{Environment, Program, Service};
use crate::watchdog::audience::Notifying;

/// So many events wait at most; a process that tells ends after some minutes.
const WAITING: usize = 100;

/// What listeners are still to be told.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    /// Lines of JSON.
    waiting: VecDeque<Vec<u8>>,
    /// The processes that tell.
    telling: Vec<Pid>,
}

impl Notifier {
    /// The processes that tell: children of the keeper's which are none of the worker's.
    pub(super) fn telling(&self) -> &[Pid] {
        &self.telling
    }

    /// Takes what is to be told; `false`: too much waits.
    fn take(&mut self, event: &ProcessEvent) -> bool {
        let Some(mut line) = serde_json::to_vec(event).ok().filter(|_| self.waiting.len() < WAITING) else {
            return false;
        };
        line.push(b'\n');
        self.waiting.push_back(line);
        true
    }

    fn note(&mut self, reaped: &Reaped) {
        self.telling.retain(|pid| reaped.of(*pid).is_none());
    }

    /// Starts a process for all that waits. What it says goes to `output`.
    fn start(&mut self, how: &Notifying, lock: PathBuf, output: Stdio) -> Result<(), String> {
        let lines: Vec<Vec<u8>> = self.waiting.drain(..).collect();
        let input = input(&lines.concat()).map_err(|error| error.to_string())?;
        let mut env = Environment::empty();
        for (name, value) in &how.env {
            env.set(name, value);
        }
        let mut argv = how.argv.clone();
        argv.push(lock.into_os_string().into_string().unwrap_or_default());
        let program = Program::locate(argv, env, Some(how.cwd.clone())).map_err(|error| error.to_string())?;
        let child = Service::default()
            .start(&program, input.into(), Stdio::null(), output)
            .map_err(|error| error.to_string())?;
        self.telling.push(Pid::from_child(&child));
        Ok(())
    }
}

/// A file without a name: a pipe that is full would hold up whoever writes to it.
fn input(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("qctl-events", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

impl Keeper {
    /// Has listeners told of this, if somebody listens.
    pub(super) fn notify(&mut self, event: &ProcessEvent) {
        if self.plan.notifying.is_none() || !self.folder.is_heard(&self.plan.spec.id.worker) {
            return;
        }
        if !self.notifier.take(event) {
            self.log.note(&format!(
                "listeners are not told of {}: {WAITING} events wait to be told already",
                event.event.name()
            ));
        }
        self.notify_next();
    }

    /// Has listeners told of what waits, once those who were told last are done.
    pub(super) fn notify_next(&mut self) {
        if self.notifier.telling.is_empty() {
            self.notify_rest();
        }
    }

    /// Has listeners told of what waits, whoever is told meanwhile.
    pub(super) fn notify_rest(&mut self) {
        let Some(how) = self
            .plan
            .notifying
            .as_ref()
            .filter(|_| !self.notifier.waiting.is_empty())
        else {
            return;
        };
        let count = self.notifier.waiting.len();
        // To the log itself: it may go on when the keeper has ended.
        let output = self.log.writer().map_or_else(Stdio::inherit, Stdio::from);
        if let Err(why) = self
            .notifier
            .start(how, self.folder.telling(&self.plan.spec.id), output)
        {
            self.log
                .note(&format!("listeners are not told of {count} events: {why}"));
        }
    }

    /// Takes the status of every child that has ended. Those that tell listeners are not among those that are left.
    pub(super) fn reap(&mut self) -> Reaped {
        let mut reaped = tree::reap();
        self.notifier.note(&reaped);
        if reaped.left && !self.notifier.telling.is_empty() {
            reaped.left = tree::has_others(&self.notifier.telling);
        }
        reaped
    }
}
