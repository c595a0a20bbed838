//! Exchanges, queues and bindings as the configuration describes them, and as the broker then has them.

use serde_json::{Value, json};

use crate::ground::Ground;

fn declared(sections: &str, name: &str) -> Ground {
    let ground = Ground::new(sections);
    ground.declare(name);
    ground
}

fn refused(sections: &str, name: &str, code: i32) -> String {
    let ground = Ground::new(sections);
    let (found, _, error) = ground.outcome(&["managequeue", "declare", name], b"");
    assert_eq!(found, Some(code), "{error}");
    assert_eq!(
        error.lines().filter(|line| line.starts_with("qctl:")).count(),
        1,
        "{error}"
    );
    error
}

/// Portable keys, arguments with their types as predecessors write them, and bindings.
#[test]
fn a_queue_is_made_as_it_is_described() {
    let ground = declared(
        "
producers: { events: { exchange: { name: events, type: topic, arguments: { alternate-exchange: spill } } } }
consumers:
  mail:
    queue:
      name: mail
      max_priority: 10
      ttl: 60s
      max_length: 100
      max_bytes: 1M
      arguments: { x-expires: [I, 3600000], x-queue-mode: [S, lazy], x-single-active-consumer: [t, true] }
      bindings:
        - { exchange: events, routing_key: 'mail.#' }
        - { exchange: events, routing_key: 'all' }
    handler: noop
",
        "mail",
    );
    let queue = ground.vhost.queue("mail").unwrap();
    assert_eq!(queue["durable"], true);
    assert_eq!(
        queue["arguments"],
        json!({
            "x-max-priority": 10, "x-message-ttl": 60_000, "x-max-length": 100, "x-max-length-bytes": 1_048_576,
            "x-overflow": "reject-publish", "x-expires": 3_600_000, "x-queue-mode": "lazy",
            "x-single-active-consumer": true,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "mail.dead",
        })
    );
    assert!(ground.vhost.queue("mail.dead").is_some());
    // The types of the arguments are those of the pairs: an inequivalent type would be refused.
    ground.pika(
        r"
channel.queue_declare('mail', durable=True, arguments={
    'x-max-priority': 10, 'x-message-ttl': 60000, 'x-max-length': 100, 'x-max-length-bytes': 1048576,
    'x-overflow': 'reject-publish', 'x-expires': 3600000, 'x-queue-mode': 'lazy', 'x-single-active-consumer': True,
    'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'mail.dead'})
for key in ['mail.a.b', 'mail', 'all', 'other']:
    channel.basic_publish('events', key, key.encode())
",
        &json!(null),
    );
    let taken = ground.vhost.take("mail", 10);
    let bodies: Vec<_> = taken
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body))
        .collect();
    assert_eq!(bodies, ["mail.a.b", "mail", "all"]);
}

#[test]
fn exchanges_are_of_the_kind_that_is_said() {
    let ground = Ground::new(
        "
producers:
  d: { exchange: { name: d, type: direct } }
  f: { exchange: { name: f, type: fanout, durable: false, auto_delete: true } }
  t: { exchange: { name: t, type: topic, internal: true } }
consumers:
  d: { queue: { name: qd, bindings: [{ exchange: d, routing_key: k }] }, handler: noop }
  f: { queue: { name: qf, bindings: [{ exchange: f }] }, handler: noop }
  t: { queue: { name: qt, bindings: [{ exchange: t, routing_key: 'a.*' }] }, handler: noop }
",
    );
    for name in ["d", "f", "t"] {
        ground.declare(name);
    }
    let exchanges = ground
        .vhost
        .rabbit()
        .management()
        .get(&format!("exchanges/{}", crate::rabbit::segment(ground.vhost.name())));
    let of = |name: &str| {
        let found = exchanges
            .as_array()
            .unwrap()
            .iter()
            .find(|exchange| exchange["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {exchanges}")).clone()
    };
    let facts = |exchange: &Value| ["type", "durable", "auto_delete", "internal"].map(|key| exchange[key].clone());
    assert_eq!(
        facts(&of("d")),
        [json!("direct"), json!(true), json!(false), json!(false)]
    );
    assert_eq!(
        facts(&of("f")),
        [json!("fanout"), json!(false), json!(true), json!(false)]
    );
    assert_eq!(
        facts(&of("t")),
        [json!("topic"), json!(true), json!(false), json!(true)]
    );
    // Nobody publishes to an internal one from outside.
    let (code, _, error) = ground.outcome(&["queuemessage", "-r", "a.b", "t", "x"], b"");
    assert_eq!(code, Some(77), "{error}");
    assert!(error.contains("exchange `t`") && error.contains("internal"), "{error}");
}

#[test]
fn an_exchange_can_route_by_headers() {
    let ground = Ground::new(
        "
producers: { h: { exchange: { name: h, type: headers } } }
consumers:
  all: { queue: { bindings: [{ exchange: h, arguments: { format: pdf, language: de } }] }, handler: noop }
  any: { queue: { bindings: [{ exchange: h, arguments: { x-match: any, format: pdf, language: de } }] }, handler: noop }
",
    );
    let send = |headers: &[&str]| {
        let mut words = vec!["queuemessage", "h", "x"];
        words.extend(headers.iter().flat_map(|header| ["--header", header]));
        ground.outcome(&words, b"").0
    };
    assert_eq!(send(&["format=pdf"]), Some(0));
    let ready = |queue: &str| ground.vhost.counts(queue).ready;
    assert_eq!((ready("any"), ready("all")), (1, 0));
    assert_eq!(send(&["format=pdf", "language=de"]), Some(0));
    assert_eq!((ready("any"), ready("all")), (2, 1));
    let (code, _, error) = ground.outcome(&["queuemessage", "h", "x"], b"");
    assert_eq!(code, Some(66), "{error}");
}

/// A message that is sent before any consumer was started is not lost, in whichever order they come.
#[test]
fn the_order_of_starting_does_not_matter() {
    const BOTH: &str = "
producers: { events: { exchange: { name: events, type: topic } } }
consumers: { mail: { queue: { name: mail, bindings: [{ exchange: events, routing_key: '#' }] }, handler: noop } }
";
    let first = Ground::new(BOTH);
    first
        .place
        .run(["queuemessage", "-r", "k", "events", "x"])
        .any_stdout()
        .check();
    assert_eq!(first.vhost.counts("mail").ready, 1);
    let log = first.drain("mail");
    assert!(log.contains("1 done"), "{log}");
    let second = Ground::new(BOTH);
    let _consumer = second.consumer("mail", "mail");
    second
        .place
        .run(["queuemessage", "-r", "k", "events", "x"])
        .any_stdout()
        .check();
}

#[test]
fn what_must_be_there_already_is_not_made() {
    const PASSIVE: &str = "
producers: { jobs: { exchange: { name: theirs, passive: true } } }
consumers: { jobs: { queue: { name: jobs, passive: true }, handler: noop } }
";
    let error = refused(PASSIVE, "jobs", 66);
    assert!(error.contains("`theirs`") || error.contains("`jobs`"), "{error}");
    let ground = Ground::new(PASSIVE);
    ground.pika(
        "channel.exchange_declare('theirs', 'headers')\n\
         channel.queue_declare('jobs', arguments={'x-max-length': 7})\n\
         channel.queue_bind('jobs', 'theirs', '', {'x-match': 'all'})",
        &json!(null),
    );
    // As they are, of whichever kind.
    ground
        .place
        .run(["queuemessage", "-r", "k", "jobs", "x"])
        .any_stdout()
        .check();
    let log = ground.drain("jobs");
    assert!(log.contains("1 done"), "{log}");
    assert_eq!(
        ground.vhost.queue("jobs").unwrap()["arguments"],
        json!({"x-max-length": 7})
    );
}

#[test]
fn a_queue_for_one_connection_or_for_as_long_as_it_is_used() {
    let ground = Ground::new(
        "
producers: { mine: {}, ours: {} }
consumers:
  mine: { queue: { name: mine, exclusive: true, durable: false }, dead_letter: none, handler: noop }
  ours: { queue: { name: ours, auto_delete: true }, dead_letter: none, handler: noop }
",
    );
    let consumer = ground.consumer("mine", "mine");
    let (code, _, error) = ground.outcome(&["consumer", "--until-empty", "mine"], b"");
    assert_eq!(code, Some(75), "{error}");
    assert!(error.contains("belongs to another connection alone"), "{error}");
    drop(consumer);
    crate::rabbit::wait_until("the exclusive queue is gone", || ground.vhost.queue("mine").is_none());
    ground.drain("ours");
    crate::rabbit::wait_until("the unused queue is gone", || ground.vhost.queue("ours").is_none());
}

/// What the broker does not know, or would ignore in silence, is refused before anything is made.
#[test]
fn what_the_broker_would_ignore_is_refused() {
    let queue = |rest: &str| format!("consumers: {{ q: {{ queue: {{ name: q, {rest} }}, handler: noop }} }}\n");
    for (rest, expected) in [
        ("arguments: { x-max-lenght: 5 }", "did you mean `x-max-length`"),
        ("arguments: { x-queue-type: stream }", "stream"),
        ("arguments: { x-queue-type: quorum }, max_priority: 5", "priorities"),
        ("arguments: { x-queue-type: quorum }, durable: false", "durable"),
        ("arguments: { x-max-length: 5 }, max_length: 6", "said twice"),
        ("arguments: { x-max-length: [Q, 5] }", "Q"),
    ] {
        let ground = Ground::new(&queue(rest));
        let (code, _, error) = ground.outcome(&["managequeue", "declare", "q"], b"");
        assert!(matches!(code, Some(64 | 78)), "{rest}: {code:?} {error}");
        assert!(error.contains(expected), "{rest}: {error}");
        assert!(ground.vhost.queues().is_empty(), "{rest}");
    }
    let error = refused("producers: { h: { exchange: { name: h, type: header } } }\n", "h", 78);
    assert!(error.contains("did you mean `headers`"), "{error}");
}

#[test]
fn a_quorum_queue_is_one() {
    let ground = declared(
        "consumers: { q: { queue: { name: q, arguments: { x-queue-type: quorum } }, handler: noop } }\n",
        "q",
    );
    let queue = ground.vhost.queue("q").unwrap();
    assert_eq!(queue["type"], "quorum");
    assert_eq!(queue["arguments"]["x-dead-letter-routing-key"], "q.dead");
}
