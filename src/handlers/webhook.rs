//! The handler `webhook`: each message's body is sent to one fixed URL.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::fenced::{self, Caller, header, headers_of};
use super::http::wish::basic;
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::{Error, Result};
use crate::queue::Lifeline;
use crate::settings::{SecretSource, Settings};
use crate::web::{Entry, Fence, HeaderMap, HeaderName, HeaderValue, Method, Private, Request, Url};

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "webhook",
    about: "sends each message's body to one URL, signed where that is wanted",
    example: "webhook: { url: 'https://hooks.example.org/mail' }",
    parse,
};

/// The body's type where the message has none.
const ANY_TYPE: &str = "application/octet-stream";
/// Where a signature goes unless it is said otherwise.
const SIGNATURE: &str = "X-Qctl-Signature";

#[derive(Debug)]
struct Webhook {
    url: String,
    method: Method,
    headers: HeaderMap,
    /// Headers whose values stand in files.
    secret_headers: Vec<(HeaderName, SecretSource)>,
    login: Option<Login>,
    signature: Option<Signature>,
    caller: Caller,
}

#[derive(Debug)]
enum Login {
    Bearer(SecretSource),
    Basic(String, SecretSource),
}

#[derive(Debug)]
struct Signature {
    secret: SecretSource,
    header: HeaderName,
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let url = settings.text(&["url"])?;
    let method = settings.text(&["method"])?;
    let headers = settings.text_map(&["headers"])?.unwrap_or_default();
    let headers = headers_of(&headers).map_err(|message| settings.error("headers", message))?;
    let secret_headers = secret_headers(&mut settings)?;
    let login = login(&mut settings)?;
    let signature = match settings.map(&["sign"])? {
        None => None,
        Some(sign) => Some(Signature::read(sign)?),
    };
    let private = fenced::private(&mut settings, Private::Allow)?;
    let redirects = fenced::redirects(&mut settings)?;
    let host = url.as_deref().map(host_of).transpose();
    let host = host.map_err(|message| settings.error("url", message))?;
    let fence = Fence {
        allow: host.into_iter().collect(),
        private,
    };
    let caller = Caller::read(&mut settings, context, fence, redirects)?;
    settings.check_unknown()?;
    let Some(url) = url else {
        return Err(settings.missing(
            "url",
            "where messages are sent, such as `url: https://hooks.example.org/mail`",
        ));
    };
    caller
        .check_url(&url)
        .map_err(|message| settings.error("url", message))?;
    let method = match method {
        None => Method::POST,
        Some(name) => Method::from_bytes(name.to_ascii_uppercase().as_bytes())
            .ok()
            .filter(|method| !matches!(*method, Method::CONNECT | Method::TRACE))
            .ok_or_else(|| settings.error("method", "must be a method such as POST or PUT"))?,
    };
    let authorized = headers.contains_key("authorization")
        || secret_headers.iter().any(|(name, _)| name.as_str() == "authorization");
    if login.is_some() && authorized {
        return Err(settings.error(
            "headers",
            "have an `Authorization`, and there is a login beside them; keep one of the two",
        ));
    }
    Ok(Arc::new(Webhook {
        url,
        method,
        headers,
        secret_headers,
        login,
        signature,
        caller,
    }))
}

/// The operator has written the URL: its host is allowed.
fn host_of(url: &str) -> Result<Entry, String> {
    let parsed =
        Url::parse(url).map_err(|error| format!("must be a URL such as https://hooks.example.org/mail: {error}"))?;
    match parsed.host_str() {
        Some(host) if !host.is_empty() => Ok(Entry::Host {
            name: host.to_owned(),
            port: None,
        }),
        _ => Err("must be a URL with a host, such as https://hooks.example.org/mail".to_owned()),
    }
}

/// The key `header_files`: headers whose values are read from files each time.
fn secret_headers(settings: &mut Settings) -> Result<Vec<(HeaderName, SecretSource)>> {
    let mut headers: BTreeMap<String, (HeaderName, PathBuf)> = BTreeMap::new();
    for (name, file) in settings.entries(&["header_files"])?.unwrap_or_default() {
        let (known, _) = header(&name, "").map_err(|message| file.error(message))?;
        if headers.insert(known.to_string(), (known, file.file_path()?)).is_some() {
            return Err(file.error("is given twice"));
        }
    }
    let sources = headers.into_values();
    Ok(sources.map(|(name, path)| (name, SecretSource::File(path))).collect())
}

fn login(settings: &mut Settings) -> Result<Option<Login>> {
    let token = settings.secret("bearer_token")?;
    let username = settings.text(&["username"])?;
    let password = settings.secret("password")?;
    match (token, username, password) {
        (None, None, None) => Ok(None),
        (Some(token), None, None) => Ok(Some(Login::Bearer(token))),
        (None, Some(user), Some(password)) if !user.contains(':') => Ok(Some(Login::Basic(user, password))),
        (None, Some(_), Some(_)) => Err(settings.error("username", "must not hold a colon")),
        (None, Some(_), None) => Err(settings.missing("password", "the password, or `password_file`, of `username`")),
        (None, None, Some(_)) => Err(settings.missing("username", "whose password it is")),
        (Some(_), ..) => Err(settings.error("bearer_token", "is given, and so is another login; keep one of the two")),
    }
}

impl Signature {
    fn read(mut settings: Settings) -> Result<Self> {
        let secret = settings.secret("secret")?;
        let name = settings.text(&["header"])?.unwrap_or_else(|| SIGNATURE.to_owned());
        settings.check_unknown()?;
        let secret = secret.ok_or_else(|| settings.missing("secret", "what both sides know, or `secret_file`"))?;
        let (header, _) = header(&name, "").map_err(|message| settings.error("header", message))?;
        Ok(Self { secret, header })
    }

    /// `t=SECONDS,v1=HEX`: the HMAC-SHA256 of the seconds, a dot, and the body.
    fn value(&self, body: &[u8], seconds: u64) -> Result<String> {
        let secret = self.secret.read()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
            .map_err(|error| Error::bug("a key of any length is taken").because(error))?;
        mac.update(seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        let sum = mac.finalize().into_bytes();
        let digits = sum.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let hex: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        Ok(format!("t={seconds},v1={hex}"))
    }
}

impl Webhook {
    /// The headers that stand in files. An error is one of the set-up: no message can help it.
    fn secrets(&self, body: &[u8]) -> Result<HeaderMap> {
        let mut secrets = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                secrets.insert(name, value);
                Ok(())
            }
            Err(_) => Err(Error::worker_fault(format!(
                "the value of the header {name} holds a line's end or another control character"
            ))),
        };
        for (name, source) in &self.secret_headers {
            add(name.clone(), source.read()?.expose())?;
        }
        let login = match &self.login {
            None => None,
            Some(Login::Bearer(token)) => Some(format!("Bearer {}", token.read()?.expose())),
            Some(Login::Basic(user, password)) => Some(basic(user, password.read()?.expose())),
        };
        if let Some(login) = login {
            add(crate::web::header::AUTHORIZATION, &login)?;
        }
        if let Some(signature) = &self.signature {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let seconds = now.map_or(0, |since| since.as_secs());
            add(signature.header.clone(), &signature.value(body, seconds)?)?;
        }
        Ok(secrets)
    }

    /// The body's type and what else is known of the message. What no header can hold is left out.
    fn facts(call: &Call) -> HeaderMap {
        let message = &call.message;
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: Option<String>| {
            let value = value.filter(|value| value.len() <= 4096);
            if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                headers.insert(name, value);
            }
        };
        let content_type = message.content_type.clone();
        add("content-type", Some(ANY_TYPE.to_owned()));
        add(
            "content-type",
            content_type.filter(|content_type| !content_type.is_empty()),
        );
        add("x-qctl-message-id", message.id.clone());
        add("x-qctl-queue", Some(call.queue.clone()));
        add(
            "x-qctl-exchange",
            Some(call.exchange.clone()).filter(|exchange| !exchange.is_empty()),
        );
        add("x-qctl-routing-key", Some(message.routing_key.clone()));
        add("x-qctl-correlation-id", message.correlation_id.clone());
        add(
            "x-qctl-timestamp",
            message.timestamp.map(|timestamp| timestamp.to_string()),
        );
        add("x-qctl-attempt", Some(call.attempt.to_string()));
        headers
    }

    fn request(&self, call: &Call, body: Vec<u8>) -> Result<Request> {
        let mut headers = Self::facts(call);
        headers.extend(self.headers.clone());
        headers.extend(self.secrets(&body)?);
        Ok(Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers,
            body,
            timeout: None,
            connect_timeout: None,
            redirects: None,
            keep: fenced::keep(call),
        })
    }
}

#[async_trait]
impl Handler for Webhook {
    async fn prepare(&self, _: &Lifeline) -> Result<()> {
        self.caller.check()?;
        self.secrets(b"")
            .map(drop)
            .map_err(|error| Error::worker_fault(error.to_string()))
    }

    fn longest_call(&self) -> Option<Duration> {
        self.caller.timeout()
    }

    async fn handle(&self, mut call: Call) -> Outcome {
        let body = std::mem::take(&mut call.message.body);
        match self.request(&call, body) {
            Ok(request) => {
                self.caller
                    .call(&call, request, |answer| fenced::judged(answer, call.output_wanted))
                    .await
            }
            Err(error) => Outcome::WorkerFault(error.to_string()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Signature;
    use crate::settings::{Secret, SecretSource};
    use crate::web::HeaderName;

    #[test]
    fn signatures_are_those_of_hmac_sha256() {
        let signature = Signature {
            secret: SecretSource::Inline(Secret::new("hunter2")),
            header: HeaderName::from_static("x-qctl-signature"),
        };
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac hunter2
        assert_eq!(
            signature.value(b"{\"a\":1}", 1_700_000_000).unwrap(),
            "t=1700000000,v1=56b25cbf563812b38800e5f4dd1febfde087d36841155e70b3aa285517e1570a"
        );
    }
}
