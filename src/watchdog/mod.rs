//! The watchdog: workers that stay alive.
//!
//! Each instance of a worker has a [`keeper`], a small process that is its parent. Looking after all of them
//! ([`Site::check`]) only makes keepers exist and agree with the configuration, so it is done in no time and can be done by
//! anyone at any moment: crontab, a deploy, an operator, [`run`](run()).
//!
//! Who keeps an instance holds its lock, which ends with the process. A process is signalled only if its
//! number, its start time and the life of the system are those that were written down.

mod audience;
pub mod beat;
mod change;
mod check;
mod decision;
mod files;
mod finding;
mod folder;
pub mod keeper;
mod marks;
mod plan;
mod record;
mod run;
mod signals;
mod site;
mod status;
mod verdict;
mod watched;

pub use audience::{Audience, Notifying, SUBCOMMAND as NOTIFY, wait_in_line};
pub use change::{Asking, Progress};
pub use finding::{Finding, Severity};
pub use folder::{Folder, InstanceId, wrong_with_name};
pub use plan::{STOP_WITHIN, Spec, Talk};
pub use record::LastEnd;
pub use run::{Load, Loaded, run};
pub use site::{Site, Wanted};
pub use status::Status;
pub use verdict::Backoff;
