//! The guardian: the small companion process that ends a consumer's children when the consumer is gone without having
//! ended them itself (`kill -9`, out of memory), so that no child runs on beside its redelivered message.
//!
//! It is this same program, started as `qctl __guardian`. Its standard input is the consumer's [`Lifeline`] file, which
//! holds the record of what runs, and for as long as the guardian has it open the consumer counts as alive. Its standard
//! error is one end of a pair of sockets, the line, whose end of file says that the consumer is gone. A child that is
//! being spawned holds copies of both until its `exec`, so at the line's end every child is either one that carries the
//! owner's mark or one that never came to be.

mod companion;
pub(super) mod record;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use companion::main;
use record::Record;

use rustix::io::Errno;
use rustix::process::Pid;

use super::environment::Environment;
use super::spawn::Program;
use super::stat::environment_of;
use crate::error::{Error, Result};
use crate::queue::Lifeline;

/// The hidden subcommand that makes this program the guardian.
pub const SUBCOMMAND: &str = "__guardian";

/// The variable that tells the guardian which owner's children are its care. It is not the children's own mark, or the
/// guardian would find itself.
const TOKEN: &str = "QCTL_GUARD";

/// A guardian that has not said that it is ready after this time never will.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// The longest wait between two tries to start a guardian in place of one that died.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// A consumer's guardian. Dropped, it is told that all is well, and waited for.
#[derive(Debug)]
pub struct Guardian {
    shared: Arc<Shared>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    program: PathBuf,
    token: String,
    file: Option<Arc<File>>,
    socket: Option<Arc<OwnedFd>>,
    state: Mutex<State>,
    finishing: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None` once it was told that all is well.
    on_duty: Option<OnDuty>,
}

#[derive(Debug)]
struct OnDuty {
    record: Record,
    /// Our end of the line to the guardian that lives now.
    line: Option<UnixStream>,
}

impl Guardian {
    /// Starts the guardian of a consumer's children; `program` is qctl itself.
    pub fn start(program: &Path, lifeline: &Lifeline) -> Result<Self> {
        let name = program.to_string_lossy().into_owned();
        let program = Program::locate(vec![name], Environment::inherited(), None)
            .map_err(|error| cannot(program, &error.to_string()))?;
        // The guardian's working directory is `/`, so that it keeps no file system busy.
        let program =
            std::path::absolute(program.path()).map_err(|error| cannot(program.path(), &error.to_string()))?;
        let record = Record::begin(lifeline.file.clone())
            .map_err(|error| Error::temporary("cannot write down for the guardian what runs").because(error))?;
        let shared = Arc::new(Shared {
            program,
            token: lifeline.token.clone(),
            file: lifeline.file.clone(),
            socket: lifeline.socket.clone(),
            state: Mutex::new(State {
                on_duty: Some(OnDuty { record, line: None }),
            }),
            finishing: Condvar::new(),
        });
        let child = shared.spawn().map_err(|error| cannot_start(&shared.program, error))?;
        let child = child.ok_or_else(|| Error::bug("a guardian was finished before it was started"))?;
        let watched = Arc::clone(&shared);
        let watcher = thread::Builder::new()
            .name("qctl-guardian".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || watched.watch(child))
            .map_err(|error| Error::temporary("cannot start a thread for the guardian").because(error))?;
        Ok(Self {
            shared,
            watcher: Mutex::new(Some(watcher)),
        })
    }

    /// Whose children it guards.
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Whether it guards for this lifeline: the same owner, and the same open file.
    pub fn serves(&self, lifeline: &Lifeline) -> bool {
        let same_file = match (&self.shared.file, &lifeline.file) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        same_file && self.shared.token == lifeline.token
    }

    /// A child is about to be started whose standard output goes to the pipe of this inode.
    pub(super) fn announce(self: &Arc<Self>, pipe: u64) -> Announced {
        let duty = &mut self.shared.lock().on_duty;
        Announced {
            line: duty.as_mut().map(|duty| duty.record.announce(pipe)),
            guardian: Arc::clone(self),
            pipe,
        }
    }

    /// Tells it that the consumer ends in good order, and waits for its end. Once is enough; dropping does it too.
    pub fn finish(&self) {
        if let Some(duty) = self.shared.lock().on_duty.take() {
            // Before the line is closed, or the guardian would look around for what there is not.
            duty.record.close();
        }
        self.shared.finishing.notify_all();
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            // It only waits and starts; had it panicked, there would be nothing left to wait for.
            let _ = watcher.join();
        }
    }
}

/// A child on the guardian's record, until this is dropped.
#[derive(Debug)]
pub(super) struct Announced {
    guardian: Arc<Guardian>,
    /// `None`: the guardian has finished before.
    line: Option<usize>,
    pipe: u64,
}

impl Announced {
    /// It was started; its process group is named after it.
    pub(super) fn began(&self, group: i32) {
        if let (Some(line), Some(duty)) = (self.line, &self.guardian.shared.lock().on_duty) {
            duty.record.began(line, group, self.pipe);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let (Some(line), Some(duty)) = (self.line, &mut self.guardian.shared.lock().on_duty) {
            duty.record.remove(line);
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the companion and waits until it is ready; `None` if there is nothing left to guard.
    fn spawn(&self) -> io::Result<Option<Child>> {
        let lifeline = match &self.lock().on_duty {
            Some(duty) => duty.record.file().try_clone()?,
            None => return Ok(None),
        };
        let (mut ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .env_clear()
            .env(TOKEN, &self.token)
            .current_dir("/");
        // A group of its own, so that a Ctrl-C for the terminal's group does not reach it.
        command
            .process_group(0)
            .stdin(lifeline)
            // It prints nothing: what it holds there keeps the broker waiting until the children are ended.
            .stdout(match &self.socket {
                Some(socket) => Stdio::from(socket.try_clone()?),
                None => Stdio::null(),
            })
            .stderr(OwnedFd::from(theirs));
        let mut child = command.spawn()?;
        // Its copy of the guardian's end would keep the end of file from us.
        drop(command);
        ours.set_read_timeout(Some(READY_WITHIN))?;
        let mut word = [0; 16];
        let answer = ours.read(&mut word).unwrap_or(0);
        if word[..answer].starts_with(companion::READY) {
            if let Some(duty) = &mut self.lock().on_duty {
                duty.line = Some(ours);
            }
            return Ok(Some(child));
        }
        child.kill()?;
        let status = child.wait()?;
        Err(io::Error::other(format!("it did not say that it is ready ({status})")))
    }

    /// Waits for the companion's end, and starts another as long as there is something to guard. The new one reads the same
    /// record, so it knows all that the old one knew.
    fn watch(&self, mut child: Child) {
        let mut backoff = Duration::from_millis(100);
        loop {
            let status = child.wait();
            if self.lock().on_duty.is_none() {
                return;
            }
            match status {
                Ok(status) => tracing::warn!("the guardian {} has ended ({status}); starting another", child.id()),
                Err(error) => tracing::warn!("the guardian {} is lost: {error}; starting another", child.id()),
            }
            child = loop {
                match self.spawn() {
                    Ok(Some(child)) => break child,
                    Ok(None) => return,
                    Err(error) => {
                        let program = self.program.display();
                        tracing::error!(
                            "cannot start a guardian ({program} {SUBCOMMAND}): {error}; children are not guarded"
                        );
                    }
                }
                if self.finishes_within(backoff) {
                    return;
                }
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            };
        }
    }

    fn finishes_within(&self, wait: Duration) -> bool {
        let (state, _) = self
            .finishing
            .wait_timeout_while(self.lock(), wait, |state| state.on_duty.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        state.on_duty.is_none()
    }
}

/// Whether a process is the guardian of some consumer's children.
pub fn is_companion(pid: Pid) -> bool {
    environment_of(pid, &mut Vec::new()).any(|entry| {
        entry
            .strip_prefix(TOKEN.as_bytes())
            .is_some_and(|rest| rest.starts_with(b"="))
    })
}

fn cannot(program: &Path, reason: &str) -> Error {
    Error::worker_fault(format!(
        "cannot start the guardian `{} {SUBCOMMAND}`: {reason}; the program must be qctl itself",
        program.display()
    ))
}

fn cannot_start(program: &Path, error: io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM | Errno::TXTBSY) => Error::temporary(
            "the machine is short of what a guardian takes (see `ulimit -n` and `ulimit -u`); try again",
        )
        .because(error),
        _ => cannot(program, &error.to_string()),
    }
}
