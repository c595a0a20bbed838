//! `qctl store`.

use crate::support::Place;

#[test]
fn a_store_is_checked_copied_and_compacted() {
    let place =
        Place::with_config("connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n");
    place
        .run(["queuemessage", "-m", "10", "demo", "x"])
        .any_stdout()
        .check();
    place.run(["store", "check"]).any_stdout().check();
    place.run(["store", "backup", "copy.db"]).any_stdout().check();
    place
        .run(["store", "backup", "copy.db"])
        .code(65)
        .stderr_contains("copy.db")
        .check();
    place.run(["store", "compact"]).any_stdout().check();
    place.write(
        "qctl.yml",
        "connections: { here: 'sqlite://./copy.db' }\nproducers: { demo: { queue: demo } }\n",
    );
    assert_eq!(place.json(["managequeue", "info", "demo"])["ready"], 10);
}

#[test]
fn a_damaged_store_is_told_and_left_alone() {
    let place =
        Place::with_config("connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n");
    let rubbish = vec![b'x'; 8192];
    place.write("queue.db", &rubbish);
    place
        .run(["store", "check"])
        .code(76)
        .stderr_contains("queue.db")
        .check();
    place
        .run(["queuemessage", "demo", "x"])
        .code(76)
        .stderr_contains("queue.db")
        .check();
    assert_eq!(std::fs::read(place.path("queue.db")).unwrap(), rubbish);
}
