//! Replies to requests, by RabbitMQ's direct reply-to: no queue is made, and the reply goes straight to the channel that the
//! request was published on.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{FutureExt, StreamExt};
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use super::fault;
use super::properties::to_message;
use crate::error::{Error, Result};
use crate::queue::{Delivery, Lifeline, Settle, Settlement, Subscription, Ticket};

/// The name to put into `reply_to`; the broker puts the way back in its place.
pub(super) const DIRECT: &str = "amq.rabbitmq.reply-to";
/// Queues that the broker has named for a client, which are its own and go with it.
const NAMED_BY_THE_BROKER: &str = "amq.gen-";

/// Whether a message's `reply_to` names what only whoever asked can read. Clients cannot make queues of these names
/// themselves.
pub(super) fn is_private(reply_to: &str) -> bool {
    reply_to
        .strip_prefix(DIRECT)
        .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(is_way_back))
        || reply_to.starts_with(NAMED_BY_THE_BROKER)
}

/// Whether this can be the way back that the broker has written: the Erlang process of a channel (a node's name and three or four
/// numbers, in Erlang's external term format) and a key, both in base64. Over anything else the broker ends the connection that
/// it comes on, with the replies of everybody else.
fn is_way_back(text: &str) -> bool {
    const VERSION: u8 = 131;
    const PID: u8 = 103;
    const NEW_PID: u8 = 88;
    let Some((process, key)) = text.split_once('.') else {
        return false;
    };
    let (Ok(process), Ok(_)) = (STANDARD.decode(process), STANDARD.decode(key)) else {
        return false;
    };
    let [VERSION, kind @ (PID | NEW_PID), node @ ..] = process.as_slice() else {
        return false;
    };
    // The name as an atom: its tag, its length in one or two bytes, its text.
    let name = match node {
        [100 | 118, high, low, rest @ ..] => rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))),
        [115 | 119, length, rest @ ..] => rest.split_at_checked(usize::from(*length)),
        _ => None,
    };
    let numbers = if *kind == PID { 9 } else { 12 };
    !key.is_empty() && name.is_some_and(|(name, rest)| name.contains(&b'@') && rest.len() == numbers)
}

/// Begins to listen for replies to what is published on this channel from now on.
pub(super) async fn listen(channel: &Channel, endpoint: &str) -> Result<Consumer> {
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(DIRECT.into(), ShortString::default(), options, FieldTable::default())
        .await
        .map_err(|error| fault::refused(&error, endpoint, "direct reply-to"))
}

/// The replies as a subscription; they need no settlement.
pub(super) struct Replies {
    pub(super) consumer: Consumer,
    pub(super) endpoint: String,
    pub(super) arrived: Vec<Delivery>,
}

impl Replies {
    fn delivery(&self, next: Option<lapin::Result<lapin::message::Delivery>>) -> Result<Delivery> {
        let delivery = match next {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(fault::lost(&error, &self.endpoint)),
            None => return Err(Error::unavailable(format!("{}: the connection is gone", self.endpoint))),
        };
        let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        let (message, facts) = to_message(&delivery.properties, exchange, key, DIRECT, delivery.data);
        Ok(Delivery {
            message,
            queue: DIRECT.to_owned(),
            exchange: facts.exchange,
            attempt: 0,
            deliveries: Some(1),
            redelivered: false,
            alone: false,
            ticket: Ticket::new(delivery.delivery_tag),
        })
    }
}

#[async_trait]
impl Subscription for Replies {
    async fn next(&mut self) -> Result<Vec<Delivery>> {
        let mut deliveries = std::mem::take(&mut self.arrived);
        if deliveries.is_empty() {
            let next = self.consumer.next().await;
            deliveries.push(self.delivery(next)?);
        }
        Ok(deliveries)
    }

    fn settler(&self) -> Arc<dyn Settle> {
        Arc::new(Settled)
    }

    fn lifeline(&self) -> Lifeline {
        Lifeline {
            token: String::new(),
            file: None,
            socket: None,
        }
    }

    fn is_quiet(&self) -> bool {
        self.arrived.is_empty()
    }

    async fn stop(&mut self) -> Result<()> {
        while let Some(next) = self.consumer.next().now_or_never() {
            let delivery = self.delivery(next)?;
            self.arrived.push(delivery);
        }
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A reply is gone from the broker when it is delivered.
struct Settled;

#[async_trait]
impl Settle for Settled {
    async fn settle(&self, _ticket: Ticket, _settlement: Settlement) -> Result<()> {
        Ok(())
    }

    async fn start(&self, _ticket: &Ticket) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn only_queues_that_nobody_else_can_make_are_private() {
        for (name, expected) in [
            ("amq.rabbitmq.reply-to", true),
            // Written by RabbitMQ 3.10.8.
            (
                "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxOTU1MDY0NAAANXkAAAAJawHTeg==.r3pxtz6QKkNpn3vDJyrSiQ==",
                true,
            ),
            // The same with the name as a short atom, and with a number missing.
            (
                "amq.rabbitmq.reply-to.g1h3DnJlcGx5QDE5NTUwNjQ0AAA1eQAAAAlrAdN6.r3pxtz6QKkNpn3vDJyrSiQ==",
                true,
            ),
            (
                "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxOTU1MDY0NAAANXkAAAAJ.r3pxtz6QKkNpn3vDJyrSiQ==",
                false,
            ),
            ("amq.rabbitmq.reply-to.g1h2AA.x==", false),
            ("amq.rabbitmq.reply-to.", false),
            ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", true),
            ("amq.rabbitmq.reply-tomorrow", false),
            ("amq.topic", false),
            ("orders", false),
            ("", false),
        ] {
            assert_eq!(is_private(name), expected, "{name}");
        }
    }
}
