//! Which queue a name means.

use std::sync::Arc;

use crate::context::Workplace;
use crate::error::{Error, Result};
use crate::queue::{Connection, Queue, Topology};

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
    /// The connection's name.
    pub connection_name: String,
    /// The connection.
    pub connection: Arc<dyn Connection>,
}

impl Target {
    /// Finds what `name` means, says so, connects, and makes sure that what is configured for it is there, whoever looks
    /// first.
    pub(super) async fn open(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        let target = Self::find(place, given, name).await?;
        target.connection.declare(&target.topology).await?;
        Ok(target)
    }

    /// As `open`, but declares nothing.
    pub(super) async fn find(place: &Workplace<'_>, given: Option<&str>, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::usage(
                "NAME is empty; `qctl managequeue list-configured` shows the names there are",
            ));
        }
        let named = resolve(place, name)?;
        let entry = place.connection_or(given, &named.connection)?;
        let connection = place.connect(entry).await?;
        place.context.output.note(format_args!(
            "{} {name}: queue {} on connection {} ({})",
            named.kind,
            named.queue,
            entry.name,
            connection.driver()
        ));
        Ok(Self {
            kind: named.kind,
            queue: named.queue,
            configured: named.configured,
            topology: named.topology,
            connection_name: entry.name.clone(),
            connection,
        })
    }

    /// The dead-letter queue, by configuration or else by custom.
    pub(super) fn dead_queue(&self) -> String {
        self.configured
            .as_ref()
            .and_then(|queue| queue.dead_letter.clone())
            .unwrap_or_else(|| format!("{}.dead", self.queue))
    }
}

struct Named {
    kind: &'static str,
    queue: String,
    configured: Option<Queue>,
    topology: Topology,
    connection: String,
}

fn resolve(place: &Workplace<'_>, name: &str) -> Result<Named> {
    if let Some(consumer) = place.config.consumers.get(name) {
        return Ok(Named {
            kind: "consumer",
            queue: consumer.queue.name.clone(),
            configured: Some(consumer.queue.clone()),
            topology: consumer.topology.clone(),
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
            topology: producer.topology.clone(),
            connection: producer.connection.clone(),
        });
    }
    // A broker's queue that a consumer names is known better from there.
    let configured = place
        .config
        .consumers
        .values()
        .find(|consumer| consumer.queue.name == name);
    Ok(Named {
        kind: "queue",
        queue: name.to_owned(),
        configured: configured.map(|consumer| consumer.queue.clone()),
        topology: configured.map(|consumer| consumer.topology.clone()).unwrap_or_default(),
        connection: configured
            .map(|consumer| consumer.connection.clone())
            .unwrap_or_default(),
    })
}
