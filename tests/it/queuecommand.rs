//! `qctl queuecommand`.

use crate::support::{Place, Test};

const CONFIG: &str = "
connections: { here: 'sqlite://./queue.db' }
producers:
  mail: { exchange: { name: mail, type: topic }, routing_key: '' }
  plain: { queue: plain }
consumers:
  mail:
    queue: { name: mail, bindings: [{ exchange: mail, routing_key: 'app.#' }] }
    handler: { command: {} }
  plain: { queue: plain, handler: { command: {} } }
commands:
  console: { run: [echo], allow: ['app:*', 'regexp:cache:(clear|warmup)'] }
";

#[test]
fn a_dry_run_shows_body_and_routing_key() {
    Test::new()
        .args(["queuecommand", "--dry-run", "demo", "echoback", "hello"])
        .stdout_contains("\"command\":\"echoback\"")
        .stdout_contains("\nrouting key: demo (to an exchange it would be echoback)\nqueue: demo\n")
        .check();
    Test::new()
        .config(CONFIG)
        .args(["queuecommand", "--dry-run", "mail", "app:send"])
        .stdout_contains("\nrouting key: app.send\nexchange: mail\n")
        .check();
}

/// Straight to a queue the key is the queue's name, whatever a flag says: what is told is what is sent.
#[test]
fn a_routing_key_that_would_have_no_effect_is_refused() {
    let place = Place::with_config(CONFIG);
    for command in [&["queuecommand"][..], &["queuemessage", "--kind", "command"]] {
        place
            .run(command.iter().chain(&["-r", "app.other", "plain", "app:send"]))
            .code(2)
            .stderr_contains("producer plain sends straight to queue plain")
            .stderr_contains("leave out -r")
            .check();
    }
    let document = place.json(["queuecommand", "plain", "app:send"]);
    assert_eq!(
        (&document["exchange"], &document["routing_key"]),
        (&"".into(), &"plain".into())
    );
    // What is true anyway may be said.
    place
        .run(["queuecommand", "-r", "plain", "plain", "app:send"])
        .any_stdout()
        .check();
    assert_eq!(place.json(["managequeue", "info", "plain"])["ready"], 2);
}

/// The golden bytes of the format: what the old producers wrote.
#[test]
fn bodies_are_byte_for_byte_those_of_the_predecessor() {
    let place = Place::with_config(CONFIG);
    for (words, body, key) in [
        (
            &["-o", "env=prod", "-o", "v", "mail", "cache:clear", "a b", "é"][..],
            r#"{"command":"cache:clear","arguments":["a b","\u00e9"],"options":{"env":"prod","v":null}}"#,
            "cache.clear",
        ),
        (
            &["mail", "a:b"],
            r#"{"command":"a:b","arguments":[],"options":[]}"#,
            "a.b",
        ),
        (
            &["mail", "a:b", "--name=v", "-n=w", "--flag", "x", "--", "--y"],
            r#"{"command":"a:b","arguments":["x","--y"],"options":{"name":"v","n":"w","flag":null}}"#,
            "a.b",
        ),
    ] {
        let document = place.json(["queuecommand", "--novalidate", "--dry-run"].iter().chain(words));
        assert_eq!(document["body"], body, "{words:?}");
        assert_eq!(document["routing_key"], key, "{words:?}");
        assert_eq!(document["content_type"], "application/json");
    }
}

#[test]
fn the_old_option_form_is_understood() {
    let document = Place::new().json([
        "queuecommand",
        "--dry-run",
        "demo",
        "echoback",
        "hi",
        "option.f.out.txt",
    ]);
    let body: serde_json::Value = serde_json::from_str(document["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["arguments"], serde_json::json!(["hi"]));
    assert_eq!(body["options"]["f"], "out.txt");
}

#[test]
fn everything_behind_the_command_is_its_own() {
    let place = Place::new();
    let result = place
        .run([
            "queuecommand",
            "--dry-run",
            "--novalidate",
            "demo",
            "app:x",
            "-t",
            "5",
            "--dry-run",
            "--output=json",
        ])
        .any_stdout()
        .stderr_contains("--dry-run stands behind the command")
        .stderr_contains("qctl's own options stand before demo")
        .check();
    assert!(result.stdout.starts_with("{\"command\":\"app:x\""), "{}", result.stdout);
    place
        .run([
            "queuecommand",
            "-q",
            "--dry-run",
            "--novalidate",
            "demo",
            "app:x",
            "--dry-run",
        ])
        .any_stdout()
        .check();
    place
        .run([
            "queuecommand",
            "--dry-run",
            "--novalidate",
            "demo",
            "app:x",
            "--",
            "--dry-run",
        ])
        .any_stdout()
        .check();
}

/// Whatever the parser itself would take for a flag of qctl in front of the command, aliases and glued values included.
#[test]
fn every_spelling_of_a_misplaced_flag_is_told() {
    let place = Place::new();
    for (word, shown) in [
        ("-ttl=60", "-ttl"),
        ("-t60", "-t60"),
        ("--driver=x", "--driver"),
        ("--route=x", "--route"),
        ("--debug", "--debug"),
        ("-d", "-d"),
        ("-qv", "-qv"),
        ("--help", "--help"),
        ("--output=json", "--output"),
    ] {
        for command in [
            &["queuecommand", "--novalidate"][..],
            &["queuemessage", "--kind", "command"],
        ] {
            place
                .run(command.iter().chain(&["--dry-run", "demo", "app:x", word]))
                .stdout_contains("{\"command\":\"app:x\"")
                .stderr_contains(&format!("{shown} stands behind the command"))
                .check();
        }
    }
    place
        .run([
            "queuecommand",
            "--novalidate",
            "--dry-run",
            "demo",
            "app:x",
            "--env=prod",
            "-n",
            "-5",
            "-",
        ])
        .any_stdout()
        .check();
}

/// An option given with -o is the one that the same word makes behind the command.
#[test]
fn dashes_behind_o_are_those_of_the_option() {
    let place = Place::new();
    let body = |words: &[&str]| {
        let front = ["queuecommand", "--novalidate", "--dry-run"];
        place.json(front.iter().chain(words))["body"].clone()
    };
    let behind = body(&["demo", "a:b", "--dd=1", "-d=2", "--force", "-vvv"]);
    let with_o = [
        "-o",
        "--dd=1",
        "-o",
        "-d=2",
        "-o=--force",
        "--option",
        "-vvv",
        "demo",
        "a:b",
    ];
    // -vvv alone is qctl's own, so it is asked about (below); -d=2 has a value of its own.
    assert_eq!(
        body(&[&with_o[..5], &with_o[7..]].concat()),
        body(&["demo", "a:b", "--dd=1", "-d=2", "--force"])
    );
    assert!(behind.as_str().unwrap().contains(r#""-vvv":null"#));
    for own in ["--dry-run", "--wait", "-vvv", "-t"] {
        place
            .run(["queuecommand", "--novalidate", "-o", own, "demo", "a:b"])
            .code(2)
            .stderr_contains(&format!("-o is followed by {own}, an option of qctl"))
            .check();
    }
    place
        .run(["queuecommand", "--novalidate", "-o", "--=x", "demo", "a:b"])
        .code(2)
        .stderr_contains("NAME=VALUE")
        .check();
}

#[test]
fn the_old_ttl_spelling_works() {
    let document = Place::new().json(["queuecommand", "-ttl=60", "--dry-run", "demo", "echoback", "x"]);
    assert_eq!(document["ttl"], 60.0);
}

#[test]
fn it_tells_what_was_queued() {
    let place = Place::with_config(CONFIG);
    let text = place
        .run(["queuecommand", "-t", "60", "mail", "app:send"])
        .any_stdout()
        .check()
        .stdout;
    assert!(
        text.starts_with("Command queued for execution, will be valid for 60 seconds\nid: "),
        "{text}"
    );
    let document = place.json(["queuecommand", "mail", "app:send", "--n=v"]);
    assert_eq!(document["exchange"], "mail");
    assert_eq!(document["routing_key"], "app.send");
    assert!(!document["id"].as_str().unwrap().is_empty());
    let id = place
        .run(["queuecommand", "-q", "plain", "app:send"])
        .any_stdout()
        .check()
        .stdout;
    assert_eq!(id.lines().count(), 1);
    assert_eq!(place.json(["managequeue", "info", "mail"])["ready"], 2);
    assert_eq!(place.json(["managequeue", "info", "plain"])["ready"], 1);
}

#[test]
fn options_do_not_disturb_the_routing_key() {
    let document = Place::with_config(CONFIG).json([
        "queuecommand",
        "-r",
        "app.other",
        "-o",
        "a=1",
        "--dry-run",
        "mail",
        "app:x",
    ]);
    assert_eq!(document["routing_key"], "app.other");
}

#[test]
fn an_unknown_producer_names_those_there_are() {
    let error = Test::new()
        .config(CONFIG)
        .args(["queuecommand", "mial", "app:send"])
        .code(66)
        .any_stderr()
        .check()
        .stderr;
    for part in [
        "qctl: no producer is called `mial`",
        "did you mean `mail`",
        "mail, plain",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(error.lines().count(), 1);
}

/// That a consumer has the name is half of it: the sentence says what to write for the other half, and it works as written.
#[test]
fn a_consumer_without_a_producer_is_told_what_is_missing() {
    let config = "connections: { here: 'sqlite://./queue.db', there: 'sqlite://./other.db' }\ndefault: here\n\
                  consumers: { jobs: { handler: command, queue: 'work: a' }, far: { connection: there, handler: command } }\n";
    let place = Place::with_config(config);
    for (name, missing) in [
        ("jobs", "producers: { jobs: { queue: \"work: a\" } }"),
        ("far", "producers: { far: { connection: there, queue: far } }"),
    ] {
        place.write("qctl.yml", config);
        let error = place
            .run(["queuecommand", name, "echoback", "x"])
            .code(66)
            .stderr_contains(&format!(
                "no producer is called `{name}`, only a consumer; to send to its queue add `{missing}` to "
            ))
            .check()
            .stderr;
        assert_eq!(error.lines().count(), 1, "{error}");
        place.write("qctl.yml", format!("{config}{missing}\n"));
        place.run(["queuecommand", name, "echoback", "x"]).any_stdout().check();
        assert_eq!(place.json(["managequeue", "info", name])["ready"], 1);
    }
}

#[test]
fn a_command_that_is_not_allowed_is_refused_before_sending() {
    let place = Place::with_config(CONFIG);
    let error = place
        .run(["queuecommand", "plain", "rm:all"])
        .code(77)
        .any_stderr()
        .check()
        .stderr;
    for part in [
        "'rm:all' is not allowed",
        "app:*",
        "--novalidate",
        "commands:",
        "qctl.yml",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(error.lines().count(), 1);
    // A pattern is anchored at both ends.
    place
        .run(["queuecommand", "plain", "cache:clear:all"])
        .code(77)
        .any_stderr()
        .check();
    place.run(["queuecommand", "plain", "cache:clear"]).any_stdout().check();
    place
        .run(["queuecommand", "--novalidate", "plain", "rm:all"])
        .any_stdout()
        .check();
    assert_eq!(place.json(["managequeue", "info", "plain"])["ready"], 2);
}

/// What every consumer with this configuration would reject is refused before it is sent, in the consumer's own words.
#[test]
fn what_a_consumer_would_reject_is_refused_before_sending() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { p: { queue: q } }\nconsumers: {}\ncommands:\n\
         \x20 strict: { run: [echo], allow: [strict] }\n\
         \x20 lax: { run: [echo], allow: [lax], dash_arguments: separator }\n",
    );
    for (words, part) in [
        (&["strict", "--", "-file.csv"][..], "dash_arguments"),
        (&["echoback", "x", "--file=/etc/passwd"], "working directory"),
        (&["echoback", "x", "--force"], "option `f` or `file` only"),
    ] {
        let error = place
            .run(["queuecommand", "p"].iter().chain(words))
            .code(77)
            .stderr_contains(part)
            .stderr_contains("--novalidate")
            .check()
            .stderr;
        assert_eq!(error.lines().count(), 1, "{error}");
        place
            .run(["queuecommand", "--dry-run", "p"].iter().chain(words))
            .code(77)
            .any_stderr()
            .check();
        place
            .run(["queuecommand", "--dry-run", "--novalidate", "p"].iter().chain(words))
            .any_stdout()
            .check();
    }
    place
        .run(["queuecommand", "p", "lax", "--", "-file.csv"])
        .any_stdout()
        .check();
    assert_eq!(place.json(["managequeue", "info", "q"])["ready"], 1);
}

/// The commands that `--help` shows are taken as they stand there.
#[test]
fn the_examples_of_the_help_work() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: {}, mail: {}, import: {} }\nconsumers: {}\n\
         commands: { app: { run: [echo], allow: ['app:*'] } }\n",
    );
    let help = place.run(["queuecommand", "--help"]).any_stdout().check().stdout;
    let examples: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  qctl queuecommand "))
        .collect();
    assert!(examples.len() >= 3, "{help}");
    for example in examples {
        let words = example.split(' ').map(|word| word.trim_matches('\''));
        place
            .run(["queuecommand", "--dry-run"])
            .args(words)
            .any_stdout()
            .check();
    }
}

#[test]
fn a_command_that_is_mistyped_gets_a_suggestion() {
    Test::new()
        .args(["queuecommand", "demo", "echobak", "x"])
        .code(77)
        .stderr_contains("did you mean 'echoback'?")
        .check();
}

#[test]
fn option_names_cannot_smuggle_a_shell() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuecommand", "-o", "x; touch P; #=1", "plain", "app:send"])
        .code(65)
        .stderr_contains("qctl: ")
        .check();
    assert!(!place.path("P").exists());
}

#[test]
fn a_message_that_no_queue_takes_is_an_error() {
    Test::new()
        .config(CONFIG)
        .args(["queuecommand", "-r", "nobody.listens", "mail", "app:send"])
        .code(66)
        .stderr_contains("nobody.listens")
        .check();
}

#[test]
fn an_empty_or_dashed_command_is_a_mistake() {
    Test::new()
        .args(["queuecommand", "demo"])
        .code(2)
        .stderr_contains("<COMMAND>")
        .check();
    Test::new()
        .args(["queuecommand", "demo", ""])
        .code(2)
        .stderr_contains("command's name")
        .check();
    Test::new()
        .args(["queuecommand", "demo", "--bogus", "x"])
        .code(2)
        .stderr_contains("'--bogus'")
        .check();
}

#[test]
fn delayed_commands_wait() {
    let place = Place::with_config(CONFIG);
    place
        .run(["queuecommand", "--delay", "1h", "plain", "app:send"])
        .any_stdout()
        .check();
    let info = place.json(["managequeue", "info", "plain"]);
    assert_eq!((info["ready"].as_u64(), info["delayed"].as_u64()), (Some(0), Some(1)));
}

#[test]
fn one_id_is_one_message() {
    let place = Place::with_config(CONFIG);
    for _ in 0..2 {
        place
            .run(["queuecommand", "--message-id", "once", "plain", "app:send"])
            .any_stdout()
            .check();
    }
    assert_eq!(place.json(["managequeue", "info", "plain"])["ready"], 1);
}

#[test]
fn connections_can_be_overridden_by_name_and_by_driver() {
    let place =
        Place::with_config("connections: { a: 'sqlite://./a.db' }\nproducers: { p: { queue: q } }\nconsumers: {}\n");
    place
        .run(["queuemessage", "-i", "sqlite", "p", "x"])
        .any_stdout()
        .check();
    place
        .run(["queuemessage", "--driver", "a", "p", "x"])
        .any_stdout()
        .check();
    place
        .run(["queuemessage", "-i", "rabbit", "p", "x"])
        .code(66)
        .stderr_contains("no connection is called `rabbit`")
        .check();
}

#[test]
fn an_implicit_store_is_named_once() {
    let place = Place::new();
    let error = place
        .run(["queuecommand", "demo", "echoback", "x"])
        .any_stdout()
        .any_stderr()
        .check()
        .stderr;
    assert_eq!(error.matches("embedded store").count(), 1, "{error}");
    place
        .run(["queuecommand", "-q", "demo", "echoback", "x"])
        .any_stdout()
        .check();
}
