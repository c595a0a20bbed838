//! Signed messages on RabbitMQ, where pika plays the attacker: what it publishes is refused, whatever it has copied.

use serde_json::{Value, json};

use crate::ground::Ground;

fn ground() -> Ground {
    let ground = Ground::with_config(
        "connections: { rabbit: '{url}' }\nstate_dir: ./state\nsigning: { keys: { a: a.key }, use: a, window: 1h }\n\
         producers:\n  jobs: { queue: jobs }\n  news: { exchange: { name: news, type: topic } }\n\
         consumers:\n  jobs: { queue: { name: jobs, bindings: [{ exchange: news, routing_key: 'jobs.#' }] }, handler: { exec: { run: [./work] } }, signing: require, retry: { attempts: 2, min: 100ms, max: 100ms } }\n  \
         other: { queue: { name: other, bindings: [{ exchange: news, routing_key: 'other.#' }] }, handler: noop }\n",
    );
    ground
        .place
        .script("work", "echo \"$QCTL_ROUTING_KEY $(cat)\" >>worked; [ ! -e sick ]");
    ground.place.run(["-q", "keys", "new", "a.key"]).any_stdout().check();
    ground.declare("jobs");
    ground.declare("other");
    ground
}

fn send(ground: &Ground, args: &[&str]) {
    let args = ["-q", "queuemessage"].into_iter().chain(args.iter().copied());
    ground.place.run(args).any_stdout().any_stderr().check();
}

fn reasons(ground: &Ground) -> Vec<String> {
    let dead = ground
        .place
        .json(["--yes", "managequeue", "peek", "--limit", "50", "jobs.dead"]);
    let reason = |letter: &Value| {
        letter["headers"]["x-qctl-reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    dead.as_array().unwrap().iter().map(reason).collect()
}

/// Takes the message from a queue and publishes it to `jobs` again, `count` times, changed by a line of Python.
const REPUBLISH: &str = "
method, properties, body = channel.basic_get(given['from'], auto_ack=True)
exec(given['change'])
for _ in range(given['count']):
    channel.basic_publish('', 'jobs', body, properties)
";

fn republish(ground: &Ground, from: &str, change: &str, count: u32) {
    ground.pika(REPUBLISH, &json!({"from": from, "change": change, "count": count}));
}

#[test]
fn signed_messages_arrive_by_any_way_there_is() {
    let ground = ground();
    send(&ground, &["jobs", "straight"]);
    send(&ground, &["-r", "jobs.x", "news", "by an exchange"]);
    send(
        &ground,
        &[
            "--delay",
            "200ms",
            "-t",
            "60",
            "--priority",
            "3",
            "--header",
            "tenant=one",
            "jobs",
            "held back",
        ],
    );
    let run = ground.place.run(["consumer", "-m", "3", "jobs"]).any_stderr().check();
    assert!(run.stderr.contains("(3 done, 0 not)"), "{}", run.stderr);
    let mut worked: Vec<String> = ground.place.read("worked").lines().map(str::to_owned).collect();
    worked.sort();
    assert_eq!(worked, ["jobs held back", "jobs straight", "jobs.x by an exchange"]);
}

#[test]
fn a_retry_and_a_redrive_keep_the_signature() {
    let ground = ground();
    ground.place.write("sick", "");
    send(&ground, &["-r", "jobs.x", "news", "good"]);
    ground.place.run(["consumer", "-m", "2", "jobs"]).any_stderr().check();
    assert_eq!(reasons(&ground), ["exit code 1 (attempt 2 of 2)"]);
    std::fs::remove_file(ground.place.path("sick")).unwrap();
    ground
        .place
        .run(["--yes", "managequeue", "redrive", "jobs"])
        .any_stdout()
        .any_stderr()
        .check();
    let told = ground.drain("jobs");
    assert!(told.contains("(1 done, 0 not)"), "{told}");
    assert_eq!(ground.place.read("worked"), "jobs.x good\n".repeat(3));
}

#[test]
fn what_was_altered_forged_or_never_signed_is_dead_lettered() {
    for (change, reason) in [
        ("body = b'evil'", "it was forged or altered"),
        ("properties.content_type = 'text/evil'", "it was forged or altered"),
        ("properties.message_id = 'another'", "it was forged or altered"),
        ("properties.reply_to = 'evil'", "it was forged or altered"),
        ("properties.headers['tenant'] = 'two'", "it was forged or altered"),
        ("properties.headers['more'] = 'x'", "it was forged or altered"),
        (
            "properties.timestamp = 5; properties.headers['x-qctl-timestamp'] = 5001",
            "it was altered",
        ),
        ("del properties.headers['x-qctl-signature']", "it is not signed"),
        (
            "properties.headers['x-qctl-signature'] = 'v1 a 1 0 0 = = ='",
            "it was forged or altered",
        ),
        ("properties.headers['x-qctl-signature'] = 5", "it is not signed"),
    ] {
        let ground = ground();
        send(&ground, &["--header", "tenant=one", "jobs", "good"]);
        republish(&ground, "jobs", change, 1);
        ground.drain("jobs");
        assert_eq!(ground.place.read("worked"), "", "{change}");
        let reasons = reasons(&ground);
        assert!(reasons[0].contains(reason), "{change}: {reasons:?}");
    }
}

#[test]
fn a_message_for_another_queue_and_a_second_copy_are_dead_lettered() {
    let ground = ground();
    send(&ground, &["-r", "other.x", "news", "for another"]);
    republish(&ground, "other", "", 1);
    ground.drain("jobs");
    assert!(
        reasons(&ground)[0].contains("it was re-routed"),
        "{:?}",
        reasons(&ground)
    );
    send(&ground, &["jobs", "once"]);
    republish(&ground, "jobs", "", 3);
    ground.drain("jobs");
    assert_eq!(ground.place.read("worked"), "jobs once\n");
    let copies = reasons(&ground)
        .iter()
        .filter(|reason| reason.contains("this is a copy of it"))
        .count();
    assert_eq!(copies, 2, "{:?}", reasons(&ground));
}
