//! A wire between a client and the broker that can be cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::wait_until;

/// A TCP proxy on a loopback port of its own, on a thread of its own; it ends when it is dropped. At first it passes all.
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What is asked of the wire.
#[derive(Clone, Copy)]
struct Wire {
    /// New connections are taken.
    accepting: bool,
    to_broker: bool,
    to_client: bool,
    /// Connections of an earlier cut than this are reset.
    cuts: u64,
    over: bool,
}

/// What has come of it.
#[derive(Default)]
struct Seen {
    listening: AtomicBool,
    /// For each connection, after how many cuts it came.
    connections: Mutex<Vec<u64>>,
}

impl Proxy {
    /// A wire to the broker's listener at this address.
    pub fn new(broker: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (wire, watched) = watch::channel(Wire {
            accepting: true,
            to_broker: true,
            to_client: true,
            cuts: 0,
            over: false,
        });
        let seen = Arc::new(Seen::default());
        seen.listening.store(true, Ordering::SeqCst);
        let thread = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                // What still runs in it when this ends is dropped, and its connections with it.
                runtime.block_on(serve(listener, broker, watched, seen));
            }
        });
        Self {
            address,
            wire,
            seen,
            thread: Some(thread),
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients are connected through it.
    pub fn connections(&self) -> usize {
        self.seen.connections.lock().unwrap().len()
    }

    /// Resets every connection, on both sides. New ones are taken.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.cuts += 1);
        let cuts = self.wire.borrow().cuts;
        // A client may have come back already.
        wait_until("the connections are cut", || {
            let connections = self.seen.connections.lock().unwrap();
            connections.iter().all(|came_after| *came_after == cuts)
        });
    }

    /// Keeps every connection and passes nothing more: what is sent waits until [`Proxy::pass`].
    pub fn hold(&self) {
        self.wire.send_modify(|wire| {
            wire.to_broker = false;
            wire.to_client = false;
        });
    }

    /// As [`Proxy::hold`], only for what the client sends.
    pub fn hold_to_broker(&self) {
        self.wire.send_modify(|wire| wire.to_broker = false);
    }

    /// As [`Proxy::hold`], only for what the broker sends.
    pub fn hold_to_client(&self) {
        self.wire.send_modify(|wire| wire.to_client = false);
    }

    /// Refuses new connections, as a host does on which nothing listens; those there are stay.
    pub fn refuse(&self) {
        self.wire.send_modify(|wire| wire.accepting = false);
        wait_until("connections are refused", || {
            !self.seen.listening.load(Ordering::SeqCst)
        });
    }

    /// Takes connections and passes everything, from now on and what was held.
    pub fn pass(&self) {
        self.wire.send_modify(|wire| {
            wire.accepting = true;
            wire.to_broker = true;
            wire.to_client = true;
        });
        wait_until("connections are taken", || self.seen.listening.load(Ordering::SeqCst));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.send_modify(|wire| wire.over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(first: std::net::TcpListener, broker: SocketAddr, mut wire: watch::Receiver<Wire>, seen: Arc<Seen>) {
    let address = first.local_addr().unwrap();
    let mut listener = Some(TcpListener::from_std(first).unwrap());
    loop {
        let now = *wire.borrow_and_update();
        if now.over {
            return;
        }
        if !now.accepting {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen(address).await);
        }
        seen.listening.store(listener.is_some(), Ordering::SeqCst);
        tokio::select! {
            changed = wire.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            client = accept(listener.as_ref()) => {
                // Counted before anybody can wait for it.
                seen.connections.lock().unwrap().push(now.cuts);
                let (wire, seen) = (wire.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    connect(client, broker, wire, now.cuts).await;
                    let mut connections = seen.connections.lock().unwrap();
                    let place = connections.iter().position(|came_after| *came_after == now.cuts);
                    connections.swap_remove(place.unwrap());
                });
            }
        }
    }
}

/// The same port as before; an outgoing connection may sit on it for a moment.
async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    loop {
        match listener {
            Some(listener) => {
                if let Ok((client, _)) = listener.accept().await {
                    return client;
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// One connection for as long as it lasts.
async fn connect(mut client: TcpStream, address: SocketAddr, mut wire: watch::Receiver<Wire>, came_after: u64) {
    let Ok(mut broker) = TcpStream::connect(address).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = broker.split();
    let there = pump(from_client, to_broker, wire.clone(), |wire| wire.to_broker);
    let back = pump(from_broker, to_client, wire.clone(), |wire| wire.to_client);
    let in_order = tokio::select! {
        ended = async { tokio::try_join!(there, back) } => ended.is_ok(),
        _ = wire.wait_for(|wire| wire.cuts != came_after) => false,
    };
    if !in_order {
        // Closing resets, then.
        let _ = (client.set_zero_linger(), broker.set_zero_linger());
    }
}

/// Passes on what comes in one direction, for as long as that direction is open. An error is a connection that was reset.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut wire: watch::Receiver<Wire>,
    open: fn(&Wire) -> bool,
) -> Result<(), ()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        wire.wait_for(open).await.map_err(drop)?;
        match read {
            Ok(0) => return to.shutdown().await.map_err(drop),
            Ok(count) => to.write_all(&buffer[..count]).await.map_err(drop)?,
            Err(_) => return Err(()),
        }
    }
}
