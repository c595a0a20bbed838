//! The measured side of `bench/RESULTS.md`: one figure per call, raw SQLite floors and qctl's library in the same program.
//!
//! `figures MODE DATABASE MESSAGES` prints `MODE RATE`. `scripts/bench` calls it, several times and in turn.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use qctl::consumer::{self, Call, ConsumerSettings, EndReason, Handler, Limits, Outcome, Report, Stop};
use qctl::drivers::sqlite;
use qctl::producer::{Producer, ProducerSettings};
use qctl::queue::{ConnectOptions, Connection, Message};
use qctl::store::StoreOptions;
use rusqlite::{Connection as Raw, TransactionBehavior, params};

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    let [_, mode, database, messages] = arguments.as_slice() else {
        println!("figures MODE DATABASE MESSAGES");
        return;
    };
    let (path, count) = (Path::new(database), messages.parse().unwrap());
    let rate = match mode.as_str() {
        "raw-enqueue-1" => raw_enqueue(path, count, 1),
        "raw-enqueue-100" => raw_enqueue(path, count, 100),
        "raw-drain-100" => raw_drain(path),
        "enqueue-1" => runtime().block_on(enqueue(path, count, 1)),
        "enqueue-50" => runtime().block_on(enqueue(path, count, 50)),
        "spawn-2" => spawn(count),
        "latency" => {
            let sent = runtime().block_on(latency(path, count));
            println!(
                "latency {}",
                sent.iter().map(u128::to_string).collect::<Vec<_>>().join(" ")
            );
            return;
        }
        "stamp" => {
            // First thing in a child: the time, appended to the file that the caller reads.
            use std::io::Write;
            let now = boot_nanoseconds();
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
                .write_all(format!("{now}\n").as_bytes())
                .unwrap();
            return;
        }
        "fill" => runtime().block_on(fill(path, count)),
        "drain" | "drain-count" => {
            let (done, seconds) = runtime().block_on(drain(path, count));
            if mode == "drain-count" {
                println!("{mode} {done}");
                return;
            }
            done as f64 / seconds
        }
        other => panic!("no figure `{other}`"),
    };
    println!("{mode} {rate:.0}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

const BODY: [u8; 200] = [b'x'; 200];

/// The floor: one table, one index, nothing that a queue needs besides.
fn raw(path: &Path) -> Raw {
    let connection = Raw::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS m(id INTEGER PRIMARY KEY, q INTEGER NOT NULL, due INTEGER NOT NULL,
                lease INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL);
             CREATE INDEX IF NOT EXISTS mi ON m(q, lease, due, id);",
        )
        .unwrap();
    connection
}

fn raw_enqueue(path: &Path, count: usize, batch: usize) -> f64 {
    let mut connection = raw(path);
    let begun = Instant::now();
    let mut left = count;
    while left > 0 {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO m(q, due, body) VALUES (1, ?1, ?2)")
                .unwrap();
            for _ in 0..batch.min(left) {
                insert.execute(params![1_700_000_000_i64, BODY]).unwrap();
            }
        }
        transaction.commit().unwrap();
        left -= batch.min(left);
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn raw_drain(path: &Path) -> f64 {
    let mut connection = raw(path);
    let begun = Instant::now();
    let mut total = 0;
    loop {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        let claimed: Vec<i64> = transaction
            .prepare_cached(
                "UPDATE m SET lease = ?1, tries = tries + 1 WHERE id IN
                 (SELECT id FROM m WHERE q = 1 AND lease = 0 AND due <= ?2 ORDER BY due, id LIMIT 100) RETURNING id, body",
            )
            .unwrap()
            .query_map(params![1_800_000_000_i64, 1_750_000_000_i64], |row| {
                row.get::<_, Vec<u8>>(1)?;
                row.get(0)
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        transaction.commit().unwrap();
        if claimed.is_empty() {
            return total as f64 / begun.elapsed().as_secs_f64();
        }
        total += claimed.len();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        {
            let mut delete = transaction.prepare_cached("DELETE FROM m WHERE id = ?1").unwrap();
            for id in claimed {
                delete.execute([id]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

async fn connect(path: &Path) -> Arc<dyn Connection> {
    let options = ConnectOptions {
        implicit_queues: true,
        one_shot: true,
        ..ConnectOptions::default()
    };
    sqlite::connector(StoreOptions::at(path))
        .connect(&options)
        .await
        .unwrap()
}

async fn producer(path: &Path) -> Producer {
    let settings = ProducerSettings {
        queue: "bench".to_owned(),
        ..ProducerSettings::default()
    };
    Producer::new(connect(path).await, settings).await.unwrap()
}

/// One message a call, by so many callers at once.
async fn enqueue(path: &Path, count: usize, callers: usize) -> f64 {
    let producer = Arc::new(producer(path).await);
    producer.send(Message::new(BODY)).await.unwrap();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move {
                for _ in 0..count / callers {
                    producer.send(Message::new(BODY)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

async fn fill(path: &Path, count: usize) -> f64 {
    let producer = producer(path).await;
    let begun = Instant::now();
    let mut left = count;
    while left > 0 {
        let batch = left.min(1000);
        producer.send_all(vec![Message::new(BODY); batch]).await.unwrap();
        left -= batch;
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

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

/// Takes up to `count` messages (0: all there are) and says how many, and how long that took.
async fn drain(path: &Path, count: usize) -> (u64, f64) {
    let settings = ConsumerSettings {
        name: "bench".to_owned(),
        queue: "bench".to_owned(),
        concurrency: 200,
        limits: Limits {
            until_empty: true,
            messages: (count > 0).then_some(count as u64),
            ..Limits::default()
        },
        ..ConsumerSettings::default()
    };
    let options = ConnectOptions {
        implicit_queues: true,
        ..ConnectOptions::default()
    };
    let begun = Instant::now();
    let ended = consumer::run(
        sqlite::connector(StoreOptions::at(path)),
        options,
        settings,
        Arc::new(Nothing),
        Stop::default(),
    )
    .await
    .unwrap();
    assert!(matches!(ended.reason, EndReason::Limit(_)));
    (ended.done, begun.elapsed().as_secs_f64())
}

/// The floor of a process a message: spawn and wait, on two threads.
fn spawn(count: usize) -> f64 {
    let begun = Instant::now();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..count / 2 {
                    assert!(std::process::Command::new("/bin/true").status().unwrap().success());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn boot_nanoseconds() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u128 * 1_000_000_000 + now.tv_nsec as u128
}

/// Enqueues a message every 20 ms and says when.
async fn latency(path: &Path, count: usize) -> Vec<u128> {
    let producer = producer(path).await;
    let mut sent = Vec::new();
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(20)).await;
        sent.push(boot_nanoseconds());
        producer.send(Message::new(BODY)).await.unwrap();
    }
    sent
}
