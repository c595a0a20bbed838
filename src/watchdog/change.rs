//! What an operator asks for: started, stopped, started anew.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::finding::{Finding, Severity, condition, pid_of};
use super::folder::InstanceId;
use super::marks;
use super::record::{Record, State};
use super::site::{Site, Wanted, chosen, is_chosen};
use crate::error::{Error, Result};
use crate::process::Identity;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// A worker that has just been started and ends within this time is told of.
const EARLY: Duration = Duration::from_millis(200);
/// A keeper that nobody can find by this time is none that can be found from here.
const FOUND_WITHIN: Duration = Duration::from_secs(10);

/// How a stop asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Work is finished first.
    Drain,
    /// Everything is ended at once.
    Now,
}

/// Told of each thing as it happens.
pub type Progress<'a> = dyn FnMut(&Finding) + 'a;

impl Site {
    /// Writes down that these workers are to run, and starts those that do not.
    /// `waits` is told of each that has to finish its last work before.
    pub fn start(
        &self,
        roster: &[Wanted],
        names: &[String],
        waits: &mut dyn FnMut(&InstanceId),
    ) -> Result<Vec<Finding>> {
        self.folder.make()?;
        for wanted in chosen(roster, names) {
            self.folder.start(&wanted.spec.id.worker)?;
        }
        let begun = Instant::now();
        let mut findings = self.check(roster, names, false)?;
        self.start_what_ends(roster, &mut findings, waits)?;
        let until = begun + EARLY;
        for finding in findings
            .iter_mut()
            .filter(|finding| finding.severity == Severity::Mended)
        {
            loop {
                if let Some((severity, text)) = self
                    .living(&finding.id)
                    .filter(|record| matches!(record.state, State::Backoff | State::Parked))
                    .map(|record| condition(&record))
                {
                    finding.severity = severity;
                    finding.text = format!("was started, and ended at once; {text}");
                    break;
                }
                if Instant::now() >= until {
                    break;
                }
                thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
            }
        }
        Ok(findings)
    }

    /// What was still at its last work is started when that is done.
    fn start_what_ends(
        &self,
        roster: &[Wanted],
        findings: &mut [Finding],
        waits: &mut dyn FnMut(&InstanceId),
    ) -> Result<()> {
        let is_up = |id: &InstanceId| {
            self.living(id)
                .is_some_and(|record| !record.is_last && !matches!(record.state, State::Stopping | State::Stopped))
        };
        let mut open: Vec<&mut Finding> = findings
            .iter_mut()
            .filter(|finding| finding.severity == Severity::Fine && !is_up(&finding.id))
            .collect();
        for finding in &open {
            if self.is_ending(&finding.id) {
                waits(&finding.id);
            }
        }
        while !open.is_empty() {
            let mut left = Vec::new();
            for finding in open {
                if self.is_ending(&finding.id) {
                    left.push(finding);
                    continue;
                }
                // Ended, or on its way to: whoever asked for that may have wished otherwise meanwhile.
                let wanted = roster.iter().find(|wanted| wanted.spec.id == finding.id);
                let Some(wanted) = wanted else { continue };
                let again = self.look_after(std::slice::from_ref(wanted), &[], false, false)?;
                let Some(again) = again.into_iter().next() else {
                    continue;
                };
                *finding = again;
                if finding.severity == Severity::Fine
                    && !is_up(&finding.id)
                    && !self.folder.is_stopped(&finding.id.worker)
                {
                    left.push(finding);
                }
            }
            open = left;
            if !open.is_empty() {
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Whether its keeper is about to end for good, and nobody is there to take its place.
    fn is_ending(&self, id: &InstanceId) -> bool {
        self.living(id)
            .is_some_and(|record| record.state == State::Stopping && record.is_last && record.keeper.find().is_some())
            && !self.folder.has_successor(id)
    }

    /// Writes down that these workers are to be stopped, has them ended, and waits until nothing of them is left.
    pub fn stop(&self, roster: &[Wanted], names: &[String], asking: Asking, progress: &mut Progress<'_>) -> Result<()> {
        self.folder.make()?;
        let mut open: BTreeMap<InstanceId, Stopping> = BTreeMap::new();
        for wanted in chosen(roster, names) {
            self.folder.stop(&wanted.spec.id.worker)?;
            open.insert(wanted.spec.id.clone(), Stopping::new(true));
        }
        for id in self.folder.instances() {
            let is_ours = || self.record(&id).is_some_and(|record| self.is_ours(&record));
            if is_chosen(names, &id) && !open.contains_key(&id) && is_ours() {
                open.insert(id, Stopping::new(false));
            }
        }
        self.end(open, &mut || asking, true, progress)
    }

    /// Has these instances ended, and waits until nothing of them is left. `asking` is asked again and again. `is_wish`:
    /// the operator wishes it, and may wish otherwise meanwhile.
    pub(super) fn end(
        &self,
        mut open: BTreeMap<InstanceId, Stopping>,
        asking: &mut dyn FnMut() -> Asking,
        is_wish: bool,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let folder = self.folder.true_path()?;
        let mut strays = None;
        while !open.is_empty() {
            let ids: Vec<InstanceId> = open.keys().cloned().collect();
            let asking = asking();
            for id in ids {
                let Some(stopping) = open.get_mut(&id) else { continue };
                if is_wish && stopping.is_configured && !self.folder.is_stopped(&id.worker) {
                    let text = "was started again meanwhile".to_owned();
                    progress(&Finding::new(&id, Severity::Mended, text));
                    open.remove(&id);
                    continue;
                }
                let Some(lock) = self.folder.take(&id)? else {
                    self.ask(&id, stopping, asking)?;
                    continue;
                };
                let record = self.record(&id);
                let is_unclean = match &record {
                    Some(record) => record.is_unclean(&self.life),
                    None => strays
                        .get_or_insert_with(|| marks::of_folder(&folder))
                        .contains_key(&marks::mark(&folder, &id)),
                };
                if is_unclean && stopping.cleared < 3 {
                    stopping.cleared += 1;
                    stopping.was_there = true;
                    self.clear(&id, lock)?;
                    continue;
                }
                let (severity, text) = if stopping.was_there {
                    (Severity::Mended, "stopped")
                } else {
                    (Severity::Fine, "was not running")
                };
                drop(lock);
                open.remove(&id);
                progress(&Finding::new(&id, severity, text.to_owned()));
            }
            if !open.is_empty() {
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Asks the keeper of an instance to end, once; one that is just beginning is waited for.
    fn ask(&self, id: &InstanceId, stopping: &mut Stopping, asking: Asking) -> Result<()> {
        stopping.was_there = true;
        let Some(record) = self.record(id) else {
            return stopping.lost(id);
        };
        if stopping.asked == Some((record.keeper, asking)) {
            return Ok(());
        }
        let signal = match asking {
            Asking::Drain => Signal::TERM,
            Asking::Now => Signal::INT,
        };
        if self.ask_keeper(Some(&record), signal) {
            stopping.asked = Some((record.keeper, asking));
            return Ok(());
        }
        stopping.lost(id)
    }

    /// Starts these workers anew, one instance of each after the other, and waits until they work.
    pub fn restart(&self, roster: &[Wanted], names: &[String], progress: &mut Progress<'_>) -> Result<()> {
        self.folder.make()?;
        let mut open: BTreeMap<InstanceId, (&Wanted, Option<Identity>)> = BTreeMap::new();
        for wanted in chosen(roster, names) {
            let id = &wanted.spec.id;
            self.folder.start(&id.worker)?;
            let is_kept = self.folder.take(id)?.is_none();
            let keeper = self.living(id).filter(|_| is_kept);
            open.insert(id.clone(), (wanted, keeper.map(|record| record.keeper)));
        }
        let mut failed: Vec<String> = Vec::new();
        while !open.is_empty() {
            let ids: Vec<InstanceId> = open.keys().cloned().collect();
            for id in ids {
                let Some((wanted, old)) = open.get(&id) else { continue };
                let (wanted, old) = (*wanted, *old);
                // The others of a worker whose new instance does not come up are left as they are.
                if failed.contains(&id.worker) {
                    open.remove(&id);
                    continue;
                }
                if self.folder.is_stopped(&id.worker) {
                    open.remove(&id);
                    let text = "was stopped meanwhile, as the operator wants it".to_owned();
                    progress(&Finding::new(&id, Severity::Mended, text));
                    continue;
                }
                if self.folder.take(&id)?.is_some() {
                    self.look_after(std::slice::from_ref(wanted), &[], false, false)?;
                    continue;
                }
                let Some(record) = self.living(&id).filter(|record| Some(record.keeper) != old) else {
                    if !self.is_being_replaced(wanted) {
                        self.succeed(wanted, "asked to restart")?.reply().ok();
                    }
                    continue;
                };
                let (severity, text) = match record.state {
                    State::Running => (Severity::Mended, format!("restarted (pid {})", pid_of(&record))),
                    // Its keeper had been killed, which counts as a failure of its own.
                    State::Backoff if old.is_none() && record.failures <= 1 => continue,
                    State::Backoff | State::Parked => {
                        failed.push(id.worker.clone());
                        let (severity, text) = condition(&record);
                        (
                            severity,
                            format!("does not come up: {text}; its other instances are left as they were"),
                        )
                    }
                    State::Starting | State::Stopping | State::Stopped => continue,
                };
                open.remove(&id);
                progress(&Finding::new(&id, severity, text));
            }
            if !open.is_empty() {
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    pub(super) fn record(&self, id: &InstanceId) -> Option<Record> {
        self.folder.record(id)
    }

    /// As `record`, if it was written in this life of the system.
    pub(super) fn living(&self, id: &InstanceId) -> Option<Record> {
        self.record(id).filter(|record| record.is_of(&self.life))
    }
}

/// An instance that is being stopped.
#[derive(Debug)]
pub(super) struct Stopping {
    /// It is on the roster, so that it could be wished to run.
    is_configured: bool,
    /// The keeper that was asked, and how.
    asked: Option<(Identity, Asking)>,
    was_there: bool,
    cleared: u32,
    since: Instant,
}

impl Stopping {
    pub(super) fn new(is_configured: bool) -> Self {
        Self {
            is_configured,
            asked: None,
            was_there: false,
            cleared: 0,
            since: Instant::now(),
        }
    }

    /// Somebody has the lock, and cannot be found.
    fn lost(&self, id: &InstanceId) -> Result<()> {
        if self.since.elapsed() < FOUND_WITHIN {
            return Ok(());
        }
        Err(Error::temporary(format!(
            "{id} is kept by a process that cannot be seen from here, of another container or host; stop it there"
        )))
    }
}
