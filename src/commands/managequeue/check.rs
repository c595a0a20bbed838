//! `check`: compares a queue's figures with limits, for monitors: one line, and an exit code of 0, 1 or 2.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::CheckArgs;
use super::target::Target;
use crate::cli::values::Threshold;
use crate::commands::Outcome;
use crate::context::Workplace;
use crate::error::{Error, Result};
use crate::output::human_seconds;
use crate::queue::QueueInfo;

/// Checks one queue.
pub(super) async fn run(place: &Workplace<'_>, given: Option<&str>, args: &CheckArgs) -> Result<Outcome> {
    let target = Target::open_existing(place, given, &args.name.name).await?;
    let info = target.connection.info(&target.queue).await?;
    let verdict = judge(args, &info).ok_or_else(|| {
        Error::unsupported(format!(
            "the {} driver does not tell this figure",
            target.connection.driver()
        ))
    })?;
    place.context.output.report(&verdict, Verdict::line)?;
    Ok(Outcome(verdict.level as u8))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
}

#[derive(Debug, Serialize)]
struct Verdict {
    queue: String,
    level: Level,
    ready: u64,
    oldest_seconds: Option<f64>,
    dead: Option<u64>,
    paused: bool,
    blocked_by: Vec<String>,
    /// What was compared, by its name.
    compared: BTreeMap<&'static str, Compared>,
}

/// A figure and its limits.
#[derive(Debug, Serialize)]
struct Compared {
    value: Value,
    warning: Option<Value>,
    critical: Value,
}

impl Compared {
    fn new<T: Into<Value> + Copy>(value: T, limit: Threshold<T>) -> Self {
        Self {
            value: value.into(),
            warning: limit.warning.map(Into::into),
            critical: limit.critical.into(),
        }
    }

    /// In the form of monitoring plugins.
    fn performance(&self, name: &str) -> String {
        let (label, unit) = name.strip_suffix("_seconds").map_or((name, ""), |label| (label, "s"));
        let warning = self.warning.as_ref().map(plain).unwrap_or_default();
        format!(
            "{label}={}{unit};{warning};{}",
            plain(&self.value),
            plain(&self.critical)
        )
    }
}

/// A number without an idle fraction.
fn plain(number: &Value) -> String {
    number
        .as_f64()
        .map_or_else(|| number.to_string(), |number| number.to_string())
}

impl Verdict {
    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
        };
        let mut parts = vec![format!("{} ready", self.ready)];
        parts.extend(
            self.oldest_seconds
                .map(|seconds| format!("oldest {}", human_seconds(seconds))),
        );
        parts.extend(self.dead.map(|count| format!("{count} dead")));
        parts.extend(self.paused.then(|| "paused".to_owned()));
        parts.extend(self.blocked_by.iter().cloned());
        let compared = self.compared.iter();
        let performance: Vec<String> = compared.map(|(name, figure)| figure.performance(name)).collect();
        crate::output::one_line(&format!(
            "{level} - {}: {} | {}",
            self.queue,
            parts.join(", "),
            performance.join(" ")
        ))
    }
}

/// `None`: a limit was given for a figure that the broker does not tell.
fn judge(args: &CheckArgs, info: &QueueInfo) -> Option<Verdict> {
    let mut level = if info.blocked_by.is_empty() {
        Level::Ok
    } else {
        Level::Warning
    };
    let mut compared = BTreeMap::new();
    if let Some(limit) = args.max_ready {
        level = level.max(compare(info.ready, limit));
        compared.insert("ready", Compared::new(info.ready, limit));
    }
    if let Some(limit) = args.max_age {
        let age = match info.oldest_seconds {
            Some(age) => age,
            None if info.ready == 0 => 0.0,
            None => return None,
        };
        let seconds = Threshold {
            warning: limit.warning.map(|warning: Duration| warning.as_secs_f64()),
            critical: limit.critical.as_secs_f64(),
        };
        level = level.max(compare(age, seconds));
        compared.insert("age_seconds", Compared::new((age * 1000.0).round() / 1000.0, seconds));
    }
    if let Some(limit) = args.max_dead {
        let dead = info.dead?;
        level = level.max(compare(dead, limit));
        compared.insert("dead", Compared::new(dead, limit));
    }
    Some(Verdict {
        queue: info.name.clone(),
        level,
        ready: info.ready,
        oldest_seconds: info.oldest_seconds,
        dead: info.dead,
        paused: info.paused,
        blocked_by: info.blocked_by.clone(),
        compared,
    })
}

fn compare<T: PartialOrd + Copy>(value: T, limit: Threshold<T>) -> Level {
    if value > limit.critical {
        Level::Critical
    } else if limit.warning.is_some_and(|warning| value > warning) {
        Level::Warning
    } else {
        Level::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values::{age_threshold, count_threshold};

    fn args(ready: Option<&str>, age: Option<&str>, dead: Option<&str>) -> CheckArgs {
        CheckArgs {
            max_ready: ready.map(|text| count_threshold(text).expect(text)),
            max_age: age.map(|text| age_threshold(text).expect(text)),
            max_dead: dead.map(|text| count_threshold(text).expect(text)),
            name: super::super::Name {
                name: "mail".to_owned(),
            },
        }
    }

    #[test]
    fn the_worst_figure_decides() {
        let info = QueueInfo {
            name: "mail".to_owned(),
            ready: 5,
            dead: Some(1),
            oldest_seconds: Some(90.0),
            ..QueueInfo::default()
        };
        let level = |args: CheckArgs| judge(&args, &info).expect("all figures are there").level;
        assert_eq!(level(args(Some("5"), None, None)), Level::Ok);
        assert_eq!(level(args(Some("4"), None, None)), Level::Critical);
        assert_eq!(level(args(Some("4:10"), None, None)), Level::Warning);
        assert_eq!(level(args(Some("4:10"), Some("1m"), None)), Level::Critical);
        assert_eq!(level(args(None, Some("2m"), Some("0:5"))), Level::Warning);
        let line = judge(&args(Some("4:10"), Some("2m"), None), &info)
            .expect("a verdict")
            .line();
        assert_eq!(
            line,
            "WARNING - mail: 5 ready, oldest 1m 30s, 1 dead | age=90s;;120 ready=5;4;10"
        );
    }

    #[test]
    fn an_unknown_figure_is_not_taken_for_a_good_one() {
        let info = QueueInfo {
            ready: 1,
            ..QueueInfo::default()
        };
        assert!(judge(&args(None, None, Some("5")), &info).is_none());
        assert!(judge(&args(None, Some("5"), None), &info).is_none());
    }
}
