//! `kill -9` of a worker, of its keeper, of both.

use rustix::process::Signal;

use crate::ground::{STORE, Yard, end, kill};
use crate::support::{is_running, wait_for};

#[test]
fn a_killed_worker_is_started_again_by_its_keeper() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let (worker, keeper) = (yard.pid("w", 1), yard.keeper("w", 1));
    kill(worker, Signal::KILL);
    let next = yard.wait_new_pid("w", 1, worker);
    assert_eq!(yard.keeper("w", 1), keeper);
    let status = yard.of("w", 1);
    assert_eq!(status["last_exit"]["signal"], 9, "{status}");
    assert_eq!(status["last_exit"]["reason"], "killed by SIGKILL", "{status}");
    assert_eq!(
        (&status["restarts"], &status["failures"]),
        (&1.into(), &1.into()),
        "{status}"
    );
    assert!(is_running(next));
    yard.finish();
    let events: Vec<_> = yard
        .events()
        .iter()
        .map(|event| {
            (
                event["event"].as_str().unwrap().to_owned(),
                event["pid"].as_u64().unwrap() as u32,
            )
        })
        .collect();
    assert_eq!(
        events[..2],
        [
            ("process_started".to_owned(), worker),
            ("process_stopped".to_owned(), worker)
        ]
    );
    assert_eq!(events[2], ("process_started".to_owned(), next));
}

#[test]
fn a_killed_keeper_is_followed_by_one_that_ends_the_old_worker_first() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let (worker, keeper) = (yard.pid("w", 1), yard.keeper("w", 1));
    end(keeper);
    // Nobody keeps it, and it works on.
    assert!(is_running(worker));
    assert_eq!(yard.of("w", 1)["state"], "unkept");
    let told = yard.dog(&["check"], 0).stdout;
    assert!(
        told.contains("w.1: its keeper was killed; what it has left is being ended"),
        "{told}"
    );
    wait_for("the second start", || yard.starts(1) == 2);
    assert!(!is_running(worker));
    let status = yard.of("w", 1);
    assert_eq!(status["last_exit"]["reason"], "its keeper was killed", "{status}");
    assert_eq!(
        (&status["restarts"], &status["failures"]),
        (&1.into(), &1.into()),
        "{status}"
    );
    yard.finish();
}

#[test]
fn both_killed_leave_nothing_in_the_way() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let (worker, keeper) = (yard.pid("w", 1), yard.keeper("w", 1));
    kill(keeper, Signal::KILL);
    kill(worker, Signal::KILL);
    wait_for("both ends", || !is_running(keeper) && !is_running(worker));
    yard.dog(&["check"], 0);
    wait_for("the second start", || yard.starts(1) == 2);
    yard.finish();
}

#[test]
fn a_worker_without_its_keeper_is_stopped_too() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let (worker, keeper) = (yard.pid("w", 1), yard.keeper("w", 1));
    end(keeper);
    yard.dog(&["stop"], 0);
    assert!(!is_running(worker));
    yard.finish();
    assert_eq!(yard.starts(1), 1);
}

#[test]
fn counts_of_failures_outlive_a_keeper() {
    let yard = Yard::new("  w: { run: [./bad], backoff: { min: 100ms, max: 60s } }\n");
    yard.place.script("bad", "exit 1");
    yard.dog(&["start"], 75);
    wait_for("a few failures", || yard.of("w", 1)["failures"].as_u64() >= Some(4));
    let before = yard.of("w", 1)["failures"].as_u64().unwrap();
    let keeper = yard.keeper("w", 1);
    end(keeper);
    yard.dog(&["check"], 0);
    wait_for("more failures", || yard.of("w", 1)["failures"].as_u64() > Some(before));
    yard.finish();
}

/// What a consumer has begun is not lost and not run beside its copy, whichever of them is killed.
#[test]
fn no_message_is_lost_when_a_consumer_or_its_keeper_is_killed() {
    let yard = Yard::with(&format!(
        "{STORE}producers:\n  jobs: {{}}\nconsumers:\n  jobs: {{ handler: {{ exec: {{ run: [./job] }} }}, concurrency: 2 }}\nworkers:\n  \
         jobs: {{ consumer: jobs, instances: 2, backoff: {{ min: 100ms, max: 300ms }} }}\n"
    ));
    yard.place.script(
        "job",
        "read -r n\nexec 9>>\"job.$n\"\nflock -n 9 || echo \"job $n\" >> overlaps\nsleep 0.05\necho \"$n\" >> done",
    );
    let bodies: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    yard.place
        .run(["queuemessage", "jobs", "--lines", "-"])
        .stdin(bodies.join("\n"))
        .any_stdout()
        .any_stderr()
        .check();
    yard.dog(&["start"], 0);
    let done = || -> std::collections::BTreeSet<u32> {
        yard.place
            .read("done")
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect()
    };
    let mut round = 0_u64;
    while done().len() < 200 {
        let instance = round / 2 % 2 + 1;
        let status = yard.of("jobs", instance);
        let victim = if round.is_multiple_of(2) {
            &status["pid"]
        } else {
            &status["keeper_pid"]
        };
        let before = done().len();
        if round < 12
            && let Some(pid) = victim.as_u64()
        {
            kill(pid as u32, Signal::KILL);
        }
        round += 1;
        wait_for("progress", || {
            // In the place of crontab.
            yard.look_after();
            done().len() > before || done().len() == 200
        });
    }
    yard.finish();
}
