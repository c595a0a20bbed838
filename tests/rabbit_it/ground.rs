//! What each test stands on: a virtual host, a working folder with a `qctl.yml` that leads there, and pika.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::rabbit::{Rabbit, Vhost};
use crate::support::{Place, Running, wait_for};

/// In front of every script: `channel` is open in the test's virtual host, `given` is what the test gave, and `answer`
/// hands JSON back.
const PRELUDE: &str = r"
import base64, datetime, decimal, json, sys, time
import pika

given = json.loads(sys.argv[1])
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[2]))
channel = connection.channel()

def answer(value):
    json.dump(value, sys.stdout)
    sys.stdout.flush()
";

/// Behind it: what was published has arrived when the broker has answered.
const FINALE: &str = "connection.close()";

pub struct Ground {
    pub vhost: Vhost,
    pub place: Place,
}

impl Ground {
    /// A configuration with the connection `rabbit` and these sections.
    pub fn new(sections: &str) -> Self {
        let vhost = Rabbit::main().vhost();
        let connections = format!("connections: {{ rabbit: '{}' }}\n", vhost.url());
        Self {
            place: Place::with_config(&(connections + sections)),
            vhost,
        }
    }

    /// As [`Ground::new`], with all of the configuration; `{url}` in it stands for the URL.
    pub fn with_config(config: &str) -> Self {
        let vhost = Rabbit::main().vhost();
        Self {
            place: Place::with_config(&config.replace("{url}", &vhost.url())),
            vhost,
        }
    }

    /// Declares what the entry of this name needs.
    #[track_caller]
    pub fn declare(&self, name: &str) {
        self.place
            .run(["managequeue", "declare", name])
            .any_stdout()
            .any_stderr()
            .check();
    }

    /// Runs a Python script behind [`PRELUDE`]; returns what it answers, null where it does not.
    #[track_caller]
    pub fn pika(&self, script: &str, given: &Value) -> Value {
        let output = self.pika_command(script, given).output().unwrap();
        assert!(
            output.status.success(),
            "{script}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if output.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same as a command, to be started.
    pub fn pika_command(&self, script: &str, given: &Value) -> std::process::Command {
        let mut command = self.vhost.rabbit().python();
        command
            .arg("-c")
            .arg(format!("{PRELUDE}{script}\n{FINALE}"))
            .arg(given.to_string())
            .arg(self.vhost.url())
            .stdin(Stdio::null());
        command
    }

    /// Runs the consumer until its queue is empty, and returns its log.
    #[track_caller]
    pub fn drain(&self, consumer: &str) -> String {
        self.place
            .run(["consumer", "--until-empty", consumer])
            .any_stderr()
            .check()
            .stderr
    }

    /// Starts a consumer and waits until it takes from this queue.
    pub fn consumer(&self, name: &str, queue: &str) -> Running {
        let running = self.place.start(["consumer", name]);
        wait_for("the consumer", || {
            self.vhost.queue(queue).is_some() && self.vhost.counts(queue).consumers > 0
        });
        running
    }

    /// Runs the program with this standard input and without looking at what comes out; for its exit code, standard output
    /// and standard error.
    pub fn outcome(&self, args: &[&str], stdin: &[u8]) -> (Option<i32>, String, String) {
        let mut child = self
            .place
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        let feeder = std::thread::spawn(move || drop(input.write_all(&bytes)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}
