//! The handler `exec`: one fixed program, any body. As a process for each message it has the body on its standard input, or
//! where else it is said, and what is known of the message in `QCTL_*` variables; as persistent workers it has both in a
//! request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::body::{BodyWay, Given};
use super::children::{Children, DEFAULT_TIMEOUT, child_output};
use super::facts::Facts;
use super::workers::Workers;
use super::{HandlerContext, HandlerSpec, Mode};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::Result;
use crate::process::ChildOutput;
use crate::queue::Lifeline;
use crate::residents::{Launcher, WorkerSettings};
use crate::settings::Settings;
use crate::wire::message::Body;

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "exec",
    about: "gives the body to one fixed program: a process for each message, or persistent workers",
    example: "exec: { run: [cat] }",
    parse,
};

/// The method of a request that holds a body.
const METHOD: &str = "handle";

/// The keys of `exec`.
#[derive(Clone, Debug)]
pub struct ExecSettings {
    /// Where they stand, such as `consumers.mail.handler.exec`.
    pub place: String,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// A process for each message, or persistent workers.
    pub mode: Mode,
    /// How long a message may take; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Where its output goes.
    pub output: ChildOutput,
    /// How a process is given the body.
    pub body: BodyWay,
    /// The persistent workers.
    pub workers: WorkerSettings,
}

/// Gives the body to one fixed program.
#[derive(Debug)]
pub struct Exec(Way);

#[derive(Debug)]
enum Way {
    Process {
        launcher: Launcher,
        children: Children,
        body: BodyWay,
    },
    Workers(Workers),
}

impl Exec {
    /// A handler with these keys.
    pub fn new(settings: ExecSettings, context: &HandlerContext) -> Self {
        let key = format!("{}.run", settings.place);
        let launcher = Launcher::new(key, settings.run, &settings.env, settings.cwd);
        Self(match settings.mode {
            Mode::Process => Way::Process {
                launcher,
                children: Children::new(context, settings.timeout, settings.output),
                body: settings.body,
            },
            Mode::Worker => Way::Workers(Workers::new(
                context,
                launcher,
                settings.workers,
                settings.timeout,
                settings.place,
            )),
        })
    }
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let run = settings.command_line(&["run"])?;
    let mode = Mode::read(&mut settings)?;
    let timeout = settings.limit_duration(&["timeout"])?.unwrap_or(Some(DEFAULT_TIMEOUT));
    let env = super::environment(&mut settings)?;
    let cwd = settings.file_path(&["cwd"])?;
    let output = child_output(&mut settings)?;
    let body = BodyWay::read(&mut settings)?;
    let workers = WorkerSettings::read(&mut settings)?;
    settings.check_unknown()?;
    let Some(run) = run else {
        return Err(settings.missing("run", "the program and its arguments, such as `run: [cat]`"));
    };
    let parsed = ExecSettings {
        place: settings.path(),
        run,
        mode,
        timeout,
        env,
        cwd,
        output,
        body,
        workers,
    };
    Ok(Arc::new(Exec::new(parsed, context)))
}

#[async_trait]
impl Handler for Exec {
    fn longest_call(&self) -> Option<Duration> {
        match &self.0 {
            Way::Process { children, .. } => children.timeout(),
            Way::Workers(workers) => workers.timeout(),
        }
    }

    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        match &self.0 {
            Way::Process { launcher, children, .. } => {
                launcher.check()?;
                children.prepare(lifeline).await
            }
            Way::Workers(workers) => {
                workers.prepare(lifeline).await?;
                workers.start();
                Ok(())
            }
        }
    }

    fn memory(&self) -> u64 {
        match &self.0 {
            Way::Process { .. } => 0,
            Way::Workers(workers) => workers.memory(),
        }
    }

    async fn handle(&self, mut call: Call) -> Outcome {
        match &self.0 {
            Way::Process {
                launcher,
                children,
                body,
            } => {
                let mut facts = Facts::of(&call).with_json(&call);
                let bytes = std::mem::take(&mut call.message.body);
                let given = match body.give(bytes).await {
                    Ok(given) => given,
                    Err(outcome) => return outcome,
                };
                let Given { input, arguments, file } = given;
                if let Some(file) = &file {
                    facts.add("QCTL_BODY_FILE", Some(file.path().to_string_lossy().into_owned()));
                }
                // The file is removed when the child has ended.
                children.run(launcher, arguments, input, &facts, &call).await
            }
            Way::Workers(workers) => workers.call(METHOD, &Body::of(&call.message.body), &call).await,
        }
    }

    async fn finish(&self) {
        match &self.0 {
            Way::Process { children, .. } => children.finish().await,
            Way::Workers(workers) => workers.finish().await,
        }
    }
}
