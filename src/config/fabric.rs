//! Puts together what the entries say about exchanges and queues: each is described once, wherever it is named.

use std::collections::{BTreeMap, BTreeSet};

use super::consumers::{ConsumerDraft, DeadLetter};
use super::implicit;
use super::names::those_there_are;
use super::producers::ProducerDraft;
use super::queues::{BindingDraft, ExchangeDraft};
use crate::error::Result;
use crate::queue::topology::usual_dead_letter;
use crate::queue::{Binding, Connector, Exchange, ExchangeKind, Queue, Topology};
use crate::settings::Setting;

/// The exchanges and queues of one connection.
#[derive(Default)]
pub(super) struct Fabric<'a> {
    exchanges: BTreeMap<&'a str, KnownExchange<'a>>,
    queues: BTreeMap<&'a str, KnownQueue<'a>>,
    /// The queues that consumers name for their dead letters.
    dead: BTreeSet<&'a str>,
}

struct KnownExchange<'a> {
    exchange: Exchange,
    /// Where it is described; `None`: it is only named so far.
    described_at: Option<&'a Setting>,
    /// Something other than a binding names it, or it is described: then a binding may name it.
    known: bool,
}

struct KnownQueue<'a> {
    queue: Queue,
    described_at: Option<&'a Setting>,
    dead_letter: &'a DeadLetter,
    dead_letter_at: &'a Setting,
}

impl<'a> Fabric<'a> {
    /// Learns the exchange of a producer.
    pub(super) fn add_producer(&mut self, producer: &'a ProducerDraft) -> Result<()> {
        match &producer.exchange {
            Some(exchange) => self.add_exchange(exchange, true),
            None => Ok(()),
        }
    }

    /// Learns the queue of a consumer, and the exchanges that its bindings describe.
    pub(super) fn add_consumer(&mut self, consumer: &'a ConsumerDraft) -> Result<()> {
        for binding in &consumer.queue.bindings {
            self.add_exchange(&binding.exchange, false)?;
        }
        if let DeadLetter::Queue(dead) = &consumer.dead_letter {
            self.dead.insert(dead);
        }
        let draft = &consumer.queue;
        let new = KnownQueue {
            queue: draft.queue.clone(),
            described_at: draft.described.then_some(&draft.setting),
            dead_letter: &consumer.dead_letter,
            dead_letter_at: &consumer.setting,
        };
        let Some(known) = self.queues.get_mut(draft.queue.name.as_str()) else {
            self.queues.insert(&draft.queue.name, new);
            return Ok(());
        };
        if let Some(here) = new.described_at {
            match known.described_at {
                Some(there) if known.queue != new.queue => {
                    return Err(differently("queue", &draft.queue.name, here, there));
                }
                Some(_) => {}
                None => {
                    known.queue = new.queue;
                    known.described_at = Some(here);
                }
            }
        }
        match (known.dead_letter, new.dead_letter) {
            (DeadLetter::Unsaid, _) => {
                known.dead_letter = new.dead_letter;
                known.dead_letter_at = new.dead_letter_at;
            }
            (_, DeadLetter::Unsaid) => {}
            (before, here) if before == here => {}
            _ => {
                return Err(consumer.setting.error(format!(
                    "the queue `{}` has another `dead_letter` at {}; a queue has one",
                    draft.queue.name,
                    known.dead_letter_at.place()
                )));
            }
        }
        Ok(())
    }

    fn add_exchange(&mut self, draft: &'a ExchangeDraft, known: bool) -> Result<()> {
        let entry = self.exchanges.entry(&draft.name).or_insert_with(|| KnownExchange {
            exchange: predeclared(&draft.name).unwrap_or_else(|| Exchange {
                name: draft.name.clone(),
                durable: true,
                ..Exchange::default()
            }),
            described_at: None,
            known: draft.name.starts_with("amq."),
        });
        entry.known |= known;
        if let Some(described) = &draft.described {
            match entry.described_at {
                Some(there) if entry.exchange != *described => {
                    return Err(differently("exchange", &draft.name, &draft.setting, there));
                }
                Some(_) => {}
                None => {
                    entry.exchange = described.clone();
                    entry.described_at = Some(&draft.setting);
                    entry.known = true;
                }
            }
        }
        Ok(())
    }

    /// Binds the queue of a consumer, once all exchanges are known.
    pub(super) fn bind(&mut self, consumer: &'a ConsumerDraft) -> Result<()> {
        let mut bindings = Vec::new();
        for draft in &consumer.queue.bindings {
            let exchange = self.bound_exchange(&draft.exchange)?;
            check_patterns(draft, exchange)?;
            check_arguments(draft, exchange)?;
            let mut keys = draft.keys.clone();
            if keys.is_empty() {
                keys.push(String::new());
            }
            bindings.extend(keys.into_iter().map(|routing_key| Binding {
                exchange: draft.exchange.name.clone(),
                routing_key,
                arguments: draft.arguments.clone(),
            }));
        }
        if let Some(known) = self.queues.get_mut(consumer.queue.queue.name.as_str()) {
            for binding in bindings {
                if !known.queue.bindings.contains(&binding) {
                    known.queue.bindings.push(binding);
                }
            }
        }
        Ok(())
    }

    fn bound_exchange(&self, draft: &ExchangeDraft) -> Result<&Exchange> {
        match self.exchanges.get(draft.name.as_str()) {
            Some(known) if known.known => Ok(&known.exchange),
            _ => {
                let known = self
                    .exchanges
                    .iter()
                    .filter(|(_, known)| known.known)
                    .map(|(name, _)| *name);
                let end = those_there_are(&draft.name, known);
                Err(draft.setting.error(format!(
                    "no producer of this connection uses an exchange `{}`{end}; to bind to it all the same, describe it: \
                     `exchange: {{name: …, type: topic}}`",
                    draft.name.escape_debug()
                )))
            }
        }
    }

    /// Has the driver judge what is described, so that it is refused at load and not at the first message.
    pub(super) fn check(&self, connector: &dyn Connector) -> Result<()> {
        let judged = |topology: Topology, at: Option<&Setting>| {
            connector.check(&topology).map_err(|error| match at {
                Some(setting) => setting.error(error),
                None => error,
            })
        };
        for known in self.exchanges.values() {
            let exchanges = vec![known.exchange.clone()];
            let topology = Topology {
                exchanges,
                queues: Vec::new(),
            };
            judged(topology, known.described_at)?;
        }
        for (name, known) in &self.queues {
            let queues = vec![self.queue(name)];
            let topology = Topology {
                exchanges: Vec::new(),
                queues,
            };
            judged(topology, known.described_at)?;
        }
        Ok(())
    }

    /// The exchange as declared.
    pub(super) fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name).map(|known| &known.exchange)
    }

    /// The queue as declared: as its consumers describe it, else durable, with the usual dead-letter queue.
    pub(super) fn queue(&self, name: &str) -> Queue {
        match self.queues.get(name) {
            Some(known) => Queue {
                dead_letter: match known.dead_letter {
                    DeadLetter::Unsaid if self.holds_dead_letters(name) => None,
                    DeadLetter::Unsaid => usual_dead_letter(name),
                    DeadLetter::None | DeadLetter::Keep => None,
                    DeadLetter::Queue(dead) => Some(dead.clone()),
                },
                ..known.queue.clone()
            },
            None if self.holds_dead_letters(name) => implicit::dead_letter_queue(name),
            None => implicit::queue(name),
        }
    }

    /// Whether what is given up in this queue stays there: on demand, and where it is a dead letter already.
    pub(super) fn keeps(&self, name: &str) -> bool {
        match self.queues.get(name).map(|known| known.dead_letter) {
            Some(DeadLetter::Keep) => true,
            Some(DeadLetter::Unsaid) => self.holds_dead_letters(name),
            _ => false,
        }
    }

    fn holds_dead_letters(&self, name: &str) -> bool {
        usual_dead_letter(name).is_none() || self.dead.contains(name)
    }

    /// A queue with all that it needs: its dead-letter queue and the exchanges it is bound to.
    pub(super) fn around_queue(&self, name: &str) -> Topology {
        let queue = self.queue(name);
        let exchanges = queue
            .bindings
            .iter()
            .filter_map(|binding| self.exchange(&binding.exchange));
        let mut topology = Topology::default();
        // Merged, because a queue may name an exchange twice.
        topology.merge(&Topology {
            exchanges: exchanges.cloned().collect(),
            queues: Vec::new(),
        });
        let dead = queue
            .dead_letter
            .as_ref()
            .map(|dead| match self.queues.get(dead.as_str()) {
                Some(_) => self.queue(dead),
                None => implicit::dead_letter_queue(dead),
            });
        topology.queues = std::iter::once(queue).chain(dead).collect();
        topology
    }

    /// An exchange and every queue that is bound to it.
    pub(super) fn around_exchange(&self, name: &str) -> Topology {
        let mut topology = Topology {
            exchanges: self.exchange(name).into_iter().cloned().collect(),
            queues: Vec::new(),
        };
        for (queue, known) in &self.queues {
            if known.queue.bindings.iter().any(|binding| binding.exchange == name) {
                topology.merge(&self.around_queue(queue));
            }
        }
        topology
    }
}

/// Exchanges that every AMQP broker has; they cannot be declared anew.
fn predeclared(name: &str) -> Option<Exchange> {
    let kind = ExchangeKind::from_name(name.strip_prefix("amq.")?)?;
    Some(Exchange {
        name: name.to_owned(),
        kind,
        durable: true,
        passive: true,
        ..Exchange::default()
    })
}

/// On a direct exchange a pattern is a key like any other, and nothing would ever match it.
fn check_patterns(draft: &BindingDraft, exchange: &Exchange) -> Result<()> {
    if exchange.kind != ExchangeKind::Direct {
        return Ok(());
    }
    let is_pattern = |key: &&String| key.split('.').any(|word| word == "*" || word == "#");
    match draft.keys.iter().find(is_pattern) {
        None => Ok(()),
        Some(key) => Err(draft.exchange.setting.error(format!(
            "`{key}` is a pattern, which a direct exchange does not know; describe the exchange with `type: topic`"
        ))),
    }
}

/// Every other kind of exchange takes no notice of them. One that is there already may be of another kind than is said.
fn check_arguments(draft: &BindingDraft, exchange: &Exchange) -> Result<()> {
    if draft.arguments.is_empty() || exchange.passive || exchange.kind == ExchangeKind::Headers {
        return Ok(());
    }
    Err(draft.exchange.setting.error(format!(
        "a binding's `arguments` are compared with a message's headers, which an exchange of `type: {}` does not do; describe the \
         exchange with `type: headers`, or remove them",
        exchange.kind.name()
    )))
}

fn differently(what: &str, name: &str, here: &Setting, there: &Setting) -> crate::error::Error {
    here.error(format!(
        "the {what} `{name}` is described differently at {}; describe it once, and elsewhere give its name alone",
        there.place()
    ))
}
