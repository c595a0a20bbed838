//! The watchdog killed at every moment of its beginning: between each of its system calls and the next.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use qctl::watchdog::{Backoff, Folder, InstanceId, Site, Spec, Wanted};

use crate::ground::{HONEST, Yard};

/// So many at once; each has a folder of its own.
const LANES: usize = 4;
/// The calls a keeper makes until its worker runs, or more.
const MOST_CALLS: usize = 400;

struct Lane {
    folder: tempfile::TempDir,
    wanted: Wanted,
}

impl Lane {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("qctl-gap-").tempdir().unwrap();
        let script = folder.path().join("honest");
        // The first one of a round dies, so that its end and the next start are among the moments too.
        let dies_once = "[ -e died ] || { echo > died; exit 1; }";
        fs::write(&script, format!("#!/bin/sh\n{dies_once}\n{HONEST}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let id = InstanceId {
            worker: "w".to_owned(),
            number: 1,
        };
        let spec = Spec {
            argv: vec![script.display().to_string()],
            cwd: folder.path().to_owned(),
            backoff: Backoff {
                min: Duration::from_millis(20),
                max: Duration::from_millis(40),
            },
            expected: vec![0],
            ..Spec::of_nothing(id)
        };
        Self {
            folder,
            wanted: Wanted {
                spec,
                digest: "1".to_owned(),
            },
        }
    }

    fn site(&self, program: PathBuf) -> Site {
        let account = qctl::process::Account::own(None).unwrap();
        Site::new(Folder::within(self.folder.path()), "/c".to_owned(), program, account).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The system calls of a keeper, from its beginning until its worker runs, each with how often it was made before.
    fn calls(&self) -> Vec<(String, usize)> {
        let trace = self.folder.path().join("trace");
        let program = self.wrapper(&format!("-o {}", trace.display()));
        let roster = std::slice::from_ref(&self.wanted);
        let site = self.site(program);
        site.check(roster, &[], false).unwrap();
        crate::support::wait_for("the worker", || !self.read("starts.1").is_empty());
        let text = self.read("trace");
        site.stop(roster, &[], qctl::watchdog::Asking::Now, &mut |_| {})
            .unwrap();
        fs::remove_dir_all(site.folder.path()).unwrap();
        let mut calls = counted(text.lines());
        calls.truncate(MOST_CALLS);
        calls
    }

    /// The keeper dies as it makes this call; then the workers are looked after until one runs. Says whether it has died.
    fn round(&self, (call, time): &(String, usize)) -> bool {
        let at = format!("{call} number {time}");
        let killer = self.wrapper(&format!(
            "-o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={time}"
        ));
        let roster = std::slice::from_ref(&self.wanted);
        let starts = self.read("starts.1").lines().count();
        let _ = fs::remove_file(self.folder.path().join("died"));
        let first = self.site(killer).check(roster, &[], false).unwrap();
        let site = self.site(PathBuf::from(env!("CARGO_BIN_EXE_qctl")));
        // It dies at once, or when it starts its worker for the second time.
        let has_died = || site.status(roster, &[])[0].keeper_pid.is_none();
        let reached = Instant::now() + Duration::from_millis(300);
        while !has_died() && self.read("starts.1").lines().count() == starts && Instant::now() < reached {
            std::thread::sleep(Duration::from_millis(2));
        }
        let died = has_died();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            site.check(roster, &[], false).unwrap();
            let status = site.status(roster, &[]);
            if self.read("starts.1").lines().count() > starts && status[0].is_running() && status[0].pid.is_some() {
                break;
            }
            assert!(Instant::now() < until, "{at}: {status:?}, first {first:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(self.read("overlaps"), "", "two of one instance after a death at {at}");
        // The script itself starts a program for a moment.
        crate::support::wait_for(&format!("one worker after a death at {at}"), || {
            self.workers().len() == 1
        });
        site.stop(roster, &[], qctl::watchdog::Asking::Now, &mut |_| {})
            .unwrap();
        assert_eq!(self.workers(), Vec::<u32>::new(), "after a stop, {at}");
        // The next round begins as the first one did.
        fs::remove_dir_all(site.folder.path()).unwrap();
        died
    }

    /// A program that runs qctl under `strace` with these options.
    fn wrapper(&self, options: &str) -> PathBuf {
        let path = self.folder.path().join(format!("wrapper-{}", fastrand::u32(..)));
        let script = format!(
            "#!/bin/sh\nexec strace {options} {} \"$@\"\n",
            env!("CARGO_BIN_EXE_qctl")
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The worker's processes.
    fn workers(&self) -> Vec<u32> {
        let mark = format!("QCTL_WORKER={}", self.folder.path().join("watchdog").display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_ours = String::from_utf8_lossy(&environment)
                .split('\0')
                .any(|one| one.starts_with(&mark));
            if let (true, Some(Ok(pid))) = (is_ours, entry.file_name().to_str().map(str::parse))
                && crate::support::is_running(pid)
            {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Lane {
    /// Whatever has become of the test.
    fn drop(&mut self) {
        let roster = std::slice::from_ref(&self.wanted);
        let site = self.site(PathBuf::from(env!("CARGO_BIN_EXE_qctl")));
        let _ = site.stop(roster, &[], qctl::watchdog::Asking::Now, &mut |_| {});
    }
}

/// The system calls in a trace, each with how often it was made before.
fn counted<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    lines
        .filter_map(|line| line.split_once('('))
        .filter(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(|(name, _)| {
            let count = counts.entry(name.to_owned()).or_default();
            *count += 1;
            (name.to_owned(), *count)
        })
        .collect()
}

/// The same of whoever looks after the workers: killed before, while and after it starts keepers.
#[test]
fn a_check_killed_between_any_two_calls_leaves_one_worker_of_each_instance_after_the_next_one() {
    let under_strace = |yard: &Yard, options: &[&str]| {
        let mut command = yard.place.command_of("strace");
        command
            .args(options)
            .args([env!("CARGO_BIN_EXE_qctl"), "watchdog", "check"]);
        // It dies as it is told, or it is too early or too late for that.
        command.output().unwrap();
    };
    let yard = || Yard::honest(", instances: 2");
    let first = yard();
    let trace = first.place.path("trace");
    under_strace(&first, &["-o", trace.to_str().unwrap()]);
    let text = first.place.read("trace");
    first.finish();
    let calls = counted(text.lines());
    // Before it looks into its folder it only reads.
    let begin = text.lines().position(|line| line.contains("watchdog\"")).unwrap();
    let begin = begin.min(calls.len());
    assert!(calls.len() - begin > 50, "{text}");
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let mine: Vec<_> = calls[begin..].iter().skip(lane).step_by(LANES).collect();
            scope.spawn(move || {
                let yard = yard();
                for (call, time) in mine {
                    let traced = format!("trace={call}");
                    let inject = format!("inject={call}:signal=KILL:when={time}");
                    let starts = (yard.starts(1), yard.starts(2));
                    under_strace(&yard, &["-o", "/dev/null", "-e", &traced, "-e", &inject]);
                    crate::support::wait_for(&format!("workers after a death at {call} number {time}"), || {
                        yard.look_after();
                        let all = yard.status();
                        let running = all.iter().filter(|status| status["pid"].is_u64()).count();
                        running == 2 && yard.starts(1) > starts.0 && yard.starts(2) > starts.1
                    });
                    assert_eq!(yard.processes().len(), 4, "after a death at {call} number {time}");
                    yard.finish();
                    fs::remove_dir_all(yard.place.path("state")).unwrap();
                }
            });
        }
    });
}

/// Between fork and record, between record and fork, before and after everything else: there is one worker afterwards, never
/// two and never none.
#[test]
fn a_keeper_killed_between_any_two_calls_leaves_one_worker_after_the_next_check() {
    let calls = Lane::new().calls();
    assert!(calls.len() > 100, "{calls:?}");
    let killed: usize = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let calls = &calls;
                scope.spawn(move || {
                    let place = Lane::new();
                    let mine = calls.iter().skip(lane).step_by(LANES);
                    mine.filter(|call| place.round(call)).count()
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    assert!(
        killed * 10 > calls.len() * 8,
        "only {killed} of {} gaps were hit",
        calls.len()
    );
}
