//! Who works on what: the requests that wait, the workers' seats, and what becomes of what a worker had when it ended. It
//! decides and remembers; reading, writing and killing are done elsewhere.
//!
//! A worker works on the first `parallel` requests that it has not answered, in the order they were written: those are
//! *begun*. What was written ahead is not, so it goes to another worker untouched when its own ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::sync::{Notify, oneshot};

use crate::wire::jsonrpc::RpcError;

/// So much work is written ahead of a worker, so that it never waits for the next line: what it would wait is some 30 µs, which
/// is nothing to a slower one.
const WORK_AHEAD: Duration = Duration::from_micros(500);

/// What became of a request.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// The worker has answered.
    Answer(Result<String, RpcError>),
    /// The worker ended while it worked on it.
    Died(Death),
    /// It took too long, and its worker was ended.
    TimedOut {
        /// The last lines of the worker's standard error.
        stderr_tail: String,
    },
    /// It was given up by us, and nothing works on it any more.
    Cancelled,
    /// No worker can be had.
    Fault(String),
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Death {
    /// In a few words.
    pub reason: String,
    /// A signal that is not ours ended it.
    pub by_signal: bool,
    /// Its exit code, where it was not ended by us.
    pub exit_code: Option<i32>,
    /// The signal that ended it, where that was not ours.
    pub signal: Option<i32>,
    /// The last lines of its standard error.
    pub stderr_tail: String,
}

/// Why a worker's seat is left.
#[derive(Debug)]
pub(super) enum Leave {
    /// The worker ended by itself.
    Died(Death),
    /// It was ended because these took too long.
    TimedOut(Vec<u64>, String),
    /// It was ended because these were given up.
    Cancelled(Vec<u64>),
}

/// Something for a worker to do.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) line: Vec<u8>,
    pub(super) told: oneshot::Sender<Told>,
    /// How often a worker ended while it may have worked on this.
    ends: u32,
}

impl Request {
    pub(super) fn new(id: u64, line: Vec<u8>, told: oneshot::Sender<Told>) -> Self {
        Self {
            id,
            line,
            told,
            ends: 0,
        }
    }

    /// A worker ended under several requests, this one among them: it is tried with no other beside it, so that it is known
    /// which one it was.
    fn is_suspect(&self) -> bool {
        self.ends > 0
    }
}

#[derive(Debug)]
struct InFlight {
    request: Request,
    begun: Option<Instant>,
}

/// Where a worker sits.
#[derive(Debug, Default)]
struct Seat {
    /// Its worker takes requests.
    open: bool,
    pid: Option<Pid>,
    in_flight: VecDeque<InFlight>,
    /// Lines that are still to be written.
    outgoing: Vec<u8>,
    /// Requests that nobody wants any more.
    unwanted: Vec<u64>,
    /// Its worker is to be replaced.
    retiring: bool,
    /// So many more requests may be given to its worker.
    remaining: u64,
    /// Lines are being written ahead until there are enough.
    filling: bool,
    pace: Pace,
    wake: Arc<Notify>,
}

/// How long a worker takes for a request, on average.
#[derive(Debug, Default)]
struct Pace {
    seconds: Option<f64>,
    since: Option<Instant>,
}

impl Pace {
    fn took(&mut self, now: Instant, answers: usize, more: bool) {
        if let Some(since) = self.since {
            let each = (now - since).as_secs_f64() / answers as f64;
            self.seconds = Some(self.seconds.map_or(each, |known| 0.9 * known + 0.1 * each));
        }
        self.since = more.then_some(now);
    }

    fn ahead(&self, most: usize) -> usize {
        self.seconds
            .map_or(0, |seconds| ((WORK_AHEAD.as_secs_f64() / seconds) as usize).min(most))
    }
}

/// The desk that requests are handed in at.
#[derive(Debug)]
pub(super) struct Desk {
    waiting: VecDeque<Request>,
    seats: Vec<Seat>,
    /// A worker works on so many at once.
    parallel: usize,
    /// At most so many are written beyond those.
    pipeline: usize,
    next_id: u64,
    /// Why no worker can be had.
    fault: Option<String>,
    /// No worker is to be started any more.
    closed: bool,
}

impl Desk {
    pub(super) fn new(seats: usize, parallel: usize, pipeline: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            seats: (0..seats.max(1)).map(|_| Seat::default()).collect(),
            parallel: parallel.max(1),
            pipeline,
            next_id: 1,
            fault: None,
            closed: false,
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Takes a request. Where no worker can be had it is told so at once.
    pub(super) fn submit(&mut self, request: Request, now: Instant) {
        if let Some(fault) = &self.fault {
            let _ = request.told.send(Told::Fault(fault.clone()));
            return;
        }
        self.waiting.push_back(request);
        self.assign(now);
    }

    /// Takes a request back that no worker was ever given; `false`: one was.
    pub(super) fn withdraw(&mut self, id: u64) -> bool {
        self.take_back(|request| request.id == id && !request.is_suspect())
    }

    fn take_back(&mut self, is_it: impl Fn(&Request) -> bool) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|request| !is_it(request));
        self.waiting.len() < before
    }

    /// Nobody wants this one any more: it is taken back, or its worker is to be ended.
    pub(super) fn abandon(&mut self, id: u64) {
        if self.take_back(|request| request.id == id) {
            return;
        }
        let holds = |seat: &&mut Seat| seat.in_flight.iter().any(|held| held.request.id == id);
        if let Some(seat) = self.seats.iter_mut().find(holds) {
            seat.unwanted.push(id);
            seat.wake.notify_one();
        }
    }

    /// A worker is ready, for so many requests.
    pub(super) fn open(&mut self, seat: usize, remaining: u64, now: Instant) {
        self.fault = None;
        self.seats[seat].remaining = remaining;
        self.seats[seat].open = !self.is_retiring(seat);
        self.assign(now);
    }

    /// A seat's worker gets no more requests: it is to be replaced.
    pub(super) fn retire(&mut self, seat: usize) {
        self.seats[seat].open = false;
        self.seats[seat].retiring = true;
    }

    /// A worker has been started for this seat.
    pub(super) fn seated(&mut self, seat: usize, pid: Pid) {
        self.seats[seat].pid = Some(pid);
    }

    /// Has every worker replaced when it has answered what it has.
    pub(super) fn renew(&mut self) {
        for seat in self.seats.iter_mut().filter(|seat| seat.pid.is_some()) {
            seat.open = false;
            seat.retiring = true;
            seat.wake.notify_one();
        }
    }

    /// Whether a seat's worker is to end in good order.
    pub(super) fn is_retiring(&self, seat: usize) -> bool {
        self.closed || self.seats[seat].retiring
    }

    /// No worker can be had, so nobody waits for one.
    pub(super) fn fail(&mut self, fault: &str) {
        if self.seats.iter().any(|seat| seat.open) {
            return;
        }
        self.fault = Some(fault.to_owned());
        for request in self.waiting.drain(..) {
            let _ = request.told.send(Told::Fault(fault.to_owned()));
        }
    }

    /// Ends all workers: each when it has answered what it has.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for seat in &mut self.seats {
            seat.open = false;
            seat.wake.notify_one();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Rung when there is something to do for a seat's worker.
    pub(super) fn bell(&self, seat: usize) -> Arc<Notify> {
        Arc::clone(&self.seats[seat].wake)
    }

    /// The workers there are.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.seats.iter().filter_map(|seat| seat.pid).collect()
    }

    /// Adds what is to be written to a seat's worker.
    pub(super) fn take_outgoing(&mut self, seat: usize, buffer: &mut Vec<u8>) {
        let outgoing = &mut self.seats[seat].outgoing;
        if buffer.is_empty() {
            std::mem::swap(buffer, outgoing);
        } else {
            buffer.append(outgoing);
        }
    }

    pub(super) fn take_unwanted(&mut self, seat: usize) -> Vec<u64> {
        std::mem::take(&mut self.seats[seat].unwanted)
    }

    pub(super) fn is_idle(&self, seat: usize) -> bool {
        self.seats[seat].in_flight.is_empty()
    }

    /// When the first of the requests that a seat's worker works on was begun.
    pub(super) fn oldest(&self, seat: usize) -> Option<Instant> {
        let held = &self.seats[seat].in_flight;
        held.iter().take(self.parallel).filter_map(|held| held.begun).min()
    }

    /// Those that were begun before this moment.
    pub(super) fn begun_before(&self, seat: usize, moment: Instant) -> Vec<u64> {
        let held = &self.seats[seat].in_flight;
        let is_old = |held: &&InFlight| held.begun.is_some_and(|begun| begun <= moment);
        let old = held.iter().take(self.parallel).filter(is_old);
        old.map(|held| held.request.id).collect()
    }

    /// Takes answers that came together; gives back the ids that nobody had asked for.
    pub(super) fn answered(
        &mut self,
        seat: usize,
        answers: impl IntoIterator<Item = (u64, Result<String, RpcError>)>,
        now: Instant,
    ) -> Vec<u64> {
        let mut unasked = Vec::new();
        let mut count = 0;
        let held = &mut self.seats[seat].in_flight;
        for (id, result) in answers {
            // Most answer in order.
            match held.iter().position(|held| held.request.id == id) {
                Some(at) => {
                    count += 1;
                    if let Some(held) = held.remove(at) {
                        let _ = held.request.told.send(Told::Answer(result));
                    }
                }
                None => unasked.push(id),
            }
        }
        if count > 0 {
            let more = !held.is_empty();
            self.seats[seat].pace.took(now, count, more);
            self.begin(seat, now);
            self.assign(now);
        }
        unasked
    }

    /// A seat's worker is gone: what it worked on is told, or tried again, and what it had not begun is given to others.
    pub(super) fn vacate(&mut self, seat: usize, why: &Leave, now: Instant) {
        let place = &mut self.seats[seat];
        place.open = false;
        place.pid = None;
        place.outgoing.clear();
        place.pace = Pace::default();
        let unwanted = std::mem::take(&mut place.unwanted);
        place.retiring = false;
        let held = std::mem::take(&mut place.in_flight);
        let begun = held.iter().filter(|held| held.begun.is_some()).count();
        for InFlight {
            mut request,
            begun: when,
        } in held.into_iter().rev()
        {
            let told = match why {
                _ if unwanted.contains(&request.id) => Some(Told::Cancelled),
                Leave::TimedOut(ids, stderr_tail) if ids.contains(&request.id) => Some(Told::TimedOut {
                    stderr_tail: stderr_tail.clone(),
                }),
                Leave::Cancelled(ids) if ids.contains(&request.id) => Some(Told::Cancelled),
                Leave::Died(death) if when.is_some() => {
                    request.ends += 1;
                    // One that ends in good order may not have begun what was just written; once.
                    let benefit_of_doubt = death.exit_code == Some(0) && request.ends == 1;
                    (begun == 1 && !benefit_of_doubt).then(|| Told::Died(death.clone()))
                }
                _ => None,
            };
            match told {
                Some(told) => drop(request.told.send(told)),
                None => self.waiting.push_front(request),
            }
        }
        self.assign(now);
    }

    /// Gives out what waits.
    fn assign(&mut self, now: Instant) {
        while let Some(first) = self.waiting.front() {
            let suspect = first.is_suspect();
            let Some(seat) = self.free_seat(suspect) else { return };
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            let place = &mut self.seats[seat];
            place.outgoing.extend_from_slice(&request.line);
            place.in_flight.push_back(InFlight { request, begun: None });
            place.pace.since.get_or_insert(now);
            place.remaining -= 1;
            place.filling = place.in_flight.len() < self.parallel + place.pace.ahead(self.pipeline);
            place.wake.notify_one();
            self.begin(seat, now);
        }
    }

    /// The open seat that has least to do and can take one more.
    fn free_seat(&self, suspect: bool) -> Option<usize> {
        let can_take = |seat: &Seat| {
            let held = seat.in_flight.len();
            if !seat.open
                || seat.remaining == 0
                || held > 0 && (suspect || seat.in_flight.iter().any(|held| held.request.is_suspect()))
            {
                return false;
            }
            // Written ahead are several at once, or each would cost a call on both sides.
            let ahead = seat.pace.ahead(self.pipeline);
            held < self.parallel || held < self.parallel + ahead && (seat.filling || held <= self.parallel + ahead / 2)
        };
        let free = self.seats.iter().enumerate().filter(|(_, seat)| can_take(seat));
        let (seat, _) = free.min_by_key(|(_, seat)| seat.in_flight.len())?;
        Some(seat)
    }

    /// The first ones of a seat are worked on from now on.
    fn begin(&mut self, seat: usize, now: Instant) {
        for held in self.seats[seat].in_flight.iter_mut().take(self.parallel) {
            held.begun.get_or_insert(now);
        }
    }
}
