//! Configurations of predecessors mean the same as they are and as `qctl config import` writes them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use qctl::config::{self, Config, Predecessor, Surroundings};
use qctl::queue::{ExchangeKind, HeaderValue};
use qctl::settings::Environment;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/predecessors")
        .join(name)
}

const KALIOP: &str = "kaliop/app/config/config.yml";
const BUNDLE: &str = "rabbitmq-bundle/config/packages/old_sound_rabbit_mq.yaml";
const KO_WORKER: &str = "ko-worker/config.yml";

/// The variables that the fixtures name, and those that an import makes of their secrets.
const VARIABLES: &[(&str, &str)] = &[
    ("HOME", "/home/somebody"),
    ("RABBITMQ_URL", "amqp://me:hunter2@broker/%2f"),
    ("RABBITMQ_HEARTBEAT", "20"),
    ("REPORTS_PASSWORD", "hunter3"),
    ("RABBIT_PASSWORD", "100%safe"),
];

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        folder: Some(PathBuf::from("/")),
        user: rustix::process::geteuid().as_raw(),
        environment: Environment::of(variables.iter().copied()),
        system_file: PathBuf::from("/nonexistent/qctl.yml"),
        program: PathBuf::from("qctl"),
    }
}

fn load(file: &Path) -> Config {
    config::load(&surroundings(VARIABLES), Some(file)).unwrap_or_else(|error| panic!("{error}"))
}

fn import(name: &str, from: Option<Predecessor>, variables: &[(&str, &str)]) -> config::Imported {
    config::import(&surroundings(variables), &fixture(name), from).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_imported_means_the_same() {
    for (name, predecessor) in [
        (KALIOP, Predecessor::Kaliop),
        (BUNDLE, Predecessor::RabbitMqBundle),
        (KO_WORKER, Predecessor::KoWorker),
    ] {
        let original = load(&fixture(name));
        // Nothing need be set while it is imported.
        for variables in [VARIABLES, &[]] {
            let imported = import(name, None, variables);
            assert_eq!(imported.predecessor, predecessor);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("qctl.yml");
            fs::write(&file, &imported.text).unwrap();
            let anew = load(&file);
            same(&original, &anew, &imported.text);
            assert!(
                !original.warnings.is_empty() && anew.warnings.is_empty(),
                "{:?}",
                anew.warnings
            );
            assert!(anew.left_out.is_empty());
            assert_eq!(original.left_out.len(), imported.left_out.len());
        }
    }
}

fn same(original: &Config, anew: &Config, text: &str) {
    assert_eq!(original.default, anew.default);
    let endpoints = |config: &Config| {
        let entries = config.connections.values();
        entries
            .map(|entry| (entry.name.clone(), entry.connector.endpoint()))
            .collect::<Vec<_>>()
    };
    assert_eq!(endpoints(original), endpoints(anew));
    assert_eq!(
        original.producers.keys().collect::<Vec<_>>(),
        anew.producers.keys().collect::<Vec<_>>()
    );
    for (name, one) in &original.producers {
        let other = &anew.producers[name];
        assert_eq!(one.connection, other.connection, "{name}");
        assert_eq!(one.exchange, other.exchange, "{name}");
        assert_eq!(one.queue, other.queue, "{name}");
        assert_eq!(one.routing_key, other.routing_key, "{name}");
        assert_eq!(one.topology, other.topology, "{name}: {text}");
    }
    assert_eq!(
        original.consumers.keys().collect::<Vec<_>>(),
        anew.consumers.keys().collect::<Vec<_>>()
    );
    for (name, one) in &original.consumers {
        let other = &anew.consumers[name];
        assert_eq!(one.connection, other.connection, "{name}");
        assert_eq!(one.queue, other.queue, "{name}: {text}");
        assert_eq!(one.topology, other.topology, "{name}");
        assert_eq!(one.handler.kind, other.handler.kind, "{name}");
        assert_eq!(one.prefetch, other.prefetch, "{name}");
        assert_eq!(one.retry, other.retry, "{name}");
        assert_eq!(one.retry.attempts, 1, "{name}");
        assert!(one.queue.as_written, "{name}");
    }
    assert_eq!(original.commands.patterns(), anew.commands.patterns());
    let programs = |config: &Config| {
        config
            .commands
            .entries
            .iter()
            .map(|entry| entry.run.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(programs(original), programs(anew));
}

#[test]
fn a_kaliop_configuration_means_what_it_meant() {
    let config = load(&fixture(KALIOP));
    assert_eq!(
        config.connections["default"].connector.endpoint(),
        "amqp://shop-app@rabbit.example.com:5672/%2f"
    );
    let commands = &config.producers["commands"];
    let exchange = commands.exchange.as_ref().unwrap();
    assert_eq!(
        (exchange.name.as_str(), exchange.kind, exchange.durable),
        ("shop.commands", ExchangeKind::Topic, true)
    );
    let names: Vec<&str> = commands
        .topology
        .queues
        .iter()
        .map(|queue| queue.name.as_str())
        .collect();
    assert_eq!(names, ["shop.commands", "shop.commands.dead"]);
    assert_eq!(config.producers["mail"].routing_key.as_deref(), Some("mail.out"));

    let consumer = &config.consumers["commands"];
    assert_eq!(consumer.handler.kind, "command");
    assert_eq!(consumer.prefetch, Some(2));
    assert_eq!(consumer.queue.arguments["x-max-length"], HeaderValue::Int(20_000));
    assert_eq!(consumer.queue.bindings[0].routing_key, "#");
    assert_eq!(consumer.queue.dead_letter.as_deref(), Some("shop.commands.dead"));
    // The oldest form of arguments, and a service that is a child of the bundle's.
    let mail = &config.consumers["mail"];
    assert_eq!(mail.queue.arguments["x-max-priority"], HeaderValue::Int(10));
    assert_eq!(mail.handler.kind, "elsewhere");
    let keys: Vec<&str> = mail
        .queue
        .bindings
        .iter()
        .map(|binding| binding.routing_key.as_str())
        .collect();
    assert_eq!(keys, ["mail.*", "news.#"]);
    assert_eq!(config.consumers["nightly"].handler.kind, "command");

    let entry = &config.commands.entries[0];
    assert_eq!(entry.run[0], "php");
    assert!(entry.run[1].ends_with("kaliop/app/console"), "{:?}", entry.run);
    for (name, expected) in [
        ("cache:clear", true),
        ("shop:import:all", true),
        ("sales:REPORT", true),
        ("shop:delete", false),
        ("my:shop:import:all", false),
    ] {
        assert_eq!(config.commands.allowed(name).is_some(), expected, "{name}");
    }
}

#[test]
fn a_bundle_s_configuration_means_what_it_meant() {
    let config = load(&fixture(BUNDLE));
    assert_eq!(config.default, "main");
    assert_eq!(
        config.connections["reports"].connector.endpoint(),
        "amqps://reports@one.example.com:5671,two.example.com:5671/reports"
    );
    // On the default exchange a queue's name is the routing key.
    assert_eq!(config.producers["direct"].queue, "direct");
    // Who says `passive` is given what another describes.
    let events = config.producers["events"].exchange.as_ref().unwrap();
    assert!(!events.passive && events.kind == ExchangeKind::Fanout);
    let queue = &config.consumers["events"].queue;
    assert_eq!(
        queue.arguments["x-dead-letter-exchange"],
        HeaderValue::Text("lost".into())
    );
    assert_eq!(queue.arguments["x-message-ttl"], HeaderValue::Int(60_000));
    assert_eq!(queue.arguments["x-ha-policy"], HeaderValue::Text("all".into()));
    assert_eq!(queue.dead_letter.as_deref(), Some("events.dead"));
    assert!(config.consumers["audit"].queue.passive && config.consumers["audit"].queue.bindings.is_empty());
    let foreign = &config.consumers["shared"].topology.exchanges[0];
    assert!(foreign.passive && foreign.kind == ExchangeKind::Topic);
    // It binds with the arguments that it declares the queue with.
    let labelled = &config.consumers["labelled"].queue;
    assert_eq!(
        config.consumers["labelled"].topology.exchanges[0].kind,
        ExchangeKind::Headers
    );
    assert_eq!(
        labelled.bindings[0].arguments["format"],
        HeaderValue::Text("pdf".into())
    );
    assert_eq!(labelled.bindings[0].arguments, labelled.arguments);
    assert!(!config.consumers.contains_key("temporary") && !config.producers.contains_key("loose"));
    assert_eq!(config.consumers["upload_picture"].prefetch, None);
    // What belongs to no key of qctl's is told once each.
    let told = |what: &str| {
        config
            .left_out
            .iter()
            .filter(|left| left.to_string().contains(what))
            .count()
    };
    for what in [
        "graceful_max_execution",
        "multiple_consumers",
        "rpc_servers",
        "consumers.temporary",
        "producers.loose",
    ] {
        assert_eq!(told(what), 1, "{what}");
    }
    assert_eq!(config.left_out.len(), 5, "{:#?}", config.left_out);
}

#[test]
fn ko_workers_configuration_means_what_it_meant() {
    let config = load(&fixture(KO_WORKER));
    assert_eq!(config.default, "main");
    assert_eq!(
        config.connections["main"].connector.endpoint(),
        "amqp://worker@rabbit.example.com:5672/%2f"
    );
    let mail = &config.consumers["mail"];
    assert_eq!((mail.prefetch, mail.queue.auto_delete), (Some(5), false));
    assert_eq!(mail.queue.bindings[0].exchange, "mail");
    let spare = &config.consumers["spare"];
    let foreign = &spare.topology.exchanges[0];
    assert_eq!((spare.connection.as_str(), foreign.name.as_str()), ("spare", "foreign"));
    assert!(foreign.passive && foreign.kind == ExchangeKind::Topic);
}

#[test]
fn no_secret_of_a_parameter_or_variable_is_written() {
    for name in [KALIOP, BUNDLE] {
        let imported = import(name, None, VARIABLES);
        for secret in ["100%", "hunter"] {
            assert!(!imported.text.contains(secret), "{}", imported.text);
        }
        assert!(!imported.holds_secret);
    }
    assert!(
        import(KALIOP, None, VARIABLES)
            .text
            .contains("password: \"${RABBIT_PASSWORD}\"\n")
    );
    // What stands in the file itself is written as it is, and told.
    let imported = import(KO_WORKER, None, VARIABLES);
    assert!(imported.holds_secret && imported.text.contains("password: hunter2\n"));
    assert_eq!(
        import(BUNDLE, None, &[]).unset,
        ["RABBITMQ_HEARTBEAT", "RABBITMQ_URL", "REPORTS_PASSWORD"]
    );
}

#[test]
fn whose_it_is_can_be_said() {
    assert_eq!(
        import(KALIOP, Some(Predecessor::RabbitMqBundle), VARIABLES).predecessor,
        Predecessor::RabbitMqBundle
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    fs::write(&file, "consumers: { a: { queue_options: { name: a, binding: [] } } }\n").unwrap();
    let surroundings = surroundings(VARIABLES);
    let error = config::import(&surroundings, &file, None).err().unwrap().to_string();
    assert!(
        error.contains("is not recognised as a predecessor's configuration"),
        "{error}"
    );
    let imported = config::import(&surroundings, &file, Some(Predecessor::KoWorker)).unwrap();
    assert!(imported.text.contains("as_written: true"), "{}", imported.text);
}

/// A password of digits is none without its zeros.
#[test]
fn numbers_that_are_text_keep_their_form() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    fs::write(
        &file,
        "old_sound_rabbit_mq:\n  connections: { default: { user: 007, vhost: 1.10, port: 0x1F90 } }\n  consumers:\n    a:\n      \
         callback: x\n      queue_options: { name: 010, arguments: { x-ha-policy: [S, 1.50], x-max-length: [I, 0x10] } }\n",
    )
    .unwrap();
    let original = load(&file);
    assert_eq!(
        original.connections["default"].connector.endpoint(),
        "amqp://007@localhost:8080/1.10"
    );
    let queue = &original.consumers["a"].queue;
    assert_eq!(queue.name, "010");
    assert_eq!(queue.arguments["x-ha-policy"], HeaderValue::Text("1.50".into()));
    assert_eq!(queue.arguments["x-max-length"], HeaderValue::Int(16));
    let imported = config::import(&surroundings(VARIABLES), &file, None).unwrap();
    let anew = folder.path().join("qctl.yml");
    fs::write(&anew, &imported.text).unwrap();
    same(&original, &load(&anew), &imported.text);
}
