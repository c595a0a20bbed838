//! Listeners through the program: who hears of what, what they can do to a message, and what becomes of what they do not hear.

use serde_json::{Value, json};

use crate::support::{Place, wait_for};

const BASE: &str = "connections: { local: 'sqlite://./queue.db' }\nproducers: { jobs: {}, other: {} }\n";

/// A place with a consumer `jobs` that runs `./work`, which takes every body but `bad`.
fn place(listeners: &str) -> Place {
    let place = Place::with_config(&format!(
        "{BASE}consumers:\n  jobs: {{ handler: {{ exec: {{ run: [./work] }} }}, retry: {{ attempts: 2, min: 1ms, max: 1ms }} }}\n  other: {{ handler: noop }}\nlisteners:\n{listeners}\n"
    ));
    place.script(
        "work",
        "body=$(cat); echo \"$body\" >>worked; echo \"answer to $body\"; [ \"$body\" != bad ]",
    );
    place
}

fn queue(place: &Place, bodies: &[&str]) {
    place
        .run(["-q", "queuemessage", "--lines", "jobs"])
        .stdin(bodies.join("\n") + "\n")
        .any_stdout()
        .any_stderr()
        .check();
}

fn drain(place: &Place) -> String {
    place
        .run(["consumer", "--until-empty", "jobs"])
        .any_stderr()
        .check()
        .stderr
}

/// The events of a file, each as its name, body and settlement.
fn heard(place: &Place, file: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = place.read(file);
    let parsed = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    parsed
        .map(|event| (text(&event["event"]), text(&event["body"]), text(&event["settlement"])))
        .collect()
}

fn triple(event: &str, body: &str, settlement: &str) -> (String, String, String) {
    (event.to_owned(), body.to_owned(), settlement.to_owned())
}

fn lines(place: &Place, file: &str) -> Vec<String> {
    place.read(file).lines().map(str::to_owned).collect()
}

#[test]
fn every_event_of_a_message_is_told_with_what_is_known() {
    let place = place(
        "  - { on: [message_sent, kaliop_queueing.message_received, message_consumed, message_consumption_failed], accumulate: heard }",
    );
    queue(&place, &["good", "bad"]);
    drain(&place);
    let mut events = heard(&place, "heard");
    let mut expected = vec![
        triple("message_sent", "good", ""),
        triple("message_sent", "bad", ""),
        triple("message_received", "good", ""),
        triple("message_consumed", "good", "done"),
        triple("message_received", "bad", ""),
        triple("message_consumption_failed", "bad", "retry"),
        triple("message_received", "bad", ""),
        triple("message_consumption_failed", "bad", "dead_letter"),
    ];
    events.sort();
    expected.sort();
    assert_eq!(events, expected);
    let consumed = place.read("heard");
    let consumed = consumed.lines().find(|line| line.contains("message_consumed")).unwrap();
    let consumed: Value = serde_json::from_str(consumed).unwrap();
    assert_eq!(consumed["output"], "answer to good\n", "the answer is kept: {consumed}");
    assert_eq!(consumed["exit_code"], 0);
    assert_eq!(consumed["queue"], "jobs");
    assert_eq!(consumed["name"], "jobs");
    assert_eq!(consumed["attempt"], 0);
    assert!(consumed["id"].is_string() && consumed["took_ms"].is_u64(), "{consumed}");
}

#[test]
fn a_body_that_cannot_be_read_is_not_received_but_fails() {
    let place = Place::with_config(&format!(
        "{BASE}consumers: {{ jobs: {{ handler: command }} }}\nlisteners: [{{ on: [message_received, message_consumption_failed], accumulate: heard }}]\n"
    ));
    queue(&place, &["no JSON", r#"{"command":"rm"}"#]);
    drain(&place);
    let events: Vec<_> = heard(&place, "heard")
        .into_iter()
        .map(|(event, body, _)| (event, body))
        .collect();
    let not_allowed = r#"{"command":"rm"}"#.to_owned();
    assert_eq!(
        events,
        [
            ("message_consumption_failed".to_owned(), "no JSON".to_owned()),
            ("message_received".to_owned(), not_allowed.clone()),
            ("message_consumption_failed".to_owned(), not_allowed),
        ]
    );
}

#[test]
fn listeners_hear_by_priority_and_of_what_they_are_for() {
    let place = place(
        "  - { on: message_received, run: [./note, second] }\n  \
           - { on: message_received, priority: 5, run: [./note, first] }\n  \
           - { on: message_received, queue: other, run: [./note, never] }\n  \
           - { on: message_received, queue: [other, jobs], priority: -1, run: [./note, third] }",
    );
    place.script("note", "echo \"$1 $QCTL_EVENT\" >>notes");
    queue(&place, &["good"]);
    drain(&place);
    assert_eq!(
        lines(&place, "notes"),
        [
            "first message_received",
            "second message_received",
            "third message_received"
        ]
    );
}

#[test]
fn a_listener_can_swallow_a_message_and_the_next_one_is_unharmed() {
    for how in ["run: [./filter]", "program: [python3, filter.py]"] {
        let place = place(&format!(
            "  - {{ on: message_received, priority: 1, {how} }}\n  - {{ on: [message_received, message_consumed, message_consumption_failed], accumulate: heard }}"
        ));
        place.script("filter", "grep -q '\"body\":\"forbidden\"' && echo swallow; true");
        place.write(
            "filter.py",
            "import json, sys\nprint('{\"jsonrpc\": \"2.0\", \"method\": \"ready\"}', flush=True)\nfor line in sys.stdin:\n    \
             event = json.loads(line)\n    word = 'swallow' if event['params']['body'] == 'forbidden' else 'go'\n    \
             print(json.dumps({'jsonrpc': '2.0', 'id': event['id'], 'result': word}), flush=True)\n",
        );
        queue(&place, &["forbidden", "good", "forbidden", "fine"]);
        let told = drain(&place);
        assert_eq!(lines(&place, "worked"), ["good", "fine"], "{told}");
        assert_eq!(
            told.matches("swallowed by a listener, and removed unhandled").count(),
            2,
            "{told}"
        );
        assert!(told.contains("(2 done, 0 not, 2 swallowed)"), "{told}");
        let bodies: Vec<String> = heard(&place, "heard").into_iter().map(|(_, body, _)| body).collect();
        assert_eq!(bodies, ["good", "good", "fine", "fine"], "nobody behind it hears of it");
        assert_eq!(place.json(["managequeue", "info", "jobs"])["ready"], 0);
    }
}

/// A file of the manual's.
fn document(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_listeners_of_the_manual_do_what_they_say() {
    let place = place(
        "  - { on: [message_received, message_consumed], program: [python3, listener.py] }\n  \
           - { on: message_received, run: [./listener.sh] }",
    );
    place.write("listener.py", document("workers/listener.py"));
    // As it is, but for the right to be executed.
    let script = place.script("listener.sh", "");
    std::fs::write(script, document("workers/listener.sh")).unwrap();
    queue(&place, &["good", "a test", "fine"]);
    let told = drain(&place);
    assert_eq!(lines(&place, "worked"), ["good", "fine"], "{told}");
    place.write("maintenance", "");
    queue(&place, &["last", "not yet"]);
    let run = place.run(["consumer", "jobs"]).any_stderr().check();
    assert!(
        run.stderr.contains("Stopped because: listeners[1].run"),
        "{}",
        run.stderr
    );
    assert_eq!(lines(&place, "worked"), ["good", "fine", "last"]);
}

#[test]
fn the_samples_of_the_manual_are_whole() {
    let manual = document("listeners.md");
    let block = |kind: &str, at: usize| {
        let start = manual.match_indices(&format!("```{kind}\n")).nth(at).unwrap().0 + kind.len() + 4;
        let end = start + manual[start..].find("```").unwrap();
        manual[start..end].to_owned()
    };
    // Each of the events, with the members that are told in truth.
    let place = place(
        "  - { on: [message_sent, message_received, message_consumed, message_consumption_failed], accumulate: heard }",
    );
    queue(&place, &["good", "bad"]);
    drain(&place);
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let real = place.read("heard");
    let real: Vec<Value> = real.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let samples = block("json", 0);
    let samples: Vec<Value> = samples
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(samples.len(), 6);
    for sample in &samples[..4] {
        let same = real.iter().find(|event| event["event"] == sample["event"]).unwrap();
        let ignored = |mut members: Vec<String>| {
            // Only where the message has one.
            members.retain(|name| name != "content_type");
            members
        };
        assert_eq!(ignored(members(sample)), ignored(members(same)), "{same}");
    }
    // And the configurations can be read.
    for at in [0, 1] {
        let yaml = block("yaml", at);
        let place = Place::with_config(&format!(
            "connections: {{ local: 'sqlite://./queue.db' }}\nproducers: {{ mail: {{}}, later: {{}} }}\nconsumers: {{ mail: {{ handler: noop }} }}\n{yaml}"
        ));
        place.run(["config", "check"]).any_stdout().any_stderr().check();
    }
}

#[test]
fn who_waits_for_a_message_that_is_swallowed_is_not_told_that_it_is_done() {
    let place = Place::with_config(&format!(
        "{BASE}consumers: {{ jobs: {{ handler: command }} }}\nlisteners: [{{ on: message_received, run: [./filter] }}]\n"
    ));
    place.script("filter", "echo swallow");
    let consumer = place.start(["consumer", "jobs"]);
    consumer.wait_stderr("consuming");
    place
        .run(["queuecommand", "--wait", "jobs", "echoback", "hi"])
        .code(125)
        .any_stdout()
        .stderr_contains("swallowed by the listener listeners[0].run")
        .check();
}

#[test]
fn a_listener_can_end_the_consumer_which_finishes_what_it_has() {
    for how in ["stop: 2", "stop: { file: enough }", "run: [./decide]"] {
        let place = place(&format!("  - {{ on: message_received, {how} }}"));
        place.script("decide", "[ -e enough ] && echo stop; true");
        place.script(
            "work",
            "cat >>worked; echo >>worked; [ $(wc -l <worked) -lt 1 ] || touch enough",
        );
        queue(&place, &["1", "2", "3", "4"]);
        let run = place.run(["consumer", "jobs"]).any_stderr().check();
        assert!(run.stderr.contains("Stopped because: listeners[0]."), "{}", run.stderr);
        assert_eq!(lines(&place, "worked"), ["1", "2"], "{how}: {}", run.stderr);
        assert_eq!(place.json(["managequeue", "info", "jobs"])["ready"], 2);
    }
}

#[test]
fn a_stopwatch_tells_how_long_so_many_messages_took() {
    let place = place("  - { on: message_received, stopwatch: 2 }");
    queue(&place, &["1", "2", "3", "4", "5"]);
    let told = drain(&place);
    assert_eq!(told.matches("Time spent to receive 2 messages: ").count(), 2, "{told}");
}

#[test]
fn log_writes_events_without_their_bodies() {
    let place = place("  - { on: message_consumed, log: {} }");
    queue(&place, &["secret"]);
    let told = drain(&place);
    assert!(
        told.contains("\"event\":\"message_consumed\"") && !told.contains("\"secret\""),
        "{told}"
    );
}

#[test]
fn what_is_given_up_can_be_sent_on_but_not_for_ever() {
    let place = place("  - { on: message_consumption_failed, requeue: { producer: jobs, times: 2 } }");
    queue(&place, &["bad", "good"]);
    let told = drain(&place);
    // Two attempts each: of the message, and of two copies.
    assert_eq!(
        lines(&place, "worked").iter().filter(|line| *line == "bad").count(),
        6,
        "{told}"
    );
    assert_eq!(
        told.matches("sent on by a listener instead of being dead-lettered")
            .count(),
        2,
        "{told}"
    );
    let dead = place.json(["managequeue", "peek", "jobs.dead"]);
    assert_eq!(dead.as_array().unwrap().len(), 1, "{dead}");
    assert_eq!(dead[0]["headers"]["x-qctl-requeued"], json!(2), "{dead}");
}

#[test]
fn a_message_that_cannot_be_sent_on_waits() {
    let config = format!(
        "connections: {{ local: 'sqlite://./queue.db', away: 'amqp://guest:guest@127.0.0.1:1' }}\nproducers: {{ jobs: {{ connection: local }}, far: {{ connection: away }} }}\ndefault: local\n\
         consumers: {{ jobs: {{ handler: {{ exec: {{ run: ['false'] }} }}, retry: {{ attempts: 1 }} }} }}\nlisteners: [{{ on: message_consumption_failed, requeue: far{} }}]\n",
        ""
    );
    let place = Place::with_config(&config);
    queue(&place, &["bad"]);
    let mut consumer = place.start(["consumer", "jobs"]);
    consumer.wait_stderr("what it is about waits, and it is told again");
    assert_eq!(place.json(["managequeue", "info", "jobs"])["held"], 1);
    consumer.signal(rustix::process::Signal::TERM);
    assert_eq!(
        consumer.wait(),
        Some(0),
        "a stop waits for no broker: {}",
        consumer.stderr()
    );
    let there = |queue: &str| place.json(["managequeue", "info", queue])["ready"].as_i64().unwrap();
    assert_eq!(
        there("jobs") + there("jobs.dead"),
        1,
        "it is not lost: {}",
        consumer.stderr()
    );
}

#[test]
fn a_listener_that_fails_is_waited_for_skipped_or_ends_the_consumer() {
    for how in ["run: [./listen]", "program: [sh, listen.sh]"] {
        let policy = |policy: &str, more: &str| {
            let place = place(&format!(
                "  - {{ on: message_received, policy: {policy}, {how}{more} }}"
            ));
            place.script("listen", "echo tried >>tries; echo 'no database' >&2; [ -e well ]");
            place.write(
                "listen.sh",
                "echo '{\"jsonrpc\": \"2.0\", \"method\": \"ready\"}'\nwhile read -r line; do echo tried >>tries; [ -e well ] || exit 1\n\
                 id=${line#*\\\"id\\\":}; echo \"{\\\"jsonrpc\\\": \\\"2.0\\\", \\\"id\\\": ${id%%,*}, \\\"result\\\": null}\"; done\n",
            );
            queue(&place, &["good"]);
            place
        };
        let skipping = policy("skip", "");
        let told = drain(&skipping);
        assert!(told.contains("the listener did not hear it; skipped"), "{told}");
        assert_eq!(lines(&skipping, "worked"), ["good"]);

        let stopping = policy("stop", "");
        let run = stopping.run(["consumer", "jobs"]).code(75).any_stderr().check();
        assert!(
            run.stderr
                .contains("did not hear of message_received, and its policy is to stop"),
            "{}",
            run.stderr
        );
        assert_eq!(lines(&stopping, "worked"), [""; 0]);
        assert_eq!(stopping.json(["managequeue", "info", "jobs"])["ready"], 1);

        let waiting = policy("wait", "");
        let mut consumer = waiting.start(["consumer", "-m", "1", "jobs"]);
        consumer.wait_stderr("what it is about waits, and it is told again");
        assert_eq!(lines(&waiting, "worked"), [""; 0]);
        waiting.write("well", "");
        assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
        assert_eq!(lines(&waiting, "worked"), ["good"]);
    }
}

#[test]
fn a_slow_listener_is_cut_off_at_its_time_out() {
    for how in [
        "run: { run: [sleep, '600'] }",
        "program: [sh, -c, 'echo \"{\\\"jsonrpc\\\": \\\"2.0\\\", \\\"method\\\": \\\"ready\\\"}\"; sleep 600']",
    ] {
        let place = place(&format!(
            "  - {{ on: message_received, policy: skip, timeout: 100ms, {how} }}"
        ));
        queue(&place, &["good"]);
        let told = drain(&place);
        assert!(told.contains("it did not hear within 100ms"), "{told}");
        assert_eq!(lines(&place, "worked"), ["good"]);
    }
}

#[test]
fn a_missing_program_of_a_listener_is_told_before_anything_is_taken() {
    for how in ["run: [./nowhere]", "program: [./nowhere]"] {
        let place = place(&format!("  - {{ on: message_received, {how} }}"));
        queue(&place, &["good"]);
        let run = place.run(["consumer", "jobs"]).code(72).any_stderr().check();
        assert!(
            run.stderr.contains("listeners[0]") && run.stderr.contains("nowhere"),
            "{}",
            run.stderr
        );
        assert_eq!(place.json(["managequeue", "info", "jobs"])["ready"], 1);
    }
}

#[test]
fn programs_of_a_killed_consumer_s_listeners_end_with_it() {
    let place = place("  - { on: message_received, run: [./listen] }");
    place.script("listen", "echo $$ >pid; exec sleep 600");
    queue(&place, &["good"]);
    let consumer = place.start(["consumer", "jobs"]);
    wait_for("the listener", || place.read("pid").ends_with('\n'));
    consumer.signal(rustix::process::Signal::KILL);
    let pid: u32 = place.read("pid").trim().parse().unwrap();
    wait_for("its end", || !crate::support::is_running(pid));
}
