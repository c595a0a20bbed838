//! Ending what a keeper that was killed has left behind: it was nobody's child any more, so it is known by its mark alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::Identity;
use crate::watchdog::marks::{self, Marked};

/// So many looks in a row must find nothing. A process that is just becoming another program shows no environment for a
/// moment.
const CLEAN_LOOKS: u32 = 2;

/// The ending of an instance's strays.
#[derive(Debug)]
pub(super) struct Strays {
    mark: String,
    /// Whose processes they can be: whoever else has the mark has it by chance or ill will.
    users: Vec<u32>,
    /// Those that were signalled.
    pub(super) ended: BTreeSet<i32>,
    /// The worker that the dead keeper wrote down.
    worker: Option<Identity>,
    signal: Signal,
    kill_at: Option<Instant>,
    asked: bool,
    clean: u32,
}

impl Strays {
    pub(super) fn new(
        mark: String,
        users: Vec<u32>,
        worker: Option<Identity>,
        signal: Signal,
        within: Option<Duration>,
    ) -> Self {
        Self {
            mark,
            users,
            ended: BTreeSet::new(),
            worker,
            signal,
            kill_at: within.map(|within| Instant::now() + within),
            asked: false,
            clean: 0,
        }
    }

    /// No more patience.
    pub(super) fn hurry(&mut self) {
        self.kill_at = Some(Instant::now());
    }

    /// One look; says whether all are gone.
    pub(super) fn look(&mut self) -> bool {
        let mut found = marks::find(|mark| mark == self.mark)
            .remove(&self.mark)
            .unwrap_or_default();
        found.retain(|process| self.users.contains(&process.user));
        self.ended.extend(found.iter().map(|process| process.identity.pid));
        if found.is_empty() {
            self.clean += 1;
            return self.clean >= CLEAN_LOOKS;
        }
        self.clean = 0;
        // A keeper among them would start its worker again; and its copy is no worker yet, so there is nothing to lose.
        for keeper in found.iter().filter(|process| process.is_keeper) {
            send(keeper, Signal::KILL);
        }
        let workers: Vec<&Marked> = found.iter().filter(|process| !process.is_keeper).collect();
        let leads = |process: &&&Marked| !workers.iter().any(|other| other.identity.pid == process.parent);
        // What a worker that is gone has left behind has nobody to finish for.
        let is_leaderless = self.worker.is_some_and(|worker| worker.find().is_none());
        if is_leaderless || self.kill_at.is_some_and(|at| at <= Instant::now()) {
            for process in &workers {
                send(process, Signal::KILL);
            }
        } else if !self.asked && !workers.is_empty() {
            for process in workers.iter().filter(leads) {
                send(process, self.signal);
            }
            self.asked = true;
        }
        false
    }
}

/// Signals the process, or nobody. One that is gone meanwhile needs no signal.
fn send(process: &Marked, signal: Signal) {
    if let Some(found) = process.identity.find() {
        let _ = found.signal(signal);
    }
}
