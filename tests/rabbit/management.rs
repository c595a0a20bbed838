//! RabbitMQ's management API: one HTTP request a connection, which survives any restart of the broker between two.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// How long an answer may take. A paused broker does not give one.
const PATIENCE: Duration = Duration::from_secs(20);

/// The API as one user sees it. A path begins behind `/api/`; names in it go through [`segment`].
pub struct Management {
    address: SocketAddr,
    authorization: String,
}

/// The status and the JSON of an answer; null where it has no body.
struct Answer {
    status: u16,
    body: Value,
}

impl Management {
    pub fn new(address: SocketAddr, user: &str, password: &str) -> Self {
        Self {
            address,
            authorization: format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
        }
    }

    /// The same API as another user sees it.
    pub fn as_user(&self, user: &str, password: &str) -> Self {
        Self::new(self.address, user, password)
    }

    /// What is at this path; `None` where nothing is.
    pub fn find(&self, path: &str) -> Option<Value> {
        let answer = self.must("GET", path, None);
        (answer.status != 404).then_some(answer.body)
    }

    /// What is at this path, which must be there.
    pub fn get(&self, path: &str) -> Value {
        self.find(path).unwrap_or_else(|| panic!("GET {path}: not found"))
    }

    pub fn put(&self, path: &str, body: &Value) {
        self.expect("PUT", path, Some(body));
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.expect("POST", path, Some(body))
    }

    pub fn delete(&self, path: &str) {
        self.expect("DELETE", path, None);
    }

    /// As [`Management::delete`], where there may be nothing to delete or nobody to ask.
    pub fn try_delete(&self, path: &str) {
        let _ = self.request("DELETE", path, None, PATIENCE);
    }

    /// Whether the API answers this user within so long.
    pub fn answers(&self, within: Duration) -> bool {
        self.request("GET", "whoami", None, within)
            .is_ok_and(|answer| answer.status == 200)
    }

    fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.must(method, path, body);
        assert!(answer.status != 404, "{method} {path}: not found: {}", answer.body);
        answer.body
    }

    /// An answer that is a success or says that nothing is there.
    fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = self
            .request(method, path, body, PATIENCE)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(
            matches!(answer.status, 200..=299 | 404),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        answer
    }

    /// HTTP 1.0, so that the answer is plain and ends with the connection.
    fn request(&self, method: &str, path: &str, body: Option<&Value>, patience: Duration) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let head = format!(
            "{method} /api/{path} HTTP/1.0\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.authorization,
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {text}")))
    }
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).ok()?
    };
    Some(Answer { status, body })
}

/// A name as one segment of a path or URL: everything but letters, digits, `-`, `.`, `_` and `~` percent-encoded.
pub fn segment(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}
