//! Which keys a driver or handler takes: found by having it read its own example and writing down what it asks for.

use std::path::PathBuf;
use std::sync::Arc;

use super::connections;
use super::decode::Tables;
use crate::consumer::ExitCodes;
use crate::handlers::{Commands, HandlerContext, HandlerSpec};
use crate::queue::DriverSpec;
use crate::settings::{Environment, Form, Setting, Settings, Source};

/// A key that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) key: String,
    pub(super) form: Form,
    /// The words of a choice.
    pub(super) words: Vec<String>,
    /// Nothing goes without it.
    pub(super) required: bool,
    /// Another spelling of a key: understood, not recommended.
    pub(super) alias: bool,
}

/// The keys of a connection of this driver. The example may be the entry alone or the entry under its name.
pub(super) fn by_driver(spec: &'static DriverSpec, tables: Tables) -> Vec<Offered> {
    let Some(example) = example(spec.example) else {
        return Vec::new();
    };
    let named = example.entries().ok().and_then(|mut entries| match entries.len() {
        1 => Some(entries.remove(0).1),
        _ => None,
    });
    for setting in [Some(example.clone()), named].into_iter().flatten() {
        if connections::read("example", &setting, tables).is_ok() {
            return offered(&setting);
        }
    }
    Vec::new()
}

/// The keys of this handler. The example may be its kind alone, or its keys under its kind, with or without `handler:`.
pub(super) fn by_handler(spec: &'static HandlerSpec) -> Vec<Offered> {
    let Some(example) = example(spec.example) else {
        return Vec::new();
    };
    let under = |setting: &Setting, key: &str| {
        let entries = setting.entries().ok()?;
        entries
            .into_iter()
            .find(|(name, _)| name == key)
            .map(|(_, inner)| inner)
    };
    let handler = under(&example, "handler").unwrap_or(example);
    let (keys, settings): (Setting, Settings) = match under(&handler, spec.kind) {
        Some(inner) => match inner.settings() {
            Ok(settings) => (inner, settings),
            Err(_) => return Vec::new(),
        },
        None => (handler.clone(), handler.empty_settings()),
    };
    let context = HandlerContext::new(
        Arc::new(Commands::default()),
        ExitCodes::default(),
        PathBuf::from("qctl"),
        1,
    );
    // Whether the example is good is for the handler's own tests to say.
    let _ = (spec.parse)(settings.clone(), &context);
    let mut result = offered(&keys);
    for offered in &mut result {
        // An example has all that is needed; what it cannot do without is required.
        offered.required =
            settings.has(&offered.key) && (spec.parse)(settings.without(&offered.key), &context).is_err();
    }
    result
}

fn example(text: &str) -> Option<Setting> {
    let text = format!("example:\n  {}\n", text.lines().collect::<Vec<_>>().join("\n  "));
    let environment = Environment::new(|_| Some("1".into()));
    let source = Source::new("example", "/", text, environment).recording();
    Settings::parse(source).ok()?.setting(&["example"]).ok()?
}

fn offered(setting: &Setting) -> Vec<Offered> {
    let path = setting.path();
    let mut result: Vec<Offered> = Vec::new();
    for asked in setting.source().asked() {
        if asked.path != path {
            continue;
        }
        for (index, key) in asked.keys.into_iter().enumerate() {
            if !result.iter().any(|known| known.key == key) {
                result.push(Offered {
                    key,
                    form: asked.form,
                    words: asked.words.clone(),
                    required: false,
                    alias: index > 0,
                });
            }
        }
    }
    result
}
