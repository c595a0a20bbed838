//! The shapes that values can have, as JSON Schema. Where a value may come from a variable, `${…}` is taken too.

use serde_json::{Map, Value, json};

use super::super::offered::Offered;
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

/// The object must have all of these keys, so it cannot be left out either.
pub(super) fn required(mut object: Value, keys: &[&str]) -> Value {
    object["type"] = json!("object");
    object["required"] = json!(keys);
    object
}

/// The object must have one of these keys.
pub(super) fn required_any(mut object: Value, keys: &[&str]) -> Value {
    object["type"] = json!("object");
    let choices: Vec<Value> = keys.iter().map(|key| json!({ "required": [key] })).collect();
    object["anyOf"] = json!(choices);
    object
}

/// A key of the predecessors, understood and not recommended.
pub(super) fn old((names, mut shape): (Vec<String>, Value)) -> (Vec<String>, Value) {
    shape["deprecated"] = json!(true);
    (names, shape)
}

pub(super) fn named(description: &str, entry: &Value) -> Value {
    let mut entry = entry.clone();
    if entry.get("description").is_none() {
        entry["description"] = json!(description);
    }
    json!({ "type": ["object", "null"], "propertyNames": { "pattern": NAME }, "additionalProperties": entry })
}

/// Not empty, not too long, and without control characters.
const NAME: &str = r"^[^\x00-\x1F\x7F-\x9F]{1,255}$";

pub(super) fn one_or_many(shape: &Value) -> Value {
    json!({ "anyOf": [shape, { "type": "array", "items": shape }] })
}

pub(super) fn variable() -> Value {
    json!({ "type": "string", "pattern": VARIABLE })
}

pub(super) fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// The name of a queue or an exchange.
pub(super) fn name() -> Value {
    json!({ "type": ["string", "number", "boolean"], "pattern": NAME })
}

pub(super) fn texts() -> Value {
    one_or_many(&text())
}

/// One of these words.
pub(super) fn choice<W: serde::Serialize>(words: &[W]) -> Value {
    json!({ "anyOf": [{ "enum": words }, variable()] })
}

/// A program, or a list of it and its arguments: no shell splits a text.
pub(super) fn command_line() -> Value {
    json!({ "anyOf": [
        { "type": "string", "pattern": r"^\S+$|\$\{" },
        { "type": "array", "items": text(), "minItems": 1 },
    ] })
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
    measure(&format!("{DURATION}|{VARIABLE}"))
}

pub(super) fn limit_duration() -> Value {
    measure(&format!("{DURATION}|^none$|{VARIABLE}"))
}

pub(super) fn size() -> Value {
    measure(&format!("{SIZE}|{VARIABLE}"))
}

fn measure(pattern: &str) -> Value {
    json!({ "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": pattern }] })
}

const DURATION: &str = r"^\s*([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?\s*(ms|msec|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hr|hours?|d|days?|w|weeks?)\s*)+)\s*$";
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]([iI]?[bB]|[iI])?|[bB])?\s*$";
const VARIABLE: &str = r"\$\{";

fn map() -> Value {
    json!({ "type": ["object", "null"] })
}

/// Native arguments; an empty list is how the predecessors' language writes an empty map.
pub(super) fn arguments() -> Value {
    json!({ "anyOf": [map(), { "type": "array", "maxItems": 0 }] })
}

pub(super) fn shape(offered: &Offered) -> Value {
    match offered.form {
        Form::Choice => choice(&offered.words),
        Form::CommandLine => command_line(),
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
        Form::Choice => "One of a few words",
        Form::Texts => "A text or a list of texts",
        Form::CommandLine => "A program, or a list of it and its arguments",
        Form::TextMap => "A map of texts",
        Form::Map => "A map of keys",
        Form::Maps => "A map of keys, or a list of them",
        Form::Any => "Any value that is understood there",
    }
}
