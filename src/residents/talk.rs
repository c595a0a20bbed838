//! Talking to one worker: lines are written and read as its pipes allow, without ever waiting for it.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;

use crate::process::{Aside, Pipes};
use crate::wire::jsonrpc::{self, RpcError, Said};

/// A longer line is no answer: the largest body there can be, written in base64, and room to spare.
const LONGEST_LINE: usize = 32 << 20;
/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// So many lines of noise are logged in a second.
const NOISE_A_SECOND: u32 = 10;

/// What came of reading.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The worker has said that it is ready.
    pub(super) ready: bool,
    pub(super) answers: Vec<(u64, Result<String, RpcError>)>,
    /// A line has grown too long to be an answer.
    pub(super) too_long: bool,
}

/// Our side of the pipes.
pub(super) struct Talk {
    /// `None`: it is told nothing any more.
    stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
    pub(super) outgoing: Vec<u8>,
    written: usize,
    line: Vec<u8>,
    chunk: Vec<u8>,
    noise: Noise,
    aside: Aside,
}

impl Talk {
    pub(super) fn new(pipes: Pipes, who: String) -> io::Result<Self> {
        Ok(Self {
            stdin: Some(pipe::Sender::from_owned_fd(pipes.stdin.into())?),
            stdout: Some(pipe::Receiver::from_owned_fd(pipes.stdout.into())?),
            stderr: Some(pipe::Receiver::from_owned_fd(pipes.stderr.into())?),
            outgoing: Vec::new(),
            written: 0,
            line: Vec::new(),
            chunk: vec![0; CHUNK],
            noise: Noise::new(who),
            aside: Aside::default(),
        })
    }

    /// Tells the worker that nothing more comes.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits until more can be written, if there is more.
    pub(super) async fn writable(&self) {
        match &self.stdin {
            Some(stdin) if self.written < self.outgoing.len() => {
                let _ = stdin.writable().await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Writes what fits into the pipe.
    pub(super) fn write(&mut self) {
        while self.written < self.outgoing.len() {
            let Some(stdin) = &self.stdin else { return };
            match stdin.try_write(&self.outgoing[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It does not listen any more; its end, or the time-out, tells the rest.
                Err(_) => self.stdin = None,
            }
        }
        self.outgoing.clear();
        self.written = 0;
        // A big body is not kept for ever.
        self.outgoing.shrink_to(CHUNK);
    }

    /// Reads what is there, up to a chunk; `true` if there may be more.
    pub(super) fn read(&mut self, heard: &mut Heard) -> bool {
        let Some(stdout) = &self.stdout else { return false };
        let count = match stdout.try_read(&mut self.chunk) {
            Ok(0) => 0,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => 0,
        };
        if count == 0 {
            self.stdout = None;
            return false;
        }
        let mut rest = &self.chunk[..count];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.line.is_empty() {
                hear(&rest[..end], heard, &mut self.noise);
            } else {
                self.line.extend_from_slice(&rest[..end]);
                hear(&self.line, heard, &mut self.noise);
                self.line.clear();
                self.line.shrink_to(CHUNK);
            }
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LONGEST_LINE {
            self.line = Vec::new();
            heard.too_long = true;
            return false;
        }
        count == self.chunk.len()
    }

    /// Reads what the worker complains of, and logs it; `true` if there may be more.
    pub(super) fn read_aside(&mut self) -> bool {
        let Some(stderr) = &self.stderr else { return false };
        match stderr.try_read(&mut self.chunk) {
            Ok(count) if count > 0 => {
                let who = &self.noise.who;
                self.aside.feed(&self.chunk[..count], &mut |line| {
                    tracing::info!(target: "child", worker = who, stream = "stderr", "{line}");
                });
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Ok(_) | Err(_) => {
                self.stderr = None;
                false
            }
        }
    }

    /// The worker has ended: reads what it has left behind. Somebody else may hold its pipes open, so nothing is waited for.
    pub(super) fn read_last(&mut self) -> Heard {
        let mut heard = Heard::default();
        while self.read(&mut heard) {}
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.noise.log(&line);
        }
        // A worker's own children may go on talking for ever.
        for _ in 0..64 {
            if !self.read_aside() {
                break;
            }
        }
        let who = &self.noise.who;
        self.aside
            .finish(&mut |line| tracing::info!(target: "child", worker = who, stream = "stderr", "{line}"));
        heard
    }

    /// The last lines of its complaints.
    pub(super) fn tail(&self) -> String {
        self.aside.tail()
    }

    pub(super) fn unasked(&mut self, ids: &[u64]) {
        for id in ids {
            self.noise.tell(&format!(
                "an answer to a request that it does not have (id {id}); it is passed over"
            ));
        }
    }
}

fn hear(line: &[u8], heard: &mut Heard, noise: &mut Noise) {
    match jsonrpc::said(line) {
        Said::Ready => heard.ready = true,
        Said::Answer { id, result } => heard.answers.push((id, result)),
        Said::Noise => noise.log(line),
    }
}

/// Lines that are no answers: logged, but not without end.
struct Noise {
    who: String,
    second: Option<Instant>,
    lines: u32,
}

impl Noise {
    fn new(who: String) -> Self {
        Self {
            who,
            second: None,
            lines: 0,
        }
    }

    fn log(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let shown = &line[..line.len().min(500)];
        let text: String = String::from_utf8_lossy(shown)
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        self.tell(&format!("on its standard output, where only answers belong: {text}"));
    }

    fn tell(&mut self, text: &str) {
        let now = Instant::now();
        if self.second.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            if self.lines > NOISE_A_SECOND {
                tracing::warn!(worker = self.who, "{} more lines like it", self.lines - NOISE_A_SECOND);
            }
            self.second = Some(now);
            self.lines = 0;
        }
        self.lines += 1;
        if self.lines <= NOISE_A_SECOND {
            tracing::warn!(worker = self.who, "{text}");
        }
    }
}
