//! Servers that do not answer as they should: a message is tried again, and nothing else is harmed.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::fake::{Fake, Peer, done, end, record};
use crate::php::socket;
use crate::support::{Place, wait_for};

fn place(further: &str) -> Place {
    let place = Place::new();
    place.write(
        "qctl.yml",
        format!(
            "connections: {{ here: 'sqlite://./queue.db' }}\nproducers: {{ demo: {{}} }}\nconsumers:\n  demo:\n    \
             retry: {{ attempts: 2, min: 10m, max: 10m }}\n    \
             handler: {{ fastcgi: {{ socket: 'unix:{}', script: /worker.php{further} }} }}\n",
            socket(&place).display()
        ),
    );
    place
}

fn send(place: &Place, lines: &str) {
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn drain(place: &Place) -> String {
    place
        .run(["consumer", "--until-empty", "demo"])
        .any_stderr()
        .check()
        .stderr
}

#[test]
fn garbage_is_a_failed_attempt_with_its_reason() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("closed the connection before it answered", vec![]),
        (
            "no FastCGI server: a record of version 72",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        ),
        ("type 11", record(11, b"")),
        ("an end of 4 bytes", record(3, &[0; 4])),
        ("in the middle of its answer", record(6, b"Status: 200\r\n\r\nhello")),
        ("in the middle of its answer", done("hello")[..30].to_vec()),
        (
            "in the middle of its answer",
            done("hello").split_last().unwrap().1.to_vec(),
        ),
        (
            "no end of its headers",
            [record(6, b"Status: 200\r\n"), end(0, 0)].concat(),
        ),
        ("no headers", [record(6, b"hello\n\n"), end(0, 0)].concat()),
        (
            "no end of its headers within 64 KiB",
            record(6, &vec![b'x'; 60_000]).repeat(2),
        ),
        ("ended with the status 3", [record(6, b"\n"), end(3, 0)].concat()),
        ("overloaded", end(0, 2)),
        ("no second request", end(0, 1)),
    ];
    let place = place(", timeout: 5s");
    let answers: Vec<Vec<u8>> = cases.iter().map(|(_, answer)| answer.clone()).collect();
    let _fake = Fake::start(&place, move |mut peer: Peer| {
        if peer.request() {
            // The first connection was only a look.
            let answer = answers[peer.number - 1].clone();
            peer.send(&answer);
        }
    });
    let lines: Vec<String> = (0..cases.len()).map(|number| number.to_string()).collect();
    send(&place, &lines.join("\n"));
    let log = drain(&place);
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("to be tried again")).collect();
    assert_eq!(failed.len(), cases.len(), "{log}");
    for ((expected, _), line) in cases.iter().zip(failed) {
        assert!(line.contains(expected), "expected {expected}: {line}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// A server that says nothing, and one that never stops: neither costs more than the time-out.
#[test]
fn a_server_that_hangs_costs_the_time_out() {
    let place = place(", timeout: 300ms");
    let _fake = Fake::start(&place, |mut peer: Peer| {
        if peer.request() && peer.number.is_multiple_of(2) {
            peer.send(&record(6, b"Status: 200\r\n\r\n"));
        }
        peer.wait_gone();
    });
    send(&place, "silent\nhalf\n");
    let log = drain(&place);
    assert_eq!(log.matches("timed out after 300ms").count(), 2, "{log}");
}

/// A body that the server does not read, and an answer that comes all the same.
#[test]
fn an_answer_before_the_body_is_read_is_an_answer() {
    let place = place(", timeout: 20s, keep_connections: true");
    let fake = Fake::start(&place, |mut peer: Peer| {
        if peer.number > 0 {
            peer.send(&[record(6, b"Status: 413\r\n\r\n"), end(0, 0)].concat());
            // By then the answer has been read; what is sent on this connection now would be taken for the rest of the body.
            std::thread::sleep(Duration::from_millis(300));
            peer.wait_gone();
        }
    });
    for _ in 0..2 {
        place
            .run(["queuemessage", "demo", "-"])
            .stdin(vec![b'x'; 8 << 20])
            .any_stdout()
            .check();
    }
    let log = drain(&place);
    assert_eq!(log.matches("reason=status 413").count(), 2, "{log}");
    assert_eq!(
        fake.accepted(),
        3,
        "a connection in the middle of a request is not used again"
    );
}

/// What nobody asked for is read to its end and forgotten.
#[test]
fn an_endless_answer_is_not_kept() {
    let place = place("");
    let _fake = Fake::start(&place, |mut peer: Peer| {
        if peer.request() {
            peer.send(&record(6, b"\n"));
            let piece = record(6, &vec![b'x'; 50_000]);
            let complaint = record(7, &vec![b'y'; 50_000]);
            for _ in 0..1000 {
                peer.send(&piece);
                peer.send(&complaint);
            }
            peer.send(&end(0, 0));
            peer.wait_gone();
        }
    });
    send(&place, "a\n");
    let mut consumer = place.start(["consumer", "demo"]);
    consumer.wait_stderr(" done consumer=demo");
    let status = fs::read_to_string(format!("/proc/{}/status", consumer.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 60 << 10, "{kib} KiB for an answer of 100 MB");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0));
}

#[test]
fn connections_are_used_again_only_where_that_is_wanted() {
    for (further, expected) in [(", keep_connections: true", 2), ("", 6)] {
        let place = place(further);
        let fake = Fake::start(&place, |mut peer: Peer| {
            while peer.request() {
                peer.send(&done("x"));
            }
        });
        send(&place, "1\n2\n3\n4\n5\n");
        assert!(drain(&place).contains("5 done, 0 not"));
        assert_eq!(fake.accepted(), expected, "{further}");
    }
}

/// What a server closed after its answer is noticed before the next request goes out; what it closed after it had taken a
/// request is a failed attempt, and not done twice behind anybody's back.
#[test]
fn a_closed_connection_is_replaced_only_while_nothing_was_begun() {
    let place = place(", keep_connections: true");
    let fake = Fake::start(&place, |mut peer: Peer| {
        if peer.request() {
            peer.send(&done("x"));
        }
        // The second connection takes one more and says nothing to it.
        if peer.number == 2 {
            peer.request();
        }
    });
    send(&place, "1\n");
    assert!(drain(&place).contains("1 done, 0 not"));
    // The consumer's second message finds the connection closed: the server is quicker than a second signal to look.
    send(&place, "2\n3\n4\n");
    let mut consumer = place.start(["consumer", "--messages", "3", "demo"]);
    assert_eq!(consumer.wait(), Some(0));
    let log = consumer.stderr();
    let bodies = fake.bodies();
    assert_eq!(bodies, ["1", "2", "3", "4"], "each was begun once\n{log}");
}

/// The connection goes with the call, so that php-fpm can notice.
#[test]
fn a_second_signal_gives_the_message_back() {
    let place = place("");
    let (gone, is_gone) = std::sync::mpsc::channel();
    let fake = Fake::start(&place, move |mut peer: Peer| {
        if peer.request() {
            peer.wait_gone();
            gone.send(()).unwrap();
        }
    });
    send(&place, "a\n");
    let mut consumer = place.start(["consumer", "demo"]);
    wait_for("the request", || fake.bodies().len() == 1);
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("what runs is finished");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(130), "{}", consumer.stderr());
    is_gone.recv_timeout(Duration::from_secs(10)).unwrap();
    let info = place.json(["managequeue", "info", "demo"]);
    assert_eq!(info["ready"], 1, "{info}");
}

#[test]
fn wrong_keys_name_their_place() {
    for (handler, expected) in [
        ("{ script: /w.php }", "`socket` is missing"),
        ("{ socket: 'unix:/s' }", "`script` is missing"),
        (
            "{ socket: /s, script: /w.php }",
            "must be unix:/PATH or tcp://HOST:PORT",
        ),
        ("{ socket: 'unix:/s', script: w.php }", "must be the whole path"),
        (
            "{ socket: 'unix:/s', script: /w.php, params: { SCRIPT_FILENAME: x } }",
            "qctl sets it itself",
        ),
        (
            "{ socket: 'unix:/s', script: /w.php, params: { QCTL_QUEUE: x } }",
            "qctl sets it itself",
        ),
        (
            "{ socket: 'unix:/s', script: /w.php, params: { 'a b': x } }",
            "letters, digits",
        ),
        ("{ socket: 'unix:/s', script: /w.php, sript: x }", "sript"),
    ] {
        let place = Place::with_config(&format!(
            "connections: {{ here: 'sqlite://./queue.db' }}\nconsumers: {{ demo: {{ handler: {{ fastcgi: {handler} }} }} }}\n"
        ));
        let error = place.run(["consumer", "demo"]).code(78).any_stderr().check().stderr;
        assert!(
            error.contains(expected) && error.contains("qctl.yml:2"),
            "{handler}: {error}"
        );
    }
}
