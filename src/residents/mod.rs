//! Residents: long-lived children that are asked for many things, one request a line (`docs/workers.md`). Persistent workers of
//! handlers are some, and so are listeners that live on.
//!
//! `desk` decides who works on what, `life` starts a resident, listens to it and ends it, `talk` is the talking. [`Guard`] is
//! the guardian that all children of one consumer share, [`Launcher`] a program that is found before it is needed.

mod desk;
mod guard;
mod launcher;
mod life;
mod pidfd;
mod settings;
mod talk;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use desk::{Death, Told};
pub use guard::{Guard, beside};
pub use launcher::Launcher;
pub use settings::{Recycle, WorkerSettings};

use desk::{Desk, Request};

use crate::error::Result;
use crate::process::{Guardian, memory_of_group};
use crate::queue::Lifeline;
use crate::wire::jsonrpc;

/// What the residents of one program share.
#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    launcher: Launcher,
    guard: Arc<Guard>,
    settings: WorkerSettings,
    timeout: Option<Duration>,
    /// For the log: the key of the configuration.
    place: String,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The residents of one program.
#[derive(Debug)]
pub struct Residents {
    shared: Arc<Shared>,
    seats: usize,
    living: Mutex<Vec<JoinHandle<()>>>,
    /// The guardian that they were last prepared for.
    under: Mutex<Option<Weak<Guardian>>>,
}

/// What a caller waits with.
pub struct Patience<'a> {
    /// Cancelled when nothing may work on it any more.
    pub cancel: &'a CancellationToken,
    /// It is taken back if it was given to nobody after this time.
    pub begin_within: Option<Duration>,
}

impl Residents {
    /// Residents that are started when they are first needed, or with [`Residents::start`], and that are asked for `at_once`
    /// things at the same time.
    pub fn new(
        place: String,
        launcher: Launcher,
        guard: Arc<Guard>,
        settings: WorkerSettings,
        timeout: Option<Duration>,
        at_once: usize,
    ) -> Self {
        let at_once = at_once.max(1);
        let seats = settings.processes.unwrap_or(at_once).min(at_once);
        let desk = Desk::new(seats, at_once.div_ceil(seats), settings.pipeline);
        Self {
            shared: Arc::new(Shared {
                desk: Mutex::new(desk),
                launcher,
                guard,
                settings,
                timeout,
                place,
            }),
            seats,
            living: Mutex::default(),
            under: Mutex::default(),
        }
    }

    /// How long a request may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.shared.timeout
    }

    /// Starts them, on the runtime that this is called on. Once they are started it does nothing.
    pub fn start(&self) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        if living.is_empty() && !self.shared.desk().is_closed() {
            living.extend((0..self.seats).map(|seat| tokio::spawn(life::live(Arc::clone(&self.shared), seat))));
        }
    }

    /// Looks for their program, and has a guardian for this lifeline. Those that were started under another one are replaced:
    /// it watches over a connection that is no more.
    pub async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        self.shared.launcher.check()?;
        self.shared.guard.prepare(lifeline).await?;
        let now = self.shared.guard.current().map(|guardian| Arc::downgrade(&guardian));
        let mut under = self.under.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = match (&*under, &now) {
            (Some(before), Some(now)) => before.ptr_eq(now),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if !is_same {
            self.shared.desk().renew();
        }
        *under = now;
        Ok(())
    }

    /// The memory that they have in use, their own children's too.
    pub fn memory(&self) -> u64 {
        let pids = self.shared.desk().pids();
        pids.into_iter().map(memory_of_group).sum()
    }

    /// Asks for something, and waits for what becomes of it. An error says why it has no JSON form.
    pub async fn ask<P: Serialize, M: Serialize>(
        &self,
        method: &str,
        params: &P,
        message: &M,
        patience: Patience<'_>,
    ) -> Result<Told, String> {
        self.start();
        let (told, mut answer) = oneshot::channel();
        let ticket = {
            let mut desk = self.shared.desk();
            let id = desk.next_id();
            let line = jsonrpc::request(id, method, params, message)?;
            desk.submit(Request::new(id, line, told), Instant::now());
            Ticket {
                shared: &self.shared,
                id,
                open: true,
            }
        };
        let out_of_patience = async {
            match patience.begin_within {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let told = tokio::select! {
            biased;
            told = &mut answer => told,
            () = patience.cancel.cancelled() => {
                self.shared.desk().abandon(ticket.id);
                // Nothing is over before nothing works on it any more; one that had not been begun is dropped at once.
                answer.await
            }
            () = out_of_patience => {
                if self.shared.desk().withdraw(ticket.id) {
                    ticket.over();
                    return Ok(Told::Cancelled);
                }
                tokio::select! {
                    biased;
                    told = &mut answer => told,
                    () = patience.cancel.cancelled() => {
                        self.shared.desk().abandon(ticket.id);
                        answer.await
                    }
                }
            }
        };
        ticket.over();
        // It is dropped untold when it was taken back before anyone had it.
        Ok(told.unwrap_or(Told::Cancelled))
    }

    /// Lets them finish what they have, and ends them.
    pub async fn finish(&self) {
        self.shared.desk().close();
        let living = std::mem::take(&mut *self.living.lock().unwrap_or_else(PoisonError::into_inner));
        for life in living {
            // It panicked: its child was ended with it.
            let _ = life.await;
        }
    }
}

impl Drop for Residents {
    fn drop(&mut self) {
        for life in self.living.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Its child is killed when it is dropped.
            life.abort();
        }
    }
}

/// A request that is under way. Whoever drops its call wants nothing to go on working on it.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    open: bool,
}

impl Ticket<'_> {
    fn over(mut self) {
        self.open = false;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.open {
            self.shared.desk().abandon(self.id);
        }
    }
}
