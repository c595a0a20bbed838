//! As whom, where and with which limits workers run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::ground::Yard;
use crate::support::wait_for;

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_worker_runs_as_it_is_said() {
    let yard = Yard::new(
        "  w:\n    run: [./tell]\n    cwd: place\n    nice: 7\n    umask: \"027\"\n    limits: { nofile: 123, core: 0, stack: 4M }\n    env: { \
         APP_ENV: prod }\n",
    );
    fs::create_dir(yard.place.path("place")).unwrap();
    // A relative program is found from the configuration's folder, whatever the worker's own.
    yard.place.script(
        "tell",
        "pwd > out; umask >> out; ulimit -n >> out; env | sort >> out; echo end >> out; exec sleep 1000",
    );
    yard.dog(&["start"], 0);
    wait_for("its words", || yard.place.read("place/out").ends_with("end\n"));
    let out = yard.place.read("place/out");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], yard.place.path("place").display().to_string());
    assert_eq!(lines[1..3], ["0027", "123"]);
    for line in [
        "APP_ENV=prod",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "QCTL_INSTANCE=1",
    ] {
        assert!(lines.contains(&line), "{line} in {out}");
    }
    let pid = yard.pid("w", 1);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Its own group and session; as nice as was said.
    assert_eq!(fields[2..4], [pid.to_string(), pid.to_string()]);
    assert_eq!(fields[16], "7");
    // The signals that its keeper blocks are not blocked in it.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(field(&status, "SigBlk"), "0000000000000000");
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(),
        Some("/dev/null")
    );
    // It holds nothing of its keeper's.
    assert_eq!(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 3);
    yard.finish();
}

#[test]
fn what_it_is_not_given_is_not_there() {
    let yard = Yard::new("  w: { run: [./tell] }\n");
    yard.place.script("tell", "env > out; echo end >> out; exec sleep 1000");
    let mut command = yard.place.command();
    command.args(["watchdog", "start"]);
    for name in [
        "SECRET_TOKEN",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "AMQP_URL",
        "LD_PRELOAD_X",
        "QCTL_OWNER",
    ] {
        command.env(name, "hush");
    }
    assert!(command.output().unwrap().status.success());
    wait_for("its words", || yard.place.read("out").ends_with("end\n"));
    assert!(!yard.place.read("out").contains("hush"), "{}", yard.place.read("out"));
    yard.finish();
}

/// A consumer reads the configuration itself, so it has the variables that this names; their values are nowhere else.
#[test]
fn a_consumer_has_the_variables_of_its_configuration_and_no_command_line_shows_them() {
    let yard = Yard::with(
        "connections: { local: 'sqlite://./state/queue.db', far: 'amqp://app:${RABBIT_PW}@127.0.0.1:1/' }\ndefault: local\nconsumers:\n  \
         mail: { handler: noop }\nworkers:\n  mail: { consumer: mail }\n",
    );
    let mut command = yard.place.command();
    command.args(["watchdog", "start"]).env("RABBIT_PW", "hunter2");
    assert!(command.output().unwrap().status.success());
    let mut status = yard.place.command();
    let output = status
        .args(["--output", "json", "watchdog", "status"])
        .env("RABBIT_PW", "hunter2")
        .output()
        .unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (pid, keeper) = (&all[0]["pid"], &all[0]["keeper_pid"]);
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("RABBIT_PW=hunter2"));
    for of in [pid, keeper] {
        let line = fs::read(format!("/proc/{of}/cmdline")).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains("hunter2"));
    }
    let environment = fs::read(format!("/proc/{keeper}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("hunter2"));
    for entry in fs::read_dir(yard.folder()).unwrap().flatten() {
        let text = fs::read(entry.path()).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&text).contains("hunter2"),
            "{}",
            entry.path().display()
        );
    }
    let mut stop = yard.place.command();
    assert!(
        stop.args(["watchdog", "stop"])
            .env("RABBIT_PW", "hunter2")
            .status()
            .unwrap()
            .success()
    );
    yard.assert_gone();
}

/// Root starts a worker as the user it names; what the watchdog writes down stays root's.
#[test]
fn root_starts_a_worker_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        // Only root can; the test of what others are told is below.
        return;
    }
    let yard = Yard::new("  w: { run: [sleep, '1000'], user: nobody, heartbeat: none }\n");
    yard.dog(&["start"], 0);
    let status = fs::read_to_string(format!("/proc/{}/status", yard.pid("w", 1))).unwrap();
    let nobody = qctl::process::Account::named("nobody", None).unwrap();
    let uid = nobody.uid.to_string();
    assert_eq!(field(&status, "Uid"), [uid.as_str(); 4].join(" "));
    let groups = field(&status, "Groups");
    assert!(!groups.split(' ').any(|group| group == "0"), "{groups}");
    let keeper = fs::read_to_string(format!("/proc/{}/status", yard.keeper("w", 1))).unwrap();
    assert_eq!(field(&keeper, "Uid"), "0 0 0 0");
    yard.finish();
}

/// Where the state is another user's, root does everything as that user.
#[test]
fn root_looks_after_another_users_workers_as_that_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let yard = Yard::new("  w: { run: [sleep, '1000'] }\n");
    let nobody = qctl::process::Account::named("nobody", None).unwrap();
    fs::create_dir(yard.place.path("state")).unwrap();
    std::os::unix::fs::chown(yard.place.path("state"), Some(nobody.uid), Some(nobody.gid)).unwrap();
    for folder in [yard.place.root(), &yard.place.path("")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The program may be in a folder that is root's alone.
    let hidden = yard.place.path("hidden/qctl");
    fs::create_dir(yard.place.path("hidden")).unwrap();
    fs::set_permissions(yard.place.path("hidden"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_qctl"), &hidden).unwrap();
    let dog = |program: &Path, verb: &str| {
        let mut command = yard.place.command_of(program.to_str().unwrap());
        let output = command.args(["watchdog", verb]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = dog(&hidden, "start");
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("let its user execute that program"), "{said}");

    let program = yard.place.path("qctl");
    fs::rename(&hidden, &program).unwrap();
    let (code, said) = dog(&program, "start");
    assert_eq!(code, Some(0), "{said}");
    for pid in [yard.pid("w", 1), yard.keeper("w", 1)] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert_eq!(field(&status, "Uid"), [nobody.uid.to_string().as_str(); 4].join(" "));
    }
    assert_eq!(dog(&program, "check"), (Some(0), String::new()));
    yard.finish();
}

/// What a program prints at once is more than a pipe holds: it waits, and nothing is lost.
#[test]
fn a_worker_that_prints_in_bursts_loses_nothing() {
    let yard = Yard::new("  w: { run: [./bursts], log: { size: 100M } }\n");
    yard.place
        .script("bursts", "seq 1 200000; echo \"end $?\"; exec sleep 1000");
    yard.dog(&["start"], 0);
    wait_for("the end of it", || yard.log("w", 1).ends_with("end 0\n"));
    assert_eq!(
        yard.log("w", 1)
            .lines()
            .filter(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
            .count(),
        200_000
    );
    yard.finish();
}

/// Whoever starts the watchdog may wait for the end of a pipe, or hold a lock for as long as that takes.
#[test]
fn nothing_of_whoever_started_them_is_held_by_keepers_and_workers() {
    let yard = Yard::honest("");
    let program = env!("CARGO_BIN_EXE_qctl");
    let mut shell = yard.place.command_of("/bin/sh");
    let script = format!("exec 9>lock; flock -n 9; {{ {program} watchdog start 3>&1 >/dev/null 4>&3; }} | cat");
    let output = shell.args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut again = yard.place.command_of("flock");
    let free = again.args(["-n", "lock", "true"]).status().unwrap();
    assert!(free.success(), "the lock is held by a keeper or a worker");
    yard.finish();
}

#[test]
fn a_limit_that_the_system_does_not_allow_is_told_of() {
    let yard = Yard::new("  w: { run: [sleep, '1000'], limits: { nofile: 2000000000 } }\n");
    let told = yard.dog(&["start"], 75).stdout;
    assert!(
        told.contains("Operation not permitted") && told.contains("`limits`, `nice`, `user` or `group` are more than"),
        "{told}"
    );
    yard.finish();
}
