//! Locks that somebody holds, and processes that are stopped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{Ground, ground, python};
use crate::support::{Running, wait_for};

/// Whether this process holds or awaits a lock on a file of the store's `locks` folder.
fn locks(ground: &Ground, name: &str, pid: u32) -> bool {
    let inode = fs::metadata(ground.path("queue.db.locks").join(name)).unwrap().ino();
    let (file, pid) = (format!(":{inode}"), pid.to_string());
    fs::read_to_string("/proc/locks").unwrap().lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.contains(&pid.as_str()) && words.iter().any(|word| word.ends_with(&file))
    })
}

/// Stops the process at a moment when it has no part in the write lock.
fn stop_aside(ground: &Ground, process: &Running) {
    wait_for("a moment without the lock", || {
        process.signal(Signal::STOP);
        wait_for("the process to be stopped", || {
            fs::read_to_string(format!("/proc/{}/stat", process.pid()))
                .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        });
        let aside = !locks(ground, "work", process.pid()) && !locks(ground, "next", process.pid());
        if !aside {
            process.signal(Signal::CONT);
        }
        aside
    });
}

/// A process that holds the write lock.
fn hold_work(ground: &Ground) -> Running {
    let mut command = Command::new("flock");
    command
        .args(["--no-fork", "queue.db.locks/work", "sleep", "605"])
        .current_dir(ground.path(""));
    let holder = ground.launch(command);
    wait_for("the lock to be held", || locks(ground, "work", holder.pid()));
    holder
}

/// A producer that cannot get the write lock gives up in time, names who has it and has stored nothing; once the lock is
/// free, all is well.
#[test]
fn a_held_write_lock_is_told_with_its_holder() {
    let ground = ground("exec: { run: [cat] }", "");
    ground.send("a\n");
    let mut holder = hold_work(&ground);
    let begun = Instant::now();
    let pid = format!("pid {}", holder.pid());
    ground.refuses(
        &["queuemessage", "--connect-timeout", "1s", "demo", "refused"],
        75,
        ["queue.db", &pid],
    );
    let took = begun.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        ground.figure("ready"),
        1,
        "reading needs no lock, and nothing was stored"
    );
    holder.signal(Signal::TERM);
    holder.wait();
    ground.send("b\n");
    assert_eq!(ground.figure("ready"), 2);
    ground.check_store();
}

/// The first to open a store after a restart of the machine has something to write down; it does not wait for the lock
/// longer than others do.
#[test]
fn the_first_after_a_restart_gives_up_in_time_too() {
    let ground = ground("exec: { run: [cat] }", "");
    ground.send("a\n");
    python(
        &ground,
        "import sqlite3; db = sqlite3.connect('queue.db'); db.execute(\"update meta set value = 'other' where key = 'boot'\"); db.commit()",
    );
    let holder = hold_work(&ground);
    let mut producer = ground.start(["queuemessage", "--connect-timeout", "1s", "demo", "refused"]);
    assert_eq!(producer.wait(), Some(75), "{}", producer.stderr());
    assert!(
        producer.stderr().contains(&format!("pid {}", holder.pid())),
        "{}",
        producer.stderr()
    );
}

/// A store is compacted by a process that has it alone; whoever has it open is named.
#[test]
fn a_store_in_use_is_not_compacted() {
    let ground = ground("exec: { run: [cat] }", "");
    ground.send("a\n");
    let mut consumer = ground.start(["consumer", "demo"]);
    consumer.wait_stderr("consuming");
    let pid = format!("pid {}", consumer.pid());
    ground.refuses(&["store", "compact"], 75, ["queue.db", &pid]);
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    ground.run(["store", "compact"]).any_stdout().check();
    ground.check_store();
}

/// A consumer that is stopped keeps what it holds and nobody else waits for it; continued, it goes on as if nothing had been.
#[test]
fn a_stopped_consumer_holds_nobody_up() {
    let ground = ground("exec: { run: ['./run.sh'] }", "");
    ground.script(
        "run.sh",
        "id=$(cat); echo \"$id\" >> begun; if test \"$id\" = first; then while ! test -e go; do sleep 0.02; done; fi; echo \"$id\" >> done",
    );
    ground.send("first\n");
    let mut stopped = ground.start(["consumer", "demo"]);
    wait_for("the first message to be begun", || ground.read("begun") == "first\n");
    stop_aside(&ground, &stopped);
    ground.send("second\nthird\n");
    let mut other = ground.start(["consumer", "demo"]);
    wait_for("the others to be handled", || ground.read("done") == "second\nthird\n");
    wait_for("one to be held", || {
        ground.figure("held") == 1 && ground.figure("ready") == 0
    });
    ground.write("go", "");
    wait_for("the first to end", || ground.read("done").ends_with("first\n"));
    stopped.signal(Signal::CONT);
    ground.wait_empty();
    for consumer in [&mut stopped, &mut other] {
        consumer.signal(Signal::TERM);
        assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    }
    assert_eq!(ground.read("begun"), "first\nsecond\nthird\n", "each has run once");
}
