//! The wire formats of the Kaliop bundle, byte for byte, both ways.

use serde_json::{Value, json};

use crate::ground::Ground;
use crate::support::Place;

/// Takes everything from the queue `given` as pika sees it.
const TAKE: &str = r"
taken = []
while True:
    method, properties, body = channel.basic_get(given, auto_ack=True)
    if method is None:
        break
    taken.append(dict(vars(properties), body=body.decode(), routing_key=method.routing_key, exchange=method.exchange))
answer(taken)
";

/// Publishes bodies as the bundle does: persistent JSON with neither id nor timestamp.
const PUBLISH: &str = r"
for body in given['bodies']:
    channel.basic_publish(given['exchange'], given['key'], body.encode(),
                          pika.BasicProperties(content_type='application/json', delivery_mode=2))
";

const ALL: &str = "
producers: { all: { exchange: { name: all, type: topic } } }
consumers:
  all: { queue: { name: all, bindings: [{ exchange: all, routing_key: '#' }] }, handler: { exec: { run: [cat] } } }
";

/// What a PHP application reads of what qctl has sent: the body to the byte, the key to route by, and the properties that its
/// client library hands it.
#[test]
fn what_is_queued_is_what_the_bundle_would_have_queued() {
    let ground = Ground::new(ALL);
    ground.declare("all");
    let sent: &[(&[&str], &str, &str)] = &[
        (
            &[
                "queuecommand",
                "--novalidate",
                "all",
                "cache:clear",
                "a b",
                "é",
                "--env=prod",
                "-v",
            ],
            r#"{"command":"cache:clear","arguments":["a b","\u00e9"],"options":{"env":"prod","v":null}}"#,
            "cache.clear",
        ),
        (
            &["queuecommand", "--novalidate", "all", "a:b"],
            r#"{"command":"a:b","arguments":[],"options":[]}"#,
            "a.b",
        ),
        (
            &["queuemessage", "--kind", "http", "all", "http://h/p?x=1"],
            r#"{"url":"http:\/\/h\/p?x=1","options":[]}"#,
            "http...h.p?x=1",
        ),
        (
            &[
                "queuemessage",
                "--kind",
                "http",
                "all",
                "http://h/p",
                "13=5",
                "10018=UA",
                "47=true",
            ],
            r#"{"url":"http:\/\/h\/p","options":{"13":5,"10018":"UA","47":true}}"#,
            "http...h.p",
        ),
        (
            &[
                "queuemessage",
                "--kind",
                "xmlrpc",
                "all",
                "http://h/rpc",
                "sum",
                "1",
                "2",
            ],
            r#"{"server":"http:\/\/h\/rpc","method":"sum","arguments":[1,2]}"#,
            "http...h.rpc.sum",
        ),
        (
            &[
                "queuemessage",
                "--kind",
                "service",
                "all",
                "logger",
                "log",
                "info",
                "hi",
            ],
            r#"{"service":"logger","method":"log","arguments":["info","hi"]}"#,
            "logger.log",
        ),
        (
            &["queuemessage", "-r", "some.key", "all", "as it is"],
            "as it is",
            "some.key",
        ),
    ];
    for (arguments, ..) in sent {
        ground.place.run(*arguments).any_stdout().any_stderr().check();
    }
    let taken = ground.pika(TAKE, &json!("all"));
    let taken = taken.as_array().unwrap();
    assert_eq!(taken.len(), sent.len());
    for ((_, body, key), message) in sent.iter().zip(taken) {
        assert_eq!(message["body"], *body);
        assert_eq!(message["routing_key"], *key);
        assert_eq!(message["exchange"], "all");
        plain(message);
        assert_eq!(message["expiration"], Value::Null);
    }
}

/// Everything else that a plain message says: its id, its time, and no header but the time's milliseconds.
fn plain(message: &Value) {
    assert_eq!(message["content_type"], "application/json");
    assert_eq!(message["delivery_mode"], 2, "it survives a restart of the broker");
    for absent in [
        "content_encoding",
        "priority",
        "correlation_id",
        "reply_to",
        "type",
        "user_id",
        "app_id",
        "cluster_id",
    ] {
        assert_eq!(message[absent], Value::Null, "{absent}");
    }
    assert!(!message["message_id"].as_str().unwrap().is_empty());
    let seconds = message["timestamp"].as_i64().unwrap();
    let Some(headers) = message["headers"].as_object() else {
        return;
    };
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-qctl-timestamp"]);
    assert_eq!(headers["x-qctl-timestamp"].as_i64().unwrap() / 1000, seconds);
}

/// `-t` is what the bundle's is, an `expiration` in milliseconds, beside the absolute time that a retry keeps to.
#[test]
fn options_of_a_message_are_properties_that_others_know() {
    let ground = Ground::new(ALL);
    ground.declare("all");
    let arguments = "queuemessage -t 90 -r k --priority 7 -c text/plain --header tenant=a1 --message-id m-1 all x";
    ground.place.run(arguments.split(' ')).any_stdout().check();
    let taken = ground.pika(TAKE, &json!("all"));
    let message = &taken[0];
    assert_eq!(message["expiration"], "90000");
    assert_eq!(message["priority"], 7);
    assert_eq!(message["content_type"], "text/plain");
    assert_eq!(message["message_id"], "m-1");
    assert_eq!(message["headers"]["tenant"], "a1");
    let timestamp = message["timestamp"].as_i64().unwrap();
    let expires = message["headers"]["x-qctl-expires-at"].as_i64().unwrap();
    assert!((90_000..92_000).contains(&(expires - timestamp * 1000)), "{message}");
}

const COMMANDS: &str = "
producers: { jobs: { exchange: { name: jobs, type: topic } } }
consumers:
  jobs:
    queue: { name: jobs, bindings: [{ exchange: jobs, routing_key: '#' }] }
    handler: command
commands: { shell: { run: ['./run.sh'], allow: ['*'], dash_arguments: separator } }
";

/// The arguments of each run, one a line, an empty line behind each run.
fn recording(place: &Place) {
    place.script("run.sh", r#"{ printf '<%s>\n' "$@"; echo; } >> ran"#);
}

/// What a PHP application has queued, runs with the words that it meant: slashes and characters escaped, empty lists and
/// maps spelt `[]`, keys missing, options short and long.
#[test]
fn what_the_bundle_has_queued_runs_as_it_was_meant() {
    let cases = [
        (
            r#"{"command":"cache:clear","arguments":["a b","\u00e9"],"options":{"env":"prod","v":null}}"#,
            "<cache:clear>\n<-v>\n<--env=prod>\n<a b>\n<é>\n\n",
        ),
        (r#"{"command":"a:b","arguments":[],"options":[]}"#, "<a:b>\n\n"),
        (r#"{"command":"a:b"}"#, "<a:b>\n\n"),
        (
            r#"{"command":"a:b","arguments":["http:\/\/h\/p"]}"#,
            "<a:b>\n<http://h/p>\n\n",
        ),
    ];
    for (body, expected) in cases {
        let ground = Ground::new(COMMANDS);
        recording(&ground.place);
        ground.declare("jobs");
        ground.pika(
            PUBLISH,
            &json!({"exchange": "jobs", "key": "cache.clear", "bodies": [body]}),
        );
        let log = ground.drain("jobs");
        let ran = ground.place.read("ran");
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&ran), sorted(expected), "{body}\n{log}");
        assert!(ran.starts_with(expected.lines().next().unwrap()), "{ran}");
        assert_eq!(ground.vhost.counts("jobs").ready, 0);
    }
}

/// Bodies that are not for the command handler reach a handler's standard input to the byte.
#[test]
fn other_bodies_reach_a_handler_to_the_byte() {
    let ground = Ground::new("consumers: { calls: { queue: calls, handler: { exec: { run: ['./run.sh'] } } } }\n");
    ground.place.script(
        "run.sh",
        "cat >> ran; echo >> ran; echo \"$QCTL_CONTENT_TYPE $QCTL_ROUTING_KEY\" >> ran",
    );
    let bodies = [
        r#"{"url":"http:\/\/h\/p?x=1","options":[]}"#,
        r#"{"server":"http:\/\/h\/rpc","method":"sum","arguments":[1,2]}"#,
        r#"{"service":"logger","method":"log","arguments":["info","h\u00ef"]}"#,
    ];
    ground.declare("calls");
    ground.pika(PUBLISH, &json!({"exchange": "", "key": "calls", "bodies": bodies}));
    ground.drain("calls");
    let expected = bodies.map(|body| format!("{body}\napplication/json calls\n"));
    assert_eq!(ground.place.read("ran"), expected.concat());
}
