//! What operators ask of queues.

use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use lapin::protocol::AMQPSoftError;

use super::connection::AmqpConnection;
use super::fault;
use super::properties::short;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Purge, QueueInfo};

/// The figures of a queue.
pub(super) async fn info(connection: &AmqpConnection, queue: &str) -> Result<QueueInfo> {
    let (ready, consumers) = connection.depth(queue).await?;
    let dead_letter = connection.dead_letter(queue);
    let dead = match &dead_letter {
        None => None,
        Some(dead) => match connection.depth(dead).await {
            Ok((ready, _)) => Some(u64::from(ready)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        },
    };
    Ok(QueueInfo {
        name: queue.to_owned(),
        ready: ready.into(),
        dead,
        consumers: Some(consumers.into()),
        dead_letter,
        ..QueueInfo::default()
    })
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

/// Deletes a queue.
pub(super) async fn delete(connection: &AmqpConnection, queue: &str, force: bool) -> Result<u64> {
    let channel = connection.link.channel().await?;
    let options = QueueDeleteOptions {
        if_unused: !force,
        if_empty: false,
        nowait: false,
    };
    // Deleting what is not there is no error to AMQP, and a typo to whoever asks.
    connection.depth(queue).await?;
    let removed = channel
        .queue_delete(short("the queue's name", queue)?, options)
        .await
        .map_err(|error| {
            if fault::is_soft(&error, &AMQPSoftError::PRECONDITIONFAILED) {
                return Error::temporary(format!(
                    "queue `{queue}` is used by consumers; stop them first, or delete it all the same with --force"
                ));
            }
            fault::refused(&error, connection.link.endpoint(), &format!("queue `{queue}`"))
        })?;
    let _ = channel.close(200, "done".into()).await;
    Ok(removed.into())
}
