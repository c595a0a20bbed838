//! `qctl queuemessage`.

use std::io::Write;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, Test, wait_for};

const CONFIG: &str = "
connections: { here: 'sqlite://./queue.db' }
producers: { demo: { queue: demo }, calls: { exchange: { name: calls, type: topic } } }
consumers:
  demo: { queue: demo, handler: { exec: { run: [cat] } } }
  calls: { queue: { name: calls, bindings: [{ exchange: calls, routing_key: '#' }] }, handler: { exec: { run: [cat] } } }
";

fn ready(place: &Place, queue: &str) -> u64 {
    place.json(["managequeue", "info", queue])["ready"].as_u64().unwrap()
}

/// A place whose queue is there already: what sends in the background may be slower than the first look.
fn declared() -> Place {
    let place = Place::with_config(CONFIG);
    place
        .run(["managequeue", "declare", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    place
}

fn bodies(place: &Place, queue: &str) -> Vec<String> {
    place
        .json(["managequeue", "peek", "--limit", "100", queue])
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_body_is_sent_as_it_is() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuemessage", "-t", "5m", "demo", "{\"a\": 1}"])
        .stdout_contains("1 message(s) queued, will be valid for 300 seconds\nid: ")
        .check();
    assert_eq!(bodies(&place, "demo"), ["{\"a\": 1}"]);
    let message = &place.json(["managequeue", "peek", "demo"])[0];
    assert_eq!(message["content_type"], "application/json");
}

#[test]
fn copies_and_batches_are_counted() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuemessage", "-m", "3", "demo", "x"])
        .stdout("3 message(s) queued\n")
        .check();
    place
        .run(["queuemessage", "-b", "--messages", "2500", "demo", "x"])
        .stdout("2500 message(s) queued\n")
        .check();
    assert_eq!(ready(&place, "demo"), 2503);
    for batch in [&[][..], &["-b"]] {
        let report = place.json(["queuemessage", "-m", "2", "demo", "x"].iter().chain(batch));
        let ids = report["ids"].as_array().unwrap();
        assert_eq!((ids.len(), &report["ids_truncated"]), (2, &false.into()));
        // They are the messages' own.
        let last = place.json(["managequeue", "peek", "--id", ids[1].as_str().unwrap(), "demo"]);
        assert_eq!(last[0]["id"], ids[1]);
    }
    let report = place.json(["queuemessage", "-b", "-m", "2500", "demo", "x"]);
    assert_eq!(report["ids"].as_array().unwrap().len(), 1000);
    assert_eq!(
        (&report["queued"], &report["ids_truncated"]),
        (&2500.into(), &true.into())
    );
}

#[test]
fn bodies_come_from_standard_input_and_files() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuemessage", "demo", "-"])
        .stdin("from a pipe\n")
        .any_stdout()
        .check();
    place
        .run(["queuemessage", "demo"])
        .stdin("unasked")
        .any_stdout()
        .check();
    place.write("body.bin", [0, 255, 10]);
    place
        .run([
            "queuemessage",
            "-c",
            "application/octet-stream",
            "--file",
            "body.bin",
            "demo",
        ])
        .any_stdout()
        .check();
    let found = place.json(["managequeue", "peek", "demo"]);
    assert_eq!(found[0]["body"], "from a pipe\n");
    assert_eq!(found[1]["body"], "unasked");
    assert_eq!(
        (found[2]["body"].as_str(), found[2]["encoding"].as_str()),
        (Some("AP8K"), Some("base64"))
    );
}

#[test]
fn each_line_is_a_message() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin("a\nb\n")
        .stdout("2 message(s) queued\n")
        .check();
    place
        .run(["queuemessage", "--lines", "demo", "-"])
        .stdin("\r\n\nlast")
        .stdout("3 message(s) queued\n")
        .check();
    assert_eq!(bodies(&place, "demo"), ["a", "b", "\r", "", "last"]);
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin("")
        .stdout("0 message(s) queued\n")
        .check();
    place
        .run(["queuemessage", "--lines", "--skip-empty", "demo"])
        .stdin("\n\nx\n")
        .stdout("1 message(s) queued\n")
        .check();
}

#[test]
fn many_lines_arrive_complete_and_in_order() {
    let place = Place::with_config(CONFIG);
    let text = (1..=20_000).fold(String::new(), |text, number| text + &number.to_string() + "\n");
    place.write("lines.txt", &text);
    let report = place.json(["queuemessage", "--lines", "--file", "lines.txt", "demo"]);
    assert_eq!(report["queued"], 20_000);
    assert_eq!(report["complete"], true);
    assert_eq!(ready(&place, "demo"), 20_000);
    let expected: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    assert_eq!(bodies(&place, "demo"), expected);
}

#[test]
fn sending_resumes_at_the_line_named() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuemessage", "--lines", "--from-line", "3", "demo"])
        .stdin("a\nb\nc\nd\n")
        .stdout("2 message(s) queued\n")
        .check();
    assert_eq!(bodies(&place, "demo"), ["c", "d"]);
    place
        .run(["queuemessage", "--lines", "--from-line", "9", "demo"])
        .stdin("a\n")
        .code(65)
        .stderr("qctl: --from-line 9 is beyond the end of the input, which has 1 line; nothing was queued, name one of its lines\n")
        .check();
    // All of it was taken already: nothing is left to do.
    place
        .run(["queuemessage", "--lines", "--from-line", "2", "demo"])
        .stdin("a")
        .stdout("0 message(s) queued\n")
        .check();
}

#[test]
fn a_line_over_the_limit_stops_and_says_where_to_resume() {
    let place = Place::with_config(CONFIG);
    let mut input = b"first\nsecond\n".to_vec();
    input.extend(vec![b'x'; (16 << 20) + 1]);
    input.extend(b"\nthird\n");
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin(input)
        .code(3)
        .stderr_contains("2 message(s) queued, then line 3: ")
        .stderr_contains("max_body of 16.0 MiB")
        .stderr_contains("--from-line 3")
        .check();
    assert_eq!(bodies(&place, "demo"), ["first", "second"]);
}

/// A hundred megabytes are refused by their size, not by the machine's memory.
#[test]
fn a_huge_body_is_refused_and_not_read() {
    let place = Place::with_config(CONFIG);
    let path = place.path("huge");
    std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    place
        .run(["queuemessage", "--file", "huge", "demo"])
        .code(65)
        .stderr_contains("bigger than the connection's max_body of 16.0 MiB")
        .check();
    place
        .run(["queuemessage", "--lines", "--file", "huge", "demo"])
        .code(65)
        .stderr_contains("line 1")
        .check();
    assert_eq!(ready(&place, "demo"), 0);
}

#[test]
fn an_interrupt_tells_how_many_were_taken() {
    let place = declared();
    let mut child = place
        .command()
        .args(["queuemessage", "--lines", "demo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\nb\nc\n").unwrap();
    // Lines are sent on as they come, without waiting for a window to fill.
    wait_for("three messages", || ready(&place, "demo") == 3);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("3 message(s) queued") && error.contains("--from-line 4"),
        "{error}"
    );
}

#[test]
fn bodies_are_built_by_kind() {
    let place = Place::with_config(CONFIG);
    for (words, body, key) in [
        (
            &["http", "calls", "http://h/p?x=1"][..],
            r#"{"url":"http:\/\/h\/p?x=1","options":[]}"#,
            "http...h.p?x=1",
        ),
        (
            &["http", "calls", "http://h/p", "13=5", "10018=UA", "47=true"],
            r#"{"url":"http:\/\/h\/p","options":{"13":5,"10018":"UA","47":true}}"#,
            "http...h.p",
        ),
        (
            &["xmlrpc", "calls", "http://h/rpc", "sum", "1", "2"],
            r#"{"server":"http:\/\/h\/rpc","method":"sum","arguments":[1,2]}"#,
            "http...h.rpc.sum",
        ),
        (
            &["service", "calls", "logger", "log", "info", "hi"],
            r#"{"service":"logger","method":"log","arguments":["info","hi"]}"#,
            "logger.log",
        ),
        (
            &["command", "calls", "a:b"],
            r#"{"command":"a:b","arguments":[],"options":[]}"#,
            "a.b",
        ),
    ] {
        let document = place.json(["queuemessage", "--dry-run", "--kind"].iter().chain(words));
        assert_eq!(document["body"], body, "{words:?}");
        assert_eq!(document["routing_key"], key, "{words:?}");
    }
    place
        .run(["queuemessage", "--kind", "xmlrpc", "calls", "http://h"])
        .code(2)
        .stderr_contains("SERVER METHOD")
        .check();
    place
        .run(["queuemessage", "--kind", "http", "calls", "http://h", "timeuot=5"])
        .code(2)
        .stderr_contains("an http call has no such option")
        .check();
}

/// As behind `queuecommand PRODUCER COMMAND`.
#[test]
fn all_behind_a_command_word_belongs_to_it() {
    let place = Place::with_config(CONFIG);
    for words in [
        &["calls", "a:b", "--name=v", "-n=w", "--flag", "x", "--", "--y"][..],
        &["calls", "--", "a:b", "--name=v", "-n=w", "--flag", "x", "--", "--y"],
    ] {
        let document = place.json(["queuemessage", "--dry-run", "--kind", "command"].iter().chain(words));
        assert_eq!(
            document["body"],
            r#"{"command":"a:b","arguments":["x","--y"],"options":{"name":"v","n":"w","flag":null}}"#
        );
    }
    // Other bodies keep qctl's flags wherever they stand.
    place.json(["queuemessage", "calls", "body", "--dry-run"]);
    place.json([
        "queuemessage",
        "--kind",
        "service",
        "calls",
        "logger",
        "log",
        "--dry-run",
    ]);
}

/// Headers of qctl's own, names no broker carries, the queues that replies come to: refused before there is any effect.
#[test]
fn what_is_not_a_senders_to_set_is_refused() {
    let place = Place::new();
    let long = "q".repeat(300);
    let nearly = "q".repeat(252);
    for (args, code, part) in [
        (&["--header", "x-qctl-attempt=4", "q", "x"][..], 2, "qctl's own facts"),
        (&["--header", "X-Qctl-Reason=no", "q", "x"], 2, "qctl's own facts"),
        (&["--header", "=v", "q", "x"], 2, "NAME=VALUE"),
        (&["--header", " =v", "q", "x"], 2, "not a header's name"),
        (&["--header", "a=1", "--header", "a=2", "q", "x"], 2, "given twice"),
        (&["--message-id", "", "q", "x"], 2, "an id is not empty"),
        (&["qctl.reply.x.1", "x"], 77, "qctl.reply.x.1"),
        (
            &[&long, "x"],
            65,
            "name of the queue 'qqqqqqqqqqqqqqqqqqqqqqqq…qqqqqqqqqqqqqqqqqqqqqqqq' has 300 bytes",
        ),
        (&[&nearly, "x"], 65, ".dead' has 257 bytes"),
        (&["a\nb", "x"], 65, "control character"),
    ] {
        place
            .run(["queuemessage", "-q"].iter().chain(args))
            .code(code)
            .stderr_contains(part)
            .check();
    }
    for (name, code) in [(long.as_str(), 65), ("qctl.reply.x.1", 77)] {
        place
            .run(["consumer", "-q", "--until-empty", name])
            .code(code)
            .any_stderr()
            .check();
    }
    assert_eq!(place.json(["managequeue", "list"]), serde_json::json!([]));
    let configured = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { p: { queue: qctl.reply.x.1 } }\nconsumers: {}\n",
    );
    configured
        .run(["queuemessage", "p", "x"])
        .code(77)
        .stderr_contains("the reply to one request")
        .check();
    assert_eq!(configured.json(["managequeue", "list"]), serde_json::json!([]));
}

#[test]
fn a_routing_key_that_is_too_long_is_refused_in_a_dry_run_too() {
    let url = format!("http://h/{}", "x".repeat(300));
    for dry_run in [&[][..], &["--dry-run"]] {
        Test::new()
            .config(CONFIG)
            .args(["queuemessage", "--kind", "http"])
            .args(dry_run)
            .args(["calls", &url])
            .code(65)
            .stderr_contains("the routing key has 309 bytes")
            .check();
    }
}

#[test]
fn interrupted_copies_are_still_one_document() {
    let place = declared();
    let child = place
        .command()
        .args(["--output", "json", "queuemessage", "-m", "100000000", "demo", "x"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("some copies", || ready(&place, "demo") > 2);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["complete"], &report["queued"]),
        (&false.into(), &ready(&place, "demo").into())
    );
}

#[test]
fn mistakes_are_told_and_nothing_is_sent() {
    let place = Place::with_config(CONFIG);
    for (line, code, part) in [
        ("queuemessage nobody x", 66, "no producer is called `nobody`"),
        ("queuemessage demo two words", 2, "one word too many"),
        ("queuemessage --file none.txt demo", 65, "none.txt"),
        ("queuemessage --lines --wait demo", 125, "--wait"),
        ("queuemessage --message-id i -m 2 demo x", 2, "--message-id"),
        ("queuemessage --from-line 2 demo x", 2, "--lines"),
        ("queuemessage --lines --file a demo body", 2, "one word too many"),
    ] {
        place
            .run(line.split(' '))
            .stdin("")
            .code(code)
            .stderr_contains("qctl: ")
            .stderr_contains(part)
            .check();
    }
    // Not even the queue was made.
    place
        .run(["managequeue", "info", "demo"])
        .code(66)
        .stderr_contains("has no queue")
        .check();
}

#[test]
fn without_a_configuration_any_name_is_a_queue() {
    Test::new()
        .args(["queuemessage", "anything", "x"])
        .stdout_contains("1 message(s) queued")
        .stderr_contains("embedded store")
        .check();
}

#[test]
fn a_full_queue_is_temporary() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n\
         consumers: { demo: { queue: { name: demo, max_length: 2 }, handler: { exec: { run: [cat] } } } }\n",
    );
    place.run(["queuemessage", "-m", "2", "demo", "x"]).any_stdout().check();
    place
        .run(["queuemessage", "demo", "x"])
        .code(75)
        .stderr_contains("demo")
        .check();
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin("x\n")
        .code(75)
        .stderr_contains("--from-line 1")
        .check();
}

/// `-` is standard input where a file is asked for, too.
#[test]
fn a_file_called_minus_is_standard_input() {
    let place = Place::new();
    place
        .run(["queuemessage", "--file", "-", "demo"])
        .stdin("one")
        .any_stdout()
        .any_stderr()
        .check();
    place
        .run(["queuemessage", "--lines", "--file", "-", "demo"])
        .stdin("two\nthree\n")
        .any_stdout()
        .any_stderr()
        .check();
    let bodies: Vec<_> = place
        .json(["managequeue", "peek", "demo"])
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["body"].clone())
        .collect();
    assert_eq!(bodies, ["one", "two", "three"]);
}
