//! A full disk: a small tmpfs, in a mount namespace of its own so that nothing of it can stay behind.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use rustix::process::Signal;

use crate::ground::{Ground, config};
use crate::support::{Place, may_mount, wait_for};

/// A store on a disk of 3 MB.
struct SmallDisk {
    ground: Ground,
}

impl SmallDisk {
    fn new(handler: &str) -> Self {
        let place = Place::with_config(&config("./small/queue.db", handler, ""));
        fs::create_dir(place.path("small")).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(place.path("small"))
            .status()
            .unwrap();
        assert!(mounted.success());
        Self {
            ground: Ground::new(place),
        }
    }

    /// Writes until nothing goes in any more.
    fn fill(&self) {
        let mut filler = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ground.path("small/filler"))
            .unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    /// Makes it ten times as large.
    fn grow(&self) {
        let grown = Command::new("mount")
            .args(["-o", "remount,size=30m"])
            .arg(self.ground.path("small"))
            .status()
            .unwrap();
        assert!(grown.success());
    }

    fn free(&self) {
        fs::remove_file(self.ground.path("small/filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because what a failed test has left there is ended only after this.
        let _ = Command::new("umount").arg("-l").arg(self.ground.path("small")).status();
    }
}

/// On a full disk publishing ends with 75 and a line that names the store; what was accepted before is there, and what is
/// sent when there is room again.
#[test]
fn publishing_to_a_full_disk_is_refused() {
    if !may_mount("disk::publishing_to_a_full_disk_is_refused") {
        return;
    }
    let disk = SmallDisk::new("exec: { run: ['./run.sh'] }");
    let ground = &disk.ground;
    ground.script("run.sh", "id=$(cat); echo \"$id\" >> out");
    ground.send("a\nb\n");
    disk.fill();
    for _ in 0..3 {
        ground.refuses(&["queuemessage", "demo", "refused"], 75, ["small/queue.db", "full"]);
    }
    ground
        .run(["queuemessage", "--lines", "demo"])
        .stdin("refused\nrefused\n")
        .code(75)
        .stderr_contains("0 message(s) queued, then line 1")
        .check();
    assert_eq!(ground.figure("ready"), 2);
    disk.free();
    ground.send("c\n");
    ground.check_store();
    ground.drain();
    assert_eq!(ground.read("out"), "a\nb\nc\n");
}

/// When the disk becomes full while lines are sent, as many are in the store as were reported, and sending resumes there.
#[test]
fn a_disk_that_becomes_full_keeps_what_was_told() {
    const LINES: usize = 8_000;

    if !may_mount("disk::a_disk_that_becomes_full_keeps_what_was_told") {
        return;
    }
    let disk = SmallDisk::new("noop: {}");
    let ground = &disk.ground;
    let line = "x".repeat(500) + "\n";
    let lines = line.repeat(LINES);
    let told = ground
        .run(["queuemessage", "--lines", "demo"])
        .stdin(lines.clone())
        .code(3)
        .any_stderr()
        .check();
    assert!(
        told.stderr.contains("small/queue.db") && told.stderr.contains("full"),
        "{}",
        told.stderr
    );
    let (before, _) = told.stderr.split_once(" message(s) queued").unwrap();
    let taken: u64 = before.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(ground.figure("ready"), taken);
    ground.check_store();
    disk.grow();
    let next = (taken + 1).to_string();
    ground
        .run(["queuemessage", "--lines", "--from-line", &next, "demo"])
        .stdin(lines)
        .any_stdout()
        .check();
    assert_eq!(ground.figure("ready"), LINES as u64);
    ground.drain();
    assert_eq!(ground.figure("ready"), 0);
    ground.check_store();
}

/// A store cannot be begun on a full disk, which is told; with room it can.
#[test]
fn a_store_is_not_begun_on_a_full_disk() {
    if !may_mount("disk::a_store_is_not_begun_on_a_full_disk") {
        return;
    }
    let disk = SmallDisk::new("noop: {}");
    disk.fill();
    disk.ground
        .refuses(&["queuemessage", "demo", "x"], 75, ["small/queue.db", "full"]);
    disk.free();
    disk.ground.send("a\n");
    disk.ground.check_store();
}

/// A consumer outlives a full disk: what was handled meanwhile is settled when there is room, and handled once.
#[test]
fn a_consumer_outlives_a_full_disk() {
    if !may_mount("disk::a_consumer_outlives_a_full_disk") {
        return;
    }
    let disk = SmallDisk::new("exec: { run: ['./run.sh'] }");
    let ground = &disk.ground;
    ground.script(
        "run.sh",
        "id=$(cat); echo \"$id\" >> begun; while ! test -e go; do sleep 0.02; done; echo \"$id\" >> done",
    );
    ground.send("a\nb\nc\n");
    let mut consumer = ground.start(["consumer", "demo"]);
    wait_for("the first to be begun", || ground.read("begun") == "a\n");
    disk.fill();
    ground.write("go", "");
    wait_for("the first to be handled", || ground.read("done").starts_with("a\n"));
    wait_for("some vain tries to settle", || {
        consumer.stderr().matches("the disk is full").count() >= 3
    });
    assert!(!consumer.has_ended(), "{}", consumer.stderr());
    disk.free();
    ground.wait_empty();
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    assert_eq!(ground.read("begun"), "a\nb\nc\n");
    assert_eq!(ground.read("done"), "a\nb\nc\n");
    assert_eq!(ground.figure("dead"), 0);
    ground.check_store();
}
