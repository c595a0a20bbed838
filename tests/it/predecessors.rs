//! Configurations of the Kaliop bundle, RabbitMqBundle and ko-worker, loaded as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::support::{Place, Test};

/// A place with a copy of a fixture in it.
fn place_of(fixture: &str) -> Place {
    let place = Place::new();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/predecessors")
            .join(fixture),
        &place.path("site"),
    );
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const KALIOP: &str = "site/app/config/config.yml";
/// The same on an embedded store, its console run without PHP.
const ON_SQLITE: &str = "include: site/app/config/config.yml\n\
                         connections: { default: 'sqlite://queue.db' }\n\
                         commands: { console: { run: [site/app/console, --no-interaction] } }\n";

#[test]
fn it_loads_wherever_a_configuration_loads_and_warns_once() {
    let place = place_of("kaliop");
    let warning = "qctl: warning: site/app/config/config.yml: what fails is tried once, as before, and then kept in `<queue>.dead` \
                   (commands, mail, nightly); to have retries, write `consumers: { commands: { retry: { attempts: 5 } } }` into a \
                   qctl.yml with `include: [config.yml]` beside it, or change what `qctl config import site/app/config/config.yml` \
                   writes\n";
    let told = place
        .run(["--config", KALIOP, "config", "check"])
        .stdout_contains("config.yml (with 3 more) is right: 1 connection(s), 2 producer(s), 3 consumer(s)\n")
        .stderr_contains(warning)
        .stderr_contains("config.yml:53: old_sound_rabbit_mq.consumers.mail.idle_timeout: left out: use `qctl consumer --idle SECS`\n")
        .stderr_contains("config.yml:6: imports[3].resource: left out: only YAML files are read")
        .check();
    assert_eq!(told.stderr.matches("warning").count(), 1, "{}", told.stderr);
    place
        .run(["managequeue", "list-configured"])
        .env("QCTL_CONFIG", KALIOP)
        .stdout_contains("shop.commands")
        .stderr(warning)
        .check();
    place
        .run(["-q", "--config", KALIOP, "managequeue", "list-configured"])
        .any_stdout()
        .check();
    let report = place.json(["--config", KALIOP, "config", "check"]);
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["left_out"].as_array().unwrap().len(), 5, "{report:#}");
    assert_eq!(report["workers"], 1);
    // Secrets are masked there as anywhere.
    let shown = place.json(["--config", KALIOP, "config", "show"]);
    assert_eq!(shown["connections"]["default"]["password"], "***");
    assert_eq!(shown["consumers"]["commands"]["queue"]["as_written"], true);
    assert_eq!(shown["consumers"]["commands"]["retry"]["attempts"], 1);
    let worker = &shown["workers"]["commands_1"];
    assert_eq!(
        (&worker["consumer"], &worker["instances"]),
        (&json!("commands"), &json!(1))
    );
    assert_eq!(worker["options"], json!(["-m", "1000"]));
}

#[test]
fn a_failure_runs_once_as_before_unless_retries_are_asked_for() {
    let place = place_of("kaliop");
    place.write("qctl.yml", ON_SQLITE);
    place.script("site/app/console", "echo \"$@\" >> ran; [ \"$2\" != cache:clear ]");
    let queue = |command: &str| {
        place
            .run(["-q", "queuecommand", "commands", command, "x"])
            .any_stdout()
            .check();
    };
    let consume = || {
        place
            .run(["-q", "consumer", "--until-empty", "commands"])
            .any_stderr()
            .check();
    };
    queue("cache:clear");
    queue("shop:export:all");
    queue("echoback");
    consume();
    assert_eq!(
        place.read("ran"),
        "--no-interaction cache:clear x\n--no-interaction shop:export:all x\n"
    );
    let dead = || place.json(["managequeue", "info", "shop.commands.dead"])["ready"].clone();
    assert_eq!(dead(), 1);
    // A `retry` of one's own is laid over it, and nothing is left to be warned of for that consumer.
    place.write(
        "qctl.yml",
        format!(
            "{ON_SQLITE}consumers:\n  commands: {{ retry: {{ attempts: 2, min: 1ms }} }}\n  mail: {{ retry: {{}} }}\n  \
             nightly: {{ retry: {{}} }}\n"
        ),
    );
    fs::remove_file(place.path("ran")).unwrap();
    place
        .run(["queuecommand", "commands", "cache:clear", "y"])
        .any_stdout()
        .check();
    place
        .run(["-q", "consumer", "-m", "2", "commands"])
        .any_stderr()
        .check();
    assert_eq!(
        place.read("ran"),
        "--no-interaction cache:clear y\n--no-interaction cache:clear y\n"
    );
    assert_eq!(dead(), 2);
}

#[test]
fn only_what_was_allowed_may_be_queued() {
    let place = place_of("kaliop");
    place.write("qctl.yml", ON_SQLITE);
    for command in ["shop:delete:all", "my:shop:import:all", "cache:clearer"] {
        place
            .run(["-q", "queuecommand", "commands", command])
            .code(77)
            .stderr_contains(command)
            .check();
    }
    // Without the list its predecessor ran anything; qctl runs nothing, and says so.
    let text = place
        .read("site/app/config/queueing.yml")
        .replace("allowed_commands", "allowed_commandz");
    place.write("site/app/config/queueing.yml", text);
    place.write("qctl.yml", ON_SQLITE.lines().take(2).collect::<Vec<_>>().join("\n"));
    place
        .run(["managequeue", "list-configured"])
        .any_stdout()
        .stderr_contains(
            "only `echoback` may be run: without `kaliop_queueing.default.allowed_commands` its predecessor ran anything, and qctl \
             runs nothing; write `commands: { console: {",
        )
        .check();
    place
        .run(["-q", "queuecommand", "commands", "cache:clear"])
        .code(77)
        .any_stderr()
        .check();
    place
        .run(["-q", "queuecommand", "commands", "echoback", "x"])
        .any_stdout()
        .check();
}

#[test]
fn a_console_that_is_not_there_or_not_to_be_trusted_is_not_run() {
    for spoil in [
        (|place: &Place| fs::remove_file(place.path("site/app/console")).unwrap()) as fn(&Place),
        |place| {
            let everyone = fs::Permissions::from_mode(0o777);
            fs::set_permissions(place.path("site/app/console"), everyone).unwrap();
        },
    ] {
        let place = place_of("kaliop");
        spoil(&place);
        place
            .run(["--config", KALIOP, "config", "check"])
            .any_stdout()
            .stderr_contains(
                "the allowed commands are not run, because neither app/console nor bin/console is there near it; write \
                 `commands: { console: { run: [php, /PATH/bin/console, --no-interaction] } }` into",
            )
            .check();
        let report = place.json(["--config", KALIOP, "config", "check"]);
        assert_eq!(report["commands"], serde_json::json!(["echoback"]));
        let imported = place
            .run(["-q", "config", "import", KALIOP])
            .any_stdout()
            .check()
            .stdout;
        assert!(
            imported.contains(
                "#   console:\n#     run: [php, /PATH/bin/console, --no-interaction]\n#     allow: [\"cache:clear\""
            ),
            "{imported}"
        );
    }
}

#[test]
fn a_callback_of_ones_own_holds_up_its_consumer_alone() {
    let place = place_of("kaliop");
    place.write("qctl.yml", ON_SQLITE);
    place
        .run(["-q", "queuemessage", "mail", "-r", "mail.x", "body"])
        .any_stdout()
        .check();
    place
        .run(["-q", "consumer", "mail"])
        .code(78)
        .stderr(
            "qctl: ./site/app/config/config.yml:54: old_sound_rabbit_mq.consumers.mail.callback: the messages are taken by the \
             service app.mailer, which qctl cannot run; to take them with qctl, give this consumer a handler such as `handler: { \
             exec: { run: [PROGRAM] } }`\n",
        )
        .check();
    assert_eq!(place.json(["managequeue", "info", "mail"])["ready"], 1);
    place.script("mailer.sh", "cat > mailed");
    place.write(
        "qctl.yml",
        format!("{ON_SQLITE}consumers: {{ mail: {{ handler: {{ exec: {{ run: ./mailer.sh }} }} }} }}\n"),
    );
    place
        .run(["-q", "consumer", "--until-empty", "mail"])
        .any_stderr()
        .check();
    assert_eq!(place.read("mailed"), "body");
    // ko-worker's classes are such callbacks all of them.
    place_of("ko-worker")
        .run(["-q", "--config", "site/config.yml", "consumer", "mail"])
        .code(78)
        .stderr_contains(
            "site/config.yml:25: consumers.mail.class: the messages are taken by ko-worker's class App\\Action\\Mail",
        )
        .check();
}

#[test]
fn mistakes_name_the_file_line_and_key_of_the_original() {
    let bundle = |queue: &str| {
        format!(
            "parameters:\n  loop: '%pool%'\n  pool: '%loop%'\nold_sound_rabbit_mq:\n  connections: {{ default: {{ host: h }} }}\n  \
             consumers:\n    a:\n      callback: x\n      queue_options:\n        name: a\n        {queue}\n"
        )
    };
    for (yaml, expected) in [
        (
            bundle("routing_keys: [*]"),
            "./qctl.yml:11: not valid YAML: did not find expected alphabetic or numeric character; put text that begins with `*` in \
             quotes, such as '*' or '*.news'",
        ),
        (
            bundle("routing_keys: *.news"),
            "./qctl.yml:11: not valid YAML: did not find expected alphabetic or numeric character; put text that begins with `*` in \
             quotes, such as '*' or '*.news'",
        ),
        (
            bundle("durable: %durable%"),
            "./qctl.yml:11: not valid YAML: found character that cannot start any token; put text that begins with `%` in quotes, \
             such as '%name%'",
        ),
        (
            bundle("durable: '%durable%'"),
            "./qctl.yml:11: old_sound_rabbit_mq.consumers.a.queue_options.durable: no parameter is called `durable`; define it under \
             `parameters:`, here or in a file that is included too, or write `%%` for the character itself",
        ),
        (
            bundle("durable: '%loop%'"),
            "./qctl.yml:3: parameters.pool: parameters refer to each other in a circle: loop → pool → loop; give one of them a value",
        ),
        (
            bundle("durable: '%env(DURABLE)%'"),
            "./qctl.yml:11: old_sound_rabbit_mq.consumers.a.queue_options.durable: the variable `DURABLE` is not set; set it, or give \
             it a default as `parameters: { env(DURABLE): … }`",
        ),
        (
            bundle("durable: 2"),
            "./qctl.yml:11: old_sound_rabbit_mq.consumers.a.queue_options.durable: must be true or false, not `2`",
        ),
        (
            bundle("arguments: { x-max-length: [Q, 3] }"),
            "./qctl.yml:11: old_sound_rabbit_mq.consumers.a.queue_options.arguments.x-max-length: `Q` is no type letter; there are S \
             text, I integer,",
        ),
        (
            bundle("arguments: { x-max-length: [I, many] }"),
            "./qctl.yml:11: old_sound_rabbit_mq.consumers.a.queue_options.arguments.x-max-length[1]: must be a whole number, not \
             `many`",
        ),
        (
            bundle("arguments: x-max-length"),
            "./qctl.yml:11: old_sound_rabbit_mq.consumers.a.queue_options.arguments: must be a map such as `{ x-max-length: [I, 20] \
             }`, or a text such as `x-max-length:20:I`",
        ),
        (
            "imports: [{ resource: gone.yml }]\nparameters: {}\n".to_owned(),
            "./qctl.yml:1: imports[0].resource: ./gone.yml: cannot be read (No such file or directory",
        ),
        (
            "parameters:\n  kaliop_queueing.default.allowed_commands:\n    - a\n    - 'regexp:/(?!b)/'\n".to_owned(),
            "./qctl.yml:4: parameters.\"kaliop_queueing.default.allowed_commands\"[1]: has what only PHP's expressions know, such as \
             look-around or a back-reference, which qctl's patterns do not; write the names one by one, or a \
             plainer expression",
        ),
        (
            "connections: { m: { host: h } }\nconsumers:\n  a: { class: A, queue_options: { nam: a } }\n".to_owned(),
            "./qctl.yml:3: consumers.a.queue_options: `name` is missing: the queue that it takes from",
        ),
    ] {
        let error = Place::with_config(&yaml)
            .run(["config", "check"])
            .code(78)
            .stderr_contains(expected)
            .check()
            .stderr;
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// Foreign keys are passed over in foreign files only.
#[test]
fn a_slip_in_a_file_of_ones_own_stays_a_mistake() {
    for (yaml, expected) in [
        (
            "services: {}\nconnections: { here: 'sqlite://q.db' }\n",
            "./qctl.yml:1: services: unknown key",
        ),
        (
            "imports: [a.yml]\nproducers: {}\n",
            "./qctl.yml:1: imports: unknown key",
        ),
        (
            "consumers:\n  a: { handler: noop, class: A }\n",
            "./qctl.yml:2: consumers.a.class: unknown key",
        ),
        (
            "consumers:\n  a: { queue: { name: !important a }, handler: noop }\n",
            "./qctl.yml:2: consumers.a.queue.name: the YAML tag",
        ),
    ] {
        Place::with_config(yaml)
            .run(["config", "check"])
            .code(78)
            .stderr_contains(expected)
            .check();
    }
}

#[test]
fn files_speak_in_the_order_that_symfony_has() {
    let place = Place::new();
    fs::create_dir(place.path("sub")).unwrap();
    place.write(
        "qctl.yml",
        "imports:\n  - sub/all.yml\n  - { resource: absent.yml, ignore_errors: true }\n\
         parameters: { queue: mine }\n\
         old_sound_rabbit_mq:\n  connections: { default: { host: over } }\n  consumers: { gone: false, a: { queue_options: { routing_keys: ['c'] } } }\n",
    );
    place.write(
        "sub/all.yml",
        "parameters: { queue: theirs, all: '%queue%' }\n\
         old_sound_rabbit_mq:\n  connections: { default: { host: under, port: 5673, vhost: 1.10 } }\n  consumers:\n    \
         gone: { callback: x, queue_options: { name: gone } }\n    \
         a: { callback: !php/const x, exchange_options: { name: e, type: topic }, queue_options: { name: '%all%', routing-keys: [a] } }\n",
    );
    let shown = place.json(["config", "show"]);
    assert_eq!(
        shown["connections"]["default"]["endpoint"],
        "amqp://guest@over:5673/1.10"
    );
    let consumers = shown["consumers"].as_object().unwrap();
    assert_eq!(consumers.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(consumers["a"]["queue"]["name"], "mine");
    assert_eq!(consumers["a"]["connection"], "default");
}

#[test]
fn import_writes_a_file_for_its_owner_alone() {
    let place = place_of("ko-worker");
    let import = |more: &[&str]| {
        let mut args = vec!["config", "import", "site/config.yml", "-o", "new.yml"];
        args.extend(more);
        place.run(args)
    };
    import(&[])
        .stdout("wrote new.yml\n")
        .stderr_contains(
            "site/config.yml:9: connections.main.read_timeout: left out: qctl notices a dead broker by the heartbeat\n",
        )
        .check();
    let mode = || fs::metadata(place.path("new.yml")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    import(&[])
        .code(65)
        .stderr_contains("new.yml is there already; name another FILE, or add --force")
        .check();
    fs::set_permissions(place.path("new.yml"), fs::Permissions::from_mode(0o644)).unwrap();
    import(&["--force", "-q"]).stdout("wrote new.yml\n").check();
    assert_eq!(mode(), 0o600, "a password must not get into a file that others read");
    // Nothing is left to be warned of.
    place
        .run(["--config", "new.yml", "config", "check"])
        .stdout_contains("new.yml is right: 2 connection(s), 1 producer(s), 2 consumer(s)\n")
        .check();
    place
        .run(["config", "import", "site/config.yml"])
        .stdout_contains("password: hunter2")
        .stderr_contains(
            "qctl: warning: it holds a password, as the original does; keep it from others, or write it with -o\n",
        )
        .check();
}

#[test]
fn import_tells_what_it_is_not_given() {
    let place = place_of("rabbitmq-bundle");
    let file = "site/config/packages/old_sound_rabbit_mq.yaml";
    place
        .run(["config", "import", file])
        .stdout_contains("url: \"${RABBITMQ_URL}\"\n")
        .stderr_contains(
            "qctl: set these variables before it is used: RABBITMQ_HEARTBEAT, RABBITMQ_URL, REPORTS_PASSWORD\n",
        )
        .check();
    let report = place.json(["config", "import", "-o", "new.yml", file]);
    assert_eq!(report["from"], "rabbitmq-bundle");
    assert_eq!(report["unset"][0], "RABBITMQ_HEARTBEAT");
    // A mistake is the original's.
    let text = place.read(file).replace("[S, lost]", "[Q, lost]");
    place.write(file, text);
    place
        .run(["config", "import", file])
        .env("RABBITMQ_URL", "amqp://h")
        .env("RABBITMQ_HEARTBEAT", "10")
        .env("REPORTS_PASSWORD", "x")
        .code(78)
        .stderr_contains("old_sound_rabbit_mq.yaml:45: old_sound_rabbit_mq.consumers.events.queue_options.arguments")
        .check();
    Test::new()
        .config("connections: { here: 'sqlite://q.db' }\n")
        .args(["config", "import", "qctl.yml"])
        .code(78)
        .stderr_contains("qctl.yml: is not recognised as a predecessor's configuration")
        .check();
    Test::new()
        .args(["config", "import", "--from", "cobol", "x.yml"])
        .code(2)
        .stderr_contains("kaliop, rabbitmq-bundle, ko-worker")
        .check();
}

/// What the README prints for those who come from there.
#[test]
fn the_readme_works_as_printed() {
    let readme = include_str!("../../README.md");
    let (_, block) = readme.split_once("```yml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let place = Place::new();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/predecessors/kaliop/app"),
        &place.path("app"),
    );
    let (_, commands) = readme.split_once("```sh\nqctl --config app/").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    for line in format!("qctl --config app/{commands}").lines() {
        let words = line.split('#').next().unwrap().split_whitespace().skip(1);
        place.run(words).any_stdout().any_stderr().check();
    }
    place.write("qctl.yml", block);
    let shown = place.json(["config", "show"]);
    assert_eq!(shown["consumers"]["commands"]["retry"]["attempts"], 5);
    assert!(shown["consumers"]["mail"]["handler"]["exec"].is_object());
    assert_eq!(shown["commands"]["console"]["run"][3], "--env=prod");
    assert_eq!(shown["commands"]["console"]["allow"][0], "cache:clear");
}
