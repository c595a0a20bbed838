//! The signature: what it is over, and how it is written.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use super::key::Key;
use crate::queue::message::header;
use crate::queue::{HeaderValue, Message};

/// The form, and the first thing that is signed.
const VERSION: &str = "v1";
/// What brokers add and change: it is not signed, and steers nothing.
const OF_BROKERS: [&str; 10] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
    "CC",
    "BCC",
];

/// A message's signature, as its header holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) key: String,
    /// When it was sent: milliseconds since 1970.
    pub(super) sent_at: i64,
    /// For how long it was to be held back, in milliseconds.
    pub(super) delay: i64,
    /// When it expires: milliseconds since 1970; 0: never.
    pub(super) expires_at: i64,
    /// The exchange it was sent to.
    pub(super) exchange: String,
    /// The routing key it was sent with.
    pub(super) routing_key: String,
    pub(super) code: Vec<u8>,
}

impl Seal {
    /// One text without spaces within its parts, which every broker's headers can hold.
    fn write(&self) -> String {
        let mut text = format!(
            "{VERSION} {} {} {} {}",
            self.key, self.sent_at, self.delay, self.expires_at
        );
        for part in [self.exchange.as_bytes(), self.routing_key.as_bytes(), &self.code] {
            // Writing to a string cannot fail. A mark before it, so that an empty one is there too.
            let _ = write!(text, " ={}", URL_SAFE_NO_PAD.encode(part));
        }
        text
    }

    /// Reads one; `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > 4096 {
            return None;
        }
        let mut parts = text.split(' ');
        if parts.next()? != VERSION {
            return None;
        }
        let key = parts.next()?.to_owned();
        let mut number = || parts.next()?.parse().ok().filter(|number| *number >= 0);
        let (sent_at, delay, expires_at) = (number()?, number()?, number()?);
        let mut bytes = || URL_SAFE_NO_PAD.decode(parts.next()?.strip_prefix('=')?).ok();
        let exchange = String::from_utf8(bytes()?).ok()?;
        let routing_key = String::from_utf8(bytes()?).ok()?;
        let code = bytes()?;
        parts.next().is_none().then_some(Self {
            key,
            sent_at,
            delay,
            expires_at,
            exchange,
            routing_key,
            code,
        })
    }

    /// Whether this key's code over this message is the one that it has; compared in constant time.
    pub(super) fn fits(&self, key: &Key, message: &Message) -> bool {
        let mut mac = key.mac();
        self.feed(&mut mac, message);
        mac.verify_slice(&self.code).is_ok()
    }

    /// All that is signed, each field with its length before it, so that no two messages are written alike.
    fn feed(&self, mac: &mut impl Mac, message: &Message) {
        let mut field = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        field(VERSION.as_bytes());
        field(self.key.as_bytes());
        field(self.exchange.as_bytes());
        field(self.routing_key.as_bytes());
        for number in [self.sent_at, self.delay, self.expires_at] {
            field(&number.to_be_bytes());
        }
        for text in [
            &message.id,
            &message.content_type,
            &message.correlation_id,
            &message.reply_to,
        ] {
            match text {
                Some(text) => {
                    field(b"1");
                    field(text.as_bytes());
                }
                None => field(b"0"),
            }
        }
        match message.priority {
            Some(priority) => field(&[1, priority]),
            None => field(&[0]),
        }
        let signed = || message.headers.iter().filter(|(name, _)| is_signed(name));
        field(&(signed().count() as u64).to_be_bytes());
        for (name, value) in signed() {
            field(name.as_bytes());
            field(plain(value).as_bytes());
        }
        field(&message.body);
    }
}

/// Of qctl's own headers only the one that steers how often it is tried: the others change on the way.
fn is_signed(name: &str) -> bool {
    name == header::MAX_ATTEMPTS || !(name.starts_with("x-qctl-") || OF_BROKERS.contains(&name))
}

/// The same for a value and for the text that a broker without types makes of it.
fn plain(value: &HeaderValue) -> String {
    match value.to_json() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Signs what a producer sends.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Key,
}

impl Signer {
    /// With this key.
    pub fn new(key: Key) -> Self {
        Self { key }
    }

    /// Signs a message that is complete: it has its id and its time.
    pub fn sign(&self, message: &mut Message, exchange: &str) {
        let milliseconds = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let sent_at = message.timestamp.unwrap_or(0).max(0);
        let mut seal = Seal {
            key: self.key.id().to_owned(),
            sent_at,
            delay: message.delay.map_or(0, milliseconds),
            expires_at: message.ttl.map_or(0, |ttl| sent_at.saturating_add(milliseconds(ttl))),
            exchange: exchange.to_owned(),
            routing_key: message.routing_key.clone(),
            code: Vec::new(),
        };
        let mut mac = self.key.mac();
        seal.feed(&mut mac, message);
        seal.code = mac.finalize().into_bytes().to_vec();
        message
            .headers
            .insert(header::SIGNATURE.to_owned(), HeaderValue::Text(seal.write()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::settings::Secret;

    fn key(id: &str, byte: u8) -> Key {
        use base64::engine::general_purpose::STANDARD;
        Key::parse(id, &Secret::new(STANDARD.encode([byte; 32]))).unwrap()
    }

    fn message() -> Message {
        let mut message = Message::new("body")
            .with_content_type("text/plain")
            .with_routing_key("a.b")
            .with_header("tenant", "one")
            .with_header("count", 5);
        message.id = Some("id-1".to_owned());
        message.timestamp = Some(1_700_000_000_123);
        message.ttl = Some(Duration::from_mins(1));
        message
    }

    fn seal(message: &Message) -> Seal {
        Seal::parse(message.headers[header::SIGNATURE].as_text().unwrap()).unwrap()
    }

    #[test]
    fn what_was_signed_fits_and_nothing_else_does() {
        let signer = Signer::new(key("k", 1));
        let mut signed = message();
        signer.sign(&mut signed, "news");
        let seal = seal(&signed);
        assert_eq!((seal.exchange.as_str(), seal.routing_key.as_str()), ("news", "a.b"));
        assert_eq!(seal.expires_at - seal.sent_at, 60_000);
        assert!(seal.fits(&key("k", 1), &signed));
        assert!(!seal.fits(&key("k", 2), &signed), "another key");
        let changes: [fn(&mut Message); 10] = [
            |message| message.body.push(b' '),
            |message| message.id = Some("id-2".to_owned()),
            |message| message.id = None,
            |message| message.content_type = Some("application/json".to_owned()),
            |message| message.correlation_id = Some(String::new()),
            |message| message.reply_to = Some("mine".to_owned()),
            |message| message.priority = Some(9),
            |message| drop(message.headers.insert("tenant".to_owned(), "two".into())),
            |message| drop(message.headers.insert("more".to_owned(), "x".into())),
            |message| drop(message.headers.remove("count")),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut altered = signed.clone();
            change(&mut altered);
            assert!(!seal.fits(&key("k", 1), &altered), "change {index}");
        }
        for change in [
            Seal {
                exchange: "other".to_owned(),
                ..seal.clone()
            },
            Seal {
                routing_key: "a".to_owned(),
                ..seal.clone()
            },
            Seal {
                sent_at: seal.sent_at + 1,
                ..seal.clone()
            },
            Seal {
                expires_at: 0,
                ..seal.clone()
            },
            Seal {
                delay: 1,
                ..seal.clone()
            },
        ] {
            assert!(!change.fits(&key("k", 1), &signed), "{change:?}");
        }
    }

    #[test]
    fn what_changes_on_the_way_is_not_signed() {
        let signer = Signer::new(key("k", 1));
        let mut signed = message();
        signer.sign(&mut signed, "");
        let seal = seal(&signed);
        signed.headers.insert(header::ATTEMPT.to_owned(), 3.into());
        signed
            .headers
            .insert("x-death".to_owned(), HeaderValue::List(Vec::new()));
        signed.ttl = None;
        // A broker without types makes text of a number.
        signed.headers.insert("count".to_owned(), "5".into());
        assert!(seal.fits(&key("k", 1), &signed));
        signed.headers.insert(header::MAX_ATTEMPTS.to_owned(), 99.into());
        assert!(!seal.fits(&key("k", 1), &signed));
    }

    proptest! {
        #[test]
        fn seals_survive_their_header(exchange in any::<String>(), routing_key in any::<String>(), sent_at in 0..i64::MAX, code in any::<Vec<u8>>()) {
            let seal = Seal { key: "2026-a".to_owned(), sent_at, delay: 0, expires_at: 5, exchange, routing_key, code };
            let text = seal.write();
            if text.len() <= 4096 {
                assert_eq!(Seal::parse(&text), Some(seal));
            }
        }

        #[test]
        fn no_header_panics(text in any::<String>(), tail in "v1 [ =a-z0-9-]{0,60}") {
            let _ = Seal::parse(&text);
            let _ = Seal::parse(&tail);
        }
    }
}
