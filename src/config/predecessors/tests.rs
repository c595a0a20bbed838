//! No file of a predecessor's, however wrong, ends in anything but a configuration or an error of one line.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Map, Value, json};

use super::super::fakes::surroundings;
use super::super::{Tables, load_with};
use crate::settings::{Environment, Settings, Source};

/// Values as people and accidents write them.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..6000).prop_map(Value::from),
        prop_oneof![
            Just("a"),
            Just("%p%"),
            Just("x-%p%%q%"),
            Just("%env(HOST)%"),
            Just("#"),
            Just("*"),
            Just("topic"),
            Just(""),
            Just("x-max-length:2:I"),
            Just("${X}"),
            Just("regexp:/^a/"),
            Just("message_consumer.console_command"),
            Just("message_consumer.http_request"),
            Just("I"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            map(inner.boxed()),
        ]
    })
}

fn map(inner: prop::strategy::BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(KEYS);
    prop::collection::vec((keys, inner), 0..5).prop_map(|entries| {
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
        Value::Object(entries.collect::<Map<_, _>>())
    })
}

const KEYS: &[&str] = &[
    "connections",
    "producers",
    "consumers",
    "default",
    "a",
    "connection",
    "exchange_options",
    "queue_options",
    "queue-options",
    "name",
    "type",
    "durable",
    "declare",
    "passive",
    "arguments",
    "x-max-length",
    "routing_keys",
    "routing-keys",
    "callback",
    "qos_options",
    "prefetch_count",
    "qos_count",
    "class",
    "binding",
    "host",
    "port",
    "url",
    "hosts",
    "ssl_context",
    "cafile",
];

/// A map of entries, each nearly as it should be.
fn section() -> impl Strategy<Value = Value> {
    let entry = prop_oneof![value(), map(map(value().boxed()).boxed())];
    prop::collection::vec(("[ab]", entry), 0..3)
        .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
}

proptest! {
    #[test]
    fn no_file_panics(
        connections in section(),
        producers in section(),
        consumers in section(),
        parameter in value(),
        list in value(),
        services in value(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let sections = json!({ "connections": connections, "producers": producers, "consumers": consumers });
        let symfony = json!({
            "parameters": { "p": parameter, "q": "%p%", "kaliop_queueing.default.allowed_commands": list, "kaliop_queueing.default.allowed_urls": list },
            "services": services,
            "old_sound_rabbit_mq": sections,
        });
        let mut ko_worker = sections.clone();
        ko_worker["consumers"]["class"] = json!({ "class": "A", "queue_options": { "name": "c", "binding": list } });
        for file in [&symfony, &ko_worker] {
            std::fs::write(folder.path().join("qctl.yml"), file.to_string()).unwrap();
            let around = surroundings(folder.path());
            match load_with(&around, None, Tables::built_in()) {
                Ok(config) => drop(super::super::show(&config)),
                Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
            }
            if let Ok(imported) = super::import::import(&around, &folder.path().join("qctl.yml"), None) {
                // What was written is YAML again, whatever it means.
                let source = Source::new("new", "/", imported.text.clone(), Environment::of::<&str, &str>([]));
                Settings::parse(source).unwrap_or_else(|error| panic!("{error}: {}", imported.text));
            }
        }
    }
}
