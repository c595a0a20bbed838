//! `qctl init`.

use crate::support::Place;

#[test]
fn it_writes_a_configuration_that_loads() {
    let place = Place::new();
    place
        .run(["init", "--yes"])
        .stdout("wrote qctl.yml\n")
        .stderr("next: `qctl config check`, then `qctl queuecommand demo echoback hello`\n")
        .check();
    place
        .run(["config", "check"])
        .stdout_contains("qctl.yml is right")
        .check();
    place
        .run(["queuecommand", "demo", "echoback", "hello"])
        .stdout_contains("Command queued for execution\n")
        .check();
}

#[test]
fn it_never_overwrites_unasked() {
    let place = Place::with_config("producers: {}\n");
    place
        .run(["init", "--yes"])
        .code(65)
        .stderr_contains("qctl.yml is there already")
        .check();
    assert_eq!(place.read("qctl.yml"), "producers: {}\n");
    place
        .run(["init", "--yes", "--force", "-q"])
        .stdout("wrote qctl.yml\n")
        .check();
    assert_ne!(place.read("qctl.yml"), "producers: {}\n");
}

#[test]
fn off_a_terminal_it_wants_yes() {
    let place = Place::new();
    place.run(["init"]).code(2).stderr_contains("add --yes").check();
    assert!(!place.path("qctl.yml").exists());
    place.run(["init", "--dry-run"]).any_stdout().check();
    assert!(!place.path("qctl.yml").exists());
    place
        .run(["init", "--yes", "/nonexistent/qctl.yml"])
        .code(65)
        .stderr_contains("/nonexistent/qctl.yml")
        .check();
}

#[test]
fn the_hint_names_the_file_that_was_written() {
    let place = Place::new();
    place
        .run(["init", "--yes", "my jobs.yml"])
        .stdout("wrote my jobs.yml\n")
        .stderr(
            "next: `qctl --config 'my jobs.yml' config check`, then `qctl --config 'my jobs.yml' queuecommand demo echoback \
             hello`\n",
        )
        .check();
    place
        .run(["--config", "my jobs.yml", "config", "check"])
        .stdout_contains("my jobs.yml is right")
        .check();
    // One that is found without being named.
    place
        .run(["init", "--yes", "other.yml"])
        .env("QCTL_CONFIG", "other.yml")
        .any_stdout()
        .stderr_contains("next: `qctl config check`")
        .check();
}

#[test]
fn a_dash_is_standard_output() {
    let place = Place::new();
    let text = place.run(["init", "-"]).stdout_contains("connections:").check().stdout;
    assert!(!place.path("-").exists());
    place.write("qctl.yml", text);
    place.run(["config", "check"]).any_stdout().check();
}

#[test]
fn a_target_that_takes_nothing_is_told_with_its_exit_code() {
    let place = Place::with_config("producers: {}\n");
    place
        .run(["init", "--yes", "--force", "/dev/full"])
        .code(75)
        .stderr_contains("/dev/full cannot be written; make room, then try again: ")
        .check();
    place
        .run(["init", "--yes", "/sys/qctl.yml"])
        .code(77)
        .stderr_contains("/sys/qctl.yml cannot be written; name a file that this user may write: ")
        .check();
    // A link is kept, what it points to is exchanged, and no half-written file stays behind.
    std::os::unix::fs::symlink("qctl.yml", place.path("link.yml")).unwrap();
    place
        .run(["init", "--yes", "--force", "-q", "link.yml"])
        .any_stdout()
        .check();
    assert!(place.path("link.yml").is_symlink() && place.read("qctl.yml").contains("demo"));
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 2);
}
