//! Child processes: spawned without a shell, in groups of their own, their output captured in bounded memory, and ended
//! whole. No async runtime is needed here.
//!
//! - [`Program`]: what is to be run, found in `PATH` and with a complete environment ([`Environment`]), before any spawn.
//! - [`Runner`]: runs one [`Job`] to its end on the calling thread. [`Pool`]: a fixed number of threads that do so.
//! - [`Guardian`]: the companion process that ends the children of a consumer that was killed. [`end_marked`] does the same
//!   for whoever takes over a dead consumer's messages.
//!
//! - [`Service`]: a program that runs by itself, in a session of its own, as another user, with limits. [`Identity`]: a
//!   process told from a later one with its number.
//!
//! qctl never raises its own limit of open files, so there is none to lower for a child.

mod cancel;
mod capture;
mod environment;
pub mod guardian;
mod identity;
mod ignore;
mod leash;
mod marked;
mod output;
mod pool;
mod run;
mod service;
mod signals;
mod spawn;
mod stat;

pub use cancel::Cancel;
pub use capture::{Captured, TAIL_LIMIT};
pub(crate) use capture::{Lines, Tail};
pub use environment::{DEFAULT_PATH, Environment, OWNER};
pub use guardian::Guardian;
pub use identity::{Found, Identity, Life};
pub use marked::{Sweep, end_marked};
pub use output::{LineSink, Stream};
pub use pool::{Pool, Running};
pub use run::{ChildOutput, Ended, GRACE, Job, Runner, Stopped};
pub use service::{Account, Limit, Service, close_inherited};
pub use signals::{is_ignored, signal_name, signal_number};
pub use spawn::{Program, SpawnError};
pub use stat::{Stat, all_pids, environment_of, uptime, user_of};
