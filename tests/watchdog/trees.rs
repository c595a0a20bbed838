//! Workers that do not want to end, and what they leave.

use std::fs;

use rustix::process::Signal;

use crate::ground::{Yard, kill};
use crate::support::{is_running, wait_for};

#[test]
fn a_worker_that_ignores_term_is_killed_when_its_time_is_over() {
    let yard = Yard::new("  w: { run: [./deaf], stop_timeout: 300ms }\n");
    yard.place
        .script("deaf", "trap '' TERM\necho $$ >> pids\nwhile :; do sleep 0.05; done");
    yard.dog(&["start"], 0);
    wait_for("the worker", || !yard.place.read("pids").is_empty());
    let pid = yard.pid("w", 1);
    yard.dog(&["stop"], 0);
    assert!(!is_running(pid));
    assert_eq!(yard.of("w", 1)["last_exit"]["signal"], 9);
    yard.finish();
}

/// Grandchildren in groups and sessions of their own, that ignore SIGTERM and have thrown their environment away.
const FAMILY: &str = "cat > child <<'X'\n#!/bin/sh\ntrap '' TERM HUP INT\necho $$ >> family\nsleep 1000 & wait\nwhile :; do sleep 1; \
                      done\nX\nchmod +x child\n./child &\nsetsid ./child &\nsetsid env -i PATH=/usr/bin:/bin ./child &\n(setsid sh -c \
                      './child & exit 0' &)\n";

#[test]
fn stop_returns_only_after_term_ignoring_grandchildren_are_gone() {
    let yard = Yard::new("  w: { run: [./parent], stop_timeout: 500ms }\n");
    yard.place.script("parent", &format!("{FAMILY}exec sleep 1000"));
    yard.dog(&["start"], 0);
    let family = || -> Vec<u32> {
        yard.place
            .read("family")
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    };
    wait_for("the family", || family().len() == 4);
    let all = family();
    yard.dog(&["stop"], 0);
    let left: Vec<&u32> = all.iter().filter(|pid| is_running(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {all:?}");
    yard.assert_gone();
}

#[test]
fn what_a_dead_worker_leaves_is_ended_before_the_next_one_starts() {
    let yard = Yard::new("  w: { run: [./parent], backoff: { min: 100ms, max: 100ms } }\n");
    yard.place.script(
        "parent",
        &format!("for pid in $(cat family 2>/dev/null); do kill -0 $pid 2>/dev/null && echo $pid >> overlaps; done\n: > family\n{FAMILY}exec sleep 1000"),
    );
    yard.dog(&["start"], 0);
    let family = || yard.place.read("family").lines().count();
    wait_for("the family", || family() == 4);
    let worker = yard.pid("w", 1);
    kill(worker, Signal::KILL);
    yard.wait_new_pid("w", 1, worker);
    wait_for("the next family", || family() == 4);
    yard.finish();
}

#[test]
fn no_zombie_is_left_of_what_a_worker_has_orphaned() {
    let yard = Yard::new("  w: { run: [./orphaner] }\n");
    yard.place.script(
        "orphaner",
        "for n in 1 2 3 4 5 6 7 8; do (setsid sh -c 'sleep 0.1; echo x >> gone' &) ; done\nexec sleep 1000",
    );
    yard.dog(&["start"], 0);
    wait_for("the orphans' ends", || yard.place.read("gone").lines().count() == 8);
    let keeper = yard.keeper("w", 1);
    wait_for("a keeper with one child", || {
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        children.split_whitespace().count() == 1
    });
    yard.finish();
}

#[test]
fn a_start_during_a_slow_stop_is_followed_by_one_worker() {
    let yard = Yard::new("  w: { run: [./slow], stop_timeout: 20s }\n");
    yard.place.script(
        "slow",
        "exec 9>>lock\nflock -n 9 || echo $$ >> overlaps\necho $$ >> pids\ntrap 'sleep 1; exit 0' TERM\nwhile :; do sleep 0.05; done",
    );
    yard.dog(&["start"], 0);
    wait_for("the worker", || yard.place.read("pids").lines().count() == 1);
    let mut stopping = yard.place.start(["watchdog", "stop"]);
    wait_for("the stop", || yard.of("w", 1)["state"] == "stopping");
    // It waits for the first one's end, and says so.
    let told = yard.dog(&["start"], 0);
    assert!(told.stdout.contains("w.1: started (pid "), "{}", told.stdout);
    assert!(told.stderr.contains("waiting for that, to start it"), "{}", told.stderr);
    assert_eq!(stopping.wait(), Some(0));
    wait_for("a second worker", || yard.place.read("pids").lines().count() == 2);
    yard.finish();
}
