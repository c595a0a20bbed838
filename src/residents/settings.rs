//! How many residents there are, and when one is replaced.

use std::time::Duration;

use crate::error::Result;
use crate::settings::Settings;

/// A worker that has not said within this time that it is ready is started anew.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// So many requests are written ahead of a quick worker.
const PIPELINE: u64 = 16;
/// How much of what a worker may do before it is replaced is left to chance, so that not all are replaced at once.
const JITTER: f64 = 0.1;

/// The keys of persistent workers.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSettings {
    /// So many processes; `None`: one for each message that is handled at once.
    pub processes: Option<usize>,
    /// At most so many requests are written to a worker before it has answered those that it works on.
    pub pipeline: usize,
    /// How long a worker may take to be ready.
    pub start_timeout: Duration,
    /// When a worker is replaced by a new one.
    pub recycle: Recycle,
}

/// When a worker is replaced by a new one. `None`: never for that.
#[derive(Clone, Debug, PartialEq)]
pub struct Recycle {
    /// After so many messages.
    pub messages: Option<u64>,
    /// After this time.
    pub time: Option<Duration>,
    /// When its memory, with that of its own children, passes so many bytes.
    pub memory: Option<u64>,
    /// Each limit is lowered by up to this share of it, at random.
    pub jitter: f64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            processes: None,
            pipeline: PIPELINE as usize,
            start_timeout: START_TIMEOUT,
            recycle: Recycle {
                messages: None,
                time: None,
                memory: None,
                jitter: JITTER,
            },
        }
    }
}

impl WorkerSettings {
    /// Reads `workers`, `pipeline`, `start_timeout` and `recycle`.
    pub fn read(settings: &mut Settings) -> Result<Self> {
        let default = Self::default();
        let processes = settings.count_within(&["workers"], 1, 1000)?;
        let pipeline = settings.count_within(&["pipeline"], 1, 1000)?;
        let start_timeout = settings.duration(&["start_timeout"])?;
        let mut recycle = default.recycle;
        if let Some(mut keys) = settings.map(&["recycle"])? {
            recycle.messages = keys.count(&["messages"])?.filter(|count| *count > 0);
            recycle.time = keys.limit_duration(&["time"])?.flatten().filter(|time| !time.is_zero());
            recycle.memory = keys.size(&["memory"])?.filter(|size| *size > 0);
            if let Some(setting) = keys.setting(&["jitter"])? {
                recycle.jitter = setting.share()?;
            }
            keys.finish()?;
        }
        Ok(Self {
            processes: processes.map(|count| count as usize),
            // One is written and none ahead of it, unless more is said.
            pipeline: pipeline.map_or(default.pipeline, |count| count as usize - 1),
            start_timeout: start_timeout.unwrap_or(default.start_timeout),
            recycle,
        })
    }
}
