//! The embedded driver: no server, one file. Stands on [`crate::store`].
//!
//! Retries, delays, expiry and dead letters are the store's own; a dead consumer's messages are back as soon as the kernel
//! has closed its owner file and its children are ended.

mod arguments;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::error::Result;
use crate::queue::{
    Capabilities, ConnectOptions, Connection, Connector, ConsumeOptions, Delete, Delivery, DriverSpec, Lifeline,
    Maintenance, MaintenanceReport, Peek, Peeked, Publication, PublishFailure, Purge, Queue, QueueInfo, Redrive,
    RedriveReport, Settle, Settlement, Subscription, Ticket, Topology,
};
use crate::settings::Settings;
use crate::store::{
    Durability, Owner, Store, StoreOptions, StoreSettler, StoreSubscription, StoreUse, maintenance, operations,
};

/// The driver's row.
pub static SQLITE: DriverSpec = DriverSpec {
    name: "sqlite",
    schemes: &["sqlite"],
    about: "an embedded durable queue in one file, for all processes of one host",
    example: "url: sqlite:///var/lib/qctl/queue.db",
    capabilities,
    parse,
};

fn capabilities() -> Capabilities {
    Capabilities {
        declare: true,
        delete: true,
        purge: true,
        list: true,
        peek: true,
        peek_is_free: true,
        depth: true,
        pause: true,
        by_id: true,
        redrive: true,
        unroutable: true,
        delay: true,
        delayed_by_queue: true,
        delayed_retry: true,
        priority: true,
        ttl: true,
        max_length: true,
        dead_letter: true,
        delivery_count: true,
        counters: true,
        deduplication: true,
        reply: true,
        lost_replies: true,
        withdraw: true,
        binary_headers: true,
        max_body: 16 << 20,
        crash_return: Duration::from_secs(1),
        hold_limit: None,
        lease: None,
    }
}

/// Messages moved or removed in one transaction by bulk verbs, so that others get their turn.
const BULK_STEP: i64 = 5000;

/// A connector for a store, for programs that do not read a configuration file.
pub fn connector(options: StoreOptions) -> Arc<dyn Connector> {
    Arc::new(SqliteConnector { options })
}

fn parse(settings: Settings) -> Result<Arc<dyn Connector>> {
    options(settings).map(connector)
}

/// Reads the keys of a connection entry.
pub fn options(mut settings: Settings) -> Result<StoreOptions> {
    let url = settings.text(&["url"])?;
    let path = settings.text(&["path"])?;
    settings.text(&["driver"])?;
    let path = match (url, path) {
        (Some(_), Some(_)) => return Err(settings.error("path", "is said twice, by `url` and by `path`; keep one")),
        (Some(url), None) => Some(path_of(&url).ok_or_else(|| {
            settings.error(
                "url",
                "must be sqlite:///absolute/path/queue.db or sqlite://relative/path/queue.db",
            )
        })?),
        (None, Some(path)) => Some(PathBuf::from(path)),
        (None, None) => None,
    };
    let mut options = StoreOptions::at(plain(&settings.folder().join(path.as_deref().unwrap_or(Path::new("")))));
    if let Some(durability) = settings.choice(
        &["durability"],
        &[("full", Durability::Full), ("normal", Durability::Normal)],
    )? {
        options.durability = durability;
    }
    if let Some(mode) = settings.text(&["mode"])? {
        options.mode = u32::from_str_radix(mode.strip_prefix("0o").unwrap_or(&mode), 8)
            .ok()
            .filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600)
            .ok_or_else(|| {
                settings.error(
                    "mode",
                    format!(
                        "must be an octal file mode such as \"0660\" that lets the owner read and write, not `{mode}`"
                    ),
                )
            })?;
    }
    options.group = settings.text(&["group"])?;
    options.max_length = settings.count(&["max_length"])?.filter(|limit| *limit > 0);
    options.max_bytes = settings.size(&["max_bytes"])?.filter(|limit| *limit > 0);
    if let Some(max_body) = settings.size(&["max_body"])? {
        // SQLite's own limit for one value is 1 GB.
        if max_body == 0 || max_body > 512 << 20 {
            return Err(settings.error("max_body", "must be between 1 and 512M"));
        }
        options.max_body = max_body;
    }
    if let Some(window) = settings.duration(&["deduplication"])? {
        options.deduplication = window;
    }
    if let Some(mut retention) = settings.map(&["retention"])? {
        options.retention_dead = retention.limit_duration(&["dead"])?.flatten();
        retention.finish()?;
    }
    settings.check_unknown()?;
    match path {
        Some(_) => Ok(options),
        None => Err(settings.missing("path", "the store's file, such as /var/lib/qctl/queue.db")),
    }
}

/// The path without `.` steps.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The path in `sqlite:///absolute`, `sqlite://relative` or `sqlite:relative`.
fn path_of(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    (!path.is_empty() && !path.contains(['?', '#', '\0']) && !path.ends_with('/')).then(|| PathBuf::from(path))
}

struct SqliteConnector {
    options: StoreOptions,
}

#[async_trait]
impl Connector for SqliteConnector {
    fn endpoint(&self) -> String {
        format!("sqlite://{}", self.options.path.display())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_body: self.options.max_body,
            ..capabilities()
        }
    }

    fn check(&self, topology: &Topology) -> Result<()> {
        arguments::portable(topology).map(drop)
    }

    fn folder(&self) -> Option<PathBuf> {
        self.options.path.parent().map(PathBuf::from)
    }

    fn maintain(&self, what: &Maintenance) -> Result<MaintenanceReport> {
        match what {
            Maintenance::Check => maintenance::check(&self.options),
            Maintenance::Backup(to) => maintenance::backup(&self.options, to),
            Maintenance::Compact => maintenance::compact(&self.options),
        }
    }

    async fn connect(&self, connect: &ConnectOptions) -> Result<Arc<dyn Connection>> {
        let usage = StoreUse {
            one_shot: connect.one_shot,
            existing: connect.existing,
            inline: true,
            patience: connect.timeout,
            implicit_queues: connect.implicit_queues,
            end_marked: connect.end_marked.clone(),
        };
        Ok(Arc::new(SqliteConnection {
            store: Store::open(&self.options, &usage)?,
            capabilities: self.capabilities(),
            label: connect.label.clone(),
            owner: OnceCell::new(),
        }))
    }
}

struct SqliteConnection {
    store: Store,
    capabilities: Capabilities,
    label: String,
    /// Owns the temporary queues of this connection.
    owner: OnceCell<Owner>,
}

impl SqliteConnection {
    /// Makes the figures true: what dead consumers held is given back, what has expired is moved out of the way.
    async fn tidy(&self, queue: &str) -> Result<()> {
        operations::reap(&self.store, None).await?;
        if operations::has_expired(&self.store, queue)? {
            let name = queue.to_owned();
            self.store.write(move |tx| operations::expire_now(tx, &name)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Connection for SqliteConnection {
    fn driver(&self) -> &'static str {
        SQLITE.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        let topology = arguments::portable(topology)?;
        if operations::is_declared(&self.store, &topology)? {
            return Ok(());
        }
        let topology = topology.into_owned();
        self.store.write(move |tx| tx.declare(&topology)).await
    }

    async fn publish(&self, batch: Vec<Publication>) -> Result<(), PublishFailure> {
        let count = batch.len();
        let rules = self.store.rules();
        let failed = self
            .store
            .write(move |tx| operations::publish(tx, &batch, rules))
            .await
            .map_err(|error| PublishFailure::all(count, &error))?;
        if failed.is_empty() {
            Ok(())
        } else {
            Err(PublishFailure { failed })
        }
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Subscription>> {
        if self.store.rules().implicit_queues && !self.is_reply_queue(&options.queue) {
            let queue = operations::implicit_queue(&options.queue);
            self.declare(&Topology {
                exchanges: Vec::new(),
                queues: vec![queue],
            })
            .await?;
        }
        let subscription = StoreSubscription::start(
            &self.store,
            &options.queue,
            options.prefetch,
            options.slots,
            &options.label,
        )
        .await?;
        Ok(Box::new(SqliteSubscription { inner: subscription }))
    }

    async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    async fn close(&self) -> Result<()> {
        match self.owner.get() {
            Some(owner) => owner.leave(&self.store).await.map(drop),
            None => Ok(()),
        }
    }

    async fn info(&self, queue: &str) -> Result<QueueInfo> {
        self.tidy(queue).await?;
        operations::info(&self.store, queue)
    }

    async fn has_queue(&self, queue: &str) -> Result<bool> {
        self.store.read(|tx| Ok(tx.queue(queue)?.is_some()))
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.store.read(operations::queue_names)
    }

    async fn peek(&self, queue: &str, peek: &Peek) -> Result<Vec<Peeked>> {
        self.store.read(|tx| operations::peek(tx, queue, peek))
    }

    async fn purge(&self, queue: &str, purge: Purge) -> Result<u64> {
        self.tidy(queue).await?;
        if purge.dry_run {
            let info = operations::info(&self.store, queue)?;
            return Ok(info.ready + info.delayed.unwrap_or(0));
        }
        let mut removed = 0;
        loop {
            let name = queue.to_owned();
            let step = self
                .store
                .write(move |tx| {
                    let queue = tx.expect_queue(&name)?;
                    operations::purge_some(tx, &queue, BULK_STEP)
                })
                .await?;
            removed += step;
            if step < BULK_STEP as u64 {
                return Ok(removed);
            }
        }
    }

    async fn delete(&self, queue: &str, delete: Delete) -> Result<u64> {
        self.tidy(queue).await?;
        let name = queue.to_owned();
        self.store.write(move |tx| operations::delete(tx, &name, delete)).await
    }

    async fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        let name = queue.to_owned();
        self.store
            .write(move |tx| operations::set_paused(tx, &name, paused))
            .await
    }

    async fn drop_message(&self, queue: &str, id: &str) -> Result<bool> {
        let (name, id) = (queue.to_owned(), id.to_owned());
        self.store
            .write(move |tx| operations::drop_message(tx, &name, &id))
            .await
    }

    async fn release_message(&self, queue: &str, id: &str) -> Result<bool> {
        let (name, id) = (queue.to_owned(), id.to_owned());
        self.store
            .write(move |tx| operations::release_message(tx, &name, &id))
            .await
    }

    async fn redrive(&self, queue: &str, redrive: &Redrive) -> Result<RedriveReport> {
        let selection = redrive.selection.clone();
        let found = self.store.read(|tx| operations::count_dead(tx, queue, &selection))?;
        let (dead, _) = self.store.read(|tx| operations::dead_letters_of(tx, queue))?;
        let left = |moved: u64| -> Result<u64> {
            let info = operations::info(&self.store, &dead.name)?;
            let all = info.ready + info.delayed.unwrap_or(0) + info.held.unwrap_or(0);
            Ok(all.saturating_sub(moved))
        };
        if redrive.dry_run {
            return Ok(RedriveReport {
                moved: found,
                left: left(found)?,
            });
        }
        // A tenth of a second's worth at a time keeps to the rate without bursts.
        let step = redrive.rate.map_or(500, |rate| u64::from(rate / 10).clamp(1, 500));
        let mut moved = 0;
        while moved < found {
            let (name, selection) = (queue.to_owned(), selection.clone());
            let limit = step.min(found - moved);
            let now = self
                .store
                .write(move |tx| operations::redrive_some(tx, &name, &selection, limit))
                .await?;
            if now == 0 {
                break;
            }
            moved += now;
            if let Some(rate) = redrive.rate.filter(|_| moved < found) {
                tokio::time::sleep(Duration::from_secs_f64(now as f64 / f64::from(rate.max(1)))).await;
            }
        }
        Ok(RedriveReport { moved, left: left(0)? })
    }

    async fn temporary_queue(&self) -> Result<String> {
        let owner = self
            .owner
            .get_or_try_init(|| Owner::register(&self.store, &self.label, None))
            .await?;
        let token = owner.token.clone();
        self.store
            .write(move |tx| {
                let name = format!("{}{token}.{}", operations::REPLY_QUEUE, operations::next_number(tx)?);
                tx.insert_queue(
                    &Queue {
                        name: name.clone(),
                        ..Queue::default()
                    },
                    Some(&token),
                )?;
                Ok(name)
            })
            .await
    }

    fn is_reply_queue(&self, reply_to: &str) -> bool {
        reply_to.starts_with(operations::REPLY_QUEUE)
    }

    async fn withdraw(&self, id: &str, reply_to: &str) -> Result<bool> {
        let (id, reply_to) = (id.to_owned(), reply_to.to_owned());
        self.store
            .write(move |tx| operations::withdraw(tx, &id, &reply_to))
            .await
    }
}

struct SqliteSubscription {
    inner: StoreSubscription,
}

#[async_trait]
impl Subscription for SqliteSubscription {
    async fn next(&mut self) -> Result<Vec<Delivery>> {
        self.inner.next().await
    }

    async fn attend(&mut self) {
        self.inner.attend().await;
    }

    fn settler(&self) -> Arc<dyn Settle> {
        Arc::new(SqliteSettle {
            inner: self.inner.settler(),
        })
    }

    fn lifeline(&self) -> Lifeline {
        self.inner.lifeline()
    }

    fn set_window(&mut self, window: usize) {
        self.inner.set_window(window);
    }

    fn is_quiet(&self) -> bool {
        self.inner.is_quiet()
    }

    async fn stop(&mut self) -> Result<()> {
        self.inner.stop();
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.inner.close().await
    }
}

struct SqliteSettle {
    inner: StoreSettler,
}

#[async_trait]
impl Settle for SqliteSettle {
    async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<()> {
        self.inner.settle(ticket, settlement).await
    }

    async fn start(&self, ticket: &Ticket) -> Result<()> {
        self.inner.start(ticket).await
    }
}
