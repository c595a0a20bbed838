//! What is seen from outside while the broker goes and comes back.

use crate::ground::{Consumer, Ground, Setup};
use crate::observer::Observer;
use crate::rabbit::{Proxy, Rabbit};
use crate::support::wait_for;

/// Alive all the time, ready only while it can consume, and it tells how often it had to connect again.
#[test]
fn readiness_follows_the_connection_and_health_does_not() {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let setup = Setup {
        through: Some(proxy.address()),
        connection: "heartbeat: 1s",
        ..Setup::default()
    };
    let ground = Ground::new(rabbit.vhost(), &setup);
    let args = ["--connect-timeout", "2", "consumer", "--metrics", "127.0.0.1:0", "demo"];
    let consumer = Consumer::of(ground.start(args));
    let observer = Observer::of(&consumer);
    observer.wait("/readyz", 200);
    ground.send("one\n");
    wait_for("the first message", || observer.figures().outcome("done") == 1);
    for times in 1..=2 {
        proxy.refuse();
        proxy.cut();
        let reason = observer.wait("/readyz", 503);
        assert!(reason.starts_with("not connected: "), "{reason}");
        let figures = observer.figures();
        assert_eq!(
            (figures.count("connected"), figures.count("reconnects_total")),
            (0, times - 1)
        );
        assert_eq!(observer.get("/healthz").status, 200);
        proxy.pass();
        observer.wait("/readyz", 200);
        let figures = observer.figures();
        assert_eq!(
            (figures.count("connected"), figures.count("reconnects_total")),
            (1, times)
        );
    }
    // A broker that is there and says nothing is noticed by its heartbeats.
    proxy.hold();
    observer.wait("/readyz", 503);
    assert_eq!(observer.get("/healthz").status, 200);
    proxy.pass();
    observer.wait("/readyz", 200);
    ground.send("two\n");
    wait_for("the second message", || observer.figures().outcome("done") == 2);
    consumer.stop();
}
