//! `run`: a program for each event. It reads the event as JSON, and its last line is the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{ListenerContext, ListenerSpec, ProgramKeys};
use crate::error::{Error, Result};
use crate::events::{Answer, Event, Listener};
use crate::process::{GRACE, Job, OWNER, Pool, signal_name};
use crate::queue::Lifeline;
use crate::residents::{Guard, Launcher};
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "run",
    about: "runs a program for each event: the event as JSON on its standard input; `swallow` or `stop` as its last line is an answer",
    example: "run: { run: [cat] }",
    short: Some("run"),
    parse,
};

/// So many run at once.
const AT_ONCE: usize = 4;
/// So much of what it prints is read for the answer.
const KEPT: usize = 64 << 10;
/// Whoever does not wait so long has dropped it before, which ends it.
const AT_MOST: Duration = Duration::from_hours(1);

struct Run {
    launcher: Launcher,
    guard: Arc<Guard>,
    /// Made when it is first needed: most processes hear of nothing.
    pool: Mutex<Option<Arc<Pool>>>,
}

fn parse(mut settings: Settings, context: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let keys = ProgramKeys::read(&mut settings, "run")?;
    settings.check_unknown()?;
    Ok(Arc::new(Run {
        launcher: Launcher::new(format!("{}.run", settings.path()), keys.run, &keys.env, keys.cwd),
        guard: Arc::clone(&context.guard),
        pool: Mutex::default(),
    }))
}

impl Run {
    fn pool(&self) -> Arc<Pool> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pool.get_or_insert_with(|| Arc::new(Pool::new("qctl-listener", AT_ONCE))))
    }
}

#[async_trait]
impl Listener for Run {
    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.launcher.check()?;
        self.guard.prepare(lifeline).await
    }

    async fn hear(&self, event: &Event<'_>) -> Result<Answer> {
        let mut program = self
            .launcher
            .program()
            .map_err(|error| Error::temporary(self.launcher.fault(&error)))?;
        let guardian = self.guard.current();
        if let Some(guardian) = &guardian {
            program.env.set(OWNER, guardian.token());
        }
        program.env.set("QCTL_EVENT", event.kind.name());
        let job = Job {
            input: format!("{}\n", event.to_json()).into_bytes(),
            timeout: Some(AT_MOST),
            grace: GRACE,
            keep: KEPT,
            guardian,
            ..Job::new(program)
        };
        let ended = self
            .pool()
            .submit(job)
            .await
            .map_err(|error| Error::temporary(error.to_string()))?;
        let last = ended.stderr_tail.lines().last().unwrap_or_default().to_owned();
        let saying = if last.is_empty() {
            String::new()
        } else {
            format!(", saying: {last}")
        };
        match (ended.exit_code, ended.signal) {
            (Some(0), _) => {}
            (Some(code), _) => return Err(Error::temporary(format!("the program exited with code {code}{saying}"))),
            (None, signal) => {
                let signal = signal.map_or("a signal".into(), signal_name);
                return Err(Error::temporary(format!("the program was ended by {signal}{saying}")));
            }
        }
        let printed = String::from_utf8_lossy(&ended.stdout.bytes);
        let last = printed.lines().map(str::trim).rfind(|line| !line.is_empty());
        // What else it prints is its own affair.
        Ok(last.and_then(Answer::named).unwrap_or_default())
    }
}
