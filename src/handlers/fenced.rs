//! What the handlers that ask over HTTP share: the keys of the fence, the places, the time-out, and what an answer means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::facts::trace_headers;
use super::{HandlerContext, Pattern};
use crate::consumer::handler::{Call, Failure, OUTPUT_LIMIT, Outcome, Report, Verdict};
use crate::error::{Error, Result};
use crate::settings::{Setting, Settings};
use crate::web::{
    Answer, Entry, Fence, HeaderMap, HeaderName, HeaderValue, Private, Request, Trouble, Web, WebSettings, header,
};
use crate::wire::status::{Meaning, meaning, retry_after};

/// How long an answer may take unless it is said otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);
/// What names us to a server.
pub(super) const USER_AGENT: &str = concat!("qctl/", env!("CARGO_PKG_VERSION"));
/// So much of an answer is kept with a message that failed.
const TAIL: usize = 2 << 10;
/// More redirects than this are a circle.
const MOST_REDIRECTS: u64 = 20;

/// The keys `allow` … that say what may be asked.
pub(super) fn allow(settings: &mut Settings) -> Result<Option<Vec<Entry>>> {
    let Some(setting) = settings.setting(&["allow"])? else {
        return Ok(None);
    };
    if setting.is_empty() {
        return Ok(Some(Vec::new()));
    }
    setting.list()?.iter().map(entry).collect::<Result<_>>().map(Some)
}

fn entry(setting: &Setting) -> Result<Entry> {
    let written = setting.text()?;
    let entry = if written.starts_with("regexp:") {
        Pattern::parse(&written).map(|pattern| Entry::Matching(Arc::new(move |url: &str| pattern.matches(url))))
    } else {
        Entry::host(&written)
    };
    entry.map_err(|message| setting.error(message))
}

/// The key `private`; `usual` where it is not there.
pub(super) fn private(settings: &mut Settings, usual: Private) -> Result<Private> {
    let Some(setting) = settings.setting(&["private"])? else {
        return Ok(usual);
    };
    if !setting.is_list() {
        match setting.text()?.as_str() {
            "allow" => return Ok(Private::Allow),
            "refuse" => return Ok(Private::Refuse),
            text if text.parse::<crate::web::Network>().is_err() => {
                return Err(setting.error(format!(
                    "must be `refuse`, `allow`, or a list of ranges of addresses such as [10.1.0.0/16], not {}",
                    setting.quoted()
                )));
            }
            _ => {}
        }
    }
    let networks = setting.list()?.into_iter().map(|range| {
        let text = range.text()?;
        text.parse().map_err(|message: String| range.error(message))
    });
    networks.collect::<Result<_>>().map(Private::Only)
}

/// The key `redirects`.
pub(super) fn redirects(settings: &mut Settings) -> Result<u32> {
    Ok(settings.count_within(&["redirects"], 0, MOST_REDIRECTS)?.unwrap_or(0) as u32)
}

/// Asks over HTTP for the messages of one consumer.
#[derive(Debug)]
pub(super) struct Caller {
    web: Web,
    timeout: Option<Duration>,
    on_timeout: Verdict,
    /// As many as the consumer's concurrency: what is taken ahead waits here.
    places: Semaphore,
}

impl Caller {
    /// Reads `timeout` and `ca_file`, which all of these handlers have.
    pub(super) fn read(
        settings: &mut Settings,
        context: &HandlerContext,
        fence: Fence,
        redirects: u32,
    ) -> Result<Self> {
        let timeout = settings.limit_duration(&["timeout"])?.unwrap_or(Some(DEFAULT_TIMEOUT));
        let ca_file = settings.file_path(&["ca_file"])?;
        let places = context.concurrency.max(1);
        Ok(Self {
            web: Web::new(WebSettings {
                fence,
                redirects,
                ca_file,
                idle_connections: places,
            }),
            timeout,
            on_timeout: context.exit_codes.timeout,
            places: Semaphore::new(places),
        })
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// What can be known before the first message.
    pub(super) fn check(&self) -> Result<()> {
        self.web.check().map_err(Error::worker_fault)
    }

    pub(super) fn check_url(&self, url: &str) -> Result<(), String> {
        self.web.check_url(url)
    }

    /// Asks for a message, and says what came of it. A request's own time-out can only be shorter than the handler's.
    pub(super) async fn call(
        &self,
        call: &Call,
        mut request: Request,
        judge: impl FnOnce(Answer) -> Outcome,
    ) -> Outcome {
        request.timeout = match (request.timeout, self.timeout) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        };
        for (name, value) in trace_headers(&call.message) {
            if let Ok(value) = HeaderValue::from_str(value) {
                request.headers.entry(name).or_insert(value);
            }
        }
        request
            .headers
            .entry("user-agent")
            .or_insert(HeaderValue::from_static(USER_AGENT));
        let asked = async {
            let Some(_place) = self.place(call.patience).await else {
                return Outcome::Cancelled;
            };
            match self.web.send(request).await {
                Ok(answer) => judge(answer),
                Err(trouble) => self.troubled(&trouble),
            }
        };
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => Outcome::Cancelled,
            outcome = asked => outcome,
        }
    }

    /// A place to run in; `None`: it took longer than the call's patience.
    async fn place(&self, patience: Option<Duration>) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let place = self.places.acquire();
        match patience {
            None => place.await.ok(),
            Some(patience) => tokio::time::timeout(patience, place).await.ok()?.ok(),
        }
    }

    fn troubled(&self, trouble: &Trouble) -> Outcome {
        let reason = trouble.to_string();
        match trouble {
            Trouble::Refused(_) => Outcome::reject(reason),
            Trouble::Failed(_) => Outcome::retry(reason),
            Trouble::NoRoom(_) => Outcome::Pause(reason),
            Trouble::Broken(_) => Outcome::WorkerFault(reason),
            Trouble::TimedOut(_) => match self.on_timeout {
                Verdict::Ack => Outcome::Done(Report::default()),
                Verdict::Retry => Outcome::retry(reason),
                Verdict::Reject => Outcome::reject(reason),
            },
        }
    }
}

/// So much of an answer is to be kept for this call.
pub(super) fn keep(call: &Call) -> usize {
    if call.output_wanted { OUTPUT_LIMIT } else { TAIL }
}

/// What an answer's status means: 2xx is done; 408, 425, 429 and 5xx may help later; all else never will.
pub(super) fn judged(answer: Answer, output_wanted: bool) -> Outcome {
    let status = answer.status;
    if status.is_success() {
        return Outcome::Done(if output_wanted {
            Report {
                stdout_truncated: answer.truncated,
                stdout: answer.body,
                ..Report::default()
            }
        } else {
            Report::default()
        });
    }
    let not_followed = if status.is_redirection() {
        ", a redirect that is not followed"
    } else {
        ""
    };
    let failure = Failure {
        reason: format!("{} answered {status}{not_followed}", answer.host),
        retry_after: answer
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now())),
        report: failed(answer, output_wanted),
        ..Failure::default()
    };
    match meaning(status.as_u16()) {
        Meaning::Retry => Outcome::Retry(failure),
        Meaning::Done | Meaning::Reject => Outcome::Reject(failure),
    }
}

/// What is kept of an answer with a message that failed: its beginning, which mostly says why.
pub(super) fn failed(answer: Answer, output_wanted: bool) -> Report {
    let beginning = &answer.body[..answer.body.len().min(TAIL)];
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => text,
        // Cut within a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "",
    };
    let plain = |c: char| {
        if c == '\n' || c == '\t' || !c.is_control() {
            c
        } else {
            ' '
        }
    };
    Report {
        stderr_tail: text.trim().chars().map(plain).collect(),
        stdout_truncated: output_wanted && answer.truncated,
        stdout: if output_wanted { answer.body } else { Vec::new() },
        ..Report::default()
    }
}

/// Headers that belong to the connection, or say what the client itself must say.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header that somebody else wrote, checked.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{:?} is no name of a header", name.chars().take(60).collect::<String>()))?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(format!("the header {name} is the client's own and cannot be set"));
    }
    // The value is not shown: it may be a secret.
    let value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| format!("the value of the header {name} holds a line's end or another control character"))?;
    Ok((name, value))
}

/// The headers of a map of names and values.
pub(super) fn headers_of(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let (name, value) = header(name, value)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{header, judged};
    use crate::consumer::handler::Outcome;
    use crate::web::{Answer, HeaderMap, HeaderValue, StatusCode};

    fn judge(status: u16, retry_after: Option<&'static str>, body: &[u8]) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.extend(retry_after.map(|value| (crate::web::header::RETRY_AFTER, HeaderValue::from_static(value))));
        let answer = Answer {
            host: "h.example".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.to_vec(),
            truncated: false,
        };
        judged(answer, false)
    }

    #[test]
    fn a_status_says_whether_another_try_may_help() {
        for status in [200, 201, 202, 204, 206, 299] {
            assert!(matches!(judge(status, None, b""), Outcome::Done(_)), "{status}");
        }
        for status in [408, 425, 429, 500, 501, 502, 503, 504, 599] {
            assert!(matches!(judge(status, None, b""), Outcome::Retry(_)), "{status}");
        }
        for status in [300, 301, 302, 304, 307, 400, 401, 403, 404, 410, 418, 422, 600, 999] {
            assert!(matches!(judge(status, None, b""), Outcome::Reject(_)), "{status}");
        }
    }

    #[test]
    fn a_failure_says_what_the_server_said() {
        let Outcome::Retry(failure) = judge(503, Some("7"), b"  too\x1b[2J busy\xc3") else {
            panic!("not a retry")
        };
        assert_eq!(failure.reason, "h.example answered 503 Service Unavailable");
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(failure.report.stderr_tail, "too [2J busy");
        let Outcome::Reject(failure) = judge(302, None, b"\xff\xfe") else {
            panic!("not rejected")
        };
        assert_eq!(
            failure.reason,
            "h.example answered 302 Found, a redirect that is not followed"
        );
        assert_eq!(failure.report.stderr_tail, "");
    }

    #[test]
    fn headers_cannot_reach_into_the_connection() {
        for (name, value) in [
            ("Host", "evil"),
            ("content-length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("Proxy-Authorization", "x"),
            ("X", "a\r\nHost: evil"),
            ("X", "a\nb"),
            ("X", "a\0b"),
            ("X\r\nY", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("", "a"),
        ] {
            let error = header(name, value).unwrap_err();
            assert!(!error.contains("evil"), "{error}");
        }
        assert!(header("X-Api-Key", "é ok\t").is_ok());
    }
}
