//! As much of JSON Schema as the schema uses, for the tests. It fails on a keyword it does not know, so that none of them
//! is without effect here and has one in an editor.

use regex_lite::Regex;
use serde_json::Value;

use crate::settings;

/// What is wrong with `value`, by the path of the first place; `Ok`: nothing.
pub(in super::super) fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    let schema = schema.as_object().unwrap();
    for (keyword, wanted) in schema {
        let said = match keyword.as_str() {
            "$schema" | "title" | "description" | "deprecated" => Ok(()),
            "type" => is_of_type(wanted, value),
            "enum" => wanted
                .as_array()
                .unwrap()
                .contains(value)
                .then_some(())
                .ok_or_else(|| format!("{value} is not one of {wanted}")),
            "anyOf" => any_of(wanted, value),
            "pattern" => match value.as_str() {
                Some(text) if !Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text) => {
                    Err(format!("{text:?} does not match {wanted}"))
                }
                _ => Ok(()),
            },
            "minimum" => bound(value.as_f64(), |number| number >= wanted.as_f64().unwrap()),
            "maximum" => bound(value.as_f64(), |number| number <= wanted.as_f64().unwrap()),
            "minItems" => bound(value.as_array(), |list| list.len() as u64 >= wanted.as_u64().unwrap()),
            "maxItems" => bound(value.as_array(), |list| list.len() as u64 <= wanted.as_u64().unwrap()),
            "minProperties" => bound(value.as_object(), |map| map.len() as u64 >= wanted.as_u64().unwrap()),
            "maxProperties" => bound(value.as_object(), |map| map.len() as u64 <= wanted.as_u64().unwrap()),
            "required" => bound(value.as_object(), |map| {
                wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|key| map.contains_key(key.as_str().unwrap()))
            }),
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .try_for_each(|element| validate(wanted, element)),
            "propertyNames" => keys(value).try_for_each(|(key, _)| validate(wanted, &Value::from(key.as_str()))),
            "properties" => keys(value).try_for_each(|(key, inner)| match wanted.get(key) {
                Some(schema) => validate(schema, inner).map_err(|error| format!("{key}: {error}")),
                None => Ok(()),
            }),
            "additionalProperties" => keys(value)
                .filter(|(key, _)| schema.get("properties").and_then(|known| known.get(key)).is_none())
                .try_for_each(|(key, inner)| match wanted {
                    Value::Bool(false) => Err(format!("{key}: unknown")),
                    Value::Bool(true) => Ok(()),
                    schema => validate(schema, inner).map_err(|error| format!("{key}: {error}")),
                }),
            other => panic!("the validator of the tests does not know the keyword {other}"),
        };
        said.map_err(|error| format!("{error} ({keyword})"))?;
    }
    Ok(())
}

fn keys(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn bound<T>(value: Option<T>, holds: impl Fn(T) -> bool) -> Result<(), String> {
    match value.map(holds) {
        Some(false) => Err("out of bounds".to_owned()),
        _ => Ok(()),
    }
}

fn any_of(wanted: &Value, value: &Value) -> Result<(), String> {
    let said: Vec<String> = wanted
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|schema| validate(schema, value).err())
        .collect();
    if said.len() < wanted.as_array().unwrap().len() {
        return Ok(());
    }
    Err(said.join("; "))
}

fn is_of_type(wanted: &Value, value: &Value) -> Result<(), String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("no type is called {other}"),
    };
    let holds = match wanted {
        Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
        name => is(name.as_str().unwrap()),
    };
    if holds {
        Ok(())
    } else {
        Err(format!("{value} is not of the type {wanted}"))
    }
}

/// A value of YAML as JSON, which is how a schema sees it.
pub(in super::super) fn as_json(value: &settings::Value) -> Value {
    match value {
        settings::Value::Null => Value::Null,
        settings::Value::Bool(value) => (*value).into(),
        settings::Value::Int(value) => (*value).into(),
        settings::Value::Float(value) => (*value).into(),
        settings::Value::Text(text) => text.as_str().into(),
        settings::Value::List(list) => list.iter().map(as_json).collect(),
        settings::Value::Map(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), as_json(value))).collect())
        }
    }
}
