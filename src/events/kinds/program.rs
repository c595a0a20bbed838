//! `program`: one program that lives on and is asked about each event, by the protocol of persistent workers.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{ListenerContext, ListenerSpec, ProgramKeys};
use crate::error::{Error, Result};
use crate::events::{Answer, Event, Listener};
use crate::queue::Lifeline;
use crate::residents::{Launcher, Patience, Residents, Told, WorkerSettings};
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "program",
    about: "asks one program that lives on (JSON-RPC lines, docs/workers.md): the method is the event's name",
    example: "program: { run: [python3, listen.py] }",
    short: Some("run"),
    parse,
};

/// So many events are told at once.
const AT_ONCE: usize = 16;

struct Program(Residents);

fn parse(mut settings: Settings, context: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let keys = ProgramKeys::read(&mut settings, "run")?;
    settings.check_unknown()?;
    let launcher = Launcher::new(format!("{}.run", settings.path()), keys.run, &keys.env, keys.cwd);
    let one = WorkerSettings {
        processes: Some(1),
        ..WorkerSettings::default()
    };
    Ok(Arc::new(Program(Residents::new(
        context.place.clone(),
        launcher,
        Arc::clone(&context.guard),
        one,
        None,
        AT_ONCE,
    ))))
}

#[async_trait]
impl Listener for Program {
    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.0.prepare(lifeline).await
    }

    async fn hear(&self, event: &Event<'_>) -> Result<Answer> {
        // Whoever does not wait any longer drops this, and the program is replaced.
        let patience = Patience {
            cancel: &CancellationToken::new(),
            begin_within: None,
        };
        let none: Option<&RawValue> = None;
        let told = self
            .0
            .ask(event.kind.name(), &event.to_json(), &none, patience)
            .await
            .map_err(|error| Error::bug(format!("an event has no JSON form: {error}")))?;
        match told {
            Told::Answer(Ok(result)) => {
                let word = serde_json::from_str::<String>(&result).unwrap_or_default();
                Answer::named(&word).ok_or_else(|| {
                    Error::temporary(format!(
                        "the program answers {:?}; it can answer \"go\", \"swallow\" or \"stop\"",
                        word.chars().take(40).collect::<String>()
                    ))
                })
            }
            Told::Answer(Err(error)) => Err(Error::temporary(format!(
                "the program says: {}",
                error.message.escape_debug()
            ))),
            Told::Died(death) => Err(Error::temporary(death.reason)),
            Told::TimedOut { .. } | Told::Cancelled => Err(Error::temporary("the program was ended")),
            Told::Fault(reason) => Err(Error::temporary(reason)),
        }
    }

    async fn finish(&self) {
        self.0.finish().await;
    }
}
