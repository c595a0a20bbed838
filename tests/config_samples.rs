//! The samples in `config/` are what people copy: each loads, and between them they show every key there is.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qctl::config::{self, Config, InitAnswers, Surroundings};
use qctl::settings::Environment;

fn surroundings() -> Surroundings {
    Surroundings {
        folder: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))),
        user: rustix::process::geteuid().as_raw(),
        environment: Environment::of([("HOME", "/home/somebody")]),
        system_file: PathBuf::from("/nonexistent/qctl.yml"),
        program: PathBuf::from("qctl"),
    }
}

fn load(file: &Path) -> Config {
    config::load(&surroundings(), Some(file)).unwrap_or_else(|error| panic!("{error}"))
}

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let samples: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "yml"))
        .collect();
    assert!(samples.len() >= 3, "{samples:?}");
    samples
}

#[test]
fn every_sample_loads() {
    for sample in samples() {
        let config = load(&sample);
        assert!(!config.connections.is_empty(), "{}", sample.display());
        // What is shown of it is one document without a hole.
        assert!(config::show(&config).is_object());
    }
}

#[test]
fn the_first_file_loads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("qctl.yml");
    fs::write(&file, config::first_file(&InitAnswers::default())).unwrap();
    let config = load(&file);
    assert!(config.producers.contains_key("demo") && config.consumers.contains_key("demo"));
}

/// A key that the schema knows and no sample shows is a key that nobody finds.
#[test]
fn the_samples_show_every_key() {
    let mut text = String::new();
    for sample in samples() {
        text.push_str(&fs::read_to_string(sample).unwrap());
    }
    let mut keys = BTreeSet::new();
    collect(&config::schema(), &mut keys);
    assert!(
        keys.contains("concurrency") && keys.contains("dash_arguments"),
        "{keys:?}"
    );
    for key in keys {
        let shown = text.match_indices(&format!("{key}:")).any(|(start, _)| {
            let before = text[..start].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        });
        assert!(shown, "no sample in config/ shows the key `{key}`");
    }
}

/// The names of all keys but aliases.
fn collect(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Array(list) => list.iter().for_each(|inner| collect(inner, keys)),
        serde_json::Value::Object(map) => {
            for (name, inner) in map
                .get("properties")
                .and_then(|properties| properties.as_object())
                .into_iter()
                .flatten()
            {
                if inner.get("deprecated").is_none() {
                    keys.insert(name.clone());
                }
            }
            // The predecessors' spellings are understood, not recommended.
            let inner = map.iter().filter(|(_, inner)| inner.get("deprecated").is_none());
            inner.for_each(|(_, inner)| collect(inner, keys));
        }
        _ => {}
    }
}
