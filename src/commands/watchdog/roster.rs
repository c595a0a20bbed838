//! From the configuration to what keepers are given.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Checker;
use crate::config::{Config, WorkerEntry, WorkerRuns, those_there_are};
use crate::context::{Context, program};
use crate::error::{Error, Result};
use crate::handlers::HandlerContext;
use crate::process::{Account, DEFAULT_PATH, Environment, Limit};
use crate::settings::{Settings, parse_duration};
use crate::watchdog::{
    Audience, Backoff, Folder, InstanceId, Loaded, NOTIFY, Notifying, STOP_WITHIN, Site, Spec, Wanted, wrong_with_name,
};

/// A consumer's heart beats every few seconds; this is many of them.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// What a consumer needs to stop, besides what its longest call may take.
const TO_STOP: Duration = Duration::from_secs(10);
/// Limits of further instances are shortened by up to this share, so that they do not all end together.
const SPREAD: f64 = 0.1;
/// Steps of this size, modulo 1, are spread evenly however many there are.
const GOLDEN: f64 = 0.618_034;

/// What the configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To change something. Root looks after the workers of another user as that user from here on.
    Change,
    /// Only to look, which anyone may.
    Look,
}

/// Reads the configuration, and what it wants to run.
pub(super) fn load(context: &Context, names: &[String], purpose: Purpose) -> Result<Loaded> {
    let place = context.load()?;
    let config = &place.config;
    let Some(file) = config.file.as_deref() else {
        return Err(Error::config(
            "no configuration was found, so there are no workers; `qctl init` writes one, and `workers:` in it says what to keep \
             alive",
        ));
    };
    let folder = Folder::within(&config.watchdog_folder()?);
    if config.workers.is_empty() && !folder.is_used() {
        return Err(Error::config(format!(
            "{}: there are no workers; say under `workers:` what is to be kept alive, such as `mail: {{ consumer: mail }}`",
            file.display()
        )));
    }
    for entry in config.workers.values() {
        if let Some(message) = wrong_with_name(&entry.name) {
            return Err(entry.setting.error(message));
        }
    }
    check_names(config, names, file, &folder)?;
    if purpose == Purpose::Change {
        become_owner(&folder, config)?;
        folder.make()?;
    }
    let account = Account::own(None).map_err(Error::config)?;
    let program = program()?;
    let mut site = Site::new(folder, file.display().to_string(), program.clone(), account)?;
    site.inherited = inherited();
    if purpose == Purpose::Change
        && let Err(error) = site.folder.set_audience(&audience(config))
    {
        // Workers are looked after all the same.
        context
            .output
            .warn(format_args!("listeners hear of workers as before: {error}"));
    }
    let key = match purpose {
        Purpose::Change => Some(site.folder.key()?),
        Purpose::Look => site.folder.read_key(),
    };
    let maker = Maker {
        config,
        file,
        program: &program,
        checker: RefCell::new(Checker::of("consumer")),
        key: key.as_deref(),
    };
    site.notifying = Some(maker.notifying(&site.account)?);
    let mut roster = Vec::new();
    for entry in config.workers.values() {
        roster.extend(maker.instances(entry)?);
    }
    Ok(Loaded {
        key: key.unwrap_or_default(),
        site,
        roster,
        files: config.files.clone(),
    })
}

/// The workers that listeners hear of.
fn audience(config: &Config) -> Audience {
    let mut audience = Audience::default();
    for entry in &config.listeners {
        if entry.on.iter().any(|kind| kind.is_of_processes()) {
            audience.all |= entry.of.is_empty();
            audience.workers.extend(entry.of.iter().cloned());
        }
    }
    audience
}

/// Refuses names that no worker has, or has had.
fn check_names(config: &Config, names: &[String], file: &Path, folder: &Folder) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let kept = folder.workers();
    let known: BTreeSet<&str> = config.workers.keys().chain(&kept).map(String::as_str).collect();
    let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) else {
        return Ok(());
    };
    let of_instance = name.rsplit_once('.').filter(|(worker, _)| known.contains(worker));
    let hint = match of_instance {
        Some((worker, _)) => format!("; name the worker, which has all its instances: `{worker}`"),
        None => those_there_are(name, known.iter().copied()),
    };
    Err(Error::not_found(format!(
        "no worker is called `{}` in {}{hint}",
        name.escape_debug(),
        file.display()
    )))
}

/// Root runs other people's workers as they would themselves: as the owner of the state.
fn become_owner(folder: &Folder, config: &Config) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return match config.workers.values().find(|entry| entry.user.is_some()) {
            Some(entry) if !is_own(entry)? => Err(entry.setting.error(
                "names another user, and only root can start a worker as another user; run the watchdog as root, or remove \
                 `user`",
            )),
            _ => Ok(()),
        };
    }
    match folder.owner() {
        None | Some(0) => Ok(()),
        Some(uid) => {
            if let Some(entry) = config.workers.values().find(|entry| entry.user.is_some()) {
                return Err(entry.setting.error(format!(
                    "names a user, and {} belongs to user {uid}, as whom all its workers run; give it to root (chown -R \
                     root), or remove `user`",
                    folder.path().display()
                )));
            }
            let account = Account::named(&uid.to_string(), None).map_err(|reason| {
                Error::config(format!("{} belongs to user {uid}: {reason}", folder.path().display()))
            })?;
            account
                .become_it()
                .map_err(|error| Error::not_allowed(format!("cannot go on as user {}", account.name)).because(error))
        }
    }
}

fn is_own(entry: &WorkerEntry) -> Result<bool> {
    let account = account(entry)?;
    Ok(account.is_none_or(|account| account.uid == rustix::process::geteuid().as_raw()))
}

/// `None`: the user who runs this.
fn account(entry: &WorkerEntry) -> Result<Option<Account>> {
    let wrong = |reason: String| entry.setting.error(reason);
    match (&entry.user, &entry.group) {
        (None, None) => Ok(None),
        (Some(user), group) => Account::named(user, group.as_deref()).map_err(wrong).map(Some),
        (None, Some(group)) => Account::own(Some(group)).map_err(wrong).map(Some),
    }
}

/// What says in which language and time zone to speak; everything else is the same whoever starts the watchdog.
fn inherited() -> Vec<(String, String)> {
    Environment::inherited()
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned())))
        .filter(|(name, _)| name == "LANG" || name == "LANGUAGE" || name == "TZ" || name.starts_with("LC_"))
        .collect()
}

struct Maker<'a> {
    config: &'a Config,
    file: &'a Path,
    program: &'a Path,
    /// Made once: a hundred workers have a hundred lines to be checked.
    checker: RefCell<Checker>,
    /// `None`: not to be had, so nothing can be said of older configurations.
    key: Option<&'a [u8]>,
}

impl Maker<'_> {
    /// All instances of a worker.
    fn instances(&self, entry: &WorkerEntry) -> Result<Vec<Wanted>> {
        let reads = self.reads(entry)?;
        let base = self.spec(entry)?;
        (1..=entry.instances)
            .map(|number| {
                let spec = Spec {
                    id: InstanceId {
                        worker: entry.name.clone(),
                        number,
                    },
                    argv: self.argv(entry, number)?,
                    ..base.clone()
                };
                let digest = self.key.map(|key| spec.digest(key, &reads)).unwrap_or_default();
                Ok(Wanted { spec, digest })
            })
            .collect()
    }

    fn spec(&self, entry: &WorkerEntry) -> Result<Spec> {
        let is_consumer = matches!(entry.runs, WorkerRuns::Consumer { .. });
        let mut env = entry.env.clone();
        if is_consumer {
            env.splice(0..0, self.variables());
        }
        let mut expected = entry.expected.clone();
        expected.extend(limit_exit_code(entry));
        let limits = entry.limits.iter().map(|(name, value)| Limit {
            name: name.clone(),
            value: *value,
        });
        Ok(Spec {
            id: InstanceId {
                worker: entry.name.clone(),
                number: 0,
            },
            instances: entry.instances,
            argv: Vec::new(),
            env,
            cwd: entry.cwd.clone().unwrap_or_else(|| entry.folder.clone()),
            account: account(entry)?,
            nice: entry.nice,
            umask: entry.umask,
            limits: limits.collect(),
            log_folder: entry.log.folder.clone(),
            log_size: entry.log.size,
            log_keep: entry.log.keep,
            stop_signal: entry.stop_signal,
            stop_within: match entry.stop_timeout {
                Some(within) => within,
                None => self.usual_stop(entry)?,
            },
            heartbeat: entry.heartbeat.unwrap_or(is_consumer.then_some(HEARTBEAT)),
            backoff: Backoff {
                min: entry.backoff.0,
                max: entry.backoff.1,
            },
            expected,
            restart_on: entry.restart_on.clone(),
            wakes: self.wakes(entry),
        })
    }

    /// What a consumer reads of the environment when it reads the configuration.
    fn variables(&self) -> Vec<(String, String)> {
        self.config
            .variables
            .iter()
            .filter(|name| !matches!(name.as_str(), "HOME" | "QCTL_CONFIG"))
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .collect()
    }

    /// How listeners are told of workers: as the user who looks after these, with what a consumer would have.
    fn notifying(&self, account: &Account) -> Result<Notifying> {
        let mut env: Vec<(String, String)> = [
            ("PATH", DEFAULT_PATH),
            ("HOME", &account.home),
            ("USER", &account.name),
            ("LOGNAME", &account.name),
            ("SHELL", &account.shell),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        env.extend(inherited());
        env.extend(self.variables());
        Ok(Notifying {
            argv: vec![text(self.program)?, NOTIFY.to_owned(), text(self.file)?],
            env,
            cwd: self.file.parent().unwrap_or(Path::new("/")).to_owned(),
        })
    }

    fn argv(&self, entry: &WorkerEntry, number: u32) -> Result<Vec<String>> {
        let (name, options) = match &entry.runs {
            WorkerRuns::Program(argv) => return Ok(argv.clone()),
            WorkerRuns::Consumer { name, options } => (name, options),
        };
        let mut argv = vec![
            text(self.program)?,
            "consumer".to_owned(),
            format!("--config={}", text(self.file)?),
            format!("--label={}.{number}", entry.name),
        ];
        argv.extend(spread(options, number));
        argv.extend(["--".to_owned(), name.clone()]);
        let arguments: Vec<_> = argv.iter().map(std::ffi::OsString::from).collect();
        self.checker.borrow_mut().check(arguments).map_err(|reason| {
            let options = entry.setting.settings().and_then(|mut all| all.setting(&["options"]));
            match options {
                Ok(Some(options)) => options.error(reason),
                _ => entry.setting.error(reason),
            }
        })?;
        Ok(argv)
    }

    /// What a worker itself reads of the configuration: a change of it is a reason to start it anew, one of other entries is
    /// not.
    fn reads(&self, entry: &WorkerEntry) -> Result<String> {
        let WorkerRuns::Consumer { name, .. } = &entry.runs else {
            return Ok(String::new());
        };
        let consumer = self.config.consumer(name)?;
        let connection = self.config.connection(Some(&consumer.connection))?;
        let mut text = String::new();
        let mut add = |what: &dyn std::fmt::Debug| {
            let _ = writeln!(text, "{what:?}");
        };
        if let Some(written) = &consumer.written {
            add(&written.resolved()?);
        }
        add(&consumer.topology);
        add(&connection.settings.to_setting().resolved()?);
        let names = [consumer.name.as_str(), consumer.queue.name.as_str()];
        for listener in &self.config.listeners {
            // What keepers tell of, the worker itself does not.
            let on: Vec<_> = listener.on.iter().filter(|kind| !kind.is_of_processes()).collect();
            let is_of_this = listener.of.is_empty() || listener.of.iter().any(|name| names.contains(&name.as_str()));
            if !on.is_empty() && is_of_this {
                add(&(on, listener.priority, listener.policy, listener.within));
                add(&(listener.spec.kind, listener.settings.to_setting().resolved()?));
            }
        }
        for (name, command) in &self.config.written_commands {
            add(&(name, command.resolved()?));
        }
        Ok(text)
    }

    /// How long a stop may take where nobody has said it.
    fn usual_stop(&self, entry: &WorkerEntry) -> Result<Option<Duration>> {
        let WorkerRuns::Consumer { name, .. } = &entry.runs else {
            return Ok(Some(STOP_WITHIN));
        };
        let consumer = self.config.consumer(name)?;
        if let Some(grace) = consumer.stop_grace {
            return Ok(Some(grace + TO_STOP));
        }
        let handler = (consumer.handler.parse)(
            consumer.handler_settings.clone(),
            &HandlerContext::new(
                self.config.commands.clone(),
                consumer.exit_codes.clone(),
                self.program.to_owned(),
                consumer.concurrency,
            ),
        )?;
        Ok(handler.longest_call().map(|longest| longest + TO_STOP))
    }

    /// The files of which a change may mend a worker that is parked.
    fn wakes(&self, entry: &WorkerEntry) -> Vec<PathBuf> {
        let mut files: BTreeSet<PathBuf> = self.config.files.iter().cloned().collect();
        files.extend(entry.restart_on.iter().cloned());
        match &entry.runs {
            WorkerRuns::Program(argv) => {
                let cwd = entry.cwd.as_ref().unwrap_or(&entry.folder);
                files.extend(argv.iter().filter(|word| word.contains('/')).map(|word| cwd.join(word)));
            }
            WorkerRuns::Consumer { .. } => {
                files.insert(self.program.to_owned());
                for connection in self.config.connections.values() {
                    files.extend(secret_files(&connection.settings));
                }
            }
        }
        files.into_iter().collect()
    }
}

/// The files that a connection's secrets are read from.
fn secret_files(settings: &Settings) -> Vec<PathBuf> {
    let mut read = settings.clone();
    let keys: Vec<String> = settings
        .keys()
        .filter(|key| key.ends_with("_file"))
        .map(str::to_owned)
        .collect();
    keys.iter()
        .filter_map(|key| read.file_path(&[key]).ok().flatten())
        .collect()
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::config(format!("the path {} is not UTF-8; rename it", path.display())))
}

/// A consumer's own exit code for a limit.
fn limit_exit_code(entry: &WorkerEntry) -> Option<i32> {
    let WorkerRuns::Consumer { options, .. } = &entry.runs else {
        return None;
    };
    let code = options
        .iter()
        .find_map(|word| word.strip_prefix("--limit-exit-code="))?;
    code.parse().ok()
}

/// The options for this instance: what ends a consumer by count or time is shortened a little for all but the first, so that
/// they do not all end at the same moment.
fn spread(options: &[String], number: u32) -> Vec<String> {
    let share = SPREAD * (f64::from(number - 1) * GOLDEN).fract();
    let shortened = |name: &str, value: &str| match name {
        "-m" | "--messages" => {
            let count: u64 = value.parse().ok()?;
            let less = (count as f64 * (1.0 - share)).ceil() as u64;
            Some(less.max(1.min(count)).to_string())
        }
        "-t" | "--time-limit" | "--timeout" | "--time" => {
            let time = parse_duration(value).ok()?;
            Some(format!("{}ms", time.mul_f64(1.0 - share).as_millis()))
        }
        _ => None,
    };
    let mut words: Vec<String> = Vec::with_capacity(options.len());
    for word in options {
        let changed = match (words.last(), word.split_once('=')) {
            _ if share == 0.0 => None,
            (_, Some((name, value))) => shortened(name, value).map(|value| format!("{name}={value}")),
            (Some(name), None) => shortened(name, word),
            (None, None) => None,
        };
        words.push(changed.unwrap_or_else(|| word.clone()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::spread;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_first_instance_has_the_limits_as_written() {
        let written = words("-m 1000 --time-limit=1h -l 128");
        assert_eq!(spread(&written, 1), written);
    }

    #[test]
    fn further_instances_end_a_little_earlier_each_at_its_own_time() {
        assert_eq!(
            spread(&words("-m 1000 --time-limit=1h --idle=5 -l 128 --messages=1 -m 0"), 2),
            words("-m 939 --time-limit=3377507ms --idle=5 -l 128 --messages=1 -m 0")
        );
        let ends: std::collections::BTreeSet<String> = (1..=20)
            .map(|number| spread(&words("-m 100000"), number)[1].clone())
            .collect();
        assert_eq!(ends.len(), 20);
        assert!(
            ends.iter()
                .all(|end| end.parse::<u64>().is_ok_and(|end| (90_000..=100_000).contains(&end)))
        );
    }
}
