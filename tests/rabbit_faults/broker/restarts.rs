//! A broker that goes and comes back under load.

use crate::ground::{Ground, Load, Setup};
use crate::rabbit::{Faults, Rabbit};

const SLOTS: usize = 3;

/// The broker goes in this way and comes back: what was confirmed is handled, what was not may be.
fn goes_and_comes_back(queue: &str, go: impl FnOnce(&Faults)) {
    let broker = Rabbit::faults();
    let ground = Ground::new(
        broker.vhost(),
        &Setup {
            connection: "heartbeat: 2s",
            consumer: "retry: { deliveries: 500 }",
            queue,
            ..Setup::default()
        },
    );
    let consumer = ground.consumer(3);
    let load = Load::start(&ground);
    load.goes_on(20);
    go(&broker);
    consumer.wait_line("connection lost; connecting again");
    consumer.wait_line("connection refused");
    broker.start();
    consumer.wait_consuming(2);
    load.goes_on(10);
    ground.reckon_load(load, SLOTS * 33);
    ground.no_overlaps();
    assert!(
        ground.read("refusals").contains("connection refused"),
        "who sends is told too"
    );
    consumer.stop();
}

#[test]
fn a_broker_that_is_stopped_and_started_loses_nothing() {
    goes_and_comes_back("", Faults::stop);
}

#[test]
fn a_broker_that_is_killed_and_started_loses_nothing() {
    goes_and_comes_back("", Faults::kill);
}

#[test]
fn a_broker_that_is_killed_and_started_loses_nothing_of_a_quorum_queue() {
    goes_and_comes_back(
        "{ name: demo, arguments: { x-queue-type: quorum, x-delivery-limit: 1000 } }",
        Faults::kill,
    );
}
