//! `watchdog run`: for systemd, for containers.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{STORE, Yard, kill};
use crate::support::{is_running, wait_for};

#[test]
fn it_keeps_its_workers_until_it_is_asked_to_end() {
    let yard = Yard::honest(", instances: 2");
    let mut run = yard.place.start(["watchdog", "run"]);
    yard.wait_state("w", 1, "running");
    yard.wait_state("w", 2, "running");
    run.wait_stderr("process_started worker=w.1");
    let (one, keeper) = (yard.pid("w", 1), yard.keeper("w", 2));
    kill(one, Signal::KILL);
    yard.wait_new_pid("w", 1, one);
    kill(keeper, Signal::KILL);
    wait_for("a new keeper", || {
        yard.of("w", 2)["keeper_pid"]
            .as_u64()
            .is_some_and(|pid| pid != u64::from(keeper))
    });
    yard.wait_state("w", 2, "running");
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    yard.assert_gone();
    assert_eq!(yard.place.read("overlaps"), "");
    // The operator has not stopped anything: the next run starts them.
    assert_eq!(yard.of("w", 1)["wanted"], true);
}

/// A dead worker is there again within 50 ms where it may be at once: one that ended by its own limit.
#[test]
fn a_worker_that_ended_as_it_should_is_replaced_at_once() {
    let yard = Yard::new("  w: { run: [./brief] }\n");
    yard.place.script(
        "brief",
        "date +%s%N >> begun; [ $(wc -l < begun) -gt 3 ] && exec sleep 1000; sleep 5.2; date +%s%N >> ended",
    );
    let mut run = yard.place.start(["watchdog", "run"]);
    wait_for("two ends", || yard.place.read("begun").lines().count() >= 3);
    let moments = |name: &str| -> Vec<u64> {
        yard.place
            .read(name)
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    };
    let (begun, ended) = (moments("begun"), moments("ended"));
    let gaps: Vec<Duration> = ended
        .iter()
        .zip(&begun[1..])
        .map(|(end, begin)| Duration::from_nanos(begin.saturating_sub(*end)))
        .collect();
    // The figure is in bench/RESULTS.md; here the machine may be busy.
    assert!(gaps.iter().min().unwrap() < &Duration::from_millis(500), "{gaps:?}");
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0));
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    let yard = Yard::new("  w: { run: [./deaf], stop_timeout: none }\n");
    yard.place
        .script("deaf", "trap '' TERM\necho up >> out\nwhile :; do sleep 0.05; done");
    let mut run = yard.place.start(["watchdog", "run"]);
    wait_for("the worker", || !yard.place.read("out").is_empty());
    run.signal(Signal::TERM);
    run.wait_stderr("a second signal ends it at once");
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    yard.assert_gone();
}

#[test]
fn it_reads_a_changed_configuration_and_a_wrong_one_changes_nothing() {
    let yard = Yard::honest("");
    let mut run = yard.place.start(["watchdog", "run"]);
    yard.wait_state("w", 1, "running");
    let pid = yard.pid("w", 1);
    yard.place.write("qctl.yml", format!("{STORE}workers: [\n"));
    run.signal(Signal::HUP);
    run.wait_stderr("the configuration cannot be read; the workers go on");
    assert!(is_running(pid));
    yard.configure("  w: { run: [./honest], backoff: { min: 100ms, max: 1s } }\n  x: { run: [sleep, '1000'] }\n");
    wait_for("the new worker", || yard.of("x", 1)["pid"].is_u64());
    assert_eq!(yard.pid("w", 1), pid);
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    yard.assert_gone();
}

#[test]
fn systemd_is_told_when_it_is_ready_alive_and_ending() {
    let yard = Yard::honest("");
    let socket = UnixDatagram::bind(yard.place.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = yard.place.command();
    command
        .args(["watchdog", "run"])
        .env("NOTIFY_SOCKET", yard.place.path("notify"))
        .env("WATCHDOG_USEC", "600000");
    let mut run = yard.place.launch(command);
    let heard = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let until = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = heard();
            if text.lines().any(|line| line == wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "no {wanted}");
        }
    };
    until("READY=1");
    // Ready means that the workers were started.
    assert!(yard.of("w", 1)["pid"].is_u64());
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    run.signal(Signal::TERM);
    until("STOPPING=1");
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
}

/// As a container's main process it has the orphans of everyone.
#[test]
fn as_pid_1_it_reaps_strangers() {
    let yard = Yard::honest("");
    let program = env!("CARGO_BIN_EXE_qctl");
    let flags: &[&str] = if rustix::process::geteuid().is_root() {
        &["-p"]
    } else {
        &["-Urp"]
    };
    let mut command = yard.place.command_of("unshare");
    command
        .args(flags)
        .args(["--fork", "--mount-proc", "--kill-child", program, "watchdog", "run"]);
    let mut run = yard.place.launch(command);
    wait_for("the worker", || yard.starts(1) == 1);
    // The namespace's first process, seen from here.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid())).unwrap();
    let first: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    for _ in 0..3 {
        let made = Command::new("nsenter")
            .args([
                "-p",
                "-m",
                "-t",
                &first.to_string(),
                "sh",
                "-c",
                "(setsid sleep 0.1 &) ; exit 0",
            ])
            .status()
            .unwrap();
        assert!(made.success());
    }
    let zombies = || {
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                !String::from_utf8_lossy(&line).contains("__keeper")
            })
            .count()
    };
    wait_for("the strangers to be reaped", || zombies() == 0);
    kill(first, Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
}

#[test]
fn crontab_and_a_service_get_along() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let pid = yard.pid("w", 1);
    let mut run = yard.place.start(["watchdog", "run"]);
    run.wait_stderr(""); // it has begun
    wait_for("a while", || {
        yard.place.run(["watchdog", "check"]).check();
        yard.of("w", 1)["uptime"].as_f64() > Some(2.0)
    });
    assert_eq!((yard.pid("w", 1), yard.starts(1)), (pid, 1));
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    yard.assert_gone();
}

#[test]
fn a_second_one_is_refused() {
    let yard = Yard::honest("");
    let mut run = yard.place.start(["watchdog", "run"]);
    yard.wait_state("w", 1, "running");
    let pid = yard.pid("w", 1);
    let error = yard.dog(&["run"], 75).stderr;
    assert!(
        error.contains("another `qctl watchdog run` keeps the worker w"),
        "{error}"
    );
    assert!(is_running(pid));
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0));
}

#[test]
fn a_deleted_state_folder_does_not_set_it_against_crontab() {
    let yard = Yard::honest("");
    let mut run = yard.place.start(["watchdog", "run"]);
    yard.wait_state("w", 1, "running");
    fs::remove_dir_all(yard.folder()).unwrap();
    wait_for("the second start", || {
        yard.look_after();
        yard.starts(1) >= 2
    });
    yard.wait_state("w", 1, "running");
    let begun = Instant::now();
    wait_for("a while", || {
        yard.look_after();
        begun.elapsed() > Duration::from_secs(7)
    });
    // The new key may reach one of the two a moment later.
    assert!(yard.starts(1) <= 3, "{} starts", yard.starts(1));
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    yard.assert_gone();
}

/// A keeper that cannot be made is told of, though the record is well.
#[test]
fn a_program_that_is_gone_is_told_of() {
    let yard = Yard::honest("");
    let copy = yard.place.path("qctl");
    fs::copy(env!("CARGO_BIN_EXE_qctl"), &copy).unwrap();
    let mut command = yard.place.command_of(copy.to_str().unwrap());
    command.args(["watchdog", "run"]);
    let mut run = yard.place.launch(command);
    yard.wait_state("w", 1, "running");
    fs::remove_file(&copy).unwrap();
    kill(yard.keeper("w", 1), Signal::KILL);
    run.wait_stderr("the keeper of w.1 cannot be started");
    run.signal(Signal::TERM);
    run.wait();
}
