//! `listeners:`: who hears of what happens, and what becomes of what a listener does not hear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::model::{ConsumerEntry, ListenerEntry, ProducerEntry, WorkerEntry};
use super::names::those_there_are;
use crate::error::{Error, Result};
use crate::events::{Entry, EventKind, KINDS, ListenerContext, Policy, Sender};
use crate::queue::Message;
use crate::residents::Guard;
use crate::settings::Setting;

/// How long a listener may take, unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What names can stand in a listener's `queue:`.
pub(super) struct Names<'a> {
    pub(super) producers: &'a BTreeMap<String, ProducerEntry>,
    pub(super) consumers: &'a BTreeMap<String, ConsumerEntry>,
    pub(super) workers: &'a BTreeMap<String, WorkerEntry>,
}

impl Names<'_> {
    fn all(&self) -> Vec<&str> {
        let queues = self.consumers.values().map(|consumer| consumer.queue.name.as_str());
        let sent = self.producers.values().map(|producer| producer.queue.as_str());
        let names = self
            .producers
            .keys()
            .chain(self.consumers.keys())
            .chain(self.workers.keys());
        let mut all: Vec<&str> = names.map(String::as_str).chain(queues).chain(sent).collect();
        all.retain(|name| !name.is_empty());
        all.sort_unstable();
        all.dedup();
        all
    }
}

pub(super) fn listeners(section: Option<&Setting>, names: &Names<'_>) -> Result<Vec<ListenerEntry>> {
    let Some(section) = section.filter(|section| !section.is_empty()) else {
        return Ok(Vec::new());
    };
    let known: Vec<String> = names.producers.keys().cloned().collect();
    let context = ListenerContext {
        guard: Arc::new(Guard::new("qctl".as_ref())),
        sender: Arc::new(Nowhere(known)),
        place: String::new(),
    };
    let entries = section.list()?;
    entries
        .iter()
        .map(|setting| {
            let entry = listener(setting, names)?;
            entry.build(&context)?;
            Ok(entry)
        })
        .collect()
}

fn listener(setting: &Setting, names: &Names<'_>) -> Result<ListenerEntry> {
    let mut settings = setting.settings()?;
    let on = settings.setting(&["on", "event"])?;
    let of = settings.setting(&["queue", "of"])?;
    let priority = settings.integer(&["priority"])?.unwrap_or(0);
    let within = settings.duration(&["timeout"])?.unwrap_or(TIMEOUT);
    let policies = [("wait", Policy::Wait), ("skip", Policy::Skip), ("stop", Policy::Stop)];
    let policy = settings.choice(&["policy"], &policies)?.unwrap_or_default();
    let mut chosen = None;
    for spec in KINDS {
        let Some(inner) = settings.setting(&[spec.kind])? else {
            continue;
        };
        if let Some((before, _)) = chosen.replace((spec, inner)) {
            return Err(settings.error(
                spec.kind,
                format!("is given, and so is `{}`; keep one of the two", before.kind),
            ));
        }
    }
    settings.check_unknown()?;
    let all = || KINDS.iter().map(|spec| spec.kind).collect::<Vec<_>>().join(", ");
    let Some((spec, inner)) = chosen else {
        return Err(setting.error(format!("says nothing to do; give it one of {}", all())));
    };
    let Some(on) = on else {
        return Err(settings.missing("on", format!("the events that it hears of, among {}", events())));
    };
    let kinds: Vec<EventKind> = on
        .texts()?
        .iter()
        .map(|name| {
            EventKind::named(name).ok_or_else(|| {
                on.error(format!(
                    "there is no event `{}`; there are {}",
                    name.escape_debug(),
                    events()
                ))
            })
        })
        .collect::<Result<_>>()?;
    if kinds.is_empty() {
        return Err(on.error(format!("names no event; there are {}", events())));
    }
    if policy == Policy::Stop
        && let Some(kind) = kinds
            .iter()
            .find(|kind| kind.is_of_processes() || **kind == EventKind::MessageSent)
    {
        return Err(settings.error(
            "policy",
            format!(
                "is `stop`, and {} stops nothing: it has happened; `wait` and `skip` are left",
                kind.name()
            ),
        ));
    }
    if let Some(of_processes) = kinds.iter().find(|kind| kind.is_of_processes())
        && matches!(spec.kind, "requeue" | "stop")
    {
        return Err(settings.error(
            spec.kind,
            format!(
                "is about messages, and {} is about a worker; name events of messages in `on`",
                of_processes.name()
            ),
        ));
    }
    let of = match of {
        None => Vec::new(),
        Some(of) => {
            let given = of.texts()?;
            let all = names.all();
            if let Some(unknown) = given.iter().find(|name| !all.contains(&name.as_str())) {
                let end = those_there_are(unknown, all.iter().copied());
                return Err(of.error(format!(
                    "no queue, producer, consumer or worker is called `{}`{end}",
                    unknown.escape_debug()
                )));
            }
            given
        }
    };
    let settings = match spec.short {
        _ if inner.is_map() || inner.is_empty() => inner.settings()?,
        Some(key) => inner.short_form(key),
        None => return Err(inner.error("must be a map of keys; `{}` is an empty one")),
    };
    Ok(ListenerEntry {
        place: setting.path(),
        on: kinds,
        of,
        priority,
        policy,
        within,
        spec,
        settings,
    })
}

fn events() -> String {
    EventKind::all().map(EventKind::name).collect::<Vec<_>>().join(", ")
}

impl ListenerEntry {
    /// Makes the listener.
    pub fn build(&self, context: &ListenerContext) -> Result<Entry> {
        let context = ListenerContext {
            place: format!("{}.{}", self.place, self.spec.kind),
            ..context.clone()
        };
        Ok(Entry {
            listener: (self.spec.parse)(self.settings.clone(), &context)?,
            place: context.place,
            on: self.on.clone(),
            of: self.of.clone(),
            priority: self.priority,
            policy: self.policy,
            within: self.within,
        })
    }
}

/// Knows the producers and sends nothing: for checking.
struct Nowhere(Vec<String>);

#[async_trait]
impl Sender for Nowhere {
    fn knows(&self, producer: &str) -> bool {
        self.0.iter().any(|known| known == producer)
    }

    async fn send(&self, _: &str, _: Message) -> Result<()> {
        Err(Error::bug("a listener that was only checked was told of an event"))
    }
}
