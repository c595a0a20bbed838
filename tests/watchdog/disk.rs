//! A full disk under the state: a small tmpfs, in a mount namespace of its own so that nothing of it can stay behind.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use rustix::process::Signal;

use crate::ground::{Yard, end, kill};
use crate::support::{is_running, may_mount, wait_for};

fn mount(yard: &Yard) {
    fs::create_dir(yard.place.path("state")).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(yard.place.path("state"))
        .status()
        .unwrap();
    assert!(mounted.success());
}

fn fill(yard: &Yard) {
    let path = yard.place.path("state/filler");
    let mut filler = OpenOptions::new().create(true).append(true).open(path).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
}

/// Records are written where there was room for them, logs are lost and told of, and workers are kept.
#[test]
fn workers_are_kept_on_a_full_disk() {
    if !may_mount("disk::workers_are_kept_on_a_full_disk") {
        return;
    }
    let yard = Yard::honest(", instances: 2");
    mount(&yard);
    yard.dog(&["start"], 0);
    yard.wait_state("w", 1, "running");
    fill(&yard);
    let worker = yard.pid("w", 1);
    kill(worker, Signal::KILL);
    let next = yard.wait_new_pid("w", 1, worker);
    yard.dog(&["check"], 0);
    let keeper = yard.keeper("w", 1);
    end(keeper);
    yard.dog(&["check"], 0);
    wait_for("the third start", || yard.starts(1) == 3);
    assert!(!is_running(next));
    assert_eq!(yard.starts(2), 1);
    fs::remove_file(yard.place.path("state/filler")).unwrap();
    yard.finish();
}

/// A first start needs room, and says so; with room it works.
#[test]
fn a_first_start_on_a_full_disk_says_what_to_do() {
    if !may_mount("disk::a_first_start_on_a_full_disk_says_what_to_do") {
        return;
    }
    let yard = Yard::honest("");
    mount(&yard);
    fill(&yard);
    let error = yard.dog(&["check"], 75).stderr;
    assert!(error.contains("the disk is full; make room"), "{error}");
    yard.assert_gone();
    fs::remove_file(yard.place.path("state/filler")).unwrap();
    yard.dog(&["check"], 0);
    wait_for("the start", || yard.starts(1) == 1);
    yard.finish();
}
