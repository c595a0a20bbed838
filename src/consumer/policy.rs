//! When a failed message is tried again, and when it is given up: a pure decision.

use std::time::Duration;

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backoff {
    /// Twice as long each time.
    #[default]
    Exponential,
    /// As much longer each time.
    Linear,
    /// Always the same.
    Fixed,
}

/// The limits and waits of a consumer's retries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// So many attempts in all, then the message is dead-lettered.
    pub attempts: u32,
    /// So many deaths by a signal, then it is dead-lettered.
    pub signals: u32,
    /// So many deliveries (the consumer died under it), then it is dead-lettered; 0: no limit.
    pub deliveries: u32,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Each wait is shortened by up to this share of it, at random, so that what failed together does not return together.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            signals: 3,
            deliveries: 10,
            backoff: Backoff::Exponential,
            min: Duration::from_secs(1),
            max: Duration::from_mins(10),
            jitter: 0.2,
        }
    }
}
