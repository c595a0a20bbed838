//! `arguments:` of exchanges and queues: plain values, or pairs of a type letter and a value such as `[I, 20000]`.

use crate::error::Result;
use crate::queue::{HeaderValue, Headers};
use crate::settings::{Setting, Value};

/// The letters of a typed pair and what each means.
const LETTERS: &str = "S text, I integer, D decimal, T time (seconds since 1970), F table, A list, t boolean";

/// A map of arguments. A list of two whose first element is a single letter is a typed pair; write a plain list of that
/// look as `[A, [S, x]]`.
pub(super) fn arguments(setting: &Setting) -> Result<Headers> {
    // PHP's empty array, as the predecessors write it.
    if setting.is_list() && setting.is_empty() {
        return Ok(Headers::new());
    }
    setting
        .entries()?
        .into_iter()
        .map(|(name, setting)| Ok((name, argument(&setting)?)))
        .collect()
}

fn argument(setting: &Setting) -> Result<HeaderValue> {
    Ok(match setting.written() {
        Value::Null => HeaderValue::Null,
        Value::Bool(value) => HeaderValue::Bool(*value),
        Value::Int(value) => HeaderValue::Int(*value),
        Value::Float(value) => HeaderValue::Float(*value),
        Value::Text(_) => HeaderValue::Text(setting.text()?),
        Value::Map(_) => HeaderValue::Table(arguments(setting)?),
        Value::List(list) => match list.as_slice() {
            [Value::Text(letter), _] if letter.chars().count() == 1 => typed(setting, letter)?,
            _ => HeaderValue::List(elements(setting)?),
        },
    })
}

fn typed(setting: &Setting, letter: &str) -> Result<HeaderValue> {
    let pair = setting.list()?;
    let value = &pair[1];
    Ok(match letter {
        "S" => HeaderValue::Text(value.text()?),
        "I" => HeaderValue::Int(value.integer()?),
        "D" => HeaderValue::Float(value.number()?),
        "T" => HeaderValue::Time(value.integer()?),
        "t" => HeaderValue::Bool(value.boolean()?),
        "F" => HeaderValue::Table(arguments(value)?),
        "A" if value.is_list() => HeaderValue::List(elements(value)?),
        "A" => return Err(value.error(format!("must be a list, not {}", value.quoted()))),
        _ => {
            return Err(setting.error(format!(
                "`{}` is no type letter; there are {LETTERS}",
                letter.escape_debug()
            )));
        }
    })
}

fn elements(setting: &Setting) -> Result<Vec<HeaderValue>> {
    setting.list()?.iter().map(argument).collect()
}
