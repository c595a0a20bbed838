//! What becomes of deliveries whose copies cannot be made: retries, dead letters, counts.

use serde_json::json;

use crate::ground::{Ground, Setup, ids, lines};
use crate::rabbit::{Proxy, Rabbit, segment};
use crate::support::wait_for;

/// Connections that are cut while retries are on their way, between a copy's confirm and its ack too: nothing is lost.
#[test]
fn retries_on_connections_that_are_cut_lose_nothing() {
    const COUNT: usize = 60;
    const CUTS: usize = 6;
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let ground = Ground::new(
        rabbit.vhost(),
        &Setup {
            through: Some(proxy.address()),
            consumer: "retry: { min: 100ms, max: 200ms, deliveries: 0 }",
            ..Setup::default()
        },
    );
    let consumer = ground.consumer(3);
    let sent = ids("fail", COUNT);
    ground.send(&lines(&sent));
    for cut in 1..=CUTS {
        let before = ground.read("book").lines().count();
        wait_for("work to be done", || {
            ground.read("book").lines().count() > before + 5 || ground.times("-fail-60") > 0
        });
        proxy.cut();
        consumer.wait_consuming(cut + 1);
    }
    wait_for("everything to be handled", || {
        sent.iter().all(|id| ground.times(&format!("-{id}")) > 0)
    });
    wait_for("nothing to be held back", || {
        ground.vhost.queues().iter().all(|queue| {
            let counts = ground.vhost.counts(queue);
            counts.ready + counts.unacknowledged == 0
        })
    });
    ground.reckon(&sent, CUTS * 3 * 33);
    consumer.stop();
}

/// A login that may have one connection only cannot send copies: what fails is neither lost nor said to be settled, the
/// reason is told, and all goes on when there is room, whatever else had been taken.
#[test]
fn a_second_connection_that_is_refused_loses_nothing() {
    let ground = Ground::new(
        Rabbit::main().vhost(),
        &Setup {
            consumer: "retry: { min: 100ms, deliveries: 0 }\n    prefetch: 5",
            ..Setup::default()
        },
    );
    let path = format!("user-limits/{}/max-connections", segment(ground.vhost.user()));
    let limit = |most: i64| ground.vhost.rabbit().management().put(&path, &json!({"value": most}));
    let consumer = ground.consumer(1);
    limit(1);
    let sent = ids("fail", 8);
    for id in &sent {
        assert!(ground.vhost_publish(id));
    }
    wait_for("it to be told twice", || {
        consumer.lines("connection lost; connecting again") >= 2
    });
    assert!(consumer.stderr().contains("connection limit"), "{}", consumer.stderr());
    limit(-1);
    wait_for("everything to be handled", || {
        sent.iter().all(|id| ground.times(&format!("-{id}")) > 0)
    });
    ground.consumes("afterwards");
    ground.wait_empty();
    ground.reckon(&[sent, vec!["afterwards".to_owned()]].concat(), 0);
    consumer.stop();
}

/// So it is for a login that may not make the queues that hold a retry back.
#[test]
fn a_retry_that_may_not_be_held_back_is_not_lost() {
    let ground = Ground::new(
        Rabbit::main().vhost(),
        &Setup {
            consumer: "retry: { min: 100ms, deliveries: 0 }\n    prefetch: 5",
            ..Setup::default()
        },
    );
    let consumer = ground.consumer(1);
    ground.vhost.permit("^demo", ".*", ".*");
    let sent = ids("fail", 8);
    ground.send(&lines(&sent));
    wait_for("it to be told twice", || {
        consumer.lines("connection lost; connecting again") >= 2
    });
    assert!(consumer.stderr().contains("qctl.delay."), "{}", consumer.stderr());
    ground.vhost.permit(".*", ".*", ".*");
    wait_for("everything to be handled", || {
        sent.iter().all(|id| ground.times(&format!("-{id}")) > 0)
    });
    ground.consumes("afterwards");
    ground.wait_empty();
    ground.reckon(&[sent, vec!["afterwards".to_owned()]].concat(), 0);
    consumer.stop();
}

/// A message whose consumer died comes back into a queue that has become full: it cannot be counted there, and is handled all
/// the same, without going round and round.
#[test]
fn a_suspect_in_a_full_queue_is_handled() {
    let ground = Ground::new(
        Rabbit::main().vhost(),
        &Setup {
            queue: "{ name: demo, max_length: 2 }",
            ..Setup::default()
        },
    );
    let mut doomed = ground.consumer(1);
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    ground.send("b\nc\n");
    doomed.kill();
    wait_for("it to come back", || ground.vhost.counts("demo").ready == 3);
    let consumer = ground.consumer(1);
    ground.wait_times("+hold-a", 2);
    ground.let_go("hold-a");
    // Until there is room nothing is taken.
    ground.wait_empty();
    ground.consumes("afterwards");
    ground.wait_empty();
    ground.reckon(&["hold-a", "b", "c", "afterwards"].map(str::to_owned), 0);
    assert!(consumer.stderr().lines().count() < 30, "{}", consumer.stderr());
    consumer.stop();
}
