//! The real RabbitMQ that `scripts/brokers` starts, for the tests of several binaries (`#[path = "../rabbit/mod.rs"]`).
//!
//! A test takes [`Rabbit::main`], which is shared and left as it is, and makes a [`Vhost`] of its own on it. A test that
//! kills the broker, pauses it or fills its disk takes [`Rabbit::faults`], which only one test has at a time, and has
//! `rabbit_faults` for a module or at the beginning of its name (`.config/nextest.toml`). [`Proxy`] breaks connections.
//!
//! None of this uses a driver of qctl: it looks at the broker with other eyes.

#![allow(dead_code, unused_imports)] // each binary of tests uses a part of it

mod faults;
mod management;
mod proxy;
mod vhost;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use faults::Faults;
pub use management::{Management, segment};
pub use proxy::Proxy;
pub use vhost::{Counts, Fetched, Vhost};

/// Long enough for anything that must happen on a busy machine; a test that meets it has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A broker of `scripts/brokers`: where it listens and how it is talked to.
#[derive(Clone)]
pub struct Rabbit {
    name: &'static str,
    settings: Arc<BTreeMap<String, String>>,
}

impl Rabbit {
    /// The broker that all tests share. Fails the test where it does not run.
    pub fn main() -> Self {
        let rabbit = Self::named("main");
        if let Err(error) = TcpStream::connect(rabbit.address("MANAGEMENT")) {
            panic!("RabbitMQ does not answer ({error}); start it with `scripts/brokers start rabbitmq`");
        }
        rabbit
    }

    /// The broker that tests may harm, for this test alone until the guard is dropped, and healthy at first. Fails the
    /// test where it was never started.
    pub fn faults() -> Faults {
        Faults::begin(Self::named("faults"))
    }

    fn named(name: &'static str) -> Self {
        let file = folder().join(name).join("env");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!(
                "no broker `{name}` ({}: {error}); start it with `scripts/brokers start rabbitmq {name}`",
                file.display()
            )
        });
        let settings = text.lines().filter_map(|line| line.split_once('='));
        Self {
            name,
            settings: Arc::new(
                settings
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
        }
    }

    /// A virtual host of the test's own, gone when it is dropped. Takes about 20 ms.
    pub fn vhost(&self) -> Vhost {
        Vhost::create(self)
    }

    /// What the administrator may do through the management API.
    pub fn management(&self) -> Management {
        Management::new(
            self.address("MANAGEMENT"),
            self.setting("ADMIN"),
            self.setting("ADMIN_PASSWORD"),
        )
    }

    /// The administrator's login.
    pub fn admin(&self) -> &str {
        self.setting("ADMIN")
    }

    /// For a connection's `management:`.
    pub fn management_url(&self) -> String {
        format!("http://{}", self.address("MANAGEMENT"))
    }

    pub fn amqp(&self) -> SocketAddr {
        self.address("AMQP")
    }

    /// AMQP over TLS; the certificate is good for `localhost` and 127.0.0.1.
    pub fn amqps(&self) -> SocketAddr {
        self.address("AMQPS")
    }

    /// Where the management API listens, for a test that takes it for something else.
    pub fn management_address(&self) -> SocketAddr {
        self.address("MANAGEMENT")
    }

    pub fn stomp(&self) -> SocketAddr {
        self.address("STOMP")
    }

    /// The certificate, in PEM, of the authority that signed the broker's and the client's.
    pub fn ca(&self) -> PathBuf {
        self.setting("CA").into()
    }

    /// The certificate of an authority that has signed nothing here.
    pub fn other_ca(&self) -> PathBuf {
        self.setting("OTHER_CA").into()
    }

    /// A certificate that the broker accepts of a client, and its key, in PEM.
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (
            self.setting("CLIENT_CERTIFICATE").into(),
            self.setting("CLIENT_KEY").into(),
        )
    }

    /// A Python that has `pika`, an AMQP client that is not ours.
    pub fn python(&self) -> Command {
        let mut command = Command::new(self.setting("PYTHON"));
        command.env_clear().env("LANG", "C.UTF-8");
        command
    }

    /// Has Erlang expressions evaluated by the broker; returns the value of the last one as Erlang prints it.
    pub fn eval(&self, expressions: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let mut child = Command::new(self.setting("EVAL"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // Where it ends before it reads, its error tells.
            let _ = writeln!(child.stdin.take().unwrap(), "{expressions}.");
            let output = child.wait_with_output().unwrap();
            let answer = String::from_utf8_lossy(&output.stdout);
            if let Some(value) = answer.strip_prefix("{ok, ").and_then(|rest| rest.strip_suffix('}')) {
                return value.to_owned();
            }
            // On a busy machine the broker does not always take another node in time.
            let error = String::from_utf8_lossy(&output.stderr);
            let busy = error.contains("failed to connect to node") && Instant::now() < until;
            assert!(busy, "{expressions}: {answer}{error}");
        }
    }

    /// The end of the broker's log, for a test's message when it fails.
    pub fn log(&self) -> String {
        fs::read_to_string(self.setting("LOG")).unwrap_or_default()
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let port = self.setting(&format!("{listener}_PORT"));
        format!("{}:{port}", self.setting("HOST")).parse().unwrap()
    }

    fn setting(&self, key: &str) -> &str {
        self.settings.get(&format!("RABBIT_{key}")).unwrap_or_else(|| {
            panic!(
                "no RABBIT_{key}; `scripts/brokers stop {0}` and start it again",
                self.name
            )
        })
    }
}

/// Where `scripts/brokers` keeps its brokers.
fn folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("QCTL_BROKERS").map_or_else(
        || {
            let temporary = set("TMPDIR").unwrap_or_else(|| "/tmp".into());
            PathBuf::from(temporary).join(format!("qctl-brokers-{}", rustix::process::getuid().as_raw()))
        },
        PathBuf::from,
    )
}

/// Waits until it is so, and fails the test with `what` where it does not come to be.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
