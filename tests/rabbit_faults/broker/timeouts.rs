//! The broker's limit on how long a delivery is held.

use crate::ground::{Ground, Setup};
use crate::rabbit::Rabbit;

/// When it strikes, the broker closes the channel (406) and hands the message out again: what runs is ended, the log says why,
/// and the consumer goes on.
#[test]
fn a_delivery_held_for_too_long_is_explained() {
    let broker = Rabbit::faults();
    broker.set_consumer_timeout(1000);
    let ground = Ground::new(broker.vhost(), &Setup::default());
    let consumer = ground.consumer(1);
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    let child = ground.child("hold-a");
    consumer.wait_line("raise the broker's consumer_timeout");
    consumer.wait_consuming(2);
    consumer.said_once("connection lost; connecting again");
    ground.wait_times("+hold-a", 2);
    assert!(!crate::support::is_running(child));
    ground.ends_well(consumer);
}
