//! Taking from one queue over a channel of its own.
//!
//! What a delivery needs before it may be handed out (to be counted after a consumer's death, to be held back longer, to be
//! given up because its time is over) is done by the way, in tasks of their own; `next` only hands out.
//!
//! **Suspects.** A delivery whose consumer died under it is handed out when nothing else is handled, and alone: the
//! consumer first lets go of all else that it holds and takes nothing, so that if it dies again, nothing else is blamed. Where
//! there are many, as after the death of a broker, most are handled beside others until they have seen a second death.

mod allowance;
mod desk;
mod settler;
mod state;
mod taps;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::protocol::AMQPSoftError;
use lapin::types::{FieldTable, ShortString};

use desk::Desk;
use state::{Course, State};
pub(super) use taps::is_ours;
use taps::{Flow, Taps};

use super::copies::Copies;
use super::fault;
use super::link::Link;
use super::management::Management;
use super::pause::{self, Ear, Follower};
use super::survivors::Survivors;
use crate::error::{Error, Result};
use crate::queue::{ConsumeOptions, Delivery, Lifeline, Settle, Subscription};

/// How long closing may take in all: what is not given back by then comes back when the connection ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How often the channel is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The same while something is handled and no consumer is there to tell.
const LOOK_OFTEN: Duration = Duration::from_millis(25);

/// What a subscription takes from, and what goes where.
pub(super) struct Source {
    pub(super) queue: String,
    /// Deliveries are counted by the broker (a quorum queue).
    pub(super) counted: bool,
    /// It refuses what comes while it is full.
    pub(super) limited: bool,
    /// Tells whether it has come to do so, by a policy.
    pub(super) management: Arc<Management>,
    /// What this process had in hand when it lost a connection.
    pub(super) survivors: Arc<Survivors>,
    /// Where what is given up goes.
    pub(super) dead_letter: Option<String>,
}

/// A subscription's inside, shared with its settler and its tasks.
pub(super) struct Shared {
    link: Arc<Link>,
    channel: Channel,
    copies: Arc<Copies>,
    source: Source,
    queue: ShortString,
    prefetch: usize,
    state: Arc<Mutex<State>>,
    taps: Mutex<Taps>,
    desk: Arc<Desk>,
    /// One change of the consumers at a time: the prefetch is the channel's until the consumer is there.
    tuning: tokio::sync::Mutex<()>,
    window: Mutex<usize>,
}

/// Taking from one queue.
pub(super) struct AmqpSubscription {
    shared: Arc<Shared>,
    lifeline: Lifeline,
    /// Hears of pauses, where it may.
    follower: Option<Follower>,
}

impl AmqpSubscription {
    /// Begins to take, unless the queue is paused.
    pub(super) async fn start(
        link: Arc<Link>,
        copies: Arc<Copies>,
        source: Source,
        options: &ConsumeOptions,
        lifeline: Lifeline,
        paused: bool,
    ) -> Result<Self> {
        let channel = link.channel().await?;
        let queue = super::properties::short("the queue's name", &source.queue)?;
        let prefetch = options.prefetch.clamp(1, usize::from(u16::MAX));
        let mut taps = Taps::default();
        if paused {
            tracing::info!(queue = %source.queue, "the queue is paused; nothing is taken until it is resumed");
        } else {
            let tap = taps::open(&channel, &queue, prefetch)
                .await
                .map_err(|error| fault::refused(&error, link.endpoint(), &format!("queue `{}`", source.queue)))?;
            taps.add(tap);
        }
        let mut state = State::new(&source.queue, source.counted, Arc::clone(&source.survivors));
        state.paused = paused;
        let subscription = Self {
            shared: Arc::new(Shared {
                desk: Desk::new(channel.clone()),
                link,
                channel,
                copies,
                source,
                queue,
                prefetch,
                state: Arc::new(Mutex::new(state)),
                taps: Mutex::new(taps),
                tuning: tokio::sync::Mutex::new(()),
                window: Mutex::new(prefetch),
            }),
            lifeline,
            follower: None,
        };
        tokio::spawn(keep_watch(Arc::downgrade(&subscription.shared)));
        Ok(subscription)
    }

    /// The same, doing as it hears.
    pub(super) fn hearing(mut self, ear: Option<Ear>) -> Self {
        self.follower = ear.map(|ear| ear.follow(Arc::downgrade(&self.shared)));
        self
    }

    /// Its inside, for questions that must be asked on its channel.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// A consumer on the channel tells that it is gone. While there is none (the queue is paused, a suspect is alone, the last of the
/// work is finished) somebody must look, or what is handled goes on beside its own copy.
async fn keep_watch(subscription: Weak<Shared>) {
    loop {
        let Some(shared) = subscription.upgrade() else { return };
        let nobody_tells = shared.taps().prefetch() == (0, 0) && !shared.state().held.is_empty();
        drop(shared);
        tokio::time::sleep(if nobody_tells { LOOK_OFTEN } else { LOOK_EVERY }).await;
        let Some(shared) = subscription.upgrade() else { return };
        if shared.channel.status().connected() {
            continue;
        }
        let mut state = shared.state();
        shared.look(&mut state);
        if state.over.is_none() && !state.closed {
            let error = shared.gone();
            state.lose(error);
        }
        return;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taps(&self) -> MutexGuard<'_, Taps> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has arrived.
    fn pull(self: &Arc<Self>, state: &mut State, context: &mut Context<'_>) {
        let mut taps = self.taps();
        while let Poll::Ready(flow) = taps.poll(context) {
            match flow {
                Flow::Delivery(delivery) => {
                    if let Some((tag, detour)) = state.arrived(*delivery) {
                        tokio::spawn(Arc::clone(self).detour(tag, detour));
                    }
                }
                Flow::Cancelled => state.lose(self.cancelled()),
                Flow::Failed(error) => state.lose(self.failed(&error)),
            }
        }
    }

    /// The same from anywhere but `next`, which is told of what comes later all the same.
    fn look(self: &Arc<Self>, state: &mut State) {
        let waker = state.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        self.pull(state, &mut Context::from_waker(&waker));
        state.wake();
    }

    /// The channel is gone, and no consumer was there to be told why.
    fn gone(&self) -> Error {
        let endpoint = self.link.endpoint();
        if self.link.is_up() {
            return Error::unavailable(format!(
                "queue `{}`: the broker has closed the channel; a message that is held for longer than its consumer_timeout is the \
                 usual reason",
                self.source.queue
            ));
        }
        Error::unavailable(format!("{endpoint}: the connection is gone"))
    }

    fn silent(&self) -> Error {
        Error::unavailable(format!(
            "{}: the broker does not answer; what was held comes back when it notices",
            self.link.endpoint()
        ))
    }

    fn cancelled(&self) -> Error {
        Error::not_found(format!(
            "queue `{}`: the broker has ended the subscription, because the queue was deleted or the node that holds it is down",
            self.source.queue
        ))
    }

    fn failed(&self, error: &lapin::Error) -> Error {
        if let Some(answer) = fault::answer(error)
            && fault::is_soft(error, &AMQPSoftError::PRECONDITIONFAILED)
            && answer.get_message().as_str().contains("timed out")
        {
            return Error::unavailable(format!(
                "queue `{}`: a message was held for longer than the broker allows, so it took back all that this consumer \
                 held ({}); give the handler a shorter timeout, or raise the broker's consumer_timeout and say it in the \
                 connection's",
                self.source.queue,
                fault::told(answer)
            ));
        }
        fault::lost(error, self.link.endpoint())
    }

    fn poll_next(self: &Arc<Self>, context: &mut Context<'_>) -> Poll<Result<Vec<Delivery>>> {
        let mut state = self.state();
        state.waker = Some(context.waker().clone());
        self.pull(&mut state, context);
        if let Some(error) = &state.over {
            return Poll::Ready(Err(error.duplicate()));
        }
        state.clear_suspects();
        if state.should_isolate() {
            state.course = Course::Changing;
            tokio::spawn(Arc::clone(self).isolate());
        } else if state.should_open() {
            state.course = Course::Changing;
            tokio::spawn(Arc::clone(self).reopen());
        }
        let deliveries = state.hand_out();
        if !deliveries.is_empty() || state.stopped {
            return Poll::Ready(Ok(deliveries));
        }
        Poll::Pending
    }

    /// Lets go of everything but one suspect, and takes nothing more.
    async fn isolate(self: Arc<Self>) {
        if let Err(error) = self.end_taps(0).await {
            self.state().lose(error);
            return;
        }
        let bystanders = {
            let mut state = self.state();
            self.look(&mut state);
            state.bystanders()
        };
        for tag in bystanders {
            tokio::spawn(Arc::clone(&self).let_go(tag));
        }
        let mut state = self.state();
        state.course = Course::Isolated;
        state.wake();
    }

    /// Takes again.
    async fn reopen(self: Arc<Self>) {
        let result = self.tune().await;
        let mut state = self.state();
        state.course = Course::Open;
        match result {
            Ok(()) => state.wake(),
            Err(error) => state.lose(error),
        }
    }

    /// Ends all consumers but the first `keep`.
    async fn end_taps(&self, keep: usize) -> Result<()> {
        let _tuning = self.tuning.lock().await;
        let tags = self.taps().end_all_but(keep);
        taps::cancel(&self.channel, tags)
            .await
            .map_err(|error| fault::lost(&error, self.link.endpoint()))
    }

    /// Brings the consumers to what is wanted of them.
    async fn tune(&self) -> Result<()> {
        let _tuning = self.tuning.lock().await;
        {
            let state = self.state();
            if state.paused || state.stopped {
                return Ok(());
            }
        }
        let window = *self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let extra = window.saturating_sub(self.prefetch);
        let (main, rest) = self.taps().prefetch();
        let result = async {
            if rest > 0 && rest != extra {
                let tags = self.taps().end_all_but(1);
                taps::cancel(&self.channel, tags).await?;
            }
            if main == 0 {
                let tap = taps::open(&self.channel, &self.queue, self.prefetch).await?;
                self.taps().add(tap);
            }
            if extra > 0 && rest != extra {
                let tap = taps::open(&self.channel, &self.queue, extra).await?;
                self.taps().add(tap);
            }
            Ok(())
        };
        let result = result.await;
        // A consumer that has just been added is not polled by anybody yet.
        self.state().wake();
        result.map_err(|error: lapin::Error| fault::lost(&error, self.link.endpoint()))
    }

    /// Looks whether the queue is paused, and does accordingly.
    pub(super) async fn look_at_pause(self: &Arc<Self>) {
        let result = match pause::is_paused(&self.link, &self.source.queue).await {
            Ok(paused) => self.set_paused(paused).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.state().lose(error);
        }
    }

    /// Stops or begins again to take, for as long as the queue is paused.
    async fn set_paused(self: &Arc<Self>, paused: bool) -> Result<()> {
        if std::mem::replace(&mut self.state().paused, paused) == paused {
            return Ok(());
        }
        tracing::info!(queue = %self.source.queue, "{}",
            if paused { "the queue is paused; nothing is taken until it is resumed" } else { "the queue is resumed" });
        if !paused {
            return self.tune().await;
        }
        self.end_taps(0).await?;
        let waiting = {
            let mut state = self.state();
            self.look(&mut state);
            state.waiting()
        };
        for tag in waiting {
            tokio::spawn(Arc::clone(self).let_go(tag));
        }
        Ok(())
    }

    /// How many messages are ready, asked so that what is no longer ready has arrived here.
    pub(super) async fn depth(&self) -> Result<(u32, u32)> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let asked = async {
            let queue = self
                .channel
                .queue_declare(self.queue.clone(), passive, FieldTable::default())
                .await?;
            // The answer may overtake deliveries that left the queue before it; nothing overtakes a second one.
            self.desk.round_trip().await?;
            Ok((queue.message_count(), queue.consumer_count()))
        };
        asked.await.map_err(|error: lapin::Error| {
            fault::refused(&error, self.link.endpoint(), &format!("queue `{}`", self.source.queue))
        })
    }
}

#[async_trait]
impl Subscription for AmqpSubscription {
    async fn next(&mut self) -> Result<Vec<Delivery>> {
        loop {
            let due = self.shared.state().suspect_due();
            let next = poll_fn(|context| self.shared.poll_next(context));
            match due {
                None => return next.await,
                // Looked at again when a suspect has waited long enough.
                Some(due) => tokio::select! {
                    biased;
                    next = next => return next,
                    () = tokio::time::sleep_until(due.into()) => {}
                },
            }
        }
    }

    async fn attend(&mut self) {
        poll_fn(|context| {
            let mut state = self.shared.state();
            state.waker = Some(context.waker().clone());
            self.shared.pull(&mut state, context);
            if state.over.is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn settler(&self) -> Arc<dyn Settle> {
        Arc::new(settler::Settler {
            shared: Arc::clone(&self.shared),
        })
    }

    fn lifeline(&self) -> Lifeline {
        self.lifeline.clone()
    }

    fn set_window(&mut self, window: usize) {
        *self.shared.window.lock().unwrap_or_else(PoisonError::into_inner) = window;
        if self.shared.state().course != Course::Open {
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Err(error) = shared.tune().await {
                shared.state().lose(error);
            }
        });
    }

    fn is_quiet(&self) -> bool {
        let mut state = self.shared.state();
        self.shared.look(&mut state);
        state.is_quiet()
    }

    async fn stop(&mut self) -> Result<()> {
        let ended = tokio::time::timeout(CLOSE_WITHIN, self.shared.end_taps(0)).await;
        let mut state = self.shared.state();
        let ended = ended.unwrap_or_else(|_| {
            state.lose(self.shared.silent());
            Err(self.shared.silent())
        });
        self.shared.look(&mut state);
        let waiting = state.waiting();
        state.stopped = true;
        drop(state);
        for tag in waiting {
            tokio::spawn(Arc::clone(&self.shared).let_go(tag));
        }
        ended
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        drop(self.follower.take());
        let shared = Arc::clone(&self.shared);
        let closing = async {
            self.stop().await?;
            let left = self.shared.state().unsettled();
            let given_back = left.into_iter().map(|tag| Arc::clone(&self.shared).give_back(tag));
            futures_util::future::join_all(given_back).await;
            poll_fn(|context| {
                let mut state = self.shared.state();
                state.waker = Some(context.waker().clone());
                if state.busy == 0 || state.over.is_some() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            let standing = {
                let mut state = self.shared.state();
                state.closed = true;
                state.over.is_none()
            };
            if standing {
                let _ = self.shared.channel.close(200, "done".into()).await;
            }
            Ok(())
        };
        let closed = tokio::time::timeout(CLOSE_WITHIN, closing).await;
        closed.unwrap_or_else(|_| Err(shared.silent()))
    }
}
