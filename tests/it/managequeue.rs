//! `qctl managequeue`.

use serde_json::Value;

use crate::support::{Place, Test, wait_for};

const CONFIG: &str = "
connections: { here: 'sqlite://./queue.db' }
producers: { mail: { exchange: { name: mail, type: topic } }, demo: { queue: demo }, only: { queue: only } }
consumers:
  mailer: { queue: { name: mailbox, bindings: [{ exchange: mail, routing_key: '#' }] }, handler: { exec: { run: ['./run.sh'] } } }
  demo: { queue: demo, handler: { exec: { run: ['./run.sh'] } } }
";

fn place() -> Place {
    let place = Place::with_config(CONFIG);
    place.script("run.sh", "exit 65");
    place
}

fn send(place: &Place, lines: &str) {
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn info(place: &Place, name: &str) -> Value {
    place.json(["managequeue", "info", name])
}

/// Some messages in the dead-letter queue.
fn with_dead(lines: &str) -> Place {
    let place = place();
    send(&place, lines);
    place
        .run(["consumer", "-q", "--until-empty", "--log-file", "log", "demo"])
        .check();
    place
}

#[test]
fn configured_names_have_their_type_codes() {
    let place = place();
    let rows = place.json(["managequeue", "list-configured"]);
    let types: Vec<(String, u64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row["type"].as_u64().unwrap()))
        .collect();
    let expected = [("demo", 3), ("mail", 1), ("mailer", 2), ("only", 1)];
    assert_eq!(types, expected.map(|(name, code)| (name.to_owned(), code)));
    place
        .run(["managequeue", "list-configured"])
        .stdout_contains("producer and consumer")
        .check();
    Test::new()
        .args(["managequeue", "list-configured"])
        .stderr_contains("any name is a queue")
        .check();
}

#[test]
fn queues_are_listed_by_pattern() {
    let place = place();
    send(&place, "a\n");
    let names = |args: &[&str]| -> Vec<String> {
        place
            .json(args)
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(names(&["managequeue", "list"]).contains(&"demo".to_owned()));
    assert_eq!(names(&["managequeue", "list-available", "dem?"]), ["demo"]);
    assert_eq!(names(&["managequeue", "-i", "here", "list", "*.dead"]), ["demo.dead"]);
    place.run(["managequeue", "list", "nothing*"]).check();
}

#[test]
fn a_name_is_a_consumer_then_a_producer_then_a_queue() {
    let place = place();
    place
        .run(["managequeue", "declare", "mailer"])
        .stdout("declared queue mailbox\n")
        .any_stderr()
        .check();
    for (name, told) in [
        ("mailer", "consumer mailer: queue mailbox on connection here (sqlite)"),
        ("mail", "producer mail: queue mailbox"),
        ("mailbox", "queue mailbox: queue mailbox"),
    ] {
        place
            .run(["managequeue", "info", name])
            .any_stdout()
            .stderr_contains(told)
            .check();
    }
    assert_eq!(info(&place, "mailer")["kind"], "consumer");
    place
        .run(["managequeue", "info", "nowhere"])
        .code(66)
        .stderr_contains("nowhere")
        .check();
}

#[test]
fn info_ends_with_why_nothing_moves() {
    let place = place();
    place
        .run(["managequeue", "declare", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    let last = |place: &Place| {
        let text = place
            .run(["-q", "managequeue", "info", "demo"])
            .any_stdout()
            .check()
            .stdout;
        text.lines().last().unwrap().to_owned()
    };
    assert_eq!(last(&place), "empty: no message is waiting");
    place
        .run(["queuemessage", "--delay", "1h", "demo", "x"])
        .any_stdout()
        .check();
    assert!(last(&place).starts_with("delayed: the next of 1 is due at "));
    send(&place, "a\n");
    assert_eq!(last(&place), "no consumer: 1 ready messages wait for one");
    place
        .run(["managequeue", "pause", "demo"])
        .stdout("paused queue demo\n")
        .any_stderr()
        .check();
    let text = place
        .run(["managequeue", "info", "demo"])
        .any_stdout()
        .any_stderr()
        .check()
        .stdout;
    assert!(
        text.contains("paused: nothing is handed out until `qctl managequeue resume demo`"),
        "{text}"
    );
    place
        .run(["managequeue", "resume", "demo"])
        .stdout("resumed queue demo\n")
        .any_stderr()
        .check();
    place.script("run.sh", "exec sleep 600");
    let consumer = place.start(["consumer", "--label", "night shift", "demo"]);
    wait_for("the message to be held", || info(&place, "demo")["held"] == 1);
    let held = last(&place);
    assert!(
        held.starts_with(&format!("held: 1 by pid {}", consumer.pid())),
        "{held}"
    );
    assert!(held.contains("(night shift)"), "{held}");
}

#[test]
fn paused_queues_hand_out_nothing() {
    let place = place();
    place.script("run.sh", "cat >> out");
    send(&place, "a\n");
    place
        .run(["managequeue", "pause", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    place
        .run(["consumer", "-t", "0.3", "demo"])
        .stderr_contains("0 done")
        .check();
    assert_eq!(place.read("out"), "");
    place
        .run(["managequeue", "resume", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    place
        .run(["consumer", "--until-empty", "demo"])
        .stderr_contains("1 done")
        .check();
}

#[test]
fn peek_changes_nothing() {
    let place = place();
    send(&place, "one\ntwo\n\u{1b}[31mred\n");
    let before = info(&place, "demo");
    let found = place.json(["managequeue", "peek", "--state", "ready", "demo"]);
    assert_eq!(found.as_array().unwrap().len(), 3);
    assert_eq!(found[0]["body"], "one");
    assert_eq!(found[0]["encoding"], "utf-8");
    let id = found[1]["id"].as_str().unwrap();
    assert_eq!(
        place.json(["managequeue", "peek", "--id", id, "demo"])[0]["body"],
        "two"
    );
    assert_eq!(
        place
            .json(["managequeue", "peek", "--limit", "1", "demo"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        place.json(["managequeue", "peek", "--state", "delayed", "demo"]),
        serde_json::json!([])
    );
    for args in [
        &["managequeue", "peek", "demo"][..],
        &["managequeue", "peek", "--body", "demo"],
    ] {
        let text = place.run(args).any_stdout().any_stderr().check().stdout;
        assert!(text.contains("red") && !text.contains('\u{1b}'), "{text:?}");
    }
    place
        .run(["managequeue", "peek", "--id", "none", "demo"])
        .code(66)
        .stderr_contains("no message none")
        .check();
    assert_eq!(info(&place, "demo")["ready"], before["ready"]);
}

#[test]
fn what_destroys_wants_a_yes() {
    let place = place();
    send(&place, "a\nb\n");
    for args in [
        &["managequeue", "purge", "demo"][..],
        &["managequeue", "delete", "demo"],
        &["managequeue", "drop", "--id", "x", "demo"],
    ] {
        place.run(args).code(2).stderr_contains("add --yes").check();
    }
    assert_eq!(info(&place, "demo")["ready"], 2);
    place
        .run(["managequeue", "purge", "--dry-run", "demo"])
        .stdout("would remove 2 message(s) from queue demo\n")
        .any_stderr()
        .check();
    assert_eq!(info(&place, "demo")["ready"], 2);
}

#[test]
fn purge_takes_ready_and_delayed_and_counts() {
    let place = with_dead("bad\n");
    send(&place, "a\nb\n");
    place
        .run(["queuemessage", "--delay", "1h", "demo", "x"])
        .any_stdout()
        .check();
    place
        .run(["managequeue", "purge", "-y", "demo"])
        .stdout("removed 3 message(s) from queue demo\n")
        .any_stderr()
        .check();
    assert_eq!(info(&place, "demo")["dead"], 1);
    let report = place.json(["managequeue", "purge", "-y", "--dead", "demo"]);
    assert_eq!(
        (report["removed"].as_u64(), report["removed_dead"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!(info(&place, "demo")["dead"], 0);
}

#[test]
fn delete_refuses_while_messages_are_held() {
    let place = place();
    place.script("run.sh", "exec sleep 600");
    send(&place, "a\n");
    let _consumer = place.start(["consumer", "demo"]);
    wait_for("the message to be held", || info(&place, "demo")["held"] == 1);
    let error = place
        .run(["managequeue", "delete", "--yes", "demo"])
        .code(75)
        .any_stderr()
        .check()
        .stderr;
    assert!(error.contains("--force"), "{error}");
    place
        .run(["managequeue", "delete", "--yes", "--force", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
}

#[test]
fn delete_tells_what_went_with_it() {
    let place = place();
    send(&place, "a\nb\n");
    place
        .run(["managequeue", "delete", "--dry-run", "demo"])
        .stdout_contains("would delete queue demo with 2")
        .any_stderr()
        .check();
    place
        .run(["managequeue", "delete", "--yes", "demo"])
        .stdout("deleted queue demo; 2 message(s) went with it\n")
        .any_stderr()
        .check();
    place
        .run(["managequeue", "delete", "--yes", "demo"])
        .code(66)
        .any_stderr()
        .check();
}

#[test]
fn one_message_is_dropped_or_released_by_id() {
    let place = place();
    place
        .run(["queuemessage", "--message-id", "m1", "demo", "x"])
        .any_stdout()
        .check();
    place
        .run(["queuemessage", "--message-id", "m2", "--delay", "1h", "demo", "y"])
        .any_stdout()
        .check();
    place
        .run(["managequeue", "drop", "-y", "--id", "m1", "demo"])
        .stdout("dropped message m1 of queue demo\n")
        .any_stderr()
        .check();
    place
        .run(["managequeue", "drop", "-y", "--id", "m1", "demo"])
        .code(66)
        .any_stderr()
        .check();
    place
        .run(["managequeue", "release", "--id", "m2", "demo"])
        .stdout("released message m2 of queue demo\n")
        .any_stderr()
        .check();
    let figures = info(&place, "demo");
    assert_eq!(
        (figures["ready"].as_u64(), figures["delayed"].as_u64()),
        (Some(1), Some(0))
    );
    place
        .run(["managequeue", "release", "--id", "m9", "demo"])
        .code(66)
        .any_stderr()
        .check();
}

#[test]
fn dead_letters_are_moved_back() {
    let place = with_dead("one\ntwo\nthree\n");
    assert_eq!(info(&place, "demo")["dead"], 3);
    let moved =
        |args: &[&str]| place.json(["managequeue", "redrive"].iter().chain(args).chain(&["demo"]))["moved"].clone();
    assert_eq!(moved(&["--dry-run"]), 3);
    assert_eq!(moved(&["--match", "two"]), 1);
    assert_eq!(moved(&["--until", "1h"]), 0);
    assert_eq!(moved(&["--since", "1h", "--limit", "1"]), 1);
    place
        .run(["managequeue", "retry", "--rate", "100", "demo"])
        .stdout_contains("moved 1 dead letter(s)")
        .any_stderr()
        .check();
    let figures = info(&place, "demo");
    assert_eq!(
        (figures["ready"].as_u64(), figures["dead"].as_u64()),
        (Some(3), Some(0))
    );
    place
        .run(["managequeue", "redrive", "--id", "none", "demo"])
        .code(66)
        .any_stdout()
        .any_stderr()
        .check();
}

#[test]
fn queues_are_declared_with_properties() {
    let place = place();
    place
        .run(["managequeue", "create", "new", "-a", "max_priority=5", "-a", "ttl=1h"])
        .stdout("declared queue new\n")
        .any_stderr()
        .check();
    assert_eq!(info(&place, "new")["ready"], 0);
    place
        .run(["managequeue", "declare", "new", "-a", "max_lenght=5"])
        .code(2)
        .stderr_contains("did you mean 'max_length'")
        .check();
    place
        .run(["managequeue", "declare", "new", "-a", "ttl=soon"])
        .code(65)
        .stderr_contains("-a ttl")
        .check();
    place
        .run(["managequeue", "info", "-a", "x=y", "new"])
        .code(2)
        .stderr_contains("-a")
        .check();
    place
        .run(["managequeue", "declare", "--dry-run", "other"])
        .stdout("would declare queue other\n")
        .any_stderr()
        .check();
    place
        .run(["managequeue", "info", "other"])
        .code(66)
        .any_stderr()
        .check();
}

#[test]
fn monitors_get_a_line_and_a_code() {
    let place = with_dead("bad\n");
    send(&place, "a\nb\nc\n");
    for (limits, code, word) in [
        (&["--max-ready", "5"][..], 0, "OK - demo: 3 ready"),
        (&["--max-ready", "2:5"], 1, "WARNING - demo"),
        (&["--max-ready", "2"], 2, "CRITICAL - demo"),
        (&["--max-ready", "5", "--max-dead", "0"], 2, "1 dead"),
        (&["--max-age", "1h"], 0, "| age="),
    ] {
        let text = place
            .run(["managequeue", "check"].iter().chain(limits).chain(&["demo"]))
            .code(code)
            .stdout_contains(word)
            .any_stderr()
            .check()
            .stdout;
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    place
        .run(["managequeue", "check", "--max-ready", "1", "nowhere"])
        .code(66)
        .any_stderr()
        .check();
}
