//! Exchanges, queues and bindings as written.

use super::arguments::arguments;
use super::names::{check_name, check_routing_key};
use crate::error::Result;
use crate::queue::{Exchange, ExchangeKind, Headers, Queue};
use crate::settings::{Setting, Settings};

const AUTO_DELETE: &[&str] = &["auto_delete", "autodelete"];
const ROUTING_KEYS: &[&str] = &["routing_key", "routing_keys", "routing-key", "routing-keys"];

/// An exchange, by its name alone or described.
pub(super) struct ExchangeDraft {
    pub(super) name: String,
    pub(super) described: Option<Exchange>,
    pub(super) setting: Setting,
}

pub(super) fn exchange(setting: &Setting) -> Result<ExchangeDraft> {
    let (name, described) = if setting.is_map() {
        let exchange = described_exchange(setting.settings()?)?;
        (exchange.name.clone(), Some(exchange))
    } else {
        (setting.text()?, None)
    };
    check_name(setting, "an exchange", &name)?;
    Ok(ExchangeDraft {
        name,
        described,
        setting: setting.clone(),
    })
}

fn described_exchange(mut settings: Settings) -> Result<Exchange> {
    let name = settings.text(&["name"])?;
    let kinds = ExchangeKind::ALL.map(|kind| (kind.name(), kind));
    let exchange = Exchange {
        name: name.clone().unwrap_or_default(),
        kind: settings.choice(&["type"], &kinds)?.unwrap_or_default(),
        durable: settings.boolean(&["durable"])?.unwrap_or(true),
        auto_delete: settings.boolean(AUTO_DELETE)?.unwrap_or(false),
        internal: settings.boolean(&["internal"])?.unwrap_or(false),
        passive: settings.boolean(&["passive"])?.unwrap_or(false),
        arguments: native_arguments(&mut settings)?,
    };
    of_the_wire(&mut settings)?;
    settings.check_unknown()?;
    match name {
        Some(_) => Ok(exchange),
        None => Err(settings.missing("name", "the exchange's name")),
    }
}

/// What only AMQP's wire protocol knows: predecessors write it, and nothing follows from it.
fn of_the_wire(settings: &mut Settings) -> Result<()> {
    settings.boolean(&["nowait"])?;
    settings.setting(&["ticket"])?;
    Ok(())
}

fn native_arguments(settings: &mut Settings) -> Result<Headers> {
    match settings.setting(&["arguments"])? {
        Some(setting) => arguments(&setting),
        None => Ok(Headers::new()),
    }
}

/// A binding: the exchange, the keys, and what is compared with headers.
pub(super) struct BindingDraft {
    pub(super) exchange: ExchangeDraft,
    pub(super) keys: Vec<String>,
    pub(super) arguments: Headers,
}

/// A consumer's `queue:`.
pub(super) struct QueueDraft {
    /// The queue; without bindings and dead-letter queue, which are not its own affair.
    pub(super) queue: Queue,
    /// It is described, not just named.
    pub(super) described: bool,
    pub(super) bindings: Vec<BindingDraft>,
    /// Routing keys at the queue itself, for the consumer's `exchange`.
    pub(super) keys: Option<(Setting, Vec<String>)>,
    /// A prefetch at the queue, where a predecessor has it.
    pub(super) prefetch: Option<usize>,
    pub(super) setting: Setting,
}

/// Reads `queue:`; without one, the queue is called as the consumer.
pub(super) fn queue(consumer: &str, of_consumer: &Setting, setting: Option<Setting>) -> Result<QueueDraft> {
    let named = |name: String, setting: Setting| QueueDraft {
        queue: Queue {
            name,
            durable: true,
            ..Queue::default()
        },
        described: false,
        bindings: Vec::new(),
        keys: None,
        prefetch: None,
        setting,
    };
    let draft = match setting {
        None => named(consumer.to_owned(), of_consumer.clone()),
        Some(setting) if setting.is_map() => described_queue(consumer, &setting)?,
        Some(setting) => named(setting.text()?, setting),
    };
    check_name(&draft.setting, "a queue", &draft.queue.name)?;
    Ok(draft)
}

fn described_queue(consumer: &str, setting: &Setting) -> Result<QueueDraft> {
    let mut settings = setting.settings()?;
    let queue = Queue {
        name: settings.text(&["name"])?.unwrap_or_else(|| consumer.to_owned()),
        durable: settings.boolean(&["durable"])?.unwrap_or(true),
        exclusive: settings.boolean(&["exclusive"])?.unwrap_or(false),
        auto_delete: settings.boolean(AUTO_DELETE)?.unwrap_or(false),
        passive: settings.boolean(&["passive"])?.unwrap_or(false),
        bindings: Vec::new(),
        max_priority: settings.count_within(&["max_priority"], 1, 255)?.map(|most| most as u8),
        ttl: settings.limit_duration(&["ttl"])?.flatten(),
        // 0 is no limit, as everywhere.
        max_length: settings.count(&["max_length"])?.filter(|limit| *limit > 0),
        max_bytes: settings.size(&["max_bytes"])?.filter(|limit| *limit > 0),
        dead_letter: None,
        arguments: native_arguments(&mut settings)?,
        as_written: settings.boolean(&["as_written"])?.unwrap_or(false),
    };
    let bindings = match settings.setting(&["bindings", "binding"])? {
        None => Vec::new(),
        Some(list) => list.list()?.iter().map(binding).collect::<Result<_>>()?,
    };
    let keys = match settings.setting(ROUTING_KEYS)? {
        None => None,
        Some(setting) => Some((setting.clone(), routing_keys(&setting)?)),
    };
    let prefetch = prefetch(&mut settings)?;
    of_the_wire(&mut settings)?;
    settings.finish()?;
    Ok(QueueDraft {
        queue,
        described: true,
        bindings,
        keys,
        prefetch,
        setting: setting.clone(),
    })
}

fn binding(setting: &Setting) -> Result<BindingDraft> {
    let mut settings = setting.settings()?;
    let named = settings.setting(&["exchange", "name"])?;
    let keys = match settings.setting(ROUTING_KEYS)? {
        Some(setting) => routing_keys(&setting)?,
        None => Vec::new(),
    };
    let arguments = native_arguments(&mut settings)?;
    settings.check_unknown()?;
    match named {
        Some(named) => Ok(BindingDraft {
            exchange: exchange(&named)?,
            keys,
            arguments,
        }),
        None => Err(settings.missing("exchange", "the exchange that the queue is bound to")),
    }
}

fn routing_keys(setting: &Setting) -> Result<Vec<String>> {
    let keys = setting.texts()?;
    for key in &keys {
        check_routing_key(setting, key)?;
    }
    Ok(keys)
}

/// `prefetch`, and how the predecessors spell it: `qos_count: 5`, `qos: {prefetch_count: 5}`.
pub(super) fn prefetch(settings: &mut Settings) -> Result<Option<usize>> {
    const MOST: u64 = 65_535;
    let Some(setting) = settings.setting(&["prefetch", "qos_count", "qos", "qos_options"])? else {
        return Ok(None);
    };
    if !setting.is_map() {
        return Ok(Some(setting.count_within(1, MOST)? as usize));
    }
    let mut qos = setting.settings()?;
    let count = qos
        .count_within(&["prefetch_count"], 1, MOST)?
        .map(|count| count as usize);
    if qos.count(&["prefetch_size"])?.unwrap_or(0) != 0 {
        return Err(qos.error("prefetch_size", "is not supported, and 0 means none; remove it"));
    }
    if qos.boolean(&["global"])?.unwrap_or(false) {
        return Err(qos.error(
            "global",
            "is not supported: a prefetch is each consumer's own; remove it",
        ));
    }
    qos.finish()?;
    Ok(count)
}
