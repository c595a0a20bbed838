//! A folder with a worker and a configuration in it.

use std::path::Path;

use crate::support::{Finished, Place, wait_for};

/// In front of every scripted worker: `ready()`, `requests()`, `answer(request, result)`, `note(text)` into `notes`.
const PRELUDE: &str = r#"
import json, os, signal, sys, time

def line(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

def say(**words):
    line(json.dumps({"jsonrpc": "2.0", **words}))

def ready():
    say(method="ready")

def requests():
    for text in sys.stdin:
        yield json.loads(text)

def answer(request, result=None):
    say(id=request["id"], result=result)

def body(request):
    return request["params"]["body"]

def note(text):
    with open("notes", "a") as notes:
        notes.write(f"{text}\n")
"#;

/// The store in the folder.
pub const SQLITE: &str = "connections: { local: 'sqlite://./queue.db' }\n";

/// A place with a producer `jobs` and a consumer `jobs` whose worker is this Python script, with these further keys of the
/// handler and of the consumer.
pub fn scripted(script: &str, handler: &str, consumer: &str) -> Place {
    let place = Place::with_config(&format!(
        "{SQLITE}producers: {{ jobs: {{}} }}\nconsumers:\n  jobs:\n    handler: {{ exec: {{ run: [python3, worker.py], mode: worker, {handler} }} }}\n    {consumer}\n"
    ));
    place.write("worker.py", format!("{PRELUDE}\n{script}"));
    place
}

/// Retries at once, so that tests need not wait for them.
pub const AT_ONCE: &str = "retry: { min: 1ms, max: 1ms, attempts: 3 }";

/// Queues these bodies.
#[track_caller]
pub fn queue(place: &Place, name: &str, bodies: &[&str]) {
    place
        .run(["-q", "queuemessage", "--lines", name])
        .stdin(bodies.join("\n") + "\n")
        .any_stdout()
        .any_stderr()
        .check();
}

/// Runs the consumer until it has handled so many messages.
#[track_caller]
pub fn handle(place: &Place, name: &str, messages: usize) -> Finished {
    place
        .run(["consumer", "-m", &messages.to_string(), name])
        .any_stderr()
        .check()
}

/// Runs the consumer until no message is ready.
#[track_caller]
pub fn drain(place: &Place, name: &str) -> Finished {
    place.run(["consumer", "--until-empty", name]).any_stderr().check()
}

/// What the worker has noted.
pub fn notes(place: &Place) -> Vec<String> {
    place.read("notes").lines().map(str::to_owned).collect()
}

/// How many messages wait in a queue.
pub fn ready(place: &Place, queue: &str) -> i64 {
    place.json(["managequeue", "info", queue])["ready"].as_i64().unwrap()
}

/// Waits until no process runs in this folder but the test's own.
#[track_caller]
pub fn nothing_left(place: &Place) {
    let folder = place.path("").canonicalize().unwrap();
    wait_for("the workers' end", || !is_somebody_in(&folder));
}

fn is_somebody_in(folder: &Path) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let is_process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        is_process && std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder)
    })
}
