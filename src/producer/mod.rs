//! Publishes messages: fills in ids and timestamps, declares what is needed, and can wait for a reply.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::events::{Event, EventKind, Listeners};
use crate::queue::topology::{NAME_LIMIT, check_name};
use crate::queue::{
    Capabilities, Connection, ConsumeOptions, Message, Publication, PublishFailure, Settlement, Subscription, Topology,
};
use crate::signing::Signer;

/// Where a producer's messages go.
#[derive(Clone, Debug, Default)]
pub struct ProducerSettings {
    /// Its name, for listeners.
    pub name: String,
    /// Signs what is sent.
    pub signer: Option<Signer>,
    /// Who hears of what is sent.
    pub listeners: Arc<Listeners>,
    /// The exchange; empty: the default one.
    pub exchange: String,
    /// With the default exchange: the queue, which then is every message's routing key.
    pub queue: String,
    /// The ttl of messages that bring none.
    pub ttl: Option<Duration>,
    /// Declared before the first message.
    pub topology: Topology,
}

/// Publishes to one place. Share it behind an `Arc`.
pub struct Producer {
    connection: Arc<dyn Connection>,
    capabilities: Capabilities,
    exchange: Arc<str>,
    queue: String,
    ttl: Option<Duration>,
    ids: Ids,
    name: String,
    signer: Option<Signer>,
    /// `None`: nobody hears of what is sent.
    listeners: Option<Arc<Listeners>>,
}

/// Message ids: 64 random bits for the producer and a number.
struct Ids {
    prefix: String,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Result<Self> {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes).map_err(|error| {
            Error::unavailable(format!("the system gives no random numbers for message ids: {error}"))
        })?;
        Ok(Self {
            prefix: format!("{:016x}-", u64::from_ne_bytes(bytes)),
            next: AtomicU64::new(1),
        })
    }

    fn next(&self) -> String {
        let mut id = String::with_capacity(self.prefix.len() + 8);
        id.push_str(&self.prefix);
        // Writing to a string cannot fail.
        let _ = write!(id, "{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        id
    }
}

impl Producer {
    /// Declares what is needed and returns a producer. Names that cannot be are refused before anything is declared.
    pub async fn new(connection: Arc<dyn Connection>, settings: ProducerSettings) -> Result<Self> {
        check_name("exchange", &settings.exchange)?;
        check_name("queue", &settings.queue)?;
        settings.topology.check_names()?;
        if settings.exchange.is_empty() && connection.is_reply_queue(&settings.queue) {
            return Err(Error::not_allowed(format!(
                "queue {} is made for the reply to one request, which only the consumer of that request sends there; name \
                 another queue",
                settings.queue
            )));
        }
        connection.declare(&settings.topology).await?;
        let is_heard = settings
            .listeners
            .hear_of(EventKind::MessageSent, &settings.name, &settings.queue);
        Ok(Self {
            listeners: is_heard.then_some(settings.listeners),
            name: settings.name,
            signer: settings.signer,
            capabilities: connection.capabilities(),
            connection,
            exchange: settings.exchange.into(),
            queue: settings.queue,
            ttl: settings.ttl,
            ids: Ids::new()?,
        })
    }

    /// Publishes one message and returns its id once the broker has it.
    ///
    /// An id that the message brings is kept, and published again within the driver's window it is the same message.
    pub async fn send(&self, message: Message) -> Result<String> {
        let publication = self.prepare(message)?;
        let id = publication.message.id.clone().unwrap_or_default();
        let heard = self.listeners.is_some().then(|| publication.message.clone());
        self.connection
            .publish(vec![publication])
            .await
            .map_err(PublishFailure::into_first)?;
        self.tell(heard).await;
        Ok(id)
    }

    /// Tells of messages that the broker has.
    async fn tell(&self, sent: impl IntoIterator<Item = Message>) {
        let Some(listeners) = &self.listeners else { return };
        for message in sent {
            let event = Event {
                kind: EventKind::MessageSent,
                name: &self.name,
                queue: &self.queue,
                exchange: &self.exchange,
                message: Some(&message),
                attempt: None,
                deliveries: None,
                ended: None,
                trusted: true,
                process: None,
            };
            // It is sent, whatever they say to it.
            let never = CancellationToken::new();
            listeners.tell(&event, &never, &never).await;
        }
    }

    /// Publishes a batch in order and returns the ids. Either all are taken, or the failure says which are not.
    pub async fn send_all(&self, messages: Vec<Message>) -> Result<Vec<String>, PublishFailure> {
        let mut ids = Vec::with_capacity(messages.len());
        let mut batch = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            match self.prepare(message) {
                Ok(publication) => {
                    ids.push(publication.message.id.clone().unwrap_or_default());
                    batch.push(publication);
                }
                Err(error) => {
                    // Nothing has been sent yet, and nothing is: a batch is refused before it has any effect.
                    return Err(PublishFailure {
                        failed: vec![(index, error)],
                    });
                }
            }
        }
        let heard: Vec<Message> = match &self.listeners {
            Some(_) => batch.iter().map(|publication| publication.message.clone()).collect(),
            None => Vec::new(),
        };
        match self.connection.publish(batch).await {
            Ok(()) => {
                self.tell(heard).await;
                Ok(ids)
            }
            Err(failure) => {
                let failed = |index: usize| failure.failed.iter().any(|(known, _)| *known == index);
                let sent = heard.into_iter().enumerate().filter(|(index, _)| !failed(*index));
                self.tell(sent.map(|(_, message)| message)).await;
                Err(failure)
            }
        }
    }

    /// Publishes a message that asks for a reply, to a queue made for it, which is waited for during `patience`; `None`: for ever.
    ///
    /// Where the driver cannot take a request back, it expires when nobody waits for it any more, so that it is not begun
    /// hours later.
    pub async fn request(&self, mut message: Message, patience: Option<Duration>) -> Result<Pending> {
        if !self.capabilities.reply {
            return Err(Error::unsupported(format!(
                "the {} driver cannot wait for replies; `qctl managedriver list` shows which can",
                self.connection.driver()
            )));
        }
        let reply_to = self.connection.temporary_queue().await?;
        let replies = self
            .connection
            .consume(ConsumeOptions {
                queue: reply_to.clone(),
                prefetch: 1,
                slots: 1,
                label: "waiting for a reply".to_owned(),
                most_deliveries: None,
            })
            .await?;
        message.reply_to = Some(reply_to.clone());
        if !self.capabilities.withdraw && self.capabilities.ttl {
            message.ttl = [message.ttl, self.ttl, patience].into_iter().flatten().min();
        }
        // Its own id is new, so it is no copy of another one, whatever the correlation is.
        if message.correlation_id.is_none() {
            message.correlation_id = Some(message.id.clone().unwrap_or_else(|| self.ids.next()));
        }
        let publication = self.prepare(message)?;
        let id = publication.message.id.clone().unwrap_or_default();
        let correlation_id = publication.message.correlation_id.clone();
        let ttl = publication.message.ttl;
        let heard = self.listeners.is_some().then(|| publication.message.clone());
        self.connection
            .publish(vec![publication])
            .await
            .map_err(PublishFailure::into_first)?;
        self.tell(heard).await;
        Ok(Pending {
            connection: Arc::clone(&self.connection),
            replies,
            id,
            reply_to,
            correlation_id,
            ttl,
            withdraws: self.capabilities.withdraw,
        })
    }

    /// Fills in what is missing and refuses what the driver cannot carry, before anything is sent.
    fn prepare(&self, mut message: Message) -> Result<Publication> {
        let deduplicate = message.id.is_some();
        if self.exchange.is_empty() {
            message.routing_key.clone_from(&self.queue);
        }
        check_routing_key(&message.routing_key)?;
        message.ttl = message.ttl.or(self.ttl);
        for (wanted, can, what) in [
            (message.delay.is_some(), self.capabilities.delay, "a delay"),
            (message.ttl.is_some(), self.capabilities.ttl, "a ttl"),
            (message.priority.is_some(), self.capabilities.priority, "a priority"),
        ] {
            if wanted && !can {
                return Err(Error::unsupported(format!(
                    "the {} driver cannot send a message with {what}; `qctl managedriver list` shows which can",
                    self.connection.driver()
                )));
            }
        }
        if message.body.len() as u64 > self.capabilities.max_body {
            return Err(Error::bad_input(format!(
                "the body has {} bytes, more than the {} that this connection carries; send a reference to the data instead",
                message.body.len(),
                self.capabilities.max_body
            )));
        }
        message.id.get_or_insert_with(|| self.ids.next());
        message.timestamp.get_or_insert_with(wall_clock);
        if let Some(signer) = &self.signer {
            signer.sign(&mut message, &self.exchange);
        }
        Ok(Publication {
            exchange: Arc::clone(&self.exchange),
            message,
            deduplicate,
        })
    }
}

/// Refuses a routing key that brokers cannot carry.
pub fn check_routing_key(key: &str) -> Result<()> {
    if key.len() > NAME_LIMIT {
        return Err(Error::bad_input(format!(
            "the routing key has {} bytes, more than the {NAME_LIMIT} that brokers carry; give a shorter one with -r",
            key.len()
        )));
    }
    Ok(())
}

fn wall_clock() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// A request whose reply is awaited.
pub struct Pending {
    connection: Arc<dyn Connection>,
    replies: Box<dyn Subscription>,
    id: String,
    reply_to: String,
    correlation_id: Option<String>,
    ttl: Option<Duration>,
    withdraws: bool,
}

impl Pending {
    /// The request's message id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the reply. Cancel-safe.
    pub async fn reply(&mut self) -> Result<Message> {
        loop {
            for delivery in self.replies.next().await? {
                let ours = delivery.message.correlation_id == self.correlation_id;
                self.replies.settler().settle(delivery.ticket, Settlement::Ack).await?;
                if ours {
                    return Ok(delivery.message);
                }
            }
        }
    }

    /// How long the request is worth beginning, counted from its publication.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Whether a request can be taken back here.
    pub fn can_withdraw(&self) -> bool {
        self.withdraws
    }

    /// Takes the request back if no handler has begun it; `false`: one has.
    pub async fn withdraw(&self) -> Result<bool> {
        self.connection.withdraw(&self.id, &self.reply_to).await
    }
}
