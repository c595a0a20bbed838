//! An open connection: what the contract asks of it, handed to those who do it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Consumer;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::address::Address;
use super::arguments;
use super::copies::Copies;
use super::declare;
use super::fault;
use super::ladder::{self, Landing, Rung};
use super::link::Link;
use super::management::Management;
use super::nature::{Kind, Nature, check_deliveries};
use super::probe;
use super::properties::{of_message, short};
use super::publisher::{Named, Outgoing, Publisher};
use super::reply::{self, Replies};
use super::subscription::{AmqpSubscription, Shared, Source};
use super::survivors::Survivors;
use super::{SPEC_NAME, admin, info, look, pause, redrive};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::topology::usual_dead_letter;
use crate::queue::{
    Capabilities, ConnectOptions, Connection, ConsumeOptions, Delete, Lifeline, LookPrice, Peek, Peeked, Publication,
    PublishFailure, Purge, Queue, QueueInfo, Redrive, RedriveReport, Subscription, Topology,
};

/// How long a good-bye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// A short command waits at least this long for a confirm: brokers write to disk before they give it.
const CONFIRM_AT_LEAST: Duration = Duration::from_secs(10);

/// A connection to RabbitMQ.
pub(super) struct AmqpConnection {
    pub(super) link: Arc<Link>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) copies: Arc<Copies>,
    pub(super) management: Arc<Management>,
    capabilities: Capabilities,
    survivors: Arc<Survivors>,
    /// The queues that were declared over this connection, by name.
    known: Mutex<BTreeMap<String, Queue>>,
    subscriptions: Mutex<Vec<(String, Weak<Shared>)>>,
    /// Listens for replies since a reply queue was asked for.
    replies: Mutex<Option<Consumer>>,
}

impl AmqpConnection {
    pub(super) async fn open(
        address: &Arc<Address>,
        options: &ConnectOptions,
        capabilities: Capabilities,
        survivors: Arc<Survivors>,
    ) -> Result<Self> {
        let link = Arc::new(Link::connect(address, options).await?);
        let patience = options.one_shot.then(|| options.timeout.max(CONFIRM_AT_LEAST));
        Ok(Self {
            management: Arc::new(Management::new(Arc::clone(address), link.host().clone())),
            publisher: Arc::new(Publisher::new(Arc::clone(&link), patience)),
            copies: Arc::new(Copies::new(Arc::clone(address), options)),
            link,
            capabilities,
            survivors,
            known: Mutex::default(),
            subscriptions: Mutex::default(),
            replies: Mutex::default(),
        })
    }

    /// What is known of a queue from what was declared over this connection.
    pub(super) fn known(&self, queue: &str) -> Option<Queue> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(queue)
            .cloned()
    }

    /// Where the dead letters of a queue are.
    pub(super) fn dead_letter(&self, queue: &str) -> Option<String> {
        match self.known(queue) {
            Some(known) => known.dead_letter,
            None => usual_dead_letter(queue),
        }
    }

    /// The inside of a subscription of this connection to this queue, if there is one.
    pub(super) fn subscription(&self, queue: &str) -> Option<Arc<Shared>> {
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.retain(|(_, shared)| shared.strong_count() > 0);
        let found = subscriptions.iter().find(|(name, _)| name == queue);
        found.and_then(|(_, shared)| shared.upgrade())
    }

    fn consumes(&self) -> bool {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.iter().any(|(_, shared)| shared.strong_count() > 0)
    }

    /// What messages go out by. A consumer's own, its replies, go where its copies go: see there.
    pub(super) async fn outlet(&self) -> Result<Arc<Publisher>> {
        if self.consumes() {
            self.copies.publisher().await
        } else {
            Ok(Arc::clone(&self.publisher))
        }
    }

    /// What is known of a queue to consume from. A classic queue that was declared over this connection is as it was declared.
    async fn nature_to_consume(&self, queue: &str) -> Result<Option<Nature>> {
        match self.known(queue).filter(|known| !known.passive) {
            Some(known) if !arguments::is_quorum(&known) => Nature::declared(&known).map(Some),
            _ => Nature::of(self, queue).await,
        }
    }

    /// How many messages are ready in a queue, and how many consumers it has.
    pub(super) async fn depth(&self, queue: &str) -> Result<(u32, u32)> {
        if let Some(shared) = self.subscription(queue) {
            return shared.depth().await;
        }
        let channel = self.link.channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = channel
            .queue_declare(short("the queue's name", queue)?, passive, FieldTable::default())
            .await
            .map_err(|error| fault::refused(&error, self.link.endpoint(), &format!("queue `{queue}`")))?;
        let _ = channel.close(200, "done".into()).await;
        Ok((found.message_count(), found.consumer_count()))
    }

    /// The message as it goes out, after everything that this driver cannot carry is refused.
    async fn outgoing(&self, publisher: &Publisher, publication: Publication) -> Result<Outgoing> {
        let Publication { exchange, message, .. } = publication;
        if message.body.len() as u64 > self.capabilities.max_body {
            return Err(Error::bad_input(format!(
                "the body has {} bytes, more than `max_body` of {}; send a reference to the data, or raise `max_body` of the \
                 connection",
                message.body.len(),
                self.capabilities.max_body
            )));
        }
        // The broker says of a direct reply that it could not be routed although it was delivered.
        let mandatory = !(exchange.is_empty() && reply::is_private(&message.routing_key));
        let properties = of_message(&message)?;
        let exchange = match message.delay {
            None => short("the exchange's name", &*exchange)?,
            Some(delay) => {
                let (milliseconds, again) = ladder::delay(delay);
                if again {
                    return Err(Error::unsupported(format!(
                        "the driver {SPEC_NAME} holds a message back for a day at most; schedule it from outside"
                    )));
                }
                if let Some(ttl) = message.ttl.filter(|ttl| ttl.as_millis() <= u128::from(milliseconds)) {
                    return Err(Error::bad_input(format!(
                        "the message expires after {} s, before its delay of {} s is over; make its ttl longer",
                        ttl.as_secs_f64(),
                        Duration::from_millis(milliseconds).as_secs_f64()
                    )));
                }
                if exchange.is_empty() {
                    // When the ladder lets go of it nobody hears of a queue that is not there.
                    self.depth(&message.routing_key).await?;
                }
                let landing = match self.landing(&exchange, &message.routing_key) {
                    Landing::Queue => self.management.landing(&message.routing_key).await,
                    known => known,
                };
                let rung = publisher.ensure_rung(&Rung { milliseconds, landing }).await?;
                short("the exchange's name", rung)?
            }
        };
        Ok(Outgoing {
            to: Named {
                exchange,
                routing_key: short("the routing key", message.routing_key)?,
            },
            mandatory,
            properties,
            body: message.body,
        })
    }

    /// Where a delayed message lands, as far as the queues are known that were declared over this connection.
    fn landing<'a>(&self, exchange: &'a str, routing_key: &'a str) -> Landing<'a> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let refuses = |queue: &Queue| Nature::declared(queue).is_ok_and(|nature| nature.refuses());
        let leads_to = |queue: &&Queue| queue.bindings.iter().any(|binding| binding.exchange == exchange);
        if exchange.is_empty() {
            return match known.get(routing_key).filter(|queue| refuses(queue)) {
                Some(_) => Landing::LimitedQueue(routing_key),
                None => Landing::Queue,
            };
        }
        if known.values().filter(leads_to).any(refuses) {
            Landing::LimitedExchange(exchange)
        } else {
            Landing::Exchange(exchange)
        }
    }

    fn refusal(&self, to: &Named) -> Error {
        let (exchange, name) = (to.exchange.as_str(), to.routing_key.as_str());
        let limits = |queue: &Queue| {
            let length = queue.max_length.map(|most| format!("max_length {most}"));
            let bytes = queue.max_bytes.map(|most| format!("max_bytes {most}"));
            length.into_iter().chain(bytes).collect::<Vec<_>>().join(", ")
        };
        let known = self.known(name).filter(|_| exchange.is_empty());
        Error::temporary(
            match known.map(|queue| limits(&queue)).filter(|limits| !limits.is_empty()) {
                Some(limits) => format!("full: queue `{name}` takes no more ({limits}); try again when there is room"),
                None => format!(
                    "the broker refuses the message to exchange `{exchange}` with the routing key `{name}`: a queue behind it is full, or \
                 cannot store it now; try again later"
                ),
            },
        )
    }
}

#[async_trait]
impl Connection for AmqpConnection {
    fn driver(&self) -> &'static str {
        SPEC_NAME
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        if topology.exchanges.is_empty() && topology.queues.is_empty() {
            return Ok(());
        }
        declare::declare(&self.publisher, &self.management, topology).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in &topology.queues {
            known.insert(queue.name.clone(), queue.clone());
        }
        Ok(())
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<(), PublishFailure> {
        let count = batch.len();
        let publisher = self
            .outlet()
            .await
            .map_err(|error| PublishFailure::all(count, &error))?;
        let mut failed = Vec::new();
        let mut outgoing = Vec::with_capacity(count);
        for (index, publication) in batch.into_iter().enumerate() {
            match self.outgoing(&publisher, publication).await {
                Ok(ready) => outgoing.push((index, ready)),
                Err(error) => failed.push((index, error)),
            }
        }
        failed.extend(publisher.publish(outgoing, |to| self.refusal(to)).await);
        failed.sort_by_key(|(index, _)| *index);
        if failed.is_empty() {
            Ok(())
        } else {
            Err(PublishFailure { failed })
        }
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Subscription>> {
        if options.queue == reply::DIRECT {
            let consumer = self.replies.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(consumer) = consumer else {
                return Err(Error::bug("a reply queue is consumed before it was asked for"));
            };
            return Ok(Box::new(Replies {
                consumer,
                endpoint: self.link.endpoint().to_owned(),
                arrived: Vec::new(),
            }));
        }
        let nature = self.nature_to_consume(&options.queue).await?;
        if let Some(nature) = &nature {
            if nature.kind == Kind::Stream {
                return Err(Error::unsupported(format!(
                    "queue `{}` is a stream, which gives nothing back and settles nothing (driver {SPEC_NAME})",
                    options.queue
                )));
            }
            check_deliveries(&options.queue, nature, options.most_deliveries)?;
        }
        // First listen, then look: see there.
        let ear = pause::listen(&self.link, &options.queue).await?;
        let paused = pause::is_paused(&self.link, &options.queue).await?;
        if paused {
            self.depth(&options.queue).await?;
        }
        let source = Source {
            limited: nature.as_ref().is_some_and(Nature::refuses),
            management: Arc::clone(&self.management),
            survivors: Arc::clone(&self.survivors),
            counted: nature.is_some_and(|nature| nature.kind == Kind::Quorum),
            dead_letter: self.dead_letter(&options.queue),
            queue: options.queue.clone(),
        };
        let lifeline = Lifeline {
            token: super::link::token()?,
            file: None,
            socket: self.link.socket(),
        };
        let subscription = AmqpSubscription::start(
            Arc::clone(&self.link),
            Arc::clone(&self.copies),
            source,
            &options,
            lifeline,
            paused,
        )
        .await?;
        let subscription = subscription.hearing(ear);
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((options.queue, Arc::downgrade(subscription.shared())));
        Ok(Box::new(subscription))
    }

    async fn ping(&self) -> Result<()> {
        let channel = self.link.channel().await?;
        let _ = channel.close(200, "done".into()).await;
        Ok(())
    }

    async fn round_trip(&self) -> Result<Duration> {
        probe::round_trip(&self.link).await
    }

    async fn close(&self) -> Result<()> {
        self.copies.close(CLOSE_WITHIN).await;
        if !self.publisher.is_silent() {
            self.link.close(CLOSE_WITHIN).await;
        }
        Ok(())
    }

    async fn info(&self, queue: &str) -> Result<QueueInfo> {
        info::info(self, queue).await
    }

    async fn has_queue(&self, queue: &str) -> Result<bool> {
        match self.depth(queue).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            // Somebody's own queue is one too.
            Err(error) if error.kind() == ErrorKind::Temporary => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn list(&self) -> Result<Vec<String>> {
        admin::list(self).await
    }

    async fn figures(&self, queues: &[String]) -> Result<Vec<QueueInfo>> {
        info::several(self, queues).await
    }

    async fn look_price(&self, queue: &str) -> Result<LookPrice> {
        look::price(self, queue).await
    }

    async fn peek(&self, queue: &str, peek: &Peek) -> Result<Vec<Peeked>> {
        look::peek(self, queue, peek).await
    }

    async fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        pause::set(self, queue, paused).await
    }

    async fn redrive(&self, queue: &str, redrive: &Redrive) -> Result<RedriveReport> {
        redrive::redrive(self, queue, redrive).await
    }

    async fn purge(&self, queue: &str, purge: Purge) -> Result<u64> {
        admin::purge(self, queue, purge).await
    }

    async fn delete(&self, queue: &str, delete: Delete) -> Result<u64> {
        admin::delete(self, queue, delete).await
    }

    async fn temporary_queue(&self) -> Result<String> {
        // Replies come to the channel that the request went out on.
        let channel = self.publisher.channel().await?;
        let there = self.replies.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !there {
            let consumer = reply::listen(&channel, self.link.endpoint()).await?;
            *self.replies.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumer);
        }
        Ok(reply::DIRECT.to_owned())
    }

    fn is_reply_queue(&self, reply_to: &str) -> bool {
        reply::is_private(reply_to)
    }
}
