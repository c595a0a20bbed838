//! Messages that kill their consumer.

use crate::ground::{Consumer, Ground, Setup};
use crate::rabbit::Rabbit;
use crate::support::wait_for;

/// A poison message is found out: it is given up after as many deaths as are allowed, and what was handled beside it is not
/// blamed for any of them.
fn poison_is_found_out(queue: &str, at_least: usize) {
    let setup = Setup {
        consumer: "retry: { deliveries: 3 }",
        queue,
        ..Setup::default()
    };
    let ground = Ground::new(Rabbit::main().vhost(), &setup);
    ground.script(
        "run.sh",
        "id=$(cat); echo \"+$id $$ $QCTL_DELIVERIES\" >> book\n\
         case $id in poison)\n\
         until test \"$(grep -c '^+' book)\" -ge 3; do sleep 0.02; done\n\
         kill -9 \"$PPID\"; sleep 60;;\n\
         beside-*) test \"$QCTL_DELIVERIES\" -gt 1 || sleep 60;;\n\
         esac\n\
         echo \"-$id\" >> book",
    );
    ground.send("beside-1\npoison\nbeside-2\n");
    let mut deaths = 0;
    let mut consumer = ground.consumer(3);
    wait_for("the poison message to be given up", || {
        if consumer.has_ended() {
            deaths += 1;
            assert!(deaths <= 3, "{}", consumer.stderr());
            consumer = restart(&ground);
        }
        ground
            .vhost
            .queue("demo.dead")
            .is_some_and(|_| ground.vhost.counts("demo.dead").ready == 1)
    });
    assert!(deaths >= at_least, "{deaths}");
    wait_for("what was beside it", || {
        assert!(!consumer.has_ended(), "{}", consumer.stderr());
        ground.times("-beside-1") > 0 && ground.times("-beside-2") > 0
    });
    let dead = ground.vhost.take("demo.dead", 10);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].body, b"poison");
    let reason = dead[0].properties["headers"]["x-qctl-reason"].as_str().unwrap();
    assert!(reason.starts_with("handed out 4 times"), "{reason}");
    consumer.wait_line("failed for good, dead-lettered");
    consumer.said_once("handed out 4 times and never settled: it may kill its consumer");
    assert_eq!(ground.times("+poison"), deaths);
    assert_eq!(
        (ground.times("+beside-1"), ground.times("+beside-2")),
        (2, 2),
        "killed once each, with the poison"
    );
    ground.consumes("afterwards");
    consumer.stop();
}

/// It may be killed before it is seen to consume.
fn restart(ground: &Ground) -> Consumer {
    Consumer::of(ground.start(["consumer", "--concurrency", "3", "demo"]))
}

#[test]
fn a_message_that_kills_its_consumer_is_found_out_on_a_classic_queue() {
    poison_is_found_out("", 3);
}

#[test]
fn a_message_that_kills_its_consumer_is_found_out_on_a_quorum_queue() {
    // RabbitMQ 3.10 counts one death as two now and then.
    poison_is_found_out(
        "{ name: demo, arguments: { x-queue-type: quorum, x-delivery-limit: 20 } }",
        2,
    );
}
