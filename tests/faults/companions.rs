//! Guardians that are stopped, and children that slip away from their consumer.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fleet::guardian_of;
use crate::ground::{Ground, ground};
use crate::support::{Running, is_running, wait_for};

/// Stops the guardian of this consumer, and lets it go on (or be killed) when dropped, or nothing could end it.
struct StoppedGuardian(Pid);

impl StoppedGuardian {
    fn of(consumer: &Running) -> Self {
        let consumer = Pid::from_raw(consumer.pid().cast_signed()).unwrap();
        let guardian = guardian_of(consumer).expect("a consumer that consumes has a guardian");
        kill_process(guardian, Signal::STOP).unwrap();
        Self(guardian)
    }
}

impl Drop for StoppedGuardian {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn with_job() -> Ground {
    let ground = ground("exec: { run: ['./run.sh'] }", "");
    ground.script(
        "run.sh",
        "id=$(cat); echo \"+$id $$\" >> book\n\
         case $id in hold) until test -e go; do sleep 0.02; done;; esac\n\
         echo \"-$id\" >> book",
    );
    ground
}

fn times(ground: &Ground, start: &str) -> usize {
    ground
        .read("book")
        .lines()
        .filter(|line| line.starts_with(start))
        .count()
}

fn child(ground: &Ground) -> u32 {
    let book = ground.read("book");
    let line = book.lines().find_map(|line| line.strip_prefix("+hold "));
    line.unwrap().parse().unwrap()
}

/// A guardian that is stopped does not keep a consumer from doing its work and from ending in order, within a bounded time; what
/// the consumer had is settled or given back, and others go on.
#[test]
fn a_stopped_guardian_does_not_hold_up_the_end() {
    let ground = with_job();
    let mut consumer = ground.start(["consumer", "demo"]);
    consumer.wait_stderr("consuming");
    let guardian = StoppedGuardian::of(&consumer);
    ground.send("hold\n");
    wait_for("the job to begin", || times(&ground, "+hold") == 1);
    ground.send("next\n");
    let asked = Instant::now();
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping");
    ground.write("go", "");
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!((times(&ground, "-hold"), times(&ground, "+next")), (1, 0));
    assert_eq!((ground.figure("ready"), ground.figure("held")), (1, 0));
    ground.run(["consumer", "-m", "1", "demo"]).any_stderr().check();
    assert_eq!(times(&ground, "-next"), 1);
    drop(guardian);
}

/// The guardian that was stopped when its consumer is killed goes on (the kernel continues a stopped group that is orphaned; where
/// something else adopts it, whoever stopped it must) and ends the children before the message is handed out again.
#[test]
fn a_stopped_guardian_does_its_work_when_it_goes_on() {
    let ground = with_job();
    let mut doomed = ground.start(["consumer", "demo"]);
    doomed.wait_stderr("consuming");
    ground.send("hold\n");
    wait_for("the job to begin", || times(&ground, "+hold") == 1);
    let first = child(&ground);
    let mut other = ground.start(["consumer", "demo"]);
    other.wait_stderr("consuming");
    let guardian = StoppedGuardian::of(&doomed);
    doomed.signal(Signal::KILL);
    doomed.wait();
    drop(guardian);
    wait_for("the message to be begun again", || {
        let again = times(&ground, "+hold") == 2;
        assert!(!again || !is_running(first), "the first child runs beside the second");
        again
    });
    ground.write("go", "");
    ground.wait_empty();
    other.signal(Signal::TERM);
    assert_eq!(other.wait(), Some(0), "{}", other.stderr());
}

/// What leaves its session is not reached by a time-out, but neither does it hold up the consumer, even with the output in its
/// hands; it lives until the consumer dies.
#[test]
fn a_child_that_left_its_session_outlives_a_time_out_and_holds_nobody_up() {
    let ground = ground("exec: { run: ['./run.sh'], timeout: 300ms }", "retry: { attempts: 1 }");
    // `setsid` keeps standard output and standard error open.
    ground.script(
        "run.sh",
        "id=$(cat)\n\
         case $id in slow) setsid sh -c 'echo $$ > away.new; mv away.new away; exec sleep 606' & wait;; esac\n\
         echo \"$id\" >> out",
    );
    ground.send("slow\nnext\n");
    let mut consumer = ground.start(["consumer", "demo"]);
    wait_for("the child that goes away", || !ground.read("away").is_empty());
    let away: u32 = ground.read("away").trim().parse().unwrap();
    let begun = Instant::now();
    wait_for("the next message to be handled", || ground.read("out") == "next\n");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    consumer.wait_stderr("timed out after 300ms");
    wait_for("the first one to be dead-lettered", || ground.figure("dead") == 1);
    assert!(
        is_running(away),
        "the documented limit; was it lifted? then say so there"
    );
    consumer.signal(Signal::KILL);
    consumer.wait();
    wait_for("it to be ended by the guardian", || !is_running(away));
}
