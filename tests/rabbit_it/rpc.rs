//! Requests and replies: `--wait` on one side, foreign clients on the other.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::support::wait_for;

const COMMANDS: &str = "
producers: { jobs: {} }
consumers: { jobs: { queue: jobs, handler: command, concurrency: 4, retry: { attempts: 3, min: 100ms, max: 100ms } } }
commands: { shell: { run: ['./run.sh'], allow: ['*'] } }
";

/// A command that does what its name says.
const SCRIPT: &str = r#"case $1 in
    fail) echo out; echo err >&2; exit 3 ;;
    die) kill -KILL $$ ;;
    big) head -c 1048576 /dev/zero | tr '\0' x; head -c 1048577 /dev/zero | tr '\0' y >&2 ;;
    slow) echo begun >> begun; exec sleep 60 ;;
    once) echo once >> tries; test "$(wc -l < tries)" -ge 2 ;;
    echo) shift; printf '%s' "$*" ;;
    note) echo "$2" >> noted ;;
esac"#;

fn ground() -> Ground {
    let ground = Ground::new(COMMANDS);
    ground.place.script("run.sh", SCRIPT);
    ground
}

#[test]
fn the_exit_code_is_the_remote_commands_own() {
    let ground = ground();
    let _consumer = ground.consumer("jobs", "jobs");
    let wait = |words: &[&str]| ground.place.run(["queuecommand", "--wait", "jobs"]).args(words);
    wait(&["echo", "é", "b"]).stdout("é b").check();
    wait(&["fail"]).code(3).stdout("out\n").stderr("err\n").check();
    wait(&["die"]).code(137).check();
    wait(&["once"]).code(1).check();
    assert_eq!(
        ground.place.read("tries"),
        "once\n",
        "one attempt, unless retries are wanted"
    );
    ground
        .place
        .run(["queuecommand", "--wait", "--retry", "jobs", "once"])
        .check();
    // The reply to an attempt is not that to the message.
    ground.place.write("tries", "");
    ground
        .place
        .run(["queuecommand", "--wait", "--retry", "jobs", "once"])
        .check();
    assert_eq!(ground.place.read("tries"), "once\nonce\n");
    // What no handler has run has no exit code.
    let (code, _, error) = ground.outcome(&["queuemessage", "--wait", "jobs", "no command"], b"");
    assert_eq!(code, Some(125), "{error}");
    assert!(error.contains("the message was not done"), "{error}");
}

#[test]
fn long_output_comes_whole_up_to_a_mebibyte() {
    let ground = ground();
    let _consumer = ground.consumer("jobs", "jobs");
    let finished = ground
        .place
        .run(["queuecommand", "--wait", "jobs", "big"])
        .any_stdout()
        .any_stderr()
        .check();
    assert_eq!(finished.stdout, "x".repeat(1 << 20));
    assert!(finished.stderr.starts_with(&"y".repeat(1 << 20)));
    assert!(
        finished
            .stderr
            .ends_with("the command's error output was longer than 1 MiB; the rest was cut off\n")
    );
    assert!(!finished.stderr.contains("command's output"));
}

#[test]
fn many_wait_at_once_and_each_gets_its_own() {
    let ground = ground();
    let _consumer = ground.consumer("jobs", "jobs");
    let program = ground.place.command().get_program().to_owned();
    let folder = ground.place.path("");
    let runs: Vec<_> = (0..16)
        .map(|number| {
            let (program, folder) = (program.clone(), folder.clone());
            thread::spawn(move || {
                let arguments = ["queuecommand", "--wait", "jobs", "echo", &number.to_string()];
                let output = std::process::Command::new(program)
                    .args(arguments)
                    .current_dir(folder)
                    .output()
                    .unwrap();
                assert_eq!(
                    output.status.code(),
                    Some(0),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                assert_eq!(output.stdout, number.to_string().as_bytes());
            })
        })
        .collect();
    for run in runs {
        run.join().unwrap();
    }
}

/// Nobody takes a request back on AMQP: what is told must be so, and the broker drops it when the wait is over.
#[test]
fn a_request_that_nobody_began_is_not_run_later() {
    let ground = ground();
    ground.declare("jobs");
    let (code, output, error) = ground.outcome(
        &[
            "--output",
            "json",
            "queuecommand",
            "--wait",
            "--wait-timeout",
            "300ms",
            "jobs",
            "note",
            "late",
        ],
        b"",
    );
    assert_eq!(code, Some(124), "{error}");
    assert!(error.contains("no reply within 0.3 seconds"), "{error}");
    assert!(error.contains("if not, it has expired"), "{error}");
    let document: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&document["state"], &document["exit_code"]),
        (&json!("unknown"), &json!(124)),
        "{document}"
    );
    ground.drain("jobs");
    assert_eq!(ground.place.read("noted"), "");
    // It is dead-lettered, like everything that has expired.
    wait_for("the dead letter", || ground.vhost.counts("jobs.dead").ready == 1);
}

#[test]
fn a_time_out_does_not_say_what_it_cannot_know() {
    let ground = ground();
    let mut consumer = ground.consumer("jobs", "jobs");
    let (code, _, error) = ground.outcome(
        &["queuecommand", "--wait", "--wait-timeout", "500ms", "jobs", "slow"],
        b"",
    );
    assert_eq!(code, Some(124), "{error}");
    assert_eq!(ground.place.read("begun"), "begun\n");
    assert!(!error.contains("withdrawn"), "{error}");
    assert!(error.contains("goes on without us if it was started"), "{error}");
    consumer.signal(Signal::TERM);
    consumer.wait_stderr("stopping");
    consumer.signal(Signal::TERM);
    consumer.wait();
}

/// Its own ttl stays, where it is shorter, and one that is given without a wait that ends is left alone.
#[test]
fn a_request_lives_as_long_as_it_is_waited_for() {
    let ground = ground();
    ground.declare("jobs");
    let expiration = |arguments: &[&str]| {
        let mut waiting = ground.place.start(arguments);
        wait_for("the request", || ground.vhost.counts("jobs").ready == 1);
        waiting.signal(Signal::INT);
        assert_eq!(waiting.wait(), Some(130));
        ground.pika(
            "method, properties, body = channel.basic_get('jobs', auto_ack=True)\nanswer(properties.expiration)",
            &json!(null),
        )
    };
    assert_eq!(expiration(&["queuecommand", "--wait", "jobs", "x"]), "60000");
    assert_eq!(expiration(&["queuecommand", "-t", "5", "--wait", "jobs", "x"]), "5000");
    assert_eq!(
        expiration(&["queuecommand", "-t", "2m", "--wait", "jobs", "x"]),
        "60000"
    );
    assert_eq!(
        expiration(&["queuecommand", "--wait", "--wait-timeout", "0", "jobs", "x"]),
        Value::Null
    );
}

/// The consumer is killed while it works: the request comes to the next one, and its reply to whoever still waits.
#[test]
fn a_reply_comes_from_whoever_takes_over() {
    let ground = ground();
    ground.place.script(
        "run.sh",
        "echo begun >> begun; test $(wc -l < begun) -ge 2 || exec sleep 60; echo done",
    );
    let consumer = ground.consumer("jobs", "jobs");
    let waiting = ground
        .place
        .command()
        .args(["queuecommand", "--wait", "jobs", "x"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the first begin", || ground.place.read("begun") == "begun\n");
    consumer.signal(Signal::KILL);
    let _next = ground.consumer("jobs", "jobs");
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"done\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

/// Whoever asked is gone: the reply goes nowhere, which changes nothing for the message.
#[test]
fn a_requester_that_is_gone_disturbs_nobody() {
    let ground = ground();
    ground.declare("jobs");
    let mut waiting = ground.place.start(["queuecommand", "--wait", "jobs", "note", "one"]);
    wait_for("the request", || ground.vhost.counts("jobs").ready == 1);
    waiting.signal(Signal::KILL);
    waiting.wait();
    let log = ground.drain("jobs");
    assert_eq!(ground.place.read("noted"), "one\n", "{log}");
    assert_eq!(ground.vhost.counts("jobs").ready, 0);
    assert_eq!(ground.vhost.counts("jobs.dead").ready, 0);
}

/// What a foreign client does that calls a procedure. `given` is the message's body, and by which queue the reply comes.
const CALL: &str = r"
replies = []
def replied(channel, method, properties, body):
    replies.append([properties.correlation_id, properties.content_type, json.loads(body)])
if given['direct']:
    queue = 'amq.rabbitmq.reply-to'
else:
    queue = channel.queue_declare('', exclusive=True).method.queue
channel.basic_consume(queue, replied, auto_ack=True)
for id in given['ids']:
    channel.basic_publish('', 'jobs', json.dumps(given['body']).encode(), pika.BasicProperties(
        reply_to=queue, correlation_id=id, content_type='application/json'))
until = time.monotonic() + 20
while len(replies) < len(given['ids']) and time.monotonic() < until:
    connection.process_data_events(0.1)
answer(sorted(replies))
";

#[test]
fn any_client_can_call() {
    let ground = ground();
    let _consumer = ground.consumer("jobs", "jobs");
    for direct in [false, true] {
        let call = |body: Value| {
            let given = json!({"direct": direct, "ids": ["one", "two"], "body": body});
            ground.pika(CALL, &given)
        };
        let replies = call(json!({"command": "fail"}));
        assert_eq!(replies[0][0], "one");
        assert_eq!(replies[1][0], "two");
        assert_eq!(replies[0][1], "application/json");
        let reply = &replies[0][2];
        // A failure is tried again, and only its end is told.
        assert_eq!(
            (
                &reply["status"],
                &reply["exit_code"],
                &reply["stdout"],
                &reply["stderr"]
            ),
            (&json!("failed"), &json!(3), &json!("out\n"), &json!("err\n"))
        );
        let replies = call(json!({"command": "echo", "arguments": ["h\u{e9}"]}));
        let reply = &replies[0][2];
        assert_eq!((&reply["status"], &reply["exit_code"]), (&json!("done"), &json!(0)));
        assert_eq!(
            (&reply["stdout"], &reply["stdout_encoding"]),
            (&json!("hé"), &json!("utf-8"))
        );
    }
}

/// A reply-to names a queue, and whoever can send a message could have qctl write into any: only into what is the sender's own.
#[test]
fn a_reply_goes_to_nobody_elses_queue() {
    let ground = ground();
    ground.declare("jobs");
    ground.vhost.declare("victim", &json!({}));
    ground.vhost.declare("mine.replies", &json!({}));
    let ask = r#"
for reply_to in given:
    channel.basic_publish('', 'jobs', b'{"command":"echo"}', pika.BasicProperties(reply_to=reply_to, correlation_id='c'))
"#;
    let targets = json!([
        "victim",
        "mine.replies",
        "jobs",
        "amq.gen-nobody",
        "amq.rabbitmq.reply-to.forged.x",
        "",
        "no such queue"
    ]);
    ground.pika(ask, &targets);
    let log = ground.drain("jobs");
    assert_eq!(ground.vhost.counts("victim").ready, 0);
    assert_eq!(ground.vhost.counts("mine.replies").ready, 0);
    assert!(
        log.contains("no reply is sent") && log.contains("replies: allow"),
        "{log}"
    );
    assert_eq!(
        ground.vhost.counts("jobs.dead").ready,
        0,
        "the work is done all the same: {log}"
    );
    ground.place.write(
        "qctl.yml",
        format!(
            "connections: {{ rabbit: '{}' }}\n{}",
            ground.vhost.url(),
            COMMANDS.replace(
                "handler: command,",
                "handler: command, replies: { allow: [mine.replies] },"
            )
        ),
    );
    ground.pika(ask, &json!(["victim", "mine.replies"]));
    ground.drain("jobs");
    assert_eq!(ground.vhost.counts("victim").ready, 0);
    let replies = ground.vhost.take("mine.replies", 5);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].properties["correlation_id"], "c");
}
