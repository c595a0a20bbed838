//! What happens to a message on its way in: routed, refused, held back, ordered; and what is told.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::ground::Ground;
use crate::support::wait_for;

const PLACES: &str = "
producers:
  jobs: {}
  small: {}
  calls: { exchange: { name: calls, type: topic } }
  lonely: { exchange: { name: lonely, type: direct } }
  missing: { exchange: { name: missing, passive: true } }
consumers:
  jobs: { queue: { name: jobs, max_priority: 10 }, handler: { exec: { run: ['./run.sh'] } } }
  small: { queue: { name: small, max_length: 2 }, handler: { exec: { run: ['./run.sh'] } } }
  calls:
    queue: { name: calls, bindings: [{ exchange: calls, routing_key: 'a.*' }] }
    handler: { exec: { run: ['./run.sh'] } }
";

/// Writes down each message: exchange, key and body.
const NOTE: &str = r#"echo "$QCTL_EXCHANGE|$QCTL_ROUTING_KEY|$(head -c 50)" >> ran"#;

fn ground() -> Ground {
    let ground = Ground::new(PLACES);
    ground.place.script("run.sh", NOTE);
    ground
}

#[test]
fn a_message_that_no_queue_takes_is_an_error() {
    let ground = ground();
    for (arguments, expected) in [
        (
            &["queuemessage", "-r", "k.1", "lonely", "x"][..],
            "no queue is bound to exchange `lonely` for the routing key `k.1`",
        ),
        (
            &["queuemessage", "-r", "b.1", "calls", "x"],
            "no queue is bound to exchange `calls` for the routing key `b.1`",
        ),
        (&["queuemessage", "-r", "k", "missing", "x"], "exchange `missing`"),
        (
            &["queuemessage", "--delay", "1s", "-r", "k", "missing", "x"],
            "exchange `missing`",
        ),
    ] {
        let (code, output, error) = ground.outcome(arguments, b"");
        assert_eq!((code, output.as_str()), (Some(66), ""), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    ground
        .place
        .run(["queuemessage", "-r", "a.1", "calls", "x"])
        .any_stdout()
        .check();
    // Of some of many lines, which is told.
    let (code, _, error) = ground.outcome(&["queuemessage", "-m", "3", "-r", "b", "calls", "x"], b"");
    assert_eq!(code, Some(66), "{error}");
}

#[test]
fn a_full_queue_refuses_and_tells_which_lines_it_took() {
    let ground = ground();
    let (code, _, error) = ground.outcome(&["queuemessage", "--lines", "small"], b"1\n2\n3\n4\n");
    assert_eq!(code, Some(3), "{error}");
    assert!(
        error.contains("2 message(s) queued, then line 3: full: queue `small` takes no more (max_length 2)"),
        "{error}"
    );
    assert!(error.contains("resume with --from-line 3"), "{error}");
    let (code, _, error) = ground.outcome(&["queuemessage", "small", "5"], b"");
    assert_eq!(code, Some(75), "{error}");
    assert!(
        error.contains("full: queue `small` takes no more (max_length 2); try again when there is room"),
        "{error}"
    );
    ground.drain("small");
    assert_eq!(ground.place.read("ran"), "|small|1\n|small|2\n");
    ground
        .place
        .run(["queuemessage", "--lines", "--from-line", "3", "small"])
        .stdin("1\n2\n3\n4\n")
        .stdout("2 message(s) queued\n")
        .check();
}

#[test]
fn higher_priorities_come_first() {
    let ground = ground();
    for (priority, body) in [("1", "low"), ("9", "high"), ("5", "middle"), ("9", "high too")] {
        ground
            .place
            .run(["queuemessage", "--priority", priority, "jobs", body])
            .any_stdout()
            .check();
    }
    ground.place.run(["queuemessage", "jobs", "none"]).any_stdout().check();
    ground.drain("jobs");
    assert_eq!(
        ground.place.read("ran"),
        "|jobs|high\n|jobs|high too\n|jobs|middle\n|jobs|low\n|jobs|none\n"
    );
}

/// What was held back comes as it would have come at once: with its exchange and its key.
#[test]
fn a_delayed_message_comes_later_and_as_it_was_sent() {
    let ground = ground();
    let begun = Instant::now();
    let _jobs = ground.consumer("jobs", "jobs");
    let _calls = ground.consumer("calls", "calls");
    for arguments in [
        &["queuemessage", "--delay", "800ms", "jobs", "late"][..],
        &["queuemessage", "--delay", "800ms", "-r", "a.1", "calls", "late"],
    ] {
        ground.place.run(arguments).any_stdout().check();
    }
    ground.place.run(["queuemessage", "jobs", "soon"]).any_stdout().check();
    wait_for("the first", || !ground.place.read("ran").is_empty());
    assert_eq!(ground.place.read("ran"), "|jobs|soon\n");
    let (code, _, error) = ground.outcome(&["queuemessage", "--delay", "800ms", "-t", "0.1", "jobs", "never"], b"");
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("make its ttl longer"), "{error}");
    wait_for("the others", || ground.place.read("ran").lines().count() == 3);
    assert!(begun.elapsed() >= Duration::from_millis(800));
    let ran = ground.place.read("ran");
    assert!(
        ran.contains("|jobs|late\n") && ran.contains("calls|a.1|late\n"),
        "{ran}"
    );
    let (code, _, error) = ground.outcome(&["queuemessage", "--delay", "25h", "jobs", "x"], b"");
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("a day at most"), "{error}");
}

#[test]
fn large_bodies_pass_up_to_the_limit() {
    let ground = ground();
    let largest = vec![b'x'; 16 << 20];
    ground
        .place
        .run(["queuemessage", "calls", "-r", "a.b", "-"])
        .stdin(largest.clone())
        .any_stdout()
        .check();
    let script = "method, properties, body = channel.basic_get('calls', auto_ack=True)\n\
                  answer([len(body), body.count(b'x')])";
    assert_eq!(ground.pika(script, &json!(null)), json!([16 << 20, 16 << 20]));
    let over = [&largest[..], b"x"].concat();
    let (code, _, error) = ground.outcome(&["queuemessage", "calls", "-r", "a.b", "-"], &over);
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("max_body"), "{error}");
    assert_eq!(ground.vhost.counts("calls").ready, 0);
}

/// All headers stand in one frame: what does not fit is refused before it ends the connection.
#[test]
fn headers_that_do_not_fit_are_refused_before_sending() {
    let ground = ground();
    let send = |length: usize| {
        let header = format!("big={}", "x".repeat(length));
        ground.outcome(
            &["queuemessage", "--message-id", "m", "--header", &header, "jobs", "x"],
            b"",
        )
    };
    let (code, _, error) = send(17_000);
    assert_eq!(code, Some(65), "{error}");
    assert!(
        error.contains("one frame of 16384") && error.contains("`frame_max`"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let told = error.split("take ").nth(1).and_then(|rest| rest.split(' ').next());
    let size: usize = told.unwrap().parse().unwrap();
    // To the byte: the longest that is let through is the longest that the broker takes.
    let longest = 17_000 - (size - 16_384);
    let (code, _, error) = send(longest);
    assert_eq!(code, Some(0), "{error}");
    // One byte for what a time without milliseconds leaves out.
    let (code, _, error) = send(longest + 30);
    assert_eq!(code, Some(65), "{error}");
    let config = format!(
        "connections: {{ rabbit: {{ url: '{}', frame_max: 131072 }} }}{PLACES}",
        ground.vhost.url()
    );
    ground.place.write("qctl.yml", config);
    let (code, _, error) = send(120_000);
    assert_eq!(code, Some(0), "{error}");
    ground.drain("jobs");
    assert_eq!(ground.place.read("ran").lines().count(), 2);
}

#[test]
fn names_are_as_long_as_amqp_carries_them() {
    let ground = ground();
    let key = |length: usize| format!("a.{}", "k".repeat(length - 2));
    ground
        .place
        .run(["queuemessage", "-r", &key(255), "calls", "x"])
        .any_stdout()
        .check();
    let (code, _, error) = ground.outcome(&["queuemessage", "-r", &key(256), "calls", "x"], b"");
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("256 bytes"), "{error}");
    ground.drain("calls");
    assert_eq!(ground.place.read("ran"), format!("calls|{}|x\n", key(255)));
    for (length, code) in [(250, 0), (251, 78), (256, 78)] {
        let name = "é".repeat(length / 2) + &"e".repeat(length % 2);
        let ground = Ground::new(&format!(
            "consumers: {{ long: {{ queue: '{name}', handler: noop }} }}\n"
        ));
        let (found, _, error) = ground.outcome(&["managequeue", "declare", "long"], b"");
        assert_eq!(found, Some(code), "{length}: {error}");
        if code == 0 {
            let mut queues = ground.vhost.queues();
            queues.sort();
            assert_eq!(queues, [name.clone(), name + ".dead"]);
        } else {
            assert!(error.contains("255"), "{error}");
        }
    }
}
