//! What handlers are measured beside, one figure a call; `scripts/bench-handlers` calls it, several times and in turn.
//!
//! ```text
//! handlers pipe MESSAGES WINDOW PROGRAM ARGUMENT…   a worker on a bare pipe, so many requests written ahead: `pipe RATE`
//! handlers serve                                    an HTTP server that answers at once, its port on standard output
//! handlers ask URL REQUESTS TASKS                   reqwest by itself: `ask RATE`
//! handlers allocations FOLDER MESSAGES              allocations a message: `allocations` and numbers, see [`allocations`]
//! ```
//!
//! An allocator that counts needs `unsafe`: it hands everything on to the system's.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt};
use qctl::consumer::{self, Call, ConsumerSettings, Handler, Limits, Outcome, Report, Stop};
use qctl::drivers::sqlite;
use qctl::producer::{Producer, ProducerSettings};
use qctl::queue::{ConnectOptions, Connection, ConsumeOptions, Message, Settlement};
use qctl::store::StoreOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

struct Counting;

/// Calls that took memory, growing included.
static TAKEN: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is the system allocator's own, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BODY: [u8; 200] = [b'x'; 200];

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    match words.as_slice() {
        ["pipe", messages, window, program @ ..] => {
            println!("pipe {:.0}", pipe(number(messages), number(window), program));
        }
        ["serve"] => runtime().block_on(serve()),
        ["ask", url, requests, tasks] => {
            let rate = runtime().block_on(ask(url, number(requests), number(tasks)));
            println!("ask {rate:.0}");
        }
        ["allocations", folder, messages] => allocations(Path::new(folder), number(messages)),
        _ => println!("handlers pipe | serve | ask | allocations, see benches/handlers.rs"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The floor of persistent workers: requests such as qctl writes, as many outstanding as it has at most, and for every answer
/// the next one. Answers that come together are answered together.
fn pipe(messages: usize, window: usize, program: &[&str]) -> f64 {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let body = "x".repeat(200);
    let mut chunk = vec![0; 64 << 10];
    let (mut written, mut answered, mut outgoing) = (0, 0, Vec::new());
    let mut begun = None;
    // The first line says that it is ready.
    let mut is_ready = false;
    while answered < messages {
        let count = stdout.read(&mut chunk).unwrap();
        assert!(count > 0, "the worker has ended after {answered} answers");
        let mut lines = chunk[..count].split(|byte| *byte == b'\n').count() - 1;
        if !is_ready && lines > 0 {
            is_ready = true;
            lines -= 1;
            begun = Some(Instant::now());
        }
        answered += lines;
        outgoing.clear();
        while is_ready && written < messages && written - answered < window {
            written += 1;
            writeln!(
                outgoing,
                "{{\"jsonrpc\":\"2.0\",\"id\":{written},\"method\":\"handle\",\"params\":{{\"body\":\"{body}\"}},\"message\":\
                 {{\"queue\":\"bench\",\"exchange\":\"\",\"routing_key\":\"bench\",\"id\":\"0123456789abcdef-{written}\",\
                 \"content_type\":null,\"correlation_id\":null,\"reply_to\":null,\"priority\":null,\"timestamp\":1800000000000,\
                 \"attempt\":0,\"deliveries\":1,\"headers\":{{}}}}}}"
            )
            .unwrap();
        }
        stdin.write_all(&outgoing).unwrap();
    }
    let rate = messages as f64 / begun.unwrap().elapsed().as_secs_f64();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    rate
}

/// Answers every request of a connection that is kept with the same two bytes. Requests have no body.
async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    std::io::stdout().flush().unwrap();
    loop {
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let mut request = Vec::with_capacity(4096);
            while peer.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                    request.drain(..end + 4);
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok";
                    if peer.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// The floor of the handler `http`: the same library, as many requests at once, and no queue.
async fn ask(url: &str, requests: usize, tasks: usize) -> f64 {
    // Nothing is asked over TLS, but the library wants to know how it would be.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let begun = Instant::now();
    let asking: Vec<_> = (0..tasks)
        .map(|task| {
            let (client, url) = (client.clone(), url.to_owned());
            let share = requests / tasks + usize::from(task < requests % tasks);
            tokio::spawn(async move {
                for _ in 0..share {
                    let answer = client.get(&url).send().await.unwrap();
                    assert!(answer.status().is_success());
                    assert_eq!(answer.bytes().await.unwrap().as_ref(), b"ok");
                }
            })
        })
        .collect();
    for task in asking {
        task.await.unwrap();
    }
    requests as f64 / begun.elapsed().as_secs_f64()
}

/// Prints allocations a message, from the difference between N messages and twice as many: of a consumer with a handler that
/// does nothing; of taking and settling the same messages without a consumer; and of calling the handler alone.
fn allocations(folder: &Path, messages: usize) {
    let mut counts = Vec::new();
    for (name, consumed) in [("consumer", true), ("direct", false)] {
        let of = |count: usize| {
            let path = folder.join(format!("{name}-{count}.db"));
            runtime().block_on(fill(&path, count));
            let before = TAKEN.load(Ordering::Relaxed);
            if consumed {
                runtime().block_on(consume(&path, count));
            } else {
                runtime().block_on(drain(&path, count));
            }
            TAKEN.load(Ordering::Relaxed) - before
        };
        let (once, twice) = (of(messages), of(2 * messages));
        counts.push((twice - once) as f64 / messages as f64);
    }
    println!(
        "allocations {:.2} {:.2} {:.2}",
        counts[0],
        counts[1],
        dispatch(messages)
    );
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

/// The calls alone, of the handler as a consumer knows it.
fn dispatch(messages: usize) -> f64 {
    let handler: Arc<dyn Handler> = Arc::new(Nothing);
    let call = || Call {
        message: Message::new(BODY),
        queue: "bench".to_owned(),
        exchange: String::new(),
        attempt: 0,
        deliveries: Some(1),
        cancel: CancellationToken::new(),
        patience: None,
        output_wanted: false,
    };
    let calls: Vec<Call> = (0..messages).map(|_| call()).collect();
    runtime().block_on(async {
        let before = TAKEN.load(Ordering::Relaxed);
        for call in calls {
            assert!(matches!(handler.handle(call).await, Outcome::Done(_)));
        }
        (TAKEN.load(Ordering::Relaxed) - before) as f64 / messages as f64
    })
}

async fn connect(path: &Path) -> Arc<dyn Connection> {
    let options = ConnectOptions {
        implicit_queues: true,
        ..ConnectOptions::default()
    };
    sqlite::connector(StoreOptions::at(path))
        .connect(&options)
        .await
        .unwrap()
}

async fn fill(path: &Path, count: usize) {
    let connection = connect(path).await;
    let settings = ProducerSettings {
        queue: "bench".to_owned(),
        ..ProducerSettings::default()
    };
    let producer = Producer::new(Arc::clone(&connection), settings).await.unwrap();
    let mut left = count;
    while left > 0 {
        let batch = left.min(1000);
        producer.send_all(vec![Message::new(BODY); batch]).await.unwrap();
        left -= batch;
    }
    connection.close().await.unwrap();
}

/// So many deliveries are held, with a consumer and without.
const WINDOW: usize = 100;

async fn consume(path: &Path, count: usize) {
    let settings = ConsumerSettings {
        name: "bench".to_owned(),
        queue: "bench".to_owned(),
        concurrency: WINDOW,
        limits: Limits {
            messages: Some(count as u64),
            ..Limits::default()
        },
        ..ConsumerSettings::default()
    };
    let options = ConnectOptions {
        implicit_queues: true,
        ..ConnectOptions::default()
    };
    let connector = sqlite::connector(StoreOptions::at(path));
    let ended = consumer::run(connector, options, settings, Arc::new(Nothing), Stop::default()).await;
    assert_eq!(ended.unwrap().done, count as u64);
}

async fn drain(path: &Path, count: usize) {
    let connection = connect(path).await;
    let options = ConsumeOptions {
        queue: "bench".to_owned(),
        prefetch: WINDOW,
        slots: WINDOW,
        label: "bench".to_owned(),
        most_deliveries: None,
    };
    let mut subscription = connection.consume(options).await.unwrap();
    let settler = subscription.settler();
    let mut settling = FuturesUnordered::new();
    let mut done = 0;
    while done < count {
        tokio::select! {
            taken = subscription.next() => {
                for delivery in taken.unwrap() {
                    settling.push(settler.settle(delivery.ticket, Settlement::Ack));
                }
            }
            Some(settled) = settling.next(), if !settling.is_empty() => {
                settled.unwrap();
                done += 1;
            }
        }
    }
    drop(settling);
    subscription.close().await.unwrap();
    connection.close().await.unwrap();
}
