//! From names to addresses that may be connected to.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Semaphore, oneshot};

use super::fence::refused_address;
use super::ranges::Private;

/// So many names are looked up at once.
const AT_ONCE: usize = 16;

/// Who knows the addresses of a name. It may block.
pub(super) type LookUp = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Asks the system.
pub(super) fn by_system() -> LookUp {
    Arc::new(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
}

/// Looks names up for the client, which connects to nothing else than what it is given here.
#[derive(Clone)]
pub(super) struct Fenced {
    private: Arc<Private>,
    look_up: LookUp,
    places: Arc<Semaphore>,
}

/// Why a name led to no address.
#[derive(Debug)]
pub(super) enum NoAddress {
    /// It leads to one that is not to be connected to.
    Refused(String),
    /// It is not known, or nobody answered.
    Unknown(String),
    /// The machine has no room for the question.
    NoRoom(io::Error),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::Unknown(reason) => f.write_str(reason),
            Self::NoRoom(error) => write!(f, "no thread can be had to look a name up: {error}"),
        }
    }
}

impl Error for NoAddress {}

impl Fenced {
    pub(super) fn new(private: Private, look_up: LookUp) -> Self {
        Self {
            private: Arc::new(private),
            look_up,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// One private address among several is enough to refuse: which of them is taken is not for the name's owner to choose.
    async fn addresses(self, name: String) -> Result<Vec<IpAddr>, NoAddress> {
        let place = self.places.acquire_owned().await;
        let (tell, told) = oneshot::channel();
        let look_up = Arc::clone(&self.look_up);
        let asked = name.clone();
        // A thread of its own: nobody has to wait for it at the end, however long a name server is silent.
        thread::Builder::new()
            .name("qctl-lookup".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || {
                // Where nobody waits any more, nobody is told.
                let _ = tell.send(look_up(&asked));
                drop(place);
            })
            .map_err(NoAddress::NoRoom)?;
        let unknown = |error: &dyn fmt::Display| NoAddress::Unknown(format!("the name {name} is not known: {error}"));
        let found = told
            .await
            .map_err(|error| unknown(&error))?
            .map_err(|error| unknown(&error))?;
        if let Some(address) = found.iter().find(|address| !self.private.allows(**address)) {
            return Err(NoAddress::Refused(refused_address(&name, *address)));
        }
        if found.is_empty() {
            return Err(unknown(&"it has no address"));
        }
        Ok(found)
    }
}

impl Resolve for Fenced {
    fn resolve(&self, name: Name) -> Resolving {
        let fenced = self.clone();
        Box::pin(async move {
            let found = fenced.addresses(name.as_str().to_owned()).await?;
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
