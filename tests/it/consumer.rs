//! `qctl consumer`.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Place, Test, is_running, wait_for};

fn exec(script: &str, further: &str) -> Place {
    let place = Place::with_config(&format!(
        "connections: {{ here: 'sqlite://./queue.db' }}\n\
         producers: {{ demo: {{ queue: demo }} }}\n\
         consumers:\n  demo:\n    queue: demo\n    handler: {{ exec: {{ run: ['./run.sh'] }} }}\n    \
         retry: {{ attempts: 3, min: 10ms, max: 10ms }}\n{further}"
    ));
    place.script("run.sh", script);
    place
}

fn send(place: &Place, lines: &str) {
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn figure(place: &Place, name: &str) -> u64 {
    place.json(["managequeue", "info", "demo"])[name].as_u64().unwrap()
}

#[test]
fn each_line_is_handled_by_its_own_process() {
    let place = exec("cat >> out; echo >> out", "");
    send(&place, "a\nb\n");
    place
        .run(["consumer", "--until-empty", "demo"])
        .stderr_contains("2 done, 0 not")
        .check();
    assert_eq!(place.read("out"), "a\nb\n");
}

#[test]
fn captured_output_is_logged_line_by_line() {
    let place = exec("echo out; echo err >&2", "");
    send(&place, "a\n");
    let log = place
        .run(["consumer", "--until-empty", "demo"])
        .any_stderr()
        .check()
        .stderr;
    for (text, stream) in [("out", "stdout"), ("err", "stderr")] {
        let line = log.lines().find(|line| line.contains(&format!("stream=\"{stream}\"")));
        assert!(
            line.is_some_and(|line| line.contains(text) && line.contains("queue=\"demo\"")),
            "{log}"
        );
    }
}

#[test]
fn inherited_output_goes_where_the_consumers_own_goes() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: {} }\n\
         consumers:\n  demo: { handler: { exec: { run: [./run.sh], output: inherit } } }\n",
    );
    place.script("run.sh", "echo out; echo err >&2; test -z \"$FAIL\"");
    send(&place, "a\n");
    let log = place
        .run(["consumer", "--until-empty", "demo"])
        .stdout("out\n")
        .stderr_contains("err\n")
        .check()
        .stderr;
    assert!(!log.contains("stream="), "nothing of it is logged: {log}");
    assert!(log.contains("1 done, 0 not"), "{log}");
}

/// As README and help tell it: both handlers tell the attempts, counted from 0; only `exec` gives body and headers.
#[test]
fn a_child_learns_what_the_help_says() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { e: {}, c: {} }\n\
         consumers:\n  e: { handler: { exec: { run: [./run.sh, exec] } }, retry: { min: 10ms } }\n  \
         c: { handler: command, retry: { min: 10ms } }\n\
         commands: { it: { run: [./run.sh], allow: [command] } }\n",
    );
    // One failure, then success.
    place.script(
        "run.sh",
        "cat > $1-body; env > $1-$QCTL_ATTEMPT; test $QCTL_ATTEMPT = 1",
    );
    place
        .run(["queuemessage", "--header", "colour=blue", "e", "the body"])
        .any_stdout()
        .check();
    place
        .run(["queuecommand", "--header", "colour=blue", "c", "command"])
        .any_stdout()
        .check();
    for name in ["e", "c"] {
        place.run(["consumer", "-m", "2", name]).any_stderr().check();
    }
    for attempt in [0, 1] {
        let (exec, command) = (
            place.read(&format!("exec-{attempt}")),
            place.read(&format!("command-{attempt}")),
        );
        for facts in [&exec, &command] {
            assert!(facts.contains(&format!("QCTL_ATTEMPT={attempt}\n")), "{facts}");
            assert!(facts.contains("QCTL_MESSAGE_ID="), "{facts}");
        }
        assert!(exec.contains("QCTL_MESSAGE={") && exec.contains("blue"), "{exec}");
        assert!(
            !command.contains("QCTL_MESSAGE=") && !command.contains("blue"),
            "{command}"
        );
    }
    assert_eq!(
        (&*place.read("exec-body"), &*place.read("command-body")),
        ("the body", "")
    );
}

/// A program that only some message would ask for is missed at once.
#[test]
fn a_missing_program_of_commands_stops_it_at_the_start() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nconsumers: { c: { handler: command } }\n\
         commands: { it: { run: [./none.sh], allow: [command] } }\n",
    );
    place
        .run(["consumer", "c"])
        .code(72)
        .stderr_contains("commands.it.run")
        .check();
}

#[test]
fn a_queued_command_runs_without_any_configuration() {
    let place = Place::new();
    place
        .run([
            "queuecommand",
            "-q",
            "demo",
            "echoback",
            "hello world again",
            "--file=out.txt",
        ])
        .any_stdout()
        .check();
    place.run(["consumer", "--until-empty", "demo"]).any_stderr().check();
    assert!(place.read("out.txt").ends_with(" says: hello world again\n"));
}

/// Anyone who may queue can queue the built-in command, so it must not write where they like, nor do anything else.
#[test]
fn a_queued_echoback_can_do_no_harm() {
    let place = Place::new();
    for (options, reason) in [
        (r#"{"f":"/tmp/qctl-must-not-be-written"}"#, "relative path"),
        (r#"{"file":"../outside"}"#, "relative path"),
        (r#"{"config":"x.yml"}"#, "only"),
    ] {
        let body = format!(r#"{{"command":"echoback","arguments":["x"],"options":{options}}}"#);
        place.run(["-q", "queuemessage", "demo", &body]).any_stdout().check();
        place
            .run(["consumer", "--until-empty", "demo"])
            .stderr_contains(reason)
            .check();
    }
    let info = place.json(["managequeue", "info", "demo"]);
    assert_eq!((info["dead"].as_u64(), info["ready"].as_u64()), (Some(3), Some(0)));
}

#[test]
fn the_limits_are_echoed_as_understood() {
    let place = exec("exit 0", "");
    place
        .run([
            "consumer",
            "-m",
            "1000",
            "-t",
            "1h",
            "-l",
            "256",
            "--until-empty",
            "demo",
        ])
        .stderr_contains("limits: 1000 messages, 1h of time, 256.0 MiB of memory, until empty")
        .check();
}

#[test]
fn limits_end_it_with_the_exit_code_wanted() {
    let place = exec("exit 0", "");
    send(&place, "a\nb\nc\n");
    place
        .run(["consumer", "-m", "2", "--limit-exit-code", "9", "demo"])
        .code(9)
        .stderr_contains("Stopped because: limit reached: messages 2")
        .check();
    assert_eq!(figure(&place, "ready"), 1);
    place.run(["consumer", "--idle", "0.05", "demo"]).any_stderr().check();
    place.run(["consumer", "-t", "0.05", "demo"]).any_stderr().check();
    place
        .run(["consumer", "--timeout", "0.05", "demo"])
        .any_stderr()
        .check();
}

#[test]
fn delayed_messages_do_not_keep_until_empty_waiting() {
    let place = exec("exit 0", "");
    place
        .run(["queuemessage", "--delay", "1h", "demo", "x"])
        .any_stdout()
        .check();
    place
        .run(["consumer", "--until-empty", "demo"])
        .stderr_contains("0 done")
        .check();
}

#[test]
fn too_many_failures_end_it_with_75() {
    let place = exec("exit 1", "");
    send(&place, "a\nb\nc\n");
    place
        .run(["consumer", "--failures", "2", "demo"])
        .code(75)
        .stderr_contains("2 failures in a row")
        .check();
}

#[test]
fn what_fails_for_good_is_kept_with_its_reason() {
    let place = exec("echo why it failed >&2; exit 65", "");
    send(&place, "bad\n");
    place.run(["consumer", "--until-empty", "demo"]).any_stderr().check();
    let dead = place.json(["managequeue", "peek", "--state", "dead", "demo"]);
    assert_eq!(dead[0]["body"], "bad");
    assert_eq!(dead[0]["headers"]["x-qctl-exit-code"], 65);
    assert!(
        dead[0]["headers"]["x-qctl-stderr"]
            .as_str()
            .unwrap()
            .contains("why it failed")
    );
}

#[test]
fn a_missing_program_stops_it_and_keeps_the_message() {
    let place = exec("exit 0", "");
    std::fs::remove_file(place.path("run.sh")).unwrap();
    send(&place, "precious\n");
    place
        .run(["consumer", "demo"])
        .code(72)
        .stderr_contains("run.sh")
        .check();
    place.write("run.sh", "not executable");
    place
        .run(["consumer", "demo"])
        .code(72)
        .stderr_contains("run.sh")
        .check();
    let found = place.json(["managequeue", "peek", "demo"]);
    assert_eq!(
        (found[0]["body"].as_str(), found[0]["attempt"].as_u64()),
        (Some("precious"), Some(0))
    );
}

#[test]
fn the_first_signal_lets_what_runs_finish() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let place = exec(
            "echo begun > begun; while ! test -e go; do sleep 0.02; done; echo done > done",
            "",
        );
        send(&place, "a\nb\n");
        let mut consumer = place.start(["consumer", "demo"]);
        wait_for("the handler to begin", || place.path("begun").exists());
        consumer.signal(signal);
        consumer.wait_stderr("stopping");
        place.write("go", "");
        assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
        assert_eq!(place.read("done"), "done\n");
        assert_eq!(figure(&place, "ready"), 1);
    }
}

#[test]
fn the_second_signal_gives_back_what_runs() {
    let place = exec("echo $$ > pid; exec sleep 600", "");
    send(&place, "a\n");
    let mut consumer = place.start(["consumer", "demo"]);
    wait_for("the handler to begin", || place.read("pid").ends_with('\n'));
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(130), "{}", consumer.stderr());
    let pid: u32 = place.read("pid").trim().parse().unwrap();
    wait_for("the handler to be gone", || !is_running(pid));
    assert_eq!((figure(&place, "ready"), figure(&place, "dead")), (1, 0));
}

/// What `nohup` starts outlives its terminal.
#[test]
fn an_ignored_hang_up_is_none() {
    let place = exec(
        "echo $$ > pid; while ! test -e go; do sleep 0.02; done; echo done > done",
        "",
    );
    send(&place, "a\n");
    let mut command = place.command_of("nohup");
    command.args([env!("CARGO_BIN_EXE_qctl"), "consumer", "-m", "1", "demo"]);
    let mut consumer = place.launch(command);
    wait_for("the handler to begin", || place.path("pid").exists());
    consumer.signal(Signal::HUP);
    place.write("go", "");
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    assert!(!consumer.stderr().contains("stopping"), "{}", consumer.stderr());
    assert_eq!(place.read("done"), "done\n");
}

#[test]
fn without_signals_it_dies_at_once() {
    let place = exec("exit 0", "");
    let mut consumer = place.start(["consumer", "-w", "demo"]);
    consumer.wait_stderr("limits: none");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), None);
}

#[test]
fn a_killed_consumer_leaves_nothing_running_and_loses_nothing() {
    let place = exec("echo $$ >> pids; exec sleep 600", "");
    send(&place, "a\n");
    let mut consumer = place.start(["consumer", "demo"]);
    wait_for("the handler to begin", || place.read("pids").ends_with('\n'));
    let pid: u32 = place.read("pids").trim().parse().unwrap();
    consumer.signal(Signal::KILL);
    assert_eq!(consumer.wait(), None);
    wait_for("the handler to be ended by the guardian", || !is_running(pid));
    wait_for("the message to come back", || figure(&place, "ready") == 1);
}

#[test]
fn two_consumers_share_one_queue() {
    let place = exec("line=$(cat); echo \"$line\" >> out", "");
    let lines = (0..40).fold(String::new(), |lines, number| lines + &number.to_string() + "\n");
    send(&place, &lines);
    let mut consumers: Vec<_> = (0..2)
        .map(|_| place.start(["consumer", "--idle", "0.3", "demo"]))
        .collect();
    for consumer in &mut consumers {
        assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    }
    let mut handled: Vec<u32> = place.read("out").lines().map(|line| line.parse().unwrap()).collect();
    handled.sort_unstable();
    assert_eq!(handled, (0..40).collect::<Vec<u32>>());
}

#[test]
fn a_child_that_prints_without_end_does_not_fill_the_memory() {
    let place = exec("head -c 1000000000 /dev/zero", "");
    send(&place, "a\n");
    place
        .run([
            "consumer",
            "--until-empty",
            "-q",
            "--log-file",
            "log",
            "-l",
            "200",
            "demo",
        ])
        .check();
    assert!(std::fs::metadata(place.path("log")).unwrap().len() < 100 << 20);
    assert_eq!(figure(&place, "dead"), 0);
}

#[test]
fn a_child_that_will_not_end_is_ended_with_all_its_own() {
    let place = exec(
        "trap '' TERM; sleep 601 & echo $! > grandchild; sleep 602; sleep 603",
        "",
    );
    let config = place
        .read("qctl.yml")
        .replace("run: ['./run.sh']", "run: ['./run.sh'], timeout: 300ms");
    place.write("qctl.yml", config.replace("attempts: 3", "attempts: 1"));
    send(&place, "a\n");
    place.run(["consumer", "--until-empty", "demo"]).any_stderr().check();
    let grandchild: u32 = place.read("grandchild").trim().parse().unwrap();
    wait_for("the grandchild to be gone", || !is_running(grandchild));
    assert_eq!(figure(&place, "dead"), 1);
}

#[test]
fn log_lines_go_to_the_file_named() {
    let place = exec("echo said; exit 0", "");
    send(&place, "a\n");
    for _ in 0..2 {
        place
            .run(["consumer", "-q", "--until-empty", "--log-file", "log", "demo"])
            .check();
    }
    place
        .run(["consumer", "--until-empty", "--log-file", "/nonexistent/log", "demo"])
        .code(65)
        .stderr_contains("--log-file")
        .check();
}

/// A log on a full disk, or one that nobody reads any more, costs its lines and nothing else.
#[test]
fn a_log_that_cannot_be_written_ends_no_consumer() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    for (case, stderr, log_file) in [
        ("a full disk", full(), None),
        ("a closed pipe", closed(), None),
        ("a log file on a full disk", full(), Some("/dev/full")),
    ] {
        let place = exec("echo said; echo said >&2", "");
        send(&place, "a\nb\n");
        let mut command = place.command();
        command.args(["consumer", "-m", "2", "demo"]).stderr(stderr);
        if let Some(path) = log_file {
            command.args(["--log-file", path]);
        }
        let status = command.status().unwrap();
        assert_eq!(status.code(), Some(0), "{case}");
        assert_eq!((figure(&place, "ready"), figure(&place, "held")), (0, 0), "{case}");
    }
}

#[test]
fn a_routing_key_binds_only_where_none_is_configured() {
    let config = |keys: &str| {
        format!(
            "connections: {{ here: 'sqlite://./queue.db' }}\n\
             producers: {{ p: {{ exchange: {{ name: e, type: topic }} }} }}\n\
             consumers: {{ c: {{ queue: {{ name: q, bindings: [{{ exchange: e{keys} }}] }}, handler: {{ exec: {{ run: [cat] }} }} }} }}\n"
        )
    };
    Test::new()
        .config(&config(", routing_key: 'a.#'"))
        .args(["consumer", "-r", "b", "--until-empty", "c"])
        .code(78)
        .stderr_contains("a.#")
        .check();
    let place = Place::with_config(&config(""));
    place
        .run(["consumer", "-r", "b.*", "--until-empty", "c"])
        .any_stderr()
        .check();
    place
        .run(["queuemessage", "-r", "b.x", "p", "body"])
        .any_stdout()
        .check();
    assert_eq!(place.json(["managequeue", "info", "c"])["ready"], 1);
    let plain = exec("exit 0", "");
    plain
        .run(["consumer", "-r", "key", "--until-empty", "demo"])
        .code(78)
        .stderr_contains("bound to no exchange")
        .check();
}

#[test]
fn bad_bodies_are_kept_aside_and_the_next_is_handled() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n\
         consumers: { demo: { queue: demo, handler: { command: {} } } }\n\
         commands: { c: { run: ['./run.sh'], allow: ['app:*'] } }\n",
    );
    place.script("run.sh", "echo \"$@\" >> out");
    for body in [
        "not json",
        "[]",
        "{\"command\": 5}",
        "{\"command\":\"app:x\",\"arguments\":\"no list\"}",
        "",
    ] {
        place.run(["queuemessage", "demo", body]).any_stdout().check();
    }
    place
        .run([
            "queuemessage",
            "demo",
            r#"{"command":"app:x","options":{"x; touch P; #":1}}"#,
        ])
        .any_stdout()
        .check();
    place
        .run(["queuecommand", "--novalidate", "demo", "rm:all"])
        .any_stdout()
        .check();
    place
        .run(["queuecommand", "demo", "app:x", "fine", "--n=v"])
        .any_stdout()
        .check();
    place
        .run(["consumer", "--until-empty", "demo"])
        .stderr_contains("1 done, 7 not")
        .check();
    let ran = place.read("out");
    let mut words: Vec<&str> = ran.split_whitespace().collect();
    words.sort_unstable();
    assert_eq!(words, ["--n=v", "app:x", "fine"]);
    assert_eq!(figure(&place, "dead"), 7);
    assert!(!place.path("P").exists());
}

#[test]
fn an_unknown_consumer_names_those_there_are() {
    let place = exec("exit 0", "");
    place
        .run(["consumer", "demmo"])
        .code(66)
        .stderr_contains("no consumer is called `demmo`; did you mean `demo`")
        .check();
}

#[test]
fn an_idle_consumer_hears_of_new_messages_at_once() {
    let place = exec("cat >> out", "");
    let mut consumer = place.start(["consumer", "-m", "1", "demo"]);
    consumer.wait_stderr("limits: 1 messages");
    place.run(["queuemessage", "demo", "x"]).any_stdout().check();
    let begun = std::time::Instant::now();
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_log_file_that_cannot_be_written_is_told_with_its_exit_code() {
    for (file, code) in [("/nonexistent/log", 65), ("/sys/qctl-log", 77)] {
        Test::new()
            .args(["consumer", "--log-file", file, "demo"])
            .code(code)
            .stderr_contains(&format!("--log-file {file} cannot be written; "))
            .check();
    }
}

/// Behind a queue of dead letters there is no other: what is given up there stays.
#[test]
fn dead_letters_are_not_lost_by_a_consumer_of_their_own() {
    for config in [
        "",
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: {}, demo.dead: {} }\n\
         consumers: { demo: { handler: command }, demo.dead: { handler: command } }\n",
    ] {
        let place = if config.is_empty() {
            Place::new()
        } else {
            Place::with_config(config)
        };
        place
            .run(["queuemessage", "-q", "demo", "no command"])
            .any_stdout()
            .check();
        for queue in ["demo", "demo.dead"] {
            place.run(["consumer", "--until-empty", queue]).any_stderr().check();
        }
        let info = place.json(["managequeue", "info", "demo.dead"]);
        assert_eq!(
            (&info["delayed"], &info["dead_letter"]),
            (&1.into(), &serde_json::Value::Null),
            "{info}"
        );
        let names = place.json(["managequeue", "list"]).to_string();
        assert!(
            names.contains("demo.dead") && !names.contains("demo.dead.dead"),
            "{names}"
        );
    }
}

#[test]
fn a_name_with_control_characters_is_refused_before_it_is_a_queue() {
    let place = Place::new();
    for name in ["de\nmo", "de\u{1b}[2Jmo"] {
        let said = place
            .run(["consumer", "--until-empty", name])
            .code(65)
            .any_stderr()
            .check()
            .stderr;
        assert!(
            said.contains("control character") && !said.contains('\u{1b}'),
            "{said:?}"
        );
        let said = place
            .run(["managequeue", "declare", name])
            .code(65)
            .any_stderr()
            .check()
            .stderr;
        assert!(said.contains("control character"), "{said:?}");
    }
    assert!(!place.json(["managequeue", "list"]).to_string().contains("mo"));
}

/// `--until-empty` ends when nothing is left to do, not while a message is on its way from the store: a big one takes longer than
/// the moment that an empty queue is given.
#[test]
fn until_empty_waits_for_what_is_being_claimed() {
    let place = exec("wc -c >> out", "");
    place.write("big", vec![b'x'; 16 << 20]);
    place
        .run(["queuemessage", "--file", "big", "demo"])
        .any_stdout()
        .check();
    place
        .run(["consumer", "--until-empty", "demo"])
        .stderr_contains("1 done, 0 not")
        .check();
    assert_eq!(figure(&place, "ready"), 0);
}
