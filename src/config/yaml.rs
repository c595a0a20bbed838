//! Text as YAML reads it back.

use std::fmt::Write as _;

/// Words that YAML takes for something else than text, in this version or the one before.
const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// The text, in quotes where it might be read as something else.
pub(super) fn scalar(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

/// The text in double quotes, what cannot be printed escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                write!(quoted, "\\U{:08X}", c as u32).expect("writing to a string does not fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{quoted, scalar};
    use crate::settings::{Environment, Settings, Source, Value};

    fn read(yaml: &str) -> Option<Value> {
        let source = Source::new("x", "/", yaml.to_owned(), Environment::of::<&str, &str>([]));
        Settings::parse(source).unwrap().written("key").cloned()
    }

    #[test]
    fn what_looks_like_something_else_is_quoted() {
        for text in ["mail", "app.mail", "/", "a-b_c/d.e"] {
            assert_eq!(scalar(text), text);
        }
        for text in [
            "", "yes", "Off", "12", "1.5", "~", "-a", "a: b", "#", "*", "${X}", "a b", "é", ".inf",
        ] {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(text in any::<String>()) {
            for written in [scalar(&text), quoted(&text)] {
                proptest::prop_assert_eq!(read(&format!("key: {written}\n")), Some(Value::Text(text.clone())));
                let in_flow = read(&format!("key: [{written}]\n"));
                proptest::prop_assert_eq!(in_flow, Some(Value::List(vec![Value::Text(text.clone())])));
            }
        }
    }
}
