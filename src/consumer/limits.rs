//! The limits that end a consumer, while it works, waits or is blocked.

use std::sync::Arc;
use std::time::Duration;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::time::Instant;

use super::{Handler, Limits};

/// How often the memory is looked at.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);

/// Knows when which limit is reached.
pub(super) struct Watchman {
    started: Instant,
    last_message: Instant,
    limits: Limits,
    memory: Option<Memory>,
}

struct Memory {
    limit: u64,
    system: System,
    process: sysinfo::Pid,
    /// What it keeps counts too.
    handler: Arc<dyn Handler>,
    next: Instant,
}

impl Watchman {
    pub(super) fn new(limits: &Limits, handler: &Arc<dyn Handler>) -> Self {
        let now = Instant::now();
        let memory = limits.memory.and_then(|limit| {
            let process = sysinfo::get_current_pid().ok()?;
            Some(Memory {
                limit,
                system: System::new().ok()?,
                process,
                handler: Arc::clone(handler),
                next: now,
            })
        });
        Self {
            started: now,
            last_message: now,
            limits: limits.clone(),
            memory,
        }
    }

    /// A message is begun.
    pub(super) fn message(&mut self) {
        self.last_message = Instant::now();
    }

    /// How long no message was begun.
    pub(super) fn idle_for(&self) -> Duration {
        self.last_message.elapsed()
    }

    /// The limit that is reached, as `name value`.
    pub(super) fn reached(&mut self, idle: bool) -> Option<String> {
        let now = Instant::now();
        if let Some(limit) = self.limits.time
            && now - self.started >= limit
        {
            return Some(format!("time {}", seconds(limit)));
        }
        if let Some(limit) = self.limits.idle
            && idle
            && now - self.last_message >= limit
        {
            return Some(format!("idle {}", seconds(limit)));
        }
        if !idle {
            // Idle time counts from the end of the work, not from its beginning.
            self.last_message = now;
        }
        let memory = self.memory.as_mut()?;
        if now < memory.next {
            return None;
        }
        memory.next = now + LOOK_AT_MEMORY;
        memory.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[memory.process]),
            false,
            ProcessRefreshKind::nothing().with_memory().without_tasks(),
        );
        let used = memory.system.process(memory.process)?.memory() + memory.handler.memory();
        (used >= memory.limit).then(|| format!("memory {} MB (uses {} MB)", memory.limit >> 20, used >> 20))
    }

    /// When to look next, if only time passes.
    pub(super) fn next_look(&self) -> Option<Instant> {
        [
            self.limits.time.map(|limit| self.started + limit),
            self.limits.idle.map(|limit| self.last_message + limit),
            self.memory.as_ref().map(|memory| memory.next),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
