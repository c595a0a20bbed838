//! The workers of the documentation, as they stand there, behind each handler that has workers, on the embedded store and on
//! RabbitMQ.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ground::{SQLITE, drain, queue, ready};
use crate::rabbit::{Rabbit, Vhost};
use crate::support::{Place, wait_for};

const LANGUAGES: [(&str, &str); 3] = [
    ("python", "[python3, worker.py]"),
    ("php", "[php, worker.php]"),
    ("shell", "[sh, worker.sh]"),
];

fn documented(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workers").join(name)
}

/// A place with the documented workers in it, on the store or on a virtual host of RabbitMQ.
fn place(connection: &str, sections: &str) -> Place {
    let place = Place::with_config(&format!("{connection}{sections}"));
    for name in ["worker.py", "worker.php", "worker.sh", "ko-worker.php"] {
        place.write(name, fs::read(documented(name)).unwrap());
    }
    place
}

/// Runs a test on each of the two.
fn on_both(test: impl Fn(&str)) {
    test(SQLITE);
    let vhost: Vhost = Rabbit::main().vhost();
    test(&format!("connections: {{ rabbit: '{}' }}\n", vhost.url()));
}

#[test]
fn no_worker_of_the_documentation_is_longer_than_25_lines() {
    for name in ["worker.py", "worker.php", "worker.sh"] {
        let text = fs::read_to_string(documented(name)).unwrap();
        assert!(text.lines().count() <= 25, "{name} has {} lines", text.lines().count());
    }
}

#[test]
fn exec_has_the_documented_workers_in_each_language() {
    on_both(|connection| {
        for (language, run) in LANGUAGES {
            let place = place(
                connection,
                &format!(
                    "producers: {{ {language}: {{}} }}\nconsumers: {{ {language}: {{ handler: {{ exec: {{ run: {run}, mode: worker }} }}, retry: {{ attempts: 1 }} }} }}\n"
                ),
            );
            queue(&place, language, &["hello \"you\" \\ é"]);
            place
                .run(["-q", "queuemessage", language, ""])
                .any_stdout()
                .any_stderr()
                .check();
            let run = drain(&place, language);
            assert!(run.stderr.contains("(1 done, 1 not)"), "{language}: {}", run.stderr);
            assert!(run.stderr.contains("the body is empty"), "{language}: {}", run.stderr);
            assert_eq!(ready(&place, &format!("{language}.dead")), 1);
        }
    });
}

/// What is asked with `--wait` is answered with the worker's own words.
#[test]
fn commands_are_run_by_processes_or_by_workers_as_one_word_says() {
    on_both(|connection| {
        for (mode, expected) in [
            ("process", "as a process: app:mail x --env=prod\n"),
            ("worker", "as a worker: app:mail x --env=prod"),
        ] {
            let place = place(
                connection,
                &format!(
                    "producers: {{ jobs: {{}} }}\n\
                     commands: {{ console: {{ run: [./console], worker: [python3, worker.py], allow: ['app:*'] }} }}\n\
                     consumers: {{ jobs: {{ handler: {{ command: {{ mode: {mode} }} }} }} }}\n"
                ),
            );
            place.script("console", "echo \"as a process: $*\"");
            let worker = fs::read_to_string(documented("worker.py")).unwrap();
            let answer =
                "    return {\"exit_code\": 0, \"stdout\": \"as a worker: \" + \" \".join(params[\"argv\"])}\n";
            let returns = worker.lines().find(|line| line.starts_with("    return")).unwrap();
            place.write("worker.py", worker.replace(&format!("{returns}\n"), answer));
            let consumer = place.start(["consumer", "jobs"]);
            consumer.wait_stderr("consuming");
            place
                .run(["queuecommand", "--wait", "jobs", "app:mail", "x", "--env=prod"])
                .stdout(expected)
                .any_stderr()
                .check();
        }
    });
}

#[test]
fn services_are_called_with_their_arguments_and_only_those_allowed() {
    on_both(|connection| {
        for (language, run) in LANGUAGES {
            let place = place(
                connection,
                &format!(
                    "producers: {{ {language}: {{}} }}\n\
                     consumers: {{ {language}: {{ handler: {{ service: {{ run: {run}, allow: {{ logger: [log], 'regexp:/app\\.\\w+/': ['regexp:get.*'] }} }} }} }} }}\n"
                ),
            );
            for (service, method) in [
                ("logger", "log"),
                ("app.users", "getAll"),
                ("logger", "delete"),
                ("app.users", "forget"),
                ("my.app.users", "getAll"),
                ("loggers", "log"),
            ] {
                place
                    .run([
                        "-q",
                        "queuemessage",
                        "--kind",
                        "service",
                        language,
                        service,
                        method,
                        "info",
                        "1",
                    ])
                    .any_stdout()
                    .any_stderr()
                    .check();
            }
            let run = drain(&place, language);
            assert!(run.stderr.contains("(2 done, 4 not)"), "{language}: {}", run.stderr);
            assert!(
                run.stderr
                    .contains("\"forget\" of the service \"app.users\" is not allowed"),
                "{}",
                run.stderr
            );
            assert_eq!(ready(&place, &format!("{language}.dead")), 4);
        }
    });
}

#[test]
fn a_worker_is_told_all_that_is_known_of_the_message() {
    on_both(|connection| {
        let place = place(
            connection,
            "producers: { jobs: {} }\nconsumers: { jobs: { handler: { exec: { run: [python3, keep.py], mode: worker } } } }\n",
        );
        place.write(
            "keep.py",
            "import json, sys\nprint('{\"jsonrpc\": \"2.0\", \"method\": \"ready\"}', flush=True)\nfor line in sys.stdin:\n    \
             open('kept', 'a').write(line)\n    print(json.dumps({'jsonrpc': '2.0', 'id': json.loads(line)['id'], 'result': 1}), flush=True)\n",
        );
        place
            .run(["-q", "queuemessage", "-c", "text/plain", "jobs", "-"])
            .stdin(b"\xff\x00".to_vec())
            .any_stdout()
            .any_stderr()
            .check();
        drain(&place, "jobs");
        let kept: Value = serde_json::from_str(place.read("kept").trim()).unwrap();
        assert_eq!(kept["params"], json!({"body_base64": "/wA="}));
        assert_eq!(kept["method"], "handle");
        let message = &kept["message"];
        assert_eq!(message["queue"], "jobs");
        assert_eq!(message["content_type"], "text/plain");
        assert_eq!(message["attempt"], 0);
        assert!(message["id"].is_string() && message["timestamp"].is_i64(), "{message}");
    });
}

const ACTION: &str = r#"<?php
namespace App;

class HelloAction
{
    private $calls = 0;

    public function execute(\AMQPEnvelope $envelope, \AMQPQueue $queue)
    {
        $this->calls++;
        echo "printed by the action\n";
        if ($envelope->getBody() === 'bad') {
            throw new \Exception('no such user');
        }
        $line = "$this->calls " . $queue->getName() . ' ' . $envelope->getRoutingKey() . ' ' . $envelope->getBody() . "\n";
        file_put_contents('out', $line, FILE_APPEND);
        $queue->ack($envelope->getDeliveryTag());
        return false;
    }
}
"#;

#[test]
fn action_classes_of_ko_worker_run_behind_the_bridge() {
    // With ext-amqp and, as `-n` loads no extension, without it.
    for php in ["php", "php, -n"] {
        on_both(|connection| {
            let place = place(
                connection,
                &format!(
                    "producers: {{ hello: {{}} }}\nconsumers:\n  hello:\n    retry: {{ attempts: 1 }}\n    \
                     handler: {{ exec: {{ run: [{php}, ko-worker.php, action.php, App\\HelloAction], mode: worker }} }}\n"
                ),
            );
            place.write("action.php", ACTION);
            queue(&place, "hello", &["one", "bad", "two"]);
            let run = drain(&place, "hello");
            assert_eq!(
                place.read("out"),
                "1 hello hello one\n1 hello hello two\n",
                "{}",
                run.stderr
            );
            assert!(run.stderr.contains("Exception: no such user"), "{}", run.stderr);
            assert_eq!(ready(&place, "hello.dead"), 1);
        });
    }
}

#[test]
fn a_class_of_ko_worker_without_the_bridge_is_refused_by_name() {
    let place = Place::new();
    place.write(
        "ko.yml",
        "connections: { main: { host: localhost, port: 1, login: guest, password: guest, vhost: / } }\n\
         consumers: { hello: { connection: main, class: 'App\\HelloAction', queue_options: { name: hello, binding: { name: x, routing-keys: '#' } } } }\n",
    );
    let run = place
        .run(["--config", "ko.yml", "consumer", "hello"])
        .code(78)
        .any_stderr()
        .check();
    assert!(
        run.stderr.contains("App\\HelloAction") && run.stderr.contains("docs/workers.md"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_command_that_no_worker_is_said_for_is_a_mistake_in_the_configuration() {
    let place = Place::with_config(&format!(
        "{SQLITE}commands: {{ console: {{ run: [ls], allow: [ls] }} }}\nconsumers: {{ jobs: {{ handler: {{ command: {{ mode: worker }} }} }} }}\n"
    ));
    place
        .run(["config", "check"])
        .code(78)
        .any_stdout()
        .stderr_contains("`commands.console` says no program for it")
        .check();
}

#[test]
fn the_workers_of_an_entry_are_started_when_they_are_first_asked_for() {
    let place = place(
        SQLITE,
        "producers: { jobs: {} }\n\
         commands: { a: { run: [ls], worker: [python3, worker.py], allow: [a] }, b: { run: [ls], worker: [python3, worker.py], allow: [b] } }\n\
         consumers: { jobs: { handler: { command: { mode: worker } } } }\n",
    );
    let consumer = place.start(["consumer", "jobs"]);
    consumer.wait_stderr("consuming");
    place
        .run(["queuecommand", "jobs", "b"])
        .any_stdout()
        .any_stderr()
        .check();
    wait_for("the command", || consumer.stderr().contains("done consumer=jobs"));
    assert!(
        !consumer.stderr().contains("commands.a.worker"),
        "{}",
        consumer.stderr()
    );
}
