//! A broker that stands still (SIGSTOP), with its connections open.

use std::time::{Duration, Instant};

use crate::ground::{Ground, Load, Setup};
use crate::rabbit::Rabbit;

/// How long it stands still: long enough to be noticed and for a try to connect that is not answered. `QCTL_TEST_HANG=30`
/// takes so many seconds.
fn hang() -> Duration {
    let seconds = std::env::var("QCTL_TEST_HANG").map_or(6, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// It is noticed within two heartbeats, and the consumer goes on when the broker does. A short command says what is wrong.
#[test]
fn a_broker_that_stands_still_is_noticed() {
    let broker = Rabbit::faults();
    let ground = Ground::new(
        broker.vhost(),
        &Setup {
            connection: "heartbeat: 2s",
            consumer: "retry: { deliveries: 0 }",
            ..Setup::default()
        },
    );
    let consumer = ground.consumer(3);
    let load = Load::start(&ground);
    load.goes_on(20);
    broker.pause();
    let paused = Instant::now();
    consumer.wait_line("connection lost; connecting again");
    let noticed = paused.elapsed();
    assert!(noticed < Duration::from_millis(4500), "{noticed:?}");
    assert!(
        consumer.stderr().contains("sent nothing for two heartbeats"),
        "{}",
        consumer.stderr()
    );
    consumer.wait_line("accepted the connection and did not answer within 2 s");
    ground
        .run(["--connect-timeout", "1", "queuemessage", "demo", "slow-never"])
        .code(69)
        .stderr_contains("did not answer within 1 s")
        .check();
    std::thread::sleep(hang().saturating_sub(paused.elapsed()));
    broker.resume();
    consumer.wait_consuming(2);
    load.goes_on(10);
    ground.reckon_load(load, 3 * 33);
    consumer.stop();
}
