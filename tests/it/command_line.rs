//! What all commands have in common.

use std::process::Stdio;

use crate::support::{Place, Test};

#[test]
fn the_version_is_one_line_and_needs_no_home() {
    let version = concat!("qctl ", env!("CARGO_PKG_VERSION"), "\n");
    Test::new()
        .args(["--version"])
        .without_env("HOME")
        .stdout(version)
        .check();
    Test::new()
        .args(["-V"])
        .config("this: [is not right")
        .stdout(version)
        .check();
}

#[test]
fn help_lists_the_commands_and_the_exit_codes() {
    let text = Test::new().args(["--help"]).any_stdout().check().stdout;
    for part in [
        "queuecommand",
        "managedriver",
        "Exit codes:",
        "78  the configuration is wrong",
        "124 on time-out",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("__guardian"));
    for command in [
        "queuecommand",
        "queuemessage",
        "consumer",
        "managequeue",
        "managedriver",
        "config",
        "store",
    ] {
        Test::new()
            .args([command, "--help"])
            .stdout_contains("Examples:")
            .check();
    }
}

#[test]
fn no_command_shows_the_help_as_a_mistake() {
    Test::new().code(2).stderr_contains("Usage: qctl").check();
}

#[test]
fn a_usage_error_is_one_line_with_its_usage() {
    Test::new()
        .args(["managequeue", "purge"])
        .code(2)
        .stderr(
            "qctl: the following required arguments were not provided: <NAME>\nusage: qctl managequeue purge <NAME>\n",
        )
        .check();
    Test::new()
        .args(["queuecomand", "x", "y"])
        .code(2)
        .stderr_contains("similar subcommands exist: 'queuemessage', 'queuecommand'")
        .check();
}

#[test]
fn habits_from_elsewhere_get_a_hint() {
    for (line, hint) in [
        ("managequeue -o json list", "--output json"),
        ("queuemessage -c file.yml demo body", "--config file.yml"),
        ("consumer demo -w 10", "--concurrency 10"),
        ("consumer -w 10", "--concurrency 10"),
        ("consumer -w10 demo", "--concurrency 10"),
        ("managequeue purge -f demo", "never means force"),
        ("consumer demo -concurrency 5", "two dashes"),
        ("managequeue purge -n demo", "--dry-run"),
    ] {
        Test::new()
            .args(line.split(' '))
            .code(2)
            .stderr_contains("hint: ")
            .stderr_contains(hint)
            .check();
    }
}

#[test]
fn bad_values_are_refused_before_anything_happens() {
    for (line, part) in [
        ("consumer -m -1 demo", "-1"),
        ("consumer -m x demo", "'x'"),
        ("consumer -l 5apples demo", "megabytes"),
        ("consumer -t soon demo", "is not a duration"),
        ("consumer --concurrency 0 demo", "0"),
        ("consumer --concurrency 5000 demo", "1..=1000"),
        ("consumer --prefetch 70000 demo", "1..=65535"),
        ("consumer --limit-exit-code 300 demo", "300"),
        ("queuemessage -m 0 demo body", "0"),
        ("queuemessage --priority 256 demo body", "256"),
        ("queuemessage --header novalue demo body", "NAME=VALUE"),
        ("queuecommand -t never demo echoback x", "is not a duration"),
        ("managequeue check demo", "--max-ready"),
        ("managequeue check --max-ready 5:1 demo", "WARNING:CRITICAL"),
        ("managequeue peek --state sleeping demo", "ready"),
        ("managequeue redrive --since whenever demo", "is not a time"),
        ("--connect-timeout -5 echoback x", "5"),
        ("--output yaml echoback x", "json"),
    ] {
        Test::new()
            .args(line.split(' '))
            .code(2)
            .stderr_contains("qctl: ")
            .stderr_contains(part)
            .check();
    }
}

/// Behind `--` such words would be no better: the option says what is wrong with its value, or that there is none of its name.
#[test]
fn what_begins_with_a_dash_gets_fitting_advice() {
    for (line, told) in [
        (
            "queuemessage -t -5 demo x",
            "'-5' is not a duration; write seconds such as 90",
        ),
        ("queuemessage --ttl -5m demo x", "'-5m' is not a duration"),
        ("queuemessage --delay -5 demo x", "'-5' is not a duration"),
        ("queuemessage --priority -1 demo x", "-1 is not in 0..=255"),
        ("queuemessage -m -1 demo x", "'-1' for '--repeat <N>'"),
        ("queuecommand -t -5 demo echoback", "'-5' is not a duration"),
        (
            "consumer -m -1 demo",
            "'-1' is not a count; write 1 or more, or 0 for no limit",
        ),
        ("consumer --failures -1 demo", "'-1' is not a count"),
        ("consumer -l -5 demo", "'-5' is not a size; write megabytes"),
        ("consumer -t -5m demo", "'-5m' is not a duration"),
        ("consumer --idle -1 demo", "'-1' is not a duration"),
        ("consumer --concurrency -3 demo", "-3 is not in 1..=1000"),
        ("--connect-timeout -5 echoback x", "'-5' is not a duration"),
        (
            "queuecommand -m 3 demo hey",
            "hint: qctl queuecommand has no option -m; `qctl queuecommand --help` lists those it has\n",
        ),
        (
            "managequeue info --nothing demo",
            "hint: qctl managequeue info has no option --nothing",
        ),
    ] {
        let error = Test::new()
            .args(line.split(' '))
            .code(2)
            .stderr_contains(told)
            .check()
            .stderr;
        assert!(!error.contains("-- -"), "{line}: {error}");
    }
    // Where text is wanted, it is right.
    for line in ["queuemessage demo -5", "echoback --text"] {
        Test::new()
            .args(line.split(' '))
            .code(2)
            .stderr_contains("use '-- -")
            .check();
    }
}

#[test]
fn old_names_of_commands_are_known() {
    Test::new()
        .args(["kaliop_queueing:echoback", "hello"])
        .stdout_contains(" says: hello\n")
        .check();
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command()
        .args(["man", "managequeue"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn colours_stay_away_from_pipes() {
    let text = Test::new().args(["--help"]).any_stdout().check().stdout;
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn talk_is_json_where_log_lines_are() {
    let line = Test::new()
        .args(["--log-format", "json", "man", "nothing"])
        .code(66)
        .any_stderr()
        .check()
        .stderr;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["fields"]["message"]
            .as_str()
            .unwrap()
            .starts_with("qctl: no manual page")
    );
}

#[test]
fn a_command_line_can_be_run_twice_in_one_process() {
    for _ in 0..2 {
        let code = qctl::main(["qctl", "-q", "config", "nonsense"].map(Into::into));
        assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::from(2)));
    }
}
