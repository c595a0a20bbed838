//! The schema of `listeners:`.

use serde_json::{Value, json};

use super::shapes::{choice, duration, one_or_many, text};
use super::{key, object, required_any};
use crate::events::{EventKind, KINDS};

pub(super) fn listener() -> Value {
    let names: Vec<String> = EventKind::all()
        .flat_map(|kind| [kind.name().to_owned(), format!("kaliop_queueing.{}", kind.name())])
        .collect();
    let mut keys = vec![
        key(
            &["on", "event"],
            "The events that it hears of.",
            one_or_many(&choice(&names)),
        ),
        key(
            &["queue", "of"],
            "Of which queues, producers, consumers or workers. Default: all.",
            one_or_many(&text()),
        ),
        key(
            &["priority"],
            "Higher hears earlier. Default: 0.",
            json!({ "type": ["integer", "string"] }),
        ),
        key(
            &["policy"],
            "What becomes of what it does not hear: wait (it is told again, and the message waits), skip (told in the log and counted) or stop (the consumer ends with 75). Default: wait.",
            choice(&["wait", "skip", "stop"]),
        ),
        key(&["timeout"], "How long it may take. Default: 10s.", duration()),
    ];
    let kinds: Vec<[&str; 1]> = KINDS.iter().map(|spec| [spec.kind]).collect();
    for (spec, kind) in KINDS.iter().zip(&kinds) {
        let shape = match spec.short {
            Some(_) => json!({ "type": ["object", "null", "string", "array", "integer"] }),
            None => json!({ "type": ["object", "null"] }),
        };
        keys.push(key(kind, &format!("It {}.", spec.about), shape));
    }
    let kinds: Vec<&str> = KINDS.iter().map(|spec| spec.kind).collect();
    let listener = required_any(object("Who hears of what happens.", &keys), &["on", "event"]);
    let listener = required_any(listener, &kinds);
    json!({ "type": ["array", "null"], "items": listener })
}
