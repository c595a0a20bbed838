//! The one connection that writes, and the transaction its operations run in.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use rusqlite::Connection;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use super::clock::Clock;
use super::commit::Work;
use super::failure::Failures;
use super::files::Files;
use super::topology::TopologyCache;
use crate::error::{Error, Result};

/// Limits of the whole store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreLimits {
    pub(crate) max_length: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
}

pub(crate) struct Writer {
    connection: Connection,
    files: Files,
    failures: Failures,
    clock: Clock,
    topology: TopologyCache,
    limits: StoreLimits,
    rung: BTreeSet<i64>,
    bells: HashMap<i64, File>,
}

/// What became of a group.
pub(crate) struct Committed {
    pub(crate) done: Vec<Box<dyn Work>>,
    pub(crate) failed: Vec<(Box<dyn Work>, Error)>,
}

/// What an operation works with.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) failures: &'a Failures,
    pub(crate) clock: Clock,
    /// The transaction's time, in store time.
    pub(crate) now: i64,
    pub(crate) topology: &'a mut TopologyCache,
    pub(crate) limits: StoreLimits,
    /// Queues whose consumers are to look, once this is committed.
    pub(crate) rung: &'a mut BTreeSet<i64>,
}

impl Tx<'_> {
    /// A result with SQLite's failure explained.
    pub(crate) fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        self.failures.result(result)
    }

    /// Runs a statement that is prepared once.
    pub(crate) fn execute(&self, statement: &str, parameters: impl rusqlite::Params) -> Result<usize> {
        self.sql(
            self.connection
                .prepare_cached(statement)
                .and_then(|mut statement| statement.execute(parameters)),
        )
    }
}

impl Writer {
    pub(crate) fn new(
        connection: Connection,
        files: Files,
        failures: Failures,
        clock: Clock,
        limits: StoreLimits,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection,
            files,
            failures,
            clock,
            topology: TopologyCache::default(),
            limits,
            rung: BTreeSet::new(),
            bells: HashMap::new(),
        }
    }

    /// Runs and commits a group. Returns what was done and what was not, with the reason.
    pub(crate) fn commit(&mut self, group: Vec<Box<dyn Work>>) -> Committed {
        let mut done = Vec::with_capacity(group.len());
        let mut failed = Vec::new();
        if let Err(error) = self.begin() {
            let error = self.failures.explain(error);
            return Committed {
                done,
                failed: group.into_iter().map(|work| (work, error.duplicate())).collect(),
            };
        }
        let alone = group.len() == 1;
        let mut broken = None;
        for mut work in group {
            if let Some(error) = &broken {
                failed.push((work, Error::duplicate(error)));
                continue;
            }
            match self.run_one(&mut *work, alone) {
                Ok(()) => done.push(work),
                Err(error) => {
                    // SQLite gives up the whole transaction on some failures (a full disk is one).
                    if self.connection.is_autocommit() {
                        broken = Some(error.duplicate());
                    }
                    failed.push((work, error));
                }
            }
        }
        let committed = match broken {
            Some(error) => Err(error),
            None if done.is_empty() => self.rollback(),
            None => self.failures.result(
                self.connection
                    .prepare_cached("COMMIT")
                    .and_then(|mut s| s.execute([]))
                    .map(drop),
            ),
        };
        if let Err(error) = committed {
            let _ = self.rollback();
            self.topology.forget();
            self.rung.clear();
            failed.extend(done.drain(..).map(|work| (work, error.duplicate())));
        }
        Committed { done, failed }
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.topology.refresh(&self.connection)
    }

    fn rollback(&mut self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.failures.result(self.connection.execute_batch("ROLLBACK"))
    }

    fn run_one(&mut self, work: &mut dyn Work, alone: bool) -> Result<()> {
        if alone {
            let result = self.in_transaction(|tx| work.run(tx));
            if result.is_err() {
                self.topology.forget();
            }
            return result;
        }
        self.failures.result(
            self.connection
                .prepare_cached("SAVEPOINT work")
                .and_then(|mut s| s.execute([])),
        )?;
        let result = self.in_transaction(|tx| work.run(tx));
        if result.is_err() {
            self.topology.forget();
            if !self.connection.is_autocommit() {
                self.failures
                    .result(self.connection.execute_batch("ROLLBACK TO work"))?;
            }
        }
        if !self.connection.is_autocommit() {
            self.failures.result(
                self.connection
                    .prepare_cached("RELEASE work")
                    .and_then(|mut s| s.execute([])),
            )?;
        }
        result
    }

    fn in_transaction<T>(&mut self, run: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        run(&mut Tx {
            connection: &self.connection,
            failures: &self.failures,
            clock: self.clock,
            now: self.clock.now(),
            topology: &mut self.topology,
            limits: self.limits,
            rung: &mut self.rung,
        })
    }

    /// Reads a consistent state.
    pub(crate) fn read<T>(&mut self, read: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.failures.result(self.connection.execute_batch("BEGIN"))?;
        let refreshed = self.failures.result(self.topology.refresh(&self.connection));
        let result = refreshed.and_then(|()| self.in_transaction(read));
        self.rollback()?;
        result
    }

    /// Tells the consumers of every queue that the last group touched.
    pub(crate) fn ring(&mut self) {
        for queue in std::mem::take(&mut self.rung) {
            let bell = match self.bells.entry(queue) {
                std::collections::hash_map::Entry::Occupied(bell) => bell.into_mut(),
                std::collections::hash_map::Entry::Vacant(slot) => {
                    match self.files.open_side(&self.files.bells.join(queue.to_string())) {
                        Ok(file) => slot.insert(file),
                        Err(error) => {
                            tracing::warn!(%error, "a bell cannot be rung; waiting consumers look again within a minute");
                            continue;
                        }
                    }
                }
            };
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            };
            if let Err(error) = rustix::fs::futimens(
                &*bell,
                &Timestamps {
                    last_access: now,
                    last_modification: now,
                },
            ) {
                tracing::warn!(%error, "a bell cannot be rung; waiting consumers look again within a minute");
            }
        }
    }
}
