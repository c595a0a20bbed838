//! `log`: each event is a line of the log.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ListenerContext, ListenerSpec};
use crate::error::Result;
use crate::events::{Answer, Event, Listener};
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "log",
    about: "writes each event to the log",
    example: "log: {}",
    short: None,
    parse,
};

struct Log {
    with_body: bool,
}

fn parse(mut settings: Settings, _: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let with_body = settings.boolean(&["body"])?.unwrap_or(false);
    settings.finish()?;
    Ok(Arc::new(Log { with_body }))
}

#[async_trait]
impl Listener for Log {
    async fn hear(&self, event: &Event<'_>) -> Result<Answer> {
        let mut json = event.to_json();
        if let Some(object) = json.as_object_mut()
            && !self.with_body
        {
            for key in ["body", "body_base64", "output"] {
                object.remove(key);
            }
        }
        tracing::info!(event = event.kind.name(), "{json}");
        Ok(Answer::Go)
    }
}
