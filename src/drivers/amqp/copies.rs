//! Copies of deliveries on their way: to the ladder, to a dead-letter queue, to the end of their own queue.
//!
//! They go over a connection of their own, made when the first is needed: a broker that is short of disk or memory stops
//! reading from connections that publish, and acknowledgements must go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::address::Address;
use super::fault;
use super::ladder::Rung;
use super::link::Link;
use super::properties::{Changes, of_copy, short};
use super::publisher::{Named, Outgoing, Publisher};
use super::size;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::ConnectOptions;

/// A queue that refuses is asked again after so long, each time longer.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// And then each time after so long.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// That it still refuses is said this often.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What a copy is made of.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) properties: &'a BasicProperties,
    pub(super) body: &'a [u8],
    /// Where it was first published, and with which key.
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
}

/// Publishes copies for one connection.
pub(super) struct Copies {
    address: Arc<Address>,
    options: ConnectOptions,
    publisher: tokio::sync::Mutex<Option<Arc<Publisher>>>,
}

impl Copies {
    pub(super) fn new(address: Arc<Address>, options: &ConnectOptions) -> Self {
        Self {
            address,
            options: ConnectOptions {
                label: format!("{}, publishing", options.label),
                ..options.clone()
            },
            publisher: tokio::sync::Mutex::new(None),
        }
    }

    /// The publisher; its connection is made when it is not there or has gone.
    pub(super) async fn publisher(&self) -> Result<Arc<Publisher>> {
        let mut publisher = self.publisher.lock().await;
        if let Some(standing) = publisher.as_ref().filter(|publisher| publisher.link().is_up()) {
            return Ok(Arc::clone(standing));
        }
        let link = Link::connect(&self.address, &self.options).await?;
        let new = Arc::new(Publisher::new(Arc::new(link), None));
        *publisher = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Says good-bye, if there was a connection.
    pub(super) async fn close(&self, within: Duration) {
        let closing = async {
            if let Some(publisher) = self.publisher.lock().await.take() {
                publisher.link().close(within).await;
            }
        };
        // Somebody may be connecting.
        let _ = tokio::time::timeout(within, closing).await;
    }

    /// To a rung of the ladder, from where it falls back to `queue`.
    pub(super) async fn hold_back(
        &self,
        queue: &str,
        piece: Piece<'_>,
        changes: &Changes,
        rung: &Rung<'_>,
    ) -> Result<()> {
        let publisher = self.publisher().await?;
        let name = publisher.ensure_rung(rung).await?;
        match self.send(&name, queue, piece, changes).await {
            Err(error) if error.kind() == ErrorKind::Unroutable => {
                // Somebody has removed it since.
                let publisher = self.publisher().await?;
                publisher.forget_rung(rung);
                let name = publisher.ensure_rung(rung).await?;
                self.send(&name, queue, piece, changes).await
            }
            done => done,
        }
    }

    /// To a dead-letter queue, which is made anew if somebody has removed it.
    pub(super) async fn bury(&self, to: &str, piece: Piece<'_>, changes: &Changes) -> Result<()> {
        match self.send("", to, piece, changes).await {
            Err(error) if error.kind() == ErrorKind::Unroutable => {
                let publisher = self.publisher().await?;
                let channel = publisher.link().channel().await?;
                let durable = QueueDeclareOptions {
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                let declared = channel
                    .queue_declare(
                        short("the dead-letter queue's name", to)?,
                        durable,
                        FieldTable::default(),
                    )
                    .await;
                declared.map_err(|error| {
                    fault::refused(
                        &error,
                        publisher.link().endpoint(),
                        &format!("dead-letter queue `{to}`"),
                    )
                })?;
                let _ = channel.close(200, "done".into()).await;
                self.send("", to, piece, changes).await
            }
            done => done,
        }
    }

    /// To the end of its own queue. A queue that refuses it is not asked twice: the original can go back.
    pub(super) async fn back(&self, queue: &str, piece: Piece<'_>, changes: &Changes) -> Result<()> {
        self.send_once("", queue, piece, changes).await
    }

    async fn send(&self, exchange: &str, routing_key: &str, piece: Piece<'_>, changes: &Changes) -> Result<()> {
        let mut waits = AGAIN.iter();
        let mut told: Option<Instant> = None;
        loop {
            match self.send_once(exchange, routing_key, piece, changes).await {
                Err(error) if error.kind() == ErrorKind::Temporary => {
                    let wait = waits.next();
                    if wait.is_none() && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                        // What came of the message is known: it is held, not run again, until it can be told.
                        tracing::warn!(%error, "held until there is room");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(wait.copied().unwrap_or(LONGEST_WAIT)).await;
                }
                done => return done,
            }
        }
    }

    async fn send_once(&self, exchange: &str, routing_key: &str, piece: Piece<'_>, changes: &Changes) -> Result<()> {
        let publisher = self.publisher().await?;
        let properties = of_copy(piece.properties, piece.exchange, piece.routing_key, changes);
        // What came in one frame may not fit into one with what was added, and must go on all the same.
        let (properties, left_out) = size::fitted(properties, publisher.link().frame_max());
        if !left_out.is_empty() {
            let id = properties.message_id().as_ref().map_or("", |id| id.as_str());
            tracing::warn!(to = %routing_key, %id, left_out = left_out.join(", "),
                "the headers of the message leave no room in a frame for what is added to them; some are left out");
        }
        let outgoing = Outgoing {
            to: Named {
                exchange: short("the exchange's name", exchange)?,
                routing_key: short("the queue's name", routing_key)?,
            },
            mandatory: true,
            properties,
            body: piece.body.to_vec(),
        };
        let refusal = |_: &Named| {
            Error::temporary(format!(
                "the broker refuses a copy for queue `{routing_key}`: it is full, or cannot store it now; make room there"
            ))
        };
        let failed = publisher.publish([(0, outgoing)], refusal).await;
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}
