//! Who is let in: so many at a time, each for so long, and each may say so much.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::address::Bound;
use crate::error::{Error, Result};

/// Connections at a time; the others wait.
const AT_A_TIME: usize = 64;

/// A connection ends after so long, whatever it does meanwhile: whoever sends or reads slowly keeps nobody out for longer.
const AT_MOST: Duration = Duration::from_secs(10);

/// A connection on which more was said than this is ended: a request here is a few hundred bytes.
const MOST_SAID: usize = 64 * 1024;

/// How long no connection is taken after the system had none to give.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Lets connections in.
pub(super) struct Door {
    inner: Inner,
    places: Arc<Semaphore>,
}

enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Connection: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Connection for T {}

/// A connection that ends in time.
pub(super) struct Guest {
    inner: Pin<Box<dyn Connection>>,
    deadline: Pin<Box<Sleep>>,
    left: usize,
    _place: OwnedSemaphorePermit,
}

impl Door {
    /// Must be called within a runtime.
    pub(super) fn new(bound: Bound) -> Result<Self> {
        let inner = match bound {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Inner::Tcp),
            Bound::Unix(listener) => UnixListener::from_std(listener).map(Inner::Unix),
        };
        Ok(Self {
            inner: inner.map_err(|error| Error::temporary("the metrics cannot be served").because(error))?,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        })
    }

    async fn next(&self) -> io::Result<Pin<Box<dyn Connection>>> {
        Ok(match &self.inner {
            Inner::Tcp(listener) => Box::pin(listener.accept().await?.0),
            Inner::Unix(listener) => Box::pin(listener.accept().await?.0),
        })
    }
}

impl Listener for Door {
    type Io = Guest;
    type Addr = ();

    async fn accept(&mut self) -> (Guest, ()) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                // It is never closed.
                return std::future::pending().await;
            };
            match self.next().await {
                Ok(inner) => {
                    let guest = Guest {
                        inner,
                        deadline: Box::pin(tokio::time::sleep(AT_MOST)),
                        left: MOST_SAID,
                        _place: place,
                    };
                    return (guest, ());
                }
                // Who has left already, or no descriptor left.
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Guest {
    fn check_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guest = self.get_mut();
        guest.check_time(context)?;
        let before = buffer.filled().len();
        ready!(guest.inner.as_mut().poll_read(context, buffer))?;
        let said = buffer.filled().len() - before;
        if said > guest.left {
            return Poll::Ready(Err(io::Error::other("too much was said")));
        }
        guest.left -= said;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guest = self.get_mut();
        guest.check_time(context)?;
        guest.inner.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner.as_mut().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner.as_mut().poll_shutdown(context)
    }
}
