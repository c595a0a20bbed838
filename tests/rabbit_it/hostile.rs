//! Messages that somebody has made to do harm: none keeps others from being handled, and each comes to an end.

use serde_json::json;

use crate::ground::Ground;
use crate::rabbit::Rabbit;
use crate::support::wait_for;

const JOBS: &str = "
producers: { jobs: {} }
consumers:
  jobs:
    queue: jobs
    handler: { exec: { run: ['./run.sh'] } }
    retry: { attempts: 2, min: 100ms, max: 100ms, deliveries: 3 }
";

/// What begins with `fail` fails.
const SCRIPT: &str = r#"body=$(cat); echo "$body" >> ran; case $body in fail*) exit 1;; esac"#;

fn ground(sections: &str) -> Ground {
    let ground = Ground::new(sections);
    ground.place.script("run.sh", SCRIPT);
    ground.declare("jobs");
    ground
}

/// All of the queue is handled by one consumer that loses no connection, and the failed ones are dead-lettered.
fn all_come_to_an_end(ground: &Ground, dead: u64) {
    ground.vhost.publish("", "jobs", &json!({}), b"good");
    let consumer = ground.consumer("jobs", "jobs");
    wait_for("the message behind", || ground.place.read("ran").contains("good\n"));
    wait_for("the dead letters", || ground.vhost.counts("jobs.dead").ready == dead);
    wait_for("the rest", || {
        let counts = ground.vhost.counts("jobs");
        counts.ready == 0 && counts.unacknowledged == 0
    });
    assert!(!consumer.stderr().contains("connection lost"), "{}", consumer.stderr());
}

/// The broker takes a message of a named user from that user alone, and copies are ours.
#[test]
fn a_message_of_another_user_is_retried_and_given_up() {
    let ground = ground(JOBS);
    let admin = ground.vhost.rabbit().admin();
    ground
        .vhost
        .publish("", "jobs", &json!({"user_id": admin, "delivery_mode": 2}), b"fail");
    all_come_to_an_end(&ground, 1);
    assert_eq!(ground.place.read("ran").matches("fail\n").count(), 2);
}

/// Whatever stands in the longest headers, and whatever the broker adds to them on their way through a delay queue.
#[test]
fn headers_that_nearly_fill_a_frame_end_nobody() {
    let ground = ground(JOBS);
    ground.pika(
        r"
for name, size in [('big', 130800), ('big', 130900), ('x-qctl-zz', 130800), ('x-qctl-zz', 130955)]:
    channel.basic_publish('', 'jobs', b'fail', pika.BasicProperties(headers={name: 'x' * size}))
many = {'x-qctl-%d' % number: 'x' * 1000 for number in range(128)}
channel.basic_publish('', 'jobs', b'fail', pika.BasicProperties(headers=many))
",
        &json!(null),
    );
    all_come_to_an_end(&ground, 5);
    // Who looks sees them, whatever frames a short command is content with.
    let found = ground.place.json(["managequeue", "peek", "--state", "dead", "jobs"]);
    assert_eq!(found.as_array().unwrap().len(), 5);
}

/// A consumer that has agreed on smaller frames than the sender has.
#[test]
fn headers_that_fit_into_no_frame_are_left_out() {
    let ground =
        Ground::with_config(&("connections: { rabbit: { url: '{url}', frame_max: 16384 } }".to_owned() + JOBS));
    ground.place.script("run.sh", SCRIPT);
    ground.declare("jobs");
    ground.pika(
        "channel.basic_publish('', 'jobs', b'fail', pika.BasicProperties(headers={'big': 'x' * 40000}, message_id='m'))",
        &json!(null),
    );
    all_come_to_an_end(&ground, 1);
    assert_eq!(ground.vhost.take("jobs.dead", 1)[0].properties["message_id"], "m");
}

/// What only a quorum queue counts is believed of no other.
#[test]
fn a_forged_count_hides_no_poison() {
    let ground = ground(JOBS);
    ground.place.script(
        "run.sh",
        r#"if [ "$(cat)" = poison ]; then kill -9 $PPID; sleep 30; fi; echo fine >> ran"#,
    );
    ground.pika(
        "channel.basic_publish('', 'jobs', b'poison', pika.BasicProperties(headers={'x-delivery-count': 0}))",
        &json!(null),
    );
    for _ in 0..6 {
        ground
            .place
            .start(["consumer", "-t", "5", "--idle", "1", "jobs"])
            .wait();
        if ground.vhost.counts("jobs.dead").ready == 1 {
            return;
        }
    }
    panic!("handed out six times and not given up");
}

/// A way back that the broker has not written would end the connection that all replies go by.
#[test]
fn a_forged_way_back_takes_no_replies_along() {
    let ground = ground("producers: { jobs: {} }\nconsumers: { jobs: { handler: { exec: { run: ['./run.sh'] } } } }\n");
    let consumer = ground.consumer("jobs", "jobs");
    let forged = "for way in ['g1h2AA.x==', 'x.y', '..', '%', 'g1hkAAAAAAAAAAAAAAAA.AAAA']:\n    \
                  channel.basic_publish('', 'jobs', b'x', pika.BasicProperties(\
                  reply_to='amq.rabbitmq.reply-to.' + way, correlation_id='c'))";
    for _ in 0..5 {
        ground.pika(forged, &json!(null));
        let (code, _, error) = ground.outcome(&["queuemessage", "--wait", "--wait-timeout", "10", "jobs", "x"], b"");
        assert_eq!(code, Some(0), "{error}");
    }
    assert!(!consumer.stderr().contains("INTERNAL_ERROR"), "{}", consumer.stderr());
}

/// What was decided of a message is done when there is room, and not decided anew by running it again.
#[test]
fn a_failed_message_waits_for_room_in_the_dead_letter_queue() {
    let ground = ground(&JOBS.replace("attempts: 2", "attempts: 1"));
    let full = json!({"max-length": 1, "overflow": "reject-publish"});
    ground.vhost.set_policy("full", "^jobs\\.dead$", &full);
    ground.vhost.publish("", "jobs.dead", &json!({}), b"in the way");
    ground.vhost.publish("", "jobs", &json!({}), b"fail");
    let consumer = ground.consumer("jobs", "jobs");
    consumer.wait_stderr("held until there is room");
    assert_eq!(ground.vhost.take("jobs.dead", 1)[0].body, b"in the way");
    wait_for("the letter", || ground.vhost.counts("jobs.dead").ready == 1);
    assert_eq!(ground.vhost.take("jobs.dead", 1)[0].body, b"fail");
    assert_eq!(ground.place.read("ran"), "fail\n");
    assert!(!consumer.stderr().contains("connection lost"), "{}", consumer.stderr());
}

/// A policy can limit a queue at any time, and nothing but the management API tells of it.
#[test]
fn a_retry_into_a_queue_that_a_policy_limits_is_kept() {
    for api in ["true", "false"] {
        let jobs = JOBS.replace("min: 100ms, max: 100ms", "min: 1s, max: 1s, jitter: 0");
        let connection = format!(
            "connections: {{ rabbit: {{ url: '{{url}}', management: {} }} }}",
            if api == "true" {
                format!("'{}'", Rabbit::main().management_url())
            } else {
                api.to_owned()
            }
        );
        let ground = Ground::with_config(&(connection + &jobs));
        ground.place.script(
            "run.sh",
            r#"body=$(cat); echo "$body $QCTL_ATTEMPT" >> ran; test "$body" != fail -o "$QCTL_ATTEMPT" -ge 1"#,
        );
        ground.declare("jobs");
        ground.vhost.publish("", "jobs", &json!({}), b"fail");
        ground.vhost.set_policy(
            "limit",
            "^jobs$",
            &json!({"max-length": 1, "overflow": "reject-publish"}),
        );
        ground.place.run(["consumer", "-m", "1", "jobs"]).any_stderr().check();
        ground.vhost.publish("", "jobs", &json!({}), b"filling");
        let held = || -> u64 {
            let queues = ground.vhost.queues().into_iter();
            let rungs = queues.filter(|name| name.starts_with("qctl.delay."));
            rungs.map(|name| ground.vhost.counts(&name).ready).sum()
        };
        wait_for("the wait to be over", || held() == 0);
        assert_eq!(ground.vhost.take("jobs", 1)[0].body, b"filling");
        wait_for("the retry", || ground.vhost.counts("jobs").ready == 1);
        ground.drain("jobs");
        assert_eq!(ground.place.read("ran"), "fail 0\nfail 1\n", "management: {api}");
    }
}
