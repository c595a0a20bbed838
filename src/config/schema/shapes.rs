//! The shapes that values can have, as JSON Schema. Where a value may come from a variable, `${…}` is taken too.

use serde_json::{Map, Value, json};

use crate::settings::Form;

/// A key, its aliases, and what it means.
pub(super) fn key(names: &[&str], meaning: &str, mut shape: Value) -> (Vec<String>, Value) {
    shape["description"] = json!(meaning);
    (names.iter().map(|&name| name.to_owned()).collect(), shape)
}

pub(super) fn object(description: &str, keys: &[(Vec<String>, Value)]) -> Value {
    let mut properties = Map::new();
    for (names, shape) in keys {
        for (index, name) in names.iter().enumerate() {
            let mut shape = shape.clone();
            if index > 0 {
                shape["description"] = json!(format!("Another name for `{}`.", names[0]));
                shape["deprecated"] = json!(true);
            }
            properties.insert(name.clone(), shape);
        }
    }
    json!({
        "type": ["object", "null"],
        "description": description,
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Keys that are not listed are left to the driver or handler to judge.
pub(super) fn open(mut object: Value) -> Value {
    object["additionalProperties"] = json!(true);
    object
}

pub(super) fn named(description: &str, entry: &Value) -> Value {
    let mut entry = entry.clone();
    if entry.get("description").is_none() {
        entry["description"] = json!(description);
    }
    json!({ "type": ["object", "null"], "additionalProperties": entry })
}

pub(super) fn one_or_many(shape: &Value) -> Value {
    json!({ "anyOf": [shape, { "type": "array", "items": shape }] })
}

pub(super) fn variable() -> Value {
    json!({ "type": "string", "pattern": r"\$\{" })
}

pub(super) fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

pub(super) fn texts() -> Value {
    one_or_many(&text())
}

pub(super) fn boolean() -> Value {
    json!({ "anyOf": [{ "type": "boolean" }, { "enum": [0, 1, "0", "1", "true", "false"] }, variable()] })
}

pub(super) fn count(least: u64, most: Option<u64>) -> Value {
    let mut number = json!({ "type": "integer", "minimum": least });
    if let Some(most) = most {
        number["maximum"] = json!(most);
    }
    json!({ "anyOf": [number, { "type": "string", "pattern": r"^[0-9]+$|\$\{" }] })
}

pub(super) fn duration() -> Value {
    json!({ "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": r"[0-9]|\$\{" }] })
}

pub(super) fn limit_duration() -> Value {
    json!({ "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": r"[0-9]|\$\{|^none$" }] })
}

pub(super) fn size() -> Value {
    duration()
}

pub(super) fn map() -> Value {
    json!({ "type": ["object", "null"] })
}

pub(super) fn shape(form: Form) -> Value {
    match form {
        Form::Text => text(),
        Form::Boolean => boolean(),
        Form::Integer => {
            json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": r"^-?[0-9]+$|\$\{" }] })
        }
        Form::Duration => duration(),
        Form::LimitDuration => limit_duration(),
        Form::Size => size(),
        Form::Texts => texts(),
        Form::TextMap => json!({ "type": ["object", "null"], "additionalProperties": text() }),
        Form::Map => map(),
        Form::Maps => one_or_many(&map()),
        Form::Any => json!({}),
    }
}

pub(super) fn meaning(form: Form) -> &'static str {
    match form {
        Form::Text => "Text",
        Form::Boolean => "True or false",
        Form::Integer => "A whole number",
        Form::Duration => "A duration such as 5m, or seconds",
        Form::LimitDuration => "A duration such as 5m, or seconds, or none",
        Form::Size => "A size such as 256M, or bytes",
        Form::Texts => "A text or a list of texts",
        Form::TextMap => "A map of texts",
        Form::Map => "A map of keys",
        Form::Maps => "A map of keys, or a list of them",
        Form::Any => "Any value that is understood there",
    }
}
