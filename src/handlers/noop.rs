//! The handler `noop`: every message is done at once. For drills and measurements.

use std::sync::Arc;

use async_trait::async_trait;

use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome, Report};
use crate::error::Result;
use crate::settings::Settings;

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "noop",
    about: "does nothing: every message is done at once",
    example: "noop: {}",
    parse,
};

/// Takes every message for done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

fn parse(settings: Settings, _: &HandlerContext) -> Result<Arc<dyn Handler>> {
    settings.finish()?;
    Ok(Arc::new(Noop))
}

#[async_trait]
impl Handler for Noop {
    fn in_process(&self) -> bool {
        true
    }

    async fn handle(&self, _: Call) -> Outcome {
        Outcome::Done(Report::default())
    }
}
