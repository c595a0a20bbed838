//! RabbitMQ's management API, where there is one: what AMQP itself cannot tell. It is only read. Nothing depends on it:
//! where it is not there, less is known, and `-v` says why.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OnceCell};

use super::address::{Address, Host, Mechanism, Tls};
use super::documents::{
    BindingDocument, ChannelDocument, ConnectionDocument, ExchangeDocument, NodeDocument, Overview, PolicyDocument,
    QueueDocument,
};
use super::ladder::Landing;
use super::nature::Nature;
use crate::error::Result;
use crate::settings::{Secret, Settings};

/// The API's usual port.
const PORT: u16 = 15672;
/// The same over TLS.
const TLS_PORT: u16 = 15671;
/// What was told of a queue's limits is believed for so long.
const TRUE_FOR: Duration = Duration::from_secs(1);
/// Nobody waits longer for an API that may not be there.
const GUESS_WITHIN: Duration = Duration::from_secs(1);
/// For an answer of one that is.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read: a list of some 50 000 queues.
const LONGEST_ANSWER: usize = 64 << 20;
/// What of a name needs no encoding in a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the management API is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ManagementSettings {
    /// Its URL; without one, the usual port of the broker's host is tried.
    pub(super) url: Option<String>,
    /// It is not to be asked.
    pub(super) off: bool,
}

impl ManagementSettings {
    /// Reads `management: URL` or `management: false`.
    pub(super) fn read(settings: &mut Settings) -> Result<Self> {
        let Some(setting) = settings.setting(&["management"])? else {
            return Ok(Self::default());
        };
        if let Ok(on) = setting.boolean() {
            return Ok(Self { url: None, off: !on });
        }
        let url = setting.text()?;
        let authority = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .and_then(|rest| rest.split(['/', '?', '#']).next());
        match authority {
            None | Some("") => Err(setting.error("must be a URL such as http://broker:15672, or false")),
            Some(authority) if authority.contains('@') => {
                Err(setting.error("must not hold a login; the API is asked with that of the connection"))
            }
            Some(_) => Ok(Self {
                url: Some(url),
                off: false,
            }),
        }
    }
}

/// The management API of the broker that a connection leads to. It is looked for when it is first asked.
pub(super) struct Management {
    address: Arc<Address>,
    host: Host,
    /// Or why it is not used.
    api: OnceCell<Result<Api, String>>,
    /// What was told of queues that refuse, and when.
    refusing: Mutex<BTreeMap<String, (Instant, Option<bool>)>>,
}

/// An API that has answered.
struct Api {
    client: Client,
    /// Ends with `/api`.
    base: String,
    login: String,
    password: Secret,
    version: Option<Version>,
}

/// RabbitMQ's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }
}

impl Management {
    pub(super) fn new(address: Arc<Address>, host: Host) -> Self {
        Self {
            address,
            host,
            api: OnceCell::new(),
            refusing: Mutex::default(),
        }
    }

    /// Why it is not used, where it is not.
    pub(super) async fn absence(&self) -> Option<&str> {
        self.api().await.as_ref().err().map(String::as_str)
    }

    /// The broker's version, where it is told.
    pub(super) async fn version(&self) -> Option<Version> {
        self.api().await.as_ref().ok()?.version
    }

    pub(super) async fn queue(&self, queue: &str) -> Option<QueueDocument> {
        self.get(&["queues", &self.address.vhost, queue], "").await
    }

    /// Where a message lands that is to come back to this queue. What falls out of a rung into a full queue is dropped by the
    /// broker, unless the rung keeps it. A policy may say so at any time; where nobody tells, it is kept.
    pub(super) async fn landing<'a>(&self, queue: &'a str) -> Landing<'a> {
        match self.refuses(queue).await {
            Some(false) => Landing::Queue,
            Some(true) | None => Landing::LimitedQueue(queue),
        }
    }

    /// Whether this queue refuses what comes while it is full; `None` where nobody tells, or this login may not ask.
    async fn refuses(&self, queue: &str) -> Option<bool> {
        let mut known = self.refusing.lock().await;
        if let Some((_, refuses)) = known.get(queue).filter(|(asked, _)| asked.elapsed() < TRUE_FOR) {
            return *refuses;
        }
        let refuses = self.asked_whether_refuses(queue).await;
        known.insert(queue.to_owned(), (Instant::now(), refuses));
        refuses
    }

    async fn asked_whether_refuses(&self, queue: &str) -> Option<bool> {
        let document = self.queue(queue).await?;
        if Nature::told(&document, None).refuses() {
            return Some(true);
        }
        // What is told of a queue's policy is some seconds old; the policies themselves are not.
        let vhost = &self.address.vhost;
        let policies: Vec<PolicyDocument> = self.get(&["policies", vhost], "").await?;
        let operators: Vec<PolicyDocument> = self.get(&["operator-policies", vhost], "").await?;
        Some(policies.iter().chain(&operators).any(|policy| policy.may_refuse(queue)))
    }

    pub(super) async fn exchange(&self, exchange: &str) -> Option<ExchangeDocument> {
        self.get(&["exchanges", &self.address.vhost, exchange], "").await
    }

    /// All queues of the vhost, without their consumers.
    pub(super) async fn queues(&self) -> Option<Vec<QueueDocument>> {
        let columns = "?columns=name,type,durable,auto_delete,exclusive,arguments,policy,effective_policy_definition,\
                       messages_unacknowledged,message_bytes_ready,head_message_timestamp,state";
        self.get(&["queues", &self.address.vhost], columns).await
    }

    pub(super) async fn bindings(&self, queue: &str) -> Option<Vec<BindingDocument>> {
        self.get(&["queues", &self.address.vhost, queue, "bindings"], "").await
    }

    pub(super) async fn connections(&self) -> Option<Vec<ConnectionDocument>> {
        let path = ["vhosts", &self.address.vhost, "connections"];
        self.get(&path, "?columns=name,user_provided_name,connected_at").await
    }

    pub(super) async fn channels(&self) -> Option<Vec<ChannelDocument>> {
        let path = ["vhosts", &self.address.vhost, "channels"];
        self.get(&path, "?columns=name,messages_unacknowledged").await
    }

    /// The nodes; only users with the tag `monitoring` are told.
    pub(super) async fn nodes(&self) -> Option<Vec<NodeDocument>> {
        self.get(&["nodes"], "?columns=name,mem_alarm,disk_free_alarm").await
    }

    /// What is at this path; `None` where nothing is, or nobody tells.
    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &str) -> Option<T> {
        let api = self.api().await.as_ref().ok()?;
        match api.get(path, query, ANSWER_WITHIN).await {
            Ok(document) => Some(document),
            Err(reason) => {
                tracing::debug!(path = path.join("/"), %reason, "the management API does not tell");
                None
            }
        }
    }

    async fn api(&self) -> &Result<Api, String> {
        self.api
            .get_or_init(|| async {
                let api = self.open().await;
                if let Err(reason) = &api {
                    tracing::debug!(%reason, "RabbitMQ's management API is not used");
                }
                api
            })
            .await
    }

    async fn open(&self) -> Result<Api, String> {
        let address = &*self.address;
        if address.management.off {
            return Err("`management: false`".to_owned());
        }
        if address.mechanism == Mechanism::External {
            return Err("it wants a login with a password, and the connection's is by certificate".to_owned());
        }
        let password = address.password.read().map_err(|error| error.to_string())?;
        let guess = address.management.url.is_none();
        let mut builder = Client::builder()
            .user_agent(concat!("qctl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(GUESS_WITHIN)
            .redirect(Policy::none())
            .no_proxy();
        let base = if let Some(url) = &address.management.url {
            url.trim_end_matches('/').trim_end_matches("/api").to_owned()
        } else {
            let (url, at) = self.usual_place().await?;
            if let Some((name, addresses)) = at {
                builder = builder.resolve_to_addrs(&name, &addresses);
            }
            url
        };
        builder = builder.tls_backend_preconfigured(tls_config(address.tls.as_ref(), base.starts_with("https:"))?);
        let mut api = Api {
            client: builder.build().map_err(|error| told(&error))?,
            base: format!("{base}/api"),
            login: address.login.clone(),
            password,
            version: None,
        };
        let within = if guess { GUESS_WITHIN } else { ANSWER_WITHIN };
        let overview: Overview = api
            .get(&["overview"], "?columns=rabbitmq_version,listeners", within)
            .await
            .map_err(|reason| format!("{base}: {reason}"))?;
        let protocol = if address.tls.is_some() { "amqp/ssl" } else { "amqp" };
        let mut listeners = overview.listeners.iter();
        if guess
            && !overview.listeners.is_empty()
            && !listeners.any(|listener| listener.protocol == protocol && listener.port == self.host.port)
        {
            return Err(format!(
                "{base} is that of another broker: none of its {protocol} ports is {}",
                self.host.port
            ));
        }
        api.version = Version::parse(&overview.rabbitmq_version);
        Ok(api)
    }

    /// The usual place on the broker's host, and where that is to be found if its certificate is for another name.
    async fn usual_place(&self) -> Result<(String, Option<(String, Vec<SocketAddr>)>), String> {
        let bracketed = |name: &str| {
            if name.contains(':') {
                format!("[{name}]")
            } else {
                name.to_owned()
            }
        };
        let host = &self.host.name;
        let Some(tls) = &self.address.tls else {
            return Ok((format!("http://{}:{PORT}", bracketed(host)), None));
        };
        let Some(name) = &tls.server_name else {
            return Ok((format!("https://{}:{TLS_PORT}", bracketed(host)), None));
        };
        let addresses = tokio::net::lookup_host((host.as_str(), TLS_PORT))
            .await
            .map_err(|error| format!("the host {host} is not known: {error}"))?;
        Ok((
            format!("https://{}:{TLS_PORT}", bracketed(name)),
            Some((name.clone(), addresses.collect())),
        ))
    }
}

impl Api {
    /// Gets a document, or says in a few words why not.
    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &str, within: Duration) -> Result<T, String> {
        let mut url = self.base.clone();
        for segment in path {
            if matches!(*segment, "." | "..") {
                return Err(format!("no path can hold the name `{segment}`"));
            }
            url.push('/');
            url.extend(utf8_percent_encode(segment, SEGMENT));
        }
        url.push_str(query);
        let request = self
            .client
            .get(&url)
            .basic_auth(&self.login, Some(self.password.expose()))
            .timeout(within);
        let mut response = request.send().await.map_err(|error| told(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!(
                    "the login {} may not use it; give it the tag `management` (or `monitoring`) with `rabbitmqctl set_user_tags`",
                    self.login
                ));
            }
            StatusCode::NOT_FOUND => return Err("there is nothing of that name".to_owned()),
            status => return Err(format!("it answers with {status}")),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| told(&error))? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(format!("its answer is longer than {} MiB", LONGEST_ANSWER >> 20));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer is not what RabbitMQ answers: {error}"))
    }
}

/// The client library's error, in its innermost words.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The same certificates as for AMQP, with a provider of our own: a library leaves that of the process alone. The client
/// wants it for plain HTTP too.
fn tls_config(tls: Option<&Tls>, is_used: bool) -> Result<ClientConfig, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(&read(path)?)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    if is_used {
        let trusted = match tls.and_then(|tls| tls.ca_file.as_ref()) {
            Some(path) => certificates(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(trusted);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((certificate, key)) = tls.and_then(|tls| tls.identity.as_ref()).filter(|_| is_used) else {
        return Ok(config.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| format!("{}: {error}", key.display()))?;
    config
        .with_client_auth_cert(certificates(certificate)?, key)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text| Version::parse(text).expect(text);
        assert_eq!(version("3.10.8"), Version(3, 10));
        assert!(version("4.0.0-rc.1") > version("3.13.7"));
        assert!(version("3.9") < version("3.10"));
        assert_eq!(Version::parse("abc"), None);
    }
}
