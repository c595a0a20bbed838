//! Wall clocks that are set, with the library of the Debian package `faketime` in front of the system's.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::ground::{Ground, ground};
use crate::support::{Running, wait_for};

/// Makes `command` see the wall clock this many seconds away from where it is. Durations are left alone, as they are when a
/// clock is set.
fn with_clock(mut command: Command, offset: i64) -> Command {
    if offset != 0 {
        command
            .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1")
            .env("FAKETIME", format!("{offset:+}s"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    command
}

fn queue(ground: &Ground, offset: i64, args: &[&str]) {
    let mut command = with_clock(ground.command(), offset);
    let output = command.arg("queuemessage").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn consume(ground: &Ground, offset: i64) -> Running {
    let mut command = with_clock(ground.command(), offset);
    command.args(["consumer", "demo"]);
    let consumer = ground.launch(command);
    consumer.wait_stderr("consuming");
    consumer
}

/// Until then: a moment that is to be reached, not a guess at how long something takes.
fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// The clock of a command is really set in these tests.
#[test]
fn a_clock_can_be_set() {
    for offset in [-3600, 3600] {
        let mut date = Command::new("date");
        date.arg("+%s");
        let output = with_clock(date, offset).output().unwrap();
        let said: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let error = said - now.cast_signed() - offset;
        assert!(
            error.abs() < 60,
            "install the package `faketime`: {error} s off; {output:?}"
        );
    }
}

/// A delay and a time to live are as long as they were meant, whosever clock is an hour wrong, and in whichever direction.
#[test]
fn a_clock_that_is_set_moves_no_message() {
    let cases = [(3600, 0), (-3600, 0), (0, 3600), (0, -3600), (3600, -3600)];
    thread::scope(|scope| {
        for (producer, consumer) in cases {
            scope.spawn(move || delay_and_expiry(producer, consumer));
        }
    });
}

fn delay_and_expiry(producer: i64, consumer: i64) {
    let case = format!("producer {producer:+} s, consumer {consumer:+} s");
    let ground = ground("exec: { run: ['./run.sh'] }", "");
    ground.script("run.sh", "id=$(cat); echo \"$id\" >> out");
    let begun = Instant::now();
    queue(&ground, producer, &["--delay", "2s", "demo", "delayed"]);
    queue(&ground, producer, &["--ttl", "1s", "demo", "expired"]);
    queue(&ground, producer, &["--ttl", "10m", "demo", "alive"]);
    sleep_until(begun + Duration::from_millis(1500));
    let running = consume(&ground, consumer);
    wait_for("the delayed message", || ground.read("out").contains("delayed"));
    let after = begun.elapsed();
    assert!(after >= Duration::from_secs(2), "{case}: too early, after {after:?}");
    assert!(after < Duration::from_secs(12), "{case}: too late, after {after:?}");
    assert_eq!(ground.read("out"), "alive\ndelayed\n", "{case}");
    ground.wait_empty();
    finish(running);
    assert_eq!(ground.figure("dead"), 1, "{case}: the expired message");
}

/// A clock that is set while a consumer runs moves nothing either.
#[test]
fn a_clock_set_under_a_running_consumer_moves_no_message() {
    for offset in [-3600, 3600] {
        let ground = ground("exec: { run: ['./run.sh'] }", "");
        ground.script("run.sh", "id=$(cat); echo \"$id\" >> out");
        // libfaketime reads the offset from this file at every look at the clock.
        ground.write("clock", "+0");
        let mut command = with_clock(ground.command(), 1);
        command
            .env_remove("FAKETIME")
            .env("FAKETIME_TIMESTAMP_FILE", ground.path("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .args(["consumer", "demo"]);
        let running = ground.launch(command);
        running.wait_stderr("consuming");
        let begun = Instant::now();
        queue(&ground, 0, &["--delay", "1s", "demo", "delayed"]);
        queue(&ground, 0, &["--delay", "10m", "demo", "later"]);
        ground.write("clock", format!("{offset:+}s"));
        wait_for("the delayed message", || ground.read("out").contains("delayed"));
        let after = begun.elapsed();
        assert!(
            (Duration::from_secs(1)..Duration::from_secs(11)).contains(&after),
            "{offset:+} s: {after:?}"
        );
        assert_eq!(ground.read("out"), "delayed\n");
        finish(running);
        assert_eq!(ground.figure("delayed"), 1);
    }
}

fn finish(mut consumer: Running) {
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
}
