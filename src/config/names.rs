//! What names may look like.

use crate::error::Result;
use crate::settings::{Setting, one_of, suggestion};

/// Names of queues and exchanges and routing keys travel as AMQP short strings.
const LONGEST: usize = 255;

/// Checks the name of an entry, queue or exchange.
pub(super) fn check_name(setting: &Setting, what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(setting.error(format!("the name of {what} must not be empty")));
    }
    check_text(setting, &format!("the name of {what}"), name)
}

/// Checks a routing key, which may be empty.
pub(super) fn check_routing_key(setting: &Setting, key: &str) -> Result<()> {
    check_text(setting, "a routing key", key)
}

fn check_text(setting: &Setting, what: &str, text: &str) -> Result<()> {
    match wrong_with(what, text) {
        Some(message) => Err(setting.error(message)),
        None => Ok(()),
    }
}

/// What is wrong with a name or a routing key.
pub(super) fn wrong_with(what: &str, text: &str) -> Option<String> {
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Some(format!("{what} must not hold control characters such as {control:?}"));
    }
    (text.len() > LONGEST).then(|| format!("{what} must not be longer than {LONGEST} bytes, and has {}", text.len()))
}

/// The end of a sentence about a name that is not there: the near one, and those there are.
pub fn those_there_are<'a>(given: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    const MOST: usize = 20;
    let hint = suggestion(given, names.clone()).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    let count = names.clone().count();
    match count {
        0 => format!("{hint} (there is none)"),
        count if count > MOST => {
            let shown: Vec<&str> = names.take(MOST).collect();
            format!("{hint} (there are {} and {} more)", shown.join(", "), count - MOST)
        }
        1 => format!("{hint} (there is {})", one_of(names)),
        _ => format!("{hint} (there are {})", names.collect::<Vec<_>>().join(", ")),
    }
}
