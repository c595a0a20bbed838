//! Secrets: never shown, and read from their files only when they are used.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// A text that must not be seen: its `Debug` is masked and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// It stands in the configuration or came from a variable.
    Inline(Secret),
    /// It is read from this file each time it is used, so that a changed password needs no restart.
    File(PathBuf),
}

impl SecretSource {
    /// A file larger than this holds something else than a secret.
    const LARGEST: u64 = 64 << 10;

    /// The secret. A file loses one newline at its end, which editors and `echo` put there.
    pub fn read(&self) -> Result<Secret> {
        let path = match self {
            Self::Inline(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let fail = |said: String| Error::config(format!("the secret file {} {said}", path.display()));
        let mut text = String::new();
        let taken = File::open(path)
            .and_then(|file| file.take(Self::LARGEST + 1).read_to_string(&mut text))
            .map_err(|error| fail(format!("cannot be read ({error}); check the path and who may read it")))?;
        if taken as u64 > Self::LARGEST {
            return Err(fail(
                "is larger than 64 KiB; name a file that holds the secret alone".to_owned(),
            ));
        }
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(fail("is empty; write the secret into it".to_owned()));
        }
        Ok(Secret(text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Secret, SecretSource};
    use crate::ErrorKind;

    #[test]
    fn secrets_are_masked() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:?}", SecretSource::Inline(secret)), "Inline(***)");
    }

    #[test]
    fn files_are_read_again_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let source = SecretSource::File(path.clone());
        let error = source.read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        for (content, expected) in [
            ("one\n", "one"),
            ("two", "two"),
            ("three\r\n", "three"),
            ("four\n\n", "four\n"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(source.read().unwrap().expose(), expected);
        }
        for content in ["", "\n", &"x".repeat(70_000)] {
            std::fs::write(&path, content).unwrap();
            assert!(source.read().is_err());
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(source.read().unwrap_err().to_string().contains("cannot be read"));
    }
}
