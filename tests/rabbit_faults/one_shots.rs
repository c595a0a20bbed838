//! Short commands that cannot reach the broker: they say what is wrong within `--connect-timeout`, in one line, with the
//! exit code for it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::ground::{Ground, Setup};
use crate::rabbit::{Proxy, Rabbit};
use crate::support::{Place, wait_for};

/// Sends one message over a connection with these keys, in vain.
fn refused(place: &Place, connection: &str, code: i32, words: &[&str]) {
    place.write(
        "qctl.yml",
        format!("connections: {{ rabbit: {{ {connection} }} }}\nproducers: {{ demo: {{ queue: demo }} }}\n"),
    );
    let begun = Instant::now();
    let said = place
        .run(["--connect-timeout", "1", "queuemessage", "demo", "x"])
        .code(code)
        .any_stderr()
        .check()
        .stderr;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{connection}: {took:?}");
    assert_eq!(said.lines().count(), 1, "{connection}: in one line: {said}");
    for words in words {
        assert!(said.contains(words), "{connection}: {words:?} in {said}");
    }
}

#[test]
fn what_is_wrong_is_said_within_the_time() {
    let rabbit = Rabbit::main();
    let vhost = rabbit.vhost();
    let place = Place::new();
    let url = vhost.url();
    let address = rabbit.amqp();
    let at = |other: &str| url.replace(&address.to_string(), other);
    let quoted = |url: &str| format!("url: '{url}'");

    let silent = Proxy::new(address);
    silent.refuse();
    let nowhere = at(&silent.address().to_string());
    refused(
        &place,
        &quoted(&nowhere),
        69,
        &["connection refused", "is the broker running"],
    );

    let silent = Proxy::new(address);
    silent.hold();
    let there = at(&silent.address().to_string());
    refused(
        &place,
        &quoted(&there),
        69,
        &["the broker accepted the connection and did not answer within 1 s"],
    );

    refused(
        &place,
        &quoted(&at("host.invalid:5672")),
        69,
        &["the host `host.invalid` is not known"],
    );

    let wrong = url.replace(vhost.password(), "wrong");
    refused(
        &place,
        &quoted(&wrong),
        77,
        &["refuses this login; check login and password"],
    );

    let (front, _) = url.rsplit_once('/').unwrap();
    refused(
        &place,
        &quoted(&format!("{front}/nowhere")),
        66,
        &["no vhost `nowhere`"],
    );
    let other = rabbit.vhost();
    let others = format!("{front}/{}", other.name());
    refused(&place, &quoted(&others), 77, &["may not use the vhost"]);

    let plain = vhost.tls_url().replace("amqps:", "amqp:");
    refused(&place, &quoted(&plain), 69, &["not one for TLS"]);
    let tls = url.replace("amqp:", "amqps:");
    refused(
        &place,
        &quoted(&tls),
        69,
        &["does not speak TLS", "is this the broker's TLS port"],
    );
    let other_ca = format!(
        "{}, tls: {{ ca_file: '{}' }}",
        quoted(&vhost.tls_url()),
        rabbit.other_ca().display()
    );
    refused(
        &place,
        &other_ca,
        69,
        &["is not signed by anybody who is trusted", "ca_file"],
    );
    let no_file = format!("{}, tls: {{ ca_file: /nowhere.pem }}", quoted(&vhost.tls_url()));
    refused(&place, &no_file, 78, &["/nowhere.pem cannot be read"]);

    let management = rabbit.management_address().to_string();
    refused(
        &place,
        &quoted(&at(&management)),
        69,
        &["did not answer within 1 s; is it the right host and port"],
    );

    // Both are tried within the one second, and both are named.
    let two = format!("{},{}", silent.address(), nowhere_of(&nowhere));
    refused(
        &place,
        &quoted(&at(&two)),
        69,
        &["none of 2 hosts", "did not answer", "connection refused"],
    );
}

fn nowhere_of(url: &str) -> &str {
    url.split_once('@').unwrap().1.split_once('/').unwrap().0
}

/// A connection that is lost under a message is an error that does not claim to know what became of it.
#[test]
fn a_connection_lost_under_a_message_is_no_success() {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let setup = Setup {
        through: Some(proxy.address()),
        ..Setup::default()
    };
    let ground = Ground::new(rabbit.vhost(), &setup);
    let mut child = ground
        .command()
        .args(["queuemessage", "-i", "through", "--lines", "demo"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = child.stdin.take().unwrap();
    lines.write_all(b"first\n").unwrap();
    wait_for("the first to arrive", || {
        ground.vhost.queue("demo").is_some() && ground.vhost.counts("demo").ready == 1
    });
    proxy.hold_to_client();
    lines.write_all(b"second\n").unwrap();
    drop(lines);
    wait_for("the second to arrive", || ground.vhost.counts("demo").ready == 2);
    proxy.cut();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Whether the confirm of the first came through before the wire was held is not seen from here.
    let expected = match output.status.code() {
        Some(3) => "1 message(s) queued, then line 2",
        Some(69) => "0 message(s) queued, then line 1",
        other => panic!("{other:?}: {said}"),
    };
    assert!(said.contains(expected) && said.contains("was not confirmed"), "{said}");
}
