//! The JSON Schema of a configuration file, for editors: every key with what it means.
//!
//! The keys of drivers and handlers are not known here: each reads its own example, and what it asks for is written down.

mod listener;
mod shapes;
mod worker;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod validator;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::consumers::PRESETS;
use super::decode::Tables;
use super::offered::{self, Offered};
use crate::queue::ExchangeKind;
use shapes::{
    arguments, boolean, choice, command_line, count, duration, key, limit_duration, meaning, name, named, object, old,
    one_or_many, required, required_any, shape, size, text, texts, variable,
};

/// The JSON Schema (draft 2020-12) of a configuration file.
pub fn schema() -> Value {
    schema_of(Tables::built_in())
}

pub(super) fn schema_of(tables: Tables) -> Value {
    let mut root = object(
        "",
        &[
            key(
                &["include"],
                "Further files, relative to this one; `*` and `?` work in the file's name.",
                texts(),
            ),
            key(
                &["default"],
                "The connection used where none is named; needed with several connections only.",
                text(),
            ),
            key(
                &["connections"],
                "Where messages are, by name.",
                named("A connection.", &connection(tables)),
            ),
            key(
                &["producers"],
                "Where messages go, by name.",
                named("A producer.", &producer()),
            ),
            key(
                &["consumers"],
                "Where messages come from and what takes them, by name.",
                named("A consumer.", &consumer(tables)),
            ),
            key(
                &["commands"],
                "What a queued command may run, by name; nothing else may, but the built-in echoback.",
                named("A command.", &command()),
            ),
            key(
                &["state_dir"],
                "Where state is kept that is not the store's, the watchdog's among it. Default: beside the store, else $XDG_STATE_HOME/qctl.",
                text(),
            ),
            key(
                &["workers"],
                "What `qctl watchdog` keeps alive, by name.",
                json!({ "anyOf": [
                    named("A worker.", &worker::worker()),
                    old(key(&["list"], "", json!({
                        "type": "object",
                        "properties": { "list": {
                            "type": "object",
                            "description": "The predecessor's spelling.",
                            "additionalProperties": { "type": "object" },
                        } },
                        "required": ["list"],
                        "additionalProperties": false,
                    }))).1,
                ] }),
            ),
            key(
                &["signing"],
                "The keys of signed messages, and which one producers sign with.",
                signing(),
            ),
            key(
                &["listeners"],
                "Who hears of what happens to messages and workers.",
                listener::listener(),
            ),
        ],
    );
    let top = root.as_object_mut().expect("an object schema is an object");
    top.remove("description");
    top.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    top.insert("title".to_owned(), json!("qctl configuration"));
    root
}

fn connection(tables: Tables) -> Value {
    let names: Vec<&str> = tables.drivers.iter().map(|spec| spec.name).collect();
    let schemes: Vec<&str> = tables
        .drivers
        .iter()
        .flat_map(|spec| spec.schemes.iter().copied())
        .collect();
    let url = format!(r"^({}):|\$\{{", schemes.join("|"));
    let mut keys = vec![
        key(&["driver"], "The driver, where no `url` says it.", choice(&names)),
        key(
            &["url"],
            &format!(
                "Where messages are; its scheme picks the driver: {}.",
                schemes.join(", ")
            ),
            json!({ "type": "string", "pattern": url }),
        ),
    ];
    let mut of_drivers: BTreeMap<String, (Vec<&str>, Vec<Offered>)> = BTreeMap::new();
    for spec in tables.drivers {
        for offered in offered::by_driver(spec, tables) {
            if !["driver", "url"].contains(&offered.key.as_str()) {
                let (drivers, offers) = of_drivers.entry(offered.key.clone()).or_default();
                drivers.push(spec.name);
                offers.push(offered);
            }
        }
    }
    for (name, (drivers, offers)) in &of_drivers {
        let mut shapes: Vec<Value> = offers.iter().map(shape).collect();
        shapes.dedup();
        let shape = if shapes.len() == 1 { shapes.remove(0) } else { json!({}) };
        let known = key(
            &[name],
            &format!("{} (driver {}).", meaning(offers[0].form), drivers.join(", ")),
            shape,
        );
        let alias = offers.iter().all(|offered| offered.alias);
        keys.push(if alias { old(known) } else { known });
    }
    let keys = required_any(
        object("The connection's keys.", &keys),
        &["url", "driver", "host", "hosts"],
    );
    json!({ "anyOf": [
        { "type": "string", "pattern": url, "description": "A URL; its scheme picks the driver." },
        keys,
    ] })
}

fn producer() -> Value {
    object(
        "A producer sends to an exchange or to a queue; without either, to the queue of the consumer of its name, or to one called as itself.",
        &[
            key(&["connection"], "The connection; otherwise the default one.", text()),
            key(
                &["exchange", "exchange_options"],
                "The exchange it publishes to.",
                exchange(),
            ),
            key(&["queue"], "The queue it sends to.", name()),
            key(
                &["routing_key", "routing-key"],
                "The routing key of messages that bring none.",
                text(),
            ),
            key(
                &["ttl"],
                "How long a message that brings no ttl is worth delivering; 0: for ever.",
                limit_duration(),
            ),
            key(
                &["sign"],
                "Whether its messages are signed, where `signing: use` names a key. Default: true.",
                boolean(),
            ),
        ],
    )
}

fn exchange() -> Value {
    let described = object(
        "An exchange.",
        &[
            key(&["name"], "Its name.", name()),
            key(
                &["type"],
                "How it routes. Default: direct.",
                choice(&ExchangeKind::ALL.map(ExchangeKind::name)),
            ),
            key(
                &["durable"],
                "It survives a broker's restart. Default: true.",
                boolean(),
            ),
            key(
                &["auto_delete", "autodelete"],
                "It goes when its last binding goes. Default: false.",
                boolean(),
            ),
            key(
                &["internal"],
                "It takes no messages from publishers. Default: false.",
                boolean(),
            ),
            key(
                &["passive"],
                "It must be there already; nothing is created. Default: false.",
                boolean(),
            ),
            key(&["arguments"], ARGUMENTS, arguments()),
            old(key(&["nowait"], NO_MEANING, boolean())),
            old(key(&["ticket"], NO_MEANING, json!({}))),
        ],
    );
    json!({ "anyOf": [name(), required(described, &["name"])] })
}

const NO_MEANING: &str = "The predecessors' key, without a meaning here.";

const ARGUMENTS: &str =
    "The broker's own arguments: plain values, or pairs of a type letter (S, I, D, T, F, A, t) and a value.";

fn queue() -> Value {
    let described = object(
        "A queue.",
        &[
            key(&["name"], "Its name. Default: the consumer's.", name()),
            key(
                &["durable"],
                "It survives a broker's restart. Default: true.",
                boolean(),
            ),
            key(
                &["exclusive"],
                "It belongs to this connection alone and goes with it. Default: false.",
                boolean(),
            ),
            key(
                &["auto_delete", "autodelete"],
                "It goes when its last consumer goes. Default: false.",
                boolean(),
            ),
            key(
                &["passive"],
                "It must be there already; nothing is created. Default: false.",
                boolean(),
            ),
            key(
                &["max_priority"],
                "Priorities 0 to this are told apart. Default: none.",
                count(1, Some(255)),
            ),
            key(
                &["ttl"],
                "A message that has waited this long is expired; 0: never.",
                limit_duration(),
            ),
            key(
                &["max_length"],
                "At most this many ready messages; publishing more is refused. 0: no limit.",
                count(0, None),
            ),
            key(
                &["max_bytes"],
                "At most this many bytes of ready bodies; publishing more is refused. 0: no limit.",
                size(),
            ),
            key(&["arguments"], ARGUMENTS, arguments()),
            key(
                &["as_written"],
                "Other programs declare this queue too: it is declared with exactly these arguments. Default: false.",
                boolean(),
            ),
            old(key(&["nowait"], NO_MEANING, boolean())),
            old(key(&["ticket"], NO_MEANING, json!({}))),
            key(
                &["bindings", "binding"],
                "The exchanges it is bound to.",
                one_or_many(&binding()),
            ),
            key(
                ROUTING_KEYS,
                "The routing keys, for the consumer's `exchange`.",
                texts(),
            ),
            prefetch(),
        ],
    );
    json!({ "anyOf": [name(), described] })
}

const ROUTING_KEYS: &[&str] = &["routing_key", "routing_keys", "routing-key", "routing-keys"];

fn binding() -> Value {
    let binding = object(
        "A binding.",
        &[
            key(
                &["exchange", "name"],
                "The exchange: its name or its description.",
                exchange(),
            ),
            key(
                ROUTING_KEYS,
                "One key or several; on a topic exchange patterns: `*` is one word, `#` any number.",
                texts(),
            ),
            key(
                &["arguments"],
                "On an exchange of `type: headers`, what a message's headers must be: all of it, or with `x-match: any` one of it.",
                arguments(),
            ),
        ],
    );
    required_any(binding, &["exchange", "name"])
}

fn prefetch() -> (Vec<String>, Value) {
    let mut qos = object(
        "The predecessors' spelling.",
        &[
            key(&["prefetch_count"], "The prefetch.", count(1, Some(65_535))),
            key(&["prefetch_size"], "Must be 0: not supported.", count(0, Some(0))),
            key(&["global"], "Must be false: not supported.", boolean()),
        ],
    );
    for (_, old) in qos["properties"].as_object_mut().into_iter().flatten() {
        old["deprecated"] = json!(true);
    }
    let shape = json!({ "anyOf": [count(1, Some(65_535)), qos] });
    let meaning = "At most this many unsettled deliveries. Default: as many as are handled at once.";
    key(&["prefetch", "qos_count", "qos", "qos_options"], meaning, shape)
}

fn consumer(tables: Tables) -> Value {
    let retry = object(
        "When a failed message is tried again.",
        &[
            key(
                &["attempts"],
                "So many attempts in all, then the message is dead-lettered. Default: 5.",
                count(1, None),
            ),
            key(
                &["signals"],
                "So many deaths by a signal, then it is dead-lettered. Default: 3.",
                count(1, None),
            ),
            key(
                &["deliveries"],
                "So many deliveries under which the consumer died, then it is dead-lettered; 0: no limit. Default: 10.",
                count(0, None),
            ),
            key(
                &["backoff"],
                "How the wait grows. Default: exponential.",
                choice(&["exponential", "linear", "fixed"]),
            ),
            key(&["min"], "The first wait. Default: 1s.", duration()),
            key(&["max"], "The longest wait. Default: 10m.", duration()),
            key(
                &["jitter"],
                "Each wait is shortened by up to this share of it, at random. Default: 0.2.",
                json!({ "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, variable()] }),
            ),
        ],
    );
    let dead_letter = required(object("", &[key(&["queue"], "The queue's name.", name())]), &["queue"]);
    let replies = object(
        "",
        &[key(
            &["allow"],
            "Queues that a reply may be sent to, besides temporary ones.",
            texts(),
        )],
    );
    let consumer = object(
        "A consumer takes messages from a queue and gives each to its handler.",
        &[
            key(&["connection"], "The connection; otherwise the default one.", text()),
            key(
                &["queue", "queue_options"],
                "The queue: its name or its description. Default: called as the consumer.",
                queue(),
            ),
            key(
                &["exchange", "exchange_options"],
                "An exchange that the queue is bound to, with the queue's own routing keys.",
                exchange(),
            ),
            key(&["handler"], "What is done with a message.", handler(tables)),
            old(key(
                &["callback"],
                "The predecessor's service that takes the messages, in the place of `handler`.",
                text(),
            )),
            key(
                &["concurrency"],
                "How many messages are handled at once. Default: 1.",
                count(1, Some(1000)),
            ),
            prefetch(),
            key(&["retry"], "When a failed message is tried again.", retry),
            key(
                &["exit_codes"],
                "What a child's end means: by code (0 to 255), range (70-79), or other, signal, timeout; preset: as another tool has it.",
                exit_codes(),
            ),
            key(
                &["dead_letter"],
                "The queue for messages that are given up; `none`: they are removed; `keep`: they stay, and are tried again after the longest wait. Default: the queue's name with .dead behind it; keep for a queue that holds dead letters itself.",
                json!({ "anyOf": [name(), dead_letter] }),
            ),
            key(
                &["stop_grace"],
                "How long a stop waits for what runs; none: as long as its time-out lets it run.",
                limit_duration(),
            ),
            key(&["replies"], "Who may be answered.", replies),
            key(
                &["signing"],
                "What becomes of a message whose signature is not good. Default: off.",
                json!({ "anyOf": [
                    choice(&["off", "warn", "require"]),
                    { "enum": [false] },
                    object("How strict it is, and where its messages may have been sent to.", &[
                        key(&["mode"], "off: nobody looks; warn: it is handled and that is logged; require: it is dead-lettered.", choice(&["off", "warn", "require"])),
                        key(&["origins"], "Other queues whose messages come here.", texts()),
                    ]),
                ] }),
            ),
        ],
    );
    required_any(consumer, &["handler", "callback"])
}

fn signing() -> Value {
    let inline = object(
        "A key.",
        &[
            key(&["secret_file"], "The file that holds the key.", text()),
            key(&["secret"], "The key itself; better a variable.", text()),
        ],
    );
    object(
        "Signed messages.",
        &[
            key(
                &["keys"],
                "The keys by their names: the file that holds each.",
                json!({ "type": ["object", "null"], "additionalProperties": { "anyOf": [text(), inline] } }),
            ),
            key(
                &["use"],
                "The key that producers sign with. Default: they do not sign.",
                text(),
            ),
            key(
                &["window"],
                "How old a signed message may be, counted from when it was due; none: as old as it likes. Default: 7d.",
                limit_duration(),
            ),
        ],
    )
}

fn exit_codes() -> Value {
    const CODE: &str = "([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])";
    let presets: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
    let codes = json!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": format!("^({CODE}(-{CODE})?|other|signal|timeout|preset)$") },
        "properties": { "preset": described("The codes of another tool.", choice(&presets)) },
        "additionalProperties": choice(&["ack", "retry", "reject"]),
    });
    json!({ "anyOf": [choice(&presets), codes] })
}

fn handler(tables: Tables) -> Value {
    // Those that need no key can be named alone.
    let mut kinds: Vec<&str> = Vec::new();
    let of_kinds: Map<String, Value> = tables
        .handlers
        .iter()
        .map(|spec| {
            let offers = offered::by_handler(spec);
            let needed = offers.iter().filter(|offered| offered.required);
            let needed: Vec<&str> = needed.map(|offered| offered.key.as_str()).collect();
            let keys: Vec<_> = offers
                .iter()
                .map(|offered| key(&[&offered.key], &format!("{}.", meaning(offered.form)), shape(offered)))
                .collect();
            let keys = object(spec.about, &keys);
            if needed.is_empty() {
                kinds.push(spec.kind);
                return (spec.kind.to_owned(), keys);
            }
            (spec.kind.to_owned(), required(keys, &needed))
        })
        .collect();
    json!({ "anyOf": [
        choice(&kinds),
        { "type": "object", "properties": of_kinds, "additionalProperties": false, "minProperties": 1, "maxProperties": 1 },
    ] })
}

fn command() -> Value {
    let command = object(
        "A program and the command names it takes.",
        &[
            key(
                &["run"],
                "The program and its leading arguments; the queued command's name follows them. A relative path starts at this file's folder.",
                command_line(),
            ),
            key(
                &["worker"],
                "The program of persistent workers that take the same commands, for consumers with `mode: worker`.",
                command_line(),
            ),
            key(
                &["allow"],
                "The command names it takes: exact, with `*`, or `regexp:` anchored at both ends.",
                texts(),
            ),
            key(
                &["env"],
                "Further environment variables of the child.",
                json!({ "type": ["object", "null"], "additionalProperties": text() }),
            ),
            key(
                &["cwd"],
                "The child's working directory, relative to this file's folder.",
                text(),
            ),
            key(
                &["dash_arguments"],
                "What becomes of arguments that begin with a dash. Default: refuse.",
                choice(&["refuse", "separator", "allow"]),
            ),
        ],
    );
    required(command, &["run", "allow"])
}

fn described(meaning: &str, mut shape: Value) -> Value {
    shape["description"] = json!(meaning);
    shape
}
