//! The ways that a process is given its message's body.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytesize::ByteSize;

use super::allow::DashArguments;
use crate::consumer::handler::Outcome;
use crate::error::{Error, Result};
use crate::residents::beside;
use crate::settings::Settings;

/// The system lets no argument be longer than 128 KiB, its ending NUL included.
const LONGEST_ARGUMENT: u64 = (128 << 10) - 1;

/// How a process is given the body, and which bodies it is given at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyWay {
    /// How.
    pub by: BodyBy,
    /// A longer body is rejected, in bytes; `None`: what the way can carry.
    pub limit: Option<u64>,
    /// What becomes of a body that begins with a dash and is an argument.
    pub dash: DashArguments,
}

/// How a process is given the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyBy {
    /// On its standard input.
    #[default]
    Stdin,
    /// As its last argument.
    Argument,
    /// As its last argument, in base64, as rabbitmq-cli-consumer gives it.
    Base64,
    /// In a file of its own, whose path is the last argument.
    File,
}

impl BodyWay {
    /// Reads `body`, `body_limit` and `dash_arguments`.
    pub(super) fn read(settings: &mut Settings) -> Result<Self> {
        let ways = [
            ("stdin", BodyBy::Stdin),
            ("argument", BodyBy::Argument),
            ("base64", BodyBy::Base64),
            ("file", BodyBy::File),
        ];
        Ok(Self {
            by: settings.choice(&["body"], &ways)?.unwrap_or_default(),
            limit: settings.size(&["body_limit"])?,
            dash: DashArguments::read(settings)?,
        })
    }

    /// Why a body of this length is not given.
    fn refusal(&self, length: u64) -> Option<String> {
        let can = match self.by {
            BodyBy::Stdin | BodyBy::File => u64::MAX,
            BodyBy::Argument => LONGEST_ARGUMENT,
            BodyBy::Base64 => LONGEST_ARGUMENT / 4 * 3,
        };
        let limit = self.limit.unwrap_or(u64::MAX).min(can);
        (length > limit).then(|| {
            let why = if limit == can {
                "an argument can hold; with `body: stdin` or `body: file` there is no such limit"
            } else {
                "`body_limit` allows"
            };
            format!(
                "the body has {length} bytes, more than the {} that {why}",
                ByteSize(limit).display().iec()
            )
        })
    }

    /// Makes of a body what a process is started with.
    pub(super) async fn give(&self, body: Vec<u8>) -> Result<Given, Outcome> {
        if let Some(reason) = self.refusal(body.len() as u64) {
            return Err(Outcome::reject(reason));
        }
        let mut given = Given::default();
        match self.by {
            BodyBy::Stdin => given.input = body,
            BodyBy::Argument => given.arguments = self.argument(body).map_err(Outcome::reject)?,
            BodyBy::Base64 => given.arguments.push(STANDARD.encode(body)),
            BodyBy::File => {
                let file = beside(move || BodyFile::write(&body))
                    .await
                    .and_then(|file| {
                        file.map_err(|error| Error::temporary("cannot write the body into a file").because(error))
                    })
                    .map_err(|error| Outcome::Pause(error.to_string()))?;
                given.arguments.push(file.path().to_string_lossy().into_owned());
                given.file = Some(file);
            }
        }
        Ok(given)
    }

    fn argument(&self, body: Vec<u8>) -> Result<Vec<String>, String> {
        let text = String::from_utf8(body).map_err(|_| {
            "the body is not UTF-8, and no argument can hold it; `body: base64`, `stdin` or `file` can".to_owned()
        })?;
        if text.contains('\0') {
            return Err("the body holds a NUL byte, and no argument can".to_owned());
        }
        match self.dash {
            DashArguments::Refuse if text.starts_with('-') => Err(
                "the body begins with a dash and would be an option; with `dash_arguments: separator` it is passed behind `--`"
                    .to_owned(),
            ),
            DashArguments::Separator => Ok(vec!["--".to_owned(), text]),
            _ => Ok(vec![text]),
        }
    }
}

/// What a process is started with.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) input: Vec<u8>,
    pub(super) arguments: Vec<String>,
    /// To be kept until the process has ended.
    pub(super) file: Option<BodyFile>,
}

/// A file that holds a body, readable by its owner alone. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct BodyFile(PathBuf);

impl BodyFile {
    fn write(body: &[u8]) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = u128::from_ne_bytes(random);
        let file = Self(std::env::temp_dir().join(format!("qctl-body-{name:032x}")));
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file.0)?;
        open.write_all(body)?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        // The program may have moved it away: that is its right.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn way(by: BodyBy, dash: DashArguments) -> BodyWay {
        BodyWay { by, limit: None, dash }
    }

    #[test]
    fn a_body_as_an_argument_can_be_no_option() {
        let refuse = way(BodyBy::Argument, DashArguments::Refuse);
        assert!(
            refuse
                .argument(b"-rf".to_vec())
                .unwrap_err()
                .contains("begins with a dash")
        );
        assert_eq!(refuse.argument(b"a -rf".to_vec()).unwrap(), ["a -rf"]);
        let separator = way(BodyBy::Argument, DashArguments::Separator);
        assert_eq!(separator.argument(b"-rf".to_vec()).unwrap(), ["--", "-rf"]);
        assert!(refuse.argument(b"a\0b".to_vec()).is_err() && refuse.argument(vec![0xff]).is_err());
    }

    #[test]
    fn what_no_argument_can_hold_is_refused_before_anything_is_started() {
        assert_eq!(way(BodyBy::Stdin, DashArguments::Refuse).refusal(1 << 30), None);
        let argument = way(BodyBy::Argument, DashArguments::Refuse);
        assert_eq!(argument.refusal(LONGEST_ARGUMENT), None);
        assert!(argument.refusal(LONGEST_ARGUMENT + 1).unwrap().contains("body: file"));
        assert!(way(BodyBy::Base64, DashArguments::Refuse).refusal(100_000).is_some());
        let limited = BodyWay {
            limit: Some(10),
            ..BodyWay::default()
        };
        assert!(limited.refusal(11).unwrap().contains("10 B that `body_limit` allows"));
    }
}
