//! Calls to Python's own server of XML-RPC.

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::support::Place;
use crate::{configure, dead, drain, reason, send_json};

const HERE: &str = "xmlrpc: { allow: [127.0.0.1], private: allow }";

fn ground() -> (Place, Peer) {
    let place = crate::place(HERE, "");
    let peer = Peer::new(&place);
    (place, peer)
}

fn server(peer: &Peer) -> String {
    format!("http://127.0.0.1:{}/", peer.rpc)
}

#[test]
fn values_go_there_and_come_back() {
    let (place, peer) = ground();
    let _consumer = place.start(["consumer", "calls"]);
    let call = |method: &str, arguments: &[&str]| -> Value {
        let finished = place
            .run([
                "queuemessage",
                "--wait",
                "--kind",
                "xmlrpc",
                "calls",
                &server(&peer),
                method,
                "--",
            ])
            .args(arguments)
            .any_stdout()
            .check();
        serde_json::from_str(&finished.stdout).unwrap()
    };
    assert_eq!(call("sum", &["1", "2"]), json!(3));
    assert_eq!(call("sum", &[]), json!(0));
    for value in [
        json!(null),
        json!(true),
        json!(-5),
        json!(1.5),
        json!(""),
        json!(" a <b> & \"é\" \n\t 😀 "),
        json!([]),
        json!([1, [2, ["x", null]]]),
        json!({ "a": { "b": [1, {}] }, " k": false }),
    ] {
        assert_eq!(call("echo", &[&value.to_string()]), value);
    }
    // Python does not write it back as it should.
    assert_eq!(call("repr", &["\"a\\r\\nb\""]), json!("'a\\r\\nb'"));
    assert_eq!(call("repr", &["3000000000"]), json!("3000000000"));
    assert_eq!(call("repr", &["[1e300, -0.1]"]), json!("[1e+300, -0.1]"));
}

#[test]
fn faults_are_tried_again_or_not_as_is_said() {
    for (faults, code, expected) in [
        ("", 4, 2),
        ("", -32601, 1),
        ("", -32602, 1),
        ("", -32603, 2),
        (", faults: { reject: [4] }", 4, 1),
        (", faults: { retry: [-32601] }", -32601, 2),
        (", faults: { other: reject }", 7, 1),
        (", faults: { other: reject, retry: [7] }", 7, 2),
    ] {
        let (place, peer) = ground();
        configure(
            &place,
            &format!("xmlrpc: {{ allow: [127.0.0.1], private: allow{faults} }}"),
            "",
        );
        send_json(
            &place,
            &json!({ "server": server(&peer), "method": "fault", "arguments": [code, "too\nbad"] }),
        );
        drain(&place);
        assert_eq!(peer.seen().len(), expected, "{faults} {code}");
        assert_eq!(
            reason(&place),
            format!("127.0.0.1 answered with the fault {code}: too bad")
        );
    }
}

#[test]
fn answers_that_are_none_are_tried_again_and_hurt_nobody() {
    for (path, expected) in [
        ("/laughs", "declares a document type"),
        ("/deep", "40 deep"),
        ("/fine", "not one of XML-RPC"),
        ("/status/500", "answered 500"),
    ] {
        let (place, peer) = ground();
        send_json(&place, &json!({ "server": peer.url(path), "method": "m" }));
        drain(&place);
        assert!(reason(&place).contains(expected), "{}", reason(&place));
        assert_eq!(peer.seen().len(), 2);
    }
    let (place, peer) = ground();
    send_json(&place, &json!({ "server": peer.url("/huge"), "method": "m" }));
    drain(&place);
    assert_eq!(reason(&place), "the answer of 127.0.0.1 is longer than 8 MiB");
}

#[test]
fn what_cannot_or_may_not_be_called_is_not() {
    for (body, expected) in [
        (
            json!({ "server": "SERVER", "method": "echo", "arguments": ["a\u{0}b"] }),
            "which XML cannot carry",
        ),
        (
            json!({ "server": "SERVER", "method": "a\u{1}" }),
            "which XML cannot carry",
        ),
        (
            json!({ "server": "http://evil.example/", "method": "echo" }),
            "nothing in `allow` is evil.example",
        ),
        (
            json!({ "server": "http://u:p@127.0.0.1/", "method": "echo" }),
            "a login before an `@`",
        ),
        (
            json!({ "server": "file:///etc/passwd", "method": "echo" }),
            "must begin with http",
        ),
        (
            json!({ "server": "http://2130706433.evil/", "method": "echo" }),
            "nothing in `allow`",
        ),
        (json!({ "server": "SERVER" }), "no \"method\""),
    ] {
        let (place, peer) = ground();
        let body = body.to_string().replace("SERVER", &server(&peer));
        crate::send(&place, "application/json", &body);
        drain(&place);
        assert!(reason(&place).contains(expected), "{body}: {}", reason(&place));
        assert_eq!(peer.seen().len(), 0);
    }
    // A missing list of arguments is an empty one; a private server needs to be let through.
    let (place, peer) = ground();
    send_json(&place, &json!({ "server": server(&peer), "method": "sum" }));
    drain(&place);
    assert_eq!((peer.seen().len(), dead(&place).len()), (1, 0));
    configure(&place, "xmlrpc: { allow: [127.0.0.1] }", "");
    send_json(&place, &json!({ "server": server(&peer), "method": "sum" }));
    drain(&place);
    assert!(reason(&place).contains("private address"));
}
