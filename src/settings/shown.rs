//! Settings as they may be shown: secrets masked.

use std::ffi::OsString;

use super::source::Environment;
use super::value::Value;
use super::{Setting, Source};

/// What stands in place of a secret.
const MASK: &str = "***";

impl Environment {
    /// The same variables, those whose name says that they hold a secret masked.
    #[must_use]
    pub fn masked(&self) -> Self {
        let inner = self.clone();
        Self::new(move |name| {
            let value = inner.get(name)?;
            Some(if is_secret_name(name) {
                OsString::from(MASK)
            } else {
                value
            })
        })
    }
}

impl Source {
    /// The same text, reading masked variables.
    #[must_use]
    pub fn masked(&self) -> Self {
        self.with_environment(self.environment().masked())
    }
}

impl Setting {
    /// The value with its variables put in and its secrets masked, for people to look at: values of keys such as
    /// `password`, passwords in URLs, variables whose names speak of a secret. `*_file` keys name files and are shown.
    pub fn shown(&self) -> serde_json::Value {
        let masked = Self::masked(self);
        let value = masked.resolved().unwrap_or_else(|_| masked.written().clone());
        show(&value)
    }

    fn masked(&self) -> Self {
        self.with_source(self.source().masked())
    }
}

fn show(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => mask_url(text).into(),
        Value::List(list) => list.iter().map(show).collect(),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| {
                let hidden = is_secret_name(key) && !matches!(value, Value::Map(_) | Value::Null);
                (key.clone(), if hidden { MASK.into() } else { show(value) })
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// Whether a key or variable of this name holds a secret. A `…_file` names where one is kept, which may be shown.
pub fn is_secret_name(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "password",
        "passwd",
        "passcode",
        "passphrase",
        "pass",
        "pw",
        "pwd",
        "secret",
        "secrets",
        "token",
        "credential",
        "credentials",
        "apikey",
        "authorization",
        "cookie",
        "key",
    ];
    /// Keys of qctl's own that end in one of the words and are no secrets.
    const OPEN: &[&str] = &["routing_key", "routing-key", "key"];
    let name = name.to_lowercase();
    if OPEN.contains(&name.as_str()) {
        return false;
    }
    let words: Vec<&str> = name.split(['_', '-', '.']).collect();
    let Some((last, before)) = words.split_last() else {
        return false;
    };
    if matches!(*last, "file" | "path") {
        return false;
    }
    WORDS.contains(last) || before.iter().any(|word| *word != "key" && WORDS.contains(word))
}

/// The text with the password of a URL in it masked, in the authority and in query parameters.
pub fn mask_url(text: &str) -> String {
    let Some(scheme_end) = text.find("://") else {
        return text.to_owned();
    };
    let start = scheme_end + 3;
    let authority_end = text[start..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |end| start + end);
    // A password with an unescaped `/` in it is no URL, but it must not be shown either: look for the last `@` of all.
    let at = text[start..authority_end].rfind('@').or_else(|| {
        text[start..]
            .rfind('@')
            .filter(|at| text[start..start + at].contains(':'))
    });
    let mut masked = text.to_owned();
    if let Some(at) = at.map(|at| start + at)
        && let Some(colon) = text[start..at].find(':').map(|colon| start + colon)
    {
        masked.replace_range(colon + 1..at, MASK);
    }
    mask_query(&masked)
}

fn mask_query(text: &str) -> String {
    let Some((before, query)) = text.split_once('?') else {
        return text.to_owned();
    };
    let query: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret_name(name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{before}?{}", query.join("&"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{is_secret_name, mask_url};

    #[test]
    fn passwords_in_urls_are_masked() {
        for (text, expected) in [
            ("amqp://app:hunter2@host:5672/%2f", "amqp://app:***@host:5672/%2f"),
            ("amqp://app@host:5672/%2f", "amqp://app@host:5672/%2f"),
            ("amqp://:pw@host", "amqp://:***@host"),
            ("amqp://a:p@ss@host/x", "amqp://a:***@host/x"),
            ("amqp://a:p/ss@host/x", "amqp://a:***@host/x"),
            ("http://h/p?token=abc&x=1", "http://h/p?token=***&x=1"),
            ("sqlite:///var/lib/q.db?mode=rw", "sqlite:///var/lib/q.db?mode=rw"),
            ("sqlite:///srv/a@b/q.db", "sqlite:///srv/a@b/q.db"),
            ("no url: at all@x", "no url: at all@x"),
        ] {
            assert_eq!(mask_url(text), expected);
        }
    }

    #[test]
    fn names_that_speak_of_secrets() {
        for (name, expected) in [
            ("password", true),
            ("PASSWORD", true),
            ("DB_PASSWORD", true),
            ("API_TOKEN", true),
            ("Authorization", true),
            ("AWS_SECRET_ACCESS_KEY", true),
            ("api_key", true),
            ("password_file", false),
            ("routing_key", false),
            ("PATH", false),
            ("compass", false),
            ("HOME", false),
        ] {
            assert_eq!(is_secret_name(name), expected, "{name}");
        }
    }
}
