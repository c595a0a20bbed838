//! `qctl store`.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Place, wait_for};

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
    let mode = |name: &str| std::fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        mode("copy.db"),
        mode("queue.db"),
        "a copy is not for more eyes than the store"
    );
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
        .stdout_contains("queue.db is damaged")
        .stdout_contains("problem: file is not a database; if it never was a store, correct `url`")
        .check();
    place
        .run(["queuemessage", "demo", "x"])
        .code(76)
        .stderr_contains("queue.db")
        .check();
    assert_eq!(std::fs::read(place.path("queue.db")).unwrap(), rubbish);
}

/// The command that others send to on damage says what to do next, and a copy of damage is not left lying about.
#[test]
fn damage_is_a_finding_of_check_and_nothing_for_backup() {
    let place =
        Place::with_config("connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n");
    place
        .run(["queuemessage", "-m", "500", "--batch", "demo"])
        .stdin(vec![b'x'; 300])
        .any_stdout()
        .check();
    place.run(["store", "compact"]).any_stdout().check();
    let sound = std::fs::read(place.path("queue.db")).unwrap();
    let mut garbled = sound.clone();
    let middle = sound.len() / 4..sound.len() / 2;
    garbled[middle].fill(0xaa);
    let cut = &sound[..sound.len() / 2];
    let mut headless = sound.clone();
    headless[..100].fill(0xaa);
    for (how, content) in [("garbled", &garbled[..]), ("cut", cut), ("headless", &headless)] {
        place.write("queue.db", content);
        let told = place
            .run(["store", "check"])
            .code(76)
            .stdout_contains("queue.db is damaged; stop its users, then put a backup in its place (`qctl store backup`")
            .stdout_contains("problem: ")
            .check()
            .stdout;
        assert!(!told.contains("store check"), "{how}: {told}");
        let document = place
            .run(["--output", "json", "store", "check"])
            .code(76)
            .any_stdout()
            .check()
            .stdout;
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert!(
            !document["problems"].as_array().unwrap().is_empty(),
            "{how}: {document}"
        );
        place
            .run(["store", "backup", "copy.db"])
            .code(76)
            .stderr_contains("queue.db is damaged")
            .stderr_contains("`qctl store check`")
            .check();
        let left: Vec<_> = std::fs::read_dir(place.path("."))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("copy.db"))
            .collect();
        assert!(left.is_empty(), "{how}: {left:?}");
    }
}

#[test]
fn a_backup_needs_a_file_s_name() {
    let place =
        Place::with_config("connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n");
    place.run(["queuemessage", "demo", "x"]).any_stdout().check();
    place
        .run(["store", "backup", "-"])
        .code(2)
        .stderr_contains("name a file")
        .check();
    assert!(!place.path("-").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
    Place::with_config("connections: { here: 'sqlite://./none/deeper/queue.db' }\nproducers: { demo: {} }\n")
        .run(["queuemessage", "demo", "x"])
        .code(69)
        .stderr_contains("none/deeper cannot be made; create it, or correct `url`")
        .check();
}

/// A consumer whose store is taken away and replaced must not go on waiting on the old file in silence.
#[test]
fn a_consumer_notices_that_its_store_was_replaced() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: {} }\n\
         consumers: { demo: { handler: { exec: { run: [tee, -a, out] } } } }\n",
    );
    let consumer = place.start(["consumer", "demo"]);
    place.run(["queuemessage", "demo", "old"]).any_stdout().check();
    wait_for("the first message", || place.read("out") == "old");
    for entry in std::fs::read_dir(place.path(".")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("queue.db") {
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    consumer.wait_stderr("removed or replaced");
    place.run(["queuemessage", "demo", "new"]).any_stdout().check();
    wait_for("the message in the new store", || place.read("out") == "oldnew");
}

/// A store that others may write has side files that they may write, but for the owners': what stands there decides which
/// processes are ended.
#[test]
fn side_files_have_the_stores_mode_and_owners_keep_theirs_to_themselves() {
    let place = Place::with_config(
        "connections: { here: { url: 'sqlite://./queue.db', mode: '0660' } }\nproducers: { demo: { queue: demo } }\n\
         consumers: { demo: { queue: demo, handler: { exec: { run: [cat] } } } }\n",
    );
    let consumer = place.start(["consumer", "demo"]);
    consumer.wait_stderr("consuming");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (name, expected) in [
        ("queue.db", 0o660),
        ("queue.db.owners", 0o770),
        ("queue.db.locks/work", 0o660),
    ] {
        assert_eq!(mode(&place.path(name)), expected, "{name}");
    }
    let owners: Vec<_> = std::fs::read_dir(place.path("queue.db.owners"))
        .unwrap()
        .map(|entry| mode(&entry.unwrap().path()))
        .collect();
    assert_eq!(owners, [0o640]);
}
