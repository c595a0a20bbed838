//! Runs the real program in a folder of its own, with an environment of its own, and checks what comes out. Output that a
//! test does not declare fails it. Nothing here sleeps for luck: conditions are waited for, up to a deadline.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a busy machine; a test that meets it has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder with a home in it, shared by the runs of one test.
#[derive(Clone)]
pub struct Place {
    folder: Rc<TempDir>,
}

impl Place {
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("qctl-it-").unwrap();
        for name in ["home", "work", "state", "config", "runtime"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            folder: Rc::new(folder),
        }
    }

    /// A place with this `qctl.yml`.
    pub fn with_config(yaml: &str) -> Self {
        let place = Self::new();
        place.write("qctl.yml", yaml);
        place
    }

    /// The folder that all of it is in.
    #[allow(dead_code)] // for tests/faults, which looks for processes that know of it
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the working folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// An executable shell script in the working folder.
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;

        let path = self.write(name, format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The content of a file of the working folder; empty where it is not there yet.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The program, ready to run here.
    pub fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_qctl"))
    }

    /// Another program in the same surroundings.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let root = self.folder.path();
        command
            .current_dir(root.join("work"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", root.join("home"))
            .env("XDG_STATE_HOME", root.join("state"))
            .env("XDG_CONFIG_HOME", root.join("config"))
            .env("XDG_RUNTIME_DIR", root.join("runtime"))
            .env("TZ", "UTC");
        command
    }

    /// A run with these arguments.
    pub fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Test {
        Test::at(self.clone()).args(args)
    }

    /// The JSON document that a run prints; it must succeed.
    pub fn json<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        // In front, because all behind a queued command is the command's.
        let result = self
            .run(["--output", "json"])
            .args(args)
            .any_stderr()
            .any_stdout()
            .check();
        serde_json::from_str(&result.stdout).unwrap_or_else(|error| panic!("{error}: {}", result.stdout))
    }

    /// Starts the program in the background; it is killed at the latest when the test ends.
    pub fn start<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        let mut command = self.command();
        command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.launch(command)
    }

    /// As [`Place::start`], with a command that was made by hand.
    pub fn launch(&self, mut command: Command) -> Running {
        let number = fastrand::u32(..);
        let err = self.path(&format!("err-{number}"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Running {
            child,
            err,
            status: None,
        }
    }
}

/// One run of the program and what is expected of it.
pub struct Test {
    place: Place,
    command: Command,
    shown: Vec<String>,
    stdin: Option<Vec<u8>>,
    code: i32,
    stdout: Vec<Expected>,
    stderr: Vec<Expected>,
}

enum Expected {
    Exactly(String),
    Contains(String),
    Anything,
}

/// What came out.
pub struct Finished {
    pub stdout: String,
    pub stderr: String,
    pub stdout_bytes: Vec<u8>,
}

impl Test {
    /// A run in a place of its own.
    pub fn new() -> Self {
        Self::at(Place::new())
    }

    pub fn at(place: Place) -> Self {
        let command = place.command();
        Self {
            place,
            command,
            shown: Vec::new(),
            stdin: None,
            code: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    pub fn config(self, yaml: &str) -> Self {
        self.place.write("qctl.yml", yaml);
        self
    }

    pub fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown.push(arg.as_ref().to_owned());
            self.command.arg(arg.as_ref());
        }
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    pub fn stdout(mut self, text: &str) -> Self {
        self.stdout.push(Expected::Exactly(text.to_owned()));
        self
    }

    pub fn stdout_contains(mut self, text: &str) -> Self {
        self.stdout.push(Expected::Contains(text.to_owned()));
        self
    }

    pub fn any_stdout(mut self) -> Self {
        self.stdout.push(Expected::Anything);
        self
    }

    pub fn stderr(mut self, text: &str) -> Self {
        self.stderr.push(Expected::Exactly(text.to_owned()));
        self
    }

    pub fn stderr_contains(mut self, text: &str) -> Self {
        self.stderr.push(Expected::Contains(text.to_owned()));
        self
    }

    pub fn any_stderr(mut self) -> Self {
        self.stderr.push(Expected::Anything);
        self
    }

    /// Runs it and compares.
    pub fn check(mut self) -> Finished {
        let mut child = self
            .command
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let feeder = self.stdin.take().map(|bytes| {
            let mut stdin = child.stdin.take().unwrap();
            // A program that stops reading early is not this thread's concern; the exit code tells.
            std::thread::spawn(move || drop(stdin.write_all(&bytes)))
        });
        let pid = Pid::from_child(&child);
        let (done, over) = std::sync::mpsc::channel();
        let watchdog = std::thread::spawn(move || {
            if over.recv_timeout(DEADLINE * 2).is_err() {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        let _ = done.send(());
        watchdog.join().unwrap();
        if let Some(feeder) = feeder {
            feeder.join().unwrap();
        }
        let finished = Finished {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            stdout_bytes: output.stdout,
        };
        let mut wrong = String::new();
        if output.status.code() != Some(self.code) {
            let _ = writeln!(wrong, "exit: expected {}, was {}", self.code, output.status);
        }
        compare("stdout", &self.stdout, &finished.stdout, &mut wrong);
        compare("stderr", &self.stderr, &finished.stderr, &mut wrong);
        assert!(
            wrong.is_empty(),
            "qctl {}\n{wrong}--- stdout\n{}--- stderr\n{}",
            self.shown.join(" "),
            finished.stdout,
            finished.stderr
        );
        finished
    }
}

fn compare(name: &str, expected: &[Expected], found: &str, wrong: &mut String) {
    if expected.is_empty() && !found.is_empty() {
        let _ = writeln!(wrong, "{name}: nothing was expected");
    }
    for expectation in expected {
        match expectation {
            Expected::Exactly(text) if text != found => {
                let _ = writeln!(wrong, "{name}: expected exactly {text:?}");
            }
            Expected::Contains(text) if !found.contains(text) => {
                let _ = writeln!(wrong, "{name}: expected to contain {text:?}");
            }
            _ => {}
        }
    }
}

/// A program in the background.
pub struct Running {
    child: Child,
    err: PathBuf,
    status: Option<ExitStatus>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until its standard error has this text.
    pub fn wait_stderr(&self, text: &str) {
        wait_for(
            &format!("{text:?} on standard error, which is {:?}", self.stderr()),
            || self.stderr().contains(text),
        );
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status.is_some()
    }

    /// Waits for its end; returns the exit code, `None` for a death by a signal.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        while !self.has_ended() {
            assert!(
                Instant::now() < deadline,
                "it did not end; standard error:\n{}",
                self.stderr()
            );
            pause();
        }
        self.status.and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits for a condition.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        pause();
    }
}

/// The step between two looks at a condition.
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Set in the run of a test that may mount.
#[allow(dead_code)] // for those that fill disks
const MAY_MOUNT: &str = "QCTL_TEST_MAY_MOUNT";

/// Runs the test of this path (`module::name`) in a namespace where it may mount; true in there.
#[allow(dead_code)] // for those that fill disks
pub fn may_mount(test: &str) -> bool {
    if std::env::var_os(MAY_MOUNT).is_some() {
        return true;
    }
    let able = |flags: &str| {
        let tried = Command::new("unshare")
            .args([flags, "true"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    };
    let flags = ["-m", "-Urm"].into_iter().find(|flags| able(flags)).expect(
        "this test mounts a small tmpfs: run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
    );
    let status = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MAY_MOUNT, "1")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "it failed in its namespace, see above");
    false
}

/// Whether a process with this id runs (a zombie does not).
pub fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}
