//! Stores that released versions have written, see `tests/fixtures/README.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::ground::Ground;
use crate::support::Place;

/// Opens a store of an older release and takes all out that was put in.
fn takes_everything_out(fixture: &Path) {
    let folder = fixture.parent().unwrap();
    let ground = Ground::new(Place::with_config(
        &fs::read_to_string(folder.join("qctl.yml")).unwrap(),
    ));
    fs::copy(fixture, ground.path("queue.db")).unwrap();
    ground.script(
        "handle",
        "body=$(cat); echo \"${body%LLLL*} ${QCTL_PRIORITY:--} $QCTL_DELIVERIES\" >> \"out-$QCTL_QUEUE\"",
    );

    ground.check_store();
    let info = ground.json(["managequeue", "info", "work"]);
    // What the dead consumer held has come back by now, or does when the next consumer starts.
    assert_eq!(
        info["ready"].as_u64().unwrap() + info["held"].as_u64().unwrap(),
        9,
        "{info}"
    );
    assert_eq!((&info["delayed"], &info["dead"]), (&2.into(), &2.into()), "{info}");
    let urgent = ground.json(["managequeue", "peek", "--id", "known", "--body", "work"]);
    assert_eq!(urgent[0]["headers"]["colour"], "blue");
    assert_eq!(urgent[0]["body"], "urgent");

    let far = ground.json(["managequeue", "peek", "--state", "delayed", "--body", "work"]);
    let far = far
        .as_array()
        .unwrap()
        .iter()
        .find(|message| message["body"] == "for a hundred years")
        .unwrap();
    let id = far["id"].as_str().unwrap();
    ground
        .run(["managequeue", "release", "--id", id, "work"])
        .any_stdout()
        .any_stderr()
        .check();
    for consumer in ["work", "audit"] {
        ground.run(["consumer", "--until-empty", consumer]).any_stderr().check();
        let info = ground.json(["managequeue", "info", consumer]);
        assert!(
            ["ready", "delayed", "held"].iter().all(|state| info[*state] == 0),
            "{info}"
        );
    }
    let out = ground.read("out-work");
    assert!(out.starts_with("urgent 7 1\n"), "priority comes first: {out}");
    let long = "L".repeat(4996) + " - 1";
    let found: BTreeSet<&str> = out.lines().collect();
    let expected = BTreeSet::from([
        "urgent 7 1",
        "held - 2",
        "fanned out - 1",
        "ready 1 - 1",
        "ready 2 - 1",
        "ready 3 - 1",
        "ready 4 - 1",
        "ready 5 - 1",
        &long,
        "delayed - 1",
        "for a hundred years - 1",
    ]);
    assert_eq!(found, expected);
    assert_eq!(out.lines().count(), expected.len(), "each once");
    assert_eq!(ground.read("out-audit"), "fanned out - 1\n");

    ground
        .run(["managequeue", "redrive", "-y", "work"])
        .any_stdout()
        .any_stderr()
        .check();
    ground.run(["consumer", "--until-empty", "work"]).any_stderr().check();
    let out = ground.read("out-work");
    let again: BTreeSet<&str> = out
        .lines()
        .skip(expected.len())
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        again,
        BTreeSet::from(["expired", "refused"]),
        "the dead letters can still be taken up again"
    );
    // The bindings are those of the store, not only of the configuration.
    ground
        .run(["queuemessage", "-r", "order.late", "events", "x"])
        .any_stdout()
        .check();
    for queue in ["work", "audit"] {
        assert_eq!(ground.json(["managequeue", "info", queue])["ready"], 1, "{queue}");
    }
    ground.check_store();
}

/// A store of every released schema is opened by today's program with all that is in it.
#[test]
fn stores_of_every_schema_are_opened() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "db") {
            takes_everything_out(&path);
            seen += 1;
        }
    }
    assert!(seen > 0);
}
