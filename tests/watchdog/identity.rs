//! Whose process it is: nothing is signalled on less than a full match, whatever stands in the files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::ground::{Yard, kill};
use crate::support::{is_running, wait_for};

/// FNV-1a, as records are summed with.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Changes what a record says.
fn forge(yard: &Yard, change: impl Fn(&mut Value)) {
    let path = yard.folder().join("w.1.state");
    let text = fs::read_to_string(&path).unwrap();
    let (json, _) = text.lines().next().unwrap().rsplit_once(' ').unwrap();
    let mut record: Value = serde_json::from_str(json).unwrap();
    change(&mut record);
    let json = record.to_string();
    let mut line = format!("{json} {:016x}\n", checksum(json.as_bytes())).into_bytes();
    line.resize(4096, b'\n');
    // In place: somebody may have the file's lock.
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(&line, 0)
        .unwrap();
}

/// A process that has nothing to do with anything.
struct Stranger(std::process::Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// When it started, as the system counts.
    fn started(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .nth(19)
            .unwrap()
            .parse()
            .unwrap()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A yard whose worker and keeper are dead, and whose record is still there.
fn ruin() -> Yard {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let (worker, keeper) = (yard.pid("w", 1), yard.keeper("w", 1));
    kill(keeper, Signal::KILL);
    kill(worker, Signal::KILL);
    wait_for("both ends", || !is_running(keeper) && !is_running(worker));
    yard
}

#[test]
fn a_process_that_has_the_workers_number_is_left_alone() {
    for verb in ["check", "stop", "restart"] {
        let yard = ruin();
        let mut stranger = Stranger::new();
        let started = stranger.started();
        forge(&yard, |record| {
            // The number is the stranger's, the start time is not.
            record["worker"]["pid"] = stranger.pid().into();
            record["worker"]["started"] = (started - 1).into();
            record["keeper"]["pid"] = stranger.pid().into();
            record["keeper"]["started"] = (started - 1).into();
        });
        yard.dog(&[verb], 0);
        yard.dog(&["status"], 0);
        assert!(stranger.lives(), "{verb} signalled a stranger");
        yard.finish();
        assert!(stranger.lives());
    }
}

#[test]
fn a_process_without_the_mark_is_left_alone_even_if_the_record_names_it() {
    let yard = ruin();
    let mut stranger = Stranger::new();
    forge(&yard, |record| {
        record["worker"]["pid"] = stranger.pid().into();
        record["worker"]["started"] = stranger.started().into();
    });
    yard.dog(&["check"], 0);
    wait_for("the second start", || yard.starts(1) == 2);
    yard.finish();
    assert!(stranger.lives());
}

#[test]
fn a_record_from_before_a_reboot_counts_nothing_and_signals_nobody() {
    let yard = ruin();
    let mut stranger = Stranger::new();
    forge(&yard, |record| {
        record["life"] = "00000000-0000-0000-0000-000000000000 pid:[1]".into();
        record["worker"]["pid"] = stranger.pid().into();
        record["worker"]["started"] = stranger.started().into();
        record["keeper"] = record["worker"].clone();
        record["failures"] = 9.into();
    });
    assert_eq!(yard.of("w", 1)["state"], "unkept");
    let told = yard.dog(&["check"], 0).stdout;
    assert!(told.starts_with("w.1: started (pid "), "{told}");
    let status = yard.of("w", 1);
    assert_eq!((&status["failures"], yard.starts(1)), (&0.into(), 2), "{status}");
    yard.finish();
    assert!(stranger.lives());
}

#[test]
fn a_deleted_state_folder_makes_no_second_worker() {
    let yard = Yard::honest(", instances: 2");
    yard.dog(&["start"], 0);
    let old: Vec<u32> = (1..=2).flat_map(|n| [yard.pid("w", n), yard.keeper("w", n)]).collect();
    fs::remove_dir_all(yard.place.path("state")).unwrap();
    yard.dog(&["check"], 0);
    wait_for("new workers", || yard.starts(1) == 2 && yard.starts(2) == 2);
    wait_for("the old ones' ends", || old.iter().all(|pid| !is_running(*pid)));
    yard.place.run(["watchdog", "check"]).check();
    assert_eq!(yard.processes().len(), 4);
    yard.finish();
}

#[test]
fn a_deleted_state_folder_does_not_keep_a_stop_from_stopping() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    fs::remove_dir_all(yard.place.path("state")).unwrap();
    yard.dog(&["stop"], 0);
    yard.assert_gone();
}

#[test]
fn a_record_cut_short_is_no_record_and_no_danger() {
    for length in [0, 1, 100, 200] {
        // While its keeper lives it stays kept, and is written again.
        let yard = Yard::honest("");
        yard.dog(&["start"], 0);
        yard.wait_state("w", 1, "running");
        let state = yard.folder().join("w.1.state");
        let cut = || {
            let file = fs::OpenOptions::new().write(true).open(&state).unwrap();
            file.set_len(length).unwrap();
        };
        cut();
        let told = yard.dog(&["check", "-v"], 0).stdout;
        assert_eq!(yard.starts(1), 1, "cut to {length}: {told}");
        // Without its keeper the worker is found by its mark.
        let keeper = yard.processes().into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("__keeper")
        });
        kill(keeper.unwrap(), Signal::KILL);
        wait_for("the keeper's end", || !is_running(keeper.unwrap()));
        cut();
        yard.dog(&["check"], 0);
        wait_for("the second start", || yard.starts(1) == 2);
        yard.finish();
    }
}

#[test]
fn two_configurations_in_one_folder_do_not_fight() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    yard.place.write(
        "other.yml",
        format!(
            "{}workers:\n  w: {{ run: [sleep, '9'] }}\n  x: {{ run: [sleep, '1000'] }}\n",
            crate::ground::STORE
        ),
    );
    let told = yard.dog(&["--config", "other.yml", "check"], 78).stdout;
    assert!(
        told.contains("w.1: is kept for another configuration, ") && told.contains("state_dir"),
        "{told}"
    );
    yard.place.run(["watchdog", "check"]).check();
    assert!(yard.of("w", 1)["pid"].is_u64());
    yard.dog(&["--config", "other.yml", "stop", "x", "--now"], 0);
    yard.finish();
}
