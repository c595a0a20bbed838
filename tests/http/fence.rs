//! Nothing that a message says leads past the fence: each way by which a predecessor's list was got round.

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::{configure, dead, drain, place, reason, reasons, send, send_json};

/// One message, one reason, and nobody was asked.
#[track_caller]
fn refused(handler: &str, content_type: &str, body: &str, expected: &str) {
    let place = place(handler, "");
    let peer = Peer::new(&place);
    let port = peer.port.to_string();
    configure(&place, &handler.replace("PORT", &port), "");
    send(&place, content_type, &body.replace("PORT", &port));
    let log = drain(&place);
    let reason = reason(&place);
    assert!(reason.contains(expected), "{body}: {reason}");
    assert_eq!(peer.seen(), Vec::<Value>::new(), "{body}");
    assert!(!log.contains("hunter2") && !reason.contains("hunter2"), "{log}{reason}");
}

#[track_caller]
fn refused_json(handler: &str, body: &Value, expected: &str) {
    refused(handler, "application/json", &body.to_string(), expected);
}

const GOOD: &str = "http: { allow: [good.example], private: allow }";
const HERE: &str = "http: { allow: [127.0.0.1, localhost], private: allow }";
const PUBLIC: &str = "http: { allow: [127.0.0.1, localhost, 'regexp:.*'] }";

#[test]
fn options_that_are_missing_or_empty_open_nothing() {
    for options in [
        "",
        r#","options":[]"#,
        r#","options":{}"#,
        r#","options":null"#,
        r#","options":{"13":5}"#,
    ] {
        let body = format!(r#"{{"url":"http://127.0.0.1:PORT/x"{options}}}"#);
        refused(GOOD, "application/json", &body, "nothing in `allow` is 127.0.0.1");
    }
    refused(
        "http: { allow: [], private: allow }",
        "application/json",
        r#"{"url":"http://127.0.0.1:PORT/"}"#,
        "nothing in `allow`",
    );
}

#[test]
fn no_option_changes_where_a_request_goes() {
    for (option, name) in [
        ("10002", "CURLOPT_URL (10002)"),
        ("10004", "CURLOPT_PROXY (10004)"),
        ("181", "CURLOPT_PROTOCOLS (181)"),
        ("10231", "CURLOPT_UNIX_SOCKET_PATH (10231)"),
        ("10203", "CURLOPT_RESOLVE (10203)"),
        ("10243", "CURLOPT_CONNECT_TO (10243)"),
        ("10062", "CURLOPT_INTERFACE (10062)"),
        ("10009", "CURLOPT_READDATA (10009)"),
        ("10001", "CURLOPT_WRITEDATA (10001)"),
    ] {
        let body = json!({ "url": "http://127.0.0.1:PORT/x", "options": { option: "http://127.0.0.1:PORT/x" } });
        refused_json(HERE, &body, &format!("the option {name} is refused"));
    }
    let body = json!({ "url": "http://127.0.0.1:PORT/x", "options": { "headers": { "Host": "evil" } } });
    refused_json(HERE, &body, "host is the client's own");
}

#[test]
fn only_http_is_spoken() {
    for url in [
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/_x",
        "ftp://127.0.0.1:PORT/x",
        "dict://127.0.0.1:PORT/",
    ] {
        refused_json(
            "http: { allow: ['regexp:.*'], private: allow }",
            &json!({ "url": url }),
            "must begin with http",
        );
    }
}

#[test]
fn no_spelling_of_a_host_is_another() {
    for (url, expected) in [
        ("http://good.example@127.0.0.1:PORT/", "a login before an `@`"),
        ("http://good.example:hunter2@127.0.0.1:PORT/", "a login before an `@`"),
        (
            "http://127.0.0.1:PORT\\@good.example/",
            "nothing in `allow` is 127.0.0.1",
        ),
        (
            "http://127.0.0.1:PORT#@good.example/",
            "nothing in `allow` is 127.0.0.1",
        ),
        (
            "http://2130706433:PORT/?good.example",
            "nothing in `allow` is 127.0.0.1",
        ),
        ("http://good.example\t@127.0.0.1:PORT/", "control characters"),
        (" http://good.example/", "spaces"),
    ] {
        refused_json(GOOD, &json!({ "url": url }), expected);
    }
}

#[test]
fn private_addresses_are_refused_however_they_are_written_or_named() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "0",
    ] {
        let url = format!("http://{host}:PORT/x?token=hunter2");
        refused_json(PUBLIC, &json!({ "url": url }), "private address");
    }
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://10.0.0.1/",
    ] {
        refused_json(PUBLIC, &json!({ "url": url }), "private address");
    }
    let ranges = "http: { allow: ['regexp:.*'], private: [10.0.0.0/8] }";
    refused_json(ranges, &json!({ "url": "http://localhost:PORT/" }), "private address");
}

#[test]
fn ranges_that_are_named_are_let_through() {
    let place = place(HERE, "");
    let peer = Peer::new(&place);
    configure(
        &place,
        "http: { allow: [localhost, 127.0.0.1], private: [127.0.0.0/8, '::1'] }",
        "",
    );
    send_json(&place, &json!({ "url": peer.url("/literal") }));
    send_json(
        &place,
        &json!({ "url": format!("http://localhost:{}/named", peer.port) }),
    );
    drain(&place);
    assert_eq!((peer.seen().len(), dead(&place).len()), (2, 0));
}

#[test]
fn bodies_in_php_s_own_form_are_not_read() {
    let serialised = r#"O:8:"stdClass":1:{s:3:"url";s:22:"http://127.0.0.1:PORT/";}"#;
    for content_type in [
        "vnd.php.serialized",
        "application/x-httpd-php-source",
        "text/plain",
        "application/octet-stream",
    ] {
        refused(
            HERE,
            content_type,
            serialised,
            "is not among those taken (application/json)",
        );
        refused(
            HERE,
            content_type,
            r#"{"url":"http://127.0.0.1:PORT/"}"#,
            "is not among those taken",
        );
    }
    refused(HERE, "application/json", serialised, "the body is not JSON");
    refused(HERE, "", serialised, "the body is not JSON");
    refused(
        HERE,
        "",
        "array('url' => 'http://127.0.0.1:PORT/')",
        "the body is not JSON",
    );
}

#[test]
fn redirects_pass_the_fence_or_are_not_followed() {
    for (redirects, target, expected) in [
        (
            0,
            "http://127.0.0.1:PORT/inside",
            "answered 302 Found, a redirect that is not followed",
        ),
        (3, "http://evil.example/", "nothing in `allow` is evil.example"),
        (3, "http://169.254.169.254/latest/", "private address 169.254.169.254"),
        (3, "http://x:hunter2@127.0.0.1:PORT/inside", "a login before an `@`"),
        (3, "file:///etc/passwd", "must begin with http"),
    ] {
        let place = place(HERE, "");
        let peer = Peer::new(&place);
        // This one address may be connected to, no other private one.
        let handler =
            format!("http: {{ allow: [127.0.0.1, 169.254.169.254], private: [127.0.0.1], redirects: {redirects} }}");
        configure(&place, &handler, "");
        let target = target.replace("PORT", &peer.port.to_string()).replace('/', "%2F");
        send_json(&place, &json!({ "url": peer.url(&format!("/to/302/{target}")) }));
        drain(&place);
        let reason = reason(&place);
        assert!(reason.contains(expected), "{target}: {reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
        assert!(
            !peer.seen().iter().any(|request| request["path"] == "/inside"),
            "{target}"
        );
    }
}

#[test]
fn a_message_can_only_lower_the_limits() {
    let place = place(HERE, "");
    let peer = Peer::new(&place);
    configure(
        &place,
        "http: { allow: [127.0.0.1], private: allow, redirects: 1, timeout: 300ms }",
        "",
    );
    let twice = peer.url(&format!(
        "/to/302/{}",
        peer.url("/to/302/%2Ffine").replace('/', "%2F").replace('%', "%25")
    ));
    for options in [json!({ "52": true, "68": 50 }), json!({ "max_redirects": -1 })] {
        send_json(&place, &json!({ "url": twice, "options": options }));
    }
    send_json(
        &place,
        &json!({ "url": peer.url("/to/302/%2Ffine"), "options": { "52": false } }),
    );
    send_json(&place, &json!({ "url": peer.url("/hang"), "options": { "13": 600 } }));
    drain(&place);
    let reasons = reasons(&place);
    assert_eq!(
        reasons.iter().filter(|reason| reason.contains("302 Found")).count(),
        3,
        "{reasons:?}"
    );
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| *reason == "timed out after 300ms")
            .count(),
        1,
        "{reasons:?}"
    );
    assert!(!peer.seen().iter().any(|request| request["path"] == "/fine"));
    // One redirect is followed.
    send_json(&place, &json!({ "url": peer.url("/to/302/%2Ffine") }));
    drain(&place);
    assert!(peer.seen().iter().any(|request| request["path"] == "/fine"));
}
