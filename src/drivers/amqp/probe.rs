//! A message to the broker and back, to see that it passes messages on and how quick it is.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::fault;
use super::link::Link;
use crate::error::{Error, Result};

/// By way of a queue of its own, which goes with the connection. Direct reply-to would need none, but answers others only.
pub(super) async fn round_trip(link: &Link) -> Result<Duration> {
    let channel = link.channel().await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let unacknowledged = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let refused = |error: lapin::Error| fault::refused(&error, link.endpoint(), "a queue to try a message with");
    let queue = channel
        .queue_declare(ShortString::default(), own, FieldTable::default())
        .await
        .map_err(refused)?;
    let queue = queue.name().clone();
    let mut consumer = channel
        .basic_consume(
            queue.clone(),
            ShortString::default(),
            unacknowledged,
            FieldTable::default(),
        )
        .await
        .map_err(refused)?;
    let begun = Instant::now();
    channel
        .basic_publish(
            ShortString::default(),
            queue,
            BasicPublishOptions::default(),
            b"qctl check",
            BasicProperties::default(),
        )
        .await
        .map_err(refused)?;
    match consumer.next().await {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(fault::lost(&error, link.endpoint())),
        None => {
            return Err(Error::unavailable(format!(
                "{}: the connection is gone",
                link.endpoint()
            )));
        }
    }
    let took = begun.elapsed();
    let _ = channel.close(200, "done".into()).await;
    Ok(took)
}
