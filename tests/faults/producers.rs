//! Producers killed while they send.

use std::fmt::Write as _;

use rustix::process::Signal;

use crate::ground::ground;
use crate::support::wait_for;

/// What a producer was killed over is a whole number of messages from the beginning, in order, and the rest can be sent
/// after it with `--from-line`.
#[test]
fn a_killed_producer_leaves_the_beginning_of_its_lines() {
    const LINES: usize = 60_000;

    let lines = (1..=LINES).fold(String::new(), |mut lines, number| {
        writeln!(lines, "{number}:{}", "x".repeat(number % 300)).unwrap();
        lines
    });
    let expected: Vec<&str> = lines.lines().collect();
    let mut cut_short = 0;
    for threshold in [1, 5_000, 20_000] {
        let ground = ground("noop: {}", "");
        ground.write("lines", &lines);
        // So that there is a queue to look at.
        ground
            .run(["managequeue", "declare", "demo"])
            .any_stdout()
            .any_stderr()
            .check();
        let mut producer = ground.start(["queuemessage", "--lines", "--file", "lines", "demo"]);
        wait_for("the first messages", || {
            ground.figure("ready") >= threshold || producer.has_ended()
        });
        producer.signal(Signal::KILL);
        cut_short += usize::from(producer.wait().is_none());

        ground.check_store();
        let taken = ground.figure("ready");
        let limit = (taken + 10).to_string();
        let found = ground.json(["managequeue", "peek", "--body", "--limit", &limit, "demo"]);
        let found: Vec<&str> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["body"].as_str().unwrap())
            .collect();
        assert_eq!(found.len() as u64, taken);
        assert!(
            found == expected[..found.len()],
            "the messages are not the first {taken} lines"
        );

        let next = (taken + 1).to_string();
        ground
            .run([
                "queuemessage",
                "--lines",
                "--file",
                "lines",
                "--from-line",
                &next,
                "demo",
            ])
            .any_stdout()
            .check();
        assert_eq!(ground.figure("ready"), LINES as u64);
    }
    assert!(cut_short > 0, "no producer was killed before its end");
}
