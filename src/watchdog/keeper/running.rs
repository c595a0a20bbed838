//! A worker that runs: whether it works, whether its heart beats, and how it is made to end.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{LOOK, signal_group};

/// A worker without a heartbeat that has lived so long is taken to work.
const UP_AFTER: Duration = Duration::from_secs(1);
/// Between two looks for the first sign of life.
const SOON: Duration = Duration::from_millis(100);
/// What does not answer is not given long to end.
const HUNG_WITHIN: Duration = Duration::from_secs(3);

/// Why a worker is made to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Stop,
    /// To be started anew, for this reason.
    Restart(String),
    /// Its heart does not beat, in words.
    Hung(String),
}

/// The ending of a worker.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) why: Why,
    /// `None`: it may take as long as it likes.
    kill_at: Option<Instant>,
    asked: bool,
}

impl Ending {
    pub(super) fn asked(why: Why, within: Option<Duration>) -> Self {
        Self {
            why,
            kill_at: within.map(|within| Instant::now() + within),
            asked: false,
        }
    }

    pub(super) fn hung(why: String) -> Self {
        Self::asked(Why::Hung(why), Some(HUNG_WITHIN))
    }

    /// No more patience.
    pub(super) fn hurry(&mut self) {
        self.kill_at = Some(Instant::now());
    }

    /// Asks it to end, and ends it when its time is over.
    pub(super) fn press(&mut self, worker: Pid, signal: Signal) {
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            signal_group(worker, Signal::KILL);
        } else if !self.asked {
            signal_group(worker, signal);
            // One that is suspended could not hear it.
            signal_group(worker, Signal::CONT);
        }
        self.asked = true;
    }
}

/// What is seen of a heartbeat's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pulse {
    opened: Option<(i64, i64)>,
    named: Option<(i64, i64)>,
    content: [u8; 64],
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) since: Instant,
    pub(super) ending: Option<Ending>,
    up: bool,
    beat: Option<File>,
    beat_path: PathBuf,
    pulse: Pulse,
    /// How long the pulse has been the same, in looks: a machine that sleeps, or a keeper that was suspended, does not
    /// make a worker look dead.
    silent: Duration,
    looked: Instant,
    looked_at_files: Instant,
}

impl Running {
    pub(super) fn new(pid: Pid, beat: Option<File>, beat_path: PathBuf) -> Self {
        let pulse = pulse(beat.as_ref(), &beat_path);
        let now = Instant::now();
        Self {
            pid,
            since: now,
            ending: None,
            up: false,
            beat,
            beat_path,
            pulse,
            silent: Duration::ZERO,
            looked: now,
            looked_at_files: now,
        }
    }

    /// Says once that the worker works: its heart has beaten, or it has lived for a while.
    pub(super) fn is_up(&mut self, heartbeat: Option<Duration>) -> bool {
        if self.up || self.ending.is_some() {
            return false;
        }
        self.up = match heartbeat {
            Some(_) => pulse(self.beat.as_ref(), &self.beat_path) != self.pulse,
            None => self.since.elapsed() >= UP_AFTER,
        };
        self.up
    }

    /// Says how long its heart has not beaten, if that is too long.
    pub(super) fn is_silent(&mut self, heartbeat: Option<Duration>) -> Option<Duration> {
        let limit = heartbeat?;
        let interval = look_every(Some(limit));
        if self.ending.is_some() || self.looked.elapsed() < interval {
            return None;
        }
        let pulse = pulse(self.beat.as_ref(), &self.beat_path);
        let passed = self.looked.elapsed().min(interval * 2);
        self.looked = Instant::now();
        if pulse != self.pulse {
            self.pulse = pulse;
            self.silent = Duration::ZERO;
            return None;
        }
        self.silent += passed;
        (self.silent >= limit).then_some(self.silent)
    }

    /// Says now and then that files are to be looked at.
    pub(super) fn is_to_look_at_files(&mut self) -> bool {
        let is_due = self.looked_at_files.elapsed() >= Duration::from_secs(1);
        if is_due {
            self.looked_at_files = Instant::now();
        }
        is_due
    }

    /// How long nothing is due.
    pub(super) fn wait(&self, heartbeat: Option<Duration>, is_to_restart: bool) -> Duration {
        let mut wait = look_every(heartbeat);
        if !self.up {
            wait = wait.min(SOON);
        }
        if is_to_restart && self.ending.is_none() {
            // For its turn.
            wait = wait.min(SOON);
        }
        if let Some(at) = self.ending.as_ref().and_then(|ending| ending.kill_at) {
            let left = at.saturating_duration_since(Instant::now());
            wait = wait.min(left.max(Duration::from_millis(10)));
        }
        wait
    }
}

fn look_every(heartbeat: Option<Duration>) -> Duration {
    heartbeat.map_or(LOOK, |limit| (limit / 4).clamp(Duration::from_millis(50), LOOK))
}

fn pulse(opened: Option<&File>, path: &PathBuf) -> Pulse {
    let time = |facts: Metadata| (facts.mtime(), facts.mtime_nsec());
    let mut content = [0; 64];
    if let Some(file) = opened {
        // One that cannot be read has no content.
        let _ = file.read_at(&mut content, 0);
    }
    Pulse {
        opened: opened.and_then(|file| file.metadata().ok()).map(time),
        named: fs::metadata(path).ok().map(time),
        content,
    }
}
