//! Signed messages: a consumer that requires it runs only what a holder of a key has sent, where it was sent to, as it was sent,
//! while it was meant to, and once.
//!
//! A [`Signer`] puts one text header on a message, so that every driver can carry it. A [`Verifier`] checks it before the
//! message is handled. `docs/signing.md` is the manual, and says what it does not protect from.

mod key;
mod memory;
mod seal;
mod verifier;

pub use key::{Key, Keyring, new_key};
pub use memory::Memory;
pub use seal::Signer;
pub use verifier::{Origins, Strictness, Verified, Verifier};
