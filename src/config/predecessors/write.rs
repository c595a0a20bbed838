//! Pieces as YAML: sections, entries and their maps a line each, what is deeper in brackets.

use crate::config::yaml::scalar;
use crate::settings::{Content, Piece, Value};

/// Maps below this depth stand in brackets: a section, an entry, a map in it.
const BLOCK_DEPTH: usize = 3;

/// The lines of a map's entries, which stand `indent` levels in; `comments` gives the lines above a key so deep in.
pub(super) fn entries(map: &Piece, indent: usize, comments: &dyn Fn(usize, &str) -> Vec<String>) -> Vec<String> {
    let Content::Map(entries) = map.content() else {
        return Vec::new();
    };
    let margin = "  ".repeat(indent);
    let mut lines = Vec::new();
    for (key, value) in entries {
        lines.extend(comments(indent, key).iter().map(|line| format!("{margin}# {line}")));
        let key = scalar(key);
        match value.content() {
            Content::Map(inner) if !inner.is_empty() && indent < BLOCK_DEPTH => {
                lines.push(format!("{margin}{key}:"));
                lines.extend(self::entries(value, indent + 1, comments));
            }
            Content::List(list) if list.iter().any(|element| matches!(element.content(), Content::Map(_))) => {
                lines.push(format!("{margin}{key}:"));
                lines.extend(list.iter().map(|element| format!("{margin}  - {}", flow(element))));
            }
            _ => lines.push(format!("{margin}{key}: {}", flow(value))),
        }
    }
    lines
}

/// On one line, in brackets.
fn flow(piece: &Piece) -> String {
    match piece.content() {
        Content::Scalar(Value::Text(text)) => scalar(text),
        Content::Scalar(value) => plain(value),
        Content::List(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Content::Map(map) if map.is_empty() => "{}".to_owned(),
        Content::Map(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| format!("{}: {}", scalar(key), flow(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_nan() => ".nan".to_owned(),
        Value::Float(value) if value.is_infinite() => if *value > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        Value::Float(value) => format!("{value:?}"),
        _ => "~".to_owned(),
    }
}
