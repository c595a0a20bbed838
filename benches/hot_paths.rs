//! The paths every message takes, by themselves: `cargo bench --bench hot_paths`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qctl::consumer::policy::{Counts, decide};
use qctl::consumer::{Failure, Outcome, RetryPolicy};
use qctl::drivers::sqlite;
use qctl::producer::{Producer, ProducerSettings};
use qctl::queue::topology::topic_matches;
use qctl::queue::{ConnectOptions, Message};
use qctl::store::StoreOptions;
use qctl::wire::kaliop::ConsoleCommand;

fn pure(criterion: &mut Criterion) {
    criterion.bench_function("topic match, four words", |bencher| {
        bencher.iter(|| topic_matches(black_box("mail.#.de.*"), black_box("mail.urgent.eu.de.berlin")));
    });
    let command =
        ConsoleCommand::from_command_line("app:report", &["2026-11".to_owned(), "--format=pdf".to_owned()]).unwrap();
    let body = command.body();
    criterion.bench_function("command body, encode", |bencher| {
        bencher.iter(|| black_box(&command).body());
    });
    criterion.bench_function("command body, parse", |bencher| {
        bencher.iter(|| ConsoleCommand::parse(black_box(&body)).unwrap());
    });
    let policy = RetryPolicy::default();
    let failed = Outcome::Retry(Failure {
        reason: "exit code 1".to_owned(),
        ..Failure::default()
    });
    criterion.bench_function("settlement of a failure", |bencher| {
        bencher.iter(|| decide(black_box(&failed), Counts::default(), &policy, 0.5));
    });
}

fn store(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = ConnectOptions {
        implicit_queues: true,
        ..ConnectOptions::default()
    };
    let producer = runtime.block_on(async {
        let connection = sqlite::connector(StoreOptions::at(folder.path().join("queue.db")))
            .connect(&options)
            .await
            .unwrap();
        Producer::new(
            connection,
            ProducerSettings {
                queue: "bench".to_owned(),
                ..ProducerSettings::default()
            },
        )
        .await
        .unwrap()
    });
    let mut group = criterion.benchmark_group("store");
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for batch in [1, 100, 1000] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("publish {batch} of 200 bytes, durable"), |bencher| {
            bencher.iter_batched(
                || vec![Message::new([b'x'; 200]); batch as usize],
                |messages| runtime.block_on(producer.send_all(messages)).unwrap(),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(hot_paths, pure, store);
criterion_main!(hot_paths);
