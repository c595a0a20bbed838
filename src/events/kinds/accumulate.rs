//! `accumulate`: each event is a line of JSON at the end of a file, with the answer of the handler.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{ListenerContext, ListenerSpec};
use crate::error::{Error, Result};
use crate::events::{Answer, Event, Listener};
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "accumulate",
    about: "appends each event to a file, a line of JSON each, with the handler's answer",
    example: "accumulate: { file: events.jsonl }",
    short: Some("file"),
    parse,
};

struct Accumulate {
    path: PathBuf,
}

fn parse(mut settings: Settings, _: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let path = settings.file_path(&["file"])?;
    settings.check_unknown()?;
    let Some(path) = path else {
        return Err(settings.missing("file", "the file that events are appended to"));
    };
    Ok(Arc::new(Accumulate { path }))
}

#[async_trait]
impl Listener for Accumulate {
    async fn hear(&self, event: &Event<'_>) -> Result<Answer> {
        let line = format!("{}\n", event.to_json());
        // Opened for each event, so that one that was moved away by a log rotation is made anew. It holds bodies, so it is
        // its owner's alone.
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path);
        // In one call, so that lines of several writers do not mix.
        match opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            Ok(()) => Ok(Answer::Go),
            Err(error) => Err(Error::temporary(format!("cannot append to {}", self.path.display())).because(error)),
        }
    }

    fn wants_output(&self) -> bool {
        true
    }
}
