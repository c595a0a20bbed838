//! The life of the worker in one seat: started, listened to, ended, and started again.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::desk::{Death, Leave};
use super::guard::beside;
use super::pidfd::PidFd;
use super::talk::{Heard, Talk};
use super::{Recycle, Shared};

use crate::process::{GRACE, OWNER, Resident, SpawnError, memory_of_group, signal_name};

/// The variable that tells a worker what is spoken.
const PROTOCOL: &str = "QCTL_PROTOCOL";
/// What is spoken.
const VERSION: &str = "jsonrpc-1";
/// After so many starts in a row without a worker that is ready, none can be had.
const STARTS: u32 = 5;
/// The wait after the first start that failed; it doubles.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How often a worker's memory is looked at.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);
/// A worker that was told that nothing more comes has so long to end by itself.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// The same for those who are asked to when the consumer ends.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// Where the system has no pidfd, a worker's end is looked for this often.
const WITHOUT_PIDFD: Duration = Duration::from_millis(10);

/// Keeps a worker in this seat until the desk is closed.
pub(super) async fn live(shared: Arc<Shared>, seat: usize) {
    let mut failures = 0_u32;
    let bell = shared.desk().bell(seat);
    loop {
        if shared.desk().is_closed() {
            return;
        }
        match start(&shared, seat).await {
            Ok((resident, talk)) => {
                let life = Life::new(&shared, seat, resident, talk);
                let end = life.run().await;
                failures = if end.was_ready { 0 } else { failures + 1 };
                if !end.was_ready && failures >= STARTS {
                    shared.desk().fail(&format!(
                        "{}: no worker gets ready, the last of {failures}: {}; try it by hand: it must print \
                         {{\"jsonrpc\":\"2.0\",\"method\":\"ready\"}} first (docs/workers.md)",
                        shared.place, end.reason
                    ));
                }
                // Even one that was ready is not started without end if it dies of its first request each time.
                if end.was_ready && end.answered {
                    continue;
                }
            }
            Err(error @ SpawnError::Busy(_)) => {
                failures = 0;
                tracing::warn!(worker = %shared.place, seat, %error, "cannot start a worker now; trying again");
            }
            Err(error) => {
                failures += 1;
                shared.desk().fail(&shared.launcher.fault(&error));
            }
        }
        let wait = (BACKOFF * 2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(LONGEST_BACKOFF);
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                () = bell.notified() => if shared.desk().is_closed() { return },
            }
        }
    }
}

async fn start(shared: &Arc<Shared>, seat: usize) -> Result<(Resident, Talk), SpawnError> {
    let mut program = shared.launcher.program()?;
    let guardian = shared.guard.current();
    if let Some(guardian) = &guardian {
        program.env.set(OWNER, guardian.token());
    }
    program.env.set(PROTOCOL, VERSION);
    // A program on a slow disk keeps its parent waiting until it is loaded.
    let started = beside(move || Resident::start(&program, guardian.as_ref()))
        .await
        .map_err(|error| SpawnError::Busy(error.to_string()))?;
    let (resident, pipes) = started?;
    let pid = resident.pid();
    let talk = Talk::new(pipes, format!("{}[{}]", shared.place, pid.as_raw_nonzero()))
        .map_err(|error| SpawnError::Busy(format!("cannot listen to a worker: {error}")))?;
    shared.desk().seated(seat, pid);
    tracing::info!(worker = %shared.place, seat, pid = pid.as_raw_nonzero(), "worker started");
    Ok((resident, talk))
}

/// How a worker's life was.
struct End {
    was_ready: bool,
    answered: bool,
    reason: String,
}

/// How far a worker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Starting {
        until: Instant,
    },
    Working,
    /// It was told that nothing more comes.
    Leaving {
        until: Instant,
    },
    /// It was asked to end.
    Asked {
        until: Instant,
    },
    Killed,
}

struct Life<'a> {
    shared: &'a Arc<Shared>,
    seat: usize,
    resident: Resident,
    pidfd: Option<PidFd>,
    talk: Talk,
    phase: Phase,
    /// Why it was ended, if it was.
    leave: Option<Leave>,
    was_ready: bool,
    answered: u64,
    born: Instant,
    limits: Recycle,
    look: Option<Instant>,
    told_too_long: bool,
}

impl<'a> Life<'a> {
    fn new(shared: &'a Arc<Shared>, seat: usize, resident: Resident, talk: Talk) -> Self {
        let pidfd = resident.pidfd().and_then(PidFd::watch);
        let now = Instant::now();
        let limits = spread(&shared.settings.recycle);
        Self {
            shared,
            seat,
            resident,
            pidfd,
            talk,
            phase: Phase::Starting {
                until: now + shared.settings.start_timeout,
            },
            leave: None,
            was_ready: false,
            answered: 0,
            born: now,
            look: limits.memory.map(|_| now + LOOK_AT_MEMORY),
            limits,
            told_too_long: false,
        }
    }

    /// Talks to it until it has ended.
    async fn run(mut self) -> End {
        let bell = self.shared.desk().bell(self.seat);
        loop {
            self.shared.desk().take_outgoing(self.seat, &mut self.talk.outgoing);
            self.talk.write();
            if self.attend() {
                break;
            }
            let wake = self.next_look();
            // One that never stops talking must not keep the others of this runtime from their work.
            tokio::task::coop::consume_budget().await;
            tokio::select! {
                biased;
                () = readable(self.talk.stdout.as_ref()) => {
                    let mut heard = Heard::default();
                    let _ = self.talk.read(&mut heard);
                    self.hear(heard);
                }
                () = bell.notified() => {}
                () = readable(self.talk.stderr.as_ref()) => {
                    let _ = self.talk.read_aside();
                }
                () = self.talk.writable() => {}
                () = ended(self.pidfd.as_ref()) => {
                    // What it had answered before is read first, in `finish`.
                    break;
                }
                () = sleep_until(wake.into()) => {}
            }
        }
        self.finish()
    }

    fn hear(&mut self, heard: Heard) {
        let now = Instant::now();
        if heard.ready && !self.was_ready {
            self.was_ready = true;
            if matches!(self.phase, Phase::Starting { .. }) {
                self.phase = Phase::Working;
                let took_ms = self.born.elapsed().as_millis() as u64;
                tracing::info!(worker = %self.shared.place, seat = self.seat, took_ms, "worker ready");
                let remaining = self.limits.messages.unwrap_or(u64::MAX);
                self.shared.desk().open(self.seat, remaining, now);
            }
        }
        if !heard.answers.is_empty() {
            self.answered += heard.answers.len() as u64;
            let unasked = self.shared.desk().answered(self.seat, heard.answers, now);
            self.answered -= unasked.len() as u64;
            self.talk.unasked(&unasked);
        }
        if heard.too_long {
            self.told_too_long = true;
            self.resident.kill();
            self.phase = Phase::Killed;
        }
    }

    /// Does what is due; `true`: it has ended.
    fn attend(&mut self) -> bool {
        let now = Instant::now();
        if self.pidfd.is_none() && self.resident.has_ended(false) {
            return true;
        }
        let unwanted = self.shared.desk().take_unwanted(self.seat);
        if !unwanted.is_empty() {
            match &mut self.leave {
                Some(Leave::Cancelled(ids)) => ids.extend(unwanted),
                Some(_) => {}
                None => {
                    self.leave = Some(Leave::Cancelled(unwanted));
                    self.ask(now);
                }
            }
        }
        match self.phase {
            Phase::Starting { until } if now >= until => self.ask(now),
            Phase::Starting { .. } if self.shared.desk().is_retiring(self.seat) => self.ask(now),
            Phase::Working => self.look_after(now),
            Phase::Leaving { until } if now >= until => self.ask(now),
            Phase::Asked { until } if now >= until => {
                self.resident.kill();
                self.phase = Phase::Killed;
            }
            _ => {}
        }
        false
    }

    /// Of one that works: time-outs, limits, and whether it is to go.
    fn look_after(&mut self, now: Instant) {
        let mut desk = self.shared.desk();
        if let Some(timeout) = self.shared.timeout
            && let Some(limit) = now.checked_sub(timeout)
        {
            let late = desk.begun_before(self.seat, limit);
            if !late.is_empty() {
                drop(desk);
                tracing::warn!(worker = %self.shared.place, seat = self.seat, requests = late.len(), "a request timed out; the worker is ended and replaced");
                self.leave = Some(Leave::TimedOut(late, String::new()));
                self.ask(now);
                return;
            }
        }
        if !desk.is_retiring(self.seat)
            && let Some(limit) = self.limit_reached(now)
        {
            tracing::info!(worker = %self.shared.place, seat = self.seat, %limit, "the worker is replaced");
            desk.retire(self.seat);
        }
        if desk.is_retiring(self.seat) && desk.is_idle(self.seat) {
            drop(desk);
            self.talk.hang_up();
            self.phase = Phase::Leaving { until: now + GOOD_BYE };
        }
    }

    fn limit_reached(&mut self, now: Instant) -> Option<String> {
        if let Some(most) = self.limits.messages.filter(|most| self.answered >= *most) {
            return Some(format!("messages {most}"));
        }
        if let Some(most) = self.limits.time.filter(|most| now - self.born >= *most) {
            return Some(format!("time {} s", most.as_secs_f64()));
        }
        let look = self.look.filter(|look| now >= *look)?;
        self.look = Some(look.max(now) + LOOK_AT_MEMORY);
        let most = self.limits.memory?;
        let used = memory_of_group(self.resident.pid());
        (used >= most).then(|| format!("memory {} MB (uses {} MB)", most >> 20, used >> 20))
    }

    fn ask(&mut self, now: Instant) {
        self.resident.terminate();
        // Whoever ends everything has no time for the usual grace.
        let grace = if self.shared.desk().is_closed() {
            LAST_GRACE
        } else {
            GRACE
        };
        self.phase = Phase::Asked { until: now + grace };
    }

    /// When something is due.
    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let mut next = now + Duration::from_hours(1);
        let mut by = |moment: Option<Instant>| next = moment.map_or(next, |moment| next.min(moment));
        match self.phase {
            Phase::Starting { until } | Phase::Leaving { until } | Phase::Asked { until } => by(Some(until)),
            Phase::Working => {
                let oldest = self.shared.desk().oldest(self.seat);
                by(oldest.and_then(|oldest| oldest.checked_add(self.shared.timeout?)));
                by(self.limits.time.and_then(|most| self.born.checked_add(most)));
                by(self.look);
            }
            Phase::Killed => {}
        }
        if self.pidfd.is_none() {
            by(Some(now + WITHOUT_PIDFD));
        }
        next
    }

    /// It has ended: what it had is told or given to others.
    fn finish(mut self) -> End {
        let (exit_code, signal) = self.resident.reap();
        let last = self.talk.read_last();
        self.hear(last);
        let stderr_tail = self.talk.tail();
        let how = match (exit_code, signal) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
            (None, None) => "ended".to_owned(),
        };
        let by_us = self.leave.is_some() || self.told_too_long;
        let reason = if self.told_too_long {
            "the worker answered with a line that is too long, and was ended".to_owned()
        } else {
            format!("the worker {how} before it answered")
        };
        let why = match self.leave.take() {
            Some(Leave::TimedOut(ids, _)) => Leave::TimedOut(ids, stderr_tail.clone()),
            Some(leave) => leave,
            None => Leave::Died(Death {
                reason,
                by_signal: signal.is_some() && !by_us,
                exit_code: exit_code.filter(|_| !by_us),
                signal: signal.filter(|_| !by_us),
                stderr_tail: stderr_tail.clone(),
            }),
        };
        let mut desk = self.shared.desk();
        let in_order = desk.is_retiring(self.seat) && desk.is_idle(self.seat);
        desk.vacate(self.seat, &why, Instant::now());
        drop(desk);
        if in_order || by_us {
            tracing::info!(worker = %self.shared.place, seat = self.seat, answered = self.answered, "the worker {how}");
        } else {
            let last = stderr_tail.lines().last().unwrap_or_default();
            tracing::warn!(worker = %self.shared.place, seat = self.seat, answered = self.answered, last, "the worker {how}");
        }
        let late = matches!(self.phase, Phase::Asked { .. } | Phase::Killed) && !self.was_ready;
        let last_line = stderr_tail.lines().last().unwrap_or_default();
        End {
            was_ready: self.was_ready,
            answered: self.answered > 0,
            reason: match (late, last_line) {
                (true, _) => format!(
                    "it did not say within {} that it is ready",
                    humantime::format_duration(self.shared.settings.start_timeout)
                ),
                (false, "") => how,
                (false, line) => format!("{how}, saying: {line}"),
            },
        }
    }
}

/// The limits of one life, each a little lower than said, so that not all workers are replaced at once.
fn spread(limits: &Recycle) -> Recycle {
    let share = || 1.0 - limits.jitter * fastrand::f64();
    Recycle {
        messages: limits.messages.map(|most| ((most as f64 * share()) as u64).max(1)),
        time: limits.time.map(|most| most.mul_f64(share())),
        memory: limits.memory.map(|most| (most as f64 * share()) as u64),
        jitter: limits.jitter,
    }
}

async fn readable(pipe: Option<&tokio::net::unix::pipe::Receiver>) {
    match pipe {
        Some(pipe) => drop(pipe.readable().await),
        None => pending().await,
    }
}

async fn ended(pidfd: Option<&PidFd>) {
    match pidfd {
        Some(pidfd) => pidfd.ended().await,
        None => pending().await,
    }
}
