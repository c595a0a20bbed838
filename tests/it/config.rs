//! `qctl config`, and mistakes in the configuration as its users meet them.

use crate::support::{Place, Test};

const GOOD: &str = "
connections:
  here: { url: 'sqlite://./queue.db' }
  rabbit: { url: 'sqlite://./other.db' }
default: here
producers:
  mail: { queue: mail }
consumers:
  mail: { queue: mail, handler: { exec: { run: [cat] } } }
";

#[test]
fn without_a_file_the_defaults_are_in_force() {
    Test::new()
        .args(["config", "check"])
        .stdout_contains("no configuration file")
        .check();
    Test::new()
        .args(["config", "path"])
        .stdout_contains("none (built-in defaults)")
        .stdout_contains("sqlite://")
        .check();
}

#[test]
fn a_right_file_is_counted() {
    let place = Place::with_config(GOOD);
    place
        .run(["config", "check"])
        .stdout_contains("/qctl.yml is right: 2 connection(s), 1 producer(s), 1 consumer(s)\n")
        .check();
    let report = place.json(["config", "check"]);
    assert_eq!(report["ok"], true);
    assert_eq!(report["connections"], 2);
}

#[test]
fn the_configuration_named_is_the_one() {
    let place = Place::with_config("[");
    place.write("other.yml", GOOD);
    place
        .run(["config", "check", "--config", "other.yml"])
        .stdout_contains("other.yml is right")
        .check();
    place
        .run(["config", "check"])
        .env("QCTL_CONFIG", "other.yml")
        .stdout_contains("other.yml is right")
        .check();
    place
        .run(["--config", "none.yml", "config", "check"])
        .code(78)
        .stderr_contains("none.yml")
        .check();
}

#[test]
fn paths_in_force_are_shown() {
    let place = Place::with_config(GOOD);
    let report = place.json(["config", "path"]);
    assert!(report["config"].as_str().unwrap().ends_with("qctl.yml"));
    assert!(report["connections"]["here"].as_str().unwrap().contains("queue.db"));
    assert!(report["state"].is_string());
}

#[test]
fn the_schema_is_one_json_document() {
    let schema = Place::new().json(["config", "schema"]);
    assert!(schema["properties"]["consumers"].is_object(), "{schema}");
}

#[test]
fn the_configuration_in_force_is_shown_in_both_forms() {
    let place = Place::with_config(GOOD);
    place
        .run(["config", "show"])
        .stdout_contains("queue.db")
        .stdout_contains("consumers:")
        .check();
    assert!(place.json(["config", "show"])["consumers"]["mail"].is_object());
}

#[test]
fn mistakes_name_file_line_and_key() {
    for (yaml, parts) in [
        ("consumerz: {}\n", &["qctl.yml", "1", "consumerz", "consumers"][..]),
        ("producers: {}\nproducers: {}\n", &["qctl.yml", "2", "producers"]),
        (
            "consumers:\n  mail:\n    queue: mail\n    handler: { exec: { run: [cat], timeout: soon } }\n",
            &["qctl.yml", "4", "timeout", "soon"],
        ),
        (
            "connections:\n  here: 'sqlite://${NOWHERE_SET}/q.db'\n",
            &["qctl.yml", "2", "NOWHERE_SET"],
        ),
        ("producers: [\n", &["qctl.yml"]),
    ] {
        let place = Place::with_config(yaml);
        let error = place.run(["config", "check"]).code(78).any_stderr().check().stderr;
        assert_eq!(error.lines().count(), 1, "{error}");
        for part in parts {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }
}

#[test]
fn without_a_home_it_says_what_to_set() {
    let error = Test::new()
        .args(["queuemessage", "demo", "body"])
        .without_env("HOME")
        .without_env("XDG_STATE_HOME")
        .without_env("XDG_CONFIG_HOME")
        .code(78)
        .any_stderr()
        .check()
        .stderr;
    assert!(error.contains("HOME"), "{error}");
}
