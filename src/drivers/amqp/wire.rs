//! The bytes on their way from the broker to the client library, made such that no message of a foreign client can end the
//! connection.
//!
//! AMQP says that short strings are UTF-8, and RabbitMQ passes on whatever a client has put there. The library ends the
//! connection over such a string. Nobody could settle that message, so it would end the next connection too, and with it every
//! consumer of its queue. Likewise it reads nested tables by recursion, and a message that nests them deeper than its thread
//! has stack would end the process. So the frames that carry what foreign clients have written are looked through: bytes that are not
//! UTF-8 become `?`, and a table too deep becomes a byte array. Neither changes the length of anything.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::{DummyIO, RuntimeParts};
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::AsyncTcpStream;
use tokio::runtime::Handle;

use super::payload::{mend_header, mend_method};

/// A stream to the broker as the library makes it.
type Raw = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// The runtime for a connection whose stream is a [`Readable`].
pub(super) type ReadableRuntime = Runtime<RuntimeParts<Tokio, Readably>>;

/// The runtime that we are on.
pub(super) fn runtime() -> ReadableRuntime {
    Runtime::new(RuntimeParts::new(Tokio::current(), Readably(Tokio::current())))
}

/// Tokio, with streams that are [`Readable`]; the library asks the reactor for the type of its streams.
#[derive(Clone, Debug)]
pub(super) struct Readably(Tokio);

impl Reactor for Readably {
    type TcpStream = Readable<Raw>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        // The library connects by a closure of ours and registers nothing.
        Err::<DummyIO, _>(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move {
            let stream = AsyncTcpStream::Plain(connecting.await?);
            Ok(Readable::new(stream, &address.to_string()))
        }
    }
}

/// So much is read at once.
const CHUNK: usize = 32 << 10;
/// A frame longer than this is nobody's: it goes by as it is, for the library to refuse.
const LONGEST_FRAME: usize = 4 << 20;
/// Type, channel, length.
const HEAD: usize = 7;
/// The octet behind a frame.
const TAIL: usize = 1;
const METHOD: u8 = 1;
const HEADER: u8 = 2;

/// A stream whose reader gets only frames that it can read.
pub(super) struct Readable<S> {
    /// There until the end.
    stream: Option<S>,
    /// The runtime that the stream is registered with. The library drops it on a thread of its own, outside of any runtime, and
    /// the stream would start a second one, with a thread, to be dropped on.
    runtime: Option<Handle>,
    endpoint: Arc<str>,
    buffer: Vec<u8>,
    /// Handed on up to here,
    given: usize,
    /// looked through up to here,
    clean: usize,
    /// and read up to here.
    end: usize,
    /// So many bytes more go by without a look.
    passing: usize,
}

impl<S> Readable<S> {
    pub(super) fn new(stream: S, endpoint: &str) -> Self {
        Self {
            stream: Some(stream),
            runtime: Handle::try_current().ok(),
            endpoint: endpoint.into(),
            buffer: vec![0; CHUNK],
            given: 0,
            clean: 0,
            end: 0,
            passing: 0,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>>
    where
        S: Unpin,
    {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Looks through the frames that are there as a whole.
    fn look(&mut self) {
        loop {
            let there = &mut self.buffer[self.clean..self.end];
            if self.passing > 0 {
                let now = self.passing.min(there.len());
                self.passing -= now;
                self.clean += now;
                if self.passing > 0 {
                    return;
                }
                continue;
            }
            let Some(&[kind, _, _, a, b, c, d]) = there.first_chunk::<HEAD>() else {
                return;
            };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let frame = length.saturating_add(HEAD + TAIL);
            if !matches!(kind, METHOD | HEADER) || frame > LONGEST_FRAME {
                self.passing = frame;
                continue;
            }
            let Some(frame) = there.get_mut(..frame) else {
                return;
            };
            let payload = &mut frame[HEAD..HEAD + length];
            let changed = if kind == METHOD {
                mend_method(payload)
            } else {
                mend_header(payload)
            };
            if changed {
                tracing::warn!(endpoint = %self.endpoint,
                    "a message has a property or a header that is not UTF-8 or nested too deep; it is read as far as it can be, \
                     each byte that is not UTF-8 as `?`");
            }
            self.clean += HEAD + length + TAIL;
        }
    }

    /// Room behind what was read.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.given..self.end, 0);
        self.end -= self.given;
        self.clean -= self.given;
        self.given = 0;
        if self.buffer.len() < self.end + CHUNK / 2 {
            self.buffer.resize(self.end + CHUNK, 0);
        }
    }
}

impl<S> Drop for Readable<S> {
    fn drop(&mut self) {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        self.stream = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readable<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        while this.given == this.clean {
            this.make_room();
            let Some(stream) = &mut this.stream else {
                return Poll::Ready(Ok(0));
            };
            let read = ready!(Pin::new(stream).poll_read(context, &mut this.buffer[this.end..]))?;
            if read == 0 {
                // The rest of a frame that never comes.
                this.clean = this.end;
                break;
            }
            this.end += read;
            this.look();
        }
        let ready = &this.buffer[this.given..this.clean];
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        this.given += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Readable<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_close(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use futures_util::io::AsyncRead;
    use proptest::prelude::*;

    use super::{HEADER, METHOD, Readable};
    use crate::drivers::amqp::payload::mend_header;

    /// Hands out its bytes in pieces.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut [u8]) -> Poll<std::io::Result<usize>> {
            let count = self.0.len().min(self.1).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Poll::Ready(Ok(count))
        }
    }

    /// What comes through.
    fn through(bytes: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let mut stream = Readable::new(Pieces(bytes, piece), "");
        let mut found = Vec::new();
        let mut out = vec![0; room];
        loop {
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut stream).poll_read(&mut context, &mut out) {
                Poll::Ready(Ok(0)) => return found,
                Poll::Ready(Ok(count)) => found.extend_from_slice(&out[..count]),
                other => panic!("{other:?}"),
            }
        }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1][..], &length, payload, &[0xce]].concat()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_comes(bytes in any::<Vec<u8>>(), piece in 1_usize..50, room in 1_usize..50) {
            prop_assert_eq!(through(&bytes, piece, room).len(), bytes.len());
        }

        #[test]
        fn other_frames_come_through_unchanged(
            frames in proptest::collection::vec((any::<u8>(), any::<Vec<u8>>()), 0..8),
            piece in 1_usize..50, room in 1_usize..50,
        ) {
            let all: Vec<u8> = frames
                .iter()
                .flat_map(|(kind, payload)| frame(if matches!(*kind, METHOD | HEADER) { 3 } else { *kind }, payload))
                .collect();
            prop_assert_eq!(through(&all, piece, room), all);
        }

        #[test]
        fn headers_are_looked_through_in_any_pieces(text in any::<Vec<u8>>(), piece in 1_usize..50, room in 1_usize..50) {
            let text = &text[..text.len().min(255)];
            // With nothing but a content type.
            let header = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0x80, 0, text.len() as u8][..], text].concat();
            let mut mended = header.clone();
            mend_header(&mut mended);
            let body = frame(3, b"body");
            let before = [frame(HEADER, &header), body.clone(), frame(HEADER, &header)].concat();
            let after = [frame(HEADER, &mended), body, frame(HEADER, &mended)].concat();
            prop_assert_eq!(through(&before, piece, room), after);
        }
    }
}
