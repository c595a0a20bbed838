//! Declaring exchanges, queues and bindings: all at once where all is well, and one by one where it is not, to say what
//! differs. Nothing is ever deleted or changed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind as Kind};

use super::arguments;
use super::difference::{self, Difference};
use super::fault;
use super::inquiry::{self, Declared};
use super::link::Link;
use super::management::Management;
use super::properties::{short, table};
use super::publisher::Publisher;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Binding, Exchange, ExchangeKind, Queue, Topology};

/// One thing to make sure of.
enum Step<'a> {
    Exchange(&'a Exchange),
    Queue(&'a Queue),
    /// A dead-letter queue that is not described itself.
    DeadLetterQueue(&'a str),
    Binding(&'a Queue, &'a Binding),
}

type Declaring<'a> = Pin<Box<dyn Future<Output = lapin::Result<()>> + Send + 'a>>;

/// Makes sure of all of it, over the publisher's channel, which is closed by the broker if something is refused.
pub(super) async fn declare(publisher: &Publisher, management: &Management, topology: &Topology) -> Result<()> {
    arguments::check(topology)?;
    let steps = steps(topology);
    let link = publisher.link();
    let opening = publisher.opening().await?;
    let channel = opening.channel.clone();
    let mut asking: Vec<Declaring<'_>> = Vec::with_capacity(steps.len() + 1);
    if let Some(confirming) = opening.confirming() {
        asking.push(Box::pin(confirming));
    }
    for step in &steps {
        asking.push(step.run(&channel, true)?);
    }
    let declared = all_in_order(asking).await;
    if declared.is_ok() {
        opening.opened();
        return Ok(());
    }
    drop(opening);
    // Something is refused, and with it everything after it on that channel.
    for step in &steps {
        let channel = link.channel().await?;
        if let Err(error) = step.run(&channel, true)?.await {
            step.explain(link, management, &error).await?;
        }
        let _ = channel.close(200, "done".into()).await;
    }
    Ok(())
}

fn steps(topology: &Topology) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = topology
        .exchanges
        .iter()
        .filter(|exchange| !exchange.name.is_empty())
        .map(Step::Exchange)
        .collect();
    for queue in &topology.queues {
        if let Some(dead) = &queue.dead_letter
            && !topology.queues.iter().any(|known| known.name == *dead)
            && !queue.passive
        {
            steps.push(Step::DeadLetterQueue(dead));
        }
        steps.push(Step::Queue(queue));
    }
    for queue in &topology.queues {
        steps.extend(queue.bindings.iter().map(|binding| Step::Binding(queue, binding)));
    }
    steps
}

impl Step<'_> {
    fn run<'a>(&'a self, channel: &'a Channel, dead_letter: bool) -> Result<Declaring<'a>> {
        Ok(match self {
            Self::Exchange(exchange) => {
                let options = ExchangeDeclareOptions {
                    passive: exchange.passive,
                    durable: exchange.durable,
                    auto_delete: exchange.auto_delete,
                    internal: exchange.internal,
                    nowait: false,
                };
                let kind = match exchange.kind {
                    ExchangeKind::Direct => Kind::Direct,
                    ExchangeKind::Fanout => Kind::Fanout,
                    ExchangeKind::Topic => Kind::Topic,
                    ExchangeKind::Headers => Kind::Headers,
                };
                let name = short("the exchange's name", &exchange.name)?;
                Box::pin(channel.exchange_declare(name, kind, options, table(&exchange.arguments)?))
            }
            Self::Queue(queue) => {
                let options = QueueDeclareOptions {
                    passive: queue.passive,
                    durable: queue.durable,
                    exclusive: queue.exclusive,
                    auto_delete: queue.auto_delete,
                    nowait: false,
                };
                queue_declare(channel, &queue.name, options, arguments::of_queue(queue, dead_letter)?)?
            }
            Self::DeadLetterQueue(name) => {
                let options = QueueDeclareOptions {
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                queue_declare(channel, name, options, FieldTable::default())?
            }
            Self::Binding(queue, binding) => Box::pin(channel.queue_bind(
                short("the queue's name", &queue.name)?,
                short("the exchange's name", &binding.exchange)?,
                short("the routing key", &binding.routing_key)?,
                QueueBindOptions::default(),
                table(&binding.arguments)?,
            )),
        })
    }

    fn shown(&self) -> String {
        match self {
            Self::Exchange(exchange) => format!("exchange `{}`", exchange.name),
            Self::Queue(queue) => format!("queue `{}`", queue.name),
            Self::DeadLetterQueue(name) => format!("dead-letter queue `{name}`"),
            Self::Binding(queue, binding) => format!(
                "the binding of queue `{}` to exchange `{}` with `{}`",
                queue.name, binding.exchange, binding.routing_key
            ),
        }
    }

    /// Says why the broker refused; some refusals leave us with what is there, which then does.
    async fn explain(&self, link: &Link, management: &Management, error: &lapin::Error) -> Result<()> {
        let differs = fault::is_soft(error, &AMQPSoftError::PRECONDITIONFAILED);
        let is_passive = match self {
            Self::Exchange(exchange) => exchange.passive,
            Self::Queue(queue) => queue.passive,
            Self::DeadLetterQueue(_) | Self::Binding(..) => false,
        };
        match self {
            // Some program made it before with arguments of its own. It holds messages, and that is all it must do.
            Self::DeadLetterQueue(_) if differs => return Ok(()),
            Self::Queue(queue) if differs && arguments::adds_dead_letter(queue) => {
                let channel = link.channel().await?;
                if self.run(&channel, false)?.await.is_ok() {
                    tracing::warn!(queue = %queue.name, dead_letter = queue.dead_letter.as_deref().unwrap_or(""),
                        "the queue was made without a dead-letter target: what qctl gives up goes there all the same, but what \
                         the broker drops itself (expired messages) is gone; set a policy, or delete and declare the queue anew");
                    return Ok(());
                }
            }
            _ => {}
        }
        if is_passive && fault::is_soft(error, &AMQPSoftError::NOTFOUND) {
            return Err(Error::not_found(format!(
                "{} is not there, and `passive` says that somebody else makes it; have it made, or leave `passive` out",
                self.shown()
            )));
        }
        if let Some(said) = fault::answer(error).map(fault::told)
            && (said.starts_with("invalid arg") || said.contains("reserved prefix"))
        {
            return Err(Error::config(format!(
                "{} cannot be made: {said}; correct it in the configuration",
                self.shown()
            )));
        }
        let refused = fault::refused(error, link.endpoint(), &self.shown());
        if !differs {
            return Err(refused);
        }
        let differences = self.differences(link, management).await?;
        let told = if differences.is_empty() {
            // All that the broker would tell us apart is the same; its own sentence is left.
            fault::answer(error).map(fault::told).unwrap_or_default()
        } else {
            let fields: Vec<String> = differences.iter().map(Difference::told).collect();
            fields.join(", ")
        };
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "{} is there already and is another one: {told}; say in the configuration what is there, or use another name \
                 (nothing was changed)",
                self.shown(),
            ),
        ))
    }

    /// The fields in which what is there is not what is wanted.
    async fn differences(&self, link: &Link, management: &Management) -> Result<Vec<Difference>> {
        let (name, wanted, arguments) = match self {
            Self::Exchange(exchange) => (
                exchange.name.as_str(),
                Declared::Exchange {
                    kind: exchange.kind.name().to_owned(),
                    durable: exchange.durable,
                    auto_delete: exchange.auto_delete,
                    internal: exchange.internal,
                },
                table(&exchange.arguments)?,
            ),
            Self::Queue(queue) => (
                queue.name.as_str(),
                Declared::Queue {
                    durable: queue.durable,
                    auto_delete: queue.auto_delete,
                    exclusive: queue.exclusive,
                },
                arguments::of_queue(queue, true)?,
            ),
            Self::DeadLetterQueue(_) | Self::Binding(..) => return Ok(Vec::new()),
        };
        let told = if let Self::Exchange(_) = self {
            let there = management.exchange(name).await;
            there.map(|there| difference::of_exchange(&there, &wanted, &arguments))
        } else {
            let there = management.queue(name).await;
            there.map(|there| difference::of_queue(&there, &wanted, &arguments))
        };
        if let Some(told) = told {
            return Ok(told);
        }
        match inquiry::compare(link, name, &wanted, &arguments).await {
            Ok(found) => Ok(found.differences),
            // Somebody has changed it meanwhile.
            Err(error) if error.kind() != ErrorKind::Unavailable => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn queue_declare<'a>(
    channel: &'a Channel,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<Declaring<'a>> {
    let declaring = channel.queue_declare(short("the queue's name", name)?, options, arguments);
    Ok(Box::pin(async move { declaring.await.map(drop) }))
}

/// Starts each in turn and waits for all of them; the first error of them.
async fn all_in_order(mut declaring: Vec<Declaring<'_>>) -> lapin::Result<()> {
    let mut result = Ok(());
    poll_fn(|context| {
        // A request goes out when it is first polled, so the order of the list is that of the wire.
        declaring.retain_mut(|step| match step.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                if result.is_ok() {
                    result = Err(error);
                }
                false
            }
        });
        if declaring.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    result
}
