//! Exchanges, queues and bindings, as in AMQP 0-9-1; the embedded store has the same model.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::message::{self, HeaderValue};
use crate::error::{Error, Result};

/// AMQP's limit for the names of queues and exchanges and for routing keys, in bytes.
pub const NAME_LIMIT: usize = 255;

/// Refuses a name that brokers cannot carry; `what` is what it names, such as `queue`.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    if name.len() > NAME_LIMIT {
        return Err(Error::bad_input(format!(
            "the name of the {what} {} has {} bytes, more than the {NAME_LIMIT} that brokers carry; choose a shorter one",
            abridged(name),
            name.len()
        )));
    }
    match name.chars().find(|char| char.is_control()) {
        Some(control) => Err(Error::bad_input(format!(
            "the name of the {what} {} holds the control character {control:?}; choose one without",
            abridged(name)
        ))),
        None => Ok(()),
    }
}

/// A name for an error's text: the whole of it, or both ends of a long one.
fn abridged(name: &str) -> String {
    const ENDS: usize = 24;
    let count = name.chars().count();
    if count <= 3 * ENDS {
        return format!("'{}'", name.escape_debug());
    }
    let head: String = name.chars().take(ENDS).collect();
    let tail: String = name.chars().skip(count - ENDS).collect();
    format!("'{}…{}'", head.escape_debug(), tail.escape_debug())
}

/// How an exchange chooses queues for a routing key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The binding's key equals the routing key.
    #[default]
    Direct,
    /// Every bound queue.
    Fanout,
    /// The binding's key is a pattern of words parted by dots: `*` is one word, `#` any number of them.
    Topic,
    /// The binding's arguments are headers of the message: all of them, or with `x-match: any` one of them. Keys say nothing.
    Headers,
}

impl ExchangeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

    /// The AMQP name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// The kind with this AMQP name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a binding with `pattern` receives a message with `routing_key`; by headers none does.
    pub fn matches(self, pattern: &str, routing_key: &str) -> bool {
        match self {
            Self::Direct => pattern == routing_key,
            Self::Fanout => true,
            Self::Topic => topic_matches(pattern, routing_key),
            Self::Headers => false,
        }
    }
}

/// AMQP topic matching, anchored at both ends.
///
/// Linear in pattern times key even for patterns such as `#.#.#.x`: it remembers the last `#` only, as glob matching does.
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let key: Vec<&str> = if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    };
    if pattern == [""] {
        return key.is_empty();
    }
    let (mut p, mut k) = (0, 0);
    let mut resume: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == "#" {
            resume = Some((p + 1, k));
            p += 1;
        } else if k < key.len() && p < pattern.len() && (pattern[p] == "*" || pattern[p] == key[k]) {
            p += 1;
            k += 1;
        } else if k == key.len() && p == pattern.len() {
            return true;
        } else if let Some((after_hash, taken)) = resume
            && taken < key.len()
        {
            resume = Some((after_hash, taken + 1));
            p = after_hash;
            k = taken + 1;
        } else {
            return false;
        }
    }
}

/// An exchange to declare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// Its name; the empty name is the default exchange, which is never declared.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// It survives a broker's restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// It takes no messages from publishers.
    pub internal: bool,
    /// It must be there already; nothing is created.
    pub passive: bool,
    /// The broker's own arguments.
    pub arguments: BTreeMap<String, HeaderValue>,
}

/// A queue's place behind an exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Binding {
    /// The exchange's name.
    pub exchange: String,
    /// The routing key or, on a topic exchange, the pattern.
    pub routing_key: String,
    /// What an exchange that routes by headers compares with them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "plainly")]
    pub arguments: BTreeMap<String, HeaderValue>,
}

fn plainly<S: Serializer>(
    arguments: &BTreeMap<String, HeaderValue>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    message::to_json(arguments).serialize(serializer)
}

/// A queue to declare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// It survives a broker's restart.
    pub durable: bool,
    /// It belongs to this connection alone and goes with it.
    pub exclusive: bool,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
    /// It must be there already; nothing is created.
    pub passive: bool,
    /// What it is bound to.
    pub bindings: Vec<Binding>,
    /// Priorities 0 to this are told apart; `None`: the queue has none.
    pub max_priority: Option<u8>,
    /// A message that has waited this long is expired.
    pub ttl: Option<Duration>,
    /// At most this many ready messages; publishing more is refused.
    pub max_length: Option<u64>,
    /// At most this many bytes of ready bodies; publishing more is refused.
    pub max_bytes: Option<u64>,
    /// The queue that rejected and expired messages go to; it is declared together with this one.
    pub dead_letter: Option<String>,
    /// The broker's own arguments.
    pub arguments: BTreeMap<String, HeaderValue>,
    /// Declared with exactly the written arguments, because programs that know nothing of qctl declare it too: its dead-letter
    /// queue is declared beside it and filled by qctl's consumers only.
    pub as_written: bool,
}

/// The dead-letter queue that a queue of this name has unless it is said otherwise. One that holds dead letters itself has
/// none: what is given up there stays there.
pub fn usual_dead_letter(name: &str) -> Option<String> {
    (!name.ends_with(DEAD)).then(|| format!("{name}{DEAD}"))
}

/// The queue whose dead letters a queue of this name usually holds.
pub fn usual_source(name: &str) -> Option<&str> {
    name.strip_suffix(DEAD)
}

const DEAD: &str = ".dead";

/// All that one entry of the configuration needs to be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Exchanges, declared first.
    pub exchanges: Vec<Exchange>,
    /// Queues with their bindings.
    pub queues: Vec<Queue>,
}

impl Topology {
    /// Refuses names that brokers cannot carry, so that nothing is declared where something could not be.
    pub fn check_names(&self) -> Result<()> {
        for exchange in &self.exchanges {
            check_name("exchange", &exchange.name)?;
        }
        for queue in &self.queues {
            check_name("queue", &queue.name)?;
            if let Some(name) = &queue.dead_letter {
                check_name("dead-letter queue", name)?;
            }
        }
        Ok(())
    }

    /// Adds what `other` has and this lacks; entries are told apart by name, bindings are united.
    pub fn merge(&mut self, other: &Topology) {
        for exchange in &other.exchanges {
            if !self.exchanges.iter().any(|known| known.name == exchange.name) {
                self.exchanges.push(exchange.clone());
            }
        }
        for queue in &other.queues {
            match self.queues.iter_mut().find(|known| known.name == queue.name) {
                None => self.queues.push(queue.clone()),
                Some(known) => {
                    for binding in &queue.bindings {
                        if !known.bindings.contains(binding) {
                            known.bindings.push(binding.clone());
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::topic_matches;

    #[test]
    fn topic_patterns_follow_amqp() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#", "xa.b", false),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("a.#.c", "a.c", true),
            ("a.#.c", "a.b.b.c", true),
            ("a.#.c", "a.b.b.d", false),
            ("*.#.*", "a", false),
            ("*.#.*", "a.b", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("hello.world", "xhello.worldly", false),
            ("#.#.#.x", "a.a.a.a.a.a.a.y", false),
        ] {
            assert_eq!(topic_matches(pattern, key), expected, "{pattern} on {key}");
        }
    }
}
