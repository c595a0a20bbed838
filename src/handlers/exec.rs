//! The handler `exec`: one fixed program, any body. The body is its standard input; what is known of the message is in
//! `QCTL_*` variables.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::children::{Children, DEFAULT_TIMEOUT, Launcher, child_output};
use super::facts::Facts;
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::Result;
use crate::process::ChildOutput;
use crate::queue::Lifeline;
use crate::settings::Settings;

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "exec",
    about: "runs one fixed program a message: the body on its standard input, the properties in QCTL_* variables",
    example: "exec: { run: [cat] }",
    parse,
};

/// The keys of `exec`.
#[derive(Clone, Debug)]
pub struct ExecSettings {
    /// Where they stand, such as `consumers.mail.handler.exec`.
    pub place: String,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// How long it may run; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Where its output goes.
    pub output: ChildOutput,
}

/// Runs one fixed program a message.
#[derive(Debug)]
pub struct Exec {
    launcher: Launcher,
    children: Children,
}

impl Exec {
    /// A handler with these keys.
    pub fn new(settings: ExecSettings, context: &HandlerContext) -> Self {
        let key = format!("{}.run", settings.place);
        Self {
            launcher: Launcher::new(key, settings.run, &settings.env, settings.cwd),
            children: Children::new(context, settings.timeout, settings.output),
        }
    }
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let run = settings.command_line(&["run"])?;
    let timeout = settings.limit_duration(&["timeout"])?.unwrap_or(Some(DEFAULT_TIMEOUT));
    let env = super::environment(&mut settings)?;
    let cwd = settings.file_path(&["cwd"])?;
    let output = child_output(&mut settings)?;
    settings.check_unknown()?;
    let Some(run) = run else {
        return Err(settings.missing("run", "the program and its arguments, such as `run: [cat]`"));
    };
    let parsed = ExecSettings {
        place: settings.path(),
        run,
        timeout,
        env,
        cwd,
        output,
    };
    Ok(Arc::new(Exec::new(parsed, context)))
}

#[async_trait]
impl Handler for Exec {
    fn longest_call(&self) -> Option<Duration> {
        self.children.timeout()
    }

    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.launcher.check()?;
        self.children.prepare(lifeline).await
    }

    async fn handle(&self, mut call: Call) -> Outcome {
        let facts = Facts::of(&call).with_json(&call);
        let body = std::mem::take(&mut call.message.body);
        self.children.run(&self.launcher, Vec::new(), body, &facts, &call).await
    }

    async fn finish(&self) {
        self.children.finish().await;
    }
}
