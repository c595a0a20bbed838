//! What is found of instances, in words.

use super::folder::InstanceId;
use super::record::{Record, State, boot_now};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Fine,
    /// Something was done, or is under way.
    Mended,
    /// It failed and will be started again.
    Backoff,
    /// Its configuration is wrong.
    Config,
}

/// What was found of an instance, and done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The instance.
    pub id: InstanceId,
    /// How bad it is.
    pub severity: Severity,
    /// In words.
    pub text: String,
}

impl Finding {
    pub(super) fn new(id: &InstanceId, severity: Severity, text: String) -> Self {
        Self {
            id: id.clone(),
            severity,
            text,
        }
    }
}

/// What a record says, for a person.
pub(super) fn condition(record: &Record) -> (Severity, String) {
    let last = record.last.as_ref().map_or("", |last| last.reason.as_str());
    let left = record
        .next
        .map_or(0, |next| next.saturating_sub(boot_now()).div_ceil(1000));
    match record.state {
        State::Running | State::Starting => (
            Severity::Fine,
            format!("{} (pid {})", record.state.name(), pid_of(record)),
        ),
        State::Backoff => (
            Severity::Backoff,
            format!(
                "in backoff: {last}; failure {} in a row, started again in {left} s",
                record.failures
            ),
        ),
        State::Parked => (
            Severity::Config,
            format!("parked: {last}; tried again when its configuration has changed, or in {left} s"),
        ),
        State::Stopping => (Severity::Fine, "is being stopped".to_owned()),
        State::Stopped => (Severity::Fine, "stopped".to_owned()),
    }
}

pub(super) fn pid_of(record: &Record) -> String {
    record
        .worker
        .map_or_else(|| "-".to_owned(), |worker| worker.pid.to_string())
}
