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
use std::ops::Range;
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

use super::payload::{HEADERS, headers_within, mend_header, mend_method};

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
            Ok(Readable::new(stream, &address.to_string(), LONGEST_FRAME))
        }
    }
}

/// So much is read at once.
const CHUNK: usize = 32 << 10;
/// A frame longer than this is nobody's: it goes by as it is, for the library to refuse.
const LONGEST_FRAME: usize = 4 << 20;
/// `connection.tune`: class, method, channels, and the longest frame that the broker allows.
const TUNE: [u8; 4] = [0, 10, 0, 30];
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
    /// The longest frame that the library takes: what we ask for, or less if the broker allows no more.
    longest: usize,
}

impl<S> Readable<S> {
    pub(super) fn new(stream: S, endpoint: &str, longest: usize) -> Self {
        Self {
            stream: Some(stream),
            runtime: Handle::try_current().ok(),
            endpoint: endpoint.into(),
            buffer: vec![0; CHUNK],
            given: 0,
            clean: 0,
            end: 0,
            passing: 0,
            longest,
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
            if let Some(&[a, b, c, d]) = payload
                .strip_prefix(&TUNE)
                .and_then(|tune| tune.get(2..6)?.first_chunk())
            {
                let allowed = u32::from_be_bytes([a, b, c, d]) as usize;
                if kind == METHOD && allowed > 0 {
                    self.longest = self.longest.min(allowed);
                }
            }
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
            let too_long = kind == HEADER && HEAD + length + TAIL > self.longest;
            if let Some(headers) = too_long.then(|| headers_within(payload)).flatten() {
                self.leave_out(headers, length);
                continue;
            }
            self.clean += HEAD + length + TAIL;
        }
    }

    /// RabbitMQ hands out headers in one frame however long it is, and adds to them when it dead-letters. The library would end the
    /// connection over a frame longer than was agreed, and again over the same message: it comes without its headers.
    fn leave_out(&mut self, headers: Range<usize>, length: usize) {
        tracing::warn!(endpoint = %self.endpoint, bytes = length, longest = self.longest,
            "the headers of a message fit into no frame; it is read without them (raise `frame_max` of the connection and of the broker)");
        let payload = self.clean + HEAD;
        let fewer = u32::try_from(length - headers.len()).unwrap_or_default();
        self.buffer[self.clean + 3..payload].copy_from_slice(&fewer.to_be_bytes());
        // Behind class, weight and the body's length.
        self.buffer[payload + 12] &= !(HEADERS >> 8) as u8;
        self.buffer
            .copy_within(payload + headers.end..self.end, payload + headers.start);
        self.end -= headers.len();
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

    use super::{HEADER, LONGEST_FRAME, METHOD, Readable};
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
        through_up_to(LONGEST_FRAME, bytes, piece, room)
    }

    fn through_up_to(longest: usize, bytes: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let mut stream = Readable::new(Pieces(bytes, piece), "", longest);
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

    /// Content type, headers of this length, delivery mode.
    fn content_header(headers: usize) -> Vec<u8> {
        let table = u32::try_from(headers).unwrap().to_be_bytes();
        let flags = if headers > 0 { 0xb0 } else { 0x90 };
        let body = [0, 0, 0, 0, 0, 0, 0, 4, flags, 0, 1, b'x'];
        let table: Vec<u8> = if headers > 0 {
            [&table[..], &vec![b'V'; headers]].concat()
        } else {
            Vec::new()
        };
        [&[0, 60, 0, 0][..], &body, &table, &[2]].concat()
    }

    #[test]
    fn headers_that_fit_into_no_frame_are_left_out() {
        let tune = |most: u32| {
            frame(
                METHOD,
                &[&[0, 10, 0, 30, 7, 255][..], &most.to_be_bytes(), &[0, 60]].concat(),
            )
        };
        for (tuned, asked, length, is_left) in [
            (0, 100, 50, true),
            (0, 100, 90, false),
            (100, 5000, 90, false),
            (5000, 100, 90, false),
        ] {
            let (there, bare) = (
                frame(HEADER, &content_header(length)),
                frame(HEADER, &content_header(0)),
            );
            let before = [tune(tuned), there.clone(), frame(3, b"body"), bare.clone()].concat();
            let expected = if is_left { there } else { bare.clone() };
            let after = [tune(tuned), expected, frame(3, b"body"), bare].concat();
            for piece in [1, 7, 1000] {
                assert_eq!(
                    through_up_to(asked, &before, piece, 50),
                    after,
                    "{tuned} {asked} {length}"
                );
            }
        }
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
