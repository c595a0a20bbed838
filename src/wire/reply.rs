//! The body of a reply to `queuecommand --wait`: how the message was settled for good, and what its child printed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The media type of a reply.
pub const CONTENT_TYPE: &str = "application/json";

/// How a message was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Done.
    Done,
    /// Failed, and tried as often as was allowed.
    Failed,
    /// Refused: trying again could not help.
    Rejected,
    /// Given back untouched.
    Released,
    /// Too old to be handled.
    Expired,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How the message was settled.
    pub status: Status,
    /// Why, unless it is done.
    pub reason: Option<String>,
    /// The child's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// There was more standard output.
    pub stdout_truncated: bool,
    /// There was more standard error.
    pub stderr_truncated: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Encoding {
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "base64")]
    Base64,
}

#[derive(Serialize, Deserialize)]
struct Body {
    status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default)]
    signal: Option<i32>,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stdout_encoding: Encoding,
    #[serde(default)]
    stdout_truncated: bool,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    stderr_encoding: Encoding,
    #[serde(default)]
    stderr_truncated: bool,
}

impl Reply {
    /// A reply that says no more than this.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            reason: None,
            exit_code: None,
            signal: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stdout_truncated: false,
            stderr_truncated: false,
        }
    }

    /// Whether the message was done.
    pub fn ok(&self) -> bool {
        self.status == Status::Done
    }

    /// The body. Output that is not UTF-8 is sent as base64, and the body says so.
    pub fn encode(&self) -> Vec<u8> {
        let (stdout, stdout_encoding) = to_text(&self.stdout, self.stdout_truncated);
        let (stderr, stderr_encoding) = to_text(&self.stderr, self.stderr_truncated);
        let body = Body {
            status: self.status,
            reason: self.reason.clone(),
            exit_code: self.exit_code,
            signal: self.signal,
            stdout,
            stdout_encoding,
            stdout_truncated: self.stdout_truncated,
            stderr,
            stderr_encoding,
            stderr_truncated: self.stderr_truncated,
        };
        serde_json::to_vec(&body).expect("text and numbers are always JSON")
    }

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| Error::protocol("the reply is not one of qctl's").because(error))?;
        Ok(Self {
            status: body.status,
            reason: body.reason,
            exit_code: body.exit_code,
            signal: body.signal,
            stdout: from_text(body.stdout, body.stdout_encoding)?,
            stderr: from_text(body.stderr, body.stderr_encoding)?,
            stdout_truncated: body.stdout_truncated,
            stderr_truncated: body.stderr_truncated,
        })
    }
}

/// Text that was cut in the middle of a character loses the rest of that character rather than its readability.
fn to_text(bytes: &[u8], truncated: bool) -> (String, Encoding) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), Encoding::Utf8),
        Err(error) if truncated && error.error_len().is_none() => (
            String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned(),
            Encoding::Utf8,
        ),
        Err(_) => (STANDARD.encode(bytes), Encoding::Base64),
    }
}

fn from_text(text: String, encoding: Encoding) -> Result<Vec<u8>> {
    match encoding {
        Encoding::Utf8 => Ok(text.into_bytes()),
        Encoding::Base64 => STANDARD
            .decode(text)
            .map_err(|error| Error::protocol("the reply's output is not base64").because(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Reply, Status};

    #[test]
    fn the_body_is_stable() {
        let reply = Reply {
            exit_code: Some(3),
            stdout: b"hi\n".to_vec(),
            stderr: vec![0xff],
            ..Reply::new(Status::Done)
        };
        let expected = concat!(
            r#"{"status":"done","exit_code":3,"signal":null,"stdout":"hi\n","stdout_encoding":"utf-8","#,
            r#""stdout_truncated":false,"stderr":"/w==","stderr_encoding":"base64","stderr_truncated":false}"#
        );
        assert_eq!(String::from_utf8(reply.encode()).unwrap(), expected);
        assert_eq!(Reply::parse(expected.as_bytes()).unwrap(), reply);
    }

    #[test]
    fn a_character_cut_in_two_is_dropped() {
        let reply = Reply {
            stdout: b"caf\xc3".to_vec(),
            stdout_truncated: true,
            ..Reply::new(Status::Failed)
        };
        assert_eq!(Reply::parse(&reply.encode()).unwrap().stdout, b"caf");
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"status":"maybe"}"#,
            r#"{"status":"done","stdout":"?","stdout_encoding":"base64"}"#,
        ] {
            assert!(Reply::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn replies_come_back(
            stdout in any::<Vec<u8>>(), stderr in any::<Vec<u8>>(), reason in any::<Option<String>>(),
            exit_code in any::<Option<i32>>(), signal in any::<Option<i32>>()
        ) {
            let reply = Reply { reason, exit_code, signal, stdout, stderr, ..Reply::new(Status::Rejected) };
            assert_eq!(Reply::parse(&reply.encode()).unwrap(), reply);
        }
    }
}
