//! Listeners that hear of workers: what they are told, and that nothing they do reaches a worker or its keeper.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::ground::{STORE, Yard, kill};
use crate::support::{is_running, wait_for};

/// Two honest workers, `w` and `v`, and these listeners.
fn yard(listeners: &str) -> Yard {
    Yard::with(&config(listeners))
}

fn config(listeners: &str) -> String {
    format!(
        "{STORE}workers:\n  w: {{ run: [./honest], backoff: {{ min: 100ms, max: 1s }} }}\n  v: {{ run: [./idle] }}\nlisteners:\n{listeners}\n"
    )
}

fn start(yard: &Yard) {
    yard.place.script("idle", "exec sleep 1000");
    yard.dog(&["start"], 0);
}

fn lines(yard: &Yard, file: &str) -> Vec<Value> {
    let text = yard.place.read(file);
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of(worker: &str, told: &[Value]) -> Vec<(String, u64, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.iter()
        .filter(|event| event["worker"] == worker)
        .map(|event| {
            assert_eq!(
                (&event["name"], &event["instance"]),
                (&worker.into(), &1.into()),
                "{event}"
            );
            assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
            (
                text(&event["event"]),
                event["pid"].as_u64().unwrap(),
                text(&event["reason"]),
            )
        })
        .collect()
}

fn event(event: &str, pid: u32, reason: &str) -> (String, u64, String) {
    (format!("process_{event}"), pid.into(), reason.to_owned())
}

/// The children of a process that have ended and were not waited for.
fn zombies(parent: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let rest = stat.rsplit(") ").next().unwrap();
        if rest.starts_with(&format!("Z {parent} ")) {
            found.push(stat);
        }
    }
    found
}

#[test]
fn what_happens_to_workers_is_told_in_order() {
    let yard = yard(
        "  - { on: [process_started, kaliop_queueing.process_stopped], accumulate: heard }\n  - { on: [process_started, process_stopped], run: [./note] }\n  \
         - { on: process_stopped, queue: [v], accumulate: of_v }",
    );
    yard.place.script("note", "sed \"s/^/$QCTL_EVENT /\" >>notes");
    start(&yard);
    let first = yard.pid("w", 1);
    kill(first, Signal::KILL);
    let second = yard.wait_new_pid("w", 1, first);
    yard.dog(&["restart", "w"], 0);
    let third = yard.wait_new_pid("w", 1, second);
    let v = yard.pid("v", 1);
    let keeper = yard.keeper("w", 1);
    wait_for("five events of w", || of("w", &lines(&yard, "heard")).len() >= 5);
    wait_for("no process that tells", || yard.notifiers().is_empty());
    assert_eq!(zombies(keeper), [""; 0]);
    yard.finish();
    wait_for("eight events", || lines(&yard, "heard").len() >= 8);
    wait_for("eight runs", || yard.place.read("notes").lines().count() >= 8);
    let told = lines(&yard, "heard");
    assert_eq!(
        of("w", &told),
        [
            event("started", first, "wanted"),
            event("stopped", first, "killed by SIGKILL"),
            event("started", second, "ended: killed by SIGKILL"),
            event("stopped", second, "asked to stop"),
            event("started", third, "asked to restart"),
            event("stopped", third, "asked to stop"),
        ],
    );
    let of_v = [event("started", v, "wanted"), event("stopped", v, "asked to stop")];
    assert_eq!(of("v", &told), of_v);
    // A program reads the same as stands in the file.
    let notes = yard.place.read("notes");
    let mut ran: Vec<Value> = notes
        .lines()
        .map(|line| {
            let (name, json) = line.split_once(' ').unwrap();
            let event: Value = serde_json::from_str(json).unwrap();
            assert_eq!(event["event"], name);
            event
        })
        .collect();
    let mut told = told;
    let time = |event: &Value| event["time"].as_str().unwrap().to_owned();
    ran.sort_by_key(time);
    told.sort_by_key(time);
    assert_eq!(ran, told);
    // Whom a listener is for.
    assert_eq!(of("v", &lines(&yard, "of_v")), of_v[1..]);
    assert_eq!(lines(&yard, "of_v").len(), 1);
}

#[test]
fn a_listener_that_hangs_holds_nothing_up() {
    let yard = yard(
        "  - { on: [process_started, process_stopped], priority: 9, timeout: 2m, run: [./hang] }\n  - { on: [process_started, process_stopped], accumulate: heard }",
    );
    yard.place.script("hang", "echo $$ >>hung; exec sleep 600");
    let begun = Instant::now();
    yard.place.script("idle", "sleep 1000 & exec sleep 1000");
    yard.dog(&["start"], 0);
    let first = yard.pid("w", 1);
    kill(first, Signal::KILL);
    let second = yard.wait_new_pid("w", 1, first);
    yard.wait_state("w", 1, "running");
    // The one with the lower priority does not wait for the other one.
    wait_for("the first event", || !lines(&yard, "heard").is_empty());
    wait_for("the hanging program", || !yard.place.read("hung").is_empty());
    // What a worker leaves behind is ended, and those that tell are not.
    let v = yard.pid("v", 1);
    wait_for("both hanging programs", || yard.place.read("hung").lines().count() == 2);
    kill(v, Signal::KILL);
    yard.wait_new_pid("v", 1, v);
    for pid in yard.place.read("hung").lines() {
        assert!(is_running(pid.parse().unwrap()), "the listener was ended");
    }
    let keeper = yard.keeper("w", 1);
    yard.finish();
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert!(!is_running(second) && !is_running(keeper));
    // What waited behind it is told by another process when the keeper ends, and none is lost.
    wait_for("all events", || of("w", &lines(&yard, "heard")).len() >= 4);
    assert!(!yard.notifiers().is_empty(), "it is still being told");
}

#[test]
fn a_listener_that_cannot_hear_is_told_of_in_the_worker_s_log() {
    let yard = yard(
        "  - { on: process_started, policy: skip, run: [./nowhere] }\n  - { on: process_started, run: [./picky] }\n  - { on: process_started, queue: v, log: {} }",
    );
    yard.place.script(
        "picky",
        "echo tried >>tries; echo 'no network' >&2; [ -e well ] && cat >>heard",
    );
    start(&yard);
    for text in [
        "the listener did not hear it; skipped",
        "nowhere does not exist",
        "the listener did not hear it; it is told again",
        "saying: no network",
    ] {
        wait_for(&format!("{text:?} in {}", yard.log("w", 1)), || {
            yard.log("w", 1).contains(text)
        });
    }
    assert!(yard.log("w", 1).contains("listeners[0].run"), "{}", yard.log("w", 1));
    wait_for("the event in the log", || {
        yard.log("v", 1).contains("\"event\":\"process_started\"")
    });
    // It is told again until it hears.
    yard.place.write("well", "");
    wait_for("both starts", || lines(&yard, "heard").len() >= 2);
    yard.finish();
}

#[test]
fn a_change_of_listeners_takes_effect_without_starting_anything_anew() {
    let yard = yard("  []");
    start(&yard);
    let worker = yard.pid("w", 1);
    yard.place.write(
        "qctl.yml",
        config("  - { on: [process_started, process_stopped], queue: w, accumulate: heard }"),
    );
    yard.dog(&["check"], 0);
    assert_eq!(yard.pid("w", 1), worker);
    kill(worker, Signal::KILL);
    let second = yard.wait_new_pid("w", 1, worker);
    wait_for("two events", || lines(&yard, "heard").len() >= 2);
    assert_eq!(of("w", &lines(&yard, "heard"))[0].1, u64::from(worker));
    // And away with it.
    yard.place.write("qctl.yml", config("  []"));
    yard.dog(&["check"], 0);
    assert!(!yard.folder().join("listeners.json").exists());
    kill(second, Signal::KILL);
    yard.wait_new_pid("w", 1, second);
    yard.finish();
    wait_for("no process that tells", || yard.notifiers().is_empty());
    assert_eq!(lines(&yard, "heard").len(), 2);
}

#[test]
fn a_worker_that_goes_is_told_of_and_one_whose_keeper_was_killed_too() {
    let yard = yard("  - { on: process_stopped, accumulate: heard }");
    start(&yard);
    let worker = yard.pid("w", 1);
    crate::ground::end(yard.keeper("w", 1));
    yard.look_after();
    yard.wait_new_pid("w", 1, worker);
    wait_for("the end of what the killed keeper had", || {
        of("w", &lines(&yard, "heard")) == [event("stopped", worker, "its keeper was killed")]
    });
    let v = yard.pid("v", 1);
    let text = yard.place.read("qctl.yml").replace("  v: { run: [./idle] }\n", "");
    yard.place.write("qctl.yml", text);
    yard.look_after();
    wait_for("the end of the one that is wanted no more", || {
        of("v", &lines(&yard, "heard"))
            .first()
            .is_some_and(|told| told.1 == u64::from(v))
    });
    yard.finish();
}

#[test]
fn what_a_listener_starts_has_the_watchdog_s_environment_and_not_the_worker_s_mark() {
    let yard = Yard::with(&format!(
        "{STORE}workers:\n  w: {{ run: [./honest], env: {{ OWN: x }} }}\nlisteners:\n  - {{ on: process_started, run: {{ run: [./show], env: {{ TOKEN: 'is ${{MARK}}' }} }} }}\n"
    ));
    yard.place.script("show", "env >seen; touch done");
    let started = yard
        .place
        .command()
        .env("MARK", "known")
        .args(["watchdog", "start"])
        .output()
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    wait_for("the listener", || yard.place.path("done").exists());
    let seen = yard.place.read("seen");
    assert!(seen.contains("TOKEN=is known\n") && seen.contains("HOME="), "{seen}");
    assert!(
        !seen.contains("QCTL_WORKER") && !seen.contains("QCTL_KEEPER") && !seen.contains("OWN="),
        "{seen}"
    );
    let finished = yard
        .place
        .command()
        .env("MARK", "known")
        .args(["watchdog", "stop"])
        .output()
        .unwrap();
    assert!(finished.status.success(), "{finished:?}");
}

#[test]
fn the_foreground_waits_until_the_last_end_was_told() {
    let yard = yard("  - { on: process_stopped, run: [./slow] }");
    yard.place.script("idle", "exec sleep 1000");
    yard.place.script("slow", "sleep 1; cat >>heard");
    let mut run = yard.place.start(["watchdog", "run"]);
    wait_for("two workers", || {
        yard.status().iter().all(|status| status["state"] == "running")
    });
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert_eq!(lines(&yard, "heard").len(), 2, "{}", run.stderr());
    assert_eq!(yard.notifiers(), [0_u32; 0]);
}

#[test]
fn the_script_of_the_manual_hears_of_ends() {
    let yard = yard("  - { on: [process_started, process_stopped], queue: w, run: [./listener.sh] }");
    let script = yard.place.script("listener.sh", "");
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workers/listener.sh");
    fs::copy(manual, script).unwrap();
    start(&yard);
    kill(yard.pid("w", 1), Signal::KILL);
    wait_for("the end", || {
        yard.place.read("ends.txt") == "w.1 ended: killed by SIGKILL\n"
    });
    yard.finish();
}

#[test]
fn a_keeper_that_waits_leaves_no_zombie_either() {
    let yard = Yard::with(&format!(
        "{STORE}workers:\n  w: {{ run: [./picky] }}\nlisteners:\n  - {{ on: process_stopped, accumulate: heard }}\n"
    ));
    yard.place.script("picky", "exit 78");
    yard.dog(&["start"], 78);
    wait_for("the event", || lines(&yard, "heard").len() == 1);
    let keeper = yard.keeper("w", 1);
    wait_for("no process that tells", || yard.notifiers().is_empty());
    wait_for("no zombie", || zombies(keeper).is_empty());
    yard.wait_state("w", 1, "parked");
    yard.finish();
}

#[test]
fn what_makes_no_sense_for_workers_is_refused() {
    let base = "connections: { local: 'sqlite://./queue.db' }\nproducers: { jobs: {} }\nlisteners:\n";
    for (listener, told) in [
        (
            "requeue: jobs",
            "is about messages, and process_stopped is about a worker",
        ),
        ("stop: 3", "is about messages, and process_stopped is about a worker"),
        ("policy: stop, log: {}", "process_stopped stops nothing"),
    ] {
        let place = crate::support::Place::with_config(&format!(
            "{base}  - {{ on: [message_consumed, process_stopped], {listener} }}\n"
        ));
        place
            .run(["config", "check"])
            .code(78)
            .any_stdout()
            .stderr_contains(told)
            .check();
    }
}

/// What a process has for itself, in kB.
fn private_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("Private_Dirty:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

#[test]
fn a_keeper_with_listeners_stays_small() {
    let yard = yard("  - { on: [process_started, process_stopped], queue: w, accumulate: heard }");
    start(&yard);
    let mut pid = yard.pid("w", 1);
    for _ in 0..3 {
        kill(pid, Signal::KILL);
        pid = yard.wait_new_pid("w", 1, pid);
    }
    wait_for("seven events", || lines(&yard, "heard").len() >= 7);
    let (with, without) = (private_memory(yard.keeper("w", 1)), private_memory(yard.keeper("v", 1)));
    assert!(with < without + 200, "{with} kB, and {without} kB without listeners");
    yard.finish();
}
