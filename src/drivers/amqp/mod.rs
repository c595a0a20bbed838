//! The AMQP 0-9-1 driver, for RabbitMQ. Stands on lapin, which keeps the connection; what is made of it is ours: connecting
//! again, settling, retries, dead letters, counting.
//!
//! - A message is published with a confirm and `mandatory`: it is taken when the broker says so, and an error when no queue
//!   wants it.
//! - A retry is a confirmed copy to a queue that holds it back (`ladder.rs`), then an ack. So is everything else that becomes
//!   of a delivery but an ack: a requeue tells nobody why, and comes back at once.
//! - A classic queue tells of an earlier delivery and does not count them. What comes back after its consumer's death goes
//!   round once with its count, so that a message that kills its consumers is found out.
//! - Exchanges and queues of the name `qctl.…` are qctl's own.

mod address;
mod admin;
mod arguments;
mod connection;
mod copies;
mod declare;
mod difference;
mod documents;
mod fault;
mod info;
mod inquiry;
mod ladder;
mod link;
mod look;
mod management;
mod nature;
mod pause;
mod payload;
mod probe;
mod properties;
mod publisher;
mod redrive;
mod reply;
mod size;
mod subscription;
mod survivors;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use address::Address;
use connection::AmqpConnection;
use survivors::Survivors;

use crate::error::Result;
use crate::queue::{Capabilities, ConnectOptions, Connection, Connector, DriverSpec, Topology};
use crate::settings::{Environment, Settings, Source, Value};

/// The driver's name.
const SPEC_NAME: &str = "amqp";

/// The driver's row.
pub static AMQP: DriverSpec = DriverSpec {
    name: SPEC_NAME,
    schemes: &["amqp", "amqps"],
    about: "RabbitMQ and other brokers that speak AMQP 0-9-1",
    example: "{url: \"amqp://app@localhost:5672/%2f\", password_file: /run/secrets/rabbit}",
    capabilities,
    parse,
};

fn capabilities() -> Capabilities {
    Capabilities {
        declare: true,
        delete: true,
        purge: true,
        list: true,
        peek: true,
        peek_is_free: false,
        depth: true,
        pause: true,
        by_id: false,
        redrive: true,
        unroutable: true,
        delay: true,
        delayed_by_queue: false,
        delayed_retry: true,
        priority: true,
        ttl: true,
        max_length: true,
        dead_letter: true,
        delivery_count: true,
        counters: false,
        deduplication: false,
        reply: true,
        lost_replies: false,
        withdraw: false,
        binary_headers: true,
        max_body: 16 << 20,
        crash_return: Duration::from_secs(1),
        hold_limit: Some(address::CONSUMER_TIMEOUT),
        lease: None,
    }
}

fn parse(settings: Settings) -> Result<Arc<dyn Connector>> {
    let address = Arc::new(Address::read(settings)?);
    Ok(Arc::new(AmqpConnector {
        address,
        survivors: Arc::default(),
    }))
}

/// A connector for a URL such as `amqp://login:password@host:5672/%2f`, for programs that do not read a configuration file;
/// `management` is the URL of the management API where that is not at its usual port.
pub fn connector(url: &str, management: Option<&str>) -> Result<Arc<dyn Connector>> {
    let place = Source::new("the AMQP URL", "/", String::new(), Environment::of::<&str, &str>([]));
    let text = |key, text: &str| (key, Value::Text(text.to_owned()));
    let entries = std::iter::once(text("url", url)).chain(management.map(|url| text("management", url)));
    parse(Settings::built_in("amqp", place, entries))
}

struct AmqpConnector {
    address: Arc<Address>,
    survivors: Arc<Survivors>,
}

#[async_trait]
impl Connector for AmqpConnector {
    fn endpoint(&self) -> String {
        self.address.endpoint()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_body: self.address.max_body,
            hold_limit: self.address.consumer_timeout,
            ..capabilities()
        }
    }

    fn check(&self, topology: &Topology) -> Result<()> {
        arguments::check(topology)
    }

    async fn connect(&self, options: &ConnectOptions) -> Result<Arc<dyn Connection>> {
        let connection =
            AmqpConnection::open(&self.address, options, self.capabilities(), Arc::clone(&self.survivors)).await?;
        Ok(Arc::new(connection))
    }
}
