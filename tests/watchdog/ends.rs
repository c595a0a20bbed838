//! How workers end, and when they are started again.

use std::time::{Duration, Instant};

use crate::ground::{STORE, Yard};
use crate::support::wait_for;

/// A consumer worker on the store, with these options.
fn consumer(options: &str, more: &str) -> Yard {
    Yard::with(&format!(
        "{STORE}producers:\n  mail: {{}}\nconsumers:\n  mail: {{ handler: noop }}\nworkers:\n  mail: {{ consumer: mail, options: \
         {options}{more} }}\n"
    ))
}

#[test]
fn a_worker_that_dies_at_once_always_is_started_ever_more_rarely_and_never_given_up() {
    let yard = Yard::new("  w: { run: [./bad], backoff: { min: 200ms, max: 800ms } }\n");
    yard.place
        .script("bad", "date +%s.%N >> starts\necho cannot work >&2\nexit 3");
    let told = yard.dog(&["start"], 75).stdout;
    assert!(
        told.contains("w.1: was started, and ended at once; in backoff: exit 3; failure"),
        "{told}"
    );
    wait_for("eight starts", || yard.place.read("starts").lines().count() >= 8);
    let moments: Vec<f64> = yard
        .place
        .read("starts")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let waits: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 200, 400, 800, 800 ms, each shortened by up to a fifth.
    for (wait, least) in waits.iter().zip([0.16, 0.32, 0.64, 0.64, 0.64, 0.64, 0.64]) {
        assert!(*wait >= least, "{waits:?}");
    }
    let told = yard.dog(&["check"], 75).stdout;
    assert!(told.starts_with("w.1: ") && told.contains("exit 3"), "{told}");
    assert!(yard.log("w", 1).contains("cannot work\n"), "{}", yard.log("w", 1));
    yard.finish();
}

#[test]
fn a_limit_of_its_own_is_followed_by_a_start_at_once() {
    // It must have run for 5 s, or it would not be told from one that has nothing to do.
    let yard = consumer("{ time-limit: 5500ms }", "");
    yard.dog(&["start"], 0);
    let first = yard.pid("mail", 1);
    let second = yard.wait_new_pid("mail", 1, first);
    assert_ne!(first, second);
    let status = yard.of("mail", 1);
    assert_eq!(status["failures"], 0, "{status}");
    assert_eq!(status["last_exit"]["code"], 0, "{status}");
    let events = yard.events();
    let reasons: Vec<&str> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["wanted", "exit 0", "ended by its own limit (exit 0)"]);
    yard.finish();
}

#[test]
fn an_exit_code_of_a_limit_is_known() {
    let yard = consumer("{ time-limit: 5500ms, limit-exit-code: 12 }", "");
    yard.dog(&["start"], 0);
    let first = yard.pid("mail", 1);
    yard.wait_new_pid("mail", 1, first);
    let status = yard.of("mail", 1);
    assert_eq!(
        (&status["failures"], &status["last_exit"]["code"]),
        (&0.into(), &12.into()),
        "{status}"
    );
    yard.finish();
}

#[test]
fn a_consumer_that_has_nothing_to_do_does_not_spin() {
    let yard = consumer("{ until-empty: true }", ", backoff: { min: 300ms, max: 10s }");
    let begun = Instant::now();
    yard.dog(&["start"], 75);
    wait_for("three starts", || yard.of("mail", 1)["restarts"].as_u64() >= Some(3));
    assert!(
        begun.elapsed() >= Duration::from_millis(240 + 480),
        "{:?}",
        begun.elapsed()
    );
    yard.finish();
}

#[test]
fn what_only_a_change_can_mend_is_parked_until_there_is_one() {
    for code in [64, 78] {
        let yard = Yard::new("  w: { run: [./picky] }\n");
        yard.place.script(
            "picky",
            &format!("echo x >> starts\n[ -e fine ] && exec sleep 1000\nexit {code}"),
        );
        let told = yard.dog(&["start"], 78).stdout;
        assert!(
            told.contains(&format!(
                "parked: exit {code}; tried again when its configuration has changed"
            )),
            "{told}"
        );
        assert!(yard.dog(&["check"], 78).stdout.contains("w.1: parked: "));
        assert_eq!(yard.place.read("starts"), "x\n");
        yard.place.write("fine", "");
        // The same configuration, written anew.
        yard.configure("  w: { run: [./picky] }\n# mended\n");
        yard.wait_state("w", 1, "running");
        yard.place.run(["watchdog", "check"]).check();
        yard.finish();
    }
}

#[test]
fn a_changed_secret_wakes_a_parked_consumer() {
    let yard = Yard::with(&format!("{STORE}workers:\n  w: {{ run: [./picky, ./secret] }}\n"));
    yard.place.script("picky", "echo x >> starts\nexit 78");
    yard.place.write("secret", "old");
    yard.dog(&["start"], 78);
    assert_eq!(yard.place.read("starts"), "x\n");
    yard.place.write("secret", "newer");
    wait_for("another try", || yard.place.read("starts") == "x\nx\n");
    yard.finish();
}

#[test]
fn a_missing_program_is_named_and_tried_again() {
    let yard = Yard::new("  w: { run: [./later], backoff: { min: 100ms, max: 300ms } }\n");
    let told = yard.dog(&["start"], 75).stdout;
    assert!(
        told.contains("cannot be started") && told.contains("/later does not exist"),
        "{told}"
    );
    yard.place.script("later", "exec sleep 1000");
    yard.wait_state("w", 1, "running");
    yard.finish();
}

#[test]
fn the_instances_of_a_consumer_do_not_end_at_the_same_count() {
    let yard = consumer("{ messages: 1000, l: 256 }", ", instances: 3");
    yard.dog(&["start"], 0);
    let words: Vec<String> = (1..=3)
        .map(|instance| {
            let line = std::fs::read(format!("/proc/{}/cmdline", yard.pid("mail", instance))).unwrap();
            String::from_utf8_lossy(&line).replace('\0', " ")
        })
        .collect();
    for (line, count) in words.iter().zip(["1000", "939", "977"]) {
        assert!(line.contains(&format!(" --messages={count} -l 256 -- mail ")), "{line}");
    }
    yard.finish();
}
