//! Queues, exchanges and bindings: declaring them, and finding where a message goes.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};

use super::writer::Tx;
use crate::error::{Error, Result};
use crate::queue::{Binding, Exchange, ExchangeKind, Queue, Topology};

/// A queue as stored.
#[derive(Clone, Debug)]
pub(crate) struct QueueRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) max_priority: Option<u8>,
    pub(crate) ttl: Option<i64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) dead_letter: Option<String>,
    pub(crate) paused: bool,
    /// Somebody takes from it, or has died while doing so: its bell is to be rung.
    pub(crate) consumed: bool,
}

const QUEUE_COLUMNS: &str = "id, name, max_priority, ttl, max_length, max_bytes, dead_letter, paused, \
     EXISTS (SELECT 1 FROM owner WHERE owner.queue = queue.id)";

impl QueueRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            max_priority: row.get(2)?,
            ttl: row.get(3)?,
            max_length: row.get::<_, Option<i64>>(4)?.map(|value| value as u64),
            max_bytes: row.get::<_, Option<i64>>(5)?.map(|value| value as u64),
            dead_letter: row.get(6)?,
            paused: row.get(7)?,
            consumed: row.get(8)?,
        })
    }
}

impl QueueRow {
    fn agrees_with(&self, queue: &Queue) -> bool {
        self.max_priority == queue.max_priority
            && self.ttl == queue.ttl.map(milliseconds)
            && self.max_length == queue.max_length
            && self.max_bytes == queue.max_bytes
            && self.dead_letter == queue.dead_letter
    }
}

/// What was read of the topology; dropped whenever any process changes it.
#[derive(Default)]
pub(crate) struct TopologyCache {
    version: i64,
    queues: HashMap<String, Arc<QueueRow>>,
    routes: HashMap<(String, String), Arc<[Arc<QueueRow>]>>,
}

/// More routes than this are not worth remembering (routing keys may be as many as messages).
const ROUTES_KEPT: usize = 4096;

impl TopologyCache {
    pub(crate) fn forget(&mut self) {
        self.queues.clear();
        self.routes.clear();
        self.version = 0;
    }

    /// Called at the start of each transaction.
    pub(crate) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let version = connection
            .prepare_cached("SELECT value FROM meta WHERE key = 'topology'")?
            .query_row([], |row| row.get(0))?;
        if version != self.version {
            self.forget();
            self.version = version;
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// The queue of this name.
    pub(crate) fn queue(&mut self, name: &str) -> Result<Option<Arc<QueueRow>>> {
        if let Some(queue) = self.topology.queues.get(name) {
            return Ok(Some(Arc::clone(queue)));
        }
        let found = self.sql(
            self.connection
                .prepare_cached(&format!("SELECT {QUEUE_COLUMNS} FROM queue WHERE name = ?1"))
                .and_then(|mut statement| statement.query_row([name], QueueRow::read).optional()),
        )?;
        Ok(found.map(|queue| {
            let queue = Arc::new(queue);
            self.topology.queues.insert(name.to_owned(), Arc::clone(&queue));
            queue
        }))
    }

    /// The queue of this name, or an error that names those there are.
    pub(crate) fn expect_queue(&mut self, name: &str) -> Result<Arc<QueueRow>> {
        if let Some(queue) = self.queue(name)? {
            return Ok(queue);
        }
        let names = self.queue_names()?;
        let known = match names.as_slice() {
            [] => "there are none yet".to_owned(),
            names if names.len() > 12 => format!("there are {}, `qctl managequeue list` shows them", names.len()),
            names => format!("there are: {}", names.join(", ")),
        };
        Err(Error::not_found(format!(
            "no queue `{name}` in store {}; {known}",
            self.failures.path()
        )))
    }

    /// All queues but temporary ones, by name.
    pub(crate) fn queue_names(&mut self) -> Result<Vec<String>> {
        self.sql(
            self.connection
                .prepare_cached("SELECT name FROM queue WHERE temporary IS NULL ORDER BY name")
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect()),
        )
    }

    /// The queues that a message published to `exchange` with `routing_key` reaches, each once.
    pub(crate) fn route(&mut self, exchange: &str, routing_key: &str) -> Result<Arc<[Arc<QueueRow>]>> {
        if exchange.is_empty() {
            return Ok(self.queue(routing_key)?.into_iter().collect());
        }
        let wanted = (exchange.to_owned(), routing_key.to_owned());
        if let Some(route) = self.topology.routes.get(&wanted) {
            return Ok(Arc::clone(route));
        }
        let (id, kind) = self.exchange(exchange)?.ok_or_else(|| {
            Error::not_found(format!(
                "no exchange `{exchange}` in store {}; a producer or consumer that names it in the configuration makes it",
                self.failures.path()
            ))
        })?;
        let bound: Vec<(String, String)> = self.sql(
            self.connection
                .prepare_cached(
                    "SELECT binding.routing_key, queue.name FROM binding JOIN queue ON queue.id = binding.queue
                     WHERE binding.exchange = ?1 ORDER BY queue.id",
                )
                .and_then(|mut statement| {
                    statement
                        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
                        .collect()
                }),
        )?;
        let mut targets: Vec<Arc<QueueRow>> = Vec::new();
        for (pattern, name) in bound {
            if kind.matches(&pattern, routing_key)
                && !targets.iter().any(|queue| queue.name == name)
                && let Some(queue) = self.queue(&name)?
            {
                targets.push(queue);
            }
        }
        let route: Arc<[Arc<QueueRow>]> = targets.into();
        if self.topology.routes.len() >= ROUTES_KEPT {
            self.topology.routes.clear();
        }
        self.topology.routes.insert(wanted, Arc::clone(&route));
        Ok(route)
    }

    fn exchange(&self, name: &str) -> Result<Option<(i64, ExchangeKind)>> {
        let found: Option<(i64, String)> = self.sql(
            self.connection
                .prepare_cached("SELECT id, kind FROM exchange WHERE name = ?1")
                .and_then(|mut statement| {
                    statement
                        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                        .optional()
                }),
        )?;
        found
            .map(|(id, kind)| {
                ExchangeKind::from_name(&kind)
                    .map(|kind| (id, kind))
                    .ok_or_else(|| Error::protocol(format!("exchange `{name}` is of the unknown kind `{kind}`")))
            })
            .transpose()
    }

    /// Makes sure that all of it is there. What is there already must agree.
    pub(crate) fn declare(&mut self, topology: &Topology) -> Result<()> {
        for exchange in &topology.exchanges {
            self.declare_exchange(exchange)?;
        }
        for queue in &topology.queues {
            let id = self.declare_queue(queue)?;
            for binding in &queue.bindings {
                self.bind(id, &binding.exchange, &binding.routing_key)?;
            }
        }
        Ok(())
    }

    /// Whether declaring `topology` would change nothing.
    pub(crate) fn is_declared(&mut self, topology: &Topology) -> Result<bool> {
        for exchange in topology.exchanges.iter().filter(|exchange| !exchange.name.is_empty()) {
            match self.exchange(&exchange.name)? {
                Some((_, kind)) if kind == exchange.kind => {}
                _ => return Ok(false),
            }
        }
        for queue in &topology.queues {
            let Some(found) = self.queue(&queue.name)? else {
                return Ok(false);
            };
            if let Some(dead) = &queue.dead_letter
                && self.queue(dead)?.is_none()
            {
                return Ok(false);
            }
            let agrees = *queue == named_only(queue) || found.agrees_with(queue);
            if !agrees || !self.is_bound(found.id, &queue.bindings)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_bound(&self, queue: i64, bindings: &[Binding]) -> Result<bool> {
        for binding in bindings.iter().filter(|binding| !binding.exchange.is_empty()) {
            let bound: bool = self.sql(
                self.connection
                    .prepare_cached(
                        "SELECT EXISTS (SELECT 1 FROM binding JOIN exchange ON exchange.id = binding.exchange
                         WHERE exchange.name = ?1 AND binding.routing_key = ?2 AND binding.queue = ?3)",
                    )
                    .and_then(|mut statement| {
                        statement.query_row((&binding.exchange, &binding.routing_key, queue), |row| row.get(0))
                    }),
            )?;
            if !bound {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn declare_exchange(&mut self, exchange: &Exchange) -> Result<()> {
        if exchange.name.is_empty() {
            return Ok(());
        }
        match self.exchange(&exchange.name)? {
            Some((_, kind)) if kind == exchange.kind || exchange.passive => Ok(()),
            Some((_, kind)) => Err(Error::config(format!(
                "exchange `{}` is of type {} in store {}, the configuration says {}; change the type, or name another exchange",
                exchange.name,
                kind.name(),
                self.failures.path(),
                exchange.kind.name()
            ))),
            None if exchange.passive => Err(Error::not_found(format!(
                "exchange `{}` is `passive` but not there; declare it first, or take `passive` away",
                exchange.name
            ))),
            None => {
                self.execute(
                    "INSERT INTO exchange(name, kind, internal, auto_delete) VALUES (?1, ?2, ?3, ?4)",
                    (
                        &exchange.name,
                        exchange.kind.name(),
                        exchange.internal,
                        exchange.auto_delete,
                    ),
                )?;
                self.changed()
            }
        }
    }

    fn declare_queue(&mut self, queue: &Queue) -> Result<i64> {
        if let Some(dead) = &queue.dead_letter
            && *dead != queue.name
            && self.queue(dead)?.is_none()
            && !queue.passive
        {
            self.insert_queue(
                &Queue {
                    name: dead.clone(),
                    durable: true,
                    ..Queue::default()
                },
                None,
            )?;
        }
        let ttl = queue.ttl.map(milliseconds);
        match self.queue(&queue.name)? {
            None if queue.passive => Err(Error::not_found(format!(
                "queue `{}` is `passive` but not there; `qctl managequeue declare {}` without `passive` makes it",
                queue.name, queue.name
            ))),
            None => self.insert_queue(queue, None),
            Some(found) => {
                if !found.agrees_with(queue) && !queue.passive && *queue != named_only(queue) {
                    // The store's own limits can be changed at any time, unlike a broker's: the configuration wins.
                    self.execute(
                        "UPDATE queue SET max_priority = ?2, ttl = ?3, max_length = ?4, max_bytes = ?5, dead_letter = ?6 WHERE id = ?1",
                        (
                            found.id,
                            queue.max_priority,
                            ttl,
                            queue.max_length.map(|value| value as i64),
                            queue.max_bytes.map(|value| value as i64),
                            &queue.dead_letter,
                        ),
                    )?;
                    self.changed()?;
                }
                Ok(found.id)
            }
        }
    }

    /// A new queue; `temporary` is the token of the owner it goes with.
    pub(crate) fn insert_queue(&mut self, queue: &Queue, temporary: Option<&str>) -> Result<i64> {
        self.execute(
            "INSERT INTO queue(name, max_priority, ttl, max_length, max_bytes, dead_letter, auto_delete, temporary)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                &queue.name,
                queue.max_priority,
                queue.ttl.map(milliseconds),
                queue.max_length.map(|value| value as i64),
                queue.max_bytes.map(|value| value as i64),
                &queue.dead_letter,
                queue.auto_delete,
                temporary,
            ),
        )?;
        let id = self.connection.last_insert_rowid();
        self.changed()?;
        Ok(id)
    }

    fn bind(&mut self, queue: i64, exchange: &str, routing_key: &str) -> Result<()> {
        if exchange.is_empty() {
            return Ok(());
        }
        let (exchange, _) = self.exchange(exchange)?.ok_or_else(|| {
            Error::not_found(format!(
                "no exchange `{exchange}` to bind to; declare it in a producer or in the binding"
            ))
        })?;
        let added = self.execute(
            "INSERT OR IGNORE INTO binding(exchange, routing_key, queue) VALUES (?1, ?2, ?3)",
            (exchange, routing_key, queue),
        )?;
        if added > 0 { self.changed() } else { Ok(()) }
    }

    /// Tells every process that the topology is another one now, which the first consumer of a queue is too.
    pub(crate) fn changed(&mut self) -> Result<()> {
        self.execute("UPDATE meta SET value = value + 1 WHERE key = 'topology'", [])?;
        self.topology.forget();
        Ok(())
    }
}

/// The queue with nothing but its name said: a declaration that has no opinion.
fn named_only(queue: &Queue) -> Queue {
    Queue {
        name: queue.name.clone(),
        durable: queue.durable,
        bindings: queue.bindings.clone(),
        ..Queue::default()
    }
}

pub(crate) fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
