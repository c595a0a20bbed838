//! What can go wrong, in one type: a kind for the machine, a sentence for the person, and the exit code that both share.
//!
//! Sentences are lower case, name the thing and end with the next step. They never hold a secret.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error decides the exit code and whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Anything that has no better kind.
    General,
    /// The command line is wrong.
    Usage,
    /// Some of many items were done and some were not.
    Partial,
    /// This driver or broker cannot do it.
    Unsupported,
    /// A message body, file or value that does not have the right form.
    BadInput,
    /// No queue, producer, consumer, connection or message of that name.
    NotFound,
    /// A message that no queue would receive.
    Unroutable,
    /// The broker or the store cannot be reached.
    Unavailable,
    /// A mistake in qctl itself.
    Bug,
    /// A handler's program is missing or cannot be run.
    WorkerFault,
    /// It may work later: a full queue, a locked store, a full disk.
    Temporary,
    /// The other side does not keep to the protocol, or the store file is damaged.
    Protocol,
    /// Not allowed by the configuration or by the system.
    NotAllowed,
    /// The configuration is wrong.
    Config,
    /// A delivery that is no longer ours to settle: its message will be delivered again.
    DeliveryLost,
    /// The user asked to stop twice.
    Interrupted,
}

impl ErrorKind {
    /// The process exit code for this kind (README, "Exit codes").
    pub fn exit_code(self) -> u8 {
        match self {
            Self::General => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Unsupported => 64,
            Self::BadInput => 65,
            Self::NotFound | Self::Unroutable => 66,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::WorkerFault => 72,
            Self::Temporary | Self::DeliveryLost => 75,
            Self::Protocol => 76,
            Self::NotAllowed => 77,
            Self::Config => 78,
            Self::Interrupted => 130,
        }
    }

    /// The kind's name in JSON errors and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::Unsupported => "unsupported",
            Self::BadInput => "bad_input",
            Self::NotFound => "not_found",
            Self::Unroutable => "unroutable",
            Self::Unavailable => "unavailable",
            Self::Bug => "bug",
            Self::WorkerFault => "worker_fault",
            Self::Temporary => "temporary",
            Self::Protocol => "protocol",
            Self::NotAllowed => "not_allowed",
            Self::Config => "config",
            Self::DeliveryLost => "delivery_lost",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the same call may succeed later with nothing changed by hand.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Temporary | Self::DeliveryLost)
    }
}

/// An error: its kind, its sentence and, where there is one, what caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind with this sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its cause attached; the cause's text follows the sentence when printed.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, its sentence preceded by `place: `.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// `what` (a path, mostly) could not be written: the reason decides whether waiting, another user or another name helps.
    pub fn unwritable(what: impl fmt::Display, reason: io::Error) -> Self {
        use io::ErrorKind as Io;
        let (kind, next) = match reason.kind() {
            Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Temporary, "make room, then try again"),
            Io::OutOfMemory | Io::ResourceBusy | Io::WouldBlock | Io::TimedOut | Io::Interrupted => {
                (ErrorKind::Temporary, "try again")
            }
            Io::PermissionDenied | Io::ReadOnlyFilesystem => {
                (ErrorKind::NotAllowed, "name a file that this user may write")
            }
            _ => (ErrorKind::BadInput, "name another file"),
        };
        Self::new(kind, format!("{what} cannot be written; {next}")).because(reason)
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence without its causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }

    /// A copy to hand to every waiter of a shared failure; causes are flattened into the sentence.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::new(self.kind, self.to_string())
    }
}

/// The sentence and, after colons, its causes, on one line.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut next = self.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        while let Some(cause) = next {
            write!(f, ": {}", cause.to_string().replace('\n', " "))?;
            next = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(ErrorKind::$kind, message) })*
        }
    };
}

constructors! {
    /// [`ErrorKind::General`]
    general => General;
    /// [`ErrorKind::Usage`]
    usage => Usage;
    /// [`ErrorKind::Unsupported`]
    unsupported => Unsupported;
    /// [`ErrorKind::BadInput`]
    bad_input => BadInput;
    /// [`ErrorKind::NotFound`]
    not_found => NotFound;
    /// [`ErrorKind::Unavailable`]
    unavailable => Unavailable;
    /// [`ErrorKind::Bug`]
    bug => Bug;
    /// [`ErrorKind::Temporary`]
    temporary => Temporary;
    /// [`ErrorKind::Protocol`]
    protocol => Protocol;
    /// [`ErrorKind::NotAllowed`]
    not_allowed => NotAllowed;
    /// [`ErrorKind::Config`]
    config => Config;
    /// [`ErrorKind::WorkerFault`]
    worker_fault => WorkerFault;
    /// [`ErrorKind::DeliveryLost`]
    delivery_lost => DeliveryLost;
}
