//! Stopping with deliveries out, and where the broker does not answer.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{Consumer, Ground, Setup, ids, lines};
use crate::rabbit::{Proxy, Rabbit};
use crate::support::wait_for;

/// The first signal: what runs is finished and settled, what waits goes back untouched, and the exit is in order.
#[test]
fn the_first_signal_finishes_what_runs_and_gives_back_the_rest() {
    let setup = Setup {
        consumer: "prefetch: 6",
        ..Setup::default()
    };
    let ground = Ground::new(Rabbit::main().vhost(), &setup);
    let mut consumer = ground.consumer(2);
    ground.send("hold-a\nhold-b\nc\nd\ne\n");
    ground.wait_times("+hold-a", 1);
    ground.wait_times("+hold-b", 1);
    wait_for("all to be taken", || ground.vhost.counts("demo").unacknowledged == 5);
    consumer.signal(Signal::TERM);
    consumer.wait_line("stopping");
    wait_for("the rest to go back", || ground.vhost.counts("demo").ready == 3);
    ground.let_go("hold-a");
    ground.let_go("hold-b");
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    assert_eq!(ground.vhost.counts("demo").ready, 3);
    assert_eq!((ground.times("-hold-a"), ground.times("-hold-b")), (1, 1));
    assert_eq!(consumer.lines("WARN"), 0, "{}", consumer.stderr());
    let next = ground.consumer(1);
    ground.wait_times("-e", 1);
    ground.wait_empty();
    for id in ["c", "d", "e"] {
        assert!(
            ground
                .read("book")
                .lines()
                .any(|line| line.starts_with(&format!("+{id} ")) && line.ends_with(" 1"))
        );
    }
    assert_eq!(next.lines("handed out again"), 0, "{}", next.stderr());
    next.stop();
}

/// The second signal: what runs is ended and goes back at once.
#[test]
fn the_second_signal_gives_everything_back() {
    let ground = Ground::new(Rabbit::main().vhost(), &Setup::default());
    let mut consumer = ground.consumer(2);
    ground.send("hold-a\nhold-b\n");
    ground.wait_times("+hold-a", 1);
    ground.wait_times("+hold-b", 1);
    consumer.signal(Signal::TERM);
    consumer.wait_line("stopping");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(130), "{}", consumer.stderr());
    assert_eq!(ground.vhost.counts("demo").ready, 2);
    ground.let_go("hold-a");
    ground.let_go("hold-b");
    let next = ground.consumer(2);
    ground.wait_times("-hold-a", 1);
    ground.wait_times("-hold-b", 1);
    ground.wait_empty();
    ground.no_overlaps();
    next.stop();
}

/// Lets a consumer run through a proxy and sees it end with this code, soon after SIGTERM. It would wait for answers for a
/// minute, heartbeats and all.
fn ends_soon(code: i32, begin: impl FnOnce(&Ground), meanwhile: impl FnOnce(&Proxy, &Consumer)) {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let ground = Ground::new(
        rabbit.vhost(),
        &Setup {
            through: Some(proxy.address()),
            ..Setup::default()
        },
    );
    let mut consumer =
        Consumer::of(ground.start(["--connect-timeout", "60", "consumer", "--concurrency", "2", "demo"]));
    consumer.wait_line("consuming");
    begin(&ground);
    meanwhile(&proxy, &consumer);
    let asked = Instant::now();
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(code), "{}", consumer.stderr());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}: {}", consumer.stderr());
}

/// A consumer ends although nobody answers its good-bye.
#[test]
fn a_consumer_ends_on_a_connection_that_stands_still() {
    ends_soon(0, |_| (), |proxy, _| proxy.hold());
}

/// Nor does one wait that is just connecting to somebody who never answers.
#[test]
fn a_consumer_ends_while_it_connects() {
    ends_soon(
        0,
        |_| (),
        |proxy, consumer| {
            proxy.hold();
            proxy.cut();
            consumer.wait_line("connection lost");
            wait_for("the next try", || proxy.connections() == 1);
        },
    );
}

/// Asked twice it ends at once, whatever it had.
#[test]
fn a_consumer_ends_with_deliveries_out_on_a_connection_that_stands_still() {
    ends_soon(
        130,
        |ground| {
            ground.send(&lines(&ids("hold", 2)));
            ground.wait_times("+hold-1", 1);
            ground.wait_times("+hold-2", 1);
        },
        |proxy, consumer| {
            proxy.hold();
            consumer.signal(Signal::TERM);
            consumer.wait_line("stopping");
        },
    );
}
