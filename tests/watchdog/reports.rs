//! What is told: status in all its forms, logs, events.

use rustix::process::Signal;

use crate::ground::{Yard, kill};
use crate::support::wait_for;

#[test]
fn a_status_has_four_forms() {
    let yard = Yard::new(
        "  good: { run: [sleep, '1000'], instances: 2 }\n  bad: { run: ['false'] }\n  off: { run: [sleep, '1'] }\n",
    );
    yard.dog(&["stop", "off"], 0);
    yard.dog(&["check"], 0);
    yard.wait_state("good", 1, "running");
    yard.wait_state("good", 2, "running");
    yard.wait_state("bad", 1, "backoff");
    let table = yard.dog(&["status"], 0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("WORKER  STATE    PID "), "{table}");
    assert!(lines[1].starts_with("bad.1   backoff  -    "), "{table}");
    assert!(lines[4].starts_with("off.1   stopped  -    "), "{table}");
    let status = yard.of("good", 2);
    for key in [
        "state",
        "pid",
        "keeper_pid",
        "uptime",
        "restarts",
        "failures",
        "memory",
        "log",
        "wanted",
    ] {
        assert!(!status[key].is_null(), "{key} of {status}");
    }
    let only = yard.place.json(["watchdog", "status", "good"]);
    assert_eq!(only.as_array().unwrap().len(), 2);

    let nagios = yard.dog(&["status", "--format", "nagios"], 1).stdout;
    assert!(
        nagios.starts_with(
            "WORKERS WARNING - 2 of 3 running, 1 stopped by the operator: bad.1 backoff | running=2 backoff=1 broken=0 stopped=1 "
        ),
        "{nagios}"
    );
    let good = yard.dog(&["status", "--format", "nagios", "good"], 0).stdout;
    assert!(good.starts_with("WORKERS OK - 2 of 2 running | "), "{good}");
    kill(yard.keeper("good", 1), Signal::KILL);
    wait_for("its end", || yard.of("good", 1)["state"] == "unkept");
    let nagios = yard.dog(&["status", "--format", "nagios"], 2).stdout;
    assert!(nagios.starts_with("WORKERS CRITICAL - 1 of 3 running"), "{nagios}");

    let metrics = yard.dog(&["status", "--format", "prometheus"], 0).stdout;
    for line in [
        "# TYPE qctl_worker_running gauge",
        "qctl_worker_running{worker=\"good\",instance=\"2\"} 1",
        "qctl_worker_running{worker=\"bad\",instance=\"1\"} 0",
        "qctl_worker_backoff{worker=\"bad\",instance=\"1\"} 1",
        "qctl_worker_wanted{worker=\"off\",instance=\"1\"} 0",
        "qctl_worker_last_exit_code{worker=\"bad\",instance=\"1\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in:\n{metrics}");
    }
    yard.finish();
}

#[test]
fn a_status_of_what_never_ran_makes_nothing() {
    let yard = Yard::honest("");
    assert_eq!(yard.of("w", 1)["state"], "unkept");
    yard.dog(&["status", "--format", "nagios"], 2);
    assert!(!yard.place.path("state").exists());
}

#[test]
fn a_log_is_put_aside_when_it_has_grown() {
    let yard = Yard::new("  w: { run: [./chatty], log: { folder: logs, size: 10K, keep: 2 } }\n");
    yard.place.script(
        "chatty",
        "n=0; while [ $n -lt 2000 ]; do echo \"line $n of what it prints\"; n=$((n+1)); done; echo 'to stderr' >&2; exec sleep 1000",
    );
    yard.dog(&["start"], 0);
    wait_for("the last line", || {
        yard.place.read("logs/w.1.log").ends_with("to stderr\n")
    });
    for name in ["w.1.log", "w.1.log.1", "w.1.log.2"] {
        let length = yard.place.read(&format!("logs/{name}")).len();
        assert!(length > 0 && length <= 18 << 10, "{name}: {length}");
    }
    assert!(!yard.place.path("logs/w.1.log.3").exists());
    // Nothing is lost between one file and the next.
    let all: String = [".2", ".1", ""]
        .iter()
        .map(|end| yard.place.read(&format!("logs/w.1.log{end}")))
        .collect();
    let numbers: Vec<u32> = all
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.split(' ').next()?.parse().ok())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&1999));
    yard.finish();
}

#[test]
fn events_tell_pid_worker_and_reason() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let pid = yard.pid("w", 1);
    yard.dog(&["stop"], 0);
    let events = yard.events();
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, (name, reason)) in events
        .iter()
        .zip([("process_started", "wanted"), ("process_stopped", "asked to stop")])
    {
        assert_eq!(event["event"], name);
        assert_eq!((&event["worker"], &event["instance"]), (&"w".into(), &1.into()));
        assert_eq!((&event["pid"], &event["reason"]), (&pid.into(), &reason.into()));
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
    }
    assert!(
        yard.log("w", 1)
            .contains(&format!("qctl: process_started pid={pid} reason=wanted\n"))
    );
}
