//! `stopwatch`: tells how long so many events took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::{ListenerContext, ListenerSpec};
use crate::error::Result;
use crate::events::{Answer, Event, Listener};
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "stopwatch",
    about: "tells how long so many events took, again and again",
    example: "stopwatch: { every: 1000 }",
    short: Some("every"),
    parse,
};

/// So many, unless it is said otherwise: as it was in the Kaliop bundle.
const EVERY: u64 = 10;

struct Stopwatch {
    every: u64,
    running: Mutex<Option<(Instant, u64)>>,
}

fn parse(mut settings: Settings, _: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let every = settings.count_within(&["every"], 1, u64::MAX)?.unwrap_or(EVERY);
    settings.finish()?;
    Ok(Arc::new(Stopwatch {
        every,
        running: Mutex::default(),
    }))
}

#[async_trait]
impl Listener for Stopwatch {
    async fn hear(&self, _: &Event<'_>) -> Result<Answer> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = running.get_or_insert_with(|| (Instant::now(), 0));
        *count += 1;
        if *count >= self.every {
            let seconds = since.elapsed().as_secs_f64();
            let rate = self.every as f64 / seconds.max(1e-9);
            tracing::info!(
                "Time spent to receive {} messages: {seconds:.3} secs ({rate:.0} m/s)",
                self.every
            );
            *running = None;
        }
        Ok(Answer::Go)
    }
}
