//! Keeping workers in the foreground: for systemd, for containers, for people who watch.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use super::change::{Asking, Stopping};
use super::files::{try_lock, unwritable};
use super::finding::Severity;
use super::folder::InstanceId;
use super::keeper::tree;
use super::record::{Record, State};
use super::signals::Signals;
use super::site::{Site, Wanted, chosen};
use super::watched::Watched;
use crate::error::{Error, Result};

/// All is looked at this often, for what others may have done to it.
const EVERY: Duration = Duration::from_secs(5);
/// How long listeners may take to hear of the last ends: where this is the first process of a container, they end with it.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// A keeper that does not stay is started again no more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// A configuration that was read.
pub struct Loaded {
    /// Where and how.
    pub site: Site,
    /// The key that its digests were made with.
    pub key: Vec<u8>,
    /// What is wanted.
    pub roster: Vec<Wanted>,
    /// The files it was read from.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration.
pub type Load<'a> = dyn FnMut() -> Result<Loaded> + 'a;

/// Keeps workers until it is asked to end.
struct Runner<'a> {
    /// The locks that say that nobody else keeps the same workers in the foreground.
    held: BTreeMap<String, File>,
    loaded: Loaded,
    names: &'a [String],
    files: Watched,
    signals: Signals,
    checked: Option<Instant>,
    ping_every: Option<Duration>,
    pinged: Instant,
    /// What was complained of last, so that it is said once.
    complaint: String,
}

/// Takes the locks of these workers that are not held already. Two in the foreground would each end the other's when they end.
fn hold(held: &mut BTreeMap<String, File>, loaded: &Loaded, names: &[String]) -> Result<()> {
    for wanted in chosen(&loaded.roster, names) {
        let id = &wanted.spec.id;
        if held.contains_key(&id.worker) {
            continue;
        }
        let path = loaded.site.folder.run(&id.worker);
        let Some(lock) = try_lock(&path).map_err(|error| unwritable(&path, &error))? else {
            return Err(Error::temporary(format!(
                "another `qctl watchdog run` keeps the worker {} ({} is locked); end that first, or name other workers",
                id.worker,
                path.display()
            )));
        };
        held.insert(id.worker.clone(), lock);
    }
    Ok(())
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Child,
    Reload,
    Stop,
}

/// Keeps these workers, all of them without names, until SIGTERM or SIGINT asks to end; a second one ends them at once. SIGHUP has
/// the configuration read anew, as a change of its files has.
pub fn run(load: &mut Load<'_>, names: &[String]) -> Result<()> {
    let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD])
        .map_err(|error| Error::general("signals cannot be watched").because(error))?;
    // What a killed keeper leaves comes to this process and not to init: in a container there may be none.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Error::general("this process cannot adopt orphans").because(error))?;
    let loaded = load()?;
    let mut held = BTreeMap::new();
    hold(&mut held, &loaded, names)?;
    let mut runner = Runner {
        held,
        files: Watched::new(&loaded.files),
        loaded,
        names,
        signals,
        checked: None,
        ping_every: sd_notify::watchdog_enabled().map(|limit| limit / 2),
        pinged: Instant::now(),
        complaint: String::new(),
    };
    runner.check()?;
    say(&[NotifyState::Ready]);
    let mut is_due = false;
    loop {
        runner.ping();
        match runner.wait(is_due) {
            Heard::Stop => break,
            Heard::Child => is_due = true,
            Heard::Reload => {
                runner.reload(load);
                is_due = true;
            }
            Heard::Nothing => {}
        }
        if runner.files.changed().is_some() {
            runner.reload(load);
            is_due = true;
        }
        let since = runner.checked.map_or(EVERY, |checked| checked.elapsed());
        if since >= EVERY || (is_due && since >= AT_MOST_EVERY) {
            is_due = false;
            // Somebody has removed the folder: digests made with the key before say nothing any more.
            if runner.loaded.site.folder.read_key().as_ref() != Some(&runner.loaded.key) {
                runner.reload(load);
            }
            if let Err(error) = runner.check() {
                runner.complain(&error.to_string());
            }
        }
    }
    say(&[NotifyState::Stopping]);
    runner.stop()
}

impl Runner<'_> {
    fn check(&mut self) -> Result<()> {
        self.checked = Some(Instant::now());
        let site = &self.loaded.site;
        let mut complaints = Vec::new();
        // What this configuration does not know, one that is about to be read may.
        let others = !self.files.differs();
        for found in site.look_after(&self.loaded.roster, self.names, false, others)? {
            match found.severity {
                Severity::Fine => {}
                Severity::Mended => tracing::info!(worker = %found.id, "{}", found.text),
                // Keepers tell of their own workers; this is what nobody else tells of.
                Severity::Backoff | Severity::Config => {
                    let is_told = |record: Record| {
                        let waits = matches!(record.state, State::Backoff | State::Parked);
                        waits && record.keeper.find().is_some() && site.is_ours(&record)
                    };
                    if !site.record(&found.id).is_some_and(is_told) {
                        complaints.push(format!("{}: {}", found.id, found.text));
                    }
                }
            }
        }
        self.complain(&complaints.join("; "));
        Ok(())
    }

    fn complain(&mut self, what: &str) {
        if !what.is_empty() && self.complaint != what {
            tracing::error!("{what}");
        }
        what.clone_into(&mut self.complaint);
    }

    /// Reads the configuration anew. One that is wrong changes nothing.
    fn reload(&mut self, load: &mut Load<'_>) {
        self.files.settle();
        match load() {
            Ok(loaded) => {
                tracing::info!("the configuration was read anew");
                if let Err(error) = hold(&mut self.held, &loaded, self.names) {
                    tracing::error!(%error, "a worker is kept twice");
                }
                self.files = Watched::new(&loaded.files);
                self.loaded = loaded;
            }
            Err(error) => {
                tracing::error!(%error, "the configuration cannot be read; the workers go on with the one before");
            }
        }
    }

    /// Waits for a signal, or until something is due.
    fn wait(&mut self, is_due: bool) -> Heard {
        let mut wait = if is_due { AT_MOST_EVERY / 10 } else { EVERY };
        // A change of a file is told when it is seen twice.
        wait = wait.min(Duration::from_secs(1));
        if let Some(every) = self.ping_every {
            wait = wait.min(every / 2);
        }
        let heard = self.hear();
        if heard != Heard::Nothing {
            return heard;
        }
        let _ = poll(
            &mut [PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)],
            Timespec::try_from(wait).ok().as_ref(),
        );
        self.hear()
    }

    fn hear(&mut self) -> Heard {
        let mut heard = Heard::Nothing;
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => heard = Heard::Stop,
                Signal::SIGHUP if heard != Heard::Stop => heard = Heard::Reload,
                _ if heard == Heard::Nothing => heard = Heard::Child,
                _ => {}
            }
        }
        // Keepers, and strangers that have nobody else.
        tree::reap();
        heard
    }

    fn ping(&mut self) {
        if let Some(every) = self.ping_every
            && self.pinged.elapsed() >= every / 2
        {
            self.pinged = Instant::now();
            say(&[NotifyState::Watchdog]);
        }
    }

    /// Ends what it has kept, and waits for it.
    fn stop(mut self) -> Result<()> {
        let site = self.loaded.site.clone();
        let open: BTreeMap<InstanceId, Stopping> = chosen(&self.loaded.roster, self.names)
            .map(|wanted| (wanted.spec.id.clone(), Stopping::new(true)))
            .collect();
        tracing::info!("stopping: work is finished first; a second signal ends it at once");
        let mut asking = Asking::Drain;
        site.end(
            open,
            &mut || {
                if self.hear() == Heard::Stop {
                    asking = Asking::Now;
                }
                self.ping();
                asking
            },
            false,
            &mut |found| {
                if found.severity == Severity::Mended {
                    tracing::info!(worker = %found.id, "{}", found.text);
                }
            },
        )?;
        if site.folder.is_any_heard() {
            self.wait_for_listeners(asking == Asking::Now);
        }
        Ok(())
    }

    /// Waits until those that tell listeners have done so; a signal ends the wait.
    fn wait_for_listeners(&mut self, mut in_haste: bool) {
        let until = Instant::now() + LAST_WORDS;
        // They were the keepers' children, and are this process's now, as nothing else is.
        while tree::reap().left {
            if in_haste || Instant::now() >= until {
                tracing::warn!("listeners are still being told of the last ends; it goes on without this process");
                return;
            }
            self.ping();
            let _ = poll(
                &mut [PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)],
                Timespec::try_from(Duration::from_millis(50)).ok().as_ref(),
            );
            in_haste = self.hear() == Heard::Stop;
        }
    }
}

/// Tells systemd, where it listens.
fn say(what: &[NotifyState<'_>]) {
    // Whoever does not listen need not be told.
    let _ = sd_notify::notify(what);
}
