//! `qctl config`, and mistakes in the configuration as its users meet them.

use crate::support::{Place, Test};

const GOOD: &str = "
connections:
  here: { url: 'sqlite://./queue.db' }
  rabbit: { url: 'sqlite://./other.db' }
default: here
producers:
  mail: { queue: mail }
consumers:
  mail: { queue: mail, handler: { exec: { run: [cat] } } }
";

#[test]
fn without_a_file_the_defaults_are_in_force() {
    Test::new()
        .args(["config", "check"])
        .stdout_contains("no configuration file")
        .check();
    Test::new()
        .args(["config", "path"])
        .stdout_contains("none (built-in defaults)")
        .stdout_contains("sqlite://")
        .check();
}

#[test]
fn a_right_file_is_counted() {
    let place = Place::with_config(GOOD);
    place
        .run(["config", "check"])
        .stdout_contains("/qctl.yml is right: 2 connection(s), 1 producer(s), 1 consumer(s)\n")
        .check();
    let report = place.json(["config", "check"]);
    assert_eq!(report["ok"], true);
    assert_eq!(report["connections"], 2);
}

#[test]
fn the_configuration_named_is_the_one() {
    let place = Place::with_config("[");
    place.write("other.yml", GOOD);
    place
        .run(["config", "check", "--config", "other.yml"])
        .stdout_contains("other.yml is right")
        .check();
    place
        .run(["config", "check"])
        .env("QCTL_CONFIG", "other.yml")
        .stdout_contains("other.yml is right")
        .check();
    place
        .run(["--config", "none.yml", "config", "check"])
        .code(78)
        .stderr_contains("none.yml")
        .check();
}

#[test]
fn paths_in_force_are_shown() {
    let place = Place::with_config(GOOD);
    let report = place.json(["config", "path"]);
    assert!(report["config"].as_str().unwrap().ends_with("qctl.yml"));
    assert!(report["connections"]["here"].as_str().unwrap().contains("queue.db"));
    assert!(report["state"].is_string());
}

#[test]
fn the_schema_is_one_json_document() {
    let schema = Place::new().json(["config", "schema"]);
    assert!(schema["properties"]["consumers"].is_object(), "{schema}");
}

#[test]
fn the_configuration_in_force_is_shown_in_both_forms() {
    let place = Place::with_config(GOOD);
    place
        .run(["config", "show"])
        .stdout_contains("queue.db")
        .stdout_contains("consumers:")
        .check();
    assert!(place.json(["config", "show"])["consumers"]["mail"].is_object());
}

#[test]
fn mistakes_name_file_line_and_key() {
    for (yaml, parts) in [
        ("consumerz: {}\n", &["qctl.yml", "1", "consumerz", "consumers"][..]),
        ("producers: {}\nproducers: {}\n", &["qctl.yml", "2", "producers"]),
        (
            "consumers:\n  mail:\n    queue: mail\n    handler: { exec: { run: [cat], timeout: soon } }\n",
            &["qctl.yml", "4", "timeout", "soon"],
        ),
        (
            "connections:\n  here: 'sqlite://${NOWHERE_SET}/q.db'\n",
            &["qctl.yml", "2", "NOWHERE_SET"],
        ),
        ("producers: [\n", &["qctl.yml"]),
    ] {
        let place = Place::with_config(yaml);
        let error = place.run(["config", "check"]).code(78).any_stderr().check().stderr;
        assert_eq!(error.lines().count(), 1, "{error}");
        for part in parts {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }
}

#[test]
fn without_a_home_it_says_what_to_set() {
    let error = Test::new()
        .args(["queuemessage", "demo", "body"])
        .without_env("HOME")
        .without_env("XDG_STATE_HOME")
        .without_env("XDG_CONFIG_HOME")
        .code(78)
        .any_stderr()
        .check()
        .stderr;
    assert!(error.contains("HOME"), "{error}");
}

/// Whoever starts the consumer may stand anywhere: what a file names is looked for beside the file.
#[test]
fn programs_and_folders_are_found_beside_the_file_that_names_them() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("site/bin")).unwrap();
    std::fs::create_dir_all(place.path("site/data")).unwrap();
    for name in ["bin/job.sh", "top.sh", "with a space.sh"] {
        place.script(
            &format!("site/{name}"),
            &format!(
                "pwd >> '{}'; echo '{name}' \"$@\" >> '{0}'",
                place.path("out").display()
            ),
        );
    }
    place.write(
        "site/qctl.yml",
        "connections: { here: 'sqlite://queue.db' }\n\
         include: bin/more.yml\n\
         consumers:\n  \
           one: { handler: { exec: { run: bin/job.sh, cwd: data } } }\n  \
           two: { handler: { exec: { run: [./with a space.sh, x/y] } } }\n  \
           three: { handler: command }\n\
         producers: { one: {}, two: {}, three: {} }\n\
         commands: { top: { run: [./top.sh, bin], allow: 'top:*', cwd: data } }\n",
    );
    place.write(
        "site/bin/more.yml",
        "commands: { deep: { run: ./job.sh, allow: 'deep:*' } }\n",
    );
    let qctl = |args: &[&str]| {
        place
            .run(["--config", "site/qctl.yml", "-q"])
            .args(args.iter().copied())
            .any_stdout()
            .any_stderr()
            .check();
        place.read("out")
    };
    let (here, data) = (place.path(""), place.path("site/data"));
    let (here, data) = (here.to_str().unwrap().trim_end_matches('/'), data.to_str().unwrap());
    qctl(&["queuemessage", "one", "x"]);
    assert_eq!(
        qctl(&["consumer", "--until-empty", "one"]),
        format!("{data}\nbin/job.sh\n")
    );
    std::fs::remove_file(place.path("out")).unwrap();
    qctl(&["queuemessage", "two", "x"]);
    assert_eq!(
        qctl(&["consumer", "--until-empty", "two"]),
        format!("{here}\nwith a space.sh x/y\n"),
        "arguments stay as they are"
    );
    std::fs::remove_file(place.path("out")).unwrap();
    qctl(&["queuecommand", "three", "top:a"]);
    qctl(&["queuecommand", "three", "deep:b"]);
    assert_eq!(
        qctl(&["consumer", "--until-empty", "three"]),
        format!("{data}\ntop.sh bin top:a\n{here}\nbin/job.sh deep:b\n")
    );
}

#[test]
fn native_arguments_are_for_the_driver_to_judge() {
    let config = |arguments: &str| {
        format!(
            "connections: {{ here: 'sqlite://queue.db' }}\nproducers: {{ a: {{}} }}\nconsumers:\n  a:\n    handler: noop\n    \
             queue: {{ arguments: {arguments} }}\n"
        )
    };
    Place::with_config(&config("{ x-foo: 1 }"))
        .run(["config", "check"])
        .code(78)
        .stderr_contains(
            "./qctl.yml:6: consumers.a.queue: queue `a`: the driver sqlite does not know the argument `x-foo`; remove it \
             (the driver knows x-max-priority, x-message-ttl, ",
        )
        .check();
    Place::with_config(
        "connections: { here: 'sqlite://queue.db' }\nproducers: { a: { exchange: { name: x, arguments: { spare: y } } } }\n",
    )
    .run(["config", "check"])
    .code(78)
    .stderr_contains("./qctl.yml:2: producers.a.exchange: exchange `x`: the driver sqlite does not know the argument `spare`")
    .check();

    let place = Place::with_config(&config(
        "{ x-max-length: [I, 2], x-dead-letter-routing-key: [S, lost] }",
    ));
    place
        .run(["queuemessage", "-q", "--lines", "a"])
        .stdin("1\n2\n3\n")
        .code(3)
        .any_stdout()
        .stderr_contains("full")
        .check();
    let shown = place.json(["config", "show"]);
    assert_eq!(shown["consumers"]["a"]["dead_letter"], "lost");
    let info = place.json(["managequeue", "info", "a"]);
    assert_eq!(
        (&info["ready"], &info["dead_letter"]),
        (&2.into(), &"lost".into()),
        "{info}"
    );
    place
        .run(["managequeue", "declare", "b", "-a", "x-foo=1"])
        .code(64)
        .stderr_contains("the driver sqlite does not know the argument `x-foo`")
        .check();
    // PHP writes an empty map so.
    Place::with_config(&config("[]"))
        .run(["config", "check"])
        .any_stdout()
        .check();
}

#[test]
fn the_predecessors_words_are_understood() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://queue.db' }\n\
         producers:\n  mail:\n    exchange_options: { name: mail, type: topic, nowait: false, ticket: ~, autodelete: false }\n\
         consumers:\n  mail:\n    queue_options:\n      name: mail\n      auto_delete: false\n      nowait: false\n      arguments: []\n      \
         qos_count: 3\n      binding: { name: mail, routing-keys: 'mail.#' }\n    \
         callback: kaliop_queueing.message_consumer.console_command\n  \
         news:\n    qos: 5\n    exchange_options: { name: mail }\n    queue_options: { routing_keys: [news.a, news.b] }\n    callback: message_consumer.noop\n",
    );
    // A map describes an exchange: this one differently.
    place
        .run(["config", "check"])
        .code(78)
        .stderr_contains(
            "consumers.news.exchange_options: the exchange `mail` is described differently at ./qctl.yml:4",
        )
        .check();
    let text = place.read("qctl.yml").replace("{ name: mail }", "mail");
    place.write("qctl.yml", text);
    let shown = place.json(["config", "show"]);
    let (mail, news) = (&shown["consumers"]["mail"], &shown["consumers"]["news"]);
    assert_eq!((&mail["prefetch"], &news["prefetch"]), (&3.into(), &5.into()));
    assert!(
        mail["handler"]["command"].is_object() && news["handler"]["noop"].is_object(),
        "{shown}"
    );
    assert_eq!(mail["queue"]["bindings"][0]["routing_key"], "mail.#");
    assert_eq!(news["queue"]["bindings"][1]["routing_key"], "news.b");
    place
        .run([
            "queuecommand",
            "-r",
            "mail.x",
            "mail",
            "echoback",
            "hello",
            "-f=out.txt",
        ])
        .any_stdout()
        .check();
    place
        .run(["consumer", "-q", "--until-empty", "mail"])
        .any_stderr()
        .check();
    assert!(place.read("out.txt").ends_with("says: hello\n"));
}

#[test]
fn what_a_later_version_reads_is_not_called_a_slip() {
    for (yaml, expected) in [
        (
            "connections:\n  r: stomp://me:hunter2@rabbit\n",
            "./qctl.yml:2: connections.r: needs the driver stomp, which this version of qctl does not have yet; there is sqlite, amqp\n",
        ),
        (
            "listeners: [{ event: message_sent }]\n",
            "./qctl.yml:1: listeners[0]: says nothing to do",
        ),
        (
            "consumers:\n  a: { callback: kaliop_queueing.message_consumer.symfony_service }\n",
            "./qctl.yml:2: consumers.a.callback: `run` is missing: the program of the persistent workers",
        ),
    ] {
        let error = Place::with_config(yaml)
            .run(["config", "check"])
            .code(78)
            .stderr_contains(expected)
            .check()
            .stderr;
        assert!(!error.contains("hunter2"), "{error}");
    }
    Place::with_config("workers: {}\nlisteners: []\n")
        .run(["config", "check"])
        .any_stdout()
        .check();
}

#[test]
fn files_from_other_editors_are_read() {
    for yaml in [
        "\u{feff}consumers:\n  a:\n    handler: noop\n",
        "consumers:\r\n  a:\r\n    handler: noop\r\n",
    ] {
        Place::with_config(yaml)
            .run(["config", "check"])
            .stdout_contains("1 consumer(s)")
            .check();
        Place::with_config(&yaml.replace("handler", "handlr"))
            .run(["config", "check"])
            .code(78)
            .stderr_contains("./qctl.yml:3: consumers.a.handlr: unknown key; did you mean `handler`?")
            .check();
    }
}

/// The time to read a configuration grows with its length and not with its square.
#[test]
fn a_large_configuration_is_read_in_a_moment() {
    use std::fmt::Write as _;

    let mut yaml = "producers:\n  all: { exchange: { name: all, type: topic } }\n".to_owned();
    for number in 0..3000 {
        writeln!(yaml, "  c{number}: {{}}").unwrap();
    }
    yaml.push_str("consumers:\n");
    for number in 0..3000 {
        writeln!(yaml, "  c{number}: {{ handler: noop, dead_letter: lost, queue: {{ bindings: {{ exchange: all, routing_key: k{number} }} }} }}").unwrap();
    }
    let place = Place::with_config(&yaml);
    let begun = std::time::Instant::now();
    place
        .run(["config", "check"])
        .stdout_contains("3001 producer(s), 3000 consumer(s)")
        .check();
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}
