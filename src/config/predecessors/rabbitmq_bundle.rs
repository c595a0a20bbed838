//! The section `old_sound_rabbit_mq` of RabbitMqBundle, which the Kaliop bundle stands on.

use std::collections::HashSet;

use super::amqp::{self, ExchangeOptions};
use super::entries::{Bound, Entries, Sender, Taker, Target};
use super::kaliop;
use super::options::{Options, Remains, Section, is};
use crate::config::decode::Tables;
use crate::error::Result;
use crate::settings::{Content, Piece, Value};

/// Keys of connections that are qctl's too. A driver refuses those that it does not know, so no others get there.
const OF_CONNECTIONS: &[&str] = &["url", "host", "port", "user", "login", "password", "vhost", "heartbeat"];
/// Those of them that are no text.
const NUMBERS: &[&str] = &["port", "heartbeat"];
/// Those that a URL says as well; the bundle lets the URL win.
const IN_URL: &[&str] = &["host", "hosts", "port", "user", "login", "password", "vhost"];
/// PHP's names of the certificates, and qctl's.
const CERTIFICATES: &[(&str, &str)] = &[
    ("cafile", "ca_file"),
    ("local_cert", "cert_file"),
    ("local_pk", "key_file"),
    ("peer_name", "server_name"),
];

const REASONS: &[(&str, &str)] = &[
    ("connection_timeout", "qctl has `--connect-timeout` for all connections"),
    ("read_write_timeout", "qctl notices a dead broker by the heartbeat"),
    ("channel_rpc_timeout", "qctl notices a dead broker by the heartbeat"),
    ("idle_timeout", "use `qctl consumer --idle SECS`"),
    (
        "idle_timeout_exit_code",
        "use `qctl consumer --idle SECS --limit-exit-code N`",
    ),
    ("graceful_max_execution", "use `qctl consumer -t SECS`"),
    ("graceful_max_execution_timeout", "use `qctl consumer -t SECS`"),
    (
        "verify_peer",
        "qctl verifies every certificate; name the authority with `cafile`",
    ),
    (
        "verify_peer_name",
        "qctl verifies every certificate; give its name with `peer_name`",
    ),
    ("multiple_consumers", NOT_CONSUMERS),
    ("batch_consumers", NOT_CONSUMERS),
    ("dynamic_consumers", NOT_CONSUMERS),
    ("anon_consumers", NOT_CONSUMERS),
    ("rpc_clients", "`qctl queuecommand --wait` waits for replies without it"),
    ("rpc_servers", NOT_CONSUMERS),
    (
        "bindings",
        "the application makes them (`rabbitmq:setup-fabric`); qctl binds the queues of its consumers",
    ),
];
const NOT_CONSUMERS: &str = "only what stands under `consumers` becomes a consumer of qctl";

/// What the bundle's section comes to.
#[derive(Default)]
pub(super) struct Bundle {
    pub(super) connections: Vec<(String, Piece)>,
    pub(super) entries: Entries,
}

/// What a reader of the section needs besides it.
pub(super) struct Around<'a> {
    pub(super) tables: Tables,
    /// The `services:` of the application.
    pub(super) services: Option<&'a Piece>,
    /// What its HTTP requests may go to.
    pub(super) urls: Option<&'a Piece>,
    /// Connections that qctl's own files give, so that nothing need be known of these.
    pub(super) replaced: &'a HashSet<String>,
}

/// Reads the section.
pub(super) fn read(mut section: Options<'_>, around: &Around<'_>, remains: &mut Remains) -> Result<Bundle> {
    let mut bundle = Bundle::default();
    // Where an entry names no connection, the bundle takes the one of this name.
    let mut has_default = false;
    for (name, options) in section.named("connections")? {
        has_default |= name == DEFAULT;
        if !around.replaced.contains(&name) {
            remains.of_entry(Section::Connections, &name);
            let connection = connection(options, remains)?;
            bundle.connections.push((name, connection));
        }
    }
    let default = has_default.then_some(DEFAULT);
    for (name, options) in section.named("producers")? {
        remains.of_entry(Section::Producers, &name);
        bundle
            .entries
            .producers
            .extend(producer(name, options, default, remains)?);
    }
    for (name, options) in section.named("consumers")? {
        remains.of_entry(Section::Consumers, &name);
        bundle
            .entries
            .consumers
            .extend(consumer(name, options, default, around, remains)?);
    }
    remains.of_all();
    section.pass_over(&["debug", "enable_collector", "sandbox"]);
    section.finish(REASONS, remains);
    Ok(bundle)
}

const DEFAULT: &str = "default";

fn connection(mut options: Options<'_>, remains: &mut Remains) -> Result<Piece> {
    let place = options.piece.clone();
    let mut entries = Vec::new();
    let has_url = options.has("url");
    for &key in OF_CONNECTIONS {
        let piece = if NUMBERS.contains(&key) {
            options.take(&[key])?
        } else {
            options.text(&[key])?
        };
        if let Some(piece) = piece
            && !(has_url && IN_URL.contains(&key))
        {
            entries.push((key, piece));
        }
    }
    if let Some(hosts) = hosts(&mut options, remains)?
        && !has_url
    {
        entries.retain(|(key, _)| !["host", "port"].contains(key));
        entries.push(("host", hosts));
    }
    // As the bundle has it where nothing is said.
    if !entries.iter().any(|(key, _)| ["url", "host"].contains(key)) {
        entries.insert(0, ("host", place.made_text("localhost")));
    }
    if let Some(mut context) = options.map(&["ssl_context"])? {
        let mut tls = Vec::new();
        for (theirs, ours) in CERTIFICATES {
            tls.extend(context.take(&[theirs])?.map(|piece| (*ours, piece)));
        }
        // That is what qctl does.
        for key in ["verify_peer", "verify_peer_name"] {
            if is(context.clone().boolean(&[key])?.as_ref(), true) {
                context.pass_over(&[key]);
            }
        }
        let place = context.piece.clone();
        let is_given = !matches!(place.content(), Content::Scalar(_)) && place.value() != Value::Map(Vec::new());
        context.finish(REASONS, remains);
        if is_given {
            let tls = if tls.is_empty() {
                place.made(Content::Scalar(Value::Bool(true)))
            } else {
                place.made_map(tls)
            };
            entries.push(("tls", tls));
        }
    }
    options.pass_over(&[
        "lazy",
        "keepalive",
        "use_socket",
        "connection_parameters_provider",
        "login_method",
    ]);
    options.finish(REASONS, remains);
    Ok(place.made_map(entries))
}

/// Several brokers of one connection: maps of the same keys.
fn hosts(options: &mut Options<'_>, remains: &mut Remains) -> Result<Option<Piece>> {
    let place = options.piece.clone();
    let mut texts = Vec::new();
    for mut host in options.maps(&["hosts"])? {
        let Some(name) = host.text(&["host"])? else {
            continue;
        };
        let text = name.as_text().unwrap_or_default().to_owned();
        let text = match host.text(&["port"])? {
            Some(port) => format!("{text}:{}", port.as_text().unwrap_or_default()),
            None => text,
        };
        texts.push(name.made_text(text));
        host.finish(&[("user", SAME), ("password", SAME), ("vhost", SAME)], remains);
    }
    Ok((!texts.is_empty()).then(|| place.made(Content::List(texts))))
}

const SAME: &str = "the brokers of a connection have the same in qctl";

fn connection_of(options: &mut Options<'_>, default: Option<&str>) -> Result<Option<Piece>> {
    let place = options.piece.clone();
    let named = options.text(&["connection"])?;
    Ok(named.or_else(|| default.map(|name| place.made_text(name))))
}

fn exchange(options: &mut Options<'_>, remains: &mut Remains) -> Result<Option<ExchangeOptions>> {
    let Some(mut exchange) = options.map(&["exchange_options"])? else {
        return Ok(None);
    };
    let read = amqp::exchange(&mut exchange)?;
    exchange.finish(REASONS, remains);
    Ok(read)
}

fn producer(
    name: String,
    mut options: Options<'_>,
    default: Option<&str>,
    remains: &mut Remains,
) -> Result<Option<Sender>> {
    let place = options.piece.clone();
    let connection = connection_of(&mut options, default)?;
    let exchange = exchange(&mut options, remains)?.filter(|exchange| !exchange.is_default());
    let routing_key = options.text(&["default_routing_key"])?;
    let queue = match options.map(&["queue_options"])? {
        Some(mut queue) => {
            let read = amqp::queue(&mut queue)?;
            queue.finish(REASONS, remains);
            read
        }
        None => None,
    };
    options.pass_over(&[
        "auto_setup_fabric",
        "enable_logger",
        "class",
        "default_delivery_mode",
        "service_alias",
    ]);
    let target = match (exchange, queue, &routing_key) {
        (Some(exchange), queue, _) => {
            if let Some(queue) = queue {
                remains.add(
                    "queue_options",
                    &queue.place,
                    "a producer of qctl declares the queues of the consumers that are bound to its exchange",
                );
            }
            Target::Exchange(exchange)
        }
        // On the default exchange the routing key is the queue's name.
        (None, Some(queue), _) => Target::Queue(queue.name),
        (None, None, Some(key)) => Target::Queue(key.clone()),
        (None, None, None) => {
            remains.add(
                &name,
                &place,
                format!(
                    "it sends to the default exchange, where a routing key is a queue's name, and none is given; write \
                     `producers: {{ {name}: {{ queue: NAME }} }}` in a qctl.yml that includes this file"
                ),
            );
            return Ok(None);
        }
    };
    options.finish(REASONS, remains);
    let routing_key = routing_key.filter(|_| matches!(target, Target::Exchange(_)));
    Ok(Some(Sender {
        name,
        place,
        connection,
        target,
        routing_key,
    }))
}

fn consumer(
    name: String,
    mut options: Options<'_>,
    default: Option<&str>,
    around: &Around<'_>,
    remains: &mut Remains,
) -> Result<Option<Taker>> {
    let place = options.piece.clone();
    let connection = connection_of(&mut options, default)?;
    let exchange = exchange(&mut options, remains)?.filter(|exchange| !exchange.is_default());
    let queue = match options.map(&["queue_options"])? {
        Some(mut queue) => {
            let read = amqp::queue(&mut queue)?;
            queue.finish(REASONS, remains);
            read
        }
        None => None,
    };
    let prefetch = match options.map(&["qos_options"])? {
        Some(mut qos) => {
            qos.pass_over(&["prefetch_size", "global"]);
            let count = qos.take(&["prefetch_count"])?;
            qos.finish(REASONS, remains);
            // 0 was no limit; here that is what there are slots for.
            count.filter(|count| count.value() != Value::Int(0))
        }
        None => None,
    };
    let handler = match options.text(&["callback"])? {
        Some(callback) => kaliop::handler(&callback, around.services, around.urls, around.tables),
        None => kaliop::elsewhere(&place, "a callback that is not named"),
    };
    options.pass_over(&["auto_setup_fabric", "enable_logger", "timeout_wait"]);
    options.finish(REASONS, remains);
    let Some(queue) = queue else {
        remains.add(
            &name,
            &place,
            "its queue has no name, so that the broker makes one up for each consumer; qctl takes from queues by name",
        );
        return Ok(None);
    };
    let bindings = match exchange.filter(|_| !queue.undeclared) {
        Some(exchange) => vec![Bound {
            place: queue.place.clone(),
            // The bundle binds with the arguments that it declares the queue with.
            arguments: queue.option("arguments").filter(|_| exchange.is_by_headers()),
            exchange,
            keys: queue.keys.clone(),
        }],
        None => Vec::new(),
    };
    Ok(Some(Taker {
        name,
        place,
        connection,
        queue,
        bindings,
        handler,
        prefetch,
    }))
}
