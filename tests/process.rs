//! Children and their guardian, through the library's front door.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use qctl::ErrorKind;
use qctl::process::{
    Cancel, Ended, Environment, Guardian, Job, OWNER, Pool, Program, Runner, SpawnError, Stopped, end_marked,
};
use qctl::queue::Lifeline;

const QCTL: &str = env!("CARGO_BIN_EXE_qctl");

fn program(argv: &[&str]) -> Program {
    Program::locate(
        argv.iter().map(|word| (*word).to_owned()).collect(),
        Environment::inherited(),
        None,
    )
    .unwrap()
}

fn shell(script: &str) -> Job {
    Job::new(program(&["sh", "-c", script]))
}

fn run(job: Job) -> Ended {
    Runner::new().unwrap().run(job, &Cancel::new()).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Waits for a condition; fails after 20 s.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs; a zombie does not.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with(['Z', 'X']))
}

fn pid_in(path: &Path) -> u32 {
    let mut pid = None;
    until("a pid is written", || {
        let text = fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'));
        pid = text.and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    pid.unwrap()
}

fn kill(signal: &str, pid: u32) {
    assert!(
        Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn output_and_exit_code_come_back() {
    let mut job = shell("cat; echo oops >&2; exit 3");
    job.input = b"hello".to_vec();
    job.keep = 1 << 20;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&seen);
    job.lines = Some(Box::new(move |stream, line| {
        lines.lock().unwrap().push(format!("{}:{line}", stream.name()));
    }));
    let ended = run(job);
    assert_eq!((ended.exit_code, ended.signal, ended.stopped), (Some(3), None, None));
    assert_eq!(
        (text(&ended.stdout.bytes), text(&ended.stderr.bytes)),
        ("hello", "oops\n")
    );
    assert_eq!(ended.stderr_tail, "oops");
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["stderr:oops", "stdout:hello"]);
}

#[test]
fn an_environment_is_all_that_a_child_gets() {
    let mut program = program(&["env"]);
    program.env = Environment::empty();
    program.env.set("ONE", "1");
    program.cwd = Some("/".into());
    let mut job = Job::new(program);
    job.keep = 1024;
    assert_eq!(text(&run(job).stdout.bytes), "ONE=1\n");
}

#[test]
fn a_big_body_reaches_a_child_that_answers_while_it_reads() {
    let mut job = Job::new(program(&["cat"]));
    job.input = (0..10_000_000_u32).map(|number| (number % 251) as u8).collect();
    job.keep = 16 << 20;
    let input = job.input.clone();
    let ended = run(job);
    assert!(ended.stdout.bytes == input && !ended.stdout.truncated && ended.exit_code == Some(0));
}

#[test]
fn a_child_need_not_read_its_body() {
    for size in [1, 4096, 4097, 10_000_000] {
        let mut job = Job::new(program(&["true"]));
        job.input = vec![b'x'; size];
        assert_eq!(run(job).exit_code, Some(0), "{size}");
    }
    let mut job = shell("exec <&-; exec sleep 0.05");
    job.input = vec![b'x'; 10_000_000];
    assert_eq!(run(job).exit_code, Some(0));
}

#[test]
fn much_output_takes_little_memory() {
    let mut job = shell("head -c 200000000 /dev/zero; head -c 100000000 /dev/zero | tr '\\0' 'e' >&2");
    job.keep = 1000;
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    job.lines = Some(Box::new(move |_, line| {
        assert!(line.len() < 10_000);
        *counter.lock().unwrap() += 1;
    }));
    let ended = run(job);
    assert_eq!((ended.stdout.bytes.len(), ended.stdout.truncated), (1000, true));
    assert_eq!((ended.stderr.bytes.len(), ended.stderr.truncated), (1000, true));
    assert_eq!((ended.stderr_tail.len(), ended.exit_code), (2048, Some(0)));
    assert_eq!(*count.lock().unwrap(), 2);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap()
        .trim();
    // Other tests of this program run at the same time, so this is a loose bound; it is far below what was printed.
    assert!(peak.trim_end_matches(" kB").parse::<u64>().unwrap() < 150_000, "{peak}");
}

#[test]
fn a_time_out_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut job = shell(&format!("sleep 600 & echo $! > {}; wait", file.display()));
    job.timeout = Some(Duration::from_millis(300));
    let ended = run(job);
    assert_eq!((ended.stopped, ended.signal), (Some(Stopped::TimedOut), Some(15)));
    let pid = pid_in(&file);
    until("the grandchild is gone", || !runs(pid));
}

#[test]
fn a_child_that_ignores_term_is_killed_after_the_grace() {
    let mut job = shell("trap '' TERM; while :; do sleep 0.01; done");
    job.timeout = Some(Duration::from_millis(300));
    job.grace = Duration::from_millis(200);
    let ended = run(job);
    assert_eq!((ended.stopped, ended.signal), (Some(Stopped::TimedOut), Some(9)));
}

#[test]
fn a_child_may_tidy_up_when_its_time_is_over() {
    let cancel = Cancel::new();
    let other = cancel.clone();
    let mut job = shell("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.01; done");
    job.lines = Some(Box::new(move |_, _| other.cancel()));
    job.keep = 100;
    let ended = Runner::new().unwrap().run(job, &cancel).unwrap();
    assert_eq!((ended.stopped, ended.exit_code), (Some(Stopped::Cancelled), Some(4)));
    assert_eq!(text(&ended.stdout.bytes), "ready\nbye\n");
}

#[test]
fn what_a_child_leaves_in_its_group_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let started = Instant::now();
    let ended = run(shell(&format!("sleep 600 & echo $! > {}", file.display())));
    assert_eq!((ended.exit_code, ended.stopped), (Some(0), None));
    let pid = pid_in(&file);
    until("the grandchild is gone", || !runs(pid));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_grandchild_that_left_the_group_does_not_hold_us_up() {
    let folder = tempfile::tempdir().unwrap();
    let token = token("left");
    for grandchild in ["exec sleep 600", "trap \"\" PIPE; while :; do echo more; done"] {
        let file = folder.path().join("pid");
        let _ = fs::remove_file(&file);
        // The child ends only when the grandchild has left its group.
        let path = file.display();
        let mut job = shell(&format!(
            "echo early; setsid sh -c 'echo $$ > {path}; {grandchild}' & while [ ! -s {path} ]; do sleep 0.01; done"
        ));
        job.program.env.set(OWNER, &token);
        job.keep = 5;
        let ended = run(job);
        assert_eq!((ended.exit_code, text(&ended.stdout.bytes)), (Some(0), "early"));
        let pid = pid_in(&file);
        assert!(runs(pid));
        assert!(end_marked(&token, None).ended >= 1);
        assert!(!runs(pid));
    }
}

#[test]
fn a_death_by_a_foreign_signal_is_told_apart() {
    let ended = run(shell("kill -9 $$"));
    assert_eq!((ended.exit_code, ended.signal, ended.stopped), (None, Some(9), None));
}

#[test]
fn a_child_is_cancelled_before_and_while_it_runs() {
    let mut runner = Runner::new().unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let ended = runner.run(shell("echo never"), &cancel).unwrap();
    assert_eq!((ended.stopped, ended.exit_code), (Some(Stopped::Cancelled), None));

    let cancel = Cancel::new();
    let other = cancel.clone();
    let mut job = shell("echo here; exec sleep 600");
    job.lines = Some(Box::new(move |_, _| other.cancel()));
    let ended = runner.run(job, &cancel).unwrap();
    assert_eq!((ended.stopped, ended.signal), (Some(Stopped::Cancelled), Some(15)));

    // The cancelled job's bell does not ring for the next one.
    let ended = runner.run(shell("sleep 0.05"), &Cancel::new()).unwrap();
    assert_eq!((ended.stopped, ended.exit_code), (None, Some(0)));
}

#[test]
fn programs_that_cannot_run_are_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let orphan = folder.path().join("orphan");
    fs::write(&orphan, "#!/no/such/interpreter -x\n").unwrap();
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, "neither a script nor a program").unwrap();
    for file in [&orphan, &garbage] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let locate = |name: &str, cwd: Option<PathBuf>| {
        Program::locate(vec![name.to_owned()], Environment::inherited(), cwd)
            .map(|_| ())
            .unwrap_err()
    };
    let cases = [
        (
            locate("no-such-program-xyz", None),
            "no-such-program-xyz is not in the PATH",
        ),
        (locate("/no/such/file", None), "/no/such/file does not exist"),
        (locate(plain.to_str().unwrap(), None), "is not executable"),
        (locate("./plain", Some(folder.path().into())), "is not executable"),
        (locate(folder.path().to_str().unwrap(), None), "is a directory"),
        (
            locate(orphan.to_str().unwrap(), None),
            "interpreter /no/such/interpreter",
        ),
        (
            locate("true", Some("/no/such/folder".into())),
            "working directory /no/such/folder",
        ),
        (locate("", None), "no program"),
    ];
    for (error, expected) in cases {
        assert!(
            matches!(&error, SpawnError::Fault(text) if text.contains(expected)),
            "{error:?}: {expected}"
        );
    }
    let located = program(&[garbage.to_str().unwrap()]);
    let error = Runner::new()
        .unwrap()
        .run(Job::new(located.clone()), &Cancel::new())
        .unwrap_err();
    assert!(
        matches!(&error, SpawnError::Fault(text) if text.contains("garbage")),
        "{error:?}"
    );
    fs::remove_file(&garbage).unwrap();
    let error = Runner::new()
        .unwrap()
        .run(Job::new(located), &Cancel::new())
        .unwrap_err();
    assert!(
        matches!(&error, SpawnError::Fault(text) if text.contains("does not exist")),
        "{error:?}"
    );
}

#[test]
fn arguments_no_program_can_be_given_are_refused() {
    let mut big = program(&["true"]);
    big.argv.push("x".repeat(3 << 20));
    let error = Runner::new().unwrap().run(Job::new(big), &Cancel::new()).unwrap_err();
    assert!(
        matches!(&error, SpawnError::Refused(text) if text.contains("bytes of arguments")),
        "{error:?}"
    );
    let mut nul = program(&["true"]);
    nul.argv.push("a\0b".to_owned());
    let error = Runner::new().unwrap().run(Job::new(nul), &Cancel::new()).unwrap_err();
    assert!(
        matches!(&error, SpawnError::Refused(text) if text.contains("NUL")),
        "{error:?}"
    );
}

#[test]
fn a_program_that_is_being_written_is_a_matter_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy");
    fs::copy("/bin/true", &path).unwrap();
    let open = File::options().append(true).open(&path).unwrap();
    let program = program(&[path.to_str().unwrap()]);
    let error = Runner::new()
        .unwrap()
        .run(Job::new(program.clone()), &Cancel::new())
        .unwrap_err();
    assert!(matches!(error, SpawnError::Busy(_)), "{error:?}");
    drop(open);
    // A child that another test is spawning may hold a copy of our descriptor until its exec.
    until("it can be run", || {
        Runner::new()
            .unwrap()
            .run(Job::new(program.clone()), &Cancel::new())
            .is_ok()
    });
}

#[tokio::test]
async fn a_pool_runs_as_many_at_once_as_it_has_slots() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::new("slot", 2);
    // Each child waits for the other one: only two at once can end.
    let job = |own: &str, other: &str| {
        let (own, other) = (folder.path().join(own), folder.path().join(other));
        let script = format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.01; done",
            own.display(),
            other.display()
        );
        let mut job = shell(&script);
        job.timeout = Some(Duration::from_secs(20));
        job
    };
    let (first, second) = tokio::join!(pool.submit(job("a", "b")), pool.submit(job("b", "a")));
    assert_eq!(
        (first.unwrap().exit_code, second.unwrap().exit_code),
        (Some(0), Some(0))
    );
    let more = (0..20)
        .map(|code| pool.submit(shell(&format!("exit {code}"))))
        .collect::<Vec<_>>();
    for (code, running) in (0..).zip(more) {
        assert_eq!(running.await.unwrap().exit_code, Some(code));
    }
}

#[tokio::test]
async fn a_dropped_future_ends_its_child() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let pool = Pool::new("slot", 1);
    let running = pool.submit(shell(&format!("echo $$ > {}; exec sleep 600", file.display())));
    let waiting = pool.submit(shell("exit 9"));
    let pid = pid_in(&file);
    drop(running);
    assert_eq!(waiting.await.unwrap().exit_code, Some(9));
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_sink_that_panics_costs_only_its_own_child() {
    let pool = Pool::new("slot", 1);
    let mut job = shell("echo $$; exec sleep 600");
    let (send, pid) = std::sync::mpsc::channel();
    job.lines = Some(Box::new(move |_, line| {
        send.send(line.parse::<u32>().unwrap()).unwrap();
        panic!("the sink breaks");
    }));
    let (broken, whole) = (pool.submit(job), pool.submit(shell("exit 5")));
    assert!(matches!(broken.await, Err(SpawnError::Busy(_))));
    assert_eq!(whole.await.unwrap().exit_code, Some(5));
    assert!(!runs(pid.recv().unwrap()));
}

fn lifeline(folder: &Path, token: &str) -> Lifeline {
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(folder.join("owner"))
        .unwrap();
    file.try_lock().unwrap();
    Lifeline {
        token: token.to_owned(),
        file: Some(Arc::new(file)),
        socket: None,
    }
}

fn is_locked(folder: &Path) -> bool {
    File::options()
        .write(true)
        .open(folder.join("owner"))
        .unwrap()
        .try_lock()
        .is_err()
}

/// A token that no other test, and no other run of this one, has.
fn token(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Not a test of its own: the consumer that other tests kill. It runs one child, told or untold to the guardian.
#[test]
fn consumer_to_be_killed() {
    let Some(folder) = std::env::var_os("TEST_FOLDER").map(PathBuf::from) else {
        return;
    };
    let token = std::env::var("TEST_TOKEN").unwrap();
    let guardian = Arc::new(Guardian::start(Path::new(QCTL), &lifeline(&folder, &token)).unwrap());
    let mut job = shell(&std::env::var("TEST_SCRIPT").unwrap());
    if std::env::var_os("TEST_UNMARKED").is_none() {
        job.program.env.set(OWNER, &token);
    }
    if std::env::var_os("TEST_UNTOLD").is_none() {
        job.guardian = Some(Arc::clone(&guardian));
    }
    run(job);
    guardian.finish();
}

/// Not a test of its own either: a consumer in the middle of starting and ending children, on four threads.
#[test]
fn busy_consumer_to_be_killed() {
    let Some(folder) = std::env::var_os("TEST_FOLDER").map(PathBuf::from) else {
        return;
    };
    let token = std::env::var("TEST_TOKEN").unwrap();
    let guardian = Arc::new(Guardian::start(Path::new(QCTL), &lifeline(&folder, &token)).unwrap());
    let mut sleep = program(&["sleep", "600"]);
    sleep.env.set(OWNER, &token);
    thread::scope(|scope| {
        for milliseconds in [0, 1, 5, 20] {
            let (sleep, guardian) = (sleep.clone(), Arc::clone(&guardian));
            scope.spawn(move || {
                let mut runner = Runner::new().unwrap();
                loop {
                    let mut job = Job::new(sleep.clone());
                    job.timeout = Some(Duration::from_millis(milliseconds));
                    job.guardian = Some(Arc::clone(&guardian));
                    runner.run(job, &Cancel::new()).unwrap();
                }
            });
        }
    });
}

/// The processes that carry this owner's mark.
fn marked(token: &str) -> Vec<String> {
    let mark = format!("{OWNER}={token}");
    let carries = |folder: &Path| {
        fs::read(folder.join("environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|folder| carries(folder))
        .map(|folder| folder.display().to_string())
        .collect()
}

#[test]
fn killed_at_any_moment_a_consumer_leaves_no_child_beyond_its_lock() {
    for round in 0..25 {
        let folder = tempfile::tempdir().unwrap();
        let token = token(&format!("any moment {round}"));
        let mut consumer = consumer_named("busy_consumer_to_be_killed", folder.path(), &token, "", &[]);
        until("children run", || !marked(&token).is_empty());
        // Not a wait for anything: it moves the moment of the kill about.
        thread::sleep(Duration::from_micros(fastrand::u64(0..20_000)));
        consumer.kill().unwrap();
        consumer.wait().unwrap();
        until("the lock is free", || !is_locked(folder.path()));
        assert_eq!(marked(&token), [""; 0], "round {round}");
    }
}

fn consumer(folder: &Path, token: &str, script: &str, switches: &[&str]) -> Child {
    consumer_named("consumer_to_be_killed", folder, token, script, switches)
}

fn consumer_named(name: &str, folder: &Path, token: &str, script: &str, switches: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]);
    command
        .env("TEST_FOLDER", folder)
        .env("TEST_TOKEN", token)
        .env("TEST_SCRIPT", script);
    for switch in switches {
        command.env(switch, "1");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The guardian of the owner with this token, once it stands firm: HUP, INT, QUIT, TERM and (as in every Rust program)
/// PIPE are ignored.
fn guardian_of(token: &str) -> u32 {
    let mut found = None;
    let mark = format!("QCTL_GUARD={token}");
    until("the guardian runs", || {
        found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let firm = status
                .lines()
                .any(|line| line.starts_with("SigIgn:") && line.ends_with("5007"));
            (firm && environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())).then_some(pid)
        });
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn the_guardian_ends_what_a_killed_consumer_leaves_before_its_lock_is_free() {
    let cases: [(&str, &[&str]); 3] = [
        ("marked and told", &[]),
        ("marked but not yet told", &["TEST_UNTOLD"]),
        ("told but without its mark", &["TEST_UNMARKED"]),
    ];
    for (case, switches) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (child, grandchild) = (folder.path().join("child"), folder.path().join("grandchild"));
        let token = token(case);
        let script = format!(
            "trap '' TERM; sh -c 'echo $$ > {}; exec sleep 600' & echo $$ > {}; exec sleep 600",
            grandchild.display(),
            child.display()
        );
        let mut consumer = consumer(folder.path(), &token, &script, switches);
        let (child, grandchild) = (pid_in(&child), pid_in(&grandchild));
        assert!(is_locked(folder.path()) && runs(child) && runs(grandchild), "{case}");
        consumer.kill().unwrap();
        consumer.wait().unwrap();
        until("the lock is free", || {
            // In this order: a child seen alive after the lock was seen free is the fault we look for.
            let free = !is_locked(folder.path());
            assert!(
                !free || (!runs(child) && !runs(grandchild)),
                "{case}: a child outlived the lock"
            );
            free
        });
    }
}

#[test]
fn the_guardian_finds_what_has_left_its_session_and_shrugs_off_signals() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let token = token("setsid");
    let script = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 600' & exec sleep 600",
        file.display()
    );
    let mut consumer = consumer(folder.path(), &token, &script, &[]);
    let pid = pid_in(&file);
    let guardian = guardian_of(&token);
    for signal in ["-TERM", "-INT", "-HUP"] {
        kill(signal, guardian);
    }
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    until("the lock is free", || !is_locked(folder.path()));
    assert!(!runs(pid));
    until("the guardian has ended", || !runs(guardian));
}

#[test]
fn a_dead_guardian_is_replaced_and_the_new_one_knows_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let token = token("replaced");
    let script = format!("echo $$ > {}; exec sleep 600", file.display());
    // Only the record tells of this child: it is not marked.
    let mut consumer = consumer(folder.path(), &token, &script, &["TEST_UNMARKED"]);
    let pid = pid_in(&file);
    let first = guardian_of(&token);
    kill("-KILL", first);
    until("another guardian runs", || guardian_of(&token) != first);
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    until("the lock is free", || !is_locked(folder.path()));
    assert!(!runs(pid));
}

/// Kills a consumer together with its guardian, and waits until nobody holds its lock.
fn kill_with_guardian(consumer: &mut Child, folder: &Path, token: &str) {
    let guardian = guardian_of(token);
    // Stopped first, so that it cannot put another guardian in the dead one's place.
    kill("-STOP", consumer.id());
    kill("-KILL", guardian);
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    until("the lock is free", || !is_locked(folder));
}

#[test]
fn a_consumer_and_its_guardian_killed_together_leave_marked_children_to_find() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let token = token("both");
    let script = format!("sleep 600 & echo $$ > {}; exec sleep 600", file.display());
    let mut consumer = consumer(folder.path(), &token, &script, &[]);
    let pid = pid_in(&file);
    kill_with_guardian(&mut consumer, folder.path(), &token);
    assert!(runs(pid));
    let sweep = end_marked(&token, None);
    assert_eq!((sweep.ended, sweep.left), (2, 0));
    assert!(!runs(pid));
    assert_eq!(end_marked(&token, None).ended, 0);
}

#[test]
fn a_consumer_and_its_guardian_killed_together_leave_a_record_of_children_without_mark() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let token = token("record");
    let script = format!("sleep 600 & echo $$ > {}; exec sleep 600", file.display());
    let mut consumer = consumer(folder.path(), &token, &script, &["TEST_UNMARKED"]);
    let pid = pid_in(&file);
    kill_with_guardian(&mut consumer, folder.path(), &token);
    assert_eq!(end_marked(&token, None).ended, 0);
    assert!(runs(pid));
    let lifeline = File::open(folder.path().join("owner")).unwrap();
    let sweep = end_marked(&token, Some(&lifeline));
    assert_eq!((sweep.ended, sweep.left), (2, 0));
    assert!(!runs(pid));
}

#[test]
fn a_guardian_ends_with_its_consumer_and_touches_nothing_then() {
    let folder = tempfile::tempdir().unwrap();
    let token = token("clean");
    // What a job left behind on purpose, in a session of its own.
    let mut daemon = Command::new("setsid")
        .args(["sleep", "600"])
        .env(OWNER, &token)
        .spawn()
        .unwrap();
    let lifeline = lifeline(folder.path(), &token);
    let guardian = Arc::new(Guardian::start(Path::new(QCTL), &lifeline).unwrap());
    assert!(guardian.serves(&lifeline) && guardian.token() == token);
    let mut job = shell("exit 0");
    job.guardian = Some(Arc::clone(&guardian));
    run(job);
    let pid = guardian_of(&token);
    guardian.finish();
    assert!(!runs(pid));
    assert!(daemon.try_wait().unwrap().is_none());
    drop((guardian, lifeline));
    until("the lock is free", || !is_locked(folder.path()));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_program_that_is_no_guardian_is_found_out() {
    let lifeline = Lifeline {
        token: token("wrong"),
        file: None,
        socket: None,
    };
    for (program, expected) in [
        ("/bin/true", "did not say that it is ready"),
        ("/no/such/qctl", "does not exist"),
    ] {
        let error = Guardian::start(Path::new(program), &lifeline).unwrap_err();
        assert!(
            error.kind() == ErrorKind::WorkerFault && error.to_string().contains(expected),
            "{error}"
        );
    }
    let output = Command::new(QCTL)
        .arg("__guardian")
        .env_remove("QCTL_GUARD")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
}

#[test]
fn no_child_inherits_the_line_or_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let token = token("inherit");
    let lifeline = lifeline(folder.path(), &token);
    let guardian = Arc::new(Guardian::start(Path::new(QCTL), &lifeline).unwrap());
    let mut job = Job::new(program(&["ls", "-l", "/proc/self/fd"]));
    job.guardian = Some(guardian);
    job.keep = 10_000;
    let ended = run(job);
    let open: Vec<_> = text(&ended.stdout.bytes)
        .lines()
        .filter(|line| line.contains(" -> "))
        .collect();
    assert!(open.len() >= 3, "{open:?}");
    assert!(
        open.iter()
            .all(|line| !line.ends_with("owner") && !line.contains(" -> socket:")),
        "{open:?}"
    );
}

/// An end that waits to be told with the next one's is told by itself when the next one is taken back.
#[tokio::test]
async fn an_end_is_told_although_what_it_waited_for_was_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let pool = Pool::new("slot", 1);
    let job = |script: &str| {
        let mut job = shell(script);
        job.deferrable = true;
        job
    };
    let first = pool.submit(job(&format!("until test -e {}; do sleep 0.01; done", go.display())));
    let second = pool.submit(job("exit 9"));
    assert!(second.withdraw());
    fs::write(&go, "").unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), first)
        .await
        .expect("it is told")
        .unwrap();
    assert_eq!(ended.exit_code, Some(0));
}
