//! Looking after all workers: keepers are made to exist and to agree with the configuration. All of it is decided here and
//! done by them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::decision::{Action, Known, decide};
use super::files::unwritable;
use super::finding::{Finding, Severity, condition};
use super::folder::InstanceId;
use super::keeper::Reply;
use super::marks;
use super::plan::{Spec, Task};
use super::record::{Record, State};
use super::site::{Site, Starting, Wanted, chosen, is_chosen};
use crate::error::Result;
use crate::process::Found;

/// How long a keeper may take from its lock to its first record.
const BEGINNING: Duration = Duration::from_secs(2);

/// An instance as it was found.
struct Seen<'a> {
    id: InstanceId,
    wanted: Option<&'a Wanted>,
    record: Option<Record>,
    /// Its state file, locked here; `None`: it is kept.
    lock: Option<File>,
    stopped: bool,
}

impl Site {
    /// Looks after these workers, or, with no names, after all of them and what is left of others. `dry`: only says what it
    /// would do.
    pub fn check(&self, roster: &[Wanted], names: &[String], dry: bool) -> Result<Vec<Finding>> {
        self.look_after(roster, names, dry, true)
    }

    /// As `check`; with `others`, after what is left of instances too that are not on the roster.
    pub(super) fn look_after(
        &self,
        roster: &[Wanted],
        names: &[String],
        dry: bool,
        others: bool,
    ) -> Result<Vec<Finding>> {
        if dry && !self.folder.path().exists() {
            return Ok(chosen(roster, names)
                .map(|wanted| Finding::new(&wanted.spec.id, Severity::Mended, "would be started".to_owned()))
                .collect());
        }
        if !dry {
            self.folder.make()?;
        }
        let mut seen = self.look(roster, names, others)?;
        let strays = self.strays(&seen)?;
        let folder = self.folder.true_path()?;
        let mut findings = Vec::new();
        let mut starting: Vec<Starting> = Vec::new();
        for seen in &mut seen {
            let has_strays = strays.contains_key(&marks::mark(&folder, &seen.id));
            let unclean = has_strays || seen.record.as_ref().is_some_and(|record| record.is_unclean(&self.life));
            let action = decide(Known {
                wanted: seen.wanted,
                stopped: seen.stopped,
                kept: seen.lock.is_none(),
                unclean,
                record: seen.record.as_ref(),
            });
            if dry {
                findings.extend(self.would(seen, &action));
                continue;
            }
            match self.act(seen, &action, has_strays) {
                Ok(Done::Found(finding)) => findings.push(finding),
                Ok(Done::Started(keeper)) => starting.push(keeper),
                Ok(Done::Nothing) => {}
                // One that cannot be helped does not keep the others from it.
                Err(error) => findings.push(Finding::new(&seen.id, Severity::Backoff, error.to_string())),
            }
        }
        for keeper in starting {
            let id = keeper.id.clone();
            let (severity, text) = self.outcome(&id, keeper.reply());
            findings.push(Finding::new(&id, severity, text));
        }
        findings.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(findings)
    }

    /// Looks at every instance, and takes the locks of those that nobody keeps.
    fn look<'a>(&self, roster: &'a [Wanted], names: &[String], others: bool) -> Result<Vec<Seen<'a>>> {
        let mut seen = Vec::new();
        let mut configured = BTreeSet::new();
        let mut wishes: BTreeMap<&str, bool> = BTreeMap::new();
        for wanted in roster {
            let id = &wanted.spec.id;
            configured.insert(id);
            if !is_chosen(names, id) {
                continue;
            }
            let stopped = *wishes
                .entry(&id.worker)
                .or_insert_with(|| self.folder.is_stopped(&id.worker));
            seen.push(self.see(id.clone(), Some(wanted), stopped)?);
        }
        let there = if others { self.folder.instances() } else { Vec::new() };
        for id in there {
            if configured.contains(&id) || !is_chosen(names, &id) {
                continue;
            }
            let other = self.see(id, None, false)?;
            // Of another configuration that keeps its workers in the same folder, or of nobody knows which.
            if other.record.as_ref().is_some_and(|record| self.is_ours(record)) {
                seen.push(other);
            }
        }
        Ok(seen)
    }

    fn see<'a>(&self, id: InstanceId, wanted: Option<&'a Wanted>, stopped: bool) -> Result<Seen<'a>> {
        let lock = self.folder.take(&id)?;
        let record = self.record(&id);
        Ok(Seen {
            id,
            wanted,
            record,
            lock,
            stopped,
        })
    }

    /// Whether a record is of a worker of this configuration: by whatever name the file is called, or whatever file has come
    /// in its place.
    pub(super) fn is_ours(&self, record: &Record) -> bool {
        record.config == self.config
            || match (fs::canonicalize(&record.config), fs::canonicalize(&self.config)) {
                (Ok(theirs), Ok(ours)) => theirs == ours,
                (theirs, _) => theirs.is_err(),
            }
    }

    /// What runs of instances that have no record: somebody has removed it. All processes are looked at, so it is done once
    /// and only if it must be.
    fn strays(&self, seen: &[Seen<'_>]) -> Result<HashMap<String, Vec<marks::Marked>>> {
        let is_unknown = |seen: &Seen<'_>| seen.lock.is_some() && seen.record.is_none();
        if !seen.iter().any(is_unknown) {
            return Ok(HashMap::new());
        }
        Ok(marks::of_folder(&self.folder.true_path()?))
    }

    fn act(&self, seen: &mut Seen<'_>, action: &Action, strays: bool) -> Result<Done> {
        let id = seen.id.clone();
        let mended = |text: String| Ok(Done::Found(Finding::new(&id, Severity::Mended, text)));
        if let (Some(record), Some(_)) = (&seen.record, seen.wanted)
            && record.is_of(&self.life)
            && seen.lock.is_none()
            && !self.is_ours(record)
        {
            return Ok(Done::Found(Finding::new(
                &id,
                Severity::Config,
                format!(
                    "is kept for another configuration, {}, in the same folder {}; stop it there, rename it, or give one of \
                     the two a `state_dir` of its own",
                    record.config,
                    self.folder.path().display()
                ),
            )));
        }
        match action {
            Action::Keep => {
                let (Some(lock), Some(wanted)) = (seen.lock.take(), seen.wanted) else {
                    return Ok(Done::Nothing);
                };
                Ok(Done::Started(self.start_keeper(lock, wanted, Task::Keep { strays })?))
            }
            Action::Clear => {
                let Some(lock) = seen.lock.take() else {
                    return Ok(Done::Nothing);
                };
                self.clear(&id, lock)?;
                mended("what its keeper has left behind is being ended".to_owned())
            }
            Action::Replace(reason) => {
                let Some(wanted) = seen.wanted else {
                    return Ok(Done::Nothing);
                };
                if self.is_being_replaced(wanted) {
                    let text = "waits for its turn to be restarted, until the other instances run".to_owned();
                    return Ok(Done::Found(Finding::new(&id, Severity::Fine, text)));
                }
                match self.succeed(wanted, reason)?.reply() {
                    Ok(Reply::Needless(why)) => Ok(Done::Found(Finding::new(&id, Severity::Fine, why))),
                    _ => mended(format!("is being restarted, in its turn: {reason}")),
                }
            }
            Action::Stop(reason) => match self.ask_keeper(seen.record.as_ref(), Signal::TERM) {
                true if seen
                    .record
                    .as_ref()
                    .is_some_and(|record| record.state == State::Stopping) =>
                {
                    Ok(Done::Found(Finding::new(
                        &id,
                        Severity::Fine,
                        "is being stopped".to_owned(),
                    )))
                }
                true => mended(format!("is being stopped: {reason}")),
                false => Ok(Done::Nothing),
            },
            Action::Forget => {
                // The lock is held, so nobody begins to keep it meanwhile.
                for path in [
                    self.folder.beat(&id),
                    self.folder.next(&id),
                    self.folder.state(&id),
                    self.folder.lock(&id),
                ] {
                    let _ = fs::remove_file(path);
                }
                Ok(Done::Nothing)
            }
            Action::Nothing => Ok(Done::Found(self.condition(seen))),
        }
    }

    /// What an instance is like that nothing is to be done about.
    fn condition(&self, seen: &Seen<'_>) -> Finding {
        let id = &seen.id;
        if seen.stopped {
            return Finding::new(id, Severity::Fine, "stopped, as the operator wants it".to_owned());
        }
        let Some((record, keeper)) = self.kept(id, seen.record.as_ref()) else {
            if self.has_keeper(id) {
                let text = "is kept; its record was spoilt, and is written anew within seconds";
                return Finding::new(id, Severity::Fine, text.to_owned());
            }
            let text = format!(
                "its lock {} is held, and no keeper of it is to be seen; if that stays so, see who holds it (fuser), and end that",
                self.folder.lock(id).display()
            );
            return Finding::new(id, Severity::Backoff, text);
        };
        if keeper.stat.suspended {
            return if keeper.signal(Signal::CONT).is_ok() {
                let text = "its keeper was suspended (SIGSTOP), and goes on";
                Finding::new(id, Severity::Mended, text.to_owned())
            } else {
                let pid = record.keeper.pid;
                let text = format!("its keeper is suspended; continue it with kill -CONT {pid}");
                Finding::new(id, Severity::Backoff, text)
            };
        }
        let (severity, mut text) = condition(&record);
        if let (true, Some(wanted)) = (severity > Severity::Mended, seen.wanted) {
            let log = wanted.spec.log_file(&self.folder);
            text = format!("{text}; see {}", log.display());
        }
        Finding::new(id, severity, text)
    }

    /// Whether a keeper of it is there, whatever its record says. All processes are looked at.
    fn has_keeper(&self, id: &InstanceId) -> bool {
        let Ok(folder) = self.folder.true_path() else {
            return false;
        };
        let mark = marks::mark(&folder, id);
        let own = rustix::process::geteuid().as_raw();
        let is_keeper = |process: &marks::Marked| process.is_keeper && process.user == own;
        marks::find(|found| found == mark).values().flatten().any(is_keeper)
    }

    /// The keeper of an instance whose lock is held, and what it says. One that is just beginning, or another check that is
    /// about to start it, is given a moment.
    fn kept(&self, id: &InstanceId, known: Option<&Record>) -> Option<(Record, Found)> {
        let until = Instant::now() + BEGINNING;
        let mut record = known.cloned();
        loop {
            let living = record.filter(|record| record.is_of(&self.life));
            let keeper = living.and_then(|record| Some((record.keeper.find()?, record)));
            if let Some((keeper, record)) = keeper {
                return Some((record, keeper));
            }
            if Instant::now() >= until {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
            record = self.record(id);
        }
    }

    /// What came of starting a keeper.
    fn outcome(&self, id: &InstanceId, reply: std::result::Result<Reply, String>) -> (Severity, String) {
        match reply {
            Ok(Reply::Started { pid, trouble: None }) => (Severity::Mended, format!("started (pid {pid})")),
            Ok(Reply::Started {
                pid,
                trouble: Some(why),
            }) => (Severity::Backoff, format!("started (pid {pid}); {why}")),
            Ok(Reply::Waiting(why)) => (Severity::Backoff, why),
            Ok(Reply::Clearing) => (
                Severity::Mended,
                "its keeper was killed; what it has left is being ended, then it is started again".to_owned(),
            ),
            Ok(Reply::Succeeding) => (Severity::Mended, "is being restarted".to_owned()),
            Ok(Reply::Needless(why)) => (Severity::Fine, why),
            Err(why) => (
                Severity::Backoff,
                format!(
                    "{why}; see {}",
                    self.folder.log_folder().join(format!("{id}.log")).display()
                ),
            ),
        }
    }

    /// Whether a successor waits that would run it as it is wanted.
    pub(super) fn is_being_replaced(&self, wanted: &Wanted) -> bool {
        let id = &wanted.spec.id;
        self.folder.has_successor(id) && self.folder.next_digest(id) == wanted.digest
    }

    /// Starts the successor of a keeper.
    pub(super) fn succeed(&self, wanted: &Wanted, reason: &str) -> Result<Starting> {
        self.folder.set_next(&wanted.spec.id, &wanted.digest)?;
        let path = self.folder.lock(&wanted.spec.id);
        let lock = super::files::open(&path).map_err(|error| unwritable(&path, &error))?;
        let task = Task::Succeed {
            reason: reason.to_owned(),
        };
        self.start_keeper(lock, wanted, task)
    }

    /// Has what is left of an instance ended.
    pub(super) fn clear(&self, id: &InstanceId, lock: File) -> Result<()> {
        let nothing = Wanted {
            spec: Spec::of_nothing(id.clone()),
            digest: String::new(),
        };
        let _ = self.start_keeper(lock, &nothing, Task::Clear)?.reply();
        Ok(())
    }

    /// Signals the keeper that wrote this record; says whether it was there.
    pub(super) fn ask_keeper(&self, record: Option<&Record>, signal: Signal) -> bool {
        let Some(keeper) = record
            .filter(|record| record.is_of(&self.life))
            .and_then(|record| record.keeper.find())
        else {
            return false;
        };
        let asked = keeper.signal(signal).is_ok();
        // One that is suspended could not hear it.
        let _ = keeper.signal(Signal::CONT);
        asked
    }

    fn would(&self, seen: &Seen<'_>, action: &Action) -> Option<Finding> {
        let text = match action {
            Action::Keep => "would be started".to_owned(),
            Action::Clear => "what its keeper has left behind would be ended".to_owned(),
            Action::Replace(reason) => format!("would be restarted: {reason}"),
            Action::Stop(reason) => format!("would be stopped: {reason}"),
            Action::Forget => return None,
            Action::Nothing => {
                let record = seen.record.as_ref().filter(|record| record.is_of(&self.life));
                let (severity, text) = record.filter(|_| !seen.stopped).map(condition)?;
                return Some(Finding::new(&seen.id, severity, text));
            }
        };
        Some(Finding::new(&seen.id, Severity::Mended, text))
    }
}

enum Done {
    Nothing,
    Found(Finding),
    Started(Starting),
}
