//! The handler `elsewhere`: messages are taken by a program that is not qctl. The queue is known, declared and shown, and a
//! consumer of qctl's own refuses to start.

use std::sync::Arc;

use async_trait::async_trait;

use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::Result;
use crate::settings::{Setting, Settings};

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "elsewhere",
    about: "the messages are taken by another program: qctl knows the queue, and its own consumer refuses to start",
    example: "elsewhere: { by: the billing application }",
    parse,
};

/// Refuses to take messages.
#[derive(Debug)]
pub struct Elsewhere {
    /// Where it is configured, for the refusal.
    setting: Setting,
    /// Who takes them, in words.
    by: Option<String>,
}

fn parse(mut settings: Settings, _: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let by = settings.text(&["by"])?;
    let setting = settings.to_setting();
    settings.finish()?;
    Ok(Arc::new(Elsewhere { setting, by }))
}

#[async_trait]
impl Handler for Elsewhere {
    fn check(&self) -> Result<()> {
        let by = self.by.as_deref().unwrap_or("another program");
        Err(self.setting.error(format!(
            "the messages are taken by {}, which qctl cannot run; to take them with qctl, give this consumer a handler such as \
             `handler: {{ exec: {{ run: [PROGRAM] }} }}`",
            by.replace(char::is_control, " ")
        )))
    }

    async fn handle(&self, _: Call) -> Outcome {
        Outcome::WorkerFault("the messages are taken by another program".to_owned())
    }
}
