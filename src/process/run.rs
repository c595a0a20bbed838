//! Runs one child to its end on the calling thread.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::Signal;

use super::cancel::Cancel;
use super::capture::{Captured, Tail};
use super::guardian::Guardian;
use super::leash::Leash;
use super::output::{LineSink, Output, Stream};
use super::spawn::{Program, SpawnError};

/// How long a child that was asked to end may take before it is killed, unless a job says otherwise.
pub const GRACE: Duration = Duration::from_secs(5);

/// A pipe always holds this much, so a body up to this size is written before the child exists.
const PIPE_FLOOR: usize = 4096;

/// After a child's end its pipes may still be held open by a process that left its group: they are read until nothing
/// comes for so long …
const DRAIN_SILENCE: Duration = Duration::from_millis(100);

/// … but never longer than this.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What is noted of a child that writes to no pipe of ours; no pipe has this inode.
const NO_PIPE: u64 = 0;

/// Where the system has no pidfd, a child's end is looked for this often.
const WITHOUT_PIDFD: Duration = Duration::from_millis(10);

/// One child to be run.
pub struct Job {
    /// What to run.
    pub program: Program,
    /// Its standard input.
    pub input: Vec<u8>,
    /// How long it may run; `None`: for ever.
    pub timeout: Option<Duration>,
    /// How long it may take to end once it was asked to, before it is killed.
    pub grace: Duration,
    /// How much of the head of each output stream is kept.
    pub keep: usize,
    /// Where its output goes.
    pub output: ChildOutput,
    /// Takes captured output line by line.
    pub lines: Option<LineSink>,
    /// Is told of the child's process group while it lives.
    pub guardian: Option<Arc<Guardian>>,
    /// In a [`Pool`](super::Pool): its end may be told a moment later, together with the next ones.
    pub deferrable: bool,
}

impl Job {
    /// A job with no input, no time-out, the usual grace and nothing kept.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            input: Vec::new(),
            timeout: None,
            grace: GRACE,
            keep: 0,
            output: ChildOutput::default(),
            lines: None,
            guardian: None,
            deferrable: false,
        }
    }
}

/// Where a child's two output streams go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChildOutput {
    /// To us: logged, and kept as far as the job says.
    #[default]
    Captured,
    /// To where our own go; we see nothing of it.
    Inherited,
}

/// Why a child was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Its time was over.
    TimedOut,
    /// Through its [`Cancel`].
    Cancelled,
}

/// How a child ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code. Neither this nor `signal` is known when another part of the process took the status away.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was ended by us, and why.
    pub stopped: Option<Stopped>,
    /// The head of its standard output.
    pub stdout: Captured,
    /// The head of its standard error.
    pub stderr: Captured,
    /// The last lines of its standard error.
    pub stderr_tail: String,
}

/// Runs children one after the other; it keeps what can be used again.
#[derive(Debug)]
pub struct Runner {
    buffer: Vec<u8>,
    /// Raised by [`Cancel`].
    wake: Arc<OwnedFd>,
}

impl Runner {
    /// A runner for the calling thread.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            buffer: vec![0; 64 * 1024],
            wake: Arc::new(wake),
        })
    }

    /// Runs a child to its end. When this returns (or panics), the child is reaped and its process group is gone.
    pub fn run(&mut self, job: Job, cancel: &Cancel) -> Result<Ended, SpawnError> {
        if !cancel.attach(&self.wake) {
            return Ok(Ended {
                stopped: Some(Stopped::Cancelled),
                ..Ended::default()
            });
        }
        let _detach = Detach(cancel);
        let wake = Arc::clone(&self.wake);
        let mut running = Run::start(job)?;
        while running.step(&wake, cancel, &mut self.buffer) {}
        Ok(running.finish())
    }
}

struct Detach<'a>(&'a Cancel);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        self.0.detach();
    }
}

/// How far a child is on its way.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Running { deadline: Option<Instant> },
    AskedToEnd { kill_at: Instant },
    Killed,
    Drain { silent_at: Instant, over_at: Instant },
}

struct Run {
    leash: Leash,
    phase: Phase,
    stopped: Option<Stopped>,
    status: Option<ExitStatus>,
    stdin: Option<PipeWriter>,
    input: Vec<u8>,
    written: usize,
    stdout: Output,
    stderr: Output,
    tail: Tail,
    grace: Duration,
    keep: usize,
    sink: Option<LineSink>,
}

impl Run {
    fn start(job: Job) -> Result<Self, SpawnError> {
        let (stdout_pipe, child_stdout) = stream(job.output)?;
        let (stderr_pipe, child_stderr) = stream(job.output)?;
        let mut input = job.input;
        let mut stdin = None;
        let child_stdin = if input.is_empty() {
            Stdio::null()
        } else {
            let (child_end, mut own_end) = io::pipe().map_err(|error| short_of_files(&error))?;
            if input.len() <= PIPE_FLOOR {
                own_end.write_all(&input).map_err(|error| short_of_files(&error))?;
                input = Vec::new();
            } else {
                rustix::io::ioctl_fionbio(&own_end, true).map_err(|error| short_of_files(&error.into()))?;
                stdin = Some(own_end);
            }
            Stdio::from(child_end)
        };
        let mut command = job.program.command(child_stdin, child_stdout, child_stderr);
        let announced = match &job.guardian {
            Some(guardian) => {
                let inode = match &stdout_pipe {
                    Some(pipe) => {
                        rustix::fs::fstat(pipe)
                            .map_err(|error| short_of_files(&error.into()))?
                            .st_ino
                    }
                    None => NO_PIPE,
                };
                Some(guardian.announce(inode))
            }
            None => None,
        };
        let child = job.program.start(&mut command)?;
        let leash = Leash::new(child, command, announced);
        Ok(Self {
            leash,
            phase: Phase::Running {
                deadline: job.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            },
            stopped: None,
            status: None,
            stdin,
            input,
            written: 0,
            stdout: Output::new(Stream::Stdout, stdout_pipe),
            stderr: Output::new(Stream::Stderr, stderr_pipe),
            tail: Tail::default(),
            grace: job.grace,
            keep: job.keep,
            sink: job.lines,
        })
    }

    /// Waits for one thing to happen and deals with it; `false` when all is over.
    fn step(&mut self, wake: &OwnedFd, cancel: &Cancel, buffer: &mut [u8]) -> bool {
        let ready = match self.wait(wake) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN | rustix::io::Errno::NOMEM) => return true,
            // Nothing else can come from a valid set; the leash kills the child if it does.
            Err(_) => return false,
        };
        let mut heard = false;
        if !ready.stdin.is_empty() {
            self.write_some();
        }
        if !ready.stdout.is_empty() {
            heard |= self.stdout.read(ready.stdout, buffer, self.keep, None, &mut self.sink);
        }
        if !ready.stderr.is_empty() {
            heard |= self
                .stderr
                .read(ready.stderr, buffer, self.keep, Some(&mut self.tail), &mut self.sink);
        }
        if !matches!(self.phase, Phase::Drain { .. }) && self.leash.has_ended(!ready.child.is_empty()) {
            self.status = self.leash.reap();
            self.stdin = None;
            let now = Instant::now();
            self.phase = Phase::Drain {
                silent_at: now + DRAIN_SILENCE,
                over_at: now + DRAIN_LIMIT,
            };
            return self.is_open();
        }
        if let Phase::Running { .. } = self.phase
            && !ready.wake.is_empty()
            && cancel.is_cancelled()
        {
            self.ask_to_end(Stopped::Cancelled);
        }
        self.watch_the_clock(heard)
    }

    fn watch_the_clock(&mut self, heard: bool) -> bool {
        match &mut self.phase {
            Phase::Running {
                deadline: Some(deadline),
            } if Instant::now() >= *deadline => {
                self.ask_to_end(Stopped::TimedOut);
            }
            Phase::AskedToEnd { kill_at } if Instant::now() >= *kill_at => {
                self.leash.signal(Signal::KILL);
                self.phase = Phase::Killed;
            }
            Phase::Drain { silent_at, over_at } => {
                let now = Instant::now();
                if heard {
                    *silent_at = now + DRAIN_SILENCE;
                }
                let over = now >= *silent_at || now >= *over_at;
                return !over && self.is_open();
            }
            _ => {}
        }
        true
    }

    fn ask_to_end(&mut self, why: Stopped) {
        self.leash.signal(Signal::TERM);
        self.stopped = Some(why);
        self.phase = Phase::AskedToEnd {
            kill_at: Instant::now() + self.grace,
        };
    }

    fn is_open(&self) -> bool {
        self.stdout.pipe.is_some() || self.stderr.pipe.is_some()
    }

    fn wait(&self, wake: &OwnedFd) -> rustix::io::Result<Ready> {
        let wake = wake.as_fd();
        let listen = if matches!(self.phase, Phase::Running { .. }) {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let alive = !matches!(self.phase, Phase::Drain { .. });
        let child = self.leash.pidfd().filter(|_| alive);
        let mut set = [
            PollFd::from_borrowed_fd(wake, listen),
            watched(child, PollFlags::IN, wake),
            watched(self.stdout.pipe.as_ref(), PollFlags::IN, wake),
            watched(self.stderr.pipe.as_ref(), PollFlags::IN, wake),
            watched(self.stdin.as_ref(), PollFlags::OUT, wake),
        ];
        let mut until = match self.phase {
            Phase::Running { deadline } => deadline,
            Phase::AskedToEnd { kill_at } => Some(kill_at),
            Phase::Killed => None,
            Phase::Drain { silent_at, over_at } => Some(silent_at.min(over_at)),
        };
        if alive && child.is_none() {
            let look = Instant::now() + WITHOUT_PIDFD;
            until = Some(until.map_or(look, |until| until.min(look)));
        }
        let timeout = until.and_then(|until| Timespec::try_from(until.saturating_duration_since(Instant::now())).ok());
        poll(&mut set, timeout.as_ref())?;
        Ok(Ready {
            wake: set[0].revents(),
            child: set[1].revents(),
            stdout: set[2].revents(),
            stderr: set[3].revents(),
            stdin: set[4].revents(),
        })
    }

    fn write_some(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        match pipe.write(&self.input[self.written..]) {
            Ok(count) => self.written += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // The child does not want the rest: that is its right.
            Err(_) => self.written = self.input.len(),
        }
        if self.written == self.input.len() {
            self.stdin = None;
            self.input = Vec::new();
        }
    }

    fn finish(mut self) -> Ended {
        for output in [&mut self.stdout, &mut self.stderr] {
            output.end(&mut self.sink);
        }
        Ended {
            exit_code: self.status.and_then(|status| status.code()),
            signal: self.status.and_then(|status| status.signal()),
            stopped: self.stopped,
            stdout: self.stdout.head,
            stderr: self.stderr.head,
            stderr_tail: self.tail.text(),
        }
    }
}

struct Ready {
    wake: PollFlags,
    child: PollFlags,
    stdout: PollFlags,
    stderr: PollFlags,
    stdin: PollFlags,
}

/// An entry of the poll set. What is not there is stood in for by another descriptor that is asked for nothing.
fn watched<'a, Fd: AsFd>(fd: Option<&'a Fd>, events: PollFlags, stand_in: BorrowedFd<'a>) -> PollFd<'a> {
    match fd {
        Some(fd) => PollFd::from_borrowed_fd(fd.as_fd(), events),
        None => PollFd::from_borrowed_fd(stand_in, PollFlags::empty()),
    }
}

/// One of the child's streams: our end, if we are to see it, and its own.
fn stream(output: ChildOutput) -> Result<(Option<PipeReader>, Stdio), SpawnError> {
    match output {
        ChildOutput::Inherited => Ok((None, Stdio::inherit())),
        ChildOutput::Captured => {
            let (ours, theirs) = io::pipe().map_err(|error| short_of_files(&error))?;
            Ok((Some(ours), Stdio::from(theirs)))
        }
    }
}

fn short_of_files(error: &io::Error) -> SpawnError {
    SpawnError::Busy(format!("cannot make a pipe for a child: {error}"))
}
