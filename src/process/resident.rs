//! A long-lived child that is spoken to over its standard input and output. It is guarded like any other child, and the
//! caller waits for its descriptors on whatever event loop it has.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal};

use super::capture::{Lines, Tail};
use super::guardian::Guardian;
use super::leash::Leash;
use super::spawn::{Program, SpawnError};
use super::stat::{Stat, all_pids};

/// A long-lived child. Dropped, its process group is killed.
pub struct Resident {
    leash: Leash,
}

/// Our ends of its three pipes; none of them blocks.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads.
    pub stdin: PipeWriter,
    /// What it says.
    pub stdout: PipeReader,
    /// What it complains of.
    pub stderr: PipeReader,
}

impl Resident {
    /// Starts it, in a process group of its own.
    pub fn start(program: &Program, guardian: Option<&Arc<Guardian>>) -> Result<(Self, Pipes), SpawnError> {
        let pipe = || io::pipe().map_err(|error| short_of_files(&error));
        let (child_stdin, stdin) = pipe()?;
        let (stdout, child_stdout) = pipe()?;
        let (stderr, child_stderr) = pipe()?;
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            rustix::io::ioctl_fionbio(fd, true).map_err(|error| short_of_files(&error.into()))?;
        }
        let inode = rustix::fs::fstat(&stdout)
            .map_err(|error| short_of_files(&error.into()))?
            .st_ino;
        let mut command = program.command(
            Stdio::from(child_stdin),
            Stdio::from(child_stdout),
            Stdio::from(child_stderr),
        );
        let announced = guardian.map(|guardian| guardian.announce(inode));
        let child = program.start(&mut command)?;
        let leash = Leash::new(child, command, announced);
        Ok((Self { leash }, Pipes { stdin, stdout, stderr }))
    }

    /// Its process number.
    pub fn pid(&self) -> Pid {
        self.leash.group()
    }

    /// Becomes readable at its end; `None` where the system has none, and [`Resident::has_ended`] is to be asked now and then.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.leash.pidfd()
    }

    /// Whether it has ended; `told` is what its pidfd says.
    pub fn has_ended(&mut self, told: bool) -> bool {
        self.leash.has_ended(told)
    }

    /// Asks its group to end.
    pub fn terminate(&self) {
        self.leash.signal(Signal::TERM);
    }

    /// Ends its group.
    pub fn kill(&self) {
        self.leash.signal(Signal::KILL);
    }

    /// Takes its exit code, or the signal that ended it, after it has ended, and ends what is left of its group.
    pub fn reap(&mut self) -> (Option<i32>, Option<i32>) {
        let status = self.leash.reap();
        (
            status.and_then(|status| status.code()),
            status.and_then(|status| status.signal()),
        )
    }
}

/// The memory that a process group has in use, in bytes; what is shared is counted for each of its processes.
pub fn memory_of_group(group: Pid) -> u64 {
    let number = group.as_raw_nonzero().get();
    all_pids()
        .into_iter()
        .filter_map(Stat::of)
        .filter(|stat| stat.group == number && stat.alive)
        .map(|stat| stat.memory())
        .sum()
}

/// What a process says that nobody asked for: its lines, for the log, and the end of it, for whoever asks why it died.
#[derive(Debug, Default)]
pub struct Aside {
    lines: Lines,
    tail: Tail,
}

impl Aside {
    /// Takes what was read, and gives the lines that are complete, without control characters.
    pub fn feed(&mut self, chunk: &[u8], line: &mut dyn FnMut(&str)) {
        self.tail.feed(chunk);
        self.lines.feed(chunk, line);
    }

    /// No more comes: what is left is the last line.
    pub fn finish(&mut self, line: &mut dyn FnMut(&str)) {
        self.lines.finish(line);
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.tail.clone().text()
    }
}

fn short_of_files(error: &io::Error) -> SpawnError {
    SpawnError::Busy(format!("cannot make a pipe for a child: {error}"))
}
