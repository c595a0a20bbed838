//! Configurations that change under running workers.

use std::fs;
use std::os::unix::fs::symlink;

use crate::ground::{STORE, Yard};
use crate::support::{is_running, wait_for};

#[test]
fn a_changed_worker_is_started_anew_and_the_others_are_left_alone() {
    let yard = Yard::new("  w: { run: [./honest] }\n  x: { run: [sleep, '1000'] }\n");
    yard.dog(&["start"], 0);
    let (w, x) = (yard.pid("w", 1), yard.pid("x", 1));
    yard.configure(
        "  w: { run: [./honest], env: { A: b } }\n  x: { run: [sleep, '1000'] }\n  y: { run: [sleep, '1001'] }\n",
    );
    assert_eq!(yard.of("w", 1)["outdated"], true);
    let told = yard.dog(&["check"], 0).stdout;
    assert!(
        told.starts_with("w.1: is being restarted, in its turn: its configuration has changed\ny.1: started"),
        "{told}"
    );
    let new = yard.wait_new_pid("w", 1, w);
    wait_for("its end", || !is_running(w));
    assert_eq!(yard.pid("x", 1), x);
    let environment = fs::read(format!("/proc/{new}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("\0A=b\0"));
    yard.place.run(["watchdog", "check"]).check();
    yard.finish();
}

#[test]
fn a_change_of_what_a_consumer_reads_starts_it_anew() {
    let config = |timeout: &str, other: &str| {
        format!(
            "{STORE}consumers:\n  mail: {{ handler: {{ exec: {{ run: [cat], timeout: {timeout} }} }} }}\n{other}workers:\n  mail: {{ consumer: \
             mail, stop_timeout: 20s }}\n"
        )
    };
    let yard = Yard::with(&config("60s", ""));
    yard.dog(&["start"], 0);
    let first = yard.pid("mail", 1);
    // Another consumer's changes are not its own.
    yard.place
        .write("qctl.yml", config("60s", "  other: { handler: noop }\n"));
    yard.place.run(["watchdog", "check"]).check();
    assert_eq!(yard.pid("mail", 1), first);
    yard.place
        .write("qctl.yml", config("61s", "  other: { handler: noop }\n"));
    yard.dog(&["check"], 0);
    yard.wait_new_pid("mail", 1, first);
    yard.finish();
}

#[test]
fn fewer_instances_and_removed_workers_are_stopped() {
    let yard = Yard::new("  w: { run: [./honest], instances: 3 }\n  x: { run: [sleep, '1000'] }\n");
    yard.dog(&["start"], 0);
    let (one, three, x) = (yard.pid("w", 1), yard.pid("w", 3), yard.pid("x", 1));
    yard.configure("  w: { run: [./honest], instances: 2 }\n");
    let told = yard.dog(&["check"], 0).stdout;
    assert_eq!(
        told,
        "w.3: is being stopped: it is configured no more\nx.1: is being stopped: it is configured no more\n"
    );
    wait_for("their ends", || !is_running(three) && !is_running(x));
    assert_eq!(yard.pid("w", 1), one);
    wait_for("their files to go", || {
        yard.look_after();
        !yard.folder().join("x.1.state").exists() && !yard.folder().join("w.3.state").exists()
    });
    yard.finish();
}

#[test]
fn a_removed_worker_can_still_be_stopped_by_name() {
    let yard = Yard::new("  w: { run: [./honest] }\n  x: { run: [sleep, '1000'] }\n");
    yard.dog(&["start"], 0);
    let (w, x) = (yard.pid("w", 1), yard.pid("x", 1));
    yard.configure("  w: { run: [./honest] }\n");
    assert_eq!(yard.dog(&["stop", "x"], 0).stdout, "x.1: stopped\n");
    assert!(!is_running(x) && is_running(w));
    yard.finish();
}

#[test]
fn a_wrong_configuration_touches_nothing() {
    let yard = Yard::honest(", instances: 2");
    yard.dog(&["start"], 0);
    let pids = (yard.pid("w", 1), yard.pid("w", 2));
    for wrong in [
        "workers: [",
        "workers: { w: { run: [./honest], instances: many } }",
        "wrokers: {}",
    ] {
        yard.place.write("qctl.yml", format!("{STORE}{wrong}\n"));
        for verb in ["check", "start", "restart", "stop"] {
            yard.dog(&[verb], 78);
        }
        assert!(is_running(pids.0) && is_running(pids.1));
    }
    yard.configure("  w: { run: [./honest], backoff: { min: 100ms, max: 1s }, instances: 2 }\n");
    yard.place.run(["watchdog", "check"]).check();
    assert_eq!(pids, (yard.pid("w", 1), yard.pid("w", 2)));
    yard.finish();
}

#[test]
fn a_deploys_link_starts_workers_anew_one_after_the_other() {
    let yard = Yard::honest(", instances: 2, restart_on: [current]");
    for release in ["one", "two"] {
        fs::create_dir(yard.place.path(release)).unwrap();
    }
    let link = |release: &str| {
        symlink(yard.place.path(release), yard.place.path("next")).unwrap();
        fs::rename(yard.place.path("next"), yard.place.path("current")).unwrap();
    };
    link("one");
    yard.dog(&["start"], 0);
    let old = [yard.pid("w", 1), yard.pid("w", 2)];
    link("two");
    let mut fewest = 2;
    wait_for("both to be new", || {
        let all = yard.status();
        let pids: Vec<u32> = all
            .iter()
            .filter_map(|status| status["pid"].as_u64())
            .map(|pid| pid as u32)
            .collect();
        fewest = fewest.min(pids.len());
        pids.len() == 2 && pids.iter().all(|pid| !old.contains(pid))
    });
    assert!(fewest >= 1, "none ran for a while");
    let reason = yard.of("w", 1)["last_exit"]["reason"].clone();
    assert!(reason.as_str().unwrap().ends_with("/current has changed"), "{reason}");
    assert_eq!(yard.of("w", 1)["failures"], 0);
    yard.finish();
}

/// The same file by whatever name, from whatever folder.
#[test]
fn the_state_is_the_same_from_wherever_it_is_looked_after() {
    let yard = Yard::honest("");
    yard.dog(&["start"], 0);
    let pid = yard.pid("w", 1);
    let mut cron = std::process::Command::new(env!("CARGO_BIN_EXE_qctl"));
    cron.env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .current_dir("/")
        .arg("--config")
        .arg(yard.place.path("qctl.yml"))
        .args(["watchdog", "check"]);
    let output = cron.output().unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!((yard.pid("w", 1), yard.starts(1)), (pid, 1));
    yard.finish();
}

/// A worker whose version says whether it works: what begins with `c` does not.
fn versions(yard: &Yard, version: &str) {
    yard.configure(&format!(
        "  w: {{ run: [./versioned, {version}], instances: 4, backoff: {{ min: 100ms, max: 300ms }} }}\n"
    ));
}

fn versioned() -> Yard {
    let yard = Yard::new("  w: { run: [sleep, '1'] }\n");
    yard.place
        .script("versioned", "case $1 in c*) exit 3;; esac\nexec sleep 1000");
    versions(&yard, "v1");
    yard.dog(&["start"], 0);
    for instance in 1..=4 {
        yard.wait_state("w", instance, "running");
    }
    yard
}

/// The workers that run, and with which version.
fn running(yard: &Yard) -> Vec<(u64, u64)> {
    let all = yard.status();
    let of = |status: &serde_json::Value| Some((status["number"].as_u64()?, status["pid"].as_u64()?));
    all.iter()
        .filter(|status| status["state"] == "running")
        .filter_map(of)
        .collect()
}

fn check_for(yard: &Yard, time: std::time::Duration, mut each: impl FnMut()) {
    let begun = std::time::Instant::now();
    wait_for("a while", || {
        yard.look_after();
        each();
        begun.elapsed() >= time
    });
}

/// Whatever is deployed, asked for or killed: a version that does not come up takes one instance and no more.
#[test]
fn broken_deploys_take_one_instance_and_no_more() {
    let yard = versioned();
    let old: Vec<_> = running(&yard).into_iter().skip(1).collect();
    let stands = || {
        let now: Vec<_> = running(&yard).into_iter().filter(|one| one.0 > 1).collect();
        assert_eq!(now, old);
    };
    let second = std::time::Duration::from_secs(1);
    versions(&yard, "c2");
    check_for(&yard, second, stands);
    versions(&yard, "c3");
    check_for(&yard, second, stands);
    if let Some(keeper) = yard.of("w", 1)["keeper_pid"].as_u64() {
        crate::ground::kill(keeper as u32, rustix::process::Signal::KILL);
    }
    check_for(&yard, second, stands);
    let told = yard.dog(&["restart"], 75).stdout;
    assert!(told.contains("its other instances are left as they were"), "{told}");
    check_for(&yard, second, stands);
    // Mended, it goes through, while the successors of the broken one still wait.
    versions(&yard, "v4");
    wait_for("all four to be new", || {
        yard.look_after();
        let now = running(&yard);
        assert!(now.len() >= 2, "{now:?}");
        now.len() == 4 && old.iter().all(|one| !now.contains(one))
    });
    yard.place.run(["watchdog", "check"]).check();
    yard.finish();
}

#[test]
fn three_deploys_at_once_end_with_the_last_one() {
    let yard = versioned();
    for version in ["v2", "v3", "v4"] {
        versions(&yard, version);
        yard.look_after();
    }
    wait_for("all four with the last one", || {
        yard.look_after();
        let all = yard.status();
        running(&yard).len() == 4 && all.iter().all(|status| status["outdated"] == false)
    });
    assert_eq!(yard.dog(&["check"], 0).stdout, "");
    yard.finish();
}
