//! The handler `service`: a message names a service, a method and its arguments; a persistent worker calls it, if it is allowed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use super::accept::ContentTypes;
use super::allow::Pattern;
use super::children::DEFAULT_TIMEOUT;
use super::workers::Workers;
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::Result;
use crate::queue::{Lifeline, Message};
use crate::residents::{Launcher, WorkerSettings};
use crate::settings::{Setting, Settings};
use crate::wire::json::Json;
use crate::wire::kaliop::ServiceCall;

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "service",
    about: "has a persistent worker call the service and method that the message names, if they are allowed",
    example: "service: { run: [php, worker.php], allow: { logger: [log] } }",
    parse,
};

/// No longer body is read.
const BODY_LIMIT: usize = 32 << 20;

/// The keys of `service`.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Where they stand, such as `consumers.mail.handler.service`.
    pub place: String,
    /// The workers' program and its arguments.
    pub run: Vec<String>,
    /// Services and their methods; nothing else is called.
    pub allow: Vec<AllowedService>,
    /// How long a call may take; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// The workers' working directory.
    pub cwd: Option<PathBuf>,
    /// The media types it takes.
    pub content_types: ContentTypes,
    /// The persistent workers.
    pub workers: WorkerSettings,
}

/// Services, and which of their methods may be called.
#[derive(Clone, Debug)]
pub struct AllowedService {
    /// The services.
    pub service: Pattern,
    /// Their methods.
    pub methods: Vec<Pattern>,
}

/// Has persistent workers call services.
#[derive(Debug)]
pub struct Service {
    allow: Vec<AllowedService>,
    content_types: ContentTypes,
    workers: Workers,
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let run = settings.command_line(&["run"])?;
    let allow = settings.entries(&["allow"])?;
    let timeout = settings.limit_duration(&["timeout"])?.unwrap_or(Some(DEFAULT_TIMEOUT));
    let env = super::environment(&mut settings)?;
    let cwd = settings.file_path(&["cwd"])?;
    let content_types = ContentTypes::read(&mut settings)?;
    let workers = WorkerSettings::read(&mut settings)?;
    settings.check_unknown()?;
    let Some(run) = run else {
        return Err(settings.missing(
            "run",
            "the program of the persistent workers, such as `run: [php, worker.php]` (docs/workers.md)",
        ));
    };
    let Some(allow) = allow else {
        return Err(settings.missing(
            "allow",
            "services and their methods, such as `allow: {logger: [log]}`; nothing else is called",
        ));
    };
    let allow = allow
        .iter()
        .map(|(service, methods)| allowed(service, methods))
        .collect::<Result<_>>()?;
    let parsed = ServiceSettings {
        place: settings.path(),
        run,
        allow,
        timeout,
        env,
        cwd,
        content_types,
        workers,
    };
    Ok(Arc::new(Service::new(parsed, context)))
}

fn allowed(service: &str, methods: &Setting) -> Result<AllowedService> {
    let pattern = |text: &str| Pattern::parse(text).map_err(|message| methods.error(message));
    Ok(AllowedService {
        service: pattern(service)?,
        methods: methods
            .texts()?
            .iter()
            .map(|text| pattern(text))
            .collect::<Result<_>>()?,
    })
}

impl Service {
    /// A handler with these keys.
    pub fn new(settings: ServiceSettings, context: &HandlerContext) -> Self {
        let key = format!("{}.run", settings.place);
        let launcher = Launcher::new(key, settings.run, &settings.env, settings.cwd);
        Self {
            allow: settings.allow,
            content_types: settings.content_types,
            workers: Workers::new(context, launcher, settings.workers, settings.timeout, settings.place),
        }
    }

    fn read(&self, message: &Message) -> Result<ServiceCall, String> {
        ServiceCall::parse(self.content_types.body(message, BODY_LIMIT)?)
    }

    fn choose(&self, call: &Call) -> Result<(String, Box<RawValue>), String> {
        let named = self.read(&call.message)?;
        let (service, method) = (named.service.as_str(), named.method.as_str());
        if [service, method].iter().any(|name| name.chars().any(char::is_control)) {
            return Err("the name of a service or method holds a control character".to_owned());
        }
        let is_allowed = self.allow.iter().any(|allowed| {
            allowed.service.matches(service) && allowed.methods.iter().any(|pattern| pattern.matches(method))
        });
        if !is_allowed {
            return Err(format!(
                "the method {method:?} of the service {service:?} is not allowed; `allow` of the handler must name it"
            ));
        }
        let arguments = RawValue::from_string(Json::List(named.arguments).encode())
            .map_err(|error| format!("the arguments have no JSON form: {error}"))?;
        Ok((format!("{service}.{method}"), arguments))
    }
}

#[async_trait]
impl Handler for Service {
    fn decode(&self, message: &Message) -> Result<(), String> {
        self.read(message).map(|_| ())
    }

    fn longest_call(&self) -> Option<Duration> {
        self.workers.timeout()
    }

    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.workers.prepare(lifeline).await?;
        self.workers.start();
        Ok(())
    }

    fn memory(&self) -> u64 {
        self.workers.memory()
    }

    async fn handle(&self, call: Call) -> Outcome {
        match self.choose(&call) {
            Ok((method, arguments)) => self.workers.call(&method, &arguments, &call).await,
            Err(reason) => Outcome::reject(reason),
        }
    }

    async fn finish(&self) {
        self.workers.finish().await;
    }
}
