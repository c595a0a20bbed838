//! The dependency direction of ARCHITECTURE.md, read from the `use` lines and paths of every source file.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms of the crate a room may name. `consumer::handler` is the handler contract, a room of its own here.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("settings", &["error"]),
    ("queue", &["error", "settings"]),
    ("wire", &["error", "queue"]),
    ("process", &["error", "queue"]),
    ("residents", &["error", "settings", "queue", "wire", "process"]),
    ("store", &["error", "queue", "wire"]),
    ("drivers", &["error", "settings", "queue", "wire", "store"]),
    ("handler contract", &["error", "queue"]),
    ("web", &["error", "settings"]),
    (
        "handlers",
        &[
            "error",
            "settings",
            "queue",
            "wire",
            "process",
            "residents",
            "web",
            "handler contract",
        ],
    ),
    ("signing", &["error", "settings", "queue"]),
    ("producer", &["error", "queue", "wire", "events", "signing"]),
    (
        "consumer",
        &["error", "queue", "wire", "events", "signing", "handler contract"],
    ),
    (
        "config",
        &[
            "signing",
            "error",
            "settings",
            "queue",
            "wire",
            "process",
            "residents",
            "events",
            "consumer",
            "handler contract",
            "producer",
            "handlers",
            "drivers",
        ],
    ),
    ("output", &["error", "queue"]),
    ("logging", &["error"]),
    ("signals", &["error", "consumer", "process"]),
    (
        "events",
        &["error", "settings", "queue", "wire", "process", "residents"],
    ),
    ("observe", &["error", "settings", "consumer"]),
    ("watchdog", &["error", "process", "events"]),
    ("cli", &["error", "commands", "config", "logging", "output"]),
    (
        "context",
        &[
            "signing",
            "error",
            "settings",
            "queue",
            "process",
            "residents",
            "events",
            "config",
            "output",
            "cli",
            "consumer",
            "producer",
            "drivers",
            "handlers",
        ],
    ),
    (
        "commands",
        &[
            "signing",
            "error",
            "settings",
            "queue",
            "wire",
            "process",
            "store",
            "drivers",
            "handlers",
            "handler contract",
            "web",
            "producer",
            "consumer",
            "config",
            "output",
            "logging",
            "signals",
            "observe",
            "watchdog",
            "events",
            "residents",
            "cli",
            "context",
        ],
    ),
];

/// Crates that only one room may name.
const KEPT_TO: &[(&str, &[&str])] = &[
    ("clap", &["cli", "commands"]),
    ("clap_complete", &["cli", "commands"]),
    ("clap_mangen", &["commands"]),
    ("rusqlite", &["store"]),
    ("lapin", &["drivers"]),
    ("async_rs", &["drivers"]),
    ("rustls", &["drivers", "web"]),
    ("reqwest", &["drivers", "web"]),
    ("dxr", &["wire"]),
    ("comfy_table", &["output"]),
    ("indicatif", &["output", "commands"]),
    ("dialoguer", &["output", "commands", "context"]),
    ("serde_yaml", &["settings", "config", "commands"]),
    ("tracing_subscriber", &["logging"]),
    ("axum", &["observe"]),
    ("prometheus_client", &["observe"]),
];

struct Source {
    room: String,
    path: PathBuf,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap().to_owned();
                let first = inside
                    .components()
                    .next()
                    .unwrap()
                    .as_os_str()
                    .to_str()
                    .unwrap()
                    .trim_end_matches(".rs")
                    .to_owned();
                let room = if inside == Path::new("consumer/handler.rs") {
                    "handler contract".to_owned()
                } else {
                    first
                };
                // Tests beside the code may look anywhere; comments are no dependencies.
                let text = fs::read_to_string(&path).unwrap();
                let code = text
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap()
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                let code = code.collect::<Vec<_>>().join("\n");
                let beside = inside.to_str().unwrap();
                if !beside.ends_with("tests.rs") && !beside.ends_with("fakes.rs") {
                    found.push(Source { room, path, code });
                }
            }
        }
    }
    found
}

/// The rooms of this crate that the code names, by `crate::room` paths and `use crate::{room, …}` lists.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let end = list.find('}').unwrap_or(list.len());
            rooms.extend(list[..end].split(',').filter_map(first_name));
        } else if rest.starts_with("consumer::handler") {
            rooms.insert("handler contract".to_owned());
        } else {
            rooms.extend(first_name(rest));
        }
    }
    rooms
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// What the crate root itself exports, by the room it comes from.
fn room_of(name: &str) -> &str {
    match name {
        "Error" | "ErrorKind" | "Result" => "error",
        other => other,
    }
}

#[test]
fn rooms_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !matches!(source.room.as_str(), "lib" | "bin"))
    {
        let allowed = MAY_USE
            .iter()
            .find(|(room, _)| *room == source.room)
            .unwrap_or_else(|| panic!("{} is in no room of tests/layers.rs", source.path.display()))
            .1;
        for named in named_rooms(&source.code) {
            let room = room_of(&named);
            let own = room == source.room || (source.room == "handler contract" && room == "consumer");
            if !own && !allowed.contains(&room) {
                wrong.push(format!("{} ({}) uses {room}", source.path.display(), source.room));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, rooms) in KEPT_TO {
            let used = [
                format!("use {name}::"),
                format!(" {name}::"),
                format!("({name}::"),
                format!("<{name}::"),
            ];
            if used.iter().any(|path| source.code.contains(path.as_str())) && !rooms.contains(&source.room.as_str()) {
                wrong.push(format!("{} ({}) uses {name}", source.path.display(), source.room));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_output_prints_and_only_the_binary_ends_the_process() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, rooms) in [
            ("println!", &["output"][..]),
            ("eprintln!", &["output"]),
            ("print!(", &["output"]),
            ("io::stdout()", &["output", "commands", "logging"]),
            ("process::exit", &["bin"]),
        ] {
            if source.code.contains(word) && !rooms.contains(&source.room.as_str()) {
                wrong.push(format!("{} uses {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_test_itself_finds_a_wrong_dependency() {
    assert_eq!(
        named_rooms("use crate::store::Store;"),
        BTreeSet::from(["store".to_owned()])
    );
    assert_eq!(
        named_rooms("use crate::{error::Result, store, Error};"),
        BTreeSet::from(["error".to_owned(), "store".to_owned(), "Error".to_owned()])
    );
    assert_eq!(
        named_rooms("crate::consumer::handler::Call"),
        BTreeSet::from(["handler contract".to_owned()])
    );
}
