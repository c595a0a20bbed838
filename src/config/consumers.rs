//! `consumers:`: where messages come from, which handler takes them, and what becomes of failures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decode::Tables;
use super::names::{check_name, those_there_are};
use super::queues::{self, BindingDraft, QueueDraft};
use super::signing;
use crate::consumer::{Backoff, ExitCodes, RetryPolicy, Verdict};
use crate::error::Result;
use crate::handlers::HandlerSpec;
use crate::queue::topology::usual_dead_letter;
use crate::queue::{HeaderValue, Headers, Queue};
use crate::settings::{Setting, Settings, Value};
use crate::signing::Strictness;

/// What `dead_letter:` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeadLetter {
    /// Nothing: `<queue>.dead`.
    Unsaid,
    /// What is given up is removed.
    None,
    /// What is given up stays where it is, and is tried again after the longest wait.
    Keep,
    /// This queue.
    Queue(String),
}

/// A consumer as written.
pub(super) struct ConsumerDraft {
    pub(super) name: String,
    pub(super) setting: Setting,
    pub(super) connection: Option<Setting>,
    pub(super) queue: QueueDraft,
    pub(super) dead_letter: DeadLetter,
    pub(super) handler: &'static HandlerSpec,
    pub(super) handler_settings: Settings,
    pub(super) concurrency: usize,
    pub(super) prefetch: Option<usize>,
    pub(super) retry: RetryPolicy,
    pub(super) exit_codes: ExitCodes,
    pub(super) replies_allow: Vec<String>,
    pub(super) signing: Strictness,
    pub(super) origins: Vec<String>,
    pub(super) stop_grace: Option<Duration>,
}

pub(super) fn consumer(name: &str, setting: &Setting, tables: Tables) -> Result<ConsumerDraft> {
    check_name(setting, "a consumer", name)?;
    let mut settings = setting.settings()?;
    let connection = settings.setting(&["connection"])?;
    let queue = queues::queue(name, setting, settings.setting(&["queue", "queue_options"])?)?;
    let exchange = settings.setting(&["exchange", "exchange_options"])?;
    let queue = bound_to(queue, exchange)?;
    let handler_key = settings.setting(&["handler"])?;
    let callback_key = settings.setting(&["callback"])?;
    if handler_key.is_some() && callback_key.is_some() {
        return Err(settings.error("callback", "is given, and so is `handler`; keep one of the two"));
    }
    let concurrency = settings.count_within(&["concurrency"], 1, 1000)?.unwrap_or(1) as usize;
    let prefetch = queues::prefetch(&mut settings)?;
    if prefetch.is_some() && queue.prefetch.is_some() {
        return Err(settings.error("prefetch", "is given here and at the queue; keep one of the two"));
    }
    let retry = match settings.map(&["retry"])? {
        Some(retry) => retry_policy(retry)?,
        None => RetryPolicy::default(),
    };
    let exit_codes = settings
        .setting(&["exit_codes"])?
        .map_or_else(|| Ok(ExitCodes::default()), |setting| exit_codes(&setting))?;
    let dead_letter = if let Some(setting) = settings.setting(&["dead_letter"])? {
        dead_letter(&setting, &queue.queue.name)?
    } else if let Some(name) = native_dead_letter(&queue.queue) {
        DeadLetter::Queue(name)
    } else {
        if let Some(usual) = usual_dead_letter(&queue.queue.name) {
            check_name(&queue.setting, "a dead-letter queue", &usual)?;
        }
        DeadLetter::Unsaid
    };
    let stop_grace = settings.limit_duration(&["stop_grace"])?.flatten();
    let replies_allow = match settings.map(&["replies"])? {
        None => Vec::new(),
        Some(mut replies) => {
            let allow = replies.texts(&["allow"])?.unwrap_or_default();
            replies.finish()?;
            allow
        }
    };
    let (signing, origins) = match settings.setting(&["signing"])? {
        None => (Strictness::Off, Vec::new()),
        Some(setting) => signing::of_consumer(&setting)?,
    };
    settings.check_unknown()?;
    let (handler, handler_settings) = match (handler_key, callback_key) {
        (Some(setting), _) => handler(&setting, tables)?,
        (None, Some(setting)) => callback(&setting, tables)?,
        (None, None) => {
            let kinds: Vec<&str> = tables.handlers.iter().map(|spec| spec.kind).collect();
            let meaning = format!("what takes the messages, one of {}", kinds.join(", "));
            return Err(settings.missing("handler", meaning));
        }
    };
    Ok(ConsumerDraft {
        name: name.to_owned(),
        setting: setting.clone(),
        connection,
        prefetch: prefetch.or(queue.prefetch),
        queue,
        dead_letter,
        handler,
        handler_settings,
        concurrency,
        retry,
        exit_codes,
        replies_allow,
        signing,
        origins,
        stop_grace,
    })
}

/// A consumer's `exchange:` with its queue's routing keys is one more binding.
fn bound_to(mut queue: QueueDraft, exchange: Option<Setting>) -> Result<QueueDraft> {
    match (exchange, queue.keys.take()) {
        (Some(exchange), keys) => queue.bindings.push(BindingDraft {
            exchange: queues::exchange(&exchange)?,
            keys: keys.map_or_else(Vec::new, |(_, keys)| keys),
            arguments: Headers::new(),
        }),
        (None, Some((setting, _))) => {
            return Err(setting.error(
                "a queue is bound with `bindings: [{exchange: NAME, routing_key: …}]`, or by its consumer's `exchange:`; \
                 there is neither",
            ));
        }
        (None, None) => {}
    }
    Ok(queue)
}

/// The Kaliop bundle's services that take messages: how their ids end, and the handler that takes the same messages here.
/// The one that runs commands within the process takes the same bodies as the one that spawns them.
const CALLBACKS: &[(&str, &str)] = &[
    ("message_consumer.console_command", "command"),
    ("message_consumer.inprocess_console_command", "command"),
    ("message_consumer.http_request", "http"),
    ("message_consumer.xmlrpc_call", "xmlrpc"),
    ("message_consumer.symfony_service", "service"),
    ("message_consumer.noop", "noop"),
];

/// The kind of the handler that takes what this service takes.
pub(super) fn handler_of_service(service: &str) -> Option<&'static str> {
    let is_it = |id: &str| {
        let before = service.strip_suffix(id);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    CALLBACKS.iter().find(|(id, _)| is_it(id)).map(|(_, kind)| *kind)
}

/// `callback:` names a service of the predecessor's application, which stands for a handler.
fn callback(setting: &Setting, tables: Tables) -> Result<(&'static HandlerSpec, Settings)> {
    let service = setting.text()?;
    let kinds: Vec<&str> = tables.handlers.iter().map(|spec| spec.kind).collect();
    let Some(kind) = handler_of_service(&service) else {
        return Err(setting.error(format!(
            "names the service {}, which qctl cannot call; write `handler:` with one of {}",
            setting.quoted(),
            kinds.join(", ")
        )));
    };
    match tables.handler(kind) {
        Some(spec) => Ok((spec, setting.empty_settings())),
        None => Err(setting.error(format!(
            "means `handler: {kind}`, which is not in this version of qctl yet; there are {}",
            kinds.join(", ")
        ))),
    }
}

fn handler(setting: &Setting, tables: Tables) -> Result<(&'static HandlerSpec, Settings)> {
    let kinds = || tables.handlers.iter().map(|spec| spec.kind);
    let (kind, setting, handler_settings) = match setting.written() {
        Value::Map(entries) => match entries.as_slice() {
            [(kind, _)] => {
                let (_, inner) = setting.entries()?.remove(0);
                (kind.clone(), inner.clone(), inner.settings()?)
            }
            [] => return Err(setting.error("names no handler")),
            [(one, _), (other, _), ..] => {
                return Err(setting.error(format!(
                    "names {} handlers, `{}` and `{}` among them; keep one",
                    entries.len(),
                    one.escape_debug(),
                    other.escape_debug()
                )));
            }
        },
        _ => (setting.text()?, setting.clone(), setting.empty_settings()),
    };
    let spec = tables.handler(&kind).ok_or_else(|| {
        let end = those_there_are(&kind, kinds());
        setting.error(format!("no handler is called `{}`{end}", kind.escape_debug()))
    })?;
    Ok((spec, handler_settings))
}

fn retry_policy(mut settings: Settings) -> Result<RetryPolicy> {
    const MOST: u64 = 1_000_000;
    let default = RetryPolicy::default();
    let number = |value: Option<u64>, default: u32| value.map_or(default, |value| value as u32);
    let min = settings.duration(&["min"])?;
    let max = settings.duration(&["max"])?;
    // One of the two alone moves the other's default out of its way.
    let (min, max) = match (min, max) {
        (Some(min), Some(max)) if min > max => {
            return Err(settings.error(
                "min",
                format!(
                    "must not be longer than `max`, and {} is longer than {}",
                    humantime::format_duration(min),
                    humantime::format_duration(max)
                ),
            ));
        }
        (Some(min), Some(max)) => (min, max),
        (Some(min), None) => (min, default.max.max(min)),
        (None, Some(max)) => (default.min.min(max), max),
        (None, None) => (default.min, default.max),
    };
    let jitter = match settings.setting(&["jitter"])? {
        None => default.jitter,
        Some(setting) => setting.share()?,
    };
    let backoffs = [
        ("exponential", Backoff::Exponential),
        ("linear", Backoff::Linear),
        ("fixed", Backoff::Fixed),
    ];
    let policy = RetryPolicy {
        attempts: number(settings.count_within(&["attempts"], 1, MOST)?, default.attempts),
        signals: number(settings.count_within(&["signals"], 1, MOST)?, default.signals),
        deliveries: number(settings.count_within(&["deliveries"], 0, MOST)?, default.deliveries),
        backoff: settings.choice(&["backoff"], &backoffs)?.unwrap_or(default.backoff),
        min,
        max,
        jitter,
        // Decided where all queues are known.
        keep: false,
    };
    settings.finish()?;
    Ok(policy)
}

/// What other tools' users mean by their exit codes.
pub(super) const PRESETS: &[(&str, &[(i32, Verdict)])] = &[
    // Its README: 0 acknowledges; 3 rejects and 5 negatively acknowledges, for good; 4 and 6 do the same and requeue, as all
    // other codes do unless it is told otherwise.
    (
        "rabbitmq-cli-consumer",
        &[
            (0, Verdict::Ack),
            (3, Verdict::Reject),
            (4, Verdict::Retry),
            (5, Verdict::Reject),
            (6, Verdict::Retry),
        ],
    ),
    // It acknowledges when its command succeeds, and requeues otherwise.
    ("amqp-consume", &[(0, Verdict::Ack)]),
];

/// All but the codes that a preset names is tried again.
fn preset(setting: &Setting) -> Result<ExitCodes> {
    let codes = setting.choice(PRESETS)?;
    Ok(ExitCodes {
        codes: codes.iter().copied().collect(),
        ..ExitCodes::default()
    })
}

/// The name of a preset, or `0: ack`, `"70-79": retry`, `other`, `signal`, `timeout`, and `preset`. A single code wins over a range
/// that holds it, and what is not mentioned keeps its default, or what the preset says.
fn exit_codes(setting: &Setting) -> Result<ExitCodes> {
    const VERDICTS: &[(&str, Verdict)] = &[
        ("ack", Verdict::Ack),
        ("retry", Verdict::Retry),
        ("reject", Verdict::Reject),
    ];
    if !setting.is_map() && !setting.is_empty() {
        return preset(setting);
    }
    let entries = setting.entries()?;
    let mut result = match entries.iter().find(|(key, _)| key == "preset") {
        Some((_, name)) => preset(name)?,
        None => ExitCodes::default(),
    };
    let mut ranges: BTreeMap<i32, Verdict> = BTreeMap::new();
    let mut singles: BTreeMap<i32, Verdict> = BTreeMap::new();
    for (key, value) in entries.into_iter().filter(|(key, _)| key != "preset") {
        let verdict = value.choice(VERDICTS)?;
        match key.as_str() {
            "other" => result.other = verdict,
            "signal" => result.signal = verdict,
            "timeout" => result.timeout = verdict,
            _ => {
                let (first, last) = code_range(&key).ok_or_else(|| {
                    value
                        .error("must be an exit code from 0 to 255, a range such as 70-79, or other, signal or timeout")
                })?;
                let known = if first == last { &mut singles } else { &mut ranges };
                for code in first..=last {
                    if known.insert(code, verdict).is_some_and(|before| before != verdict) {
                        return Err(value.error(format!("exit code {code} was already given another meaning above")));
                    }
                }
            }
        }
    }
    result.codes.extend(ranges);
    result.codes.extend(singles);
    Ok(result)
}

fn code_range(text: &str) -> Option<(i32, i32)> {
    let code = |text: &str| {
        let text = text.trim();
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u8>().ok()).flatten().map(i32::from)
    };
    match text.split_once('-') {
        None => code(text).map(|code| (code, code)),
        Some((first, last)) => Some((code(first)?, code(last)?)).filter(|(first, last)| first <= last),
    }
}

/// The dead-letter queue that the arguments of AMQP name: the default exchange leads to the queue of the key's name.
fn native_dead_letter(queue: &Queue) -> Option<String> {
    let text = |name: &str| match queue.arguments.get(name) {
        Some(HeaderValue::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let key = text("x-dead-letter-routing-key").filter(|key| !key.is_empty())?;
    let by_default = text("x-dead-letter-exchange").is_none_or(str::is_empty);
    by_default.then(|| key.to_owned())
}

fn dead_letter(setting: &Setting, queue: &str) -> Result<DeadLetter> {
    let name = if setting.is_map() {
        let mut settings = setting.settings()?;
        let name = settings.text(&["queue"])?;
        settings.check_unknown()?;
        name.ok_or_else(|| settings.missing("queue", "the queue for messages that are given up"))?
    } else {
        let name = setting.text()?;
        match name.as_str() {
            "none" => return Ok(DeadLetter::None),
            "keep" => return Ok(DeadLetter::Keep),
            _ => name,
        }
    };
    check_name(setting, "a dead-letter queue", &name)?;
    if name == queue {
        return Err(setting.error(
            "is the queue itself: what is given up would come back at once, for ever; name another queue, or `keep` to try \
             it again after the longest wait",
        ));
    }
    Ok(DeadLetter::Queue(name))
}
