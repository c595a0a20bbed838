//! What the rules need of a driver under test: fresh connections to a place of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use qctl::drivers::{amqp, sqlite};
use qctl::queue::{
    Capabilities, ConnectOptions, Connection, Connector, ConsumeOptions, Delivery, Message, Publication,
    PublishFailure, Queue, Settlement, Subscription, Topology,
};
use qctl::store::StoreOptions;
use tempfile::TempDir;

use crate::rabbit::{Rabbit, Vhost};

/// A driver and a broker that is this test's alone.
#[async_trait(?Send)]
pub(crate) trait Subject {
    fn fresh() -> Self
    where
        Self: Sized;
    fn connector(&self) -> Arc<dyn Connector>;

    fn capabilities(&self) -> Capabilities {
        self.connector().capabilities()
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        self.connector()
            .connect(&ConnectOptions::default())
            .await
            .expect("the broker of this driver answers")
    }
}

pub(crate) struct Sqlite {
    folder: TempDir,
}

impl Subject for Sqlite {
    fn fresh() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn connector(&self) -> Arc<dyn Connector> {
        sqlite::connector(StoreOptions::at(self.folder.path().join("queue.db")))
    }
}

/// A virtual host of its own on the real RabbitMQ.
pub(crate) struct Amqp {
    vhost: Vhost,
}

impl Subject for Amqp {
    fn fresh() -> Self {
        Self {
            vhost: Rabbit::main().vhost(),
        }
    }

    fn connector(&self) -> Arc<dyn Connector> {
        let management = self.vhost.rabbit().management_url();
        amqp::connector(&self.vhost.url(), Some(&management)).unwrap()
    }
}

/// Long enough for anything that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long to watch that something does not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(150);

/// A queue with a dead-letter queue, and nothing else.
pub(crate) fn queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        durable: true,
        dead_letter: Some(format!("{name}.dead")),
        ..Queue::default()
    }
}

pub(crate) async fn declare(connection: &dyn Connection, queue: Queue) {
    connection
        .declare(&Topology {
            exchanges: Vec::new(),
            queues: vec![queue],
        })
        .await
        .unwrap();
}

pub(crate) fn to_queue(name: &str, message: Message) -> Publication {
    Publication {
        exchange: Arc::from(""),
        message: message.with_routing_key(name),
        deduplicate: false,
    }
}

pub(crate) async fn publish(connection: &dyn Connection, name: &str, bodies: &[&str]) {
    let batch = bodies
        .iter()
        .map(|body| {
            to_queue(
                name,
                Message {
                    id: Some((*body).to_owned()),
                    ..Message::new(*body)
                },
            )
        })
        .collect();
    connection
        .publish(batch)
        .await
        .map_err(PublishFailure::into_first)
        .unwrap();
}

pub(crate) async fn consume(connection: &dyn Connection, name: &str, prefetch: usize) -> Box<dyn Subscription> {
    let options = ConsumeOptions {
        queue: name.to_owned(),
        prefetch,
        slots: prefetch,
        label: "conformance".to_owned(),
        most_deliveries: None,
    };
    connection.consume(options).await.unwrap()
}

/// Takes what comes next.
pub(crate) async fn take_some(subscription: &mut dyn Subscription) -> Vec<Delivery> {
    tokio::time::timeout(SOON, subscription.next())
        .await
        .expect("deliveries come")
        .unwrap()
}

/// Takes exactly so many deliveries.
pub(crate) async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(take_some(subscription).await);
    }
    assert_eq!(taken.len(), count, "more deliveries than expected");
    taken
}

pub(crate) async fn take_one(subscription: &mut dyn Subscription) -> Delivery {
    take(subscription, 1).await.remove(0)
}

/// Nothing comes for a while.
pub(crate) async fn nothing_comes(subscription: &mut dyn Subscription) {
    if let Ok(deliveries) = tokio::time::timeout(A_WHILE, subscription.next()).await {
        panic!("unexpected: {deliveries:?}");
    }
}

pub(crate) async fn settle(subscription: &dyn Subscription, delivery: Delivery, settlement: Settlement) {
    subscription
        .settler()
        .settle(delivery.ticket, settlement)
        .await
        .unwrap();
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.clone()).unwrap()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}
