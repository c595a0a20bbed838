//! `qctl managedriver`.

use crate::support::{Place, Test};

#[test]
fn capabilities_are_listed() {
    let report = Place::new().json(["managedriver", "list"]);
    assert_eq!(report["sqlite"]["capabilities"]["peek"], true);
    let text = Test::new()
        .args(["managedriver", "list", "sqlite"])
        .any_stdout()
        .check()
        .stdout;
    assert!(
        text.starts_with("CAPABILITY") && text.contains("crash return"),
        "{text}"
    );
    Test::new()
        .args(["managedriver", "list", "kafka"])
        .code(66)
        .stderr_contains("no driver is called `kafka`")
        .check();
}

#[test]
fn connections_are_tried() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db', gone: 'sqlite:///nonexistent/deeper/queue.db' }\ndefault: here\n",
    );
    let rows = place.json(["managedriver", "check", "here"]);
    assert_eq!(rows[0]["ok"], true);
    assert!(rows[0]["round_trip_seconds"].as_f64().unwrap() > 0.0);
    place
        .run(["managedriver", "check"])
        .code(69)
        .stdout_contains("failed")
        .stderr_contains("gone")
        .check();
    Test::new()
        .args(["managedriver", "list", "sqllite"])
        .code(66)
        .stderr_contains("did you mean `sqlite`?")
        .check();
    place
        .run(["managedriver", "check", "nowhere"])
        .code(66)
        .stderr_contains("here")
        .check();
}
