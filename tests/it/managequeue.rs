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
    let id = place.json(["managequeue", "peek", "demo"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    place
        .run(["managequeue", "drop", "--yes", "--id", &id, "demo"])
        .code(75)
        .stderr_contains("is held by a consumer")
        .check();
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
        .run(["managequeue", "drop", "--dry-run", "--id", "m1", "demo"])
        .stdout("would drop message m1 of queue demo\n")
        .any_stderr()
        .check();
    for verb in ["drop", "release"] {
        place
            .run(["managequeue", verb, "--dry-run", "--id", "m9", "demo"])
            .code(66)
            .stderr_contains("no message m9 in queue demo")
            .check();
    }
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

#[test]
fn a_dead_letter_shows_all_its_attempts_and_why() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n\
         consumers: { demo: { queue: demo, handler: { exec: { run: ['false'] } }, retry: { attempts: 3, min: 1ms, jitter: 0 } } }\n",
    );
    send(&place, "bad\n");
    let mut consumer = place.start(["consumer", "demo"]);
    wait_for("the message to die", || info(&place, "demo")["dead"] == 1);
    consumer.signal(rustix::process::Signal::TERM);
    assert_eq!(consumer.wait(), Some(0));
    let dead = &place.json(["managequeue", "peek", "--state", "dead", "demo"])[0];
    assert_eq!((&dead["attempt"], &dead["state"]), (&3.into(), &"dead".into()));
    assert_eq!(dead["dead_queue"], "demo");
    assert!(dead["reason"].as_str().unwrap().contains("attempt 3 of 3"), "{dead}");
    for time in ["published_at", "dead_at"] {
        let text = dead[time].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{time}: {text}");
    }
    let table = place.run(["-q", "managequeue", "peek", "--state", "dead", "demo"]);
    let table = table.any_stdout().check().stdout;
    assert!(
        table.contains("ATTEMPTS") && table.contains("attempt 3 of 3"),
        "{table}"
    );
    // Looked at by its queue's own name it is the same.
    assert_eq!(place.json(["managequeue", "peek", "demo.dead"])[0]["state"], "dead");
    place
        .run(["managequeue", "redrive", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    assert_eq!(place.json(["managequeue", "peek", "demo"])[0]["attempt"], 0);
}

#[test]
fn redrive_takes_the_dead_letter_queue_s_name_too() {
    let place = with_dead("one\ntwo\nthree\n");
    place
        .run(["managequeue", "redrive", "--limit", "1", "demo.dead"])
        .stdout("moved 1 dead letter(s) of demo.dead back to queue demo, 2 left\n")
        .any_stderr()
        .check();
    place
        .run(["managequeue", "redrive", "--id", "zz", "demo.dead"])
        .code(66)
        .stderr_contains("no message zz in queue demo.dead; `qctl managequeue peek --state dead`")
        .check();
    let report = place.json(["managequeue", "redrive", "--limit", "0", "--rate", "0", "demo.dead"]);
    let expected = serde_json::json!({ "queue": "demo", "from": "demo.dead", "moved": 2, "left": 0, "dry_run": false });
    assert_eq!(report, expected);
    assert_eq!(info(&place, "demo")["ready"], 3);
}

/// What is told to be left is what the dead-letter queue still has, whichever way the letters were chosen.
#[test]
fn redrive_tells_how_many_dead_letters_remain() {
    let place = with_dead("one\ntwo\nthree\n");
    for (args, moved, left) in [
        (&["--dry-run"][..], 3, 0),
        (&["--dry-run", "--limit", "1"], 1, 2),
        (&["--until", "1h"], 0, 3),
        (&["--match", "none of them"], 0, 3),
        (&["--limit", "1"], 1, 2),
        (&["--dry-run", "--match", "two"], 1, 1),
        (&[], 2, 0),
    ] {
        let report = place.json(["managequeue", "redrive"].iter().chain(args).chain(&["demo"]));
        assert_eq!(
            (&report["moved"], &report["left"]),
            (&moved.into(), &left.into()),
            "{args:?}"
        );
    }
}

/// Without a configuration the custom of the names and what the store knows tell the same.
#[test]
fn dead_letter_queues_are_known_without_a_configuration() {
    let place = Place::new();
    place
        .run(["queuemessage", "demo", "no command"])
        .any_stdout()
        .any_stderr()
        .check();
    place
        .run(["consumer", "-q", "--until-empty", "--log-file", "log", "demo"])
        .check();
    assert_eq!(
        place.json(["managequeue", "peek", "--state", "dead", "demo.dead"])[0]["state"],
        "dead"
    );
    place
        .run(["managequeue", "redrive", "demo.dead"])
        .stdout("moved 1 dead letter(s) of demo.dead back to queue demo, 0 left\n")
        .any_stderr()
        .check();
}

/// One dead-letter queue for several queues: each letter goes back to where it came from.
#[test]
fn a_shared_dead_letter_queue_gives_each_letter_back() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { a: { queue: a }, b: { queue: b } }\n\
         consumers:\n  a: { queue: a, dead_letter: grave, handler: { exec: { run: [sh, -c, exit 65] } } }\n  \
         b: { queue: b, dead_letter: grave, handler: { exec: { run: [sh, -c, exit 65] } } }\n",
    );
    for name in ["a", "b"] {
        place.run(["queuemessage", name, name]).any_stdout().check();
        place
            .run(["consumer", "-q", "--until-empty", "--log-file", "log", name])
            .check();
    }
    place
        .run(["managequeue", "redrive", "grave"])
        .stdout("moved 2 dead letter(s) of grave back to the queues they came from, 0 left\n")
        .any_stderr()
        .check();
    assert_eq!(
        (&info(&place, "a")["ready"], &info(&place, "b")["ready"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_misspelt_queue_gets_the_name_that_was_meant() {
    let place = place();
    send(&place, "a\n");
    for verb in [
        &["info"][..],
        &["purge"],
        &["peek"],
        &["redrive"],
        &["delete"],
        &["check", "--max-ready", "1"],
    ] {
        let args = ["managequeue"].iter().chain(verb).chain(&["dmeo"]);
        place
            .run(args)
            .code(66)
            .stderr("qctl: no consumer, producer or queue is called `dmeo` on connection here; did you mean `demo`?\n")
            .check();
    }
    place
        .run(["managequeue", "info", "zzzzzz"])
        .code(66)
        .stderr_contains("`qctl managequeue list` shows")
        .check();
}

#[test]
fn json_documents_have_objects_and_times() {
    let place = place();
    place
        .run([
            "managequeue",
            "declare",
            "new",
            "-a",
            "max_priority=5",
            "-a",
            "ttl=1h",
            "-a",
            "max_bytes=1000",
        ])
        .any_stdout()
        .any_stderr()
        .check();
    place
        .run(["queuemessage", "--delay", "1h", "demo", "x"])
        .any_stdout()
        .check();
    let found = info(&place, "demo");
    assert_eq!(found["counters"], serde_json::json!({ "expired": 0, "rejected": 0 }));
    assert!(found["next_due_at"].as_str().unwrap().ends_with('Z'), "{found}");
    let found = info(&place, "new");
    let limits = serde_json::json!({ "max_priority": 5, "ttl_seconds": 3600.0, "max_bytes": 1000 });
    assert_eq!(found["properties"], limits);
    place
        .run(["managequeue", "declare", "mailer"])
        .any_stdout()
        .any_stderr()
        .check();
    let bound = serde_json::json!([{ "exchange": "mail", "routing_key": "#" }]);
    assert_eq!(info(&place, "mailer")["bindings"], bound);
    let verdict = place.json(["managequeue", "check", "--max-ready", "5:10", "--max-age", "1h", "demo"]);
    assert_eq!(verdict["level"], "ok");
    assert_eq!(
        verdict["compared"],
        serde_json::json!({
            "ready": { "value": 0, "warning": 5, "critical": 10 },
            "age_seconds": { "value": 0.0, "warning": null, "critical": 3600.0 },
        })
    );
    let drivers = place.json(["managedriver", "list"]);
    assert_eq!(drivers["sqlite"]["capabilities"]["crash_return_seconds"], 1.0);
}

#[test]
fn numbers_below_nought_are_explained() {
    let place = place();
    for (args, told) in [
        (
            &["peek", "--limit", "-1"][..],
            "'-1' is not a count; write 1 or more, or 0 for no limit",
        ),
        (&["redrive", "--limit", "-1"], "'-1' is not a count"),
        (
            &["redrive", "--rate", "-5"],
            "'-5' is not a number of messages a second",
        ),
        (&["check", "--max-ready", "-1"], "'-1' is not a count"),
        (&["check", "--max-age", "-5m"], "'-5m' is not a duration"),
    ] {
        let args = ["managequeue"].iter().chain(args).chain(&["demo"]);
        let error = place.run(args).code(2).stderr_contains(told).check().stderr;
        assert!(!error.contains("-- -"), "{error}");
    }
    send(&place, &"x\n".repeat(12));
    let count = |limit: &str| {
        let found = place.json(["managequeue", "peek", "--limit", limit, "demo"]);
        found.as_array().unwrap().len()
    };
    assert_eq!((count("0"), count("11")), (12, 11));
    // As other tools write the past.
    assert_eq!(
        place.json(["managequeue", "redrive", "--since", "-2h", "demo"])["moved"],
        0
    );
}

#[test]
fn help_is_a_verb_too() {
    for command in ["managequeue", "managedriver", "store"] {
        Test::new().args([command, "help"]).stdout_contains("Commands:").check();
    }
    Test::new()
        .args(["managequeue", "help", "peek"])
        .stdout_contains("--state")
        .check();
}

/// A queue that is not as configured any more can still be looked at and emptied.
#[test]
fn a_queue_that_disagrees_with_the_configuration_is_looked_at_all_the_same() {
    let place = place();
    place.run(["queuemessage", "-r", "x", "mail", "a"]).any_stdout().check();
    place.write("qctl.yml", CONFIG.replace("type: topic", "type: fanout"));
    place
        .run(["managequeue", "info", "mailer"])
        .stdout_contains("ready")
        .stderr_contains("warning: exchange `mail` is of type topic")
        .check();
    assert_eq!(place.json(["managequeue", "purge", "-y", "mailer"])["removed"], 1);
}

#[test]
fn declaring_one_property_leaves_the_others_alone() {
    let place = place();
    for arguments in [
        &["-a", "ttl=1h", "-a", "dead_letter=grave"][..],
        &["-a", "max_priority=5"],
        &[],
    ] {
        let args = ["managequeue", "declare", "new"].iter().chain(arguments);
        place.run(args).stdout("declared queue new\n").any_stderr().check();
    }
    let found = info(&place, "new");
    assert_eq!(
        found["properties"],
        serde_json::json!({ "max_priority": 5, "ttl_seconds": 3600.0 })
    );
    assert_eq!(found["dead_letter"], "grave");
    place
        .run(["managequeue", "declare", "demo", "-a", "ttl=1h"])
        .any_stdout()
        .stderr_contains("warning: queue demo is configured")
        .check();
}

/// Whoever leaves a question by Ctrl-C or says no finds everything as it was, the terminal too.
#[test]
fn questions_are_asked_on_a_terminal() {
    let place = place();
    send(&place, "a\nb\n");
    for (typed, left) in [("n\\n", 2), ("\\n", 2), ("\\003", 2), ("y\\n", 0)] {
        // script(1) gives the program a terminal; what is typed waits for the question.
        let ask = format!(
            "{{ until grep -q 'y/N' talk || [ -e over ]; do sleep 0.01; done; printf '{typed}'; until [ -e over ]; do sleep 0.01; done; }} \
             | script -q -f -c 'trap : INT; {} managequeue purge demo; touch over' talk > /dev/null; rm -f over",
            env!("CARGO_BIN_EXE_qctl")
        );
        place.write("talk", "");
        let ours = place.command();
        let mut command = std::process::Command::new("sh");
        command.current_dir(ours.get_current_dir().unwrap());
        command
            .env_clear()
            .envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let status = command
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .args(["-c", &ask])
            .status()
            .unwrap();
        assert!(status.success(), "{typed}");
        let talk = place.read("talk");
        assert!(talk.contains("(2 now)"), "{talk}");
        assert!(!talk.contains("\u{1b}[?25l"), "the cursor was hidden: {talk:?}");
        assert_eq!(info(&place, "demo")["ready"], left, "{typed}: {talk}");
    }
}

/// A queue for dead letters has none of its own, and a dry run refuses what the run would.
#[test]
fn declare_makes_no_dead_letters_of_dead_letters() {
    let place = Place::new();
    let made = place.json(["managequeue", "declare", "x.dead"]);
    assert_eq!(made["dead_letter"], serde_json::Value::Null);
    for argument in ["x-foo=1", "exclusive=true"] {
        for further in [&[][..], &["--dry-run"]] {
            let args = ["managequeue", "declare", "y", "-a", argument];
            place
                .run(args.iter().chain(further).copied())
                .code(64)
                .stderr_contains("y")
                .check();
        }
    }
    place.run(["managequeue", "info", "y"]).code(66).any_stderr().check();
}

/// A monitor does not make the store whose absence it should tell.
#[test]
fn check_makes_no_store() {
    let place =
        Place::with_config("connections: { here: 'sqlite://./gone/queue.db' }\nproducers: { demo: { queue: demo } }\n");
    let check = ["managequeue", "check", "--max-ready", "1", "demo"];
    place
        .run(check)
        .code(66)
        .stderr_contains("there is no store at")
        .check();
    assert!(!place.path("gone").exists());
    place
        .run(["queuemessage", "demo", "a"])
        .any_stdout()
        .any_stderr()
        .check();
    place.run(check).any_stdout().any_stderr().check();
}
