//! The contract every driver keeps: messages, deliveries, settlement, topology, capabilities, and the rules.
//!
//! # The driver rules
//!
//! Each rule is a conformance test of the same name (`tests/conformance`) that runs against every driver in the table
//! and asserts the value which the driver's [`Capabilities`] declare.
//!
//! 1. `publish` returns only when the broker has taken responsibility (a commit, a confirm, a receipt). Where the broker
//!    can tell ([`Capabilities::unroutable`]), an unroutable message is an error, never a silent success.
//! 2. Taking the next delivery is cancel-safe: dropping the future loses nothing.
//! 3. A delivery dropped unsettled comes back: at once on a clean close, and within [`Capabilities::crash_return`] after
//!    the process was killed.
//! 4. Settling after the delivery is no longer ours is [`ErrorKind::DeliveryLost`](crate::ErrorKind), never success.
//! 5. At most `prefetch` unsettled deliveries are out.
//! 6. Body bytes and headers come back byte for byte, or `publish` refuses before sending.
//! 7. What the capabilities deny returns `Unsupported` naming the driver, before any effect. So does a native argument of a
//!    queue or an exchange that the driver does not know; [`Connector::check`] refuses it without connecting.
//! 8. Order is first in, first out for equal priority until the first retry, release or second slot; higher priority first
//!    where supported. Expired messages are counted and dead-lettered where there is a target; a retry never extends a ttl.
//! 9. A retry never spins: it is delayed, natively where the driver can.
//! 10. A message that kills its consumer is found out: deliveries are counted where that survives the death, and what a
//!     dead consumer had started is next handed out alone. A queue whose broker would give a message up before its consumer
//!     does, or give it up to nowhere, is not consumed.

pub mod admin;
pub mod capabilities;
pub mod delivery;
pub mod driver;
pub mod message;
pub mod topology;

pub use admin::{
    ConsumerInfo, Delete, LookPrice, Maintenance, MaintenanceReport, Peek, PeekState, Peeked, Purge, QueueInfo,
    Redrive, RedriveReport, Selection,
};
pub use capabilities::Capabilities;
pub use delivery::{DeadLetter, Delivery, Lifeline, Settlement, Ticket};
pub use driver::{
    ConnectOptions, Connection, Connector, ConsumeOptions, DriverSpec, EndMarked, Publication, PublishFailure, Settle,
    Subscription,
};
pub use message::{HeaderValue, Headers, Message};
pub use topology::{Binding, Exchange, ExchangeKind, Queue, Topology};
