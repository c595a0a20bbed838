//! `qctl managequeue` on RabbitMQ: what differs there from the embedded store.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rabbit::{Rabbit, Vhost, segment};
use crate::support::{Place, wait_for};

/// A connection `r` that has the management API, one `bare` that has not, and what `rest` adds.
fn place(vhost: &Vhost, rest: &str) -> Place {
    let (url, management) = (vhost.url(), vhost.rabbit().management_url());
    Place::with_config(&format!(
        "default: r\nconnections:\n  r: {{ url: '{url}', management: '{management}' }}\n  \
         bare: {{ url: '{url}', management: false }}\n{rest}"
    ))
}

/// A producer and a consumer `demo`, and a topic exchange in front of `mail`.
const USUAL: &str = "
producers: { demo: { queue: demo }, mail: { exchange: { name: mailx, type: topic } } }
consumers:
  demo: { queue: demo, handler: { exec: { run: ['./run.sh'] } } }
  mail: { queue: { name: mail, bindings: [{ exchange: mailx, routing_key: '#', arguments: {} }, { exchange: amq.headers, arguments: { format: pdf } }] }, handler: { exec: { run: ['./run.sh'] } } }
";

fn usual(vhost: &Vhost) -> Place {
    let place = place(vhost, USUAL);
    place.script("run.sh", "exit 65");
    place
}

fn send(place: &Place, to: &str, lines: &str) {
    let lines = lines.to_owned();
    place
        .run(["queuemessage", "--lines", to])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn info(place: &Place, name: &str) -> Value {
    place.json(["managequeue", "info", name])
}

fn names(place: &Place, args: &[&str]) -> Vec<String> {
    let rows = place.json(["managequeue"].iter().chain(args));
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn bodies(found: &Value) -> Vec<&str> {
    let found = found.as_array().unwrap().iter();
    found.map(|message| message["body"].as_str().unwrap()).collect()
}

/// Runs a verb whose output matters to nobody.
fn quietly(place: &Place, args: &[&str]) {
    place
        .run(["managequeue"].iter().chain(args))
        .any_stdout()
        .any_stderr()
        .check();
}

#[test]
fn the_api_lists_all_queues_but_qctl_s_own_and_without_it_those_configured_are() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    vhost.declare("somebody's", &json!({}));
    quietly(&place, &["declare", "demo"]);
    quietly(&place, &["pause", "demo"]);
    place
        .run(["queuemessage", "--delay", "1h", "demo", "x"])
        .any_stdout()
        .check();
    assert_eq!(names(&place, &["list"]), ["demo", "demo.dead", "somebody's"]);
    assert!(vhost.queues().iter().any(|name| name.starts_with("qctl.delay.")));
    let rows = place.json(["managequeue", "list", "demo"]);
    assert_eq!((&rows[0]["paused"], &rows[0]["ready"]), (&json!(true), &json!(0)));
    let config = place.read("qctl.yml").replace("default: r", "default: bare");
    place.write("qctl.yml", config);
    place
        .run(["managequeue", "list"])
        .stdout_contains("demo")
        .stderr_contains("only RabbitMQ's management API tells which queues there are")
        .check();
    assert_eq!(
        names(&place, &["list"]),
        ["demo", "demo.dead"],
        "what is not there is not shown"
    );
}

#[test]
fn info_tells_what_the_api_knows() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    place.script("run.sh", "exec sleep 600");
    let consumer = place.start(["consumer", "--label", "night shift", "mail"]);
    place
        .run(["queuemessage", "--lines", "-r", "a.b", "mail"])
        .stdin("one\ntwo\n")
        .any_stdout()
        .check();
    // The API's figures are some time old.
    wait_for("the message to be held", || info(&place, "mail")["held"] == 1);
    wait_for("the consumer to be told", || {
        info(&place, "mail")["consumer_list"][0]["held"] == 1
    });
    let found = info(&place, "mail");
    let who = &found["consumer_list"][0];
    assert_eq!(
        (&who["label"], &who["pid"]),
        (&json!("night shift"), &json!(consumer.pid())),
        "{found}"
    );
    assert_eq!(
        (&found["ready"], &found["consumers"], &found["delayed"]),
        (&json!(1), &json!(1), &Value::Null)
    );
    assert_eq!(found["properties"]["type"], "classic");
    assert_eq!(found["arguments"]["x-dead-letter-routing-key"], "mail.dead");
    assert_eq!(
        found["bindings"],
        json!([
            { "exchange": "amq.headers", "routing_key": "", "arguments": { "format": "pdf" } },
            { "exchange": "mailx", "routing_key": "#" },
        ])
    );
    let text = place
        .run(["-q", "managequeue", "info", "mail"])
        .any_stdout()
        .check()
        .stdout;
    assert!(text.contains(&format!("held: 1 by pid {}", consumer.pid())), "{text}");
    // What is exact needs no API.
    let bare = place.json(["managequeue", "-i", "bare", "info", "mail"]);
    assert_eq!(
        (&bare["ready"], &bare["consumers"], &bare["held"]),
        (&json!(1), &json!(1), &Value::Null)
    );
    assert_eq!(bare["arguments"]["x-dead-letter-routing-key"], "mail.dead");
    place
        .run(["managequeue", "info", "nowhere"])
        .code(66)
        .stderr_contains("nowhere")
        .check();
}

#[test]
fn a_limit_of_deliveries_without_a_target_is_flagged() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    let lost = "delivery limit 3 and no dead-letter target";
    vhost.declare(
        "by-argument",
        &json!({ "x-queue-type": "quorum", "x-delivery-limit": 3 }),
    );
    vhost.declare("by-policy", &json!({ "x-queue-type": "quorum" }));
    vhost.set_policy("limit", "^by-policy$", &json!({ "delivery-limit": 3 }));
    for (connection, queue) in [("r", "by-argument"), ("bare", "by-argument"), ("r", "by-policy")] {
        wait_for("the policy to be in force", || {
            let info = place.json(["managequeue", "-i", connection, "info", queue]);
            info["blocked_by"].to_string().contains(lost)
        });
        let info = place.json(["managequeue", "-i", connection, "info", queue]);
        assert_eq!(info["properties"]["delivery_limit"], 3, "{info}");
        assert_eq!(info["properties"]["type"], "quorum");
    }
    place
        .run(["managequeue", "check", "--max-ready", "5", "by-argument"])
        .code(1)
        .stdout_contains(lost)
        .any_stderr()
        .check();
    // With a target that is there it is well; with one that is not it is not.
    vhost.set_policy(
        "limit",
        "^by-",
        &json!({ "delivery-limit": 3, "dead-letter-exchange": "", "dead-letter-routing-key": "grave" }),
    );
    wait_for("the missing target to be told", || {
        let info = info(&place, "by-policy");
        info["blocked_by"].to_string().contains("`grave`, which is not there")
    });
    vhost.declare("grave", &json!({}));
    assert_eq!(info(&place, "by-policy")["blocked_by"], json!([]));
    assert_eq!(info(&place, "by-policy")["dead_letter"], "grave");
}

#[test]
fn peek_takes_nothing_and_says_what_it_marks() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    send(&place, "demo", "one\ntwo\nthree\n");
    let told = "marks messages of queue demo as redelivered";
    for connection in ["r", "bare"] {
        let finished = place
            .run(["--output", "json", "managequeue", "-i", connection, "peek", "demo"])
            .any_stdout()
            .stderr_contains(told)
            .check();
        let found: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(bodies(&found), ["one", "two", "three"], "as they stand");
        assert_eq!(finished.stderr.matches("redelivered").count(), 1, "said once");
    }
    let found = place.json(["managequeue", "peek", "--limit", "2", "demo"]);
    let id = found[1]["id"].as_str().unwrap();
    assert_eq!(
        bodies(&place.json(["managequeue", "peek", "--id", id, "demo"])),
        ["two"]
    );
    assert_eq!(vhost.counts("demo").ready, 3);
    assert!(vhost.peek("demo", 1)[0].redelivered, "it is what was said");
    for state in ["delayed", "held"] {
        place
            .run(["managequeue", "peek", "--state", state, "demo"])
            .code(64)
            .stderr_contains("the driver amqp cannot show")
            .check();
    }
    place
        .run(["managequeue", "peek", "--id", "none", "demo"])
        .code(66)
        .any_stderr()
        .check();
}

#[test]
fn a_look_at_a_quorum_queue_wants_a_yes() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    vhost.declare("votes", &json!({ "x-queue-type": "quorum", "x-delivery-limit": 5 }));
    vhost.publish("", "votes", &json!({}), b"a");
    for connection in ["r", "bare"] {
        place
            .run(["managequeue", "-i", connection, "peek", "votes"])
            .code(2)
            .stderr_contains("counts each look as a delivery")
            .stderr_contains("after 5 the broker gives a message up")
            .stderr_contains("add --yes")
            .check();
    }
    assert!(!vhost.take("votes", 1)[0].redelivered, "nobody has looked");
    vhost.publish("", "votes", &json!({}), b"b");
    let found = place.json(["managequeue", "peek", "--yes", "votes"]);
    assert_eq!(bodies(&found), ["b"]);
    wait_for("the message to be back", || vhost.counts("votes").ready == 1);
}

#[test]
fn a_mismatch_is_explained_field_by_field_and_nothing_is_deleted() {
    let vhost = Rabbit::main().vhost();
    let place = place(
        &vhost,
        "producers: { mail: { exchange: { name: mailx, type: topic, durable: true } } }\n\
         consumers: { mail: { queue: { name: mail, durable: false, ttl: 1h, bindings: [{ exchange: mailx, routing_key: '#' }] }, \
         handler: noop } }\n",
    );
    vhost.declare(
        "mail",
        &json!({ "x-max-length": 5, "x-message-ttl": 1000, "x-single-active-consumer": true }),
    );
    vhost.publish("", "mail", &json!({}), b"kept");
    let error = place
        .run(["managequeue", "declare", "mail"])
        .code(78)
        .any_stderr()
        .check()
        .stderr;
    for field in [
        "`durable` is true there and false here",
        "`x-max-length` is 5 there and not set here",
        "`x-message-ttl` is 1000 there and 3600000 here",
        "`x-single-active-consumer` is true there and not set here",
        "`x-dead-letter-exchange` is not set there and '' here",
        "nothing was changed",
    ] {
        assert!(error.contains(field), "{field}: {error}");
    }
    // Without the API the broker is asked field by field, as far as its sentences are not cut off: the name of this vhost is
    // long.
    place
        .run(["managequeue", "-i", "bare", "declare", "mail"])
        .code(78)
        .stderr_contains("`durable` is true there and false here, `x-message-ttl` is 1000 there and 3600000 here")
        .check();
    assert_eq!(vhost.take("mail", 5).len(), 1);
    vhost.delete_queue("mail");
    vhost.declare("mail", &json!({ "x-queue-type": "quorum" }));
    place
        .run(["managequeue", "declare", "mail"])
        .code(78)
        .stderr_contains("`x-queue-type` is 'quorum' there and 'classic' here")
        .check();
    vhost.delete_queue("mail");
    vhost
        .rabbit()
        .management()
        .delete(&format!("exchanges/{}/mailx", segment(vhost.name())));
    vhost.rabbit().management().put(
        &format!("exchanges/{}/mailx", segment(vhost.name())),
        &json!({ "type": "fanout", "durable": false, "auto_delete": false }),
    );
    for connection in ["r", "bare"] {
        place
            .run(["managequeue", "-i", connection, "declare", "mail"])
            .code(78)
            .stderr_contains("`type` is 'fanout' there and 'topic' here, `durable` is false there and true here")
            .check();
    }
    assert!(
        !vhost.queues().contains(&"mail".to_owned()),
        "what was asked for the explanation is not made"
    );
}

#[test]
fn a_paused_consumer_takes_nothing_until_it_is_resumed() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    place.script("run.sh", "cat >> out");
    let mut running = place.start(["consumer", "demo"]);
    wait_for("the consumer", || {
        vhost.queues().contains(&"demo".to_owned()) && vhost.counts("demo").consumers == 1
    });
    place
        .run(["managequeue", "pause", "demo"])
        .stdout("paused queue demo\n")
        .stderr_contains("consumer demo: queue demo")
        .check();
    assert_eq!(
        vhost.counts("demo").consumers,
        0,
        "it has stopped when the command returns"
    );
    send(&place, "demo", "a\n");
    assert_eq!(info(&place, "demo")["paused"], true);
    // One that starts while it is paused takes nothing either.
    place
        .run(["consumer", "-t", "0.5", "demo"])
        .stderr_contains("0 done")
        .check();
    assert_eq!((vhost.counts("demo").ready, place.read("out").as_str()), (1, ""));
    let mut late = place.start(["consumer", "demo"]);
    late.wait_stderr("the queue is paused");
    quietly(&place, &["resume", "demo"]);
    wait_for("the message to be handled", || place.read("out") == "a");
    wait_for("both to take again", || vhost.counts("demo").consumers == 2);
    assert!(!vhost.queues().iter().any(|name| name.starts_with("qctl.paused.")));
    for consumer in [&mut running, &mut late] {
        consumer.signal(Signal::TERM);
        assert_eq!(consumer.wait(), Some(0));
    }
    assert!(
        !vhost.queues().iter().any(|name| name.starts_with("qctl.")),
        "nothing is left: {:?}",
        vhost.queues()
    );
}

#[test]
fn a_pause_tells_of_other_programs_that_go_on() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    quietly(&place, &["declare", "demo"]);
    let script = "import pika, sys\n\
                  channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()\n\
                  channel.basic_consume('demo', print)\n\
                  channel.start_consuming()\n";
    let mut other = vhost
        .rabbit()
        .python()
        .args(["-c", script, &vhost.url()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the other program", || vhost.counts("demo").consumers == 1);
    let paused = place
        .run(["managequeue", "pause", "demo"])
        .stdout("paused queue demo\n")
        .stderr_contains("1 consumer(s) still take from queue demo: ")
        // The management API may or may not know of it yet, and with it goes how sure the rest of the sentence is.
        .stderr_contains("other programs do not");
    paused.check();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_consumer_that_may_not_listen_runs_on_with_a_warning() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    place.script("run.sh", "cat >> out");
    quietly(&place, &["declare", "demo"]);
    send(&place, "demo", "a\n");
    vhost.permit("^demo", ".*", ".*");
    place
        .run(["consumer", "--until-empty", "demo"])
        .stderr_contains("this consumer cannot be paused while it runs")
        .stderr_contains("names that begin with `qctl.`")
        .stderr_contains("1 done")
        .check();
    assert_eq!(place.read("out"), "a");
}

#[test]
fn dead_letters_are_moved_back_as_they_were() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    place
        .run(["queuemessage", "--lines", "-r", "order.paid", "mail"])
        .stdin("one\ntwo\nthree\nfour\n")
        .any_stdout()
        .check();
    place
        .run(["consumer", "-q", "--until-empty", "--log-file", "log", "mail"])
        .check();
    assert_eq!(info(&place, "mail")["dead"], 4);
    let redrive = |args: &[&str]| {
        let report = place.json(["managequeue", "redrive"].iter().chain(args).chain(&["mail"]));
        (report["moved"].as_u64().unwrap(), report["left"].as_u64().unwrap())
    };
    assert_eq!(redrive(&["--dry-run", "--match", "three"]), (1, 3));
    assert_eq!(redrive(&["--match", "three"]), (1, 3));
    assert_eq!(redrive(&["--match", "no such"]), (0, 3));
    assert_eq!(redrive(&["--until", "1h"]), (0, 3));
    assert_eq!(redrive(&["--since", "1h", "--limit", "1"]), (1, 2));
    assert_eq!(
        bodies(&place.json(["managequeue", "peek", "--state", "dead", "mail"])),
        ["two", "four"],
        "what is left stands as it stood"
    );
    assert_eq!(redrive(&["--rate", "50"]), (2, 0));
    let found = place.json(["managequeue", "peek", "mail"]);
    assert_eq!(bodies(&found), ["three", "one", "two", "four"]);
    for message in found.as_array().unwrap() {
        assert_eq!(
            (&message["routing_key"], &message["exchange"], &message["attempt"]),
            (&json!("order.paid"), &json!("mailx"), &json!(0)),
            "{message}"
        );
        assert_eq!(message["headers"], json!({}));
    }
    // It is all of a handler's business that comes back, not only what operators see.
    place.script("run.sh", "echo $QCTL_ROUTING_KEY $QCTL_ATTEMPT >> out");
    place
        .run(["consumer", "-q", "--until-empty", "--log-file", "log", "mail"])
        .check();
    assert_eq!(place.read("out"), "order.paid 0\n".repeat(4));
}

#[test]
fn what_the_broker_itself_gave_up_is_moved_back_too() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    place
        .run(["queuemessage", "--ttl", "50ms", "demo", "late"])
        .any_stdout()
        .check();
    wait_for("it to expire", || info(&place, "demo")["dead"] == 1);
    vhost.publish("", "demo.dead", &json!({}), b"never died");
    place
        .run(["managequeue", "redrive", "demo"])
        .stdout("moved 1 dead letter(s) of demo.dead back to queue demo, 1 left\n")
        .any_stderr()
        .check();
    assert_eq!(bodies(&place.json(["managequeue", "peek", "demo"])), ["late"]);
    assert_eq!(
        bodies(&place.json(["managequeue", "peek", "demo.dead"])),
        ["never died"],
        "what came by another way stays"
    );
}

#[test]
fn a_shared_dead_letter_queue_gives_each_letter_back_to_its_queue() {
    let vhost = Rabbit::main().vhost();
    let place = place(
        &vhost,
        "producers: { a: { queue: a }, b: { queue: b } }\nconsumers:\n  \
         a: { queue: a, dead_letter: grave, handler: { exec: { run: [sh, -c, exit 65] } } }\n  \
         b: { queue: b, dead_letter: grave, handler: { exec: { run: [sh, -c, exit 65] } } }\n",
    );
    for name in ["a", "b"] {
        send(&place, name, &format!("{name}1\n{name}2\n"));
        place
            .run(["consumer", "-q", "--until-empty", "--log-file", "log", name])
            .check();
    }
    let report = place.json(["managequeue", "redrive", "--limit", "1", "b"]);
    assert_eq!((&report["moved"], &report["left"]), (&json!(1), &json!(3)));
    assert_eq!((vhost.counts("a").ready, vhost.counts("b").ready), (0, 1));
    place
        .run(["managequeue", "redrive", "grave"])
        .stdout("moved 3 dead letter(s) of grave back to the queues they came from, 0 left\n")
        .any_stderr()
        .check();
    assert_eq!((vhost.counts("a").ready, vhost.counts("b").ready), (2, 2));
}

#[test]
fn a_redrive_into_a_full_queue_leaves_the_rest_where_it_is() {
    let vhost = Rabbit::main().vhost();
    let place = place(
        &vhost,
        "producers: { demo: { queue: demo } }\n\
         consumers: { demo: { queue: { name: demo, max_length: 2 }, handler: { exec: { run: [sh, -c, exit 65] } } } }\n",
    );
    for line in ["a\n", "b\n", "c\n", "d\n"] {
        send(&place, "demo", line);
        place
            .run(["consumer", "-q", "--until-empty", "--log-file", "log", "demo"])
            .check();
    }
    place
        .run(["managequeue", "redrive", "demo"])
        .code(75)
        .stderr_contains("is full")
        .stderr_contains("2 dead letter(s) of `demo.dead` were moved before")
        .check();
    assert_eq!((vhost.counts("demo").ready, vhost.counts("demo.dead").ready), (2, 2));
    assert_eq!(
        bodies(&place.json(["managequeue", "peek", "--state", "dead", "demo"])),
        ["c", "d"]
    );
}

#[test]
fn a_redrive_that_is_interrupted_loses_nothing() {
    const LETTERS: usize = 4000;
    const ROUND: usize = 500;
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    quietly(&place, &["declare", "demo"]);
    let script = "import pika, sys\n\
                  channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()\n\
                  dead = pika.BasicProperties(headers={'x-qctl-dead-queue': 'demo'})\n\
                  for number in range(int(sys.argv[2])):\n    \
                      channel.basic_publish('', 'demo.dead', str(number), dead)\n\
                  channel.connection.close()\n";
    let published = vhost
        .rabbit()
        .python()
        .args(["-c", script, &vhost.url(), &LETTERS.to_string()])
        .status();
    assert!(published.unwrap().success());
    let signals = [Signal::INT, Signal::KILL, Signal::TERM, Signal::KILL];
    for signal in signals {
        let before = vhost.counts("demo").ready;
        let mut running = place.start(["managequeue", "redrive", "demo"]);
        wait_for("some to be moved", || vhost.counts("demo").ready > before);
        running.signal(signal);
        running.wait();
        wait_for("the broker to have back what was not moved", || {
            vhost.counts("demo.dead").unacknowledged == 0
        });
    }
    quietly(&place, &["redrive", "demo"]);
    assert_eq!(vhost.counts("demo.dead").ready, 0);
    let mut found: Vec<usize> = vhost
        .take("demo", 3 * LETTERS)
        .into_iter()
        .map(|message| String::from_utf8(message.body).unwrap().parse().unwrap())
        .collect();
    assert!(
        found.len() <= LETTERS + signals.len() * ROUND,
        "at most one round is there twice for each end, and {} are there",
        found.len()
    );
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (0..LETTERS).collect::<Vec<_>>(), "each is there");
}

#[test]
fn a_queue_is_deleted_under_conditions_whatever_its_kind() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    for (queue, kind) in [("plain", "classic"), ("votes", "quorum")] {
        for connection in ["r", "bare"] {
            let delete = |conditions: &[&str]| {
                let verb = ["managequeue", "-i", connection, "delete", "--yes", queue];
                place.run(verb.iter().chain(conditions)).any_stdout()
            };
            vhost.declare(queue, &json!({ "x-queue-type": kind }));
            vhost.publish("", queue, &json!({}), b"a");
            wait_for("the message", || vhost.counts(queue).ready == 1);
            delete(&["--if-empty"]).code(75).stderr_contains("not empty").check();
            let script = "import pika, sys\n\
                          channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()\n\
                          channel.basic_qos(prefetch_count=1)\n\
                          channel.basic_consume(sys.argv[2], lambda *_: None)\n\
                          channel.start_consuming()\n";
            let mut other = vhost
                .rabbit()
                .python()
                .args(["-c", script, &vhost.url(), queue])
                .spawn()
                .unwrap();
            wait_for("the other program", || vhost.counts(queue).consumers == 1);
            delete(&["--if-unused"]).code(75).any_stderr().check();
            delete(&[]).code(75).stderr_contains("--force").check();
            other.kill().unwrap();
            other.wait().unwrap();
            wait_for("it to be gone", || {
                let counts = vhost.counts(queue);
                (counts.consumers, counts.unacknowledged) == (0, 0)
            });
            wait_for("the API to know", || {
                vhost.queue(queue).unwrap()["messages_unacknowledged"] == 0
            });
            quietly(&place, &["purge", "--yes", queue]);
            delete(&["--if-empty", "--if-unused"]).any_stderr().check();
            assert!(!vhost.queues().contains(&queue.to_owned()));
        }
    }
    place
        .run(["managequeue", "delete", "--yes", "--force", "--if-unused", "demo"])
        .code(2)
        .any_stderr()
        .check();
    // A pause goes with its queue.
    quietly(&place, &["declare", "demo"]);
    quietly(&place, &["pause", "demo"]);
    quietly(&place, &["delete", "--yes", "demo"]);
    assert_eq!(vhost.queues(), ["demo.dead"]);
}

/// A look undoes no delete, and whoever may read may look.
#[test]
fn looking_makes_nothing() {
    let vhost = Rabbit::main().vhost();
    let place = usual(&vhost);
    for verb in ["info", "peek"] {
        place
            .run(["managequeue", verb, "demo"])
            .code(66)
            .stderr_contains("`qctl managequeue declare demo` makes it")
            .check();
    }
    assert!(vhost.queues().is_empty(), "{:?}", vhost.queues());
    quietly(&place, &["declare", "demo"]);
    vhost.permit("^$", "^$", ".*");
    assert_eq!(info(&place, "demo")["ready"], 0);
}

#[test]
fn a_consumer_refuses_a_queue_that_loses_messages() {
    let vhost = Rabbit::main().vhost();
    let consumer = |arguments: &str, further: &str| {
        place(
            &vhost,
            &format!(
                "consumers: {{ votes: {{ queue: {{ name: votes, arguments: {{ x-queue-type: quorum{arguments} }} }}, \
                 handler: noop{further} }} }}\n"
            ),
        )
    };
    let refused = |place: &Place, connection: &str, told: &str| {
        place
            .run(["consumer", "-i", connection, "-t", "0.2", "votes"])
            .code(78)
            .stderr_contains(told)
            .check();
    };
    let runs = |place: &Place, connection: &str| {
        place
            .run(["consumer", "-i", connection, "-t", "0.2", "votes"])
            .stderr_contains("0 done")
            .check();
    };
    let low = consumer(", x-delivery-limit: 3", "");
    for connection in ["r", "bare"] {
        refused(
            &low,
            connection,
            "delivery limit 3, and its consumer gives a message up only after 10 deliveries",
        );
    }
    runs(&consumer(", x-delivery-limit: 3", ", retry: { deliveries: 3 }"), "r");
    refused(
        &consumer(", x-delivery-limit: 3", ", retry: { deliveries: 0 }"),
        "r",
        "never gives a message up",
    );
    vhost.delete_queue("votes");
    let nowhere = consumer(", x-delivery-limit: 30", ", dead_letter: none");
    for connection in ["r", "bare"] {
        refused(&nowhere, connection, "no dead-letter target");
    }
    vhost.delete_queue("votes");
    // A limit by a policy is the API's to tell.
    let unlimited = consumer("", "");
    runs(&unlimited, "r");
    vhost.set_policy("limit", "^votes$", &json!({ "delivery-limit": 2 }));
    wait_for("the policy to be in force", || {
        vhost.queue("votes").unwrap()["effective_policy_definition"]["delivery-limit"] == 2
    });
    refused(&unlimited, "r", "delivery limit 2");
}

/// The password goes to the API that was named, and to nobody it points to; what is wrong with it is told at -v.
#[test]
fn the_api_is_asked_with_care() {
    let vhost = Rabbit::main().vhost();
    let user = format!("users/{}", segment(vhost.user()));
    let without_tag = json!({ "password": vhost.password(), "tags": "" });
    vhost.rabbit().management().put(&user, &without_tag);
    let place = usual(&vhost);
    quietly(&place, &["declare", "demo"]);
    let finished = place
        .run(["-v", "managequeue", "info", "demo"])
        .any_stdout()
        .stderr_contains("may not use it; give it the tag `management`")
        .check();
    assert!(!finished.stderr.contains(vhost.password()), "{}", finished.stderr);
    assert_eq!(names(&place, &["list"]), ["demo", "demo.dead"], "those configured");

    let pointing = TcpListener::bind("127.0.0.1:0").unwrap();
    let pointed_at = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = (pointing.local_addr().unwrap(), pointed_at.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut client, _) = pointing.accept().unwrap();
        let mut request = [0; 4096];
        let length = client.read(&mut request).unwrap();
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{there}/\r\nContent-Length: 0\r\n\r\n");
        client.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let config = place
        .read("qctl.yml")
        .replace(&vhost.rabbit().management_url(), &format!("http://{here}"));
    place.write("qctl.yml", config);
    place
        .run(["-v", "managequeue", "info", "demo"])
        .env("http_proxy", format!("http://{there}"))
        .any_stdout()
        .stderr_contains("it answers with 302 Found")
        .check();
    let request = server.join().unwrap().to_ascii_lowercase();
    assert!(request.contains("authorization: basic "), "{request}");
    pointed_at.set_nonblocking(true).unwrap();
    assert!(pointed_at.accept().is_err(), "nobody has followed");
}
