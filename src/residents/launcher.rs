//! A program that a handler runs, found before it is needed.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::process::{Environment, Program, SpawnError};

/// A program that is looked for once, in `prepare` or at the first message, and not at every one.
#[derive(Debug)]
pub struct Launcher {
    argv: Vec<String>,
    env: Environment,
    cwd: Option<PathBuf>,
    /// The key of the configuration that names it.
    key: String,
    found: Mutex<Option<Program>>,
}

impl Launcher {
    /// `key` is that of the configuration which names the program.
    pub fn new(key: String, argv: Vec<String>, env: &[(String, String)], cwd: Option<PathBuf>) -> Self {
        let mut environment = Environment::inherited();
        for (name, value) in env {
            environment.set(name, value);
        }
        Self {
            argv,
            env: environment,
            cwd,
            key,
            found: Mutex::default(),
        }
    }

    /// Looks for the program anew.
    pub fn check(&self) -> Result<()> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        *found = None;
        *found = Some(self.locate().map_err(|error| Error::worker_fault(self.fault(&error)))?);
        Ok(())
    }

    /// The program, ready to be given more arguments.
    pub fn program(&self) -> Result<Program, SpawnError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_none() {
            *found = Some(self.locate()?);
        }
        Ok(found.clone().expect("it was just put there"))
    }

    /// What to say of a program that cannot be run.
    pub fn fault(&self, error: &SpawnError) -> String {
        format!("{}: {error}; correct it, then start the consumer again", self.key)
    }

    fn locate(&self) -> Result<Program, SpawnError> {
        Program::locate(self.argv.clone(), self.env.clone(), self.cwd.clone())
    }
}
