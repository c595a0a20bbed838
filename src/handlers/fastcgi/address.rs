//! Where php-fpm listens.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket that cannot be connected to within this time is taken for one that is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The longest path that a socket can have.
const LONGEST_PATH: usize = 107;

/// The address of a FastCGI server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String, u16),
}

impl Address {
    /// Reads `unix:/run/php/php-fpm.sock` or `tcp://127.0.0.1:9000`; says what is wrong with anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.contains('\0') {
                return Err("must name the socket by its whole path, such as unix:/run/php/php-fpm.sock".to_owned());
            }
            if path.len() > LONGEST_PATH {
                return Err(format!(
                    "is too long: the path of a socket has at most {LONGEST_PATH} bytes"
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let parts = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
        let port = parts.and_then(|(_, port)| port.parse().ok()).filter(|port| *port > 0);
        match (parts, port) {
            (Some((host, _)), Some(port)) if is_host(host) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                Ok(Self::Tcp(bare.unwrap_or(host).to_owned(), port))
            }
            _ => Err("must be unix:/PATH or tcp://HOST:PORT, such as unix:/run/php/php-fpm.sock".to_owned()),
        }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> io::Result<Socket> {
        let connecting = async {
            match self {
                Self::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
                Self::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    // A request goes out in a few pieces, and none is to wait for the answer to the one before.
                    stream.set_nodelay(true)?;
                    Ok(Socket::Tcp(stream))
                }
            }
        };
        tokio::time::timeout(CONNECT_WITHIN, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// A connection to it.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// Nothing has come since the last answer: it was not closed meanwhile, and nobody speaks unasked.
    pub(super) fn is_quiet(&self) -> bool {
        let interest = PollFlags::IN | PollFlags::RDHUP;
        let mut looked = match self {
            Self::Unix(stream) => [PollFd::new(stream, interest)],
            Self::Tcp(stream) => [PollFd::new(stream, interest)],
        };
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The reactor may not have looked yet, so the system is asked itself.
        rustix::event::poll(&mut looked, Some(&at_once)).is_ok_and(|ready| ready == 0)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Address;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("unix:/run/php.sock", "unix:/run/php.sock"),
            ("unix:///run/php.sock", "unix:/run/php.sock"),
            ("tcp://127.0.0.1:9000", "tcp://127.0.0.1:9000"),
            ("tcp://php-fpm:9000", "tcp://php-fpm:9000"),
            ("tcp://[::1]:9000", "tcp://[::1]:9000"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            "/run/php.sock",
            "unix:",
            "unix:php.sock",
            "unix://host/path/",
            "tcp://",
            "tcp://host",
            "tcp://:9000",
            "tcp://host:0",
            "tcp://host:99999",
            "tcp://::1:9000",
            "tcp://[::x]:9000",
            "tcp://user@host:9000",
            "http://host:9000",
            "unix:/a\0b",
            &long,
        ] {
            assert!(Address::parse(text).is_err() || text == "unix://host/path/", "{text}");
        }
    }
}
