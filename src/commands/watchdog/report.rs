//! What is said of workers: lines, a table, and the forms that monitors read.

use std::fmt::Write as _;

use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::output::{human_bytes, human_seconds, human_time, known, one_line, table as plain_table};
use crate::watchdog::{Finding, Severity, Status};

/// A finding as JSON.
#[derive(Serialize)]
struct Told<'a> {
    worker: &'a str,
    instance: u32,
    severity: &'static str,
    text: &'a str,
}

fn told(finding: &Finding) -> Told<'_> {
    Told {
        worker: &finding.id.worker,
        instance: finding.id.number,
        severity: match finding.severity {
            Severity::Fine => "fine",
            Severity::Mended => "mended",
            Severity::Backoff => "backoff",
            Severity::Config => "config",
        },
        text: &finding.text,
    }
}

fn line(finding: &Finding) -> String {
    one_line(&format!("{}: {}", finding.id, finding.text))
}

/// A line each, or one JSON document.
pub(super) fn findings(context: &Context, findings: &[&Finding]) -> Result<()> {
    if context.output.is_json() {
        return context
            .output
            .json(&findings.iter().map(|finding| told(finding)).collect::<Vec<_>>());
    }
    for finding in findings {
        context.output.line(line(finding))?;
    }
    Ok(())
}

/// Lines as they come, or one JSON document at the end.
pub(super) struct Lines<'a> {
    context: &'a Context,
    told: Vec<Finding>,
    failed: Option<crate::error::Error>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            told: Vec::new(),
            failed: None,
        }
    }

    pub(super) fn tell(&mut self, finding: &Finding) {
        let is_shown = finding.severity > Severity::Fine || self.context.global.verbose > 0;
        if is_shown
            && !self.context.output.is_json()
            && let Err(error) = self.context.output.line(line(finding))
        {
            self.failed.get_or_insert(error);
        }
        self.told.push(finding.clone());
    }

    pub(super) fn finish(self) -> Result<Vec<Finding>> {
        if self.context.output.is_json() {
            findings(self.context, &self.told.iter().collect::<Vec<_>>())?;
        }
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.told),
        }
    }
}

/// For people.
pub(super) fn table(all: &[Status]) -> String {
    let rows = all.iter().map(|status| {
        let state = match (status.wanted, status.outdated) {
            (false, _) if status.state == "stopped" || status.state == "unkept" => "stopped".to_owned(),
            (_, true) => format!("{} (older configuration)", status.state),
            _ => status.state.to_owned(),
        };
        let last_message = match (status.last_message_age, status.done) {
            (Some(age), _) => format!("{} ago", human_seconds(age)),
            (None, Some(_)) => "none yet".to_owned(),
            (None, None) => "-".to_owned(),
        };
        vec![
            status.id.to_string(),
            state,
            known(status.pid),
            known(status.uptime.map(human_seconds)),
            status.restarts.to_string(),
            known(
                status
                    .last_exit
                    .as_ref()
                    .map(|last| format!("{} ({})", one_line(&last.reason), human_time(last.at))),
            ),
            known(status.memory.map(human_bytes)),
            last_message,
        ]
    });
    let header = [
        "worker",
        "state",
        "pid",
        "uptime",
        "restarts",
        "last exit",
        "memory",
        "last message",
    ];
    plain_table(&header, rows).trim_end().to_owned()
}

/// The line and the exit code of a Nagios plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
pub(super) fn nagios(all: &[Status]) -> (u8, String) {
    let wanted: Vec<&Status> = all.iter().filter(|status| status.wanted).collect();
    let count = |states: &[&str]| wanted.iter().filter(|status| states.contains(&status.state)).count();
    let running = wanted.iter().filter(|status| status.is_running()).count();
    let waiting = count(&["backoff", "stopping"]);
    let broken = count(&["parked", "unkept", "stopped"]);
    let stopped = all.len() - wanted.len();
    let (code, word) = match (broken, waiting) {
        _ if all.is_empty() => (3, "UNKNOWN"),
        (0, 0) => (0, "OK"),
        (0, _) if running > 0 => (1, "WARNING"),
        _ => (2, "CRITICAL"),
    };
    let bad: Vec<String> = wanted
        .iter()
        .filter(|status| !status.is_running())
        .map(|status| format!("{} {}", status.id, status.state))
        .collect();
    let mut line = format!("WORKERS {word} - {running} of {} running", wanted.len());
    if stopped > 0 {
        let _ = write!(line, ", {stopped} stopped by the operator");
    }
    if !bad.is_empty() {
        // What stands behind the bar is read by machines.
        let _ = write!(line, ": {}", bad.join(", ").replace('|', "_"));
    }
    let restarts: u64 = all.iter().map(|status| status.restarts).sum();
    let memory: u64 = all.iter().filter_map(|status| status.memory).sum();
    let _ = write!(
        line,
        " | running={running} backoff={waiting} broken={broken} stopped={stopped} restarts={restarts}c memory={memory}B"
    );
    (code, one_line(&line))
}

/// Metrics in the text form of Prometheus.
pub(super) fn prometheus(all: &[Status]) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Status) -> Option<f64>| {
        let rows: Vec<(&Status, f64)> = all.iter().filter_map(|status| Some((status, value(status)?))).collect();
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (status, value) in rows {
            let _ = writeln!(
                text,
                "{name}{{worker=\"{}\",instance=\"{}\"}} {value}",
                label(&status.id.worker),
                status.id.number
            );
        }
    };
    let truth = |is: bool| Some(f64::from(u8::from(is)));
    let count = |count: u64| count as f64;
    metric(
        "qctl_worker_wanted",
        "gauge",
        "Whether the worker is to run.",
        &|status| truth(status.wanted),
    );
    metric("qctl_worker_running", "gauge", "Whether the worker runs.", &|status| {
        truth(status.is_running())
    });
    metric(
        "qctl_worker_backoff",
        "gauge",
        "Whether the worker waits after a failure.",
        &|status| truth(status.state == "backoff"),
    );
    metric(
        "qctl_worker_parked",
        "gauge",
        "Whether the worker waits for its configuration to change.",
        &|status| truth(status.state == "parked"),
    );
    metric(
        "qctl_worker_uptime_seconds",
        "gauge",
        "How long the worker has run.",
        &|status| status.uptime,
    );
    metric(
        "qctl_worker_restarts_total",
        "counter",
        "How often the worker was started again.",
        &|status| Some(count(status.restarts)),
    );
    metric(
        "qctl_worker_failures",
        "gauge",
        "How often it has failed since it last worked.",
        &|status| Some(f64::from(status.failures)),
    );
    metric(
        "qctl_worker_memory_bytes",
        "gauge",
        "Memory of the worker and all that it has started.",
        &|status| status.memory.map(count),
    );
    metric(
        "qctl_worker_messages_done",
        "gauge",
        "Messages done since the worker started.",
        &|status| status.done.map(count),
    );
    metric(
        "qctl_worker_messages_failed",
        "gauge",
        "Messages that failed since the worker started.",
        &|status| status.failed.map(count),
    );
    metric(
        "qctl_worker_last_message_age_seconds",
        "gauge",
        "How long ago the last message was settled.",
        &|status| status.last_message_age,
    );
    metric(
        "qctl_worker_last_exit_code",
        "gauge",
        "How the worker ended last; 128+N for a signal.",
        &|status| {
            let last = status.last_exit.as_ref()?;
            last.code.or(last.signal.map(|signal| 128 + signal)).map(f64::from)
        },
    );
    text
}

/// A label's value.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
