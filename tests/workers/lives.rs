//! How workers begin, are replaced, and end.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::ground::{AT_ONCE, SQLITE, drain, notes, nothing_left, queue, ready, scripted};
use crate::support::{Place, is_running, wait_for};

/// Notes its number with each body.
const NUMBERED: &str = r#"
ready()
for request in requests():
    note(f"{os.getpid()} {body(request)}")
    answer(request)
"#;

fn pids(place: &Place) -> BTreeSet<String> {
    let first = |note: &String| note.split(' ').next().unwrap().to_owned();
    notes(place).iter().map(first).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[track_caller]
fn queue_numbers(place: &Place, count: usize) {
    let numbers = numbers(count);
    let bodies: Vec<&str> = numbers.iter().map(String::as_str).collect();
    queue(place, "jobs", &bodies);
}

#[test]
fn one_worker_takes_many_messages_in_order() {
    let place = scripted(NUMBERED, "", "");
    queue_numbers(&place, 200);
    drain(&place, "jobs");
    assert_eq!(pids(&place).len(), 1);
    let bodies: Vec<String> = notes(&place)
        .iter()
        .map(|note| note.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(bodies, numbers(200));
    nothing_left(&place);
}

#[test]
fn a_worker_is_replaced_after_so_many_messages() {
    let place = scripted(NUMBERED, "recycle: { messages: 10, jitter: 0 }", "");
    queue_numbers(&place, 100);
    drain(&place, "jobs");
    assert_eq!(notes(&place).len(), 100);
    for pid in pids(&place) {
        let count = notes(&place)
            .iter()
            .filter(|note| note.starts_with(&format!("{pid} ")))
            .count();
        assert_eq!(count, 10, "each worker takes ten, never more");
    }
}

#[test]
fn a_worker_is_replaced_after_so_long_a_time() {
    let place = scripted(NUMBERED, "recycle: { time: 100ms }", "");
    let consumer = place.start(["consumer", "jobs"]);
    consumer.wait_stderr("the worker is replaced");
    queue_numbers(&place, 1);
    wait_for("the message", || notes(&place).len() == 1);
    wait_for("the third worker", || {
        consumer.stderr().matches("worker ready").count() >= 3
    });
}

#[test]
fn a_worker_is_replaced_when_it_has_grown() {
    let script = r#"
ready()
held = []
for request in requests():
    note(f"{os.getpid()} {body(request)}")
    held.append(bytearray(80 << 20))
    answer(request)
"#;
    let place = scripted(script, "recycle: { memory: 64M, jitter: 0 }", "");
    let consumer = place.start(["consumer", "jobs"]);
    queue_numbers(&place, 1);
    consumer.wait_stderr("memory 64 MB (uses");
    queue_numbers(&place, 1);
    wait_for("the second message", || notes(&place).len() == 2);
    assert_eq!(pids(&place).len(), 2, "{}", consumer.stderr());
}

#[test]
fn the_memory_of_workers_counts_for_the_consumer_s_limit() {
    let script = r"
held = bytearray(200 << 20)
ready()
for request in requests():
    answer(request)
";
    let place = scripted(script, "", "");
    let run = place.run(["consumer", "-l", "150", "jobs"]).any_stderr().check();
    assert!(run.stderr.contains("limit reached: memory 150 MB"), "{}", run.stderr);
    nothing_left(&place);
}

#[test]
fn as_many_workers_as_messages_at_once_and_each_is_given_one() {
    let script = r#"
ready()
for request in requests():
    note(f"{os.getpid()} {body(request)}")
    while not os.path.exists("go"):
        time.sleep(0.005)
    answer(request)
"#;
    let place = scripted(script, "", "concurrency: 3");
    queue_numbers(&place, 3);
    let mut consumer = place.start(["consumer", "-m", "3", "jobs"]);
    wait_for("three at work", || notes(&place).len() == 3);
    assert_eq!(pids(&place).len(), 3);
    place.write("go", "");
    assert_eq!(consumer.wait(), Some(0));
}

#[test]
fn one_worker_can_be_given_all_that_is_handled_at_once() {
    let script = r#"
ready()
held = []
for request in requests():
    note(f"{os.getpid()} {body(request)}")
    held.append(request)
    if len(held) == 5:
        for request in reversed(held):
            answer(request)
"#;
    let place = scripted(script, "workers: 1", "concurrency: 5");
    queue_numbers(&place, 5);
    let run = place.run(["consumer", "-m", "5", "jobs"]).any_stderr().check();
    assert!(run.stderr.contains("(5 done, 0 not)"), "{}", run.stderr);
    assert_eq!(pids(&place).len(), 1);
}

/// Works until it is let go.
const SLOW: &str = r#"
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready()
for request in requests():
    note(f"{os.getpid()} {body(request)}")
    while not os.path.exists("go"):
        time.sleep(0.005)
    note("finished")
    answer(request)
"#;

#[test]
fn a_stop_lets_what_is_worked_on_finish() {
    let place = scripted(SLOW, "", "");
    queue_numbers(&place, 2);
    let mut consumer = place.start(["consumer", "jobs"]);
    wait_for("it to begin", || notes(&place).len() == 1);
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping: nothing new is taken");
    place.write("go", "");
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    assert_eq!(notes(&place).len(), 2, "{:?}", notes(&place));
    assert_eq!(ready(&place, "jobs"), 1, "the other one was not begun");
    nothing_left(&place);
}

#[test]
fn a_second_stop_ends_the_worker_and_gives_its_message_back() {
    let place = scripted(&SLOW.replace("signal.SIG_IGN", "signal.SIG_DFL"), "", "");
    queue_numbers(&place, 1);
    let mut consumer = place.start(["consumer", "jobs"]);
    wait_for("it to begin", || notes(&place).len() == 1);
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping: nothing new is taken");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(130), "{}", consumer.stderr());
    assert_eq!(ready(&place, "jobs"), 1);
    nothing_left(&place);
}

#[test]
fn workers_of_a_killed_consumer_end_before_its_messages_are_handed_out_again() {
    let place = scripted(SLOW, "", "");
    queue_numbers(&place, 1);
    let consumer = place.start(["consumer", "jobs"]);
    wait_for("it to begin", || notes(&place).len() == 1);
    let worker: u32 = pids(&place).first().unwrap().parse().unwrap();
    consumer.signal(Signal::KILL);
    let second = place.start(["consumer", "jobs"]);
    wait_for("it to begin again", || notes(&place).len() == 2);
    assert!(
        !is_running(worker),
        "the first worker runs beside the second: {}",
        second.stderr()
    );
}

#[test]
fn a_killed_worker_is_replaced_at_once() {
    let place = scripted(NUMBERED, "", AT_ONCE);
    let consumer = place.start(["consumer", "jobs"]);
    for round in 1..=3 {
        queue_numbers(&place, 1);
        wait_for("the message", || {
            consumer.stderr().matches("done consumer=").count() == round
        });
        let last = notes(&place)
            .last()
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(last).unwrap(), Signal::KILL).unwrap();
    }
    assert_eq!(pids(&place).len(), 3, "{}", consumer.stderr());
}

#[test]
fn a_program_that_is_missing_is_told_before_anything_is_taken() {
    let place = Place::with_config(&format!(
        "{SQLITE}producers: {{ jobs: {{}} }}\nconsumers: {{ jobs: {{ handler: {{ exec: {{ run: [./no-such-worker], mode: worker }} }} }} }}\n"
    ));
    queue(&place, "jobs", &["a"]);
    place
        .run(["consumer", "jobs"])
        .code(72)
        .stderr_contains("consumers.jobs.handler.exec.run")
        .check();
    assert_eq!(ready(&place, "jobs"), 1);
}

#[test]
fn a_worker_s_environment_is_its_own() {
    let script = r#"
ready()
for request in requests():
    note(" ".join(sorted(name for name in os.environ if name != "LC_CTYPE")))
    answer(request)
"#;
    let place = scripted(script, "env: { MORE: '1' }", "");
    queue(&place, "jobs", &["a"]);
    place
        .run(["consumer", "-m", "1", "jobs"])
        .env("SECRET", "hush")
        .any_stderr()
        .check();
    assert_eq!(notes(&place), ["HOME MORE PATH QCTL_OWNER QCTL_PROTOCOL TZ"]);
}
