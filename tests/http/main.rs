//! The handlers that ask over HTTP, through the program, with Python's own servers on the other side.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../rabbit_it/ground.rs"]
#[allow(dead_code)] // shared with tests/rabbit_it, which uses all of it
mod ground;
#[path = "../rabbit/mod.rs"]
mod rabbit;
#[path = "../it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

mod fence;
mod handler;
mod peer;
mod rabbit_http;
mod webhook;
mod xmlrpc;

use serde_json::Value;
use support::Place;

/// A place with one consumer, `calls`, of this handler, and its producer.
fn place(handler: &str, further: &str) -> Place {
    let place = Place::new();
    configure(&place, handler, further);
    place
}

fn configure(place: &Place, handler: &str, further: &str) {
    place.write(
        "qctl.yml",
        format!(
            "connections: {{ here: 'sqlite://./queue.db' }}\nproducers: {{ calls: {{}} }}\n\
             consumers:\n  calls:\n    handler: {{ {handler} }}\n    retry: {{ attempts: 2, min: 10ms, max: 10ms }}\n{further}"
        ),
    );
}

/// Queues a body with a media type; an empty one is none.
fn send(place: &Place, content_type: &str, body: &str) {
    let mut args = vec!["-q", "queuemessage"];
    if !content_type.is_empty() {
        args.extend(["-c", content_type]);
    }
    place.run(args.into_iter().chain(["calls", body])).any_stdout().check();
}

fn send_json(place: &Place, body: &Value) {
    send(place, "application/json", &body.to_string());
}

/// Handles all there is, what comes back after a failure too, and returns the log.
#[track_caller]
fn drain(place: &Place) -> String {
    let mut log = String::new();
    support::wait_for("the queue to be empty", || {
        let run = place.run(["consumer", "--until-empty", "calls"]).any_stderr().check();
        log.push_str(&run.stderr);
        let info = place.json(["managequeue", "info", "calls"]);
        info["ready"] == 0 && info["delayed"] == 0
    });
    log
}

/// What was given up.
fn dead(place: &Place) -> Vec<Value> {
    let found = place.json(["managequeue", "peek", "--state", "dead", "calls"]);
    found.as_array().cloned().unwrap_or_default()
}

/// Why each of them was, without the number of attempts.
fn reasons(place: &Place) -> Vec<String> {
    let of = |dead: &Value| dead["headers"]["x-qctl-reason"].as_str().unwrap().to_owned();
    let reasons = dead(place).iter().map(of).collect::<Vec<_>>();
    let bare = |reason: &String| reason.split(" (attempt ").next().unwrap_or_default().to_owned();
    reasons.iter().map(bare).collect()
}

/// Why the only message that was given up was.
#[track_caller]
fn reason(place: &Place) -> String {
    let mut reasons = reasons(place);
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons.remove(0)
}
