//! What the README prints works as printed: its pieces of configuration, merged as a reader merges them, and its commands.

use std::fmt::Write as _;

use crate::support::Place;

/// The fenced blocks of this kind, each with whether configuration was shown before it.
fn blocks(kind: &str) -> Vec<(bool, String)> {
    let text = include_str!("../../README.md");
    let mut found = Vec::new();
    let mut configured = false;
    for (index, part) in text.split("```").enumerate().filter(|(index, _)| index % 2 == 1) {
        let (this, content) = part.split_once('\n').unwrap_or_else(|| panic!("block {index}: {part}"));
        if this == kind {
            found.push((configured, content.to_owned()));
        }
        configured |= this == "yaml";
    }
    found
}

/// Each part goes under the key of its name.
fn merged(blocks: &[(bool, String)]) -> String {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for (_, block) in blocks {
        let mut current = usize::MAX;
        for line in block.lines() {
            if line.starts_with(' ') {
                let _ = writeln!(sections[current].1, "{line}");
                continue;
            }
            current = sections
                .iter()
                .position(|(key, _)| *key == line)
                .unwrap_or(sections.len());
            if current == sections.len() {
                sections.push((line, String::new()));
            }
        }
    }
    sections
        .into_iter()
        .flat_map(|(key, content)| [key.to_owned(), "\n".to_owned(), content])
        .collect()
}

/// The words of a command line, double quotes understood.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn the_readme_works_as_printed() {
    let config = merged(&blocks("yaml"));
    let (plain, configured) = (Place::new(), Place::with_config(&config));
    configured.run(["config", "check"]).any_stdout().check();
    let mut run = Vec::new();
    for (is_configured, block) in blocks("console") {
        let place = if is_configured { &configured } else { &plain };
        for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let line = line.split("  #").next().unwrap_or(line);
            let (input, line) = line.split_once("| ").unwrap_or(("", line));
            let mut words = words(line.strip_prefix("qctl ").expect("a command of qctl"));
            // Nobody is there to answer, and a consumer without a limit would run on.
            match words[0].as_str() {
                "queuecommand" if words.contains(&"--wait".to_owned()) => words.insert(1, "--dry-run".to_owned()),
                "consumer" if !words.contains(&"--until-empty".to_owned()) => {
                    words.insert(1, "--until-empty".to_owned());
                }
                _ => {}
            }
            let input = if input.is_empty() { "" } else { "a\nb\n" };
            place.run(&words).stdin(input).any_stdout().any_stderr().check();
            run.push(words[0].clone());
        }
    }
    assert_eq!(
        run,
        [
            "queuecommand",
            "consumer",
            "queuemessage",
            "consumer",
            "queuecommand",
            "queuecommand",
            "watchdog",
            "watchdog",
            "watchdog",
            "watchdog",
            "watchdog"
        ],
        "all of the console blocks were run"
    );
    assert_eq!(configured.json(["managequeue", "info", "demo"])["ready"], 0);
    assert_eq!(configured.json(["managequeue", "info", "jobs"])["ready"], 1);
}
