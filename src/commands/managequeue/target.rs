//! Which queue a name means.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::context::Workplace;
use crate::error::{Error, ErrorKind, Result};
use crate::output::one_line;
use crate::queue::topology::{usual_dead_letter, usual_source};
use crate::queue::{Connection, Queue, Topology};
use crate::settings::suggestion;

/// A queue that was named, on its open connection.
pub(super) struct Target {
    /// What the name is: `consumer`, `producer` or `queue`.
    pub kind: &'static str,
    /// The queue's name at the broker.
    pub queue: String,
    /// The queue as configured, where it is.
    pub configured: Option<Queue>,
    /// All that the entry needs to be there.
    pub topology: Topology,
    /// The configured queues whose dead letters come to this one.
    sources: Vec<String>,
    /// The connection's name.
    pub connection_name: String,
    /// The connection.
    pub connection: Arc<dyn Connection>,
}

impl Target {
    /// Finds what `name` means, says so, connects, and makes sure that what is configured for it is there, whoever looks
    /// first. A queue that is neither configured nor there is an error.
    pub(super) async fn open(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        Self::open_by(Self::find(place, given, name, false).await?, place, name).await
    }

    /// As `open`, for who only looks: a queue that is not there is not made, so that a look undoes no delete, and a login that may
    /// not make anything may look all the same.
    pub(super) async fn open_to_look(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        let target = Self::find(place, given, name, false).await?;
        target.require(place, name).await?;
        match target.connection.declare(&target.topology).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotAllowed => {}
            Err(error) if error.kind() == ErrorKind::Config => place.context.output.warn(error),
            Err(error) => return Err(error),
        }
        target.tell(place, name);
        Ok(target)
    }

    /// As `open`, but what holds the queue must be there already.
    pub(super) async fn open_existing(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        Self::open_by(Self::find(place, given, name, true).await?, place, name).await
    }

    async fn open_by(target: Self, place: &Workplace<'_>, name: &str) -> Result<Self> {
        match target.connection.declare(&target.topology).await {
            Ok(()) => target.require(place, name).await?,
            // What is there can be looked at and emptied all the same.
            Err(error) if error.kind() == ErrorKind::Config => {
                target.require(place, name).await?;
                place.context.output.warn(error);
            }
            Err(error) => return Err(error),
        }
        target.tell(place, name);
        Ok(target)
    }

    /// As `open`, but declares nothing.
    pub(super) async fn open_as_it_is(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        let target = Self::find(place, given, name, false).await?;
        target.require(place, name).await?;
        target.tell(place, name);
        Ok(target)
    }

    /// As `open`, for a queue that need not be there.
    pub(super) async fn open_or_new(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        let target = Self::find(place, given, name, false).await?;
        target.tell(place, name);
        Ok(target)
    }

    async fn find(place: &Workplace<'_>, given: Option<&str>, name: &str, existing: bool) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::usage(
                "NAME is empty; `qctl managequeue list-configured` shows the names there are",
            ));
        }
        let named = resolve(place, name)?;
        let entry = place.connection_or(given, &named.connection)?;
        let connection = if existing {
            place.connect_existing(entry).await?
        } else {
            place.connect(entry).await?
        };
        Ok(Self {
            kind: named.kind,
            queue: named.queue,
            configured: named.configured,
            topology: named.topology,
            sources: named.sources,
            connection_name: entry.name.clone(),
            connection,
        })
    }

    fn tell(&self, place: &Workplace<'_>, name: &str) {
        place.context.output.note(format_args!(
            "{} {}: queue {} on connection {} ({})",
            self.kind,
            one_line(name),
            one_line(&self.queue),
            self.connection_name,
            self.connection.driver()
        ));
    }

    /// A queue that is not there gets the names that are, instead of whatever the verb would make of it.
    async fn require(&self, place: &Workplace<'_>, name: &str) -> Result<()> {
        match self.connection.has_queue(&self.queue).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            Err(error) => return Err(error),
        }
        let there = match self.connection.list().await {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::Unsupported => Vec::new(),
            Err(error) => return Err(error),
        };
        let config = &place.config;
        let entries = config.consumers.keys().chain(config.producers.keys());
        let known = entries.chain(&there).map(String::as_str);
        let known = known.filter(|known| *known != name && *known != self.queue);
        let hint = match suggestion(name, known.clone()) {
            _ if self.kind != "queue" => format!("; `qctl managequeue declare {}` makes it", one_line(name)),
            Some(near) => format!("; did you mean `{near}`?"),
            None if known.clone().next().is_none() => "; there are none yet".to_owned(),
            None => "; `qctl managequeue list` shows the queues there are".to_owned(),
        };
        let what = match self.kind {
            "queue" => "no consumer, producer or queue is called".to_owned(),
            kind => format!("{kind} {} has no queue", one_line(name)),
        };
        Err(Error::not_found(format!(
            "{what} `{}` on connection {}{hint}",
            self.queue.escape_debug(),
            self.connection_name
        )))
    }

    /// Where this queue's dead letters are: itself where it is one for dead letters; `None` where they are dropped.
    pub(super) async fn dead_queue(&self) -> Result<Option<String>> {
        if self.is_for_dead_letters().await? {
            return Ok(Some(self.queue.clone()));
        }
        match self.connection.info(&self.queue).await {
            Ok(info) => Ok(info.dead_letter),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(match &self.configured {
                Some(queue) => queue.dead_letter.clone(),
                None => usual_dead_letter(&self.queue),
            }),
            Err(error) => Err(error),
        }
    }

    /// The queue whose dead letters this one holds, where it is one queue's only.
    pub(super) async fn source(&self) -> Result<Option<String>> {
        if let [only] = self.sources.as_slice() {
            return Ok(Some(only.clone()));
        }
        let Some(source) = usual_source(&self.queue).filter(|_| self.sources.is_empty()) else {
            return Ok(None);
        };
        match self.connection.info(source).await {
            Ok(info) => Ok((info.dead_letter.as_ref() == Some(&self.queue)).then(|| source.to_owned())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether other queues' dead letters come here.
    pub(super) async fn is_for_dead_letters(&self) -> Result<bool> {
        Ok(!self.sources.is_empty() || self.source().await?.is_some())
    }
}

struct Named {
    kind: &'static str,
    queue: String,
    configured: Option<Queue>,
    topology: Topology,
    sources: Vec<String>,
    connection: String,
}

fn resolve(place: &Workplace<'_>, name: &str) -> Result<Named> {
    if let Some(consumer) = place.config.consumers.get(name) {
        return Ok(Named {
            kind: "consumer",
            queue: consumer.queue.name.clone(),
            configured: Some(consumer.queue.clone()),
            topology: consumer.topology.clone(),
            sources: Vec::new(),
            connection: consumer.connection.clone(),
        });
    }
    if let Some(producer) = place.config.producers.get(name) {
        let bound: Vec<&str> = producer
            .topology
            .queues
            .iter()
            .filter(|queue| !queue.bindings.is_empty())
            .map(|queue| queue.name.as_str())
            .collect();
        let queue = match (&producer.exchange, bound.as_slice()) {
            (None, _) => producer.queue.clone(),
            (Some(_), [only]) => (*only).to_owned(),
            (Some(exchange), _) => {
                let which = if bound.is_empty() {
                    "no configured queue is bound to it".to_owned()
                } else {
                    format!("name one of its queues: {}", bound.join(", "))
                };
                return Err(Error::not_found(format!(
                    "producer {name} publishes to exchange {}, which is not one queue; {which}",
                    exchange.name
                )));
            }
        };
        let configured = producer
            .topology
            .queues
            .iter()
            .find(|known| known.name == queue)
            .cloned();
        return Ok(Named {
            kind: "producer",
            queue,
            configured,
            topology: (*producer.topology).clone(),
            sources: Vec::new(),
            connection: producer.connection.clone(),
        });
    }
    // A broker's queue that a consumer names, for itself or for its dead letters, is known better from there.
    let consumers = || place.config.consumers.values();
    let sources: BTreeSet<&str> = consumers()
        .filter(|consumer| consumer.queue.dead_letter.as_deref() == Some(name))
        .map(|consumer| consumer.queue.name.as_str())
        .collect();
    let taking = consumers().find(|consumer| consumer.queue.name == name);
    let known =
        taking.or_else(|| consumers().find(|consumer| consumer.topology.queues.iter().any(|queue| queue.name == name)));
    Ok(Named {
        kind: "queue",
        queue: name.to_owned(),
        configured: known.and_then(|consumer| {
            consumer
                .topology
                .queues
                .iter()
                .find(|queue| queue.name == name)
                .cloned()
        }),
        topology: known.map(|consumer| consumer.topology.clone()).unwrap_or_default(),
        sources: sources.into_iter().map(str::to_owned).collect(),
        connection: known.map(|consumer| consumer.connection.clone()).unwrap_or_default(),
    })
}
