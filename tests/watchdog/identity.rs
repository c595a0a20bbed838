//! Whose process it is: nothing is signalled on less than a full match, whatever stands in the files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::ground::{Yard, end, kill};
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

/// Somebody has the lock, and the record in it names a keeper whose number is a stranger's by now.
#[test]
fn a_process_that_has_the_keepers_number_is_left_alone() {
    let yard = ruin();
    let mut stranger = Stranger::new();
    forge(&yard, |record| {
        record["keeper"]["pid"] = stranger.pid().into();
        record["keeper"]["started"] = (stranger.started() - 1).into();
        record["state"] = "running".into();
        record["digest"] = "another".into();
    });
    let lock = fs::File::open(yard.folder().join("w.1.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    yard.dog(&["check"], 0);
    let error = yard.dog(&["stop", "--now"], 75).stderr;
    assert!(
        error.contains("w.1 is kept by a process that cannot be seen from here"),
        "{error}"
    );
    assert!(stranger.lives(), "a stranger was signalled");
    drop(lock);
    yard.finish();
    assert!(stranger.lives());
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

/// Nobody has looked yet, and the worker ends: its keeper has lost its lock, and must not start another one.
#[test]
fn a_keeper_whose_lock_was_removed_starts_nothing_any_more() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let (worker, keeper) = (yard.pid("w", 1), yard.keeper("w", 1));
    fs::remove_dir_all(yard.place.path("state")).unwrap();
    kill(worker, Signal::KILL);
    wait_for("the keeper's end", || !is_running(keeper));
    assert_eq!(yard.starts(1), 1);
    yard.dog(&["check"], 0);
    wait_for("the second start", || yard.starts(1) == 2);
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
        end(keeper.unwrap());
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

#[test]
fn a_spoilt_record_is_written_anew() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    yard.wait_state("w", 1, "running");
    let (pid, state) = (yard.pid("w", 1), yard.folder().join("w.1.state"));
    for spoil in [b"X".repeat(5000), Vec::new(), vec![0; 4096]] {
        fs::write(&state, spoil).unwrap();
        wait_for("the record", || yard.of("w", 1)["state"] == "running");
        assert_eq!(yard.pid("w", 1), pid);
    }
    fs::remove_file(&state).unwrap();
    wait_for("the record", || yard.of("w", 1)["state"] == "running");
    assert_eq!(yard.starts(1), 1);
    yard.finish();
}

#[test]
fn a_record_of_another_instance_is_none() {
    let yard = Yard::honest(", instances: 2");
    yard.dog(&["start"], 0);
    yard.wait_state("w", 1, "running");
    yard.wait_state("w", 2, "running");
    let pids = (yard.pid("w", 1), yard.pid("w", 2));
    let record = fs::read(yard.folder().join("w.1.state")).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(yard.folder().join("w.2.state"))
        .unwrap()
        .write_all_at(&record, 0)
        .unwrap();
    yard.look_after();
    wait_for("the record", || yard.of("w", 2)["state"] == "running");
    assert_eq!((yard.pid("w", 1), yard.pid("w", 2)), pids);
    assert_eq!((yard.starts(1), yard.starts(2)), (1, 1));
    yard.finish();
}

/// Whoever may open a file may lock it, and a held lock keeps a worker from being kept.
#[test]
fn locks_are_for_nobody_else_and_one_that_is_held_is_told_of() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    yard.dog(&["stop"], 0);
    for entry in fs::read_dir(yard.folder()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions()) & 0o777;
        let is_private = name == "key"
            || [".lock", ".next", ".turn", ".run"]
                .iter()
                .any(|end| name.ends_with(end));
        assert!(!is_private || mode == 0o600, "{name}: {mode:o}");
    }
    let lock = fs::File::open(yard.folder().join("w.1.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    let told = yard.dog(&["start"], 75).stdout;
    assert!(told.contains("is held, and no keeper of it is to be seen"), "{told}");
    drop(lock);
    yard.dog(&["check"], 0);
    wait_for("the worker", || yard.starts(1) == 2);
    yard.finish();
}

#[test]
fn what_lies_in_the_place_of_a_file_is_refused_and_hangs_nobody() {
    for name in ["key", "w.1.lock", "w.1.state", "w.1.beat"] {
        let yard = Yard::honest("");
        yard.dog(&["stop"], 0);
        yard.dog(&["check"], 0);
        let path = yard.folder().join(name);
        let _ = fs::remove_file(&path);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let mut start = yard.place.start(["watchdog", "start"]);
        let code = start.wait();
        assert!(code.is_some(), "{name}");
        yard.place.start(["watchdog", "status"]).wait();
        fs::remove_file(&path).unwrap();
        yard.look_after();
        yard.finish();
    }
}

#[test]
fn a_link_in_the_place_of_the_folder_is_refused() {
    let yard = Yard::honest("");
    fs::create_dir_all(yard.place.path("state")).unwrap();
    fs::create_dir(yard.place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", yard.folder()).unwrap();
    let error = yard.dog(&["check"], 77).stderr;
    assert!(error.contains("is a link"), "{error}");
    assert_eq!(fs::read_dir(yard.place.path("elsewhere")).unwrap().count(), 0);
}

/// The mark alone, in the environment of somebody else's process, ends nothing.
#[test]
fn another_users_process_with_the_mark_is_left_alone() {
    if !rustix::process::geteuid().is_root() {
        // Only root could signal it at all.
        return;
    }
    let yard = Yard::honest("");
    let mark = yard.folder().join("w.1");
    let mut stranger = Stranger(
        Command::new("setpriv")
            .args([
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "sleep",
                "1000",
            ])
            .env("QCTL_WORKER", &mark)
            .env("QCTL_KEEPER", &mark)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_for("the stranger", || {
        fs::read(format!("/proc/{}/cmdline", stranger.pid())).is_ok_and(|line| line.starts_with(b"sleep"))
    });
    yard.dog(&["check"], 0);
    wait_for("the worker", || yard.starts(1) == 1);
    assert!(stranger.lives());
    yard.dog(&["stop", "--now"], 0);
    assert!(stranger.lives());
}
