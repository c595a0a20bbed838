//! A driver and handlers for the tests of the configuration, which must not depend on the real ones.

use std::sync::Arc;

use async_trait::async_trait;

use super::decode::Tables;
use super::find::Surroundings;
use crate::consumer::handler::{Call, Handler, Outcome, Report};
use crate::error::{Error, Result};
use crate::handlers::{HandlerContext, HandlerSpec};
use crate::queue::{Capabilities, ConnectOptions, Connection, Connector, DriverSpec};
use crate::settings::{Environment, Settings};

pub(super) static TABLES: Tables = Tables {
    drivers: &[&SQLITE, &FAKE],
    handlers: HANDLERS,
};

static SQLITE: DriverSpec = DriverSpec {
    name: "sqlite",
    schemes: &["sqlite"],
    about: "stands for the embedded store",
    example: "local: sqlite:///tmp/queue.db",
    capabilities,
    parse: sqlite,
};

static FAKE: DriverSpec = DriverSpec {
    name: "fake",
    schemes: &["fake", "fakes"],
    about: "stands for a broker",
    example: "url: fake://user@host",
    capabilities,
    parse: fake,
};

static HANDLERS: &[HandlerSpec] = &[
    HandlerSpec {
        kind: "command",
        about: "runs an allowed command",
        example: "command",
        parse: command,
    },
    HandlerSpec {
        kind: "exec",
        about: "runs a fixed program",
        example: "exec: {run: [sort]}",
        parse: exec,
    },
];

struct Endpoint(String);

#[async_trait]
impl Connector for Endpoint {
    fn endpoint(&self) -> String {
        self.0.clone()
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn connect(&self, _: &ConnectOptions) -> Result<Arc<dyn Connection>> {
        Err(Error::unsupported("a fake driver connects nowhere"))
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        declare: true,
        delete: true,
        purge: true,
        list: true,
        peek: true,
        peek_is_free: true,
        depth: true,
        pause: true,
        by_id: true,
        redrive: true,
        unroutable: true,
        delay: true,
        delayed_by_queue: true,
        delayed_retry: true,
        priority: true,
        ttl: true,
        max_length: true,
        dead_letter: true,
        delivery_count: true,
        counters: true,
        deduplication: true,
        reply: true,
        lost_replies: true,
        withdraw: true,
        binary_headers: true,
        max_body: 1,
        crash_return: std::time::Duration::from_secs(1),
        hold_limit: None,
        lease: None,
    }
}

fn sqlite(mut settings: Settings) -> Result<Arc<dyn Connector>> {
    let url = settings.text(&["url"])?;
    let path = settings.text(&["path"])?;
    settings.choice(&["durability"], &[("full", 0), ("normal", 1)])?;
    settings.size(&["max_bytes"])?;
    settings.check_unknown()?;
    let place = match (&url, &path) {
        (Some(url), None) => url.trim_start_matches("sqlite://").to_owned(),
        (None, Some(path)) => settings.folder().join(path).display().to_string(),
        _ => return Err(settings.missing("url", "the store's file")),
    };
    Ok(Arc::new(Endpoint(format!("sqlite {place}"))))
}

fn fake(mut settings: Settings) -> Result<Arc<dyn Connector>> {
    settings.text(&["url"])?;
    settings.text(&["host"])?;
    settings.secret("password")?;
    settings.duration(&["heartbeat"])?;
    settings.finish()?;
    Ok(Arc::new(Endpoint("fake".to_owned())))
}

struct Nothing;

#[async_trait]
impl Handler for Nothing {
    async fn handle(&self, _: Call) -> Outcome {
        Outcome::Done(Report::default())
    }
}

fn command(mut settings: Settings, _: &HandlerContext) -> Result<Arc<dyn Handler>> {
    settings.choice(&["mode"], &[("process", 0)])?;
    settings.limit_duration(&["timeout"])?;
    settings.finish()?;
    Ok(Arc::new(Nothing))
}

fn exec(mut settings: Settings, _: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let run = settings.command_line(&["run"])?;
    settings.text_map(&["env"])?;
    settings.limit_duration(&["timeout"])?;
    settings.check_unknown()?;
    if run.is_none() {
        return Err(settings.missing("run", "the program"));
    }
    Ok(Arc::new(Nothing))
}

/// Surroundings without any file, below `folder`.
pub(super) fn surroundings(folder: &std::path::Path) -> Surroundings {
    Surroundings {
        folder: Some(folder.to_owned()),
        user: rustix::process::geteuid().as_raw(),
        environment: Environment::of([
            ("HOME", "/home/me"),
            ("HOST", "broker"),
            ("PW", "hunter2"),
            ("API_TOKEN", "t0psecret"),
        ]),
        system_file: folder.join("no-system-file.yml"),
        program: "/usr/bin/qctl".into(),
    }
}
