//! Pausing a queue. RabbitMQ hands messages to whoever asks for them, so it is qctl's own consumers that stop asking; other
//! programs are not held up.
//!
//! A queue is paused while a durable, empty queue `qctl.paused.QUEUE` is there. A consumer binds a queue of its own, which
//! goes with its connection, to the exchange `qctl.control`, and only then looks for that mark. Whoever pauses or resumes
//! changes the mark and then sends a word to the exchange; whoever hears it looks again. So a change is never missed, and the
//! order of two that cross does not matter.

use std::sync::Weak;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer, ExchangeKind};
use tokio::task::JoinHandle;

use super::connection::AmqpConnection;
use super::fault;
use super::link::{Link, token};
use super::properties::short;
use super::publisher::{Named, Outgoing};
use super::subscription::{Shared, is_ours};
use crate::error::{Error, ErrorKind, Result};

/// Where changes are told, by the name of their queue.
const EXCHANGE: &str = "qctl.control";
/// What a consumer hears them by.
const EAR: &str = "qctl.control.";
/// Marks a paused queue.
const MARK: &str = "qctl.paused.";
/// Consumers that have not stopped by then are told of.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// The step between two looks at their number.
const STEP: Duration = Duration::from_millis(10);

/// Whether a queue is one of those made here.
pub(super) fn is_own(queue: &str) -> bool {
    queue.starts_with(MARK) || queue.starts_with(EAR)
}

/// The name of a queue's mark.
pub(super) fn mark(queue: &str) -> String {
    format!("{MARK}{queue}")
}

/// Whether a queue is paused.
pub(super) async fn is_paused(link: &Link, queue: &str) -> Result<bool> {
    let Ok(mark) = ShortString::try_new(mark(queue)) else {
        // No mark has a name that long, so there is none.
        return Ok(false);
    };
    let channel = link.channel().await?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    match channel.queue_declare(mark, passive, FieldTable::default()).await {
        Ok(_) => {
            let _ = channel.close(200, "done".into()).await;
            Ok(true)
        }
        Err(error) if fault::answer(&error).is_some() => Ok(false),
        Err(error) => Err(fault::lost(&error, link.endpoint())),
    }
}

/// Pauses or resumes a queue. A pause returns when qctl's consumers have stopped taking.
pub(super) async fn set(connection: &AmqpConnection, queue: &str, paused: bool) -> Result<()> {
    connection.depth(queue).await?;
    let link = &connection.link;
    let mark = short("the name of a queue that can be paused", mark(queue))?;
    let channel = link.channel().await?;
    let changed = async {
        declare_exchange(&channel).await?;
        if paused {
            channel.queue_declare(mark, durable(), FieldTable::default()).await?;
        } else {
            channel.queue_delete(mark, QueueDeleteOptions::default()).await?;
        }
        Ok(())
    };
    changed.await.map_err(|error: lapin::Error| {
        fault::refused(&error, link.endpoint(), &format!("the mark of queue `{queue}`"))
    })?;
    let _ = channel.close(200, "done".into()).await;
    let heard = tell(connection, queue).await?;
    if paused {
        await_silence(connection, queue, heard).await?;
    }
    Ok(())
}

/// Removes the mark of a queue that is no more.
pub(super) async fn forget(channel: &Channel, queue: &str) {
    if let Ok(mark) = ShortString::try_new(mark(queue)) {
        // Without the permission for it there was none.
        let _ = channel.queue_delete(mark, QueueDeleteOptions::default()).await;
    }
}

/// Has qctl's consumers of this queue look at its mark; whether there is any.
async fn tell(connection: &AmqpConnection, queue: &str) -> Result<bool> {
    let word = Outgoing {
        to: Named {
            exchange: EXCHANGE.into(),
            routing_key: short("the queue's name", queue)?,
        },
        mandatory: true,
        properties: BasicProperties::default(),
        body: b"look".to_vec(),
    };
    let refusal = |_: &Named| {
        Error::temporary(format!(
            "the broker does not take a word for exchange `{EXCHANGE}`; try again"
        ))
    };
    let failed = connection.outlet().await?.publish([(0, word)], refusal).await;
    match failed.into_iter().next() {
        None => Ok(true),
        Some((_, error)) if error.kind() == ErrorKind::Unroutable => Ok(false),
        Some((_, error)) => Err(error),
    }
}

/// Waits until nobody takes from the queue but other programs, and tells who still does when that takes too long.
async fn await_silence(connection: &AmqpConnection, queue: &str, heard: bool) -> Result<()> {
    let until = Instant::now() + HEARD_WITHIN;
    let mut foreign = None;
    loop {
        let (_, consumers) = connection.depth(queue).await?;
        if consumers == 0 {
            return Ok(());
        }
        if foreign.is_none() {
            let document = connection.management.queue(queue).await;
            foreign = Some(document.map_or(0, |document| {
                let tags = document.consumer_details.iter().map(|consumer| &consumer.consumer_tag);
                tags.filter(|tag| !is_ours(tag)).count()
            }));
        }
        let others_only = foreign.is_some_and(|foreign| consumers as usize <= foreign);
        if heard && !others_only && Instant::now() < until {
            tokio::time::sleep(STEP).await;
            continue;
        }
        tracing::warn!(
            "{consumers} consumer(s) still take from queue {queue}: {}",
            if others_only || !heard {
                "other programs do not know that it is paused"
            } else {
                "those of other programs do not know that it is paused, and one of qctl's that does not answer stops when it does"
            }
        );
        return Ok(());
    }
}

/// How a consumer hears of changes.
pub(super) struct Ear {
    consumer: Consumer,
}

/// Listens for changes. `None` where the login may not: then the consumer cannot be paused while it runs.
pub(super) async fn listen(link: &Link, queue: &str) -> Result<Option<Ear>> {
    let channel = link.channel().await?;
    let ear = short("the control queue's name", format!("{EAR}{}", token()?))?;
    let key = short("the queue's name", queue)?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let no_ack = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    // Put on the wire together: one round trip for all.
    let (exchange, declared, bound, consumer) = tokio::join!(
        biased;
        declare_exchange(&channel),
        channel.queue_declare(ear.clone(), exclusive, FieldTable::default()),
        channel.queue_bind(ear.clone(), EXCHANGE.into(), key, QueueBindOptions::default(), FieldTable::default()),
        channel.basic_consume(ear.clone(), ShortString::default(), no_ack, FieldTable::default()),
    );
    let refused = [exchange.err(), declared.err(), bound.err()]
        .into_iter()
        .flatten()
        .next();
    match (refused, consumer) {
        (None, Ok(consumer)) => Ok(Some(Ear { consumer })),
        (Some(error), _) | (None, Err(error)) => {
            if fault::answer(&error).is_none() {
                return Err(fault::lost(&error, link.endpoint()));
            }
            let error = fault::refused(&error, link.endpoint(), &format!("exchange `{EXCHANGE}`"));
            let next = if error.kind() == ErrorKind::NotAllowed {
                "; let the login configure, write and read names that begin with `qctl.`"
            } else {
                ""
            };
            tracing::warn!(%queue, reason = error.message(), "this consumer cannot be paused while it runs{next}");
            Ok(None)
        }
    }
}

/// Follows changes until it is dropped.
pub(super) struct Follower {
    task: JoinHandle<()>,
}

impl Ear {
    /// Has a subscription do as it hears.
    pub(super) fn follow(mut self, subscription: Weak<Shared>) -> Follower {
        let task = tokio::spawn(async move {
            while let Some(Ok(_)) = self.consumer.next().await {
                let Some(subscription) = subscription.upgrade() else {
                    return;
                };
                subscription.look_at_pause().await;
            }
        });
        Follower { task }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn declare_exchange(channel: &Channel) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, FieldTable::default())
        .await
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}
