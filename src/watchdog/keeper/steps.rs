//! The keeper's steps: what it does in each of its phases, until it ends.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitStatus};

use super::launch::words;
use super::running::{Ending, Running, Why};
use super::strays::Strays;
use super::tree;
use super::{Asked, COMPANION, Keeper, LOOK, Phase, Reply, Succession, TURN_WITHIN, WITHDRAW_WITHIN, signal};
use crate::watchdog::files;
use crate::watchdog::folder::InstanceId;
use crate::watchdog::marks::mark;
use crate::watchdog::record::{self, Record, State};
use crate::watchdog::verdict::End;
use crate::watchdog::watched::Watched;

impl Keeper {
    /// Becomes the successor of the keeper that there is.
    pub(super) fn succeed(&mut self, reason: String) -> Phase {
        let id = self.plan.spec.id.clone();
        // One that waits with an older configuration sees that there is a newer one, and withdraws.
        let until = Instant::now() + WITHDRAW_WITHIN;
        let next = loop {
            let next = files::try_lock(&self.folder.next(&id));
            if !matches!(next, Ok(None)) || !self.is_newest() || Instant::now() >= until {
                break next;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        match next {
            Ok(Some(next)) => {
                self.reply(&Reply::Succeeding);
                Phase::Succeeding(Succession {
                    since: Instant::now(),
                    reason,
                    next,
                    old: self.stored().map(|record| record.keeper),
                    signalled: false,
                })
            }
            Ok(None) => {
                self.reply(&Reply::Needless("it is being replaced already".to_owned()));
                Phase::Over
            }
            Err(error) => {
                self.reply(&Reply::Needless(format!("it cannot be replaced: {error}")));
                Phase::Over
            }
        }
    }

    /// Whether nobody wants it to run with another configuration by now.
    fn is_newest(&self) -> bool {
        self.folder.next_digest(&self.plan.spec.id) == self.plan.digest
    }

    /// Whether it may take the old one's place: of the worker's other instances none has failed with this configuration, and, if
    /// the old one works, all of them do. `same`: the old one runs with this configuration too.
    fn is_its_turn(&mut self, works: bool, same: bool) -> bool {
        let id = self.plan.spec.id.clone();
        let others = (1..=self.plan.spec.instances).filter(|number| *number != id.number);
        let others: Vec<Option<Record>> = others
            .map(|number| {
                let worker = id.worker.clone();
                let record = self.folder.record(&InstanceId { worker, number })?;
                (record.is_of(&self.record.life) && record.keeper.find().is_some()).then_some(record)
            })
            .collect();
        let runs = |record: &Record| record.state == State::Running;
        let has_failed = |record: &Record| record.digest == self.plan.digest && !runs(record);
        if !same && others.iter().flatten().any(has_failed) {
            return false;
        }
        !works || (others.iter().all(|other| other.as_ref().is_some_and(runs)) && self.take_turn())
    }

    /// It has the lock: goes on where the keeper before it has ended.
    pub(super) fn take_over(&mut self, strays: bool, reason: &str) -> Phase {
        let before = self.stored();
        let mut unclean = strays;
        if let Some(before) = before {
            unclean |= before.is_unclean(&self.record.life);
            self.record.restarts = before.restarts;
            self.record.last.clone_from(&before.last);
            // What was before the system's last start says nothing of what runs now.
            if before.is_of(&self.record.life) {
                self.record.failures = before.failures;
                self.record.worker = before.worker;
            }
        }
        let reserved = self.open_state();
        if unclean {
            self.write(State::Stopping);
            self.reply(&Reply::Clearing);
            let signal = signal(self.plan.spec.stop_signal);
            let mark = mark(&self.plan.folder, &self.plan.spec.id);
            let mut users = vec![rustix::process::geteuid().as_raw()];
            users.extend(self.plan.spec.account.as_ref().map(|account| account.uid));
            let within = self.plan.spec.stop_within;
            return Phase::Clearing(Strays::new(mark, users, self.record.worker, signal, within));
        }
        self.record.worker = None;
        if let Err(error) = reserved {
            self.log.note(&format!("its state cannot be written: {error}"));
        }
        self.start(reason)
    }

    /// Opens the record's file, with room for all that will be written.
    fn open_state(&mut self) -> io::Result<()> {
        let file = files::open_with_mode(&self.folder.state(&self.plan.spec.id), 0o644)?;
        record::reserve(&file)?;
        self.state = Some(file);
        Ok(())
    }

    /// What is written down now.
    fn stored(&self) -> Option<Record> {
        self.folder.record(&self.plan.spec.id)
    }

    /// Writes the record anew where somebody, or a disk that was full, has spoilt it. Where the whole folder is gone, it is not
    /// made again: somebody else may keep this instance by now.
    fn mend_record(&mut self) {
        let is_keeping = !matches!(self.phase, Phase::Succeeding { .. } | Phase::Over)
            && files::is_at(&self.lock, &self.folder.lock(&self.plan.spec.id));
        if is_keeping && self.stored().as_ref() != Some(&self.record) {
            let _ = self.open_state();
            self.write(self.record.state);
        }
    }

    pub(super) fn step(&mut self) {
        let is_to_look = self.looked.elapsed() >= LOOK;
        if is_to_look {
            self.looked = Instant::now();
            self.log.follow();
            self.mend_record();
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        self.phase = match phase {
            Phase::Succeeding(succession) => self.step_succeeding(succession),
            Phase::Clearing(strays) => self.step_clearing(strays),
            Phase::Resting { until, parked, reason } => self.step_resting(until, parked, reason),
            Phase::Running(running) => self.step_running(running),
            Phase::Sweeping { since, ended, end } => self.step_sweeping(since, ended, end),
            Phase::Over => Phase::Over,
        };
        if !matches!(self.phase, Phase::Running(_) | Phase::Sweeping { .. }) {
            // Those that tell listeners: without a worker there is no other child.
            self.reap();
        }
        self.notify_next();
    }

    fn step_succeeding(&mut self, mut this: Succession) -> Phase {
        // By then the configuration may be another one: whoever looks after the workers starts a new successor.
        let is_too_late = !this.signalled && this.since.elapsed() >= TURN_WITHIN;
        if is_too_late
            || (!this.signalled && !self.is_newest())
            || self.is_stopping()
            || self.folder.is_stopped(&self.plan.spec.id.worker)
        {
            return Phase::Over;
        }
        let path = self.folder.lock(&self.plan.spec.id);
        if !files::is_at(&self.lock, &path) {
            // The folder was removed: what is there now is somebody else's to keep.
            return Phase::Over;
        }
        if matches!(files::lock_now(&self.lock), Ok(true)) {
            drop(this.next);
            return self.take_over(false, &this.reason);
        }
        if let Some(record) = self.stored().filter(|record| record.is_of(&self.record.life)) {
            if this.old.is_some_and(|old| old != record.keeper) {
                // Another one has taken over meanwhile.
                return Phase::Over;
            }
            let works = matches!(record.state, State::Running | State::Starting);
            if !this.signalled
                && self.is_its_turn(works, record.digest == self.plan.digest)
                && let Some(keeper) = record.keeper.find()
            {
                this.signalled = keeper.signal(Signal::TERM).is_ok();
            }
        }
        Phase::Succeeding(this)
    }

    fn step_clearing(&mut self, mut strays: Strays) -> Phase {
        if self.asked == Asked::StopNow {
            strays.hurry();
        }
        if !strays.look() {
            return Phase::Clearing(strays);
        }
        if !strays.ended.is_empty() {
            let pids: Vec<String> = strays.ended.iter().map(i32::to_string).collect();
            self.log
                .note(&format!("ended what was left of it: pid {}", pids.join(", ")));
        }
        let pid = self.record.worker.take().map(|worker| worker.pid);
        self.ended(pid, End::Unseen, Duration::ZERO, "its keeper was killed")
    }

    fn step_resting(&mut self, until: Instant, mut parked: Option<Watched>, reason: String) -> Phase {
        if self.is_stopping() {
            return self.finish();
        }
        if let Some(path) = parked.as_mut().and_then(Watched::changed) {
            let reason = format!("{} has changed", path.display());
            return self.start(&reason);
        }
        if Instant::now() >= until {
            return self.start(&reason);
        }
        Phase::Resting { until, parked, reason }
    }

    fn step_running(&mut self, mut running: Running) -> Phase {
        if let Some(status) = self.reap().of(running.pid) {
            let end = match running.ending.as_ref().map(|ending| &ending.why) {
                Some(Why::Hung(_)) => End::Hung,
                _ => end_of(status),
            };
            return Phase::Sweeping {
                since: Instant::now(),
                ended: running,
                end,
            };
        }
        if running.is_up(self.plan.spec.heartbeat) {
            // The next instance may be restarted now.
            self.turn = None;
            self.write(State::Running);
        }
        if let Some(silent) = running.is_silent(self.plan.spec.heartbeat) {
            let why = format!("no sign of life for {}", super::seconds(silent));
            self.log.note(&format!("{why}: ending it"));
            running.ending = Some(Ending::hung(why));
            self.write(State::Stopping);
        }
        self.ask_to_end(&mut running);
        if let Some(ending) = &mut running.ending {
            ending.press(running.pid, signal(self.plan.spec.stop_signal));
        }
        Phase::Running(running)
    }

    /// Sees whether there is a reason to end the worker.
    fn ask_to_end(&mut self, running: &mut Running) {
        if running.ending.is_none() && self.asked == Asked::Nothing {
            // Twice in a row, because a change is told when it rests.
            if running.is_to_look_at_files()
                && let Some(path) = self.restart_on.changed()
            {
                self.asked = Asked::Restart(format!("{} has changed", path.display()));
            }
        }
        let within = self.plan.spec.stop_within;
        let why = match &self.asked {
            Asked::Nothing => return,
            Asked::Restart(reason) => Why::Restart(reason.clone()),
            Asked::Stop | Asked::StopNow => Why::Stop,
        };
        match &mut running.ending {
            None => {
                if matches!(why, Why::Restart(_)) && !self.is_its_turn(true, true) {
                    return;
                }
                running.ending = Some(Ending::asked(why, within));
                self.write(State::Stopping);
            }
            Some(ending) if matches!(why, Why::Stop) && matches!(ending.why, Why::Restart(_)) => ending.why = why,
            Some(_) => {}
        }
        if let (Asked::StopNow, Some(ending)) = (&self.asked, &mut running.ending) {
            ending.hurry();
        }
    }

    fn step_sweeping(&mut self, since: Instant, ended: Running, end: End) -> Phase {
        if self.reap().left {
            tree::kill(since.elapsed() < COMPANION, self.notifier.telling());
            return Phase::Sweeping { since, ended, end };
        }
        self.record.worker = None;
        let pid = Some(ended.pid.as_raw_nonzero().get());
        let ran = ended.since.elapsed();
        match ended.ending.map(|ending| ending.why) {
            Some(Why::Restart(reason)) => {
                self.asked = Asked::Nothing;
                self.restart_on.settle();
                self.stopped(pid, end, ran, &reason);
                self.record.failures = 0;
                self.record.restarts += 1;
                self.start(&reason)
            }
            Some(Why::Stop) => {
                self.stopped(pid, end, ran, "asked to stop");
                self.finish()
            }
            Some(Why::Hung(why)) => self.ended(pid, end, ran, &why),
            None => {
                let words = words(end);
                self.ended(pid, end, ran, &words)
            }
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exit(code),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Unseen,
    }
}
