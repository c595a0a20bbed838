//! How `exec` gives a process its body, and what its exit code means to those who come from elsewhere.

use crate::ground::{SQLITE, drain, queue, ready};
use crate::support::Place;

fn place(handler: &str, consumer: &str) -> Place {
    let place = Place::with_config(&format!(
        "{SQLITE}producers: {{ jobs: {{}} }}\nconsumers:\n  jobs:\n    handler: {{ exec: {{ run: [./take], {handler} }} }}\n    {consumer}\n"
    ));
    place.script("take", "printf '%s|' \"$@\" >>out; cat >>out; [ -z \"$QCTL_BODY_FILE\" ] || { printf '|'; cat \"$1\"; stat -c '|%a' \"$1\"; } >>out");
    place
}

#[test]
fn a_body_comes_on_standard_input_as_an_argument_in_base64_or_in_a_file() {
    for (way, expected) in [
        ("stdin", "|hi 'you'"),
        ("argument", "hi 'you'|"),
        ("base64", "aGkgJ3lvdSc=|"),
    ] {
        let place = place(&format!("body: {way}"), "");
        queue(&place, "jobs", &["hi 'you'"]);
        drain(&place, "jobs");
        assert_eq!(place.read("out"), expected, "{way}");
    }
    let place = place("body: file", "");
    queue(&place, "jobs", &["hi 'you'"]);
    drain(&place, "jobs");
    let out = place.read("out");
    let (path, rest) = out.split_once('|').unwrap();
    assert_eq!(rest, "|hi 'you'|600\n", "{out}");
    assert!(!std::path::Path::new(path).exists(), "{path} is removed");
}

#[test]
fn what_an_argument_cannot_be_is_dead_lettered_and_nothing_is_run() {
    for (keys, body, reason) in [
        ("body: argument", "-rf", "begins with a dash"),
        (
            "body: argument, body_limit: 3",
            "long",
            "more than the 3 B that `body_limit` allows",
        ),
        ("body_limit: 3", "long", "more than the 3 B that `body_limit` allows"),
    ] {
        let place = place(keys, "");
        queue(&place, "jobs", &[body]);
        let run = drain(&place, "jobs");
        assert!(run.stderr.contains(reason), "{}", run.stderr);
        assert_eq!((place.read("out").as_str(), ready(&place, "jobs.dead")), ("", 1));
    }
    let place = place("body: argument, dash_arguments: separator", "");
    queue(&place, "jobs", &["-rf"]);
    drain(&place, "jobs");
    assert_eq!(place.read("out"), "--|-rf|");
}

#[test]
fn exit_codes_can_be_those_of_rabbitmq_cli_consumer() {
    for (code, told) in [
        (0, "done consumer="),
        (3, "failed for good"),
        (4, "failed, to be tried again"),
        (5, "failed for good"),
        (6, "failed, to be tried again"),
        (1, "failed, to be tried again"),
    ] {
        for codes in ["rabbitmq-cli-consumer", "{ preset: rabbitmq-cli-consumer }"] {
            let place = place("", &format!("exit_codes: {codes}"));
            place.script("take", &format!("exit {code}"));
            queue(&place, "jobs", &["a"]);
            let run = place.run(["consumer", "-m", "1", "jobs"]).any_stderr().check();
            assert!(run.stderr.contains(told), "{code}: {}", run.stderr);
        }
    }
    let place = place("", "exit_codes: { preset: rabbitmq-cli-consumer, 3: ack }");
    place.script("take", "exit 3");
    queue(&place, "jobs", &["a"]);
    assert!(drain(&place, "jobs").stderr.contains("(1 done, 0 not)"));
}

#[test]
fn an_unknown_preset_is_a_mistake_that_names_the_known_ones() {
    let place = place("", "exit_codes: rabbitmq-cli");
    place
        .run(["config", "check"])
        .code(78)
        .any_stdout()
        .stderr_contains("rabbitmq-cli-consumer")
        .check();
}
