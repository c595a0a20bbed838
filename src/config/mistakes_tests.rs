//! What is said about configurations that mean nothing.

use std::fs;
use std::path::Path;

use super::fakes::{TABLES, surroundings};
use super::load_with;
use super::schema::schema_of;
use super::schema::validator::validate;
use super::tests::{load, load_files, root_of, said};
use crate::ErrorKind;

/// Parts of what is said about mistakes that no schema can tell: they need other entries, a driver or the environment.
const BEYOND_A_SCHEMA: &[&str] = &[
    "no connection is called",
    "to an `exchange` or to a `queue`",
    "has no effect",
    "means the same as",
    "is no type letter",
    "must be a whole number, not `many`",
    "must be a list, not `1`",
    "described differently",
    "which qctl cannot call",
    "not in this version of qctl yet; there are",
    "and so is `handler`",
    "is given here and at the queue",
    "qos.global",
    "must not be longer than",
    "exit_codes.9-3",
    "already given another meaning",
    "is the queue itself",
    "a queue is bound with",
    "no producer of this connection",
    "is a pattern, which a direct",
    "has another `dead_letter`",
    "allow[1]",
    "the name of a variable",
    "write a list such as `[${HOST}, x]`",
    "is not set",
    "and so is `log`",
    "no queue, producer, consumer or worker is called",
    "stops nothing",
    "there is no producer called",
    "listeners[0].accumulate",
    "there is no key to check them with",
];

#[test]
fn mistakes_name_file_line_key_and_what_was_meant() {
    let schema = schema_of(TABLES);
    let connections = "connections: {local: \"sqlite:///q.db\", rabbit: \"fake://h\"}\ndefault: local\n";
    for (text, expected) in [
        (
            "conections: {}",
            "./qctl.yml:3: conections: unknown key; did you mean `connections`? (known here: include, default, ",
        ),
        (
            "listeners: [{event: message_sent}]",
            "./qctl.yml:3: listeners[0]: says nothing to do; give it one of log, stopwatch",
        ),
        (
            "listeners: [{on: message_send, log: {}}]",
            "listeners[0].on: there is no event `message_send`; there are message_sent, message_received",
        ),
        (
            "listeners: [{on: message_sent, log: {}, stop: 5}]",
            "listeners[0].stop: is given, and so is `log`; keep one of the two",
        ),
        (
            "listeners: [{on: message_sent, queue: nowhere, log: {}}]",
            "listeners[0].queue: no queue, producer, consumer or worker is called `nowhere`",
        ),
        (
            "consumers: {a: {handler: command, signing: require}}",
            "consumers.a.signing: asks for signatures, and there is no key to check them with",
        ),
        (
            "listeners: [{on: message_sent, policy: stop, log: {}}]",
            "listeners[0].policy: is `stop`, and message_sent stops nothing",
        ),
        (
            "listeners: [{on: message_consumption_failed, requeue: nowhere}]",
            "there is no producer called `nowhere`",
        ),
        (
            "listeners: [{on: message_consumed, accumulate: {}}]",
            "listeners[0].accumulate: `file` is missing",
        ),
        (
            "default: local",
            "./qctl.yml:3: default: this key was already given on line 2",
        ),
        (
            "producers: [a]",
            "./qctl.yml:3: producers: must be a map of keys, not a list",
        ),
        ("producers: {\"\": {}}", "the name of a producer must not be empty"),
        ("producers: {\"a\\e\": {}}", "must not hold control characters"),
        (
            "producers:\n  a: {connection: locl}",
            "./qctl.yml:4: producers.a.connection: no connection is called `locl`; did you mean `local`? (there are local, rabbit)",
        ),
        (
            "producers: {a: {exchange: x, queue: y}}",
            "producers.a.queue: a producer sends to an `exchange` or to a `queue`",
        ),
        (
            "producers: {a: {queue: y, routing_key: z}}",
            "producers.a.routing_key: has no effect",
        ),
        (
            "producers: {a: {exchange: {type: topic}}}",
            "producers.a.exchange: `name` is missing",
        ),
        (
            "producers: {a: {exchange: {name: x, type: tpic}}}",
            "producers.a.exchange.type: must be direct, fanout, topic or headers, not `tpic`; did you mean `topic`?",
        ),
        (
            "producers: {a: {exchange: {name: x, durable: maybe}}}",
            "must be true or false, not `maybe`",
        ),
        (
            "producers: {a: {exchange: {name: x, tpye: topic}}}",
            "producers.a.exchange.tpye: unknown key; did you mean `type`?",
        ),
        (
            "producers: {a: {exchange: {name: x, auto_delete: 1, autodelete: 1}}}",
            "autodelete: means the same as `auto_delete`",
        ),
        (
            "producers: {a: {exchange: {name: x, arguments: {k: [Q, 1]}}}}",
            "arguments.k: `Q` is no type letter",
        ),
        (
            "producers: {a: {exchange: {name: x, arguments: {k: [I, many]}}}}",
            "arguments.k[1]: must be a whole number",
        ),
        (
            "producers: {a: {exchange: {name: x, arguments: {k: [A, 1]}}}}",
            "arguments.k[1]: must be a list, not `1`",
        ),
        (
            "producers: {a: {ttl: soon}}",
            "producers.a.ttl: must be a duration such as",
        ),
        (
            "producers: {a: {exchange: {name: x, type: topic}}, b: {exchange: {name: x, type: fanout}}}",
            "producers.b.exchange: the exchange `x` is described differently at ./qctl.yml:3",
        ),
        (
            "consumers: {a: {}}",
            "consumers.a: `handler` is missing: what takes the messages, one of command, exec",
        ),
        (
            "consumers: {a: {handler: comand}}",
            "consumers.a.handler: no handler is called `comand`; did you mean `command`? (there are command, exec)",
        ),
        (
            "consumers: {a: {handlr: command}}",
            "consumers.a.handlr: unknown key; did you mean `handler`?",
        ),
        (
            "consumers: {a: {callback: kaliop_queueing.message_consumer.http_request}}",
            "consumers.a.callback: means `handler: http`, which is not in this version of qctl yet; there are command, exec",
        ),
        (
            "consumers: {a: {callback: my.service}}",
            "consumers.a.callback: names the service `my.service`, which qctl cannot call; write `handler:` with one of command, exec",
        ),
        (
            "consumers: {a: {callback: my.service, handler: command}}",
            "consumers.a.callback: is given, and so is `handler`",
        ),
        ("consumers: {a: {handler: {}}}", "names no handler"),
        ("consumers: {a: {handler: {command: {}, exec: {}}}}", "names 2 handlers"),
        (
            "consumers: {a: {handler: {exec: {}}}}",
            "consumers.a.handler.exec: `run` is missing",
        ),
        (
            "consumers: {a: {handler: {exec: {rn: x}}}}",
            "consumers.a.handler.exec.rn: unknown key; did you mean `run`?",
        ),
        (
            "consumers: {a: {handler: {exec: {run: sort -u}}}}",
            "consumers.a.handler.exec.run: is one program's name, with a space in it; write a list such as `[sort, -u]`, or,",
        ),
        (
            "consumers: {a: {handler: {exec: {run: x, tmeout: 1}}}}",
            "consumers.a.handler.exec.tmeout: unknown key; did you mean `timeout`?",
        ),
        (
            "consumers: {a: {handler: {command: {timeout: long}}}}",
            "consumers.a.handler.command.timeout: must be a duration",
        ),
        (
            "consumers: {a: {handler: command, concurrency: 0}}",
            "concurrency: must be at least 1, and is `0`",
        ),
        (
            "consumers: {a: {handler: command, concurrency: 1001}}",
            "concurrency: must be at most 1000",
        ),
        (
            "consumers: {a: {handler: command, prefetch: 0}}",
            "prefetch: must be at least 1",
        ),
        (
            "consumers: {a: {handler: command, prefetch: 3, queue: {qos_count: 3}}}",
            "prefetch: is given here and at the queue",
        ),
        (
            "consumers: {a: {handler: command, qos: {global: true}}}",
            "qos.global: is not supported",
        ),
        (
            "consumers: {a: {handler: command, retry: {attempts: 0}}}",
            "retry.attempts: must be at least 1",
        ),
        (
            "consumers: {a: {handler: command, retry: {min: 5m, max: 1m}}}",
            "retry.min: must not be longer than `max`, and 5m is longer than 1m",
        ),
        (
            "consumers: {a: {handler: command, retry: {jitter: 1.5}}}",
            "retry.jitter: must be a share from 0 to 1",
        ),
        (
            "consumers: {a: {handler: command, retry: {backoff: double}}}",
            "must be exponential, linear or fixed, not `double`",
        ),
        (
            "consumers: {a: {handler: command, retry: 3}}",
            "retry: must be a map of keys, not `3`",
        ),
        (
            "consumers: {a: {handler: command, exit_codes: {0: okay}}}",
            "exit_codes.0: must be ack, retry or reject, not `okay`",
        ),
        (
            "consumers: {a: {handler: command, exit_codes: {256: ack}}}",
            "exit_codes.256: must be an exit code from 0 to 255",
        ),
        (
            "consumers: {a: {handler: command, exit_codes: {\"9-3\": ack}}}",
            "must be an exit code",
        ),
        (
            "consumers: {a: {handler: command, exit_codes: {+1: ack}}}",
            "must be an exit code",
        ),
        (
            "consumers: {a: {handler: command, exit_codes: {\"1-5\": ack, \"5-9\": retry}}}",
            "exit code 5 was already given another meaning",
        ),
        (
            "consumers: {a: {handler: command, exit_codes: {timout: ack}}}",
            "exit_codes.timout: must be an exit code",
        ),
        (
            "consumers: {a: {handler: command, dead_letter: a}}",
            "dead_letter: is the queue itself",
        ),
        (
            "consumers: {a: {handler: command, dead_letter: {}}}",
            "dead_letter: `queue` is missing",
        ),
        (
            "consumers: {a: {handler: command, dead_letter: {queu: x}}}",
            "dead_letter.queu: unknown key; did you mean `queue`?",
        ),
        (
            "consumers: {a: {handler: command, dead_letter: \"x\\ty\"}}",
            "the name of a dead-letter queue must not hold control characters such as '\\t'",
        ),
        (
            "consumers: {a: {handler: command, queue: \"x\\ty\"}}",
            "the name of a queue must not hold control characters",
        ),
        (
            "producers: {a: {queue: \"x\\ny\"}}",
            "the name of a queue must not hold control characters",
        ),
        (
            "producers: {a: {exchange: \"x\\x7Fy\"}}",
            "the name of an exchange must not hold control characters",
        ),
        (
            "producers: {a: {exchange: {nme: x}}}",
            "producers.a.exchange.nme: unknown key; did you mean `name`?",
        ),
        (
            "consumers: {a: {handler: command, queue: \"\"}}",
            "the name of a queue must not be empty",
        ),
        (
            "consumers: {a: {handler: command, queue: {max_priority: 256}}}",
            "max_priority: must be at most 255",
        ),
        (
            "consumers: {a: {handler: command, queue: {name: q, bindings: [{routing_key: x}]}}}",
            "bindings[0]: `exchange` is missing",
        ),
        (
            "consumers: {a: {handler: command, queue: {name: q, bindings: [{exchnge: x}]}}}",
            "bindings[0].exchnge: unknown key; did you mean `exchange`?",
        ),
        (
            "consumers: {a: {handler: command, queue: {routing_key: x}}}",
            "queue.routing_key: a queue is bound with `bindings",
        ),
        (
            "producers: {p: {exchange: mail}}\nconsumers: {a: {handler: command, queue: {bindings: {exchange: mial}}}}",
            "./qctl.yml:4: consumers.a.queue.bindings.exchange: no producer of this connection uses an exchange `mial`; did you mean `mail`? (there is mail)",
        ),
        (
            "producers: {p: {connection: rabbit, exchange: mail}}\nconsumers: {a: {handler: command, queue: {bindings: {exchange: mail}}}}",
            "no producer of this connection uses an exchange `mail` (there is none)",
        ),
        (
            "producers: {p: {exchange: mail}}\nconsumers: {a: {handler: command, queue: {bindings: {exchange: mail, routing_key: \"a.#\"}}}}",
            "`a.#` is a pattern, which a direct exchange does not know",
        ),
        (
            "consumers: {a: {handler: command, queue: {name: q, durable: 1}}, b: {handler: command, queue: {name: q, durable: 0}}}",
            "consumers.b.queue: the queue `q` is described differently at ./qctl.yml:3",
        ),
        (
            "consumers: {a: {handler: command, queue: q, dead_letter: x}, b: {handler: command, queue: q, dead_letter: y}}",
            "consumers.b: the queue `q` has another `dead_letter` at ./qctl.yml:3",
        ),
        ("commands: {c: {allow: x}}", "commands.c: `run` is missing"),
        ("commands: {c: {run: x}}", "commands.c: `allow` is missing"),
        (
            "commands: {c: {run: x, alow: y}}",
            "commands.c.alow: unknown key; did you mean `allow`?",
        ),
        (
            "commands: {c: {run: \"${HOST} x\", allow: y}}",
            "write a list such as `[${HOST}, x]`",
        ),
        (
            "commands: {c: {run: php bin/console, allow: x}}",
            "commands.c.run: is one program's name, with a space in it; write a list such as `[php, bin/console]`",
        ),
        (
            "commands: {c: {run: [], allow: x}}",
            "commands.c.run: must name a program",
        ),
        ("commands: {c: {run: x, allow: [a, \"\"]}}", "commands.c.allow[1]: "),
        (
            "commands: {c: {run: x, allow: x, env: {\"A=B\": c}}}",
            "the name of a variable must not",
        ),
        (
            "commands: {c: {run: x, allow: x, env: {A: [b]}}}",
            "commands.c.env.A: must be text, not a list",
        ),
        (
            "commands: {c: {run: x, allow: x, dash_arguments: maybe}}",
            "must be refuse, separator or allow, not `maybe`",
        ),
        (
            "commands: {c: {run: x, allow: x, env: {A: \"${UNSET}\"}}}",
            "./qctl.yml:3: commands.c.env.A: the variable `UNSET` is not set",
        ),
        ("state_dir: [x]", "state_dir: must be text"),
    ] {
        let whole = format!("{connections}{text}\n");
        let error = said(load(&whole));
        assert!(error.starts_with("./qctl.yml:"), "{text}: {error}");
        assert!(error.contains(expected), "{text}: {error}");
        // An editor tells it too, where no other entry, no driver and no variable need be known for it.
        if let Ok(root) = root_of(&whole) {
            let told = validate(&schema, &root).is_err();
            assert_eq!(
                told,
                !BEYOND_A_SCHEMA.iter().any(|part| error.contains(part)),
                "{text}: {error}"
            );
        }
    }
    let queue = "q".repeat(252);
    let error = said(load(&format!(
        "consumers: {{a: {{handler: command, queue: {queue}}}}}\n"
    )));
    assert!(
        error.contains("the name of a dead-letter queue must not be longer than 255 bytes"),
        "{error}"
    );
    let long = "k".repeat(256);
    let error = said(load(&format!(
        "producers: {{a: {{exchange: x, routing_key: {long}}}}}\n"
    )));
    assert!(
        error.contains("a routing key must not be longer than 255 bytes, and has 256"),
        "{error}"
    );
}

#[test]
fn connections_say_which_drivers_there_are() {
    for (entry, expected) in [
        ("5", "connections.c: must be a URL"),
        ("[a]", "connections.c: must be a URL"),
        ("", "connections.c: must be a URL"),
        (
            "/var/lib/q.db",
            "connections.c: must be a URL that begins with sqlite:, fake:, fakes:",
        ),
        (
            "sqlit:///q.db",
            "connections.c: no driver takes URLs of the scheme `sqlit`; did you mean `sqlite`? (there are sqlite, fake, fakes)",
        ),
        (
            "{url: \"http://x\"}",
            "connections.c.url: no driver takes URLs of the scheme `http` (there are",
        ),
        ("{path: x}", "connections.c: `url` is missing: say where messages are"),
        (
            "{pth: x}",
            "connections.c.pth: unknown key; did you mean `path`? (known here: url, driver, path, durability, ",
        ),
        (
            "{ulr: \"sqlite:///q\"}",
            "connections.c.ulr: unknown key; did you mean `url`?",
        ),
        (
            "{driver: sqlite, pth: x}",
            "connections.c.pth: unknown key; did you mean `path`?",
        ),
        (
            "{host: h, port: 5672, login: l, password: p, vhost: /}",
            "connections.c: needs the driver amqp, which this version of qctl does not have yet; there is sqlite, fake",
        ),
        (
            "\"stomp://h\"",
            "connections.c: needs the driver stomp, which this version of qctl does not have yet",
        ),
        (
            "{driver: stomp}",
            "connections.c.driver: needs the driver stomp, which this version",
        ),
        (
            "{driver: sqlit, path: x}",
            "connections.c.driver: no driver is called `sqlit`; did you mean `sqlite`?",
        ),
        (
            "{driver: fake, url: \"sqlite:///q\"}",
            "connections.c.driver: is fake, and the URL is one of the driver sqlite",
        ),
        (
            "{url: \"sqlite:///q\", durabilty: full}",
            "connections.c.durabilty: unknown key; did you mean `durability`? (known here: driver, url, path, durability, max_bytes)",
        ),
        (
            "{url: \"fake://h\", password: a, password_file: b}",
            "connections.c.password: is given, and so is `password_file`",
        ),
        (
            "{url: \"fake://h\", heartbeat: fast}",
            "connections.c.heartbeat: must be a duration",
        ),
        ("\"fake://${NONE}\"", "connections.c: the variable `NONE` is not set"),
    ] {
        let error = said(load(&format!("# first\nconnections:\n  c: {entry}\n")));
        assert!(error.starts_with("./qctl.yml:3: "), "{entry}: {error}");
        assert!(error.contains(expected), "{entry}: {error}");
    }
    let error = said(load("connections: {a: \"fake://h\", b: \"fake://h\"}\n"));
    assert!(
        error.contains("there are 2 connections and none is the default; add `default: a`"),
        "{error}"
    );
    assert_eq!(
        load("connections: {a: \"fake://h\", default: \"fake://h\"}\n")
            .unwrap()
            .default,
        "default"
    );
    assert_eq!(load("connections: {a: \"fake://${HOST}\"}\n").unwrap().default, "a");
}

#[test]
fn mistakes_about_includes() {
    type Files<'a> = &'a [(&'a str, &'a str)];
    let table: &[(&str, Files<'_>, &str)] = &[
        (
            "include: none.yml\n",
            &[],
            "./qctl.yml:1: include: ./none.yml: cannot be read",
        ),
        ("include: [\"\"]\n", &[], "include[0]: must be the name of a file"),
        ("include: {a: b}\n", &[], "include: must be text, not a map"),
        ("include: \"*/a.yml\"\n", &[], "wildcard in the name of a folder"),
        ("include: d\n", &[("d/x", "")], "./d: is a folder"),
        ("include: qctl.yml\n", &[], "circle: ./qctl.yml → ./qctl.yml"),
        (
            "include: a.yml\n",
            &[
                ("a.yml", "include: d/b.yml\n"),
                ("d/b.yml", "x: 1\ninclude: ../a.yml\n"),
            ],
            "./d/b.yml:2: include: files include each other in a circle: ./a.yml → ./d/b.yml → ./d/../a.yml",
        ),
        (
            "producers: {a: {}}\ninclude: a.yml\n",
            &[("a.yml", "\n\nproducers: {a: {}}\n")],
            "./a.yml:3: producers.a: is also given at ./qctl.yml:1; keep one of the two",
        ),
        (
            "default: x\ninclude: a.yml\n",
            &[("a.yml", "default: x\n")],
            "./a.yml:1: default: is also given at ./qctl.yml:1",
        ),
        (
            "include: a.yml\n",
            &[("a.yml", "a: 1\na: 2\n")],
            "./a.yml:2: a: this key was already given on line 1",
        ),
        (
            "include: a.yml\n",
            &[("a.yml", "wrokers: 1\n")],
            "./a.yml:1: wrokers: unknown key",
        ),
        (
            "include: a.yml\n",
            &[("a.yml", "- x\n")],
            "./a.yml: must be a map of keys",
        ),
    ];
    for (text, others, expected) in table {
        let error = said(load_files(text, others).1);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let chain: Vec<(String, String)> = (0..20)
        .map(|n| (format!("{n}.yml"), format!("include: {}.yml\n", n + 1)))
        .collect();
    let chain: Vec<(&str, &str)> = chain
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let error = said(load_files("include: 0.yml\n", &chain).1);
    assert!(error.contains("more than 8 deep"), "{error}");
}

#[test]
fn included_files_are_trusted_as_little_as_the_file_that_lay_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, config) = load_files("include: a.yml\n", &[("a.yml", "{}\n")]);
    config.unwrap();
    fs::set_permissions(folder.path().join("a.yml"), fs::Permissions::from_mode(0o666)).unwrap();
    let around = surroundings(folder.path());
    let error = load_with(&around, None, TABLES).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotAllowed);
    assert!(
        error
            .to_string()
            .contains("./qctl.yml:1: include: ./a.yml is not used: everyone may write it"),
        "{error}"
    );
    // Whoever names the file answers for it.
    load_with(&around, Some(Path::new("qctl.yml")), TABLES).unwrap();
}
