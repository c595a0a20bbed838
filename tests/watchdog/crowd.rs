//! Many workers, and many who look after them at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{Yard, kill};
use crate::support::wait_for;

#[test]
fn a_hundred_workers_are_started_looked_after_and_stopped() {
    let yard = Yard::honest(", instances: 100");
    let told = yard.dog(&["start"], 0).stdout;
    assert_eq!(told.lines().count(), 100);
    wait_for("a hundred starts", || {
        (1..=100).all(|instance| yard.starts(instance) == 1)
    });
    yard.place.run(["watchdog", "check"]).check();
    let all = yard.status();
    assert_eq!(all.iter().filter(|status| status["pid"].is_u64()).count(), 100);
    // Half of them, and some keepers.
    for status in all.iter().step_by(2) {
        kill(status["pid"].as_u64().unwrap() as u32, Signal::KILL);
    }
    for status in all.iter().step_by(5) {
        kill(status["keeper_pid"].as_u64().unwrap() as u32, Signal::KILL);
    }
    wait_for("a hundred again", || {
        yard.look_after();
        let all = yard.status();
        all.iter()
            .filter(|status| status["pid"].is_u64() && status["keeper_pid"].is_u64())
            .count()
            == 100
    });
    yard.finish();
}

/// The time of the test below; the full minute with `QCTL_TEST_CROWD=60`.
fn time() -> Duration {
    let seconds = std::env::var("QCTL_TEST_CROWD").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Eight that check every 100 ms while workers and keepers are killed: never two of one instance, and never none for longer
/// than the backoff allows.
#[test]
fn checks_from_eight_processes_at_once_never_make_two_of_one_and_never_leave_none() {
    let yard = Yard::new("  w: { run: [./honest], instances: 4, backoff: { min: 100ms, max: 300ms } }\n");
    let until = Instant::now() + time();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let program = yard.place.command();
            let (name, folder) = (program.get_program().to_owned(), yard.place.path(""));
            scope.spawn(move || {
                while Instant::now() < until {
                    let mut command = std::process::Command::new(&name);
                    command.current_dir(&folder).env("QCTL_CONFIG", folder.join("qctl.yml"));
                    let output = command.args(["watchdog", "check"]).output().unwrap();
                    let code = output.status.code();
                    assert!(matches!(code, Some(0 | 75)), "{output:?}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
        let mut seen_alive = [Instant::now(); 4];
        let mut round = 0;
        let mut longest = Duration::ZERO;
        while Instant::now() < until {
            for (at, status) in yard.status().iter().enumerate() {
                if status["pid"].is_u64() {
                    seen_alive[at] = Instant::now();
                }
                longest = longest.max(seen_alive[at].elapsed());
            }
            round += 1;
            if round % 10 == 0 {
                let victim = yard.of("w", fastrand::u64(1..=4));
                let key = ["pid", "keeper_pid"][fastrand::usize(0..2)];
                if let Some(pid) = victim[key].as_u64() {
                    kill(pid as u32, Signal::KILL);
                }
            }
        }
        // The longest wait of the backoff, and what a busy machine takes to start one.
        assert!(longest < Duration::from_secs(4), "an instance was gone for {longest:?}");
    });
    // The last keeper may have been killed after the last check of the eight.
    yard.look_after();
    wait_for("all four", || {
        yard.status().iter().all(|status| status["state"] == "running")
    });
    yard.finish();
}
