//! Messages that go to one URL.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::peer::{Peer, header};
use crate::{configure, drain, place, reason, send};

#[test]
fn a_message_arrives_with_what_is_known_of_it() {
    let place = place("noop: {}", "");
    let peer = Peer::new(&place);
    place.write("key", "k-hunter2\n");
    place.write("token", "t-hunter2\n");
    let url = peer.url("/hook?x=1");
    configure(
        &place,
        &format!(
            "webhook: {{ url: '{url}', headers: {{ X-Team: mail }}, header_files: {{ X-Api-Key: key }}, bearer_token_file: token }}"
        ),
        "",
    );
    place
        .run([
            "-q",
            "queuemessage",
            "--message-id",
            "m-1",
            "-c",
            "text/x-mine",
            "-r",
            "calls",
            "calls",
            "the\nbody é",
        ])
        .any_stdout()
        .check();
    let log = drain(&place);
    assert!(log.contains("1 done, 0 not"), "{log}");
    let seen = peer.seen();
    let request = &seen[0];
    assert_eq!(
        (request["method"].as_str(), request["path"].as_str()),
        (Some("POST"), Some("/hook?x=1"))
    );
    // Its bytes, each as a character.
    assert_eq!(request["body"], "the\nbody \u{c3}\u{a9}");
    for (name, value) in [
        ("content-type", "text/x-mine"),
        ("x-qctl-message-id", "m-1"),
        ("x-qctl-queue", "calls"),
        ("x-qctl-routing-key", "calls"),
        ("x-qctl-attempt", "0"),
        ("x-team", "mail"),
        ("x-api-key", "k-hunter2"),
        ("authorization", "Bearer t-hunter2"),
    ] {
        assert_eq!(header(request, name), Some(value), "{name}");
    }
    assert!(header(request, "x-qctl-timestamp").unwrap().parse::<u64>().unwrap() > 1_000_000_000_000);
    assert!(!log.contains("hunter2"), "{log}");
    let shown = place.json(["config", "show"]).to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn an_attempt_tells_its_number_and_secrets_do_not_follow_a_redirect() {
    let place = place("noop: {}", "");
    let peer = Peer::new(&place);
    let hook = |path: &str, further: &str| {
        format!(
            "webhook: {{ url: '{}', username: u, password: hunter2{further} }}",
            peer.url(path)
        )
    };
    configure(&place, &hook("/status/503", ""), "");
    send(&place, "application/json", "1");
    drain(&place);
    let attempts: Vec<_> = peer
        .seen()
        .iter()
        .map(|request| header(request, "x-qctl-attempt").unwrap().to_owned())
        .collect();
    assert_eq!(attempts, ["0", "1"]);
    assert_eq!(reason(&place), "127.0.0.1 answered 503 Service Unavailable");
    // The same host, another port: it may be asked, and learns nothing.
    let other_place = crate::place("noop: {}", "");
    let other = Peer::new(&other_place);
    let target = other.url("/there").replace('/', "%2F");
    configure(&place, &hook(&format!("/to/307/{target}"), ", redirects: 1"), "");
    send(&place, "application/json", "2");
    drain(&place);
    let seen = other.seen();
    assert_eq!(
        (seen.len(), seen[0]["method"].as_str(), seen[0]["body"].as_str()),
        (1, Some("POST"), Some("2"))
    );
    assert_eq!(
        (header(&seen[0], "authorization"), header(&seen[0], "x-qctl-queue")),
        (None, None)
    );
    assert_eq!(header(&seen[0], "content-type"), Some("application/json"));
}

/// The lines of Python that the documentation gives, on a request that arrived.
#[test]
fn a_signature_is_verified_as_documented() {
    let place = place("noop: {}", "");
    let peer = Peer::new(&place);
    place.write("secret", "hunter2\n");
    let url = peer.url("/hook");
    configure(
        &place,
        &format!("webhook: {{ url: '{url}', sign: {{ secret_file: secret }} }}"),
        "",
    );
    send(&place, "application/json", "{\"a\": \"b\"}");
    drain(&place);
    let request = peer.seen().remove(0);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md")).unwrap();
    let code = page.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    let given = json!({ "header": header(&request, "x-qctl-signature"), "body": request["body"] });
    let script = format!(
        "import json, sys\n{code}\ngiven = json.load(sys.stdin)\nheader, body = given['header'], given['body'].encode('latin-1')\n\
         print(verify(b'hunter2', header, body), verify(b'hunter3', header, body), verify(b'hunter2', header, body + b' '),\n\
         verify(b'hunter2', header, body, -1), verify(b'hunter2', 't=1,v1=0', body), verify(b'hunter2', 'nonsense', body))"
    );
    let mut python = Command::new("python3")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(given.to_string().as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "True False False False False False"
    );
}

#[test]
fn a_secret_that_is_gone_is_the_worker_s_fault() {
    let place = place("webhook: { url: 'http://127.0.0.1:9/', bearer_token_file: gone }", "");
    send(&place, "application/json", "1");
    place
        .run(["consumer", "--until-empty", "calls"])
        .code(72)
        .stderr_contains("gone cannot be read")
        .check();
}
