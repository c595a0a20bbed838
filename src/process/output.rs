//! The two output streams of a child, as they are read.

use std::io::{self, PipeReader, Read};

use rustix::event::PollFlags;

use super::capture::{Captured, Lines, Tail};

/// One of a child's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Takes a child's output line by line, without control characters, as it comes.
pub type LineSink = Box<dyn FnMut(Stream, &str) + Send>;

/// What is read from one stream.
pub(super) struct Output {
    stream: Stream,
    /// `None` once it has ended.
    pub(super) pipe: Option<PipeReader>,
    pub(super) head: Captured,
    lines: Lines,
}

impl Output {
    /// `pipe` is our end, where the stream comes to us at all.
    pub(super) fn new(stream: Stream, pipe: Option<PipeReader>) -> Self {
        Self {
            stream,
            pipe,
            head: Captured::default(),
            lines: Lines::default(),
        }
    }

    /// Reads once; `true` if something came.
    pub(super) fn read(
        &mut self,
        ready: PollFlags,
        buffer: &mut [u8],
        keep: usize,
        tail: Option<&mut Tail>,
        sink: &mut Option<LineSink>,
    ) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        if !ready.contains(PollFlags::IN) {
            self.pipe = None;
            return false;
        }
        // We are the only reader, so what is ready cannot be gone: this does not block.
        match pipe.read(buffer) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(count) => {
                let chunk = &buffer[..count];
                self.head.feed(chunk, keep);
                if let Some(tail) = tail {
                    tail.feed(chunk);
                }
                if let Some(sink) = sink {
                    self.lines.feed(chunk, &mut |line| sink(self.stream, line));
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    /// No more will be read: what is left is the last line.
    pub(super) fn end(&mut self, sink: &mut Option<LineSink>) {
        if let Some(sink) = sink {
            self.lines.finish(&mut |line| sink(self.stream, line));
        }
    }
}
