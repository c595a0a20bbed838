//! `qctl init`.

use crate::support::Place;

#[test]
fn it_writes_a_configuration_that_loads() {
    let place = Place::new();
    place
        .run(["init", "--yes"])
        .stdout("wrote qctl.yml\n")
        .stderr_contains("next: `qctl config check`")
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
