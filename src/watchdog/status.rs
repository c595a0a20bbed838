//! What the workers are like, for those who only look.

use std::collections::HashMap;
use std::path::PathBuf;

use rustix::process::Pid;
use serde::Serialize;

use super::beat::{self, Beat};
use super::folder::InstanceId;
use super::record::{LastEnd, Record, State, boot_now, wall_now};
use super::site::{Site, Wanted, chosen};
use crate::process::{Stat, all_pids};

/// What an instance is like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The instance.
    #[serde(flatten)]
    pub id: InstanceId,
    /// Its state, or `unkept`: its keeper is gone, or there never was one.
    pub state: &'static str,
    /// The operator wants it stopped.
    pub wanted: bool,
    /// The worker.
    pub pid: Option<i32>,
    /// Its keeper.
    pub keeper_pid: Option<i32>,
    /// How long the worker has run, in seconds.
    pub uptime: Option<f64>,
    /// So often it was started again.
    pub restarts: u64,
    /// Failures one after the other.
    pub failures: u32,
    /// In how many seconds it is started again.
    pub next_start: Option<f64>,
    /// How it ended last.
    pub last_exit: Option<LastEnd>,
    /// Bytes of memory of it and all that it has started.
    pub memory: Option<u64>,
    /// Messages settled as done since its start; of consumers only.
    pub done: Option<u64>,
    /// Messages settled in any other way.
    pub failed: Option<u64>,
    /// The message settled last.
    pub last_message: Option<String>,
    /// How long ago that was, in seconds.
    pub last_message_age: Option<f64>,
    /// It runs with an older configuration.
    pub outdated: bool,
    /// What it prints.
    pub log: PathBuf,
}

impl Status {
    /// Whether it works.
    pub fn is_running(&self) -> bool {
        matches!(self.state, "running" | "starting")
    }
}

impl Site {
    /// What these workers are like. Nothing is changed, and no lock taken.
    pub fn status(&self, roster: &[Wanted], names: &[String]) -> Vec<Status> {
        let memory = memory();
        chosen(roster, names)
            .map(|wanted| self.status_of(wanted, &memory))
            .collect()
    }

    fn status_of(&self, wanted: &Wanted, memory: &HashMap<i32, (i32, u64)>) -> Status {
        let id = &wanted.spec.id;
        let record = self.record(id);
        let living = record.as_ref().filter(|record| record.is_of(&self.life));
        let keeper = living.filter(|record| record.keeper.find().is_some());
        let worker = living
            .and_then(|record| record.worker)
            .filter(|worker| worker.find().is_some());
        let beat: Option<Beat> = worker.and_then(|worker| {
            beat::read(&self.folder.beat(id)).filter(|beat| i32::try_from(beat.pid) == Ok(worker.pid))
        });
        let state = match (keeper, living) {
            (Some(record), _) => record.state.name(),
            (None, Some(record)) if record.state == State::Stopped && worker.is_none() => State::Stopped.name(),
            _ => "unkept",
        };
        let seconds = |milliseconds: i64| milliseconds.max(0) as f64 / 1000.0;
        Status {
            state,
            wanted: !self.folder.is_stopped(&id.worker),
            pid: worker.map(|worker| worker.pid),
            keeper_pid: keeper.map(|record| record.keeper.pid),
            uptime: worker.and_then(|worker| uptime(worker.started)),
            restarts: record.as_ref().map_or(0, |record| record.restarts),
            failures: living.map_or(0, |record| record.failures),
            next_start: keeper
                .and_then(|record| record.next)
                .map(|next| next.saturating_sub(boot_now()) as f64 / 1000.0),
            last_exit: record.as_ref().and_then(|record| record.last.clone()),
            memory: worker.map(|worker| of_tree(worker.pid, memory)),
            done: beat.as_ref().map(|beat| beat.done),
            failed: beat.as_ref().map(|beat| beat.failed),
            last_message_age: beat
                .as_ref()
                .and_then(|beat| beat.last_at)
                .map(|at| seconds(wall_now() - at)),
            last_message: beat.and_then(|beat| beat.last),
            outdated: keeper.is_some_and(|record: &Record| wanted.is_other_than(&record.digest)),
            log: wanted.spec.log_file(&self.folder),
            id: id.clone(),
        }
    }
}

/// How long ago a process started, in seconds, by its start time in ticks since the system's start.
fn uptime(started: u64) -> Option<f64> {
    let ticks = rustix::param::clock_ticks_per_second();
    let started = started.checked_mul(1000)?.checked_div(ticks)?;
    Some(boot_now().saturating_sub(started) as f64 / 1000.0)
}

/// The parent and the memory of every process.
fn memory() -> HashMap<i32, (i32, u64)> {
    let of = |pid: Pid| Some((pid.as_raw_nonzero().get(), Stat::of(pid)?));
    all_pids()
        .into_iter()
        .filter_map(of)
        .map(|(pid, stat)| (pid, (stat.parent, stat.memory())))
        .collect()
}

/// The memory of a process and of all that descends from it.
fn of_tree(root: i32, all: &HashMap<i32, (i32, u64)>) -> u64 {
    let descends = |pid: i32| {
        let mut at = pid;
        // No chain is longer than there are processes.
        for _ in 0..all.len() {
            if at == root {
                return true;
            }
            match all.get(&at) {
                Some((parent, _)) if *parent > 0 => at = *parent,
                _ => return false,
            }
        }
        false
    };
    all.iter()
        .filter(|(pid, _)| descends(**pid))
        .map(|(_, (_, memory))| memory)
        .sum()
}
