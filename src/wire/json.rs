//! JSON as PHP's `json_encode` writes it: object keys in the order given, slashes escaped, nothing but ASCII, and an empty
//! object as `[]`, since PHP has one array type for both.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value whose object keys keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number; it is finite.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object; no key occurs twice.
    Map(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole JSON text. A key that occurs twice in one object is refused, since readers disagree on which one counts.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// Writes it as PHP does.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, "[]");
        out
    }

    /// Writes it with `{}` for an empty object, for readers who tell it from an empty list.
    pub fn encode_objects(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, "{}");
        out
    }

    /// What kind of value it is, for error texts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// The text of a scalar as PHP casts it to a string: `true` is `1`, `false` and `null` are empty.
    pub fn to_php_string(&self) -> Option<String> {
        match self {
            Self::Null | Self::Bool(false) => Some(String::new()),
            Self::Bool(true) => Some("1".to_owned()),
            Self::Int(_) | Self::Float(_) => Some(self.encode()),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    fn write(&self, out: &mut String, empty: &str) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Float(value) => write_float(*value, out),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out, empty);
                }
                out.push(']');
            }
            Self::Map(entries) if entries.is_empty() => out.push_str(empty),
            Self::Map(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    value.write(out, empty);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' | '\u{7f}' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write_unit(*unit, out);
                }
            }
        }
    }
    out.push('"');
}

fn write_unit(unit: u16, out: &mut String) {
    write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
}

/// The shortest digits that read back as the same number; an exponent where PHP has one (17 digits or more, or less than
/// 0.0001).
fn write_float(value: f64, out: &mut String) {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        out.push_str(&value.to_string());
        return;
    }
    out.push_str(digits);
    if !digits.contains('.') {
        out.push_str(".0");
    }
    write!(out, "e{exponent:+}").expect("writing to a String cannot fail");
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Self::Float(number.as_f64().unwrap_or(0.0)), Self::Int),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(entries) => Self::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, Self::from(value)))
                    .collect(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format!("the key {key:?} occurs twice")));
            }
            map.push((key, value));
        }
        Ok(Json::Map(map))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

    use super::Json;

    fn written(text: &str) -> String {
        Json::parse(text.as_bytes()).unwrap().encode()
    }

    #[test]
    fn php_s_bytes_are_kept() {
        for text in [
            r#"{"b":1,"a":[true,false,null,"x"]}"#,
            r#""\u00e9 \ud83d\ude00 \/ \\ \" \n\r\t\b\f \u0001""#,
            "[]",
            "-9223372036854775808",
            "0.1",
            "1.0e+25",
            "1.5e-7",
            "-0.0001",
        ] {
            assert_eq!(written(text), text);
        }
        assert_eq!(written("{}"), "[]");
        assert_eq!(Json::parse(b"[{},[]]").unwrap().encode_objects(), "[{},[]]");
        assert_eq!(written("10.0"), "10");
        assert_eq!(written("\"\u{7f}\""), "\"\u{7f}\"");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "nul",
            "[1,]",
            "{\"a\":1} x",
            "{\"a\":1,\"a\":2}",
            "\"\\ud800\"",
            "\"\u{1}\"",
        ] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn scalars_are_cast_as_php_casts_them() {
        let cast = |text: &str| Json::parse(text.as_bytes()).unwrap().to_php_string();
        assert_eq!(cast("true").as_deref(), Some("1"));
        assert_eq!(cast("false").as_deref(), Some(""));
        assert_eq!(cast("null").as_deref(), Some(""));
        assert_eq!(cast("-5").as_deref(), Some("-5"));
        assert_eq!(cast("\"a/b\"").as_deref(), Some("a/b"));
        assert_eq!(cast("[]"), None);
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            proptest::strategy::Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::Int),
            any::<String>().prop_map(Json::Text),
            (any::<i32>(), 1..1000_u32).prop_map(|(a, b)| Json::Float(f64::from(a) + 1.0 / f64::from(b + 1))),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
                prop::collection::btree_map(any::<String>(), inner, 1..6)
                    .prop_map(|map| Json::Map(map.into_iter().rev().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in json()) {
            let text = value.encode();
            assert!(text.is_ascii());
            assert_eq!(Json::parse(text.as_bytes()).unwrap(), value);
        }

        #[test]
        fn floats_read_back(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let text = Json::Float(value).encode();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = Json::parse(&bytes);
        }
    }
}
