//! The place of a test, which looks at its end whether any process was left there.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, wait_for};

/// Longer than a guardian or the next consumer takes to end what was left running.
const GONE_WITHIN: Duration = Duration::from_secs(15);

/// A place that fails its test if a process is still there when it ends.
pub struct Ground {
    place: Place,
}

/// The queue `demo` in `queue.db`, for a consumer with this `handler:` and these further keys.
pub fn ground(handler: &str, further: &str) -> Ground {
    Ground::new(Place::with_config(&config("./queue.db", handler, further)))
}

/// The configuration of a store at this path.
pub fn config(store: &str, handler: &str, further: &str) -> String {
    format!(
        "connections: {{ here: 'sqlite://{store}' }}\n\
         producers: {{ demo: {{ queue: demo }} }}\n\
         consumers:\n  demo:\n    queue: demo\n    handler: {{ {handler} }}\n    {further}\n"
    )
}

impl Ground {
    pub fn new(place: Place) -> Self {
        Self { place }
    }

    /// Sends each line.
    pub fn send(&self, lines: &str) {
        self.run(["queuemessage", "--lines", "demo"])
            .stdin(lines)
            .any_stdout()
            .check();
    }

    /// A figure of the queue.
    pub fn figure(&self, name: &str) -> u64 {
        self.json(["managequeue", "info", "demo"])[name].as_u64().unwrap()
    }

    /// Waits until nothing is in the queue, in whatever state.
    pub fn wait_empty(&self) {
        wait_for("the queue to be empty", || self.is_empty());
    }

    /// Whether nothing is in the queue, in whatever state.
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// How many messages are in the queue, in whatever state but dead.
    pub fn left(&self) -> u64 {
        let info = self.json(["managequeue", "info", "demo"]);
        let states = ["ready", "delayed", "held"];
        states.iter().map(|state| info[*state].as_u64().unwrap()).sum()
    }

    /// `qctl store check` finds nothing.
    pub fn check_store(&self) {
        self.run(["store", "check"]).stdout_contains("is sound").check();
    }

    /// Runs the consumer until nothing is ready.
    pub fn drain(&self) {
        self.run(["consumer", "--until-empty", "demo"]).any_stderr().check();
    }

    /// Refuses to do this with this exit code, in one line with these words.
    pub fn refuses<const N: usize>(&self, args: &[&str], code: i32, words: [&str; N]) {
        let finished = self.run(args.iter().copied()).code(code).any_stderr().check();
        let said = finished.stderr.trim_end();
        assert_eq!(said.lines().count(), 1, "{args:?} says it in one line: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} names {word:?}: {said}");
        }
    }
}

impl Deref for Ground {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            let left = processes(self.root());
            if left.is_empty() {
                return;
            }
            if thread::panicking() || Instant::now() > deadline {
                for pid in left.keys().filter_map(|pid| Pid::from_raw(*pid)) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                assert!(thread::panicking(), "processes were left behind: {left:#?}");
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs a Python program in the working folder, to do to a store what qctl never does.
pub fn python(ground: &Ground, program: &str) {
    let output = Command::new("python3")
        .args(["-c", program])
        .current_dir(ground.path(""))
        .output()
        .expect("python3, which scripts/test installs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All processes but this one that have to do with this folder: by an argument, by their environment, by the folder they are
/// in, or by a file that they have open, as a guardian has its owner's.
pub fn processes(folder: &Path) -> BTreeMap<i32, String> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let folder = folder.as_os_str().as_encoded_bytes();
    let holds = |bytes: &[u8]| bytes.windows(folder.len()).any(|part| part == folder);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let process = entry.path();
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let marked = || fs::read(process.join("environ")).is_ok_and(|text| holds(&text));
        let points = |link: &Path| fs::read_link(link).is_ok_and(|to| holds(to.as_os_str().as_encoded_bytes()));
        let has_open =
            || fs::read_dir(process.join("fd")).is_ok_and(|files| files.flatten().any(|file| points(&file.path())));
        if pid != own && (holds(&words) || marked() || points(&process.join("cwd")) || has_open()) {
            found.insert(pid, String::from_utf8_lossy(&words).replace('\0', " "));
        }
    }
    found
}

/// The search for what is left behind sees a consumer, its guardian and a grandchild in a session of its own; all of them
/// are gone soon after the consumer is killed.
#[test]
fn what_is_left_behind_is_seen() {
    let ground = ground("exec: { run: ['./run.sh'] }", "");
    ground.script("run.sh", "setsid sleep 604 & echo $! > grandchild; wait");
    ground.send("a\n");
    let consumer = ground.start(["consumer", "demo"]);
    wait_for("the grandchild", || ground.read("grandchild").ends_with('\n'));
    let seen = processes(ground.root());
    let grandchild: i32 = ground.read("grandchild").trim().parse().unwrap();
    assert!(seen.contains_key(&grandchild), "{seen:?}");
    assert!(seen.contains_key(&consumer.pid().cast_signed()), "{seen:?}");
    assert!(seen.values().any(|words| words.contains("__guardian")), "{seen:?}");
    consumer.signal(Signal::KILL);
    wait_for("all of them to be gone", || {
        processes(ground.root())
            .keys()
            .all(|pid| *pid == consumer.pid().cast_signed())
    });
}
