//! One store under several names: links to its file and to its folder.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::ground::Ground;
use crate::support::{Place, wait_for};

/// A store with a link to its file and one to its folder, a connection for each; the store itself is not there yet.
fn linked() -> Ground {
    let ground = Ground::new(Place::with_config(
        "default: plain\n\
         connections:\n  plain: 'sqlite://./real/queue.db'\n  file: 'sqlite://./link.db'\n  folder: 'sqlite://./linked/queue.db'\n\
         producers: { demo: { queue: demo } }\n\
         consumers: { demo: { queue: demo, handler: { exec: { run: ['./run.sh'] } } } }\n",
    ));
    ground.script(
        "run.sh",
        "id=$(cat); echo \"+$id\" >> book; if test \"$id\" = hold; then until test -e go; do sleep 0.02; done; fi",
    );
    fs::create_dir(ground.path("real")).unwrap();
    symlink("real/queue.db", ground.path("link.db")).unwrap();
    symlink("real", ground.path("linked")).unwrap();
    ground
}

fn send(ground: &Ground, through: &str, body: &str) {
    ground
        .run(["queuemessage", "-i", through, "demo", body])
        .any_stdout()
        .check();
}

/// What is in the working folder besides the files of the test itself.
fn stray(ground: &Ground) -> Vec<String> {
    fs::read_dir(ground.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("link.db-") || name.starts_with("link.db.") || name.starts_with("queue.db"))
        .collect()
}

/// Whichever name a process has for the store, it hears of messages that come under the others, sees who holds what, gives
/// back what the dead under another name held, and respects their locks.
#[test]
fn a_link_leads_to_the_same_store() {
    let names = ["plain", "file", "folder"];
    for (one, other) in [("plain", "file"), ("file", "folder"), ("folder", "plain")] {
        let ground = linked();
        send(&ground, "plain", "first");
        let doomed = ground.start(["consumer", "-i", one, "demo"]);
        doomed.wait_stderr("consuming");
        wait_for("the first one", || ground.read("book") == "+first\n");
        // Bells: the consumer sleeps, and is woken by what comes under another name.
        send(&ground, other, "hold");
        wait_for("a message sent under another name", || {
            ground.read("book") == "+first\n+hold\n"
        });
        // Owners and locks: whoever holds it is known under every name.
        for name in names {
            let info = ground.json(["managequeue", "-i", name, "info", "demo"]);
            assert_eq!(
                (&info["held"], &info["consumers"]),
                (&1.into(), &1.into()),
                "{name}: {info}"
            );
            let pid = format!("pid {}", doomed.pid());
            ground.refuses(&["store", "-i", name, "compact"], 75, ["real/queue.db", &pid]);
        }
        // Deaths: the survivor under another name takes over.
        let mut survivor = ground.start(["consumer", "-i", other, "demo"]);
        survivor.wait_stderr("consuming");
        doomed.signal(Signal::KILL);
        wait_for("the message to be begun again", || {
            ground.read("book") == "+first\n+hold\n+hold\n"
        });
        ground.write("go", "");
        ground.wait_empty();
        survivor.signal(Signal::TERM);
        assert_eq!(survivor.wait(), Some(0), "{}", survivor.stderr());
        assert_eq!(stray(&ground), [""; 0], "all side files are beside the real one");
    }
}

/// A link to a store that is not there yet makes it where the link points.
#[test]
fn a_link_to_a_new_store_makes_it_there() {
    let ground = linked();
    send(&ground, "file", "a");
    send(&ground, "folder", "b");
    assert_eq!(ground.figure("ready"), 2);
    assert!(ground.path("real/queue.db").is_file());
    assert!(ground.path("link.db").is_symlink());
    assert_eq!(stray(&ground), [""; 0], "all side files are beside the real one");
}
