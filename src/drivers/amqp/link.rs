//! One connection to one broker: made within a time, watched while it stands, and cut for certain when it is given up.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use futures_util::StreamExt;
use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::types::LongString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Channel, ConnectionProperties, Event};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::address::{Address, Host, Mechanism, Tls};
use super::fault;
use super::wire::{self, Readable};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::ConnectOptions;

/// Frames of a short command: larger ones cost it milliseconds, because each connection keeps 64 of them in memory.
const SMALL_FRAMES: u32 = 16 << 10;
/// Frames of a long-lived connection: RabbitMQ's own limit. All headers of a message come in one frame, however large the
/// frames are that we have asked for, and a larger one than that ends the connection, again and again.
const FRAMES: u32 = 128 << 10;

/// How often it is looked whether the connection stands, where nothing tells.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A connection.
pub(super) struct Link {
    connection: lapin::Connection,
    /// The same socket, to cut it: a broker that answers nothing would otherwise be waited for behind our back.
    socket: Socket,
    blocked: watch::Receiver<Option<String>>,
    listener: JoinHandle<()>,
    endpoint: String,
    host: Host,
}

type Socket = Arc<Mutex<Slot>>;

/// Where the socket is kept.
#[derive(Default)]
struct Slot {
    stream: Option<std::net::TcpStream>,
    /// It was cut, and so is what comes here later.
    cut: bool,
}

/// Cuts the connection that is being made if nobody waits for it any more.
struct Attempt(Option<Socket>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            cut(socket);
        }
    }
}

impl Link {
    /// Connects to the first of the hosts that answers, within `options.timeout` in all.
    pub(super) async fn connect(address: &Address, options: &ConnectOptions) -> Result<Self> {
        let deadline = Instant::now() + options.timeout;
        let mut failures: Vec<(&Host, Error)> = Vec::new();
        let count = address.hosts.len();
        for (index, host) in address.hosts.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            // One host that swallows everything leaves time for those after it.
            let share = left / u32::try_from(count - index).unwrap_or(u32::MAX);
            match Self::connect_to(address, host, options, share).await {
                Ok(link) => return Ok(link),
                // What is wrong with the configuration is wrong at every host.
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                Err(error) => failures.push((host, error)),
            }
        }
        Err(combined(address, failures))
    }

    async fn connect_to(address: &Address, host: &Host, options: &ConnectOptions, within: Duration) -> Result<Self> {
        let endpoint = address.endpoint_at(host);
        let tls = address.tls.as_ref().map(connector).transpose()?;
        let server_name = address.tls.as_ref().and_then(|tls| tls.server_name.clone());
        let uri = uri(address, host, options)?;
        let addresses = resolved(host, &endpoint, within).await?;
        let socket: Socket = Arc::default();
        let mut attempt = Attempt(Some(Arc::clone(&socket)));
        let runtime = Tokio::current();
        let longest = uri.query.frame_max.unwrap_or(FRAMES) as usize;
        let shown = endpoint.clone();
        let kept = Arc::clone(&socket);
        let stage = Arc::new(Mutex::new(Stage::Reaching));
        let reached = Arc::clone(&stage);
        let properties = ConnectionProperties::default()
            .with_connection_name(LongString::from(connection_name(&options.label)))
            .with_client_property("product".into(), "qctl".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connecting = lapin::Connection::connector(
            uri,
            wire::runtime(),
            async move |uri: AMQPUri, _| {
                let name = uri.authority.host.clone();
                // The thread that runs this outlives whoever stopped waiting for it, so it stops by itself too.
                let stream = tokio::time::timeout(
                    within,
                    first_of(&addresses, |address| AsyncTcpStream::connect(&runtime, address)),
                )
                .await
                .map_err(|_| timed_out())??;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let copy = plain.get_ref().as_fd().try_clone_to_owned()?;
                    let mut slot = lock(&kept);
                    if slot.cut {
                        return Err(timed_out());
                    }
                    slot.stream = Some(copy.into());
                }
                let stream = if let Some(tls) = &tls {
                    *lock(&reached) = Stage::Encrypting;
                    let server_name = server_name.clone().unwrap_or(name);
                    tokio::time::timeout(within, stream.into_rustls(tls, &server_name))
                        .await
                        .map_err(|_| timed_out())??
                } else {
                    stream
                };
                *lock(&reached) = Stage::Greeting;
                Ok(AsyncTcpStream::Plain(Readable::new(stream, &shown, longest)))
            },
            properties,
        );
        let result = tokio::time::timeout(within, connecting).await;
        let stage = *lock(&stage);
        let connection = match result {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(fault::connecting(&error, &endpoint, address, stage)),
            Err(_) => {
                let next = match (stage, address.mechanism) {
                    (Stage::Greeting, Mechanism::External) => fault::EXTERNAL,
                    _ => "is it the right host and port, and is the broker well?",
                };
                return Err(Error::unavailable(format!(
                    "{endpoint}: {} within {}; {next}",
                    stage.nothing(),
                    shortly(within)
                )));
            }
        };
        attempt.0 = None;
        let (tell, blocked) = watch::channel(None);
        let mut events = Box::pin(connection.events_listener());
        let shown = endpoint.clone();
        let listener = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(endpoint = %shown, %reason, "the broker takes no messages for now; publishing waits");
                        tell.send_replace(Some(reason));
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!(endpoint = %shown, "the broker takes messages again");
                        tell.send_replace(None);
                    }
                    _ => {}
                }
            }
        });
        Ok(Self {
            connection,
            socket,
            blocked,
            listener,
            endpoint,
            host: host.clone(),
        })
    }

    /// Where it leads, without secrets.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The longest frame that was agreed on, in bytes.
    pub(super) fn frame_max(&self) -> usize {
        self.connection.configuration().frame_max() as usize
    }

    /// Its socket, for who must outlive us before the broker may take us for gone.
    pub(super) fn socket(&self) -> Option<Arc<OwnedFd>> {
        let slot = lock(&self.socket);
        let copy = slot.stream.as_ref().and_then(|stream| stream.try_clone().ok());
        copy.map(|copy| Arc::new(copy.into()))
    }

    /// The broker that it leads to.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it stands.
    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Why the broker takes no messages, while it does not.
    pub(super) fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel> {
        self.connection
            .create_channel()
            .await
            .map_err(|error| fault::lost(&error, &self.endpoint))
    }

    /// An answer, or that the connection is gone: the client library leaves some questions open when it ends.
    pub(super) async fn while_up<T>(&self, answer: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        let gone = async {
            while self.is_up() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = gone => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        }
    }

    /// Says good-bye; a broker that does not answer in time is left without, and one that reads nothing at once.
    pub(super) async fn close(&self, within: Duration) {
        if self.blocked().is_some() {
            return;
        }
        let _ = tokio::time::timeout(within, self.connection.close(200, "bye".into())).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
        cut(&self.socket);
    }
}

async fn resolved(host: &Host, endpoint: &str, within: Duration) -> Result<Vec<SocketAddr>> {
    let looking = tokio::net::lookup_host((host.name.as_str(), host.port));
    let unknown = |reason: &str| {
        Error::unavailable(format!(
            "{endpoint}: the host `{}` is not known ({reason}); check its name and the name service",
            host.name
        ))
    };
    match tokio::time::timeout(within, looking).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(unknown(&error.to_string())),
        Err(_) => Err(unknown("no answer in time")),
    }
}

/// Connects to the first of the addresses that answers.
async fn first_of<S>(addresses: &[SocketAddr], connect: impl AsyncFn(SocketAddr) -> io::Result<S>) -> io::Result<S> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// How far a connection attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No answer from the host yet.
    Reaching,
    /// The TLS handshake.
    Encrypting,
    /// The broker's greeting and the login.
    Greeting,
}

impl Stage {
    fn nothing(self) -> &'static str {
        match self {
            Self::Reaching => "cannot be reached",
            Self::Encrypting => "the TLS handshake was not answered",
            Self::Greeting => "the broker accepted the connection and did not answer",
        }
    }
}

/// The attempts at all hosts as one error: of the kind of the first, with each reason once and the hosts that it is true of.
fn combined(address: &Address, mut failures: Vec<(&Host, Error)>) -> Error {
    if failures.len() == 1 {
        return failures.remove(0).1;
    }
    let kind = failures
        .first()
        .map_or(ErrorKind::Unavailable, |(_, error)| error.kind());
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for (host, error) in &failures {
        let told = error.to_string();
        let reason = told
            .strip_prefix(&format!("{}: ", address.endpoint_at(host)))
            .unwrap_or(&told);
        let name = host.shown();
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, hosts)) => hosts.push(name),
            None => reasons.push((reason.to_owned(), vec![name])),
        }
    }
    let all: Vec<String> = reasons
        .into_iter()
        .map(|(reason, hosts)| format!("{}: {reason}", hosts.join(", ")))
        .collect();
    Error::new(
        kind,
        format!("none of {} hosts can be used: {}", failures.len(), all.join("; ")),
    )
}

fn shortly(time: Duration) -> String {
    let tenths = (time.as_secs_f64() * 10.0).round() / 10.0;
    if tenths > 0.0 {
        format!("{tenths} s")
    } else {
        format!("{} ms", time.as_millis())
    }
}

fn timed_out() -> lapin::Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cut(socket: &Socket) {
    let mut slot = lock(socket);
    slot.cut = true;
    if let Some(stream) = slot.stream.take() {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn uri(address: &Address, host: &Host, options: &ConnectOptions) -> Result<AMQPUri> {
    let frames = if options.sends_only { SMALL_FRAMES } else { FRAMES };
    Ok(AMQPUri {
        scheme: if address.tls.is_some() {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: address.login.clone(),
                password: match address.mechanism {
                    Mechanism::Plain => address.password.read()?.expose().to_owned(),
                    Mechanism::External => String::new(),
                },
            },
            host: host.name.clone(),
            port: host.port,
        },
        vhost: address.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(address.frame_max.unwrap_or(frames)),
            channel_max: None,
            heartbeat: Some(agreed_heartbeat(address.heartbeat)),
            connection_timeout: None,
            auth_mechanism: Some(match address.mechanism {
                Mechanism::Plain => SASLMechanism::Plain,
                Mechanism::External => SASLMechanism::External,
            }),
        },
    })
}

/// The interval to agree on with the broker, in seconds. The client gives a silent broker up after two to two and a half of
/// it, so it is a fifth shorter than what was asked for: a hung broker is noticed within two heartbeats.
fn agreed_heartbeat(asked: Duration) -> u16 {
    if asked.is_zero() {
        return 0;
    }
    ((asked.as_secs_f64() * 0.8) as u16).max(1)
}

/// A name for one consumer that nobody can guess: it marks the processes that run on its behalf.
pub(super) fn token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::unavailable(format!("the system gives no random numbers: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn connection_name(label: &str) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    format!("{label} ({host}:{})", std::process::id())
}

fn connector(tls: &Tls) -> Result<RustlsConnector> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            Error::config(format!("the file {} cannot be read; check tls", path.display())).because(error)
        })
    };
    let certificates = |path: &Path| {
        let pem = read(path)?;
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::config(format!("{} holds no PEM certificates: {error}", path.display())))?;
        if certificates.is_empty() {
            return Err(Error::config(format!("{} holds no PEM certificate", path.display())));
        }
        Ok(certificates)
    };
    let config = match &tls.ca_file {
        Some(path) => RustlsConnectorConfig::default().with_parsable_certificates(certificates(path)?),
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            Error::config("the system's certificates cannot be read; name a tls: ca_file").because(error)
        })?,
    };
    let built = match &tls.identity {
        None => config.connector_with_no_client_auth(),
        Some((certificate, key)) => {
            let pem = read(key)?;
            let key = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|error| Error::config(format!("{} holds no PEM key: {error}", key.display())))?;
            config.connector_with_single_cert(certificates(certificate)?, key)
        }
    };
    built.map_err(|error| Error::config("the TLS settings cannot be used").because(error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::agreed_heartbeat;

    #[test]
    fn a_hung_broker_is_noticed_within_two_heartbeats() {
        for asked in [2, 5, 10, 30, 60] {
            let noticed = f64::from(agreed_heartbeat(Duration::from_secs(asked))) * 2.5;
            assert!(noticed <= 2.0 * asked as f64, "{asked}: {noticed}");
        }
        assert_eq!(agreed_heartbeat(Duration::ZERO), 0);
        assert_eq!(agreed_heartbeat(Duration::from_secs(1)), 1);
    }
}
