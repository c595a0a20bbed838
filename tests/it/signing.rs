//! Signed messages through the program: what was forged, altered, re-routed, replayed or is too old is dead-lettered with the
//! reason, whatever broker it came by. `tests/rabbit_it/signing.rs` does the same on RabbitMQ.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Place, wait_for};

/// Two senders with a key each, one without, and a consumer that says how strict it is.
fn place(mode: &str) -> Place {
    let place = Place::with_config(&format!(
        "include: [shared.yml]\nsigning: {{ keys: {{ a: a.key, b: b.key }}, use: a, window: 1h }}\n\
         consumers:\n  jobs: {{ queue: {{ name: jobs, bindings: [{{ exchange: news, routing_key: 'jobs.#' }}] }}, handler: {{ exec: {{ run: [./work] }} }}, signing: {mode}, retry: {{ attempts: 1 }} }}\n  \
         other: {{ queue: {{ name: other, bindings: [{{ exchange: news, routing_key: 'other.#' }}] }}, handler: noop }}\n"
    ));
    place.write(
        "shared.yml",
        "connections: { local: 'sqlite://./queue.db' }\nproducers:\n  jobs: { queue: jobs }\n  plain: { queue: jobs, sign: false }\n  news: { exchange: { name: news, type: topic } }\n  other: { queue: other }\nstate_dir: ./state\n",
    );
    place.script("work", "echo \"$QCTL_ROUTING_KEY $(cat)\" >>worked");
    for name in ["a.key", "b.key"] {
        place.run(["-q", "keys", "new", name]).any_stdout().check();
    }
    place
}

fn send(place: &Place, args: &[&str]) {
    place
        .run(["-q", "queuemessage"].into_iter().chain(args.iter().copied()))
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

/// The reasons of the dead letters, in their order.
fn reasons(place: &Place) -> Vec<String> {
    let dead = place.json(["managequeue", "peek", "--limit", "50", "jobs.dead"]);
    let reason = |letter: &Value| {
        letter["headers"]["x-qctl-reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    dead.as_array().unwrap().iter().map(reason).collect()
}

/// Changes the messages of the store as somebody who can write there could.
fn tamper(place: &Place, sql: &str) {
    let script = "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1])\nconnection.execute(sys.argv[2])\nconnection.commit()\n";
    let mut command = place.command_of("python3");
    command.args(["-c", script]).arg(place.path("queue.db")).arg(sql);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_signed_is_handled_and_what_is_not_is_dead_lettered() {
    let place = place("require");
    send(&place, &["jobs", "good"]);
    send(&place, &["plain", "bad"]);
    send(&place, &["-r", "jobs.x", "news", "by an exchange"]);
    let told = drain(&place);
    let mut worked: Vec<String> = place.read("worked").lines().map(str::to_owned).collect();
    worked.sort();
    assert_eq!(worked, ["jobs good", "jobs.x by an exchange"], "{told}");
    assert_eq!(reasons(&place), ["signature: it is not signed"]);
}

#[test]
fn a_warning_lets_it_through_and_off_says_nothing() {
    let warning = place("warn");
    send(&warning, &["plain", "bad"]);
    let told = drain(&warning);
    assert!(
        told.contains("signature: it is not signed; with `signing: require` it would not be handled"),
        "{told}"
    );
    assert_eq!(warning.read("worked"), "jobs bad\n");
    let off = place("off");
    send(&off, &["plain", "bad"]);
    assert!(!drain(&off).contains("signature"));
    assert_eq!(off.read("worked"), "jobs bad\n");
}

#[test]
fn what_was_altered_or_forged_is_dead_lettered() {
    for (column, change) in [
        ("body", "UPDATE message SET body = CAST('evil' AS BLOB)"),
        ("content type", "UPDATE message SET content_type = 'text/evil'"),
        ("id", "UPDATE message SET message_id = 'another'"),
        ("reply-to", "UPDATE message SET reply_to = 'qctl.tmp.evil'"),
        (
            "a header",
            "UPDATE message SET headers = replace(headers, 'tenant-one', 'tenant-two')",
        ),
        (
            "the key's name",
            "UPDATE message SET headers = replace(headers, 'v1 a ', 'v1 b ')",
        ),
    ] {
        let place = place("require");
        send(&place, &["--header", "tenant=tenant-one", "jobs", "good"]);
        tamper(&place, change);
        drain(&place);
        assert_eq!(place.read("worked"), "", "{column}");
        let reasons = reasons(&place);
        assert!(reasons[0].contains("it was forged or altered"), "{column}: {reasons:?}");
    }
}

#[test]
fn what_is_too_old_or_expired_is_dead_lettered() {
    let place = place("require");
    send(&place, &["jobs", "good"]);
    // An hour and more later.
    let past = |minutes: u32| {
        let mut command = place.command_of("faketime");
        command
            .args([&format!("{minutes} minutes"), env!("CARGO_BIN_EXE_qctl")])
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .args(["consumer", "--until-empty", "jobs"]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = past(61);
    assert!(told.contains("it was signed more than 1h ago"), "{told}");
    send(&place, &["-t", "60", "jobs", "good"]);
    // The broker has forgotten that it expires.
    tamper(&place, "UPDATE message SET expires = NULL, headers = headers");
    let told = past(2);
    assert!(told.contains("it has expired by its signature"), "{told}");
    assert_eq!(place.read("worked"), "");
}

#[test]
fn what_was_sent_elsewhere_is_dead_lettered() {
    let place = place("require");
    place
        .run(["managequeue", "declare", "other"])
        .any_stdout()
        .any_stderr()
        .check();
    place
        .run(["managequeue", "declare", "jobs"])
        .any_stdout()
        .any_stderr()
        .check();
    send(&place, &["other", "for another queue"]);
    send(&place, &["-r", "other.x", "news", "for another key"]);
    tamper(
        &place,
        "UPDATE message SET queue = (SELECT id FROM queue WHERE name = 'jobs'), routing_key = 'jobs'",
    );
    drain(&place);
    assert_eq!(place.read("worked"), "");
    let reasons = reasons(&place);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(
        reasons.iter().all(|reason| reason.contains("it was re-routed")),
        "{reasons:?}"
    );
}

#[test]
fn what_was_done_before_is_dead_lettered_when_it_comes_again() {
    let place = place("require");
    send(&place, &["jobs", "good"]);
    tamper(&place, "CREATE TABLE kept AS SELECT * FROM message");
    drain(&place);
    for round in 1..=2 {
        // Put back as it was, which the store itself does not notice.
        tamper(&place, "INSERT INTO message SELECT * FROM kept");
        let told = drain(&place);
        assert!(told.contains("it was handled before: this is a copy of it"), "{told}");
        assert_eq!(reasons(&place).len(), round);
        tamper(&place, "UPDATE kept SET id = id + 1000");
    }
    assert_eq!(place.read("worked"), "jobs good\n");
    let mode = fs::metadata(place.path("state/signing/jobs.seen"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_retry_and_a_redrive_are_no_copies() {
    let place = place("require");
    place.write(
        "qctl.yml",
        place
            .read("qctl.yml")
            .replace("attempts: 1", "attempts: 2, min: 1ms, max: 1ms"),
    );
    place.script("work", "cat >>worked; echo >>worked; [ -e well ]");
    send(&place, &["jobs", "good"]);
    place.run(["consumer", "-m", "2", "jobs"]).any_stderr().check();
    assert_eq!(place.read("worked"), "good\ngood\n");
    place.write("well", "");
    place
        .run(["--yes", "managequeue", "redrive", "jobs"])
        .any_stdout()
        .any_stderr()
        .check();
    let told = drain(&place);
    assert!(told.contains("(1 done, 0 not)"), "{told}");
    assert_eq!(place.read("worked"), "good\ngood\ngood\n");
}

#[test]
fn keys_are_rotated_by_their_names() {
    let place = place("require");
    send(&place, &["jobs", "with a"]);
    let config = place.read("qctl.yml");
    place.write("qctl.yml", config.replace("use: a", "use: b"));
    send(&place, &["jobs", "with b"]);
    place.write("qctl.yml", config.replace("a: a.key, ", "").replace("use: a", "use: b"));
    drain(&place);
    assert_eq!(place.read("worked"), "jobs with b\n");
    assert_eq!(
        reasons(&place),
        ["signature: it is signed with the key `a`, which is not among those known"]
    );
}

#[test]
fn what_is_refused_does_not_come_by_our_own_signature() {
    let place = place("require");
    let config = place.read("qctl.yml");
    place.write(
        "qctl.yml",
        format!("{config}listeners: [{{ on: message_consumption_failed, requeue: jobs }}]\n"),
    );
    send(&place, &["plain", "bad"]);
    let told = drain(&place);
    assert!(!told.contains("sent on by a listener"), "{told}");
    assert_eq!(reasons(&place), ["signature: it is not signed"]);
    assert_eq!(place.read("worked"), "");
}

#[test]
fn who_waits_is_answered_though_messages_are_signed() {
    let place = place("require");
    let config = place.read("qctl.yml").replace("{ exec: { run: [./work] } }", "command");
    place.write("qctl.yml", config);
    let consumer = place.start(["consumer", "jobs"]);
    consumer.wait_stderr("consuming");
    let run = place
        .run(["queuecommand", "--wait", "jobs", "echoback", "hi"])
        .any_stdout()
        .any_stderr()
        .check();
    assert!(run.stdout.contains("hi"), "{}", run.stdout);
    wait_for("its end", || consumer.stderr().contains("done consumer=jobs"));
}

#[test]
fn a_key_is_its_owner_s_alone_and_never_printed() {
    let place = Place::new();
    let run = place
        .run(["keys", "new", "keys.2026-a"])
        .any_stderr()
        .any_stdout()
        .check();
    let key = place.read("keys.2026-a");
    assert_eq!(key.trim().len(), 44, "32 bytes in base64");
    assert!(!run.stdout.contains(key.trim()) && !run.stderr.contains(key.trim()));
    let mode = fs::metadata(place.path("keys.2026-a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    place
        .run(["keys", "new", "keys.2026-a"])
        .code(65)
        .stderr_contains("no key is ever overwritten")
        .check();
    assert_eq!(place.read("keys.2026-a"), key, "nothing is overwritten");
}

#[test]
fn keys_that_are_none_are_mistakes_of_the_configuration() {
    let place = place("require");
    place.write("a.key", "not a key\n");
    for args in [&["consumer", "jobs"][..], &["queuemessage", "jobs", "x"]] {
        let run = place.run(args.iter().copied()).code(78).any_stderr().check();
        assert!(
            run.stderr.contains("the signing key `a`") && !run.stderr.contains("not a key"),
            "{}",
            run.stderr
        );
    }
    for (signing, told) in [
        ("{ keys: { a: a.key }, use: c }", "no key under `keys` is called `c`"),
        ("{ keys: { 'a b': a.key } }", "the name of a key has 1 to 64 letters"),
        ("{ keys: { a: { } } }", "`secret_file` is missing"),
    ] {
        place.write("qctl.yml", format!("include: [shared.yml]\nsigning: {signing}\n"));
        place
            .run(["config", "check"])
            .code(78)
            .any_stdout()
            .stderr_contains(told)
            .check();
    }
}
