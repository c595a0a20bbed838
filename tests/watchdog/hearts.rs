//! Workers that hang, and workers that only seem to.

use std::time::Duration;

use rustix::process::Signal;

use crate::ground::{STORE, Yard, kill};
use crate::support::{is_running, wait_for};

fn consumer(handler: &str, heartbeat: &str) -> Yard {
    Yard::with(&format!(
        "{STORE}producers:\n  mail: {{}}\nconsumers:\n  mail: {{ handler: {handler} }}\nworkers:\n  mail: {{ consumer: mail, heartbeat: \
         {heartbeat}, backoff: {{ min: 100ms, max: 300ms }} }}\n"
    ))
}

#[test]
fn a_consumer_that_hangs_is_ended_and_started_anew() {
    let yard = consumer("noop", "6s");
    yard.dog(&["start"], 0);
    yard.wait_state("mail", 1, "running");
    let hung = yard.pid("mail", 1);
    kill(hung, Signal::STOP);
    let next = yard.wait_new_pid("mail", 1, hung);
    assert!(!is_running(hung) && is_running(next));
    let status = yard.of("mail", 1);
    let reason = status["last_exit"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("no sign of life for "), "{status}");
    assert_eq!(status["failures"], 1, "{status}");
    yard.finish();
}

#[test]
fn an_idle_consumer_and_one_whose_child_runs_do_not_hang() {
    let yard = consumer("{ exec: { run: [sleep, '5'], timeout: none } }", "3s");
    yard.dog(&["start"], 0);
    yard.wait_state("mail", 1, "running");
    let pid = yard.pid("mail", 1);
    yard.place
        .run(["queuemessage", "mail", "x"])
        .any_stdout()
        .any_stderr()
        .check();
    // Longer than its heartbeat allows: first busy, then idle.
    wait_for("the message", || yard.of("mail", 1)["done"] == 1);
    let settled = std::time::Instant::now();
    wait_for("a while", || settled.elapsed() > Duration::from_secs(4));
    assert_eq!(
        (yard.pid("mail", 1), yard.of("mail", 1)["restarts"].clone()),
        (pid, 0.into())
    );
    let status = yard.of("mail", 1);
    assert!(status["last_message"].is_string(), "{status}");
    assert!(
        status["last_message_age"].as_f64().is_some_and(|age| age > 3.0),
        "{status}"
    );
    yard.finish();
}

#[test]
fn a_consumer_whose_broker_is_away_does_not_hang() {
    let yard = Yard::with(
        "state_dir: state\nconnections: { rabbit: 'amqp://guest:guest@127.0.0.1:9/' }\nconsumers:\n  mail: { handler: noop }\nworkers:\n  \
         mail: { consumer: mail, heartbeat: 2s }\n",
    );
    yard.dog(&["start"], 0);
    yard.wait_state("mail", 1, "running");
    let pid = yard.pid("mail", 1);
    // Tries to connect come ever more rarely; its signs of life do not.
    wait_for("a fourth try", || {
        yard.log("mail", 1).matches("cannot connect yet").count() >= 4
    });
    wait_for("6 s", || yard.of("mail", 1)["uptime"].as_f64() > Some(6.0));
    assert_eq!(
        (yard.pid("mail", 1), yard.of("mail", 1)["restarts"].clone()),
        (pid, 0.into())
    );
    yard.finish();
}

#[test]
fn another_program_has_a_heart_only_if_it_is_said() {
    let yard = Yard::new(
        "  with: { run: [./beats], heartbeat: 2s, backoff: { min: 100ms, max: 300ms } }\n  without: { run: [./honest] }\n",
    );
    yard.place.script(
        "beats",
        "echo x >> begun\nfor n in 1 2 3 4 5 6; do touch \"$QCTL_HEARTBEAT\"; sleep 0.5; done\necho silent >> begun\nexec sleep 1000",
    );
    yard.dog(&["start"], 0);
    wait_for("its end", || yard.place.read("begun") == "x\nsilent\nx\n");
    let status = yard.of("with", 1);
    assert!(
        status["last_exit"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("no sign of life"),
        "{status}"
    );
    assert_eq!(yard.of("without", 1)["restarts"], 0);
    yard.finish();
}

/// Clocks that people set do not matter: faketime moves the wall clock of watchdog, keeper and worker.
#[test]
fn a_clock_set_back_changes_nothing() {
    let yard = Yard::new("  w: { run: [./bad], backoff: { min: 200ms, max: 400ms } }\n");
    yard.place.script("bad", "echo x >> starts\nexit 1");
    let faked = |offset: &str, verb: &str| {
        let mut command = yard.place.command_of("faketime");
        command.args(["-f", offset, env!("CARGO_BIN_EXE_qctl"), "watchdog", verb]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{output:?}");
    };
    faked("+0d", "start");
    wait_for("two starts", || yard.place.read("starts").lines().count() >= 2);
    faked("-10d", "check");
    let before = yard.place.read("starts").lines().count();
    wait_for("two more", || yard.place.read("starts").lines().count() >= before + 2);
    faked("+10d", "check");
    let before = yard.place.read("starts").lines().count();
    wait_for("two more", || yard.place.read("starts").lines().count() >= before + 2);
    yard.finish();
}
