//! The client: asks what the fence lets through.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode};

use super::fence::Fence;
use super::hop::{Hop, location};
use super::resolve::{Fenced, LookUp, by_system};
use super::told::told;
use super::trust::{certificates, tls_config};

/// Who is not connected after this is tried at his next address, or given up.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A connection that nothing uses is closed.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// What nobody keeps of an answer is read up to here, so that its connection can be used again; then that is cut.
const READ_PAST: usize = 4 << 20;
/// Clients differ in what the library takes for all requests only; more kinds than this are not kept.
const KINDS: usize = 8;

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// What may be asked.
    pub fence: Fence,
    /// So many redirects are followed; with 0 an answer that leads elsewhere is an answer.
    pub redirects: u32,
    /// Certificates that are believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// So many connections to one host are kept for the next request.
    pub idle_connections: usize,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its URL, as somebody wrote it.
    pub url: String,
    /// Its headers. Those that belong to the connection are the client's own.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// For everything, redirects and the answer's last byte included; `None`: no limit.
    pub timeout: Option<Duration>,
    /// For a connection, where it is to be less than usual.
    pub connect_timeout: Option<Duration>,
    /// So many redirects at most, where it is to be fewer than the client's own.
    pub redirects: Option<u32>,
    /// So many bytes of the answer are kept.
    pub keep: usize,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The host that answered, after redirects.
    pub host: String,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// There was more of it.
    pub truncated: bool,
}

/// Why there is no answer. The words name the host, and nothing that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may not be asked, now or later.
    Refused(String),
    /// It did not work this time: no such name, no connection, an answer that broke off.
    Failed(String),
    /// It took longer than this.
    TimedOut(Duration),
    /// This machine has no room for it now.
    NoRoom(String),
    /// This client cannot work as it is set up.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::Failed(reason) | Self::NoRoom(reason) | Self::Broken(reason) => {
                f.write_str(reason)
            }
            Self::TimedOut(after) => write!(f, "timed out after {}", humantime::format_duration(*after)),
        }
    }
}

/// What the library takes for all requests of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    secure: bool,
    connect_within: Duration,
}

/// Asks what the fence lets through. It costs nothing before the first request.
pub struct Web {
    settings: WebSettings,
    resolver: Fenced,
    clients: Mutex<Vec<(Kind, Client)>>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Web {
    /// A client with these settings.
    pub fn new(settings: WebSettings) -> Self {
        Self::knowing(settings, by_system())
    }

    /// A client that knows names from elsewhere.
    fn knowing(settings: WebSettings, look_up: LookUp) -> Self {
        Self {
            resolver: Fenced::new(settings.fence.private.clone(), look_up),
            settings,
            clients: Mutex::default(),
        }
    }

    /// Checks what can be known before the first request: that the `ca_file` can be read.
    pub fn check(&self) -> Result<(), String> {
        match &self.settings.ca_file {
            Some(path) => certificates(path).map(drop),
            None => Ok(()),
        }
    }

    /// Says whether a URL may be asked, as far as that can be said without asking for its addresses.
    pub fn check_url(&self, url: &str) -> Result<(), String> {
        self.settings.fence.check(url).map(drop)
    }

    /// Asks, follows where that is allowed, and reads the answer. Dropping the future ends all of it.
    pub async fn send(&self, request: Request) -> Result<Answer, Trouble> {
        match request.timeout {
            None => self.exchange(request).await,
            Some(timeout) => tokio::time::timeout(timeout, self.exchange(request))
                .await
                .unwrap_or(Err(Trouble::TimedOut(timeout))),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Answer, Trouble> {
        let own = self.settings.redirects;
        let redirects = request.redirects.map_or(own, |redirects| redirects.min(own));
        let connect_within = request.connect_timeout.unwrap_or(CONNECT_WITHIN).min(CONNECT_WITHIN);
        let mut hop = Hop {
            url: self.settings.fence.check(&request.url).map_err(Trouble::Refused)?,
            method: request.method,
            headers: request.headers,
            body: request.body,
        };
        let mut left = redirects;
        loop {
            let host = hop.url.host_str().unwrap_or_default().to_owned();
            let client = self.client(Kind {
                secure: hop.url.scheme() == "https",
                connect_within,
            })?;
            let body = if left > 0 {
                hop.body.clone()
            } else {
                std::mem::take(&mut hop.body)
            };
            let mut asked = client
                .request(hop.method.clone(), hop.url.clone())
                .headers(hop.headers.clone());
            if !body.is_empty() || !matches!(hop.method, Method::GET | Method::HEAD | Method::OPTIONS) {
                asked = asked.body(body);
            }
            let response = asked.send().await.map_err(|error| told(&host, &error))?;
            if left > 0
                && let Some(location) = location(response.status(), response.headers())
            {
                left -= 1;
                hop = hop
                    .next(response.status(), location, &self.settings.fence)
                    .map_err(Trouble::Refused)?;
                continue;
            }
            return read(host, response, request.keep).await;
        }
    }

    /// A client of this kind; connections are shared by all requests that have the same one.
    fn client(&self, kind: Kind) -> Result<Client, Trouble> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == kind) {
            return Ok(client.clone());
        }
        let tls = tls_config(kind.secure, self.settings.ca_file.as_deref()).map_err(Trouble::Broken)?;
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .dns_resolver(self.resolver.clone())
            .tls_backend_preconfigured(tls)
            .connect_timeout(kind.connect_within)
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(self.settings.idle_connections)
            .build()
            .map_err(|error| Trouble::Broken(format!("the HTTP client cannot be made: {error}")))?;
        if clients.len() >= KINDS {
            clients.remove(0);
        }
        clients.push((kind, client.clone()));
        Ok(client)
    }
}

/// Reads an answer to its end, keeps its beginning.
async fn read(host: String, mut response: reqwest::Response, keep: usize) -> Result<Answer, Trouble> {
    let limit = keep.saturating_add(READ_PAST);
    let mut answer = Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        host,
        body: Vec::new(),
        truncated: false,
    };
    let mut taken = 0_usize;
    while let Some(chunk) = response.chunk().await.map_err(|error| told(&answer.host, &error))? {
        taken = taken.saturating_add(chunk.len());
        let room = keep - answer.body.len();
        answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        answer.truncated |= chunk.len() > room;
        if taken > limit {
            break;
        }
    }
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
