//! The keeper: the small process that has one worker as its child. It starts it, writes its log, knows how it ended, starts
//! it again, and ends all that it has started.
//!
//! It is this same program, started as `qctl __keeper`, in a session of its own. Standard input is the instance's lock,
//! held: as long as the keeper lives, nobody else keeps this instance. Standard output is a line to whoever started it,
//! over which its plan comes and its first words go; it is closed then.

mod launch;
mod log;
mod notifier;
mod running;
mod steps;
mod strays;
pub(super) mod tree;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Heard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::stdio as standard;
use serde::{Deserialize, Serialize};

use self::log::Log;
use self::notifier::Notifier;
use self::running::Running;
use self::strays::Strays;
use super::files;
use super::folder::Folder;
use super::plan::{Plan, Talk, Task};
use super::record::{Record, State, boot_now};
use super::signals::Signals;
use super::verdict::End;
use super::watched::Watched;
use crate::events::Journal;
use crate::process::{Identity, Life, close_inherited};

/// The hidden subcommand that makes this program a keeper.
pub const SUBCOMMAND: &str = "__keeper";

/// Whoever started it has said nothing that it could understand.
const USAGE: u8 = 2;
/// A plan is smaller.
const LARGEST_PLAN: u64 = 16 << 20;
/// The longest between two looks at files: a heartbeat, a link, the log.
const LOOK: Duration = Duration::from_secs(5);
/// A successor whose turn has not come by then gives up.
const TURN_WITHIN: Duration = Duration::from_mins(1);
/// How long a successor with an older configuration has to withdraw.
const WITHDRAW_WITHIN: Duration = Duration::from_secs(2);
/// How long a guardian has for the children of its consumer before it is killed too.
const COMPANION: Duration = Duration::from_secs(6);

/// A keeper's first words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The worker was started.
    Started {
        /// Its number.
        pid: i32,
        /// What is not as it should be.
        trouble: Option<String>,
    },
    /// It was not, and will be.
    Waiting(String),
    /// It ends what is there first.
    Clearing,
    /// It will take over.
    Succeeding,
    /// There is nothing to do for it.
    Needless(String),
}

/// A keeper's whole life; the answer is its exit code. `talk` makes it speak on standard error.
pub fn main(talk: impl FnOnce(Talk)) -> u8 {
    match Keeper::begin(talk) {
        Ok(mut keeper) => {
            keeper.keep();
            0
        }
        Err(_) => USAGE,
    }
}

/// What the keeper was asked for last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// To start the worker anew, for this reason.
    Restart(String),
    Stop,
    StopNow,
}

/// The taking over from the keeper that there is.
#[derive(Debug)]
struct Succession {
    since: Instant,
    reason: String,
    /// Held, so that there is one successor.
    next: File,
    /// The keeper that it is to replace, and whether it was asked to end.
    old: Option<Identity>,
    signalled: bool,
}

#[derive(Debug)]
enum Phase {
    /// Waits for the keeper that there is to end.
    Succeeding(Succession),
    /// Ends what a keeper that was killed has left.
    Clearing(Strays),
    /// Waits before the worker is started again.
    Resting {
        until: Instant,
        parked: Option<Watched>,
        reason: String,
    },
    Running(Running),
    /// The worker has ended; ends what it has left behind.
    Sweeping {
        since: Instant,
        ended: Running,
        end: End,
    },
    Over,
}

struct Keeper {
    plan: Plan,
    folder: Folder,
    lock: File,
    /// Where its record stands; `None`: it cannot be written.
    state: Option<File>,
    record: Record,
    line: Option<UnixStream>,
    signals: Signals,
    output: (OwnedFd, OwnedFd),
    log: Log,
    journal: Journal,
    notifier: Notifier,
    asked: Asked,
    phase: Phase,
    turn: Option<File>,
    restart_on: Watched,
    looked: Instant,
}

impl Keeper {
    fn begin(talk: impl FnOnce(Talk)) -> io::Result<Self> {
        close_inherited();
        // Before anything else: what is sent from now on waits until it is read.
        let mut signals = Signals::block(&[
            Heard::SIGTERM,
            Heard::SIGINT,
            Heard::SIGHUP,
            Heard::SIGQUIT,
            Heard::SIGCHLD,
        ])?;
        // Started by hand it may lead a group, and cannot begin a session.
        let _ = rustix::process::setsid();
        // What came before was for the terminal's whole group; nobody else knows of this process yet.
        while signals.next().is_some() {}
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        std::env::set_current_dir("/")?;
        let lock = File::from(standard::stdin().try_clone_to_owned()?);
        let mut line = UnixStream::from(standard::stdout().try_clone_to_owned()?);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        standard::dup2_stdin(&null)?;
        standard::dup2_stdout(&null)?;
        let mut text = Vec::new();
        (&mut line).take(LARGEST_PLAN).read_to_end(&mut text)?;
        // Cut short if whoever started it was killed meanwhile: then there is nothing to keep.
        let plan: Plan = serde_json::from_slice(&text)?;
        if let Some(wanted) = plan.talk {
            talk(wanted);
        }
        let folder = plan.folder();
        let life = Life::current()?;
        let record = Record {
            id: plan.spec.id.clone(),
            life,
            keeper: Identity::own()?,
            worker: None,
            state: State::Starting,
            is_last: false,
            since: boot_now(),
            started: None,
            next: None,
            restarts: 0,
            failures: 0,
            last: None,
            digest: plan.digest.clone(),
            config: plan.config.clone(),
        };
        Ok(Self {
            log: Log::open(plan.spec.log_file(&folder), plan.spec.log_size, plan.spec.log_keep),
            journal: Journal::at(folder.events()),
            notifier: Notifier::default(),
            restart_on: Watched::new(&plan.spec.restart_on),
            output: output_pipe()?,
            plan,
            folder,
            lock,
            state: None,
            record,
            line: Some(line),
            signals,
            asked: Asked::Nothing,
            phase: Phase::Over,
            turn: None,
            looked: Instant::now(),
        })
    }

    fn keep(&mut self) {
        self.phase = match self.plan.task.clone() {
            Task::Keep { strays } => self.take_over(strays, "wanted"),
            Task::Clear => {
                self.asked = Asked::Stop;
                self.take_over(true, "")
            }
            Task::Succeed { reason } => self.succeed(reason),
        };
        while !matches!(self.phase, Phase::Over) {
            self.step();
            if matches!(self.phase, Phase::Over) {
                break;
            }
            self.wait();
            self.hear();
            self.take_output();
        }
        self.take_output();
        self.notify_rest();
    }

    fn is_stopping(&self) -> bool {
        matches!(self.asked, Asked::Stop | Asked::StopNow)
    }

    /// Waits until something happens or is due.
    fn wait(&mut self) {
        let wait = match &self.phase {
            Phase::Succeeding(_) | Phase::Clearing(_) => Duration::from_millis(20),
            Phase::Sweeping { since, .. } if since.elapsed() < Duration::from_millis(100) => Duration::from_millis(2),
            Phase::Sweeping { .. } => Duration::from_millis(50),
            Phase::Resting { until, parked, .. } => {
                let left = until.saturating_duration_since(Instant::now());
                left.min(if parked.is_some() { Duration::from_secs(1) } else { LOOK })
            }
            Phase::Running(running) => running.wait(self.plan.spec.heartbeat, matches!(self.asked, Asked::Restart(_))),
            Phase::Over => return,
        };
        let mut set = [
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.output.0, PollFlags::IN),
        ];
        // Interrupted or not: what there is is looked at next.
        let _ = poll(&mut set, Timespec::try_from(wait).ok().as_ref());
    }

    fn hear(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Heard::SIGTERM if self.asked != Asked::StopNow => self.asked = Asked::Stop,
                Heard::SIGINT | Heard::SIGQUIT => self.asked = Asked::StopNow,
                _ => {}
            }
        }
    }

    fn take_output(&mut self) {
        let mut buffer = [0; 8192];
        // Bounded: a worker that prints without end must not keep its keeper from everything else.
        for _ in 0..64 {
            match rustix::io::read(&self.output.0, &mut buffer) {
                Ok(length) if length > 0 => self.log.append(&buffer[..length]),
                _ => return,
            }
        }
    }

    fn take_turn(&mut self) -> bool {
        if self.plan.spec.instances <= 1 || self.turn.is_some() {
            return true;
        }
        self.turn = files::try_lock(&self.folder.turn(&self.plan.spec.id.worker))
            .ok()
            .flatten();
        self.turn.is_some()
    }

    fn write(&mut self, state: State) {
        self.record.is_last = self.is_stopping();
        if self.record.state != state {
            self.record.state = state;
            self.record.since = boot_now();
        }
        // A worker that runs unrecorded runs all the same.
        if let Some(state) = &self.state {
            let _ = self.record.write(state);
        }
    }

    fn reply(&mut self, reply: &Reply) {
        if let Some(mut line) = self.line.take() {
            // Whoever does not listen any more need not be told.
            let _ = line.write_all(&serde_json::to_vec(reply).unwrap_or_default());
        }
    }
}

/// The end that is read does not wait; the worker's does, as programs expect of what they print to.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

fn signal(number: i32) -> Signal {
    Signal::from_named_raw(number).unwrap_or(Signal::TERM)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Signals a worker's process group, which it leads.
fn signal_group(leader: Pid, signal: Signal) {
    // Not reaped, so its number is still its own. What has left the group is ended when the worker has.
    let _ = kill_process_group(leader, signal);
}
