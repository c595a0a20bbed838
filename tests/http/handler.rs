//! What becomes of a message that asks a server.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::peer::{Peer, header};
use crate::support::{Place, wait_for};
use crate::{configure, dead, drain, reason, reasons, send_json};

const HERE: &str = "http: { allow: [127.0.0.1], private: allow }";

fn ground(handler: &str, further: &str) -> (Place, Peer) {
    let place = crate::place(handler, further);
    let peer = Peer::new(&place);
    (place, peer)
}

#[test]
fn a_request_is_what_its_options_say() {
    let (place, peer) = ground(HERE, "");
    place
        .run([
            "-q",
            "queuemessage",
            "--header",
            "traceparent=00-abc-def-01",
            "--kind",
            "http",
            "calls",
        ])
        .args([&peer.url("/a?b=c")])
        .any_stdout()
        .check();
    place
        .run([
            "-q",
            "queuemessage",
            "--kind",
            "http",
            "calls",
            &peer.url("/b"),
            "method=put",
            "json={\"x\":{}}",
        ])
        .args([
            "13=5",
            "10018=me",
            "10023=[\"X-A: 1\",\"X-B: 2\"]",
            "username=u",
            "password=p",
        ])
        .any_stdout()
        .check();
    assert!(drain(&place).contains("2 done, 0 not"));
    let seen = peer.seen();
    let find = |path: &str| seen.iter().find(|request| request["path"] == path).unwrap();
    let get = find("/a?b=c");
    assert_eq!((get["method"].as_str(), get["body"].as_str()), (Some("GET"), Some("")));
    assert_eq!(
        header(get, "user-agent"),
        Some(concat!("qctl/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(header(get, "traceparent"), Some("00-abc-def-01"));
    let put = find("/b");
    assert_eq!(
        (put["method"].as_str(), put["body"].as_str()),
        (Some("PUT"), Some("{\"x\":{}}"))
    );
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", "me"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("authorization", "Basic dTpw"),
    ] {
        assert_eq!(header(put, name), Some(value), "{name}");
    }
}

#[test]
fn who_waits_has_the_answer() {
    let (place, peer) = ground(HERE, "");
    let _consumer = place.start(["consumer", "calls"]);
    let ask = |path: &str| {
        place
            .run(["queuemessage", "--wait", "--kind", "http", "calls"])
            .args([peer.url(path)])
    };
    ask("/x").stdout("fine").check();
    ask("/status/404")
        .code(125)
        .stdout("because of me")
        .stderr_contains("answered 404")
        .check();
    // What is longer than is kept is cut, and read no further than a little past that.
    let started = Instant::now();
    let finished = ask("/huge").any_stdout().stderr_contains("1 MiB").check();
    assert_eq!(finished.stdout_bytes.len(), 1 << 20);
    wait_for("the connection to be cut", || {
        peer.seen().iter().any(|line| line["cut_after"].is_u64())
    });
    assert!(started.elapsed() < Duration::from_secs(20));
    let cut = peer.seen().iter().find_map(|line| line["cut_after"].as_u64()).unwrap();
    assert!(cut < 64 << 20, "{cut}");
}

#[test]
fn a_failure_is_tried_again_and_then_kept_with_its_reason() {
    let (place, peer) = ground(HERE, "");
    send_json(&place, &json!({ "url": peer.url("/status/500?token=hunter2") }));
    let log = drain(&place);
    assert_eq!(peer.seen().len(), 2);
    assert_eq!(reason(&place), "127.0.0.1 answered 500 Internal Server Error");
    assert_eq!(dead(&place)[0]["headers"]["x-qctl-stderr"], "because of me");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn what_never_helps_is_rejected_at_once() {
    let (place, peer) = ground(HERE, "");
    send_json(&place, &json!({ "url": peer.url("/status/404") }));
    drain(&place);
    assert_eq!(
        (peer.seen().len(), reason(&place).as_str()),
        (1, "127.0.0.1 answered 404 Not Found")
    );
}

#[test]
fn retry_after_is_waited_for() {
    let (place, peer) = ground(HERE, "");
    send_json(&place, &json!({ "url": peer.url("/busy/2") }));
    let mut consumer = place.start(["consumer", "-m", "2", "calls"]);
    consumer.wait();
    let seen = peer.seen();
    let at = |index: usize| seen[index]["at"].as_f64().unwrap();
    // The consumer's own wait would be 10 ms.
    assert!(at(1) - at(0) > 1.8, "{} {}", at(0), at(1));
    assert_eq!(dead(&place).len(), 0);
}

#[test]
fn a_server_that_hangs_is_given_up_as_exit_codes_say() {
    for (codes, expected) in [("", 2), ("    exit_codes: { timeout: reject }\n", 1)] {
        let (place, peer) = ground("http: { allow: [127.0.0.1], private: allow, timeout: 200ms }", codes);
        send_json(&place, &json!({ "url": peer.url("/hang") }));
        drain(&place);
        assert_eq!(reason(&place), "timed out after 200ms");
        assert_eq!(peer.seen().len(), expected, "{codes}");
    }
    let (place, peer) = ground(HERE, "    exit_codes: { timeout: reject }\n");
    send_json(&place, &json!({ "url": peer.url("/hang"), "options": { "155": 200 } }));
    drain(&place);
    assert_eq!(reason(&place), "timed out after 200ms");
}

#[test]
fn trouble_on_the_way_is_worth_another_try() {
    let (place, peer) = ground(HERE, "");
    send_json(&place, &json!({ "url": peer.url("/half") }));
    drain(&place);
    assert!(reason(&place).starts_with("127.0.0.1: "), "{}", reason(&place));
    assert_eq!(peer.seen().len(), 2);
    // Nobody listens there any more.
    let (place, peer) = ground("http: { allow: [127.0.0.1, 'nobody.invalid'], private: allow }", "");
    let url = peer.url("/");
    drop(peer);
    send_json(&place, &json!({ "url": url }));
    let log = drain(&place);
    assert!(log.contains("failed, to be tried again"), "{log}");
    assert!(reason(&place).contains("Connection refused"), "{}", reason(&place));
}

#[test]
fn certificates_are_verified() {
    let place = crate::place(HERE, "");
    let peer = Peer::with_tls(&place);
    let port = peer.tls.unwrap();
    let ask = |handler: &str| {
        configure(&place, handler, "");
        send_json(
            &place,
            &json!({ "url": format!("https://127.0.0.1:{port}/x"), "options": { "64": true, "81": 2 } }),
        );
        drain(&place);
    };
    // Nobody knows it.
    ask(HERE);
    assert!(reason(&place).contains("certificate"), "{}", reason(&place));
    assert_eq!(peer.seen().len(), 0);
    ask("http: { allow: [127.0.0.1], private: allow, ca_file: server.pem }");
    assert_eq!((peer.seen().len(), dead(&place).len()), (1, 1));
    // It is for another name.
    configure(
        &place,
        "http: { allow: [localhost], private: allow, ca_file: server.pem }",
        "",
    );
    send_json(&place, &json!({ "url": format!("https://localhost:{port}/x") }));
    drain(&place);
    assert_eq!((peer.seen().len(), dead(&place).len()), (1, 2));
}

#[test]
fn no_proxy_of_the_environment_is_used() {
    let (place, peer) = ground(HERE, "");
    let proxy_place = crate::place(HERE, "");
    let proxy = Peer::new(&proxy_place);
    send_json(&place, &json!({ "url": peer.url("/x") }));
    let mut run = place.run(["consumer", "--until-empty", "calls"]).any_stderr();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
        run = run.env(name, proxy.url(""));
    }
    run.check();
    assert_eq!((peer.seen().len(), proxy.seen().len()), (1, 0));
}

#[test]
fn a_second_signal_ends_a_request_at_once() {
    let (place, peer) = ground(HERE, "");
    send_json(&place, &json!({ "url": peer.url("/hang") }));
    let mut consumer = place.start(["consumer", "calls"]);
    wait_for("the request", || !peer.seen().is_empty());
    consumer.signal(Signal::INT);
    consumer.wait_stderr("stopping");
    let started = Instant::now();
    consumer.signal(Signal::INT);
    assert_eq!(consumer.wait(), Some(130), "{}", consumer.stderr());
    assert!(started.elapsed() < Duration::from_secs(5));
    let info = place.json(["managequeue", "info", "calls"]);
    assert_eq!((info["ready"].as_u64(), info["dead"].as_u64()), (Some(1), Some(0)));
}

/// Each request is answered only when all 64 are there.
#[test]
fn as_many_are_asked_at_once_as_concurrency_says() {
    let (place, peer) = ground(HERE, "    concurrency: 64\n");
    let lines: String = (0..64)
        .map(|_| json!({ "url": peer.url("/together/64") }).to_string() + "\n")
        .collect();
    place
        .run(["-q", "queuemessage", "-c", "application/json", "--lines", "calls"])
        .stdin(lines)
        .any_stdout()
        .check();
    assert!(drain(&place).contains("64 done, 0 not"));
    // And no more than that, though what is quick is taken ahead.
    configure(&place, HERE, "    concurrency: 1\n");
    let lines: String = (0..50)
        .map(|_| json!({ "url": peer.url("/alone") }).to_string() + "\n")
        .collect();
    place
        .run(["-q", "queuemessage", "-c", "application/json", "--lines", "calls"])
        .stdin(lines)
        .any_stdout()
        .check();
    drain(&place);
    assert_eq!(reasons(&place), Vec::<String>::new());
}

#[test]
fn a_configuration_that_cannot_be_meant_is_told() {
    for (handler, expected) in [
        ("http: {}", "allow"),
        ("http: { allow: ['http://h/'] }", "allow[0]: must be the name of a host"),
        ("http: { allow: ['*.example.org'] }", "has a `*`"),
        ("http: { allow: ['regexp:('] }", "not a regular expression"),
        (
            "http: { allow: [h], private: maybe }",
            "must be `refuse`, `allow`, or a list",
        ),
        ("http: { allow: [h], private: [10.0.0.0/99] }", "must be a range"),
        ("http: { allow: [h], redirects: 99 }", "redirects"),
        ("http: { alow: [h] }", "did you mean `allow`"),
        ("webhook: {}", "url"),
        ("webhook: { url: 'ftp://h/' }", "must begin with http"),
        ("webhook: { url: 'http://me:hunter2@h/' }", "a login before an `@`"),
        (
            "webhook: { url: 'http://h/', headers: { Host: x } }",
            "the client's own",
        ),
        (
            "webhook: { url: 'http://h/', bearer_token: a, username: b }",
            "another login",
        ),
        ("webhook: { url: 'http://h/', sign: {} }", "secret"),
        (
            "xmlrpc: { allow: [h], faults: { reject: [1], retry: [1] } }",
            "another meaning already",
        ),
        (
            "xmlrpc: { allow: [h], faults: { other: ack } }",
            "must be retry or reject",
        ),
    ] {
        let error = crate::place(handler, "")
            .run(["config", "check"])
            .code(78)
            .stderr_contains(expected)
            .check();
        assert!(!error.stderr.contains("hunter2"), "{}", error.stderr);
    }
    // A file that is not there is told before the first message.
    crate::place("http: { allow: [h], ca_file: none.pem }", "")
        .run(["consumer", "--until-empty", "calls"])
        .code(72)
        .stderr_contains("none.pem")
        .check();
}

#[test]
fn the_predecessor_s_list_becomes_the_fence() {
    let place = Place::new();
    let peer = Peer::new(&place);
    let application = |urls: &str| {
        format!(
            "parameters:\n{urls}    x: y\nold_sound_rabbit_mq:\n    connections: {{ default: {{ host: nowhere }} }}\n    consumers:\n        \
             calls:\n            queue_options: {{ name: calls }}\n            callback: kaliop_queueing.message_consumer.http_request\n"
        )
    };
    let list = "    kaliop_queueing.default.allowed_urls: [127.0.0.1, 'http://never', 'regexp:/^http:\\/\\/[a-z]+\\.example\\//']\n";
    place.write("app.yml", application(list));
    place.write(
        "qctl.yml",
        "include: [app.yml]\nconnections: { default: 'sqlite://./queue.db' }\nproducers: { calls: {} }\n",
    );
    let shown = place.json(["config", "show"]);
    let allow = &shown["consumers"]["calls"]["handler"]["http"]["allow"];
    assert_eq!(
        *allow,
        json!(["127.0.0.1", "regexp:http:\\/\\/[a-z]+\\.example\\/.*"]),
        "{shown}"
    );
    // The list lets it through, and the address is one that it took no heed of.
    send_json(&place, &json!({ "url": peer.url("/x") }));
    drain(&place);
    assert!(reason(&place).contains("private address"));
    // Without the list nothing is asked, and a warning says so.
    place.write("app.yml", application(""));
    send_json(&place, &json!({ "url": peer.url("/y") }));
    let log = drain(&place);
    assert!(log.contains("no server may be asked (calls)"), "{log}");
    assert_eq!(peer.seen(), Vec::<Value>::new());
    let reasons = reasons(&place);
    assert!(
        reasons.iter().any(|reason| reason.contains("nothing in `allow`")),
        "{reasons:?}"
    );
}
