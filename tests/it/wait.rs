//! `--wait`: a queued command that can stand in a script.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, wait_for};

const CONFIG: &str = "
connections: { here: 'sqlite://./queue.db' }
producers: { demo: { queue: demo } }
consumers: { demo: { queue: demo, handler: { command: {} }, retry: { attempts: 3, min: 10ms, max: 10ms } } }
commands: { shell: { run: ['./run.sh'], allow: ['app:*'] } }
";

fn place(script: &str) -> Place {
    let place = Place::with_config(CONFIG);
    place.script("run.sh", script);
    place
}

#[test]
fn output_and_exit_code_are_the_remote_commands_own() {
    let place = place("printf 'out\\000put'; printf 'err' >&2; exit 3");
    let _consumer = place.start(["consumer", "demo"]);
    let finished = place
        .run(["queuecommand", "--wait", "demo", "app:x"])
        .code(3)
        .any_stdout()
        .stderr("err")
        .check();
    assert_eq!(finished.stdout_bytes, b"out\0put");
}

#[test]
fn a_death_by_signal_is_128_and_more() {
    let place = place("kill -KILL $$");
    let _consumer = place.start(["consumer", "demo"]);
    place.run(["queuecommand", "--wait", "demo", "app:x"]).code(137).check();
}

#[test]
fn one_attempt_unless_retries_are_wanted() {
    let script = "echo once >> tries; test $(wc -l < tries) -ge 2";
    let one = place(script);
    let _consumer = one.start(["consumer", "demo"]);
    one.run(["queuecommand", "--wait", "demo", "app:x"]).code(1).check();
    assert_eq!(one.read("tries"), "once\n");
    let two = place(script);
    let _consumer = two.start(["consumer", "demo"]);
    two.run(["queuecommand", "--wait", "--retry", "demo", "app:x"])
        .code(0)
        .check();
    assert_eq!(two.read("tries"), "once\nonce\n");
}

#[test]
fn long_output_is_cut_and_that_is_told() {
    let place = place("head -c 3000000 /dev/zero");
    let _consumer = place.start(["consumer", "demo"]);
    let finished = place
        .run(["queuecommand", "--wait", "demo", "app:x"])
        .any_stdout()
        .stderr_contains("1 MiB")
        .check();
    assert_eq!(finished.stdout_bytes.len(), 1 << 20);
}

#[test]
fn a_time_out_withdraws_what_was_not_started() {
    let place = place("exit 0");
    place
        .run(["queuecommand", "--wait", "--wait-timeout", "0.2", "demo", "app:x"])
        .code(124)
        .stderr_contains("withdrawn")
        .check();
    assert_eq!(place.json(["managequeue", "info", "demo"])["ready"], 0);
    let finished = place
        .run([
            "queuecommand",
            "--output",
            "json",
            "--wait",
            "--wait-timeout",
            "0.2",
            "demo",
            "app:x",
        ])
        .code(124)
        .any_stdout()
        .any_stderr()
        .check();
    let document: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&document["state"], &document["exit_code"]),
        (&"withdrawn".into(), &124.into())
    );
    assert_eq!(document["ok"], false);
    assert!(!document["id"].as_str().unwrap().is_empty());
}

#[test]
fn one_interrupt_withdraws_what_was_not_started() {
    let place = place("exit 0");
    place
        .run(["managequeue", "declare", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut waiting = place.start(["queuecommand", "--wait", "demo", "app:x"]);
        let ready = || place.json(["managequeue", "info", "demo"])["ready"].clone();
        wait_for("the message", || ready() == 1);
        waiting.signal(signal);
        assert_eq!(waiting.wait(), Some(130), "{}", waiting.stderr());
        waiting.wait_stderr("withdrawn");
        assert_eq!(ready(), 0);
    }
}

#[test]
fn a_time_out_names_what_has_started() {
    let place = place("echo begun > begun; exec sleep 60");
    let _consumer = place.start(["consumer", "demo"]);
    let mut child = place
        .command()
        .args([
            "queuecommand",
            "--output",
            "json",
            "--wait",
            "--wait-timeout",
            "60",
            "demo",
            "app:x",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the command to begin", || place.read("begun") == "begun\n");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = child.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(status.code(), Some(130), "{error}");
    assert!(error.contains("was started"), "{error}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&document["state"], &document["exit_code"]),
        (&"in-progress".into(), &130.into())
    );
    assert!(error.contains(document["id"].as_str().unwrap()), "{error}");
}

#[test]
fn own_failures_are_never_taken_for_the_commands() {
    let place = place("exit 0");
    place
        .run(["queuecommand", "--wait", "nobody", "app:x"])
        .code(125)
        .stderr_contains("no producer is called `nobody`")
        .check();
    place
        .run(["queuecommand", "--wait", "demo", "rm:all"])
        .code(125)
        .stderr_contains("not allowed")
        .check();
    place
        .run(["queuecommand", "--wait", "--bogus", "demo", "app:x"])
        .code(125)
        .stderr_contains("--bogus")
        .check();
    place
        .run(["queuecommand", "--wait", "--config", "none.yml", "demo", "app:x"])
        .code(125)
        .any_stderr()
        .check();
}

#[test]
fn a_command_the_consumer_refuses_is_a_failure_of_qctl() {
    let place = place("exit 0");
    let _consumer = place.start(["consumer", "demo"]);
    place
        .run(["queuecommand", "--wait", "--novalidate", "demo", "rm:all"])
        .code(125)
        .stderr_contains("qctl: ")
        .check();
}

#[test]
fn json_has_all_of_the_reply() {
    let place = place("echo out; exit 4");
    let _consumer = place.start(["consumer", "demo"]);
    let finished = place
        .run(["queuecommand", "--output", "json", "--wait", "demo", "app:x"])
        .code(4)
        .any_stdout()
        .check();
    let document: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (document["exit_code"].as_i64(), document["stdout"].as_str()),
        (Some(4), Some("out\n"))
    );
    assert_eq!(document["state"], "settled");
    assert!(!document["id"].as_str().unwrap().is_empty());
}

/// Whoever waits is told at once when there is nothing left to wait for.
#[test]
fn a_message_that_goes_unhandled_is_answered() {
    let purge: &[&str] = &["managequeue", "purge", "--yes", "demo"];
    let delete: &[&str] = &["managequeue", "delete", "--yes", "demo"];
    for (verb, reason) in [
        (purge, "purged"),
        (delete, "deleted"),
        (&[], "dropped"),
        (&["expire"], "expired"),
    ] {
        let place = place("exit 0");
        let ttl = if verb == ["expire"] { "1" } else { "600" };
        let mut waiting = place.start([
            "queuecommand",
            "--wait",
            "--wait-timeout",
            "0",
            "-t",
            ttl,
            "--delay",
            "500",
            "demo",
            "app:x",
        ]);
        let peeked = || place.json(["managequeue", "peek", "--state", "delayed", "demo"]);
        let mut consumer = None;
        if verb == ["expire"] {
            consumer = Some(place.start(["consumer", "demo"]));
        } else {
            let info = ["managequeue", "info", "demo"];
            wait_for("the message to be queued", || {
                place
                    .run(["managequeue", "declare", "demo"])
                    .any_stdout()
                    .any_stderr()
                    .check();
                place.json(info)["delayed"] == 1
            });
            let id = peeked()[0]["id"].as_str().unwrap().to_owned();
            let drop = ["managequeue", "drop", "--yes", "--id", &id, "demo"];
            place
                .run(if verb.is_empty() { &drop[..] } else { verb }.iter().copied())
                .any_stdout()
                .any_stderr()
                .check();
        }
        assert_eq!(waiting.wait(), Some(125), "{}", waiting.stderr());
        assert!(waiting.stderr().contains(reason), "{}", waiting.stderr());
        drop(consumer);
    }
}
