//! A broker whose disk is full: it takes no messages, and hands out those it has.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{Ground, Setup, ids, lines};
use crate::rabbit::Rabbit;
use crate::support::wait_for;

fn setup() -> Setup<'static> {
    Setup {
        connection: "heartbeat: 1s",
        consumer: "retry: { min: 100ms }",
        ..Setup::default()
    }
}

/// A short command that sends says why nothing is taken, and ends with 75; consumers go on with what is there, and what they
/// could not send back is sent when there is room.
#[test]
fn a_full_disk_is_told_and_waited_for() {
    let broker = Rabbit::faults();
    let ground = Ground::new(broker.vhost(), &setup());
    let consumer = ground.consumer(2);
    let sent = [ids("job", 3), ids("fail", 3), vec!["hold-a".to_owned()]].concat();
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    broker.raise_disk_alarm();
    let begun = Instant::now();
    let never = ids("never", 50);
    let said = ground
        .run(["--connect-timeout", "1", "queuemessage", "--lines", "demo"])
        .stdin(lines(&never))
        .code(75)
        .any_stdout()
        .any_stderr()
        .check();
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(
        said.stderr
            .contains("the broker takes no messages for now (low on disk) and has not confirmed this one"),
        "{}",
        said.stderr
    );
    // What is there is handled and acked.
    ground.let_go("hold-a");
    ground.wait_times("-hold-a", 1);
    ground.wait_empty();
    broker.clear_disk_alarm();
    ground.send(&lines(&sent[..6]));
    wait_for("everything to be handled", || {
        sent.iter().all(|id| ground.times(&format!("-{id}")) > 0)
    });
    ground.wait_empty();
    // The first of them may stand in a buffer of the broker's, and are taken from there when there is room.
    ground.reckon_all(&sent, &[sent.clone(), never].concat(), 0);
    assert_eq!(consumer.lines("connection lost"), 0, "{}", consumer.stderr());
    consumer.stop();
}

/// A consumer whose retries wait for the disk acks what it handles, ends when it is asked to twice, and loses nothing.
#[test]
fn a_consumer_whose_retries_are_blocked_can_be_ended() {
    for signals in [2, 1] {
        ended_by(signals);
    }
}

fn ended_by(signals: usize) {
    let broker = Rabbit::faults();
    let ground = Ground::new(broker.vhost(), &setup());
    let mut consumer = ground.consumer(2);
    let sent = ids("fail", 6);
    // The copies' connection is there, and published before: only such are blocked.
    ground.send("fail-0\n");
    ground.wait_times("-fail-0", 1);
    ground.send("hold-a\nhold-b\n");
    ground.wait_times("+hold-b", 1);
    ground.send(&lines(&sent));
    broker.raise_disk_alarm();
    ground.let_go("hold-a");
    ground.let_go("hold-b");
    consumer.wait_line("the broker takes no messages for now");
    wait_for("the consumer to be stuck", || {
        ground.vhost.counts("demo").unacknowledged >= 1
    });
    // Long enough for the broker to miss heartbeats, were there none.
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(consumer.lines("connection lost"), 0, "{}", consumer.stderr());
    consumer.signal(Signal::TERM);
    consumer.wait_line("stopping");
    let begun = Instant::now();
    let (expected, within) = if signals == 2 {
        consumer.signal(Signal::TERM);
        (130, Duration::from_secs(10))
    } else {
        (0, Duration::from_secs(17))
    };
    assert_eq!(consumer.wait(), Some(expected), "{}", consumer.stderr());
    assert!(begun.elapsed() < within, "{:?}", begun.elapsed());
    assert_eq!(
        consumer.lines("the broker does not take the last settlements"),
        1,
        "{}",
        consumer.stderr()
    );
    broker.clear_disk_alarm();
    let next = ground.consumer(2);
    wait_for("everything to be handled", || {
        sent.iter().all(|id| ground.times(&format!("-{id}")) > 0)
    });
    ground.wait_empty();
    next.stop();
}
