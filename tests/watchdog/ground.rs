//! A yard: a configuration with workers, and what the tests ask of it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Finished, Place, is_running, wait_for};

/// The head of every configuration here.
pub const STORE: &str = "connections: { local: 'sqlite://./state/queue.db' }\n";

/// A worker that writes down its starts, and tells if it meets another one of its instance.
pub const HONEST: &str = r#"exec 9>>"lock.$QCTL_INSTANCE"
flock -n 9 || echo "$$" >> overlaps
echo "$$" >> "starts.$QCTL_INSTANCE"
exec sleep 1000"#;

pub struct Yard {
    pub place: Place,
}

impl Yard {
    /// With these lines under `workers:`.
    pub fn new(workers: &str) -> Self {
        Self::with(&format!("{STORE}workers:\n{workers}"))
    }

    pub fn with(config: &str) -> Self {
        let place = Place::with_config(config);
        place.script("honest", HONEST);
        Self { place }
    }

    /// One honest worker `w` with these further keys.
    pub fn honest(keys: &str) -> Self {
        Self::new(&format!(
            "  w: {{ run: [./honest], backoff: {{ min: 100ms, max: 1s }}{keys} }}\n"
        ))
    }

    pub fn configure(&self, workers: &str) {
        self.place.write("qctl.yml", format!("{STORE}workers:\n{workers}"));
    }

    /// Runs `qctl watchdog …`, which must end with this code; whatever it prints.
    pub fn dog(&self, args: &[&str], code: i32) -> Finished {
        self.place
            .run(["watchdog"].iter().chain(args))
            .code(code)
            .any_stdout()
            .any_stderr()
            .check()
    }

    /// A check as crontab does it, whatever comes of it.
    pub fn look_after(&self) {
        let done = self.place.command().args(["watchdog", "check"]).output().unwrap();
        assert!(done.status.code().is_some(), "{done:?}");
    }

    pub fn folder(&self) -> PathBuf {
        self.place.path("state/watchdog")
    }

    pub fn status(&self) -> Vec<Value> {
        match self.place.json(["watchdog", "status"]) {
            Value::Array(all) => all,
            other => panic!("{other}"),
        }
    }

    pub fn of(&self, worker: &str, instance: u64) -> Value {
        let all = self.status();
        all.iter()
            .find(|status| status["worker"] == worker && status["number"] == instance)
            .unwrap_or_else(|| panic!("no {worker}.{instance} in {all:?}"))
            .clone()
    }

    pub fn pid(&self, worker: &str, instance: u64) -> u32 {
        let status = self.of(worker, instance);
        status["pid"].as_u64().unwrap_or_else(|| panic!("{status}")) as u32
    }

    pub fn keeper(&self, worker: &str, instance: u64) -> u32 {
        let status = self.of(worker, instance);
        status["keeper_pid"].as_u64().unwrap_or_else(|| panic!("{status}")) as u32
    }

    /// Waits until it is in this state.
    pub fn wait_state(&self, worker: &str, instance: u64, state: &str) {
        wait_for(
            &format!("{worker}.{instance} to be {state}; {}", self.of(worker, instance)),
            || self.of(worker, instance)["state"] == state,
        );
    }

    /// Waits until it has a worker other than this one, and tells which.
    pub fn wait_new_pid(&self, worker: &str, instance: u64, old: u32) -> u32 {
        let mut new = None;
        wait_for(
            &format!("another process than {old}; {}", self.of(worker, instance)),
            || {
                let pid = self.of(worker, instance)["pid"].as_u64().map(|pid| pid as u32);
                new = pid.filter(|pid| *pid != old);
                new.is_some()
            },
        );
        new.unwrap()
    }

    /// How often the honest worker's instance was started.
    pub fn starts(&self, instance: u32) -> usize {
        self.place.read(&format!("starts.{instance}")).lines().count()
    }

    pub fn log(&self, worker: &str, instance: u32) -> String {
        self.place.read(&format!("state/watchdog/log/{worker}.{instance}.log"))
    }

    pub fn events(&self) -> Vec<Value> {
        self.place
            .read("state/watchdog/events.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The processes of this yard: keepers, workers, and what these have started.
    pub fn processes(&self) -> Vec<u32> {
        let root = self.place.root().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            let is_ours = environment.split('\0').any(|entry| {
                (entry.starts_with("QCTL_WORKER=") || entry.starts_with("QCTL_KEEPER=")) && entry.contains(&root)
            });
            if is_ours && is_running(pid) {
                found.push(pid);
            }
        }
        found
    }

    /// The processes that tell listeners.
    pub fn notifiers(&self) -> Vec<u32> {
        let root = self.place.root().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains("\0__notify\0") && line.contains(&root) {
                found.push(pid);
            }
        }
        found
    }

    /// Nothing of it runs.
    pub fn assert_gone(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Stops all, and sees that nothing is left: no process, and no child of this test's.
    pub fn finish(&self) {
        self.dog(&["stop", "--now"], 0);
        self.assert_gone();
        assert_eq!(self.place.read("overlaps"), "", "two of one instance");
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        // Whatever has become of the test, and of its configuration.
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let mut left = self.processes();
            left.extend(self.notifiers());
            if left.is_empty() || Instant::now() > until {
                return;
            }
            for pid in left {
                kill(pid, Signal::KILL);
            }
        }
    }
}

pub fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills a process, and waits until it is gone.
pub fn end(pid: u32) {
    kill(pid, Signal::KILL);
    wait_for("a killed process's end", || !is_running(pid));
}
