//! Where the server listens, and who can reach it there.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::error::{Error, Result};

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of this machine; port 0: one of the system's choosing.
    Tcp(SocketAddr),
    /// A socket in the file system, for its owner alone.
    Unix(PathBuf),
}

/// A listener that is bound.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How many connections wait to be taken.
const BACKLOG: i32 = 128;

impl Address {
    /// Reads `127.0.0.1:PORT`, `tcp://127.0.0.1:PORT` or `unix:///PATH`; says what is wrong with anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                return Err("name the socket by its whole path, such as unix:///run/qctl/metrics.sock".to_owned());
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        if let Some(port) = address.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            return Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        address
            .parse()
            .map(Self::Tcp)
            .map_err(|_| "give an IP address and a port, such as 127.0.0.1:9100, or unix:///PATH".to_owned())
    }

    /// Only processes of this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Begins to listen; returns the address in use too.
    pub(super) fn bind(&self) -> Result<(Bound, Self)> {
        match self {
            Self::Tcp(address) => {
                let bound = TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    let in_use = listener.local_addr()?;
                    Ok((Bound::Tcp(listener), Self::Tcp(in_use)))
                });
                bound.map_err(|error| self.cannot(error, "name another port, or port 0 for a free one"))
            }
            Self::Unix(path) => {
                self.make_room(path)?;
                let listener = listen_privately(path)
                    .map_err(|error| self.cannot(error, "name a path in a folder that this user may write to"))?;
                Ok((Bound::Unix(listener), self.clone()))
            }
        }
    }

    /// Removes a socket that nobody listens at any more.
    fn make_room(&self, path: &Path) -> Result<()> {
        let Ok(found) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        if !found.file_type().is_socket() {
            let error = io::Error::other("there is something else of this name");
            return Err(self.cannot(error, "name another path"));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|error| self.cannot(error, "remove it"))
            }
            _ => Err(self.cannot(io::ErrorKind::AddrInUse.into(), "name another path")),
        }
    }

    fn cannot(&self, error: io::Error, next: &str) -> Error {
        let message = format!("cannot listen at {self}; {next}");
        let error_kind = error.kind();
        let told = match error_kind {
            io::ErrorKind::PermissionDenied => Error::not_allowed(message),
            io::ErrorKind::AddrInUse => Error::temporary(message),
            _ => Error::general(message),
        };
        told.because(error)
    }
}

/// The socket is its owner's alone before anybody can connect.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Address;

    #[test]
    fn addresses() {
        for (text, shown, is_local) in [
            ("127.0.0.1:9100", "http://127.0.0.1:9100", true),
            ("tcp://127.0.0.1:0", "http://127.0.0.1:0", true),
            ("localhost:9100", "http://127.0.0.1:9100", true),
            ("[::1]:9100", "http://[::1]:9100", true),
            ("[::ffff:127.0.0.1]:9100", "http://[::ffff:127.0.0.1]:9100", true),
            ("0.0.0.0:9100", "http://0.0.0.0:9100", false),
            ("tcp://[::]:9100", "http://[::]:9100", false),
            ("10.0.0.1:9100", "http://10.0.0.1:9100", false),
            ("unix:///run/q.sock", "unix:///run/q.sock", true),
            ("unix:/run/q.sock", "unix:///run/q.sock", true),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_local()), (shown, is_local));
        }
        for text in [
            "",
            "9100",
            ":9100",
            "127.0.0.1",
            "example.org:80",
            "unix:q.sock",
            "http://127.0.0.1:1",
            "1.2.3.4:99999",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
