//! Publishing: confirmed, a window of them outstanding, and what could not be taken said for each message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind, PublisherConfirm};

use super::fault;
use super::ladder::Rung;
use super::link::Link;
use super::properties::short;
use super::size;
use crate::error::{Error, ErrorKind, Result};

/// So many messages are on their way unconfirmed.
const WINDOW: usize = 1000;

/// A message on its way out.
pub(super) struct Outgoing {
    pub(super) to: Named,
    /// It is an error when no queue takes it.
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// Publishes on one connection.
pub(super) struct Publisher {
    link: Arc<Link>,
    channel: tokio::sync::Mutex<Option<Channel>>,
    /// Who sends now: messages of one call are not mixed with those of another.
    turn: tokio::sync::Mutex<()>,
    /// The rungs that this connection has made sure of: what was wanted, and what there is.
    rungs: Mutex<BTreeMap<String, String>>,
    /// Nothing confirmed for this long is an error; `None`: as long as the connection stands.
    patience: Option<Duration>,
    /// It was silent for that long. The answers that are there are taken, and none is waited for.
    silent: AtomicBool,
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>, patience: Option<Duration>) -> Self {
        Self {
            link,
            channel: tokio::sync::Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
            rungs: Mutex::default(),
            patience,
            silent: AtomicBool::new(false),
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether the broker has left the last message without an answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// The channel, in confirm mode. The broker closes it after some mistakes; then there is a new one.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let opening = self.opening().await?;
        if let Some(confirming) = opening.confirming() {
            confirming
                .await
                .map_err(|error| fault::lost(&error, self.link.endpoint()))?;
        }
        Ok(opening.opened())
    }

    /// The channel on its way into confirm mode, for who has more to ask of it in the same round trip.
    pub(super) async fn opening(&self) -> Result<Opening<'_>> {
        let kept = self.channel.lock().await;
        let open = kept.as_ref().filter(|channel| channel.status().connected()).cloned();
        let is_new = open.is_none();
        let channel = match open {
            Some(open) => open,
            None => self.link.channel().await?,
        };
        Ok(Opening { kept, channel, is_new })
    }

    /// Publishes in order and returns what was not taken, and why, by position. `refusal` words a refusal by the broker.
    ///
    /// Calls that come while one waits for its last confirms are sent meanwhile, one after the other.
    pub(super) async fn publish(
        &self,
        batch: impl IntoIterator<Item = (usize, Outgoing)>,
        refusal: impl Fn(&Named) -> Error,
    ) -> Vec<(usize, Error)> {
        let mut failed = Vec::new();
        let mut waiting: VecDeque<(usize, Named, PublisherConfirm)> = VecDeque::new();
        let mut batch = batch.into_iter();
        let turn = self.turn.lock().await;
        let mut channel = None;
        let mut broken = None;
        for (index, outgoing) in batch.by_ref() {
            if waiting.len() >= WINDOW
                && let Some(first) = waiting.pop_front()
            {
                self.confirmed(first, &refusal, &mut failed).await;
            }
            if let Err(error) = self.check_size(&outgoing.properties) {
                failed.push((index, error));
                continue;
            }
            let open = match &channel {
                Some(open) => open,
                None => match self.channel().await {
                    Ok(open) => channel.insert(open),
                    Err(error) => {
                        broken = Some((index, error));
                        break;
                    }
                },
            };
            let options = BasicPublishOptions {
                mandatory: outgoing.mandatory,
                ..BasicPublishOptions::default()
            };
            let sent = open.basic_publish(
                outgoing.to.exchange.clone(),
                outgoing.to.routing_key.clone(),
                options,
                &outgoing.body,
                outgoing.properties,
            );
            match self.patiently(sent).await {
                Ok(confirm) => waiting.push_back((index, outgoing.to, confirm)),
                Err(trouble) => {
                    broken = Some((index, self.not_sent(trouble, &outgoing.to)));
                    break;
                }
            }
        }
        drop(turn);
        while let Some(first) = waiting.pop_front() {
            self.confirmed(first, &refusal, &mut failed).await;
        }
        // What was behind the one that broke the channel was never sent.
        if let Some((index, error)) = broken {
            failed.extend(batch.map(|(index, _)| (index, error.duplicate())));
            failed.push((index, error));
        }
        failed.sort_by_key(|(index, _)| *index);
        failed
    }

    /// A frame that is too long would end the connection, and everything on it.
    fn check_size(&self, properties: &BasicProperties) -> Result<()> {
        let (size, most) = (size::of_frame(properties), self.link.frame_max());
        if size <= most {
            return Ok(());
        }
        Err(Error::bad_input(format!(
            "headers and properties of the message take {size} bytes, and must fit into one frame of {most}; send less in \
             them, or raise `frame_max` of the connection (RabbitMQ takes 131072 unless it is set up otherwise)"
        )))
    }

    async fn confirmed(
        &self,
        (index, named, confirm): (usize, Named, PublisherConfirm),
        refusal: &impl Fn(&Named) -> Error,
        failed: &mut Vec<(usize, Error)>,
    ) {
        match self.patiently(confirm).await {
            Ok(Confirmation::Ack(None)) => {}
            Ok(Confirmation::Ack(Some(_))) => failed.push((index, named.unroutable())),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => failed.push((index, refusal(&named))),
            Err(error) => failed.push((index, self.not_sent(error, &named))),
        }
    }

    /// Waits for the broker, but not for ever where somebody waits for us.
    async fn patiently<T>(&self, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Trouble> {
        let Some(patience) = self.patience else {
            return answer.await.map_err(Trouble::Client);
        };
        let within = if self.is_silent() { Duration::ZERO } else { patience };
        let answer = tokio::time::timeout(within, answer).await;
        self.silent.store(answer.is_err(), Ordering::Relaxed);
        match answer {
            Ok(answer) => answer.map_err(Trouble::Client),
            Err(_) => Err(Trouble::Silence(patience)),
        }
    }

    fn not_sent(&self, trouble: Trouble, named: &Named) -> Error {
        let error = match trouble {
            Trouble::Silence(patience) => {
                let seconds = patience.as_secs_f64();
                return Error::temporary(match self.link.blocked() {
                    Some(reason) => format!(
                        "{}: the broker takes no messages for now ({reason}) and has not confirmed this one; see to its \
                         disk and memory, and look whether it came through before you send it again",
                        self.link.endpoint()
                    ),
                    None => format!(
                        "{}: the broker has not confirmed the message within {seconds} s, so it may have it or not; look \
                         before you send it again",
                        self.link.endpoint()
                    ),
                });
            }
            Trouble::Client(error) => error,
        };
        if fault::is_soft(&error, &AMQPSoftError::NOTFOUND) {
            return Error::new(
                ErrorKind::Unroutable,
                format!(
                    "there is no exchange `{}`; declare it in the configuration, or check its name",
                    named.exchange
                ),
            );
        }
        if fault::answer(&error).is_some() {
            return fault::refused(&error, self.link.endpoint(), &format!("exchange `{}`", named.exchange));
        }
        let lost = fault::lost(&error, self.link.endpoint());
        Error::new(lost.kind(), format!("{lost}; the message was not confirmed"))
    }

    /// Makes sure of a rung of the ladder; the name of the exchange that leads there.
    pub(super) async fn ensure_rung(&self, rung: &Rung<'_>) -> Result<String> {
        let wanted = rung.name();
        if let Some(name) = self.rungs().get(&wanted) {
            return Ok(name.clone());
        }
        let name = match self.declare_rung(rung, &wanted).await {
            Ok(()) => wanted.clone(),
            Err(error) if rung.keeps() && matches!(error.kind(), ErrorKind::Config | ErrorKind::BadInput) => {
                let plain = rung.without_keeping();
                let name = plain.name();
                tracing::warn!(%error, instead = %name, "no delay queue can be made that keeps what a full queue refuses: what \
                     comes back while it is full is dropped by the broker");
                self.declare_rung(&plain, &name).await?;
                name
            }
            Err(error) => return Err(error),
        };
        self.rungs().insert(wanted, name.clone());
        Ok(name)
    }

    async fn declare_rung(&self, rung: &Rung<'_>, name: &str) -> Result<()> {
        let short_name = short("the delay queue's name", name)?;
        let channel = self.link.channel().await?;
        let durable_queue = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let durable_exchange = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let declared = async {
            channel
                .exchange_declare(
                    short_name.clone(),
                    ExchangeKind::Fanout,
                    durable_exchange,
                    FieldTable::default(),
                )
                .await?;
            channel
                .queue_declare(short_name.clone(), durable_queue, rung.arguments())
                .await?;
            channel
                .queue_bind(
                    short_name.clone(),
                    short_name.clone(),
                    ShortString::default(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
        };
        declared
            .await
            .map_err(|error| fault::refused(&error, self.link.endpoint(), &format!("delay queue {name}")))?;
        let _ = channel.close(200, "done".into()).await;
        Ok(())
    }

    /// Forgets a rung that turned out to be gone.
    pub(super) fn forget_rung(&self, rung: &Rung<'_>) {
        self.rungs().remove(&rung.name());
    }

    fn rungs(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.rungs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A publisher's channel that nobody else gets meanwhile.
pub(super) struct Opening<'a> {
    kept: tokio::sync::MutexGuard<'a, Option<Channel>>,
    pub(super) channel: Channel,
    is_new: bool,
}

impl Opening<'_> {
    /// What there is to ask first, and to wait for.
    pub(super) fn confirming(&self) -> Option<impl Future<Output = lapin::Result<()>> + Send + 'static> {
        let channel = self.is_new.then(|| self.channel.clone())?;
        Some(async move { channel.confirm_select(ConfirmSelectOptions::default()).await })
    }

    /// It was answered.
    pub(super) fn opened(mut self) -> Channel {
        *self.kept = Some(self.channel.clone());
        self.channel
    }
}

enum Trouble {
    Client(lapin::Error),
    Silence(Duration),
}

/// Where a message is sent.
pub(super) struct Named {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
}

impl Named {
    fn unroutable(&self) -> Error {
        let (exchange, key) = (
            self.exchange.as_str(),
            self.routing_key.as_str().escape_debug().to_string(),
        );
        Error::new(
            ErrorKind::Unroutable,
            if exchange.is_empty() {
                format!("there is no queue `{key}`; declare it, or check its name")
            } else {
                format!(
                    "no queue is bound to exchange `{exchange}` for the routing key `{key}`; bind one, or check the key"
                )
            },
        )
    }
}
