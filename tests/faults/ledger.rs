//! Consumers and guardians killed at random, with a book of what ran.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::fleet::{Fleet, Target};
use crate::ground::{Ground, ground};

/// How often each id is in the book, where `read` finds the id of a line.
fn entries(ground: &Ground, book: &str, read: impl Fn(&str) -> Option<u32>) -> BTreeMap<u32, usize> {
    let mut entries = BTreeMap::new();
    for line in ground.read(book).lines() {
        let id = read(line).unwrap_or_else(|| panic!("{book} has an unexpected line: {line:?}"));
        *entries.entry(id).or_default() += 1;
    }
    entries
}

fn assert_all(entries: &BTreeMap<u32, usize>, count: u32) {
    let lost: Vec<u32> = (0..count).filter(|id| !entries.contains_key(id)).collect();
    assert!(lost.is_empty(), "{} of {count} are lost: {lost:?}", lost.len());
    assert_eq!(entries.len(), count as usize, "nothing but what was sent has run");
}

/// However often consumers are killed, every queued command runs, and it runs twice only if its consumer was killed with it
/// in hand.
#[test]
fn no_command_is_lost_when_consumers_are_killed() {
    const COUNT: u32 = 10_000;
    const CONCURRENCY: usize = 4;
    // What a consumer may hold of a quick handler: its slots, and twice sixteen for each, taken ahead.
    const WINDOW: usize = CONCURRENCY * 33;

    let ground = ground("command: {}", "");
    let lines = (0..COUNT).fold(String::new(), |mut lines, id| {
        writeln!(
            lines,
            r#"{{"command":"echoback","arguments":["id-{id}"],"options":{{"f":"ledger.txt"}}}}"#
        )
        .unwrap();
        lines
    });
    ground.send(&lines);
    let concurrency = CONCURRENCY.to_string();
    let args = ["consumer", "--concurrency", &concurrency, "demo"];
    let mut fleet = Fleet::start(&ground, "commands", 3, &args);
    fleet.kill_until_empty(&[Target::Consumer], 150..450, Duration::from_secs(80));
    let killed = fleet.consumers_killed;
    fleet.stop();

    let entries = entries(&ground, "ledger.txt", |line| {
        line.rsplit_once(" says: id-")?.1.parse().ok()
    });
    let duplicates = entries.values().map(|times| times - 1).sum::<usize>();
    eprintln!("commands: {COUNT} queued, {killed} consumers killed, {duplicates} ran twice");
    assert_all(&entries, COUNT);
    assert!(
        duplicates <= killed * WINDOW,
        "{duplicates} duplicates of {killed} kills"
    );
    assert_eq!(ground.figure("dead"), 0);
    ground.check_store();
}

/// Whatever is killed, consumer, guardian or both, no message is ever handled beside its own redelivered copy.
#[test]
fn no_message_runs_beside_its_own_copy() {
    // The lock is held by a grandchild in a session of its own too, as long as it lives.
    kill_and_look_for_overlaps("overlaps", "", "setsid");
}

/// Nor does one whose program throws away its environment, and with it the mark by which it is found: the record tells of its
/// group, and of the pipe that its grandchild in another session writes to.
#[test]
fn no_message_runs_beside_its_own_copy_that_lost_its_mark() {
    let clear = "if [ -n \"$QCTL_OWNER\" ]; then exec env -i PATH=\"$PATH\" ./run.sh; fi";
    kill_and_look_for_overlaps("unmarked overlaps", clear, "setsid");
}

fn kill_and_look_for_overlaps(name: &str, first: &str, before_sleep: &str) {
    const COUNT: u32 = 400;

    let ground = ground("exec: { run: ['./run.sh'] }", "concurrency: 3");
    ground.script(
        "run.sh",
        &format!(
            "{first}\nid=$(cat)\nexec 9>>\"locks/$id\"\n\
             if ! flock -n -E 99 9; then echo \"$id\" >> overlaps; exit 0; fi\n\
             echo \"$id\" >> begun\n{before_sleep} sleep 0.0$((id % 7 + 3))\necho \"$id\" >> done"
        ),
    );
    fs::create_dir(ground.path("locks")).unwrap();
    let lines = (0..COUNT).fold(String::new(), |lines, id| lines + &id.to_string() + "\n");
    ground.send(&lines);
    let args = ["consumer", "demo"];
    let mut fleet = Fleet::start(&ground, name, 3, &args);
    let targets = [
        Target::Consumer,
        Target::Consumer,
        Target::Guardian,
        Target::Both,
        Target::Both,
        Target::All,
    ];
    fleet.kill_until_empty(&targets, 100..300, Duration::from_mins(1));
    let (consumers, guardians) = (fleet.consumers_killed, fleet.guardians_killed);
    fleet.stop();

    let id = |line: &str| line.parse().ok();
    let (begun, done) = (entries(&ground, "begun", id), entries(&ground, "done", id));
    let twice = |entries: &BTreeMap<u32, usize>| entries.values().map(|times| times - 1).sum::<usize>();
    eprintln!(
        "{name}: {COUNT} sent, {consumers} consumers and {guardians} guardians killed, {} begun twice, {} done twice",
        twice(&begun),
        twice(&done)
    );
    assert_eq!(ground.read("overlaps"), "", "ran beside their own copies");
    assert_all(&done, COUNT);
    assert!(guardians > 0 && consumers > 0, "something of each kind was killed");
    assert_eq!(ground.figure("dead"), 0);
    ground.check_store();
}
