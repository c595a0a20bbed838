//! A store that several processes begin at the same moment.

use std::process::{Child, Stdio};

use crate::ground::{Ground, ground};
use crate::support::Place;

/// Starts one process for each list of arguments, and returns when all have ended well.
fn all_at_once(ground: &Ground, runs: &[&[&str]]) {
    let children: Vec<Child> = runs
        .iter()
        .map(|args| {
            ground
                .command()
                .args(*args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (child, args) in children.into_iter().zip(runs) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}: {said}", output.status);
    }
}

/// Two or ten processes that make the same store at the same moment all succeed, and each one's message is in it.
#[test]
fn a_store_may_be_begun_by_many_at_once() {
    for _ in 0..2 {
        for count in [2, 10] {
            let ground = ground("noop: {}", "");
            all_at_once(&ground, &vec![&["queuemessage", "demo", "x"][..]; count]);
            assert_eq!(ground.figure("ready"), count as u64);
            ground.check_store();
        }
    }
}

/// So it is without a configuration, where the folders and the queue come into being too, and with a consumer among them.
#[test]
fn a_store_in_no_folder_yet_may_be_begun_by_many_at_once() {
    for _ in 0..2 {
        let ground = Ground::new(Place::new());
        let message = &["queuecommand", "-q", "work", "echoback", "x"][..];
        let consumer = &["consumer", "--until-empty", "work"][..];
        all_at_once(
            &ground,
            &[
                message, consumer, message, message, consumer, message, message, message, message, message,
            ],
        );
        ground.run(["consumer", "--until-empty", "work"]).any_stderr().check();
        let info = ground.json(["managequeue", "info", "work"]);
        assert!(
            ["ready", "delayed", "held", "dead"]
                .iter()
                .all(|state| info[*state] == 0),
            "{info}"
        );
    }
}
