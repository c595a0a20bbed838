//! The broker that tests may harm. Everything waits for its effect.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::{Rabbit, folder, wait_until};

/// The administrator's name and the virtual host that are there from the first start.
const ADMIN: &str = "admin";
const ROOT: &str = "/";
/// RabbitMQ's own default, in milliseconds.
const CONSUMER_TIMEOUT: u64 = 1_800_000;

/// The broker `faults`, for one test. It is made healthy when a test takes it, so that none suffers from the one before;
/// what must not outlast a test that fails, a paused broker, is undone when the guard is dropped.
pub struct Faults {
    rabbit: Rabbit,
    // Held for as long as this lives; without nextest, tests of several processes and threads run at once.
    _lock: File,
}

impl Deref for Faults {
    type Target = Rabbit;

    fn deref(&self) -> &Rabbit {
        &self.rabbit
    }
}

impl Faults {
    pub(super) fn begin(rabbit: Rabbit) -> Self {
        let lock = File::options()
            .create(true)
            .append(true)
            .open(Path::new(rabbit.setting("FOLDER")).join("tests.lock"))
            .unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let faults = Self { rabbit, _lock: lock };
        faults.heal();
        faults
    }

    fn heal(&self) {
        self.signal(Signal::CONT);
        if !self.rabbit.management().answers(Duration::from_secs(10)) {
            self.start();
        }
        self.clear_disk_alarm();
        self.set_consumer_timeout(CONSUMER_TIMEOUT);
        // What tests left that ended while the broker was down.
        let management = self.rabbit.management();
        for (kind, own) in [("vhosts", ROOT), ("users", ADMIN)] {
            for entry in management.get(kind).as_array().unwrap() {
                let name = entry["name"].as_str().unwrap();
                if name != own {
                    management.try_delete(&format!("{kind}/{}", super::segment(name)));
                }
            }
        }
    }

    /// Starts it again on its ports and with its data, and waits until it answers. Takes 4 s and more.
    pub fn start(&self) {
        script(&["start", "rabbitmq", self.rabbit.name]);
    }

    /// Ends it as an administrator would. Takes about 1 s.
    pub fn stop(&self) {
        script(&["halt", self.rabbit.name]);
    }

    /// Kills it at once. Confirmed messages survive that, but RabbitMQ writes declarations (queues, bindings, users, and who
    /// leads a quorum queue) down only within seconds; so that no test depends on when it did, that is done before, unless it is paused.
    pub fn kill(&self) {
        let pid = self.pid().expect("the broker runs");
        if self.state() != Some('T') {
            self.rabbit
                .eval("mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()]");
        }
        self.signal(Signal::KILL);
        wait_until("the broker is gone", || !Path::new(&format!("/proc/{pid}")).exists());
    }

    /// Freezes it: connections stay and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        wait_until("the broker stands still", || self.state() == Some('T'));
    }

    /// Lets it go on after [`Faults::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
        wait_until("the broker answers again", || {
            self.rabbit.management().answers(Duration::from_secs(5))
        });
    }

    /// Makes it believe that the disk is full: it blocks every connection that publishes.
    pub fn raise_disk_alarm(&self) {
        self.set_disk_limit(1 << 60, "[{{resource_limit, disk,");
    }

    pub fn clear_disk_alarm(&self) {
        self.set_disk_limit(50_000_000, "[]");
    }

    /// How long a consumer may keep a delivery before the broker closes its channel, in milliseconds, for channels that are
    /// opened from now on. Checked twice a second.
    pub fn set_consumer_timeout(&self, milliseconds: u64) {
        self.rabbit.eval(&format!(
            "application:set_env(rabbit, consumer_timeout, {milliseconds})"
        ));
    }

    fn set_disk_limit(&self, bytes: u64, alarms: &str) {
        self.rabbit
            .eval(&format!("rabbit_disk_monitor:set_disk_free_limit({bytes})"));
        wait_until("the disk alarm is as it should be", || {
            self.rabbit.eval("rabbit_alarm:get_alarms()").starts_with(alarms)
        });
    }

    /// Of the Erlang machine; `None` while it does not run. Ids are used again: the folder among its arguments is the mark.
    fn pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.rabbit.setting("PID_FILE")).ok()?;
        let pid: i32 = pid.trim().parse().ok()?;
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let folder = self.rabbit.setting("FOLDER");
        arguments.split('\0').any(|argument| argument == folder).then_some(pid)
    }

    /// The letter that the kernel has for its state; `T` is stopped.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

/// Runs `scripts/brokers`.
fn script(arguments: &[&str]) {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "scripts", "brokers"].iter().collect();
    let output = Command::new(script)
        .args(arguments)
        .env("QCTL_BROKERS", folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
