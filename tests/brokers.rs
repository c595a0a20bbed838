//! That the brokers of `scripts/brokers` and what tests do with them (tests/rabbit) are what they say.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "rabbit/mod.rs"]
mod rabbit;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rabbit::{Counts, Management, Proxy, Rabbit, Vhost, segment, wait_until};
use serde_json::json;

/// A client that has said what protocol it speaks and has seen the broker answer.
fn greeted(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut kind = [0];
    client.read_exact(&mut kind).unwrap();
    assert_eq!(kind, [1], "a method frame: Connection.Start");
    client
}

/// What a client meets that reads on: the broker's bytes are skipped.
fn end_of(mut client: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    while client.read(&mut buffer)? > 0 {}
    Ok(())
}

/// A virtual host is made, its user sees it and no other, and both are gone afterwards.
#[test]
fn a_virtual_host_is_one_tests_own() {
    let rabbit = Rabbit::main();
    let vhost = rabbit.vhost();
    let path = format!("vhosts/{}", segment(vhost.name()));
    let address = rabbit.amqp();
    assert!(rabbit.management().find(&path).is_some());
    assert!(vhost.url().ends_with(&format!("@{address}/{}", vhost.name())));
    let (user, name) = (vhost.user().to_owned(), vhost.name().to_owned());
    let seen = as_user(&vhost, vhost.password()).get("vhosts");
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(seen[0]["name"], json!(name));

    drop(vhost);
    assert!(rabbit.management().find(&path).is_none());
    assert!(rabbit.management().find(&format!("users/{}", segment(&user))).is_none());
}

fn as_user(vhost: &Vhost, password: &str) -> Management {
    let admin = vhost.rabbit().management();
    admin.as_user(vhost.user(), password)
}

/// Queues, messages and their counts are seen without a driver, whatever the queue is called.
#[test]
fn messages_are_published_counted_and_taken() {
    let rabbit = Rabbit::main();
    let vhost = rabbit.vhost();
    let queue = "a queue/with: everything\u{e9}\"'>>";
    vhost.declare(queue, &json!({"x-max-priority": 3}));
    assert_eq!(vhost.queues(), [queue]);
    assert_eq!(vhost.queue(queue).unwrap()["arguments"]["x-max-priority"], json!(3));
    let counts = |ready| Counts {
        ready,
        unacknowledged: 0,
        consumers: 0,
    };
    assert_eq!(vhost.counts(queue), counts(0));

    let properties = json!({"message_id": "one", "headers": {"x-a": "b"}});
    assert!(vhost.publish("", queue, &properties, b"\0\xff body"));
    assert!(!vhost.publish("", "no such queue", &json!({}), b""));
    assert_eq!(vhost.counts(queue), counts(1));
    wait_until("the management API counts it too", || {
        vhost.queue(queue).unwrap()["messages_ready"] == json!(1)
    });

    assert!(!vhost.peek(queue, 9)[0].redelivered);
    let taken = vhost.take(queue, 9);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].body, b"\0\xff body");
    assert_eq!(taken[0].routing_key, queue);
    assert_eq!(taken[0].properties["headers"]["x-a"], json!("b"));
    assert!(taken[0].redelivered);
    assert_eq!(vhost.counts(queue), counts(0));

    vhost.delete_queue(queue);
    assert!(vhost.queue(queue).is_none());
}

/// Passwords, users and policies change under whoever is connected.
#[test]
fn users_and_policies_are_changed() {
    let rabbit = Rabbit::main();
    let vhost = rabbit.vhost();
    let soon = Duration::from_secs(10);
    assert!(as_user(&vhost, vhost.password()).answers(soon));
    vhost.set_password("another");
    assert!(!as_user(&vhost, vhost.password()).answers(soon));
    assert!(as_user(&vhost, "another").answers(soon));

    vhost.declare("q", &json!({}));
    vhost.set_policy("limit", "^q$", &json!({"max-length": 1}));
    wait_until("the policy is in force", || {
        vhost.queue("q").unwrap()["policy"] == json!("limit")
    });

    vhost.permit("", "", "");
    vhost.delete_user();
    assert!(!as_user(&vhost, "another").answers(soon));
}

/// A client that is not ours connects with the URL, is seen, and is closed by the broker when that is asked for.
#[test]
fn connections_are_seen_and_closed() {
    let rabbit = Rabbit::main();
    let vhost = rabbit.vhost();
    let mut client = Pika::start(
        &rabbit,
        &vhost.url(),
        "
try:
    while True: connection.process_data_events(1)
except pika.exceptions.ConnectionClosedByBroker as error:
    print(error.reply_code)
",
    );
    wait_until("the connection is seen", || vhost.connections().len() == 1);
    assert_eq!(vhost.connections()[0]["user"], json!(vhost.user()));
    assert_eq!(vhost.close_connections(), 1);
    assert_eq!(client.says(), "320");
}

/// A Python that runs pika; it is killed at the latest when the test ends.
struct Pika {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Pika {
    /// Connected as `connection`, with `channel` on it. The URL goes over standard input.
    fn start(rabbit: &Rabbit, url: &str, script: &str) -> Self {
        let program = format!(
            "import pika, sys\nconnection = pika.BlockingConnection(pika.URLParameters(sys.stdin.readline().strip()))\n\
             channel = connection.channel()\n{script}"
        );
        let mut child = rabbit
            .python()
            .args(["-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(url.as_bytes()).unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next line it prints; empty when it has ended.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Pika {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The certificates are there, and the keys are nobody else's to read.
#[test]
fn certificates_are_at_hand() {
    let rabbit = Rabbit::main();
    let (certificate, key) = rabbit.client_certificate();
    for (file, what) in [
        (rabbit.ca(), "CERTIFICATE"),
        (rabbit.other_ca(), "CERTIFICATE"),
        (certificate, "CERTIFICATE"),
        (key.clone(), "PRIVATE KEY"),
    ] {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with(&format!("-----BEGIN {what}-----")),
            "{}",
            file.display()
        );
    }
    assert_eq!(std::fs::metadata(key).unwrap().mode() & 0o077, 0);
}

/// A connection through the proxy is reset when it is cut, and the next one is taken.
#[test]
fn a_proxy_cuts() {
    let proxy = Proxy::new(Rabbit::main().amqp());
    let client = greeted(proxy.address());
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    assert_eq!(proxy.connections(), 0);
    assert_eq!(end_of(client).unwrap_err().kind(), ErrorKind::ConnectionReset);
    greeted(proxy.address());
}

/// The broker hears of a cut as well: it has no connection left.
#[test]
fn a_cut_reaches_the_broker() {
    let rabbit = Rabbit::main();
    let vhost = rabbit.vhost();
    let proxy = Proxy::new(rabbit.amqp());
    let mut client = Pika::start(
        &rabbit,
        &vhost.url_at(proxy.address()),
        "
try:
    while True: connection.process_data_events(1)
except pika.exceptions.StreamLostError:
    print('lost')
",
    );
    wait_until("the connection is seen", || vhost.connections().len() == 1);
    proxy.cut();
    wait_until("the connection is gone", || vhost.connections().is_empty());
    assert_eq!(client.says(), "lost");
}

/// A held direction passes nothing and loses nothing; the other one goes on.
#[test]
fn a_proxy_holds_each_direction() {
    let proxy = Proxy::new(Rabbit::main().amqp());
    for hold in [Proxy::hold, Proxy::hold_to_broker, Proxy::hold_to_client] {
        hold(&proxy);
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(b"AMQP\0\0\x09\x01").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut kind = [0];
        let error = client.read(&mut kind).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        proxy.pass();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.read_exact(&mut kind).unwrap();
        assert_eq!(kind, [1]);
    }
}

/// A refusing proxy is as a port on which nothing listens; connections that are there stay.
#[test]
fn a_proxy_refuses() {
    let proxy = Proxy::new(Rabbit::main().amqp());
    let client = greeted(proxy.address());
    proxy.refuse();
    let error = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(proxy.connections(), 1);
    proxy.pass();
    greeted(proxy.address());
    drop(client);
    wait_until("the end is passed on", || proxy.connections() == 0);
}

/// Tests that harm the broker; one at a time.
mod rabbit_faults {
    use super::*;

    /// What was declared and published durably is there after a kill and after a stop; connections are not.
    #[test]
    fn killed_and_stopped_it_comes_back_with_its_data() {
        let faults = Rabbit::faults();
        let vhost = faults.vhost();
        vhost.declare("q", &json!({"x-queue-type": "classic"}));
        for round in [1, 2] {
            assert!(vhost.publish("", "q", &json!({"delivery_mode": 2}), b"kept"));
            let client = greeted(faults.amqp());
            if round == 1 {
                faults.kill();
            } else {
                faults.stop();
            }
            let _ = end_of(client);
            let error = TcpStream::connect(faults.amqp()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            faults.start();
            greeted(faults.amqp());
            assert_eq!(vhost.counts("q").ready, round);
        }
    }

    /// A paused broker takes connections, as its kernel does, and says nothing until it goes on.
    #[test]
    fn paused_it_says_nothing() {
        let faults = Rabbit::faults();
        faults.pause();
        let mut client = TcpStream::connect(faults.amqp()).unwrap();
        client.write_all(b"AMQP\0\0\x09\x01").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut kind = [0];
        assert_eq!(client.read(&mut kind).unwrap_err().kind(), ErrorKind::WouldBlock);
        faults.resume();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.read_exact(&mut kind).unwrap();
    }

    /// A full disk blocks whoever publishes, and tells them.
    #[test]
    fn a_full_disk_blocks_publishers() {
        let faults = Rabbit::faults();
        let vhost = faults.vhost();
        faults.raise_disk_alarm();
        let mut client = Pika::start(
            &faults,
            &vhost.url(),
            "
connection.add_on_connection_blocked_callback(lambda *_: print('blocked', flush=True))
connection.add_on_connection_unblocked_callback(lambda *_: (print('unblocked', flush=True), sys.exit()))
channel.basic_publish('', 'q', b'')
while True: connection.process_data_events(1)
",
        );
        assert_eq!(client.says(), "blocked");
        faults.clear_disk_alarm();
        assert_eq!(client.says(), "unblocked");
    }

    /// A consumer that keeps a delivery too long loses its channel soon after.
    #[test]
    fn a_consumer_that_takes_too_long_loses_its_channel() {
        let faults = Rabbit::faults();
        let vhost = faults.vhost();
        vhost.declare("q", &json!({}));
        vhost.publish("", "q", &json!({}), b"");
        faults.set_consumer_timeout(300);
        let begun = Instant::now();
        let mut client = Pika::start(
            &faults,
            &vhost.url(),
            "
channel.basic_consume('q', lambda *_: None)
try: channel.start_consuming()
except pika.exceptions.ChannelClosedByBroker as error:
    print(error.reply_code)
",
        );
        assert_eq!(client.says(), "406");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    /// Whatever the test before has left, the next finds the broker well.
    #[test]
    fn it_is_healthy_at_the_beginning_of_each_test() {
        let faults = Rabbit::faults();
        let forgotten = faults.vhost();
        let path = format!("vhosts/{}", segment(forgotten.name()));
        std::mem::forget(forgotten);
        faults.raise_disk_alarm();
        faults.set_consumer_timeout(1);
        faults.pause();
        drop(faults);

        let faults = Rabbit::faults();
        assert_eq!(faults.eval("rabbit_alarm:get_alarms()"), "[]");
        assert_eq!(
            faults.eval("application:get_env(rabbit, consumer_timeout)"),
            "{ok, 1800000}"
        );
        assert!(faults.management().find(&path).is_none());
        faults.kill();
        drop(faults);

        greeted(Rabbit::faults().amqp());
    }
}
