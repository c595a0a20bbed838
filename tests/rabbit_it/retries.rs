//! Failures: retries that wait, dead letters that tell why, and messages that come back to the right place.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::support::wait_for;

/// The dead letters of a queue, as their consumer would see them.
fn dead(ground: &Ground, queue: &str, count: usize) -> Vec<crate::rabbit::Fetched> {
    let name = format!("{queue}.dead");
    wait_for("the dead letters", || ground.vhost.counts(&name).ready == count as u64);
    ground.vhost.take(&name, count)
}

fn stop(mut consumer: crate::support::Running) -> String {
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
    consumer.stderr()
}

const JOBS: &str = "
producers:
  jobs: {}
  calls: { exchange: { name: calls, type: topic } }
consumers:
  jobs:
    queue: KIND
    handler: { exec: { run: ['./run.sh'], timeout: 500ms } }
    retry: { attempts: 3, min: 400ms, max: 1s, jitter: 0 }
  first:
    queue: { name: first, bindings: [{ exchange: calls, routing_key: 'a.#' }] }
    handler: { exec: { run: ['./run.sh'] } }
    retry: { attempts: 3, min: 200ms, max: 200ms }
  second:
    queue: { name: second, bindings: [{ exchange: calls, routing_key: '#' }] }
    handler: { exec: { run: ['./run.sh'] } }
";

const CLASSIC: &str = "jobs";
const QUORUM: &str = "{ name: jobs, arguments: { x-queue-type: quorum, x-delivery-limit: 20 } }";

fn ground(kind: &str, script: &str) -> Ground {
    let ground = Ground::new(&JOBS.replace("KIND", kind));
    ground.place.script("run.sh", script);
    ground
}

#[test]
fn a_failure_is_tried_again_as_configured_and_then_dead_lettered() {
    for kind in [CLASSIC, QUORUM] {
        let ground = ground(
            kind,
            r#"echo "$QCTL_ATTEMPT $QCTL_DELIVERIES $(date +%s%3N)" >> ran; echo "no $QCTL_ATTEMPT" >&2; exit 9"#,
        );
        ground
            .place
            .run([
                "queuemessage",
                "--header",
                "tenant=a",
                "--message-id",
                "m",
                "jobs",
                "body",
            ])
            .any_stdout()
            .check();
        let consumer = ground.consumer("jobs", "jobs");
        let letters = dead(&ground, "jobs", 1);
        stop(consumer);
        let ran = ground.place.read("ran");
        let rows: Vec<Vec<u64>> = ran
            .lines()
            .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
            .collect();
        let counts: Vec<(u64, u64)> = rows.iter().map(|row| (row[0], row[1])).collect();
        assert_eq!(counts, [(0, 1), (1, 2), (2, 3)], "{kind}");
        let waits: Vec<u64> = rows.windows(2).map(|pair| pair[1][2] - pair[0][2]).collect();
        assert!(
            (400..1400).contains(&waits[0]) && (800..2000).contains(&waits[1]),
            "{waits:?}"
        );
        let letter = &letters[0];
        assert_eq!(letter.body, b"body");
        let properties = &letter.properties;
        assert_eq!(
            (&properties["message_id"], &properties["delivery_mode"]),
            (&json!("m"), &json!(2))
        );
        let headers = &properties["headers"];
        assert_eq!(headers["tenant"], "a");
        assert_eq!(headers["x-qctl-reason"], "exit code 9 (attempt 3 of 3)");
        assert_eq!(
            (&headers["x-qctl-exit-code"], &headers["x-qctl-attempt"]),
            (&json!(9), &json!(3))
        );
        assert_eq!(
            (&headers["x-qctl-stderr"], &headers["x-qctl-dead-queue"]),
            (&json!("no 2"), &json!("jobs"))
        );
        assert!(headers["x-qctl-dead-at"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!(
            headers.get("x-death"),
            None,
            "it is a new message to the broker: {headers}"
        );
    }
}

#[test]
fn a_rejection_a_signal_and_a_time_out_tell_themselves() {
    let ground = ground(
        CLASSIC,
        r"case $(cat) in reject) exit 65;; die) kill -9 $$;; slow) exec sleep 30;; esac",
    );
    for body in ["reject", "die", "slow"] {
        ground.place.run(["queuemessage", "jobs", body]).any_stdout().check();
    }
    let consumer = ground.consumer("jobs", "jobs");
    let letters = dead(&ground, "jobs", 3);
    stop(consumer);
    let of = |body: &str| {
        let letter = letters.iter().find(|letter| letter.body == body.as_bytes()).unwrap();
        letter.properties["headers"].clone()
    };
    assert_eq!(of("reject")["x-qctl-exit-code"], 65);
    assert_eq!(of("reject")["x-qctl-attempt"], 1);
    assert_eq!(of("die")["x-qctl-signal"], 9);
    let reason = of("slow")["x-qctl-reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("500ms") || reason.contains("0.5 s"), "{reason}");
}

/// A retry goes to the queue that it failed in and to no other of those bound to the same exchange, and still says where it
/// was published.
#[test]
fn a_retry_comes_back_to_its_own_queue_alone() {
    let ground = ground(
        CLASSIC,
        r#"echo "$QCTL_QUEUE|$QCTL_EXCHANGE|$QCTL_ROUTING_KEY|$QCTL_ATTEMPT|$QCTL_MESSAGE" >> ran; test $QCTL_QUEUE = second"#,
    );
    ground.declare("first");
    ground.declare("second");
    // CC and BCC route beside the key; a retry must not send its copy there again.
    ground.pika(
        "channel.basic_publish('calls', 'a.b', b'x', pika.BasicProperties(headers={'CC': ['c.d'], 'BCC': ['e.f'], 'h': 1}))",
        &json!(null),
    );
    let first = ground.consumer("first", "first");
    let second = ground.consumer("second", "second");
    let letters = dead(&ground, "first", 1);
    stop(first);
    stop(second);
    let ran = ground.place.read("ran");
    let mut rows: Vec<String> = ran
        .lines()
        .map(|line| line.splitn(5, '|').take(4).collect::<Vec<_>>().join("|"))
        .collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            "first|calls|a.b|0",
            "first|calls|a.b|1",
            "first|calls|a.b|2",
            "second|calls|a.b|0"
        ],
        "{ran}"
    );
    for line in ran.lines() {
        let message: Value = serde_json::from_str(line.splitn(5, '|').nth(4).unwrap()).unwrap();
        assert_eq!(
            (&message["exchange"], &message["routing_key"]),
            (&json!("calls"), &json!("a.b"))
        );
        assert_eq!(message["headers"].get("x-death"), None, "{message}");
        assert_eq!(message["headers"]["h"], 1);
    }
    let headers = &letters[0].properties["headers"];
    assert_eq!(
        (&headers["x-qctl-exchange"], &headers["x-qctl-routing-key"]),
        (&json!("calls"), &json!("a.b"))
    );
}

/// The broker dead-letters what expires in the queue, and qctl what expires while it is held back; both say so.
#[test]
fn what_expires_is_dead_lettered_with_its_reason() {
    let ground = Ground::new(
        "
producers: { jobs: {} }
consumers:
  jobs: { queue: jobs, handler: { exec: { run: ['false'] } }, retry: { attempts: 9, min: 1s, max: 1s } }
  jobs.dead: { queue: jobs.dead, handler: { exec: { run: ['./run.sh'] } } }
",
    );
    ground.place.script("run.sh", r#"echo "$QCTL_MESSAGE" >> dead"#);
    ground.declare("jobs");
    ground
        .place
        .run(["queuemessage", "-t", "0.05", "--message-id", "native", "jobs", "x"])
        .any_stdout()
        .check();
    wait_for("the broker to expire it", || {
        ground.vhost.counts("jobs.dead").ready == 1
    });
    ground
        .place
        .run(["queuemessage", "-t", "0.7", "--message-id", "ours", "jobs", "x"])
        .any_stdout()
        .check();
    let consumer = ground.consumer("jobs", "jobs");
    wait_for("ours", || ground.vhost.counts("jobs.dead").ready == 2);
    let log = stop(consumer);
    assert!(log.contains("expired before it was handled"), "{log}");
    ground.drain("jobs.dead");
    let letters = ground.place.read("dead");
    for (line, id) in letters.lines().zip(["native", "ours"]) {
        let message: Value = serde_json::from_str(line).unwrap();
        assert_eq!(message["id"], id);
        assert_eq!(message["headers"]["x-qctl-reason"], "expired", "{line}");
        assert_eq!(message["headers"]["x-qctl-dead-queue"], "jobs", "{line}");
        assert!(
            message["headers"]["x-qctl-dead-at"].as_i64().unwrap() > 1_700_000_000_000,
            "{line}"
        );
    }
    assert_eq!(letters.lines().count(), 2);
}

/// A message that kills its consumer is counted on both kinds of queue, handed out alone, and given up.
#[test]
fn a_poison_message_is_given_up() {
    for kind in [CLASSIC, QUORUM] {
        let ground = Ground::new(&format!(
            "
producers: {{ jobs: {{}} }}
consumers:
  jobs:
    queue: {kind}
    handler: {{ exec: {{ run: ['./run.sh'] }} }}
    retry: {{ deliveries: 2 }}
"
        ));
        // The child ends its consumer, which is its parent.
        ground.place.script(
            "run.sh",
            r#"if [ "$(cat)" = poison ]; then kill -9 $PPID; sleep 30; fi; echo fine >> ran"#,
        );
        for body in ["poison", "1", "2"] {
            ground.place.run(["queuemessage", "jobs", body]).any_stdout().check();
        }
        let begun = Instant::now();
        while ground.vhost.queue("jobs.dead").is_none() || ground.vhost.counts("jobs.dead").ready == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{kind}");
            let mut consumer = ground.place.start(["consumer", "-t", "3", "--idle", "1", "jobs"]);
            consumer.wait();
        }
        ground.drain("jobs");
        let letter = &ground.vhost.take("jobs.dead", 1)[0];
        assert_eq!(letter.body, b"poison");
        let reason = letter.properties["headers"]["x-qctl-reason"].as_str().unwrap();
        assert!(
            reason.starts_with("handed out 3 times and never settled"),
            "{kind}: {reason}"
        );
        assert_eq!(ground.place.read("ran"), "fine\nfine\n", "{kind}");
    }
}

/// A retry waits outside its queue, which may be full by the time it comes back: it must not be dropped.
#[test]
fn a_retry_is_kept_while_its_queue_is_full() {
    let ground = Ground::new(
        "
producers: { small: {} }
consumers:
  small:
    queue: { name: small, max_length: 1 }
    handler: { exec: { run: ['./run.sh'] } }
    retry: { attempts: 3, min: 300ms, max: 300ms, jitter: 0 }
",
    );
    ground.place.script(
        "run.sh",
        r#"body=$(cat); echo "$body $QCTL_ATTEMPT" >> ran; test "$body" != failing -o "$QCTL_ATTEMPT" -ge 1"#,
    );
    ground
        .place
        .run(["queuemessage", "small", "failing"])
        .any_stdout()
        .check();
    ground.place.run(["consumer", "-m", "1", "small"]).any_stderr().check();
    assert_eq!(ground.place.read("ran"), "failing 0\n");
    // Full, before the wait is over, and for some time after it.
    ground
        .place
        .run(["queuemessage", "small", "filling"])
        .any_stdout()
        .check();
    let held = || -> u64 {
        let rungs = ground
            .vhost
            .queues()
            .into_iter()
            .filter(|name| name.starts_with("qctl.delay."));
        rungs.map(|name| ground.vhost.counts(&name).ready).sum()
    };
    wait_for("the wait to be over", || held() == 0);
    assert_eq!(ground.vhost.counts("small").ready, 1);
    assert_eq!(ground.vhost.take("small", 1)[0].body, b"filling");
    wait_for("the retry", || ground.vhost.counts("small").ready == 1);
    ground.drain("small");
    assert_eq!(ground.place.read("ran"), "failing 0\nfailing 1\n");
}

/// Headers that leave no room for what a retry or a dead letter adds.
#[test]
fn a_failure_of_a_message_with_the_longest_headers_ends_nobody() {
    let ground = ground(CLASSIC, "head -c 3000 /dev/zero | tr '\\0' e >&2; exit 1");
    ground.declare("jobs");
    ground.pika(
        r"
for size in [131072 - 60, 131072 - 500, 131072 - 2000]:
    channel.basic_publish('', 'jobs', b'x', pika.BasicProperties(headers={'big': 'x' * size}))
",
        &json!(null),
    );
    let consumer = ground.consumer("jobs", "jobs");
    let letters = dead(&ground, "jobs", 3);
    let log = stop(consumer);
    assert_eq!(letters.len(), 3);
    assert!(!log.contains("connection lost"), "{log}");
}
