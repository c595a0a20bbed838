//! What operators do with whole queues: list, empty and delete them.

use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use lapin::protocol::AMQPSoftError;

use super::connection::AmqpConnection;
use super::fault;
use super::ladder;
use super::nature::{Kind, Nature};
use super::pause;
use super::properties::short;
use crate::error::{Error, Result};
use crate::queue::{Delete, Purge};

/// The names of the vhost's queues, but for qctl's own.
pub(super) async fn list(connection: &AmqpConnection) -> Result<Vec<String>> {
    let Some(queues) = connection.management.queues().await else {
        let reason = connection.management.absence().await.unwrap_or("it does not tell");
        return Err(Error::unsupported(format!(
            "only RabbitMQ's management API tells which queues there are, and it is not used: {reason}"
        )));
    };
    let names = queues.into_iter().map(|queue| queue.name);
    Ok(names
        .filter(|name| !ladder::is_rung(name) && !pause::is_own(name))
        .collect())
}

/// Removes what is ready.
pub(super) async fn purge(connection: &AmqpConnection, queue: &str, purge: Purge) -> Result<u64> {
    if purge.dry_run {
        return connection.depth(queue).await.map(|(ready, _)| ready.into());
    }
    let channel = connection.link.channel().await?;
    let removed = channel
        .queue_purge(short("the queue's name", queue)?, QueuePurgeOptions::default())
        .await
        .map_err(|error| fault::refused(&error, connection.link.endpoint(), &format!("queue `{queue}`")))?;
    let _ = channel.close(200, "done".into()).await;
    Ok(removed.into())
}

/// Deletes a queue. The broker itself looks at the conditions; a quorum queue knows none, so there we look just before.
pub(super) async fn delete(connection: &AmqpConnection, queue: &str, delete: Delete) -> Result<u64> {
    // Deleting what is not there is no error to AMQP, and a typo to whoever asks.
    let (ready, consumers) = connection.depth(queue).await?;
    // A consumer that is paused still holds what it has begun, and the broker counts it no more.
    let document = connection.management.queue(queue).await;
    let held = document
        .and_then(|document| document.messages_unacknowledged)
        .unwrap_or(0);
    if held > 0 && !delete.force {
        return Err(Error::temporary(format!(
            "queue `{queue}` has {held} message(s) in consumers' hands; stop its consumers, or use --force to delete them too"
        )));
    }
    let mut options = QueueDeleteOptions {
        // The broker does not tell what is held, only who may hold it.
        if_unused: delete.if_unused || !delete.force,
        if_empty: delete.if_empty,
        nowait: false,
    };
    let refusal = |used: bool| {
        Error::temporary(if used && delete.if_unused {
            format!("queue `{queue}` has consumers, so it is not unused; `qctl managequeue info` names them")
        } else if used {
            format!("queue `{queue}` is used by consumers; stop them first, or delete it all the same with --force")
        } else {
            format!("queue `{queue}` has messages, so it is not empty; purge it first, or delete it without --if-empty")
        })
    };
    if options.if_unused || options.if_empty {
        let nature = Nature::exactly(connection, queue).await?;
        if nature.is_none_or(|nature| nature.kind != Kind::Classic) {
            if options.if_unused && consumers > 0 {
                return Err(refusal(true));
            }
            if options.if_empty && ready > 0 {
                return Err(refusal(false));
            }
            options.if_unused = false;
            options.if_empty = false;
        }
    }
    let channel = connection.link.channel().await?;
    let removed = channel
        .queue_delete(short("the queue's name", queue)?, options)
        .await
        .map_err(|error| {
            if fault::is_soft(&error, &AMQPSoftError::PRECONDITIONFAILED) {
                let said = fault::answer(&error).map(fault::told).unwrap_or_default();
                return refusal(!said.contains("not empty"));
            }
            fault::refused(&error, connection.link.endpoint(), &format!("queue `{queue}`"))
        })?;
    pause::forget(&channel, queue).await;
    let _ = channel.close(200, "done".into()).await;
    Ok(removed.into())
}
