//! Keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::settings::{Secret, SecretSource};

/// A shorter key is not worth its name.
const SHORTEST: usize = 32;
/// No key is longer.
const LONGEST: usize = 1024;

/// The text of a new key: 32 random bytes in base64, for a file.
pub fn new_key() -> Result<Secret> {
    let mut bytes = [0_u8; SHORTEST];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::unavailable(format!("the system gives no random numbers for a key: {error}")))?;
    Ok(Secret::new(STANDARD.encode(bytes)))
}

/// A key and its name.
#[derive(Clone)]
pub struct Key {
    id: Arc<str>,
    bytes: Arc<[u8]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// A key from its text, which is base64. An error says what is wrong, and nothing of the text.
    pub fn parse(id: &str, text: &Secret) -> Result<Self, String> {
        let bytes = STANDARD
            .decode(text.expose().trim())
            .map_err(|_| "is not base64; `qctl keys new FILE` makes a key".to_owned())?;
        if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
            return Err(format!(
                "has {} bytes, and a key has {SHORTEST} to {LONGEST}; `qctl keys new FILE` makes one",
                bytes.len()
            ));
        }
        Ok(Self {
            id: id.into(),
            bytes: bytes.into(),
        })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.bytes).expect("HMAC takes keys of any length")
    }
}

/// Where keys are, by their names. They are read each time they are asked for, so that a file that is replaced needs no
/// restart.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Arc<BTreeMap<String, SecretSource>>);

impl Keyring {
    /// These keys.
    pub fn new(sources: BTreeMap<String, SecretSource>) -> Self {
        Self(Arc::new(sources))
    }

    /// Whether it has no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has a key of this name.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// The key of this name; `None`: there is none.
    pub fn key(&self, id: &str) -> Option<Result<Key>> {
        let source = self.0.get(id)?;
        Some(source.read().and_then(|text| {
            Key::parse(id, &text).map_err(|message| Error::config(format!("the signing key `{id}` {message}")))
        }))
    }

    /// All keys; an error is of the first that cannot be read.
    pub fn all(&self) -> Result<Vec<Key>> {
        self.0.keys().filter_map(|id| self.key(id)).collect()
    }
}
