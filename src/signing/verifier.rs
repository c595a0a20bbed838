//! Checking a signature before a message is handled.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::key::{Key, Keyring};
use super::memory::{Mark, Memory};
use super::seal::Seal;
use crate::error::Result;
use crate::queue::message::header;
use crate::queue::{ExchangeKind, HeaderValue, Message, Topology};

/// A clock of a sender that is ahead of ours by less than this is not wrong.
const AHEAD: Duration = Duration::from_mins(5);

/// What becomes of a message whose signature is not good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Nobody looks.
    #[default]
    Off,
    /// It is handled, and that is logged.
    Warn,
    /// It is dead-lettered.
    Require,
}

/// Where a consumer's messages may have been sent to.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The queue, to which the default exchange leads by its name.
    queues: Vec<String>,
    bindings: Vec<(String, ExchangeKind, String)>,
}

impl Origins {
    /// Those of a queue: its own name, and what it is bound to. `more` are other queues whose messages come here, such as the
    /// one whose dead letters these are.
    pub fn of(queue: &str, topology: &Topology, more: &[String]) -> Self {
        let kind = |exchange: &str| {
            let known = topology.exchanges.iter().find(|known| known.name == exchange);
            known.map_or(ExchangeKind::Headers, |exchange| exchange.kind)
        };
        let queues: Vec<String> = std::iter::once(queue.to_owned()).chain(more.iter().cloned()).collect();
        let bound = topology.queues.iter().filter(|known| queues.contains(&known.name));
        let bindings = bound.flat_map(|queue| &queue.bindings).map(|binding| {
            (
                binding.exchange.clone(),
                kind(&binding.exchange),
                binding.routing_key.clone(),
            )
        });
        Self {
            bindings: bindings.collect(),
            queues,
        }
    }

    fn accept(&self, exchange: &str, routing_key: &str) -> bool {
        if exchange.is_empty() {
            return self.queues.iter().any(|queue| queue == routing_key);
        }
        self.bindings.iter().any(|(known, kind, pattern)| {
            // By headers any key will do: they are signed too.
            known == exchange && (*kind == ExchangeKind::Headers || kind.matches(pattern, routing_key))
        })
    }
}

/// What a good signature says.
#[derive(Debug)]
pub struct Verified {
    /// The exchange it was sent to.
    pub exchange: String,
    /// The routing key it was sent with.
    pub routing_key: String,
    mark: Mark,
    in_hand: Arc<Mutex<HashSet<Mark>>>,
}

/// It is in nobody's hands any more.
impl Drop for Verified {
    fn drop(&mut self) {
        self.in_hand
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.mark);
    }
}

/// Checks the signatures of one consumer's messages.
#[derive(Debug)]
pub struct Verifier {
    strictness: Strictness,
    keyring: Keyring,
    origins: Origins,
    window: Option<Duration>,
    state: Mutex<State>,
    in_hand: Arc<Mutex<HashSet<Mark>>>,
}

#[derive(Debug)]
struct State {
    keys: BTreeMap<String, Key>,
    memory: Option<Memory>,
}

impl Verifier {
    /// A verifier with these keys, which are read now and again when an unknown one is named. `window` is how old a message may
    /// be; `memory` remembers what was done.
    pub fn new(
        strictness: Strictness,
        keyring: Keyring,
        origins: Origins,
        window: Option<Duration>,
        memory: Option<Memory>,
    ) -> Result<Self> {
        let keys = keyring
            .all()?
            .into_iter()
            .map(|key| (key.id().to_owned(), key))
            .collect();
        Ok(Self {
            strictness,
            keyring,
            origins,
            window,
            state: Mutex::new(State { keys, memory }),
            in_hand: Arc::default(),
        })
    }

    /// What becomes of a message whose signature is not good.
    pub fn strictness(&self) -> Strictness {
        self.strictness
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a message. As long as what it gives lives, a second message with the same signature is a copy.
    pub fn check(&self, message: &Message) -> Result<Verified, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let seal = self.check_seal(message, now)?;
        let mark = Mark::of(&seal.key, message.id.as_deref().unwrap_or(""), seal.sent_at, &seal.code);
        let done = self.state().memory.as_mut().map(|memory| memory.knows(&mark));
        match done {
            Some(Ok(true)) => return Err("it was handled before: this is a copy of it".to_owned()),
            Some(Err(error)) => {
                tracing::warn!(%error, "what was handled before cannot be looked up; a replayed message is not noticed");
            }
            _ => {}
        }
        let is_new = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(mark);
        if !is_new {
            return Err("it is being handled at this moment: this is a copy of it".to_owned());
        }
        Ok(Verified {
            exchange: seal.exchange,
            routing_key: seal.routing_key,
            mark,
            in_hand: Arc::clone(&self.in_hand),
        })
    }

    fn check_seal(&self, message: &Message, now: i64) -> Result<Seal, String> {
        let written = message.headers.get(header::SIGNATURE).and_then(HeaderValue::as_text);
        let written = written.ok_or("it is not signed")?;
        let seal = Seal::parse(written).ok_or("its signature cannot be read")?;
        let key = self.key(&seal.key)?;
        if !seal.fits(&key, message) {
            return Err(format!(
                "its signature with the key `{}` does not fit: it was forged or altered",
                seal.key.escape_debug()
            ));
        }
        if let Some(timestamp) = message.timestamp
            && timestamp != seal.sent_at
            && timestamp != seal.sent_at / 1000 * 1000
        {
            return Err("its time is not the one that was signed: it was altered".to_owned());
        }
        if !self.origins.accept(&seal.exchange, &seal.routing_key) {
            return Err(format!(
                "it was sent to the exchange {:?} with the routing key {:?}, which do not lead here: it was re-routed",
                seal.exchange, seal.routing_key
            ));
        }
        if seal.expires_at > 0 && now > seal.expires_at {
            return Err("it has expired by its signature".to_owned());
        }
        if seal.sent_at > now.saturating_add(AHEAD.as_millis() as i64) {
            return Err("it was signed in the future; look at the clocks of its sender and of this host".to_owned());
        }
        let due = seal.sent_at.saturating_add(seal.delay);
        if let Some(window) = self.window
            && now.saturating_sub(due) > i64::try_from(window.as_millis()).unwrap_or(i64::MAX)
        {
            return Err(format!(
                "it was signed more than {} ago, which is the `window` of `signing:`",
                humantime::format_duration(window)
            ));
        }
        Ok(seal)
    }

    fn key(&self, id: &str) -> Result<Key, String> {
        if let Some(key) = self.state().keys.get(id) {
            return Ok(key.clone());
        }
        // A key whose file came later.
        match self.keyring.key(id) {
            None => Err(format!(
                "it is signed with the key `{}`, which is not among those known",
                id.escape_debug()
            )),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(key)) => {
                self.state().keys.insert(id.to_owned(), key.clone());
                Ok(key)
            }
        }
    }

    /// A checked message is done: it is remembered.
    pub fn done(&self, verified: &Verified) {
        if let Some(memory) = &mut self.state().memory
            && let Err(error) = memory.remember(verified.mark)
        {
            tracing::warn!(%error, "a message that is done cannot be remembered; a copy of it would be handled");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::queue::{Binding, Exchange, Queue};
    use crate::settings::{Secret, SecretSource};
    use crate::signing::Signer;

    fn keyring() -> Keyring {
        let key = |byte: u8| SecretSource::Inline(Secret::new(STANDARD.encode([byte; 32])));
        Keyring::new(BTreeMap::from([("a".to_owned(), key(1)), ("b".to_owned(), key(2))]))
    }

    fn verifier(window: Option<Duration>) -> Verifier {
        let mut topology = Topology::default();
        topology.exchanges.push(Exchange {
            kind: ExchangeKind::Topic,
            name: "news".to_owned(),
            ..Exchange::default()
        });
        let mut queue = Queue {
            name: "mail".to_owned(),
            ..Queue::default()
        };
        queue.bindings.push(Binding {
            exchange: "news".to_owned(),
            routing_key: "mail.#".to_owned(),
            arguments: BTreeMap::new(),
        });
        topology.queues.push(queue);
        let origins = Origins::of("mail", &topology, &[]);
        Verifier::new(Strictness::Require, keyring(), origins, window, None).unwrap()
    }

    fn now() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
    }

    fn signed(key: &str, exchange: &str, routing_key: &str, change: impl FnOnce(&mut Message)) -> Message {
        let mut message = Message::new("x").with_routing_key(routing_key);
        message.id = Some("1".to_owned());
        message.timestamp = Some(now());
        change(&mut message);
        Signer::new(keyring().key(key).unwrap().unwrap()).sign(&mut message, exchange);
        message
    }

    fn reason(verifier: &Verifier, message: &Message) -> String {
        verifier.check(message).unwrap_err()
    }

    #[test]
    fn only_what_was_sent_here_and_now_is_good() {
        let verifier = verifier(Some(Duration::from_hours(1)));
        for (exchange, key, good) in [
            ("", "mail", true),
            ("news", "mail.new", true),
            ("", "other", false),
            ("news", "sport", false),
            ("else", "mail.new", false),
        ] {
            let message = signed("a", exchange, key, |_| {});
            assert_eq!(verifier.check(&message).is_ok(), good, "{exchange} {key}");
        }
        let old = signed("a", "", "mail", |message| message.timestamp = Some(now() - 3_700_000));
        assert!(reason(&verifier, &old).contains("more than 1h ago"));
        let delayed = signed("a", "", "mail", |message| {
            message.timestamp = Some(now() - 3_700_000);
            message.delay = Some(Duration::from_mins(30));
        });
        assert!(verifier.check(&delayed).is_ok(), "its age counts from when it was due");
        let expired = signed("a", "", "mail", |message| {
            message.timestamp = Some(now() - 2000);
            message.ttl = Some(Duration::from_secs(1));
        });
        assert!(reason(&verifier, &expired).contains("expired"));
        let future = signed("a", "", "mail", |message| message.timestamp = Some(now() + 3_600_000));
        assert!(reason(&verifier, &future).contains("in the future"));
    }

    #[test]
    fn a_copy_is_told_while_the_first_is_in_hand() {
        let verifier = verifier(None);
        let message = signed("b", "", "mail", |_| {});
        let first = verifier.check(&message).unwrap();
        assert!(reason(&verifier, &message).contains("at this moment"));
        drop(first);
        assert!(verifier.check(&message).is_ok(), "a retry is no copy");
    }

    #[test]
    fn reasons_tell_unsigned_unknown_and_forged_apart() {
        let verifier = verifier(None);
        assert_eq!(reason(&verifier, &Message::new("x")), "it is not signed");
        let mut message = signed("a", "", "mail", |_| {});
        let header = message.headers[header::SIGNATURE].as_text().unwrap().to_owned();
        message
            .headers
            .insert(header::SIGNATURE.to_owned(), header.replacen(" a ", " c ", 1).into());
        assert!(reason(&verifier, &message).contains("`c`, which is not among those known"));
        message
            .headers
            .insert(header::SIGNATURE.to_owned(), header.replacen(" a ", " b ", 1).into());
        assert!(reason(&verifier, &message).contains("forged or altered"));
        message.headers.insert(header::SIGNATURE.to_owned(), "v9 a".into());
        assert!(reason(&verifier, &message).contains("cannot be read"));
    }
}
