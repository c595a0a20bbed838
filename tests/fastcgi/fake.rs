//! A FastCGI server that does what a test says, right or wrong.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::php::socket;
use crate::support::Place;

/// Listens on `php.sock`; its thread ends with the test's process.
pub struct Fake {
    accepted: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// One connection, whose number is given too.
pub struct Peer {
    pub stream: UnixStream,
    pub number: usize,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Fake {
    /// Does this with every connection, each on a thread of its own.
    pub fn start(place: &Place, serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(socket(place)).unwrap();
        let fake = Self {
            accepted: Arc::default(),
            bodies: Arc::default(),
        };
        let (accepted, bodies, serve) = (Arc::clone(&fake.accepted), Arc::clone(&fake.bodies), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let peer = Peer {
                    stream: stream.unwrap(),
                    number: accepted.fetch_add(1, Ordering::SeqCst),
                    bodies: Arc::clone(&bodies),
                };
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(peer));
            }
        });
        fake
    }

    /// Connections so far; the first is only a look whether somebody is there.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The bodies of the requests that were read whole.
    pub fn bodies(&self) -> Vec<String> {
        let bodies = self.bodies.lock().unwrap();
        bodies
            .iter()
            .map(|body| String::from_utf8_lossy(body).into_owned())
            .collect()
    }
}

impl Peer {
    /// Reads a request to its end; `false`: there is none.
    pub fn request(&mut self) -> bool {
        let mut body = Vec::new();
        loop {
            let mut header = [0; 8];
            if self.stream.read_exact(&mut header).is_err() {
                return false;
            }
            let length = usize::from(u16::from_be_bytes([header[4], header[5]])) + usize::from(header[6]);
            let mut content = vec![0; length];
            self.stream.read_exact(&mut content).unwrap();
            match (header[1], length) {
                (5, 0) => break,
                (5, _) => body.extend(content),
                _ => {}
            }
        }
        self.bodies.lock().unwrap().push(body);
        true
    }

    /// Sends these bytes; who has left does not hear them.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until the other side has left.
    pub fn wait_gone(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }
}

/// A record of an answer.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, high, low, 3, 0];
    bytes.extend_from_slice(content);
    bytes.extend([0; 3]);
    bytes
}

/// An answer that says done, with this body.
pub fn done(body: &str) -> Vec<u8> {
    [record(6, format!("Status: 200\r\n\r\n{body}").as_bytes()), end(0, 0)].concat()
}

/// The end of a request with this application and protocol status.
pub fn end(status: u8, protocol: u8) -> Vec<u8> {
    record(3, &[0, 0, 0, status, protocol, 0, 0, 0])
}
