//! `signing:`: the keys of signed messages, and which one producers sign with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::those_there_are;
use crate::error::Result;
use crate::settings::{SecretSource, Setting};
use crate::signing::{Keyring, Strictness};

/// How old a signed message may be, unless it is said otherwise.
const WINDOW: Duration = Duration::from_hours(7 * 24);

/// What `signing:` says.
#[derive(Clone, Debug, Default)]
pub struct SigningEntry {
    /// The keys.
    pub keyring: Keyring,
    /// The one that producers sign with; `None`: they do not sign.
    pub signs_with: Option<String>,
    /// How old a message may be; `None`: as old as it likes.
    pub window: Option<Duration>,
}

pub(super) fn signing(section: Option<&Setting>) -> Result<SigningEntry> {
    let Some(section) = section.filter(|section| !section.is_empty()) else {
        return Ok(SigningEntry {
            window: Some(WINDOW),
            ..SigningEntry::default()
        });
    };
    let mut settings = section.settings()?;
    let keys = settings.entries(&["keys"])?.unwrap_or_default();
    let signs_with = settings.setting(&["use"])?;
    let window = settings.limit_duration(&["window"])?.unwrap_or(Some(WINDOW));
    settings.check_unknown()?;
    let mut sources = BTreeMap::new();
    for (id, setting) in keys {
        check_id(&id, &setting)?;
        sources.insert(id, source(&setting)?);
    }
    let keyring = Keyring::new(sources.clone());
    let signs_with = match signs_with {
        None => None,
        Some(setting) => {
            let id = setting.text()?;
            if !keyring.has(&id) {
                let end = those_there_are(&id, sources.keys().map(String::as_str));
                return Err(setting.error(format!("no key under `keys` is called `{}`{end}", id.escape_debug())));
            }
            Some(id)
        }
    };
    Ok(SigningEntry {
        keyring,
        signs_with,
        window,
    })
}

/// A key's name stands in a header, between spaces.
fn check_id(id: &str, setting: &Setting) -> Result<()> {
    let is_plain = !id.is_empty()
        && id.len() <= 64
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_plain {
        return Ok(());
    }
    Err(setting.error("the name of a key has 1 to 64 letters, digits, `-`, `_` and `.`, such as 2026-a"))
}

/// The file that holds it, or `{ secret_file: FILE }`, or `{ secret: "${VARIABLE}" }`.
fn source(setting: &Setting) -> Result<SecretSource> {
    if !setting.is_map() {
        return Ok(SecretSource::File(setting.file_path()?));
    }
    let mut settings = setting.settings()?;
    let source = settings.secret("secret")?;
    settings.check_unknown()?;
    source.ok_or_else(|| {
        settings.missing(
            "secret_file",
            "the file that holds the key; `qctl keys new FILE` makes one",
        )
    })
}

/// What a consumer's `signing:` says: `off`, `warn` or `require`, or a map with `mode` and `origins`.
pub(super) fn of_consumer(setting: &Setting) -> Result<(Strictness, Vec<String>)> {
    if setting.is_map() {
        let mut settings = setting.settings()?;
        let mode = settings.setting(&["mode"])?;
        let origins = settings.texts(&["origins"])?.unwrap_or_default();
        settings.check_unknown()?;
        let mode = mode.ok_or_else(|| settings.missing("mode", "one of off, warn and require"))?;
        return Ok((strictness(&mode)?, origins));
    }
    Ok((strictness(setting)?, Vec::new()))
}

fn strictness(setting: &Setting) -> Result<Strictness> {
    // A bare `off` is what some YAML readers take for false.
    if setting.boolean().is_ok_and(|on| !on) {
        return Ok(Strictness::Off);
    }
    setting.choice(&[
        ("off", Strictness::Off),
        ("warn", Strictness::Warn),
        ("require", Strictness::Require),
    ])
}
