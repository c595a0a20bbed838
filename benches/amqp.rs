//! The RabbitMQ side of `bench/RESULTS.md`: a bare program on the same client library, and qctl's library, in one binary.
//!
//! `amqp MODE URL QUEUE MESSAGES [NUMBER]` prints `MODE RATE`; NUMBER is the window of unconfirmed messages or the prefetch.
//! `scripts/bench-rabbit` calls it, several times and in turn.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use qctl::consumer::{self, Call, ConsumerSettings, Handler, Limits, Outcome, Report, Stop};
use qctl::drivers::amqp;
use qctl::producer::{Producer, ProducerSettings};
use qctl::queue::{ConnectOptions, Message};

/// The size of a body.
const BODY: [u8; 200] = [b'x'; 200];
/// So many messages are given to the library at once.
const BATCH: usize = 5000;

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    let [_, mode, url, queue, messages, rest @ ..] = arguments.as_slice() else {
        println!("amqp MODE URL QUEUE MESSAGES [NUMBER]");
        return;
    };
    let count: usize = messages.parse().unwrap();
    let number: usize = rest.first().map_or(1000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let rate = runtime.block_on(async {
        match mode.as_str() {
            "fill" => {
                let (_connection, channel) = bare(url, queue).await;
                channel
                    .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
                    .await
                    .unwrap();
                publish(&channel, queue, count, 1000, &plain).await
            }
            "bare-publish" => {
                let (_connection, channel) = bare(url, queue).await;
                publish(&channel, queue, count, number, &plain).await
            }
            // With the properties that qctl's messages have, which cost the broker something too.
            "bare-publish-alike" => {
                let (_connection, channel) = bare(url, queue).await;
                publish(&channel, queue, count, number, &alike).await
            }
            "bare-consume" => {
                let (_connection, channel) = bare(url, queue).await;
                consume(&channel, queue, count, number).await
            }
            "publish" => library_publish(url, queue, count).await,
            "consume" => library_consume(url, queue, count).await,
            other => panic!("no figure `{other}`"),
        }
    });
    println!("{mode} {rate:.0}");
}

async fn bare(url: &str, queue: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    // As qctl declares it, so that neither side has a difference to look into.
    let mut arguments = FieldTable::default();
    let text = |text: String| AMQPValue::LongString(text.into());
    arguments.insert("x-dead-letter-exchange".into(), text(String::new()));
    arguments.insert("x-dead-letter-routing-key".into(), text(format!("{queue}.dead")));
    channel.queue_declare(queue.into(), durable, arguments).await.unwrap();
    (connection, channel)
}

fn plain(_: usize) -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

fn alike(index: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-qctl-timestamp".into(), AMQPValue::LongLongInt(1_800_000_000_000));
    plain(index)
        .with_content_type("application/octet-stream".into())
        .with_message_id(format!("0123456789abcdef-{index}").into())
        .with_timestamp(1_800_000_000)
        .with_headers(headers)
}

/// Persistent messages, each confirmed, so many outstanding.
async fn publish(
    channel: &Channel,
    queue: &str,
    count: usize,
    window: usize,
    properties: &dyn Fn(usize) -> BasicProperties,
) -> f64 {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let begun = Instant::now();
    let mut confirms = VecDeque::with_capacity(window);
    for index in 0..count {
        if confirms.len() >= window {
            let first: lapin::PublisherConfirm = confirms.pop_front().unwrap();
            first.await.unwrap();
        }
        let options = BasicPublishOptions::default();
        confirms.push_back(
            channel
                .basic_publish("".into(), queue.into(), options, &BODY, properties(index))
                .await
                .unwrap(),
        );
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Every message acked by itself.
async fn consume(channel: &Channel, queue: &str, count: usize, prefetch: usize) -> f64 {
    channel
        .basic_qos(u16::try_from(prefetch).unwrap(), BasicQosOptions::default())
        .await
        .unwrap();
    let begun = Instant::now();
    let mut consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    for _ in 0..count {
        let delivery = consumer.next().await.unwrap().unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

async fn library_publish(url: &str, queue: &str, count: usize) -> f64 {
    let connection = amqp::connector(url, None)
        .unwrap()
        .connect(&ConnectOptions::default())
        .await
        .unwrap();
    let settings = ProducerSettings {
        queue: queue.to_owned(),
        ..ProducerSettings::default()
    };
    let producer = Producer::new(connection, settings).await.unwrap();
    let begun = Instant::now();
    let mut left = count;
    while left > 0 {
        let batch = (0..left.min(BATCH)).map(|_| Message::new(BODY).with_routing_key(queue));
        left -= producer.send_all(batch.collect()).await.unwrap().len();
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

async fn library_consume(url: &str, queue: &str, count: usize) -> f64 {
    let settings = ConsumerSettings {
        name: queue.to_owned(),
        queue: queue.to_owned(),
        concurrency: 1,
        limits: Limits {
            messages: Some(count as u64),
            ..Limits::default()
        },
        ..ConsumerSettings::default()
    };
    let connector = amqp::connector(url, None).unwrap();
    let begun = Instant::now();
    let ended = consumer::run(
        connector,
        ConnectOptions::default(),
        settings,
        Arc::new(Nothing),
        Stop::default(),
    )
    .await;
    assert_eq!(ended.unwrap().done, count as u64);
    count as f64 / begun.elapsed().as_secs_f64()
}

/// A handler that does nothing, within the process.
struct Nothing;

#[async_trait]
impl Handler for Nothing {
    fn in_process(&self) -> bool {
        true
    }

    async fn handle(&self, _: Call) -> Outcome {
        Outcome::Done(Report::default())
    }
}
