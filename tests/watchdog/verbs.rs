//! What an operator asks for.

use rustix::process::Signal;

use crate::ground::{STORE, Yard, kill};
use crate::support::{Place, is_running, wait_for};

#[test]
fn check_starts_what_was_never_started_and_is_silent_when_all_is_well() {
    let yard = Yard::honest(", instances: 2");
    let told = yard.dog(&["check"], 0).stdout;
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.starts_with("w.1: started (pid ") && told.contains("\nw.2: started (pid "),
        "{told}"
    );
    let (one, two) = (yard.pid("w", 1), yard.pid("w", 2));
    yard.place.run(["watchdog", "check"]).check();
    let told = yard.dog(&["-v", "check"], 0).stdout;
    assert!(
        told.contains("w.1: ") && told.contains(&format!("(pid {two})")),
        "{told}"
    );
    assert_eq!((yard.pid("w", 1), yard.pid("w", 2)), (one, two));
    yard.finish();
    assert_eq!((yard.starts(1), yard.starts(2)), (1, 1));
}

#[test]
fn bare_it_starts_and_it_has_its_old_names() {
    for name in ["watchdog", "workerswatchdog", "kaliop_queueing:workerswatchdog"] {
        let yard = Yard::honest("");
        yard.place.run([name]).stdout_contains("w.1: started (pid ").check();
        yard.place.run([name, "check"]).check();
        yard.finish();
    }
}

#[test]
fn what_is_stopped_stays_stopped_until_it_is_started() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let pid = yard.pid("w", 1);
    yard.place
        .run(["watchdog", "stop", "w"])
        .stdout("w.1: stopped\n")
        .check();
    assert!(!is_running(pid));
    yard.place.run(["watchdog", "check"]).check();
    assert_eq!(
        (yard.of("w", 1)["state"].clone(), yard.starts(1)),
        ("stopped".into(), 1)
    );
    // To stop what is stopped is nothing to tell.
    yard.place.run(["watchdog", "stop"]).check();
    yard.dog(&["start", "w"], 0);
    wait_for("the second start", || yard.starts(1) == 2);
    yard.finish();
}

#[test]
fn stop_lets_a_worker_finish_and_now_does_not() {
    let yard = Yard::new("  w: { run: [./slow] }\n");
    yard.place.script(
        "slow",
        "trap 'sleep 0.5; echo finished >> out; exit 0' TERM\necho up >> out\nwhile :; do sleep 0.05; done",
    );
    yard.dog(&["start"], 0);
    wait_for("the worker", || yard.place.read("out") == "up\n");
    yard.dog(&["stop"], 0);
    assert_eq!(yard.place.read("out"), "up\nfinished\n");
    yard.dog(&["start"], 0);
    wait_for("the worker", || yard.place.read("out").ends_with("finished\nup\n"));
    yard.dog(&["stop", "--now"], 0);
    assert!(yard.place.read("out").ends_with("finished\nup\n"));
    yard.finish();
}

#[test]
fn a_stop_of_a_worker_that_never_ran_keeps_it_stopped() {
    let yard = Yard::honest("");
    yard.place.run(["watchdog", "stop"]).check();
    yard.place.run(["watchdog", "check"]).check();
    yard.assert_gone();
}

#[test]
fn restart_rolls() {
    let yard = Yard::honest(", instances: 3");
    yard.dog(&["start"], 0);
    for instance in 1..=3 {
        yard.wait_state("w", instance, "running");
    }
    let old: Vec<u32> = (1..=3).map(|instance| yard.pid("w", instance)).collect();
    let mut rolling = yard.place.start(["watchdog", "restart"]);
    let mut fewest = 3;
    while !rolling.has_ended() {
        let running = yard.status().iter().filter(|status| status["pid"].is_u64()).count();
        fewest = fewest.min(running);
    }
    assert_eq!(rolling.wait(), Some(0), "{}", rolling.stderr());
    assert!(fewest >= 2, "only {fewest} of 3 ran");
    for (instance, old) in (1..=3).zip(old) {
        assert_ne!(yard.pid("w", instance), old);
        assert!(!is_running(old));
    }
    yard.finish();
}

#[test]
fn restart_does_not_take_the_others_down_with_one_that_does_not_come_up() {
    let yard = Yard::new("  w: { run: [./fragile], instances: 2 }\n");
    yard.place.script("fragile", "[ -e broken ] && exit 3\nexec sleep 1000");
    yard.dog(&["start"], 0);
    for instance in 1..=2 {
        yard.wait_state("w", instance, "running");
    }
    let two = yard.pid("w", 2);
    yard.place.write("broken", "");
    let told = yard.dog(&["restart"], 75).stdout;
    assert!(told.contains("w.1: does not come up: in backoff: exit 3"), "{told}");
    assert_eq!(yard.pid("w", 2), two);
    yard.finish();
}

#[test]
fn a_keeper_that_is_suspended_goes_on() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let keeper = yard.keeper("w", 1);
    kill(keeper, Signal::STOP);
    wait_for("the keeper to be suspended", || {
        std::fs::read_to_string(format!("/proc/{keeper}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    let told = yard.dog(&["check"], 0).stdout;
    assert!(
        told.contains("its keeper was suspended (SIGSTOP), and goes on"),
        "{told}"
    );
    yard.place.run(["watchdog", "check"]).check();
    kill(keeper, Signal::STOP);
    yard.finish();
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let yard = Yard::honest("");
    let told = yard.dog(&["check", "x"], 66).stderr;
    assert!(
        told.starts_with("qctl: no worker is called `x` in ") && told.contains("(there is w)"),
        "{told}"
    );
    let place = Place::new();
    place
        .run(["watchdog", "check"])
        .code(78)
        .stderr_contains("no configuration was found, so there are no workers")
        .check();
    let place = Place::with_config(STORE);
    place
        .run(["watchdog", "check"])
        .code(78)
        .stderr_contains("there are no workers; say under `workers:`")
        .check();
    assert!(!place.path("state").exists());
    let place = Place::with_config(&format!("{STORE}workers: {{ {}: {{ run: [a] }} }}\n", "x".repeat(201)));
    place
        .run(["watchdog", "check"])
        .code(78)
        .stderr_contains("must not be longer than 200 bytes")
        .check();
    assert!(!place.path("state").exists());
    for (worker, expected) in [
        ("w: { consumer: mial }", "no consumer is called `mial`"),
        ("w: { }", "`consumer` is missing"),
        ("w: { run: [a], consumer: b }", "is given, and so is a consumer"),
        ("w: { run: [a], instances: 0 }", "instances: must be"),
        ("w: { run: [a], nice: 40 }", "must be from -20 to 19"),
        ("w: { run: [a], limits: { x: 1 } }", "is no limit"),
        ("w: { run: [a], umask: 999 }", "must be octal"),
        ("w: { run: [a], options: { m: 1 } }", "is for consumers"),
        ("w: { run: [a], backoff: { min: 1ms } }", "must be at least 100ms"),
        (
            "w: { run: [a], user: nobody-of-this-name }",
            "there is no user nobody-of-this-name",
        ),
    ] {
        let place = Place::with_config(&format!("{STORE}workers:\n  {worker}\n"));
        let error = place.run(["watchdog", "check"]).code(78).any_stderr().check().stderr;
        assert!(
            error.contains("./qctl.yml:3: workers.w") && error.contains(expected),
            "{worker}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn options_of_a_consumer_are_checked_before_anything_is_started() {
    let config = |options: &str| {
        format!(
            "{STORE}consumers:\n  mail: {{ handler: noop }}\nworkers:\n  mail:\n    consumer: mail\n    options: {options}\n"
        )
    };
    for (options, expected) in [
        ("{ massages: 5 }", "unexpected argument '--massages'"),
        ("{ messages: many }", "invalid value 'many'"),
        (
            "{ config: x }",
            "is not for workers: the watchdog gives its own configuration",
        ),
        ("{ w: true }", "a stop would end the worker in the middle of a message"),
    ] {
        let yard = Yard::with(&config(options));
        let error = yard.dog(&["check"], 78).stderr;
        assert!(error.contains("./qctl.yml:7: workers.mail.options"), "{error}");
        assert!(error.contains(expected), "{options}: {error}");
        yard.assert_gone();
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let yard = Yard::honest(", instances: 2");
    let told = yard.dog(&["check", "--dry-run"], 0).stdout;
    assert_eq!(told, "w.1: would be started\nw.2: would be started\n");
    yard.assert_gone();
    yard.dog(&["start"], 0);
    yard.configure("  w: { run: [./honest], nice: 1 }\n");
    let told = yard.dog(&["check", "--dry-run"], 0).stdout;
    assert_eq!(
        told,
        "w.1: would be restarted: its configuration has changed\nw.2: would be stopped: it is configured no more\n"
    );
    assert_eq!((yard.starts(1), yard.starts(2)), (1, 1));
    yard.finish();
}

#[test]
fn a_start_during_a_slow_stop_starts_all() {
    let yard = Yard::new("  a: { run: [./slow], instances: 2 }\n  b: { run: [./slow] }\n");
    yard.place.script(
        "slow",
        "trap 'sleep 0.7; exit 0' TERM\necho up >> up\nwhile :; do sleep 0.05; done",
    );
    yard.dog(&["start"], 0);
    wait_for("all", || yard.place.read("up").lines().count() == 3);
    let mut stopping = yard.place.start(["watchdog", "stop"]);
    wait_for("the stop", || {
        yard.status().iter().all(|status| status["state"] == "stopping")
    });
    let told = yard.dog(&["start"], 0).stdout;
    assert_eq!(told.matches(": started (pid ").count(), 3, "{told}");
    assert_eq!(stopping.wait(), Some(0));
    assert_eq!(yard.status().iter().filter(|status| status["pid"].is_u64()).count(), 3);
    yard.finish();
}

#[test]
fn a_restart_that_is_overtaken_by_a_stop_ends() {
    let yard = Yard::honest(", instances: 3");
    yard.dog(&["start"], 0);
    for instance in 1..=3 {
        yard.wait_state("w", instance, "running");
    }
    let mut restarting = yard.place.start(["watchdog", "restart"]);
    wait_for("the first restart", || yard.starts(1) == 2);
    yard.dog(&["stop"], 0);
    assert!(restarting.wait().is_some());
    yard.assert_gone();
    yard.finish();
}
