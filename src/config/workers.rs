//! `workers:`: the processes that the watchdog keeps alive: consumers, or any program.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::commands::{environment, folder};
use super::model::{ConsumerEntry, WorkerEntry, WorkerLog, WorkerRuns};
use super::names::{check_name, those_there_are};
use super::sections::Entries;
use crate::error::Result;
use crate::process::{Limit, signal_number};
use crate::settings::{Setting, Settings, Value, one_of};

/// A log is put aside at this size.
const LOG_SIZE: u64 = 10 << 20;
/// So many are kept.
const LOG_KEEP: u32 = 5;
/// More instances of one worker are a slip.
const MOST_INSTANCES: u64 = 1000;
/// The signals that a worker can be asked to end with.
const STOP_SIGNALS: [&str; 6] = ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"];
/// The shortest and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Options of a consumer that the watchdog gives itself, or that would break what it promises.
const REFUSED_OPTIONS: [(&str, &str); 6] = [
    ("config", "the watchdog gives its own configuration"),
    ("help", "it ends the worker at once"),
    ("version", "it ends the worker at once"),
    ("log-file", "the watchdog writes and rotates the log; see `log:`"),
    (
        "without-signals",
        "a stop would end the worker in the middle of a message",
    ),
    ("w", "a stop would end the worker in the middle of a message"),
];

/// The sections' entries, where they may be written as the Kaliop bundle does: a map `list` of them.
pub(super) fn unwrapped(entries: Entries) -> Result<Entries> {
    if let [(name, setting)] = entries.as_slice()
        && name == "list"
        && setting.is_map()
        && !is_worker(setting)
    {
        return setting.entries();
    }
    Ok(entries)
}

fn is_worker(setting: &Setting) -> bool {
    setting
        .settings()
        .is_ok_and(|settings| ["consumer", "queue_name", "run"].iter().any(|key| settings.has(key)))
}

pub(super) fn workers(
    entries: &Entries,
    consumers: &BTreeMap<String, ConsumerEntry>,
) -> Result<BTreeMap<String, WorkerEntry>> {
    entries
        .iter()
        .map(|(name, setting)| Ok((name.clone(), worker(name, setting, consumers)?)))
        .collect()
}

fn worker(name: &str, setting: &Setting, consumers: &BTreeMap<String, ConsumerEntry>) -> Result<WorkerEntry> {
    check_name(setting, "a worker", name)?;
    let mut settings = setting.settings()?;
    let consumer = settings.setting(&["consumer", "queue_name"])?;
    let run = settings.command_line(&["run"])?;
    let options = settings.setting(&["options"])?;
    let instances = settings.count_within(&["instances"], 1, MOST_INSTANCES)?.unwrap_or(1) as u32;
    let env = environment(&mut settings)?;
    let cwd = folder(&mut settings)?.map(PathBuf::from);
    let user = settings.text(&["user"])?;
    let group = settings.text(&["group"])?;
    let nice = match settings.setting(&["nice"])? {
        Some(setting) => Some(within(&setting, -20, 19)? as i32),
        None => None,
    };
    let umask = settings
        .setting(&["umask"])?
        .map(|setting| mask(&setting))
        .transpose()?;
    let limits = match settings.setting(&["limits", "rlimits"])? {
        Some(setting) => limits(&setting)?,
        None => Vec::new(),
    };
    let log = match settings.map(&["log"])? {
        Some(log) => log_of(log)?,
        None => WorkerLog {
            folder: None,
            size: LOG_SIZE,
            keep: LOG_KEEP,
        },
    };
    let signals = STOP_SIGNALS.map(|name| (name, signal_number(name)));
    let stop_signal = settings.choice(&["stop_signal"], &signals)?.flatten();
    let stop_timeout = settings.limit_duration(&["stop_timeout"])?;
    let heartbeat = settings.limit_duration(&["heartbeat"])?;
    if let Some(Some(limit)) = heartbeat
        && limit < Duration::from_secs(1)
    {
        return Err(settings.error("heartbeat", "must be at least 1s, or none"));
    }
    let backoff = match settings.map(&["backoff"])? {
        Some(backoff) => backoff_of(backoff)?,
        None => BACKOFF,
    };
    let restart_on = paths(&mut settings, "restart_on")?;
    let expected = expected(&mut settings)?;
    settings.check_unknown()?;
    let runs = match (consumer, run) {
        (Some(_), Some(_)) => {
            return Err(settings.error("run", "is given, and so is a consumer; keep one of the two"));
        }
        (None, None) => {
            return Err(settings.missing(
                "consumer",
                "the consumer to run, or `run:` with any program such as `[php, bin/import]`",
            ));
        }
        (Some(consumer), None) => {
            let options = options.map_or_else(|| Ok(Vec::new()), |setting| options_of(&setting))?;
            let named = consumer.text()?;
            if !consumers.contains_key(&named) {
                let end = those_there_are(&named, consumers.keys().map(String::as_str));
                return Err(consumer.error(format!("no consumer is called `{}`{end}", named.escape_debug())));
            }
            WorkerRuns::Consumer { name: named, options }
        }
        (None, Some(argv)) => {
            if let Some(options) = options.filter(|options| !options.is_empty()) {
                return Err(options.error("is for consumers; give a program its arguments in `run:`"));
            }
            WorkerRuns::Program(argv)
        }
    };
    Ok(WorkerEntry {
        name: name.to_owned(),
        setting: setting.clone(),
        folder: setting.folder().to_owned(),
        runs,
        instances,
        env,
        cwd,
        user,
        group,
        nice,
        umask,
        limits,
        log,
        stop_signal: stop_signal.unwrap_or(libc::SIGTERM),
        stop_timeout,
        heartbeat,
        backoff,
        restart_on,
        expected,
    })
}

/// The command line's words for a consumer's options, as the bundle writes them too: `l: 128`, `memory-limit: 128`,
/// `until_empty: true`.
fn options_of(setting: &Setting) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for (name, value) in setting.entries()? {
        let name = name.trim_start_matches('-').replace('_', "-");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(value.error("must be an option of `qctl consumer`, such as `messages` or `m`"));
        }
        if let Some((_, why)) = REFUSED_OPTIONS.iter().find(|(refused, _)| *refused == name) {
            return Err(value.error(format!("is not for workers: {why}; remove it")));
        }
        let dashed = if name.len() == 1 {
            format!("-{name}")
        } else {
            format!("--{name}")
        };
        match value.resolved()? {
            Value::Null | Value::Bool(false) => {}
            Value::Bool(true) => words.push(dashed),
            // The bundle's `d: 1`; here it takes no value.
            _ if matches!(name.as_str(), "d" | "debug" | "v" | "verbose") => {
                if value.boolean()? {
                    words.push("-v".to_owned());
                }
            }
            _ if name.len() == 1 => words.extend([dashed, value.text()?]),
            _ => words.push(format!("{dashed}={}", value.text()?)),
        }
    }
    Ok(words)
}

fn within(setting: &Setting, least: i64, most: i64) -> Result<i64> {
    let number = setting.integer()?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(setting.error(format!("must be from {least} to {most}, not {number}")))
}

/// Octal, as everywhere: `022`, `"0027"`.
fn mask(setting: &Setting) -> Result<u32> {
    let text = setting.text()?;
    let octal = text.strip_prefix("0o").unwrap_or(&text);
    match u32::from_str_radix(octal, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err(setting.error(format!(
            "must be octal digits such as \"027\", not {}",
            setting.quoted()
        ))),
    }
}

fn limits(setting: &Setting) -> Result<Vec<(String, Option<u64>)>> {
    setting
        .entries()?
        .into_iter()
        .map(|(name, value)| {
            if !Limit::NAMES.contains(&name.as_str()) {
                return Err(value.error(format!("is no limit (there are {})", one_of(Limit::NAMES))));
            }
            let is_none = matches!(value.written(), Value::Text(text) if matches!(text.as_str(), "none" | "unlimited"));
            let limit = if is_none { None } else { Some(value.size()?) };
            Ok((name, limit))
        })
        .collect()
}

fn log_of(mut log: Settings) -> Result<WorkerLog> {
    let folder = log.file_path(&["folder", "dir"])?;
    let size = log.size(&["size"])?.unwrap_or(LOG_SIZE);
    let keep = log
        .count_within(&["keep"], 0, 1000)?
        .map_or(LOG_KEEP, |keep| keep as u32);
    log.finish()?;
    Ok(WorkerLog { folder, size, keep })
}

fn backoff_of(mut backoff: Settings) -> Result<(Duration, Duration)> {
    let min = backoff.duration(&["min"])?.unwrap_or(BACKOFF.0);
    let max = backoff.duration(&["max"])?.unwrap_or(BACKOFF.1.max(min));
    if min < Duration::from_millis(100) {
        return Err(backoff.error(
            "min",
            "must be at least 100ms: a worker that cannot start must not fill the machine",
        ));
    }
    if max < min {
        return Err(backoff.error("max", "must not be shorter than `min`"));
    }
    backoff.finish()?;
    Ok((min, max))
}

fn paths(settings: &mut Settings, key: &str) -> Result<Vec<PathBuf>> {
    match settings.setting(&[key])? {
        None => Ok(Vec::new()),
        Some(setting) if setting.is_list() => setting.list()?.iter().map(Setting::file_path).collect(),
        Some(setting) => Ok(vec![setting.file_path()?]),
    }
}

/// The exit codes of a worker that has ended because it was to.
fn expected(settings: &mut Settings) -> Result<Vec<i32>> {
    let Some(setting) = settings.setting(&["expected_exit_codes"])? else {
        return Ok(vec![0]);
    };
    let list = if setting.is_list() {
        setting.list()?
    } else {
        vec![setting]
    };
    list.iter().map(|setting| Ok(within(setting, 0, 255)? as i32)).collect()
}
