//! What is to be run: found before it is spawned, so that a missing program is told plainly; and the spawn itself.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::environment::Environment;

/// A program that was found, with its arguments, its complete environment and its working directory.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// The arguments, the program's name as it was written first.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Environment,
    /// The working directory; `None`: the parent's.
    pub cwd: Option<PathBuf>,
}

/// Why a child could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The program is missing or cannot be run; no message will fare better.
    Fault(String),
    /// The machine is short of something (processes, memory, files) for now.
    Busy(String),
    /// These arguments and this environment cannot be given to any program.
    Refused(String),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Fault(text) | Self::Busy(text) | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for SpawnError {}

impl Program {
    /// Finds the program `argv[0]`: a bare name in the child's own `PATH`, a relative path from its working directory. What
    /// is there must be a file that may be executed, and the interpreter that a script names must be there too.
    pub fn locate(argv: Vec<String>, env: Environment, cwd: Option<PathBuf>) -> Result<Self, SpawnError> {
        let name = argv.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| SpawnError::Fault("no program is named".to_owned()))?;
        if let Some(cwd) = &cwd
            && !cwd.is_dir()
        {
            return Err(SpawnError::Fault(format!(
                "the working directory {} is not a directory",
                cwd.display()
            )));
        }
        let path = find(name, env.get("PATH").unwrap_or_default(), cwd.as_deref()).map_err(SpawnError::Fault)?;
        Ok(Self { path, argv, env, cwd })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ready to start in a process group of its own. The child's ends of its pipes stay open in the [`Command`]: as long as
    /// it is kept, the pipes do not hang up, and the child's end wakes its runner once and not for each of them.
    pub(super) fn command(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Command {
        let mut command = self.ungrouped(stdin, stdout, stderr);
        command.process_group(0);
        command
    }

    /// As [`Program::command`], in the parent's process group: the leader of one can begin no session.
    pub(super) fn ungrouped(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Command {
        let mut command = Command::new(&self.path);
        // Nothing below may need `pre_exec`: the standard library then uses posix_spawn, which does not copy the page
        // tables of a big parent. The program is a path with a slash, or a `PATH` in `env` would cost that too.
        command.arg0(&self.argv[0]).args(&self.argv[1..]);
        command.env_clear().envs(self.env.iter());
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    /// Starts what [`Program::command`] made.
    pub(super) fn start(&self, command: &mut Command) -> Result<Child, SpawnError> {
        command.spawn().map_err(|error| self.explain(&error))
    }

    /// What it means that it could not be started.
    pub(super) fn explain(&self, error: &io::Error) -> SpawnError {
        let program = self.path.display();
        let text = format!("cannot start {program}: {error}");
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::AGAIN | Errno::NOMEM | Errno::TXTBSY | Errno::MFILE | Errno::NFILE) => SpawnError::Busy(text),
            Some(Errno::TOOBIG) => {
                let arguments: usize = self.argv.iter().map(|argument| argument.len() + 1).sum();
                let environment: usize = self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
                SpawnError::Refused(format!(
                    "too big for {program}: {arguments} bytes of arguments and {environment} bytes of environment"
                ))
            }
            None if error.kind() == io::ErrorKind::InvalidInput => {
                SpawnError::Refused("an argument holds a NUL byte, which no program can be given".to_owned())
            }
            _ => match check(&self.path) {
                Err(reason) => SpawnError::Fault(reason),
                Ok(()) => SpawnError::Fault(text),
            },
        }
    }
}

fn find(name: &str, search: &OsStr, cwd: Option<&Path>) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = match cwd {
            Some(cwd) => cwd.join(name),
            None => PathBuf::from(name),
        };
        return check(&path).map(|()| path);
    }
    let mut unusable = None;
    for folder in std::env::split_paths(search) {
        // An empty entry means the current directory; a program is never taken from there by its bare name.
        if folder.as_os_str().is_empty() {
            continue;
        }
        let folder = match cwd {
            Some(cwd) if folder.is_relative() => cwd.join(folder),
            _ => folder,
        };
        let path = if folder.is_relative() {
            Path::new(".").join(folder)
        } else {
            folder
        }
        .join(name);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(_) if !path.exists() => {}
            Err(reason) => unusable = unusable.or(Some(reason)),
        }
    }
    Err(unusable.unwrap_or_else(|| format!("{name} is not in the PATH {}", search.display())))
}

/// Whether there is a program that can be run.
fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let facts = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} does not exist"),
        _ => format!("{shown} cannot be looked at: {error}"),
    })?;
    if facts.is_dir() {
        return Err(format!("{shown} is a directory, not a program"));
    }
    if !facts.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    if access(path, Access::EXEC_OK).is_err() {
        return Err(format!(
            "{shown} is not executable: set its mode with chmod +x, and check who owns it"
        ));
    }
    match interpreter(path) {
        Some(program) if !Path::new(&program).is_file() => Err(format!(
            "{shown} names the interpreter {}, which does not exist",
            program.escape_debug()
        )),
        _ => Ok(()),
    }
}

/// The interpreter a script's first line names. A program that may be run but not read has none we could know of.
fn interpreter(path: &Path) -> Option<String> {
    let mut head = [0; 256];
    let count = File::open(path).ok()?.read(&mut head).ok()?;
    let line = head[..count].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?;
    // The system does not strip a carriage return either: such a script cannot be run, and the message shows why.
    text.trim_start_matches([' ', '\t'])
        .split([' ', '\t'])
        .next()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}
