//! Looking at the messages of a queue. AMQP shows nothing without handing it out: what is looked at is taken without an
//! acknowledgement and put back to where it stood. The broker marks it as redelivered, and a quorum queue counts a delivery; the
//! management API does the same, and nothing tells a look from a consumer's death afterwards.

use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::ShortString;

use super::SPEC_NAME;
use super::connection::AmqpConnection;
use super::fault;
use super::link::Link;
use super::nature::{Kind, Nature};
use super::properties::{Facts, short, to_message};
use crate::error::{Error, Result};
use crate::queue::message::header;
use crate::queue::{HeaderValue, LookPrice, Message, Peek, PeekState, Peeked};

/// No more messages than this are taken to look at them, so that consumers do not wait for long.
const MOST_MESSAGES: u64 = 10_000;
/// Nor more bytes of bodies kept.
const MOST_BYTES: usize = 256 << 20;

/// What a look does to the messages of a queue.
pub(super) async fn price(connection: &AmqpConnection, queue: &str) -> Result<LookPrice> {
    let nature = Nature::exactly(connection, queue).await?;
    match nature.as_ref().map(|nature| nature.kind) {
        Some(Kind::Stream) => Err(Error::unsupported(format!(
            "queue `{queue}` is a stream, which the driver {SPEC_NAME} does not read"
        ))),
        Some(Kind::Classic) => Ok(LookPrice::Mark(format!(
            "looking marks messages of queue {queue} as redelivered, and RabbitMQ tells no look from a death: qctl's consumers \
             count it as one delivery of their `retry: deliveries`"
        ))),
        Some(Kind::Quorum) => {
            let limit = nature.and_then(|nature| nature.delivery_limit());
            let limit = limit.map_or_else(
                || "there is no limit of them".to_owned(),
                |limit| format!("after {limit} the broker gives a message up"),
            );
            Ok(LookPrice::Delivery(format!(
                "Queue {queue} is a quorum queue, which counts each look as a delivery of every message looked at, and {limit}"
            )))
        }
        None => Ok(LookPrice::Delivery(format!(
            "The broker does not tell what kind of queue {queue} is; a quorum queue counts each look as a delivery of every \
             message looked at, and gives up what was delivered too often"
        ))),
    }
}

/// Refuses a look whose price was not agreed to.
pub(super) async fn check_price(connection: &AmqpConnection, queue: &str, at_any_price: bool) -> Result<()> {
    if at_any_price {
        return Ok(());
    }
    match price(connection, queue).await? {
        LookPrice::Delivery(told) => Err(Error::not_allowed(format!("{told}; agree to that with `at_any_price`"))),
        LookPrice::Nothing | LookPrice::Mark(_) => Ok(()),
    }
}

/// Looks at messages.
pub(super) async fn peek(connection: &AmqpConnection, queue: &str, peek: &Peek) -> Result<Vec<Peeked>> {
    if let Some(state @ (PeekState::Delayed | PeekState::Held)) = peek.state {
        let what = if state == PeekState::Delayed {
            "is delayed"
        } else {
            "consumers hold"
        };
        return Err(Error::unsupported(format!(
            "the driver {SPEC_NAME} cannot show what {what}: RabbitMQ hands out what is ready and nothing else"
        )));
    }
    check_price(connection, queue, peek.at_any_price).await?;
    let mut scan = Scan::begin(&connection.link, queue).await?;
    let found = scan.look(peek).await;
    scan.end().await?;
    found
}

/// Messages taken from the head of a queue, one after the other, until it ends.
pub(super) struct Scan<'a> {
    link: &'a Link,
    channel: Channel,
    queue: &'a str,
    name: ShortString,
    /// How many were taken.
    pub(super) taken: u64,
}

impl<'a> Scan<'a> {
    pub(super) async fn begin(link: &'a Link, queue: &'a str) -> Result<Self> {
        Ok(Self {
            name: short("the queue's name", queue)?,
            channel: link.channel().await?,
            link,
            queue,
            taken: 0,
        })
    }

    /// The next message; `None`: there is none.
    pub(super) async fn next(&mut self) -> Result<Option<lapin::message::Delivery>> {
        let getting = self
            .channel
            .basic_get(self.name.clone(), BasicGetOptions { no_ack: false });
        let got = self
            .link
            .while_up(getting)
            .await
            .map_err(|error| fault::refused(&error, self.link.endpoint(), &format!("queue `{}`", self.queue)))?;
        self.taken += u64::from(got.is_some());
        Ok(got.map(|BasicGetMessage { delivery, .. }| delivery))
    }

    /// The message in a delivery and what else it says.
    pub(super) fn read(&self, delivery: &mut lapin::message::Delivery) -> (Message, Facts) {
        let body = std::mem::take(&mut delivery.data);
        let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        to_message(&delivery.properties, exchange, key, self.queue, body)
    }

    /// Removes a message from the queue.
    pub(super) async fn remove(&self, delivery: &lapin::message::Delivery) -> Result<()> {
        self.channel
            .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
            .await
            .map_err(|error| fault::lost(&error, self.link.endpoint()))
    }

    /// Puts back all that was not removed, each to where it stood.
    pub(super) async fn end(self) -> Result<()> {
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        let ended = async {
            // The tag 0 stands for all.
            self.channel.basic_nack(0, all).await?;
            self.channel.close(200, "done".into()).await
        };
        ended
            .await
            .map_err(|error: lapin::Error| fault::lost(&error, self.link.endpoint()))
    }

    async fn look(&mut self, peek: &Peek) -> Result<Vec<Peeked>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < peek.limit {
            if self.taken >= MOST_MESSAGES || bytes >= MOST_BYTES {
                tracing::warn!(
                    "only the first {} messages of queue {} were looked at; the rest stands behind them",
                    self.taken,
                    self.queue
                );
                break;
            }
            let Some(mut delivery) = self.next().await? else { break };
            let (message, facts) = self.read(&mut delivery);
            if peek.id.is_some() && peek.id != message.id {
                continue;
            }
            bytes += message.body.len();
            found.push(peeked(message, &facts));
        }
        Ok(found)
    }
}

fn peeked(message: Message, facts: &Facts) -> Peeked {
    // A dead letter's attempts are told by its header only: those counted are of another queue.
    let told = message.headers.get(header::ATTEMPT).and_then(HeaderValue::as_int);
    let told = told.and_then(|told| u32::try_from(told).ok()).unwrap_or(0);
    Peeked {
        attempt: facts.attempt.max(told),
        deliveries: Some(facts.deliveries.saturating_add(facts.native_count.unwrap_or(0))),
        exchange: facts.exchange.clone(),
        state: PeekState::Ready,
        due: None,
        holder: None,
        message,
    }
}
