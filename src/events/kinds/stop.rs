//! `stop`: ends the consumer when a condition holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{ListenerContext, ListenerSpec};
use crate::error::Result;
use crate::events::{Answer, Event, Listener};
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "stop",
    about: "ends the consumer after so many events, or when a file is there",
    example: "stop: { after: 10 }",
    short: Some("after"),
    parse,
};

struct Stop {
    after: Option<u64>,
    file: Option<PathBuf>,
    heard: AtomicU64,
}

fn parse(mut settings: Settings, _: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let after = settings.count_within(&["after"], 1, u64::MAX)?;
    let file = settings.file_path(&["file"])?;
    settings.check_unknown()?;
    if after.is_none() && file.is_none() {
        return Err(settings.missing(
            "after",
            "the number of events, or `file`, a file whose being there is the sign",
        ));
    }
    Ok(Arc::new(Stop {
        after,
        file,
        heard: AtomicU64::new(0),
    }))
}

#[async_trait]
impl Listener for Stop {
    async fn hear(&self, _: &Event<'_>) -> Result<Answer> {
        let heard = self.heard.fetch_add(1, Ordering::Relaxed) + 1;
        let enough = self.after.is_some_and(|after| heard >= after);
        let is_there = self.file.as_ref().is_some_and(|file| file.exists());
        Ok(if enough || is_there { Answer::Stop } else { Answer::Go })
    }
}
