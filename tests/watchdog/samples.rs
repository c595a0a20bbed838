//! The files in `config/` that have a watchdog run: they mean what they say.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ground::Yard;
use crate::support::wait_for;

fn sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

/// `systemd-analyze verify` has nothing to say of the units.
#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for (file, unit) in [
        ("qctl-watchdog.service", "qctl-watchdog.service"),
        ("qctl-consumer@.service", "qctl-consumer@mail.service"),
    ] {
        let text = sample(file);
        // The program must be there to be verified.
        assert!(text.contains("ExecStart=/usr/bin/qctl "), "{text}");
        let text = text.replace("/usr/bin/qctl", env!("CARGO_BIN_EXE_qctl"));
        fs::write(folder.path().join(file), text).unwrap();
        units.push(folder.path().join(unit));
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(units)
        .output()
        .expect("this test needs systemd-analyze: scripts/packages systemd");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// The crontab line, run as cron runs it: by `sh -c`, with cron's small environment, in the home folder.
#[test]
fn the_crontab_line_works_as_cron_runs_it() {
    let text = sample("qctl.cron");
    let line = text.lines().find(|line| line.starts_with("* * * * * ")).unwrap();
    let command = line.strip_prefix("* * * * * root ").unwrap();
    let yard = Yard::honest("");
    let command = command.replace(
        "qctl ",
        &format!(
            "{} --config {} ",
            env!("CARGO_BIN_EXE_qctl"),
            yard.place.path("qctl.yml").display()
        ),
    );
    let cron = || {
        let mut shell = Command::new("/bin/sh");
        shell
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/sh")
            .env("LOGNAME", "root");
        shell.args(["-c", &command]).current_dir("/").output().unwrap()
    };
    let first = cron();
    assert!(
        first.status.success() && String::from_utf8_lossy(&first.stdout).starts_with("w.1: started"),
        "{first:?}"
    );
    wait_for("the worker", || yard.starts(1) == 1);
    let second = cron();
    assert!(
        second.status.success() && second.stdout.is_empty() && second.stderr.is_empty(),
        "{second:?}"
    );
    yard.finish();
}
