//! Serves a page, on a thread of its own.

use std::fs;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::address::Bound;
use super::door::Door;
use super::{Address, Page};
use crate::error::{Error, Result};
use crate::settings::SecretSource;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves a page until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: Address,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Office {
    page: Arc<dyn Page>,
    token: Option<SecretSource>,
}

impl Server {
    /// Begins to serve at this address. Where others than this machine's processes can reach it, they must know a token; it
    /// is read anew for each request.
    pub fn start(address: &Address, token: Option<SecretSource>, page: Arc<dyn Page>) -> Result<Self> {
        match &token {
            None if !address.is_local() => {
                return Err(Error::not_allowed(format!(
                    "{address} can be reached by others; listen at 127.0.0.1 or a unix socket, or have them know a token \
                     with --metrics-token-file"
                )));
            }
            None => {}
            // A file that is not there is told now and not at the first request.
            Some(token) => {
                token.read()?;
            }
        }
        let (bound, address) = address.bind()?;
        let stop = CancellationToken::new();
        let (office, until) = (Office { page, token }, stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::temporary("the metrics' event loop cannot be started").because(error))?;
        let thread = thread::Builder::new()
            .name("qctl-observe".to_owned())
            .spawn(move || {
                runtime.block_on(until.run_until_cancelled(serve(bound, office)));
            })
            .map_err(|error| Error::temporary("the metrics' thread cannot be started").because(error))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It waits for nobody; if it panicked, there is nothing left to end.
            let _ = thread.join();
        }
        if let Address::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

async fn serve(bound: Bound, office: Office) {
    let door = match Door::new(bound) {
        Ok(door) => door,
        Err(error) => {
            tracing::error!(%error, "nothing is served");
            return;
        }
    };
    let router = Router::new().fallback(answer).with_state(office);
    if let Err(error) = axum::serve(door, router).await {
        tracing::error!(%error, "the metrics are served no more");
    }
}

async fn answer(State(office): State<Office>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(token) = &office.token
        && !is_authorized(token, &headers)
    {
        let mut refused = told(StatusCode::UNAUTHORIZED, "a bearer token is needed\n".to_owned());
        refused
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    let judged = |judgement: Result<(), String>| match judgement {
        Ok(()) => told(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => told(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", one_line(&reason))),
    };
    let known = matches!(uri.path(), "/metrics" | "/healthz" | "/readyz");
    if known && method != Method::GET && method != Method::HEAD {
        let mut refused = told(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match uri.path() {
        "/metrics" => response(StatusCode::OK, OPENMETRICS, office.page.metrics()),
        "/healthz" => judged(office.page.health()),
        "/readyz" => judged(office.page.readiness()),
        _ => told(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
}

fn told(status: StatusCode, text: String) -> Response {
    response(status, TEXT, text)
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn is_authorized(token: &SecretSource, headers: &HeaderMap) -> bool {
    let given = headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let Some(given) = given
        .split_at_checked(7)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, given)| given)
    else {
        return false;
    };
    match token.read() {
        Ok(token) => is_same(given, token.expose().as_bytes()),
        Err(error) => {
            tracing::warn!(%error, "nobody is let in to the metrics");
            false
        }
    }
}

/// Compares digests, all of them: how long it takes tells nothing of the token.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (Sha256::digest(one), Sha256::digest(other));
    let differences = one
        .iter()
        .zip(other.iter())
        .fold(0, |all, (one, other)| all | (one ^ other));
    differences == 0
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_same(b"token", b"token"));
        for other in [&b""[..], b"toke", b"token ", b"Token"] {
            assert!(!is_same(b"token", other));
        }
    }
}
