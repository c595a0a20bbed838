//! The schema and the decoder know the same keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::decode;
use super::super::fakes::{TABLES, surroundings};
use super::super::include::Loaded;
use super::super::tests::root_of;
use super::validator::validate;
use super::{schema, schema_of};
use crate::settings::{Settings, Source};

const FULL: &str = include_str!("../full.yml");

#[test]
fn every_key_that_is_read_is_in_the_schema_and_the_reverse() {
    let folder = tempfile::tempdir().unwrap();
    let around = surroundings(folder.path());
    let source = Source::new("full.yml", folder.path(), FULL.to_owned(), around.environment.clone()).recording();
    let root = Settings::parse(source).unwrap();
    let recorded = Arc::clone(root.source());
    let loaded = Loaded {
        files: Vec::new(),
        roots: vec![root],
        foreign: Vec::new(),
    };
    decode::decode(&around, None, loaded, TABLES).unwrap();
    let mut read = BTreeSet::new();
    for asked in recorded.asked() {
        // A handler that is only named has no place for its keys.
        if asked.path.ends_with(".handler") || asked.path.ends_with(".callback") {
            continue;
        }
        // Entry names and list indices stand for any.
        let mut words: Vec<String> = Vec::new();
        for (depth, word) in asked.path.split('.').filter(|word| !word.is_empty()).enumerate() {
            words.push(match (depth, word.split_once('[')) {
                (1, _) => "*".to_owned(),
                (_, Some((word, _))) => word.to_owned(),
                (_, None) => word.to_owned(),
            });
        }
        for key in asked.keys {
            // Whether an entry is read under its alias or not, the keys below it are the same.
            let canonical: Vec<&str> = words.iter().map(|word| canonical(word)).collect();
            match canonical.as_slice() {
                // What a kind of listener takes is its own affair: the schema names the kinds.
                ["listeners", _, ..] => {}
                ["signing", "*", _] => drop(read.insert(format!("signing.keys.*.{key}"))),
                path => drop(read.insert([path, &[key.as_str()]].concat().join("."))),
            }
        }
    }
    let mut described = BTreeSet::new();
    collect("", &schema_of(TABLES), &mut described);
    let kinds = ["consumers.*.handler.command", "consumers.*.handler.exec"];
    described.retain(|key: &String| !kinds.contains(&key.as_str()));
    // The predecessor's spelling of the whole section.
    assert!(described.remove("workers.list"));
    // Read as one of the codes that it stands among.
    assert!(described.remove("consumers.*.exit_codes.preset"));
    let difference: Vec<_> = read.symmetric_difference(&described).collect();
    assert!(difference.is_empty(), "not in both: {difference:#?}");
    assert!(read.contains("consumers.*.queue.bindings.exchange.type"), "{read:#?}");
    assert!(read.contains("connections.*.heartbeat") && read.contains("consumers.*.handler.exec.run"));
}

fn canonical(word: &str) -> &str {
    match word {
        "exchange_options" => "exchange",
        "queue_options" => "queue",
        "binding" => "bindings",
        "qos" | "qos_options" | "qos_count" => "prefetch",
        other => other,
    }
}

fn collect(path: &str, schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    let below = |word: &str| {
        if path.is_empty() {
            word.to_owned()
        } else {
            format!("{path}.{word}")
        }
    };
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let description = inner["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{} has no description", below(key));
        keys.insert(below(key));
        // A key's canonical name and its alias hold the same keys: those are counted once.
        if canonical(key) == key && key != "name" {
            collect(&below(key), inner, keys);
        }
    }
    if schema["additionalProperties"].is_object() {
        collect(&below("*"), &schema["additionalProperties"], keys);
    }
    if schema["items"].is_object() {
        collect(path, &schema["items"], keys);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        collect(path, choice, keys);
    }
}

#[test]
fn the_schema_takes_what_loads() {
    let built_in = schema();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut samples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yml") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(
                validate(&built_in, &root_of(&text).unwrap()),
                Ok(()),
                "{}",
                path.display()
            );
            samples += 1;
        }
    }
    assert!(samples >= 3);
    let first = super::super::first_file(&super::super::InitAnswers::default());
    for text in [
        first.as_str(),
        "",
        "producers:\n",
        "consumers: {a: {handler: noop, retry: {max: 1.5h}}}",
    ] {
        assert_eq!(validate(&built_in, &root_of(text).unwrap()), Ok(()), "{text}");
    }
    assert_eq!(validate(&schema_of(TABLES), &root_of(FULL).unwrap()), Ok(()));
}
