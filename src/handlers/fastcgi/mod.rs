//! The handler `fastcgi`: each message is the body of a request to one fixed script on php-fpm. `docs/fastcgi.md` is its
//! manual.
//!
//! The records are read and written by `wire::fastcgi`: PHP takes no parameter that is cut in two by a record's end, and an
//! answer that breaks off must be told from one that is whole.

mod address;
mod answer;
mod exchange;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use address::Address;

use super::children::{DEFAULT_TIMEOUT, line_sink};
use super::facts::Facts;
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Failure, Handler, OUTPUT_LIMIT, Outcome, Report, Verdict, deadline};
use crate::error::{Error, Result};
use crate::process::{LineSink, Stream};
use crate::queue::Lifeline;
use crate::settings::Settings;
use crate::wire::fastcgi::{fits, request};
use address::Socket;
use answer::Answer;
use exchange::{Exchange, Request, exchange};

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "fastcgi",
    about: "gives the body of each message to one fixed script on php-fpm, as the body of a request",
    example: "fastcgi: { socket: 'unix:/run/php/php-fpm.sock', script: /srv/app/worker.php }",
    parse,
};

/// Parameters that say what the request is; nobody else may.
const OURS: &[&str] = &[
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "GATEWAY_INTERFACE",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "TRACEPARENT",
    "TRACESTATE",
];

/// The keys of `fastcgi`.
#[derive(Clone, Debug)]
pub struct FastCgiSettings {
    /// Where they stand, such as `consumers.mail.handler.fastcgi`.
    pub place: String,
    /// Where php-fpm listens.
    pub socket: Address,
    /// The script, by the path that php-fpm knows it by.
    pub script: String,
    /// How long a request may take; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Further parameters.
    pub params: Vec<(String, String)>,
    /// Connections are used again.
    pub keep_connections: bool,
}

/// Has a script on php-fpm handle each message.
#[derive(Debug)]
pub struct FastCgi {
    settings: FastCgiSettings,
    /// What the time-out means.
    at_timeout: Verdict,
    /// The parameters that are the same for every message.
    fixed: Vec<(String, String)>,
    slots: Semaphore,
    idle: Mutex<Vec<Socket>>,
}

impl FastCgi {
    /// A handler with these keys.
    pub fn new(settings: FastCgiSettings, context: &HandlerContext) -> Self {
        let name = settings.script.rsplit('/').next().unwrap_or_default();
        let uri = format!("/{name}");
        let mut fixed: Vec<(String, String)> = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_SOFTWARE", concat!("qctl/", env!("CARGO_PKG_VERSION"))),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", &uri),
            ("QUERY_STRING", ""),
            ("SCRIPT_NAME", &uri),
            ("SCRIPT_FILENAME", &settings.script),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        fixed.extend(settings.params.iter().cloned());
        Self {
            at_timeout: context.exit_codes.timeout,
            fixed,
            slots: Semaphore::new(context.concurrency.max(1)),
            idle: Mutex::default(),
            settings,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection that still stands.
    fn kept(&self) -> Option<Socket> {
        loop {
            let socket = self.idle().pop()?;
            if socket.is_quiet() {
                return Some(socket);
            }
        }
    }

    /// The request of this call, but for its body.
    fn request_head(&self, call: &Call, body: &[u8]) -> Option<Vec<u8>> {
        let facts = Facts::of(call).with_json(call);
        let length = body.len().to_string();
        let content_type = call.message.content_type.as_deref().unwrap_or_default();
        let plain_type = Some(content_type).filter(|text| !text.contains(char::is_control));
        let mut params: Vec<(&str, &str)> = Vec::with_capacity(self.fixed.len() + 16);
        params.extend(self.fixed.iter().map(|(name, value)| (&**name, &**value)));
        params.push(("CONTENT_LENGTH", &length));
        params.push(("CONTENT_TYPE", plain_type.unwrap_or_default()));
        let (fitting, cut): (Vec<_>, Vec<_>) = facts.variables().partition(|(name, value)| fits(name, value));
        params.extend(fitting);
        // A record is a little shorter than what a variable may hold.
        if cut.iter().any(|(name, _)| *name == "QCTL_MESSAGE") {
            params.push(("QCTL_MESSAGE_TRUNCATED", "1"));
        }
        request(self.settings.keep_connections, params)
    }

    /// One message, from connection to verdict.
    async fn perform(&self, call: &Call, body: &[u8]) -> Outcome {
        let Some(head) = self.request_head(call, body) else {
            return Outcome::reject("its content type is too long for a request");
        };
        let request = Request { head: &head, body };
        let mut log = line_sink(&call.queue, call.message.id.as_deref());
        let keep = if call.output_wanted { OUTPUT_LIMIT } else { 0 };
        let until = deadline(self.settings.timeout).map(Instant::from_std);
        if let Some(socket) = self.kept()
            && let Some(outcome) = self.attempt(socket, &request, until, keep, &mut log).await
        {
            return outcome;
        }
        let connected = within(until, self.settings.socket.connect()).await;
        let socket = match connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())) {
            Ok(socket) => socket,
            Err(error) => return self.unreachable(&error),
        };
        match self.attempt(socket, &request, until, keep, &mut log).await {
            Some(outcome) => outcome,
            None => Outcome::Pause(format!("php-fpm at {} takes no request", self.settings.socket)),
        }
    }

    /// One try on this connection; `None`: it was closed before it took anything, so nothing was begun.
    async fn attempt(
        &self,
        mut socket: Socket,
        request: &Request<'_>,
        until: Option<Instant>,
        keep: usize,
        log: &mut Option<LineSink>,
    ) -> Option<Outcome> {
        let mut sink = |stream: Stream, line: &str| {
            if let Some(log) = log {
                log(stream, line);
            }
        };
        let mut answer = Answer::new(keep);
        let exchanged = exchange(&mut socket, request, &mut answer, &mut sink);
        let Some(exchanged) = within(until, exchanged).await else {
            return Some(self.timed_out(answer.broken(&mut sink)));
        };
        match exchanged {
            Exchange::NotTaken => None,
            Exchange::Broken(reason) => Some(Outcome::Retry(Failure {
                reason,
                report: answer.broken(&mut sink),
                ..Failure::default()
            })),
            Exchange::Answered { end, reusable } => {
                if reusable && self.settings.keep_connections {
                    self.idle().push(socket);
                }
                let outcome = answer.judge(end, SystemTime::now(), &mut sink);
                Some(match outcome {
                    Outcome::WorkerFault(reason) => Outcome::WorkerFault(format!(
                        "{}.script: {}: {reason}; correct it, or see that php-fpm may read it, then start the consumer again",
                        self.settings.place, self.settings.script
                    )),
                    outcome => outcome,
                })
            }
        }
    }

    fn timed_out(&self, report: Report) -> Outcome {
        let after = humantime::format_duration(self.settings.timeout.unwrap_or_default());
        let failure = |report| Failure {
            reason: format!("timed out after {after}"),
            report,
            ..Failure::default()
        };
        match self.at_timeout {
            Verdict::Ack => Outcome::Done(report),
            Verdict::Retry => Outcome::Retry(failure(report)),
            Verdict::Reject => Outcome::Reject(failure(report)),
        }
    }

    /// Nothing was begun: the message is given back as it was. A php-fpm that restarts is back soon.
    fn unreachable(&self, error: &io::Error) -> Outcome {
        match self.fault(error) {
            Some(fault) => Outcome::WorkerFault(fault),
            None => Outcome::Pause(self.away(error)),
        }
    }

    fn away(&self, error: &io::Error) -> String {
        format!("php-fpm does not answer at {}: {error}", self.settings.socket)
    }

    /// What no waiting mends.
    fn fault(&self, error: &io::Error) -> Option<String> {
        (error.kind() == io::ErrorKind::PermissionDenied).then(|| {
            format!(
                "{}.socket: {} cannot be connected to: {error}; let this user in with `listen.owner`, `listen.group` and \
                 `listen.mode` of php-fpm's pool, then start the consumer again",
                self.settings.place, self.settings.socket
            )
        })
    }
}

/// `None`: it took too long.
async fn within<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let socket = settings.setting(&["socket"])?;
    let script = settings.text(&["script"])?;
    let timeout = settings.limit_duration(&["timeout"])?.unwrap_or(Some(DEFAULT_TIMEOUT));
    let params = params(&mut settings)?;
    let keep_connections = settings.boolean(&["keep_connections"])?.unwrap_or(false);
    settings.check_unknown()?;
    let Some(socket) = socket else {
        return Err(settings.missing("socket", "where php-fpm listens, such as unix:/run/php/php-fpm.sock"));
    };
    let socket = Address::parse(&socket.text()?).map_err(|wrong| socket.error(wrong))?;
    let Some(script) = script else {
        return Err(settings.missing("script", "the script by its whole path, such as /srv/app/worker.php"));
    };
    if !script.starts_with('/') || script.ends_with('/') || script.contains('\0') || !fits("SCRIPT_FILENAME", &script) {
        return Err(settings.error(
            "script",
            "must be the whole path of a script, as php-fpm sees it, such as /srv/app/worker.php",
        ));
    }
    let parsed = FastCgiSettings {
        place: settings.path(),
        socket,
        script,
        timeout,
        params,
        keep_connections,
    };
    Ok(Arc::new(FastCgi::new(parsed, context)))
}

/// The key `params:`.
fn params(settings: &mut Settings) -> Result<Vec<(String, String)>> {
    let params = settings.text_map(&["params"])?.unwrap_or_default();
    for (name, value) in &params {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let wrong = if !is_name {
            "a name has letters, digits and `_` only"
        } else if name.starts_with("QCTL_") || OURS.contains(&name.as_str()) {
            "qctl sets it itself"
        } else if value.contains('\0') || !fits(name, value) {
            "its value is too long or holds a NUL byte"
        } else {
            continue;
        };
        return Err(settings.error("params", format!("cannot set {name:?}: {wrong}")));
    }
    Ok(params)
}

#[async_trait]
impl Handler for FastCgi {
    fn longest_call(&self) -> Option<Duration> {
        self.settings.timeout
    }

    async fn prepare(&self, _: &Lifeline) -> Result<()> {
        let Err(error) = self.settings.socket.connect().await else {
            return Ok(());
        };
        if let Some(fault) = self.fault(&error) {
            return Err(Error::worker_fault(fault));
        }
        tracing::warn!("{}; it is waited for", self.away(&error));
        Ok(())
    }

    async fn handle(&self, mut call: Call) -> Outcome {
        let begin = async {
            let slot = self.slots.acquire();
            match call.patience {
                Some(patience) => tokio::time::timeout(patience, slot).await.ok(),
                None => Some(slot.await),
            }
        };
        let cancelled = call.cancel.clone();
        let _slot = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Outcome::Cancelled,
            slot = begin => match slot {
                Some(slot) => slot,
                None => return Outcome::Cancelled,
            },
        };
        let body = std::mem::take(&mut call.message.body);
        tokio::select! {
            biased;
            // The connection goes with the call.
            () = cancelled.cancelled() => Outcome::Cancelled,
            outcome = self.perform(&call, &body) => outcome,
        }
    }

    async fn finish(&self) {
        self.idle().clear();
    }
}
