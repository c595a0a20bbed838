//! Every subcommand with `-i`, the limits of a consumer, and the tutorial on RabbitMQ.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::ground::Ground;
use crate::rabbit::Rabbit;
use crate::support::{Place, wait_for};

/// Two connections: the default one is a file.
const BOTH: &str = "
default: local
connections: { local: 'sqlite://./queue.db', rabbit: '{url}' }
producers: { jobs: {} }
consumers: { jobs: { queue: jobs, handler: { exec: { run: ['./run.sh'] } } } }
commands: { shell: { run: ['./run.sh'], allow: ['*'] } }
";

fn both(script: &str) -> Ground {
    let ground = Ground::with_config(BOTH);
    ground.place.script("run.sh", script);
    ground
}

fn send(ground: &Ground, lines: &str) {
    ground
        .place
        .run(["queuemessage", "-i", "rabbit", "--lines", "jobs"])
        .stdin(lines)
        .any_stdout()
        .check();
}

/// The connection's name and the driver's name, on everything that takes it; the file is never made.
#[test]
fn every_command_works_on_the_named_connection() {
    for name in ["rabbit", "amqp"] {
        let ground = both("cat >> ran; echo >> ran");
        let run = |words: &[&str]| {
            let result = ground.place.run(words).any_stdout().any_stderr().check();
            result.stdout
        };
        run(&["managequeue", "-i", name, "declare", "jobs"]);
        run(&["queuemessage", "-i", name, "jobs", "one"]);
        run(&["queuecommand", "-i", name, "jobs", "x", "y"]);
        assert_eq!(ground.vhost.counts("jobs").ready, 2);
        let info = ground.place.json(["managequeue", "-i", name, "info", "jobs"]);
        assert_eq!(info["ready"], 2, "{info}");
        run(&["managequeue", "-i", name, "list-configured"]);
        assert!(run(&["managedriver", "check", "rabbit"]).contains("rabbit"));
        run(&["consumer", "-i", name, "--until-empty", "jobs"]);
        assert_eq!(
            ground.place.read("ran"),
            "one\n{\"command\":\"x\",\"arguments\":[\"y\"],\"options\":[]}\n"
        );
        run(&["queuemessage", "-i", name, "jobs", "two"]);
        run(&["--yes", "managequeue", "-i", name, "purge", "jobs"]);
        assert_eq!(ground.vhost.counts("jobs").ready, 0);
        run(&["--yes", "managequeue", "-i", name, "delete", "jobs"]);
        assert!(ground.vhost.queue("jobs").is_none());
        assert!(!ground.place.path("queue.db").exists());
    }
}

#[test]
fn limits_end_a_consumer() {
    let ground = both("cat >> ran; echo >> ran");
    send(&ground, "1\n2\n3\n");
    let consume = |words: &[&str]| {
        let result = ground
            .place
            .run(["consumer", "-i", "rabbit"])
            .args(words)
            .args(["jobs"])
            .any_stderr()
            .check();
        result.stderr
    };
    let log = consume(&["-m", "1"]);
    assert!(log.contains("limit reached: messages 1"), "{log}");
    assert_eq!(ground.place.read("ran"), "1\n");
    assert_eq!(
        ground.vhost.counts("jobs").ready,
        2,
        "the others are given back untouched"
    );
    consume(&["--until-empty"]);
    assert_eq!(ground.place.read("ran"), "1\n2\n3\n");
    let log = consume(&["-t", "0.3"]);
    assert!(log.contains("limit reached: time"), "{log}");
    let log = consume(&["--idle", "0.3"]);
    assert!(log.contains("limit reached: idle"), "{log}");
}

/// A held-back message does not keep `--until-empty` waiting, and a message of another consumer is not waited for.
#[test]
fn until_empty_waits_for_what_is_ready_alone() {
    let ground = both("body=$(cat); echo $body >> ran; test $body != fail");
    send(&ground, "fail\nok\n");
    let log = ground
        .place
        .run(["consumer", "-i", "rabbit", "--until-empty", "jobs"])
        .any_stderr()
        .check()
        .stderr;
    assert_eq!(ground.place.read("ran"), "fail\nok\n", "{log}");
    assert!(log.contains("until-empty (1 done, 1 not)"), "{log}");
}

/// The first SIGTERM finishes what runs and gives back the rest at once, the second gives back what runs, too.
#[test]
fn a_consumer_drains_on_sigterm() {
    let ground = both("echo begun >> begun; until test -e go; do sleep 0.05; done; cat >> ran");
    send(&ground, "1\n2\n3\n");
    let mut consumer = ground
        .place
        .start(["consumer", "-i", "rabbit", "--prefetch", "3", "jobs"]);
    wait_for("the first", || ground.place.read("begun") == "begun\n");
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping");
    wait_for("the others to be back", || ground.vhost.counts("jobs").ready == 2);
    ground.place.write("go", "");
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    assert_eq!(ground.place.read("ran"), "1");
    fs::remove_file(ground.place.path("go")).unwrap();
    let mut consumer = ground.place.start(["consumer", "-i", "rabbit", "jobs"]);
    wait_for("the second", || ground.place.read("begun").lines().count() == 2);
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(130), "{}", consumer.stderr());
    assert_eq!(ground.vhost.counts("jobs").ready, 2);
    assert_eq!(ground.place.read("ran"), "1");
}

/// The steps of `scripts/quickstart`, with its configuration.
#[test]
fn the_tutorial_works_with_another_connection() {
    let vhost = Rabbit::main().vhost();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/quickstart.yml");
    let place = Place::with_config(&fs::read_to_string(sample).unwrap());
    let run = |words: &[&str]| place.run(words).env("QCTL_RABBIT", vhost.url());
    run(&[
        "queuecommand",
        "-i",
        "rabbit",
        "tutorial",
        "echoback",
        "hello",
        "-f=out.txt",
    ])
    .any_stdout()
    .check();
    run(&["consumer", "-i", "rabbit", "--until-empty", "tutorial"])
        .any_stderr()
        .check();
    assert!(
        place.read("out.txt").contains("says: hello"),
        "{}",
        place.read("out.txt")
    );
    run(&["managequeue", "info", "tutorial", "-i", "rabbit"])
        .any_stdout()
        .any_stderr()
        .check();
    assert!(!place.path("quickstart.db").exists());
}

/// The README's own configuration and commands, with the connection that it names for RabbitMQ.
#[test]
fn what_the_readme_shows_of_rabbitmq_works() {
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## RabbitMQ\n").nth(1).expect("a section on RabbitMQ");
    let section = section.split("\n## ").next().unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let fences = section.split("```").skip(1).step_by(2);
        let found = fences.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'));
        found.map(str::to_owned).collect()
    };
    let vhost = Rabbit::main().vhost();
    let config = blocks("yaml").concat();
    let account = format!("{}:{}", crate::rabbit::segment(vhost.user()), vhost.password());
    let config = config
        .replace("amqp://app@localhost:5672/%2f", &vhost.url())
        .replace(", password_file: /run/secrets/rabbit", "")
        .replace("default: local\n", "");
    assert!(
        config.contains(&account),
        "the connection is written as the test expects it: {config}"
    );
    let place = Place::with_config(&(config + "producers: { demo: {} }\nconsumers: { demo: { handler: noop } }\n"));
    let mut run = 0;
    for line in blocks("sh").concat().lines() {
        let Some(command) = line.strip_prefix("$ qctl ") else {
            continue;
        };
        let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches('"')).collect();
        place.run(words).any_stdout().any_stderr().check();
        run += 1;
    }
    assert!(run > 0);
}
