//! Whole configurations: what they mean, and what is said about those that mean nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fakes::{TABLES, surroundings};
use super::schema::validator::as_json;
use super::{Config, InitAnswers, WorkerRuns, first_file, load_with, show};
use crate::ErrorKind;
use crate::consumer::{Backoff, RetryPolicy, Verdict};
use crate::error::{Error, Result};
use crate::handlers::DashArguments;
use crate::queue::{Binding, ExchangeKind, HeaderValue};
use crate::settings::{Environment, Settings, Source};

/// Loads a text as `./qctl.yml`, with further files beside it.
pub(super) fn load_files(text: &str, others: &[(&str, &str)]) -> (tempfile::TempDir, Result<Config>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in others.iter().chain([&("qctl.yml", text)]) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let config = load_with(&surroundings(folder.path()), None, TABLES);
    (folder, config)
}

pub(super) fn load(text: &str) -> Result<Config> {
    load_files(text, &[]).1
}

pub(super) fn said(result: Result<Config>) -> String {
    let error: Error = result.err().expect("this must not load");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text:?}");
    text
}

/// A text as a schema sees it.
pub(super) fn root_of(text: &str) -> Result<serde_json::Value> {
    let source = Source::new("x", "/", text.to_owned(), Environment::of::<&str, &str>([]));
    Ok(as_json(Settings::parse(source)?.to_setting().written()))
}

const FULL: &str = include_str!("full.yml");

#[test]
fn workers_mean_what_they_say() {
    let (folder, config) = load_files(FULL, &[]);
    let config = config.unwrap();
    let mail = &config.workers["mail"];
    let options = ["--messages=1000", "-l", "256", "--until-empty", "-v"].map(str::to_owned);
    assert_eq!(
        mail.runs,
        WorkerRuns::Consumer {
            name: "mail".to_owned(),
            options: options.to_vec()
        }
    );
    assert_eq!((mail.instances, mail.nice, mail.umask), (2, Some(5), Some(0o27)));
    assert_eq!(mail.cwd, Some(folder.path().join("app")));
    assert_eq!(
        mail.limits,
        [("nofile".to_owned(), Some(4096)), ("core".to_owned(), None)]
    );
    assert_eq!(mail.log.folder, Some(folder.path().join("logs")));
    assert_eq!((mail.log.size, mail.log.keep), (1 << 20, 3));
    assert_eq!(mail.stop_timeout, Some(Some(Duration::from_secs(30))));
    assert_eq!(mail.heartbeat, Some(Some(Duration::from_mins(2))));
    assert_eq!(mail.backoff, (Duration::from_millis(500), Duration::from_secs(10)));
    assert_eq!(mail.restart_on, [folder.path().join("app/current")]);
    assert_eq!(mail.expected, [0, 12]);
    let tick = &config.workers["tick"];
    let program = folder.path().join("bin/tick").display().to_string();
    assert_eq!(tick.runs, WorkerRuns::Program(vec![program, "--fast".to_owned()]));
    assert_eq!(
        (tick.stop_signal, tick.stop_timeout, tick.heartbeat),
        (2, Some(None), None)
    );
    assert_eq!(config.workers["work"].limits, [("as".to_owned(), Some(1 << 30))]);
    assert_eq!(config.watchdog_folder().unwrap(), folder.path().join("state"));
}

#[test]
fn the_bundles_list_of_workers_is_taken_as_it_is() {
    let text = "connections: { local: 'sqlite:///x/q.db' }\nconsumers: { mail: { handler: command } }\n\
                workers: { list: { one: { queue_name: mail, options: { m: 10, d: 1 } }, list: { queue_name: mail } } }\n";
    let config = load(text).unwrap();
    assert_eq!(config.workers.keys().collect::<Vec<_>>(), ["list", "one"]);
    let options = ["-m", "10", "-v"].map(str::to_owned).to_vec();
    let name = "mail".to_owned();
    assert_eq!(config.workers["one"].runs, WorkerRuns::Consumer { name, options });
}

#[test]
fn a_full_configuration_means_what_it_says() {
    let (folder, config) = load_files(FULL, &[]);
    let config = config.unwrap();
    assert_eq!(config.file, Some(folder.path().join("qctl.yml")));
    assert_eq!(config.default, "rabbit");
    assert_eq!(config.state_dir, folder.path().join("state"));
    assert_eq!(config.connections["local"].driver.name, "sqlite");
    assert_eq!(config.connections["rabbit"].driver.name, "fake");
    let store = folder.path().join("store/q.db");
    assert_eq!(
        config.connections["parts"].connector.endpoint(),
        format!("sqlite {}", store.display())
    );

    let producer = &config.producers["mail"];
    let exchange = producer.exchange.as_ref().unwrap();
    assert_eq!(
        (exchange.name.as_str(), exchange.kind, exchange.durable),
        ("mail", ExchangeKind::Topic, true)
    );
    assert_eq!(
        exchange.arguments["alternate-exchange"],
        HeaderValue::Text("spare".into())
    );
    assert_eq!(exchange.arguments["x-limit"], HeaderValue::Int(20_000));
    assert_eq!(producer.routing_key.as_deref(), Some("mail.out"));
    assert_eq!(producer.ttl, Some(Duration::from_hours(1)));
    let names = |config: &Config, name: &str| {
        let queues = &config.producers[name].topology.queues;
        queues.iter().map(|queue| queue.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&config, "mail"), ["mail", "lost-mail"]);
    assert_eq!(names(&config, "direct"), ["jobs", "jobs.dead"]);
    assert_eq!(config.producers["alone"].queue, "alone");
    assert_eq!(names(&config, "alone"), ["alone", "alone.dead"]);
    // Neither exchange nor queue nor connection: those of the consumer of the same name.
    assert_eq!(config.producers["work"].queue, "jobs");
    assert_eq!(config.producers["work"].connection, "local");

    let mail = &config.consumers["mail"];
    assert_eq!(mail.connection, "rabbit");
    assert_eq!(
        mail.queue.bindings,
        [
            Binding {
                exchange: "mail".into(),
                routing_key: "mail.#".into(),
                ..Binding::default()
            },
            Binding {
                exchange: "mail".into(),
                routing_key: "news.*".into(),
                ..Binding::default()
            },
            Binding {
                exchange: "all".into(),
                routing_key: String::new(),
                ..Binding::default()
            },
        ]
    );
    assert_eq!(mail.queue.max_priority, Some(10));
    assert_eq!(mail.queue.ttl, Some(Duration::from_hours(720)));
    assert_eq!(mail.queue.max_length, Some(1000));
    assert_eq!(mail.queue.max_bytes, Some(1 << 30));
    assert_eq!(mail.queue.dead_letter.as_deref(), Some("lost-mail"));
    let exchanges: Vec<_> = mail
        .topology
        .exchanges
        .iter()
        .map(|e| (e.name.as_str(), e.kind))
        .collect();
    assert_eq!(
        exchanges,
        [("mail", ExchangeKind::Topic), ("all", ExchangeKind::Fanout)]
    );
    let queues: Vec<_> = mail.topology.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(queues, ["mail", "lost-mail"]);
    assert_eq!(mail.handler.kind, "command");
    assert_eq!((mail.concurrency, mail.prefetch), (4, Some(8)));
    assert_eq!(
        mail.retry,
        RetryPolicy {
            attempts: 3,
            signals: 2,
            deliveries: 0,
            backoff: Backoff::Linear,
            min: Duration::from_secs(2),
            max: Duration::from_mins(5),
            jitter: 0.5,
            keep: false,
        }
    );
    for (code, verdict) in [
        (0, Verdict::Ack),
        (65, Verdict::Reject),
        (70, Verdict::Retry),
        (75, Verdict::Reject),
        (79, Verdict::Retry),
        (80, Verdict::Reject),
    ] {
        assert_eq!(mail.exit_codes.verdict(code), verdict, "{code}");
    }
    assert_eq!(mail.exit_codes.timeout, Verdict::Reject);
    assert_eq!(mail.stop_grace, Some(Duration::from_secs(30)));
    assert_eq!(mail.replies_allow, ["answers"]);

    let work = &config.consumers["work"];
    assert_eq!(work.connection, "local");
    assert_eq!(work.queue.dead_letter.as_deref(), Some("jobs.dead"));
    assert_eq!(work.retry, RetryPolicy::default());
    assert_eq!((work.concurrency, work.prefetch, work.stop_grace), (1, None, None));

    let old = &config.consumers["old"];
    assert_eq!(
        old.queue.bindings,
        [Binding {
            exchange: "old".into(),
            routing_key: "a.#".into(),
            ..Binding::default()
        }]
    );
    assert_eq!(
        (old.prefetch, old.queue.auto_delete, old.queue.dead_letter.as_deref()),
        (Some(5), true, None)
    );

    assert_eq!(config.consumers["kept"].handler.kind, "command");
    // Kept on demand, and where other consumers' dead letters are.
    for (name, expected) in [("kept", true), ("lost", true), ("old", false), ("work", false)] {
        let consumer = &config.consumers[name];
        assert_eq!(consumer.retry.keep, expected, "{name}");
        assert!(!expected || consumer.topology.queues.len() == 1, "{name}");
    }

    let console = &config.commands.entries[0];
    assert_eq!((console.name.as_str(), console.run.len()), ("console", 3));
    assert_eq!(
        console.env,
        [
            ("APP_ENV".to_owned(), "prod".to_owned()),
            ("VERSION".to_owned(), "1.10".to_owned())
        ]
    );
    assert_eq!(console.cwd.as_deref(), folder.path().join("app").to_str());
    assert_eq!(console.dash_arguments, DashArguments::Separator);
}

#[test]
fn without_a_file_there_is_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut around = surroundings(folder.path());
    let config = load_with(&around, None, TABLES).unwrap();
    assert_eq!(config.file, None);
    assert!(config.producers.is_empty() && config.consumers.is_empty() && config.commands.entries.is_empty());
    let local = config.connection(None).unwrap();
    assert_eq!((local.name.as_str(), local.driver.name), ("local", "sqlite"));
    assert_eq!(local.connector.endpoint(), "sqlite /home/me/.local/state/qctl/queue.db");
    assert_eq!(config.state_dir, Path::new("/home/me/.local/state/qctl"));
    around.environment = crate::settings::Environment::of([("XDG_STATE_HOME", "/s/${X}")]);
    let config = load_with(&around, None, TABLES).unwrap();
    assert_eq!(
        config.connections["local"].connector.endpoint(),
        "sqlite /s/${X}/qctl/queue.db"
    );
    // A file that says nothing about connections has the same one.
    assert_eq!(
        load("consumers: {a: {handler: command}}\n").unwrap().consumers["a"].connection,
        "local"
    );
    for text in ["", "{}\n", "# nothing\n", "connections:\n"] {
        assert_eq!(load(text).unwrap().default, "local");
    }
}

#[test]
fn implicit_entries_are_as_configured_ones_without_keys() {
    let config = load("producers: {x: {}}\nconsumers: {x: {handler: command}}\n").unwrap();
    let producer = super::implicit_producer("x");
    assert_eq!(format!("{producer:?}"), format!("{:?}", config.producers["x"]));
    assert_eq!(super::implicit::queue("x"), config.consumers["x"].queue);
    assert_eq!(*producer.topology, config.consumers["x"].topology);
}

/// Of thousands of entries at one exchange each would else hold, and take the time to put together, all its queues.
#[test]
fn producers_at_one_exchange_share_what_is_around_it() {
    let text = "producers: {a: {exchange: {name: x, type: fanout}}, b: {exchange: x}}\n\
                consumers: {q: {queue: {bindings: [{exchange: x}]}, handler: command}}\n";
    let config = load(text).unwrap();
    let [a, b] = ["a", "b"].map(|name| &config.producers[name].topology);
    assert_eq!(a.queues.len(), 2);
    assert!(std::sync::Arc::ptr_eq(a, b));
}

#[test]
fn no_home_matters_only_to_those_who_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut around = surroundings(folder.path());
    around.environment = crate::settings::Environment::of::<&str, &str>([]);
    let config = load_with(&around, None, TABLES).unwrap();
    let error = config.connection(None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in ["HOME is not set", "--config", "QCTL_CONFIG", "connections:"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let file = folder.path().join("qctl.yml");
    fs::write(&file, "connections: {c: \"fake://h\"}\nproducers: {p: {}}\n").unwrap();
    load_with(&around, None, TABLES).unwrap();
    fs::write(&file, "producers:\n  p: {}\n").unwrap();
    let error = said(load_with(&around, None, TABLES));
    assert!(
        error.starts_with("./qctl.yml:2: producers.p: ") && error.contains("HOME is not set"),
        "{error}"
    );
}

#[test]
fn entries_are_found_by_name_or_driver() {
    let config = load(
        "connections: {a: \"fake://h\", b: \"sqlite:///q\", c: \"sqlite:///r\"}\ndefault: a\nproducers: {mail: {}}\n",
    )
    .unwrap();
    assert_eq!(config.connection(Some("b")).unwrap().name, "b");
    assert_eq!(config.connection(Some("fake")).unwrap().name, "a");
    let kind_and_text = |error: Option<Error>| {
        let error = error.unwrap();
        (error.kind(), error.to_string())
    };
    let (kind, text) = kind_and_text(config.connection(Some("sqlite")).err());
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(
        text.contains("2 connections use the driver sqlite; name one of b, c"),
        "{text}"
    );
    let (kind, text) = kind_and_text(config.producer("mial").err());
    assert_eq!(kind, ErrorKind::NotFound);
    assert_eq!(
        text,
        "no producer is called `mial`; did you mean `mail`? (there is mail)"
    );
    let (_, text) = kind_and_text(config.consumer("x").err());
    assert_eq!(text, "no consumer is called `x` (there is none)");
}

#[test]
fn files_are_included() {
    let (folder, config) = load_files(
        "include: [more.yml, conf.d/*.yml, none.d/*.yml]\nconnections: {a: \"fake://h\"}\nproducers: {one: {}}\n",
        &[
            ("more.yml", "producers: {two: {}}\ninclude: more/deep.yml\n"),
            (
                "more/deep.yml",
                "connections: {b: {driver: sqlite, path: q.db}}\ndefault: b\n",
            ),
            ("conf.d/20.yml", "producers: {four: {}}\n"),
            ("conf.d/10.yml", "producers: {three: {}}\n"),
            ("conf.d/skipped.yml~", "rubbish: ["),
            ("conf.d/.skipped.yml", "rubbish: ["),
        ],
    );
    let config = config.unwrap();
    let files: Vec<PathBuf> = [
        "qctl.yml",
        "more.yml",
        "more/deep.yml",
        "conf.d/10.yml",
        "conf.d/20.yml",
    ]
    .iter()
    .map(|name| folder.path().join(name))
    .collect();
    assert_eq!(config.files, files);
    assert_eq!(config.producers.len(), 4);
    assert_eq!(config.default, "b");
    // Relative to the file it stands in.
    let store = folder.path().join("more/q.db");
    assert_eq!(
        config.connections["b"].connector.endpoint(),
        format!("sqlite {}", store.display())
    );
}

#[test]
fn what_is_shown_holds_no_secret() {
    let (_folder, config) = load_files(FULL, &[]);
    let shown = show(&config.unwrap());
    let text = shown.to_string();
    assert!(!text.contains("hunter2") && !text.contains("t0psecret"), "{text}");
    assert_eq!(shown["connections"]["rabbit"]["url"], "fake://app:***@broker/x");
    assert_eq!(shown["connections"]["rabbit"]["driver"], "fake");
    assert_eq!(shown["connections"]["secret"]["password"], "***");
    assert_eq!(shown["connections"]["local"]["url"], "sqlite:///var/lib/qctl/queue.db");
    assert_eq!(shown["consumers"]["exec"]["handler"]["exec"]["run"][1], "Bearer ***");
    assert_eq!(shown["consumers"]["mail"]["retry"]["max"], "5m");
    assert_eq!(shown["consumers"]["mail"]["exit_codes"]["75"], "reject");
    assert_eq!(shown["commands"]["console"]["run"][0], "php");
    assert_eq!(shown["producers"]["work"]["queue"], "jobs");
}

#[test]
fn the_first_file_loads() {
    let config = load(&first_file(&InitAnswers::default())).unwrap();
    assert_eq!(config.consumers["demo"].handler.kind, "command");
    assert_eq!(config.producers["demo"].queue, "demo");
    let answers = InitAnswers {
        url: "fake://me:${x}\"@h".to_owned(),
        queue: "a: # {b}\" \\".to_owned(),
    };
    let config = load(&first_file(&answers)).unwrap();
    assert!(config.consumers.contains_key(&answers.queue));
    assert_eq!(config.default, "main");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn the_first_file_loads_whatever_was_answered(rest in "\\PC{1,30}", queue in "\\PC{1,30}") {
        let answers = InitAnswers { url: format!("fake://{rest}"), queue };
        let config = load(&first_file(&answers)).unwrap();
        proptest::prop_assert!(config.consumers.contains_key(&answers.queue));
    }
}
