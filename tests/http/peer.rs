//! Python's own servers as peers, and what they were asked.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::Place;

pub struct Peer {
    child: Child,
    place: Place,
    /// Of `http.server`.
    pub port: u16,
    /// Of `xmlrpc.server`.
    pub rpc: u16,
    /// Of the one that speaks TLS.
    pub tls: Option<u16>,
}

impl Peer {
    pub fn new(place: &Place) -> Self {
        Self::start(place, None)
    }

    /// As [`Peer::new`], and one that speaks TLS, with a certificate for 127.0.0.1 in the file `server.pem`.
    pub fn with_tls(place: &Place) -> Self {
        let status = Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=peer".split(' '))
            .args([
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .args(["-keyout", "both.pem", "-out", "server.pem"])
            .current_dir(place.path("."))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let both = place.read("both.pem") + &place.read("server.pem");
        Self::start(place, Some(place.write("both.pem", both)))
    }

    fn start(place: &Place, certificate: Option<PathBuf>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/peer.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(place.path("seen"))
            .args(certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Self {
            child,
            place: place.clone(),
            port: ports[0],
            rpc: ports[1],
            tls: ports.get(2).copied(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Value> {
        let text = self.place.read("seen");
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A header of a request that was seen.
pub fn header<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    let headers = request["headers"].as_array()?;
    headers.iter().find(|pair| pair[0] == name)?[1].as_str()
}
