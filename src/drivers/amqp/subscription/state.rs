//! What a subscription holds: deliveries from their arrival to their settlement. Pure: nothing here waits or talks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::types::ShortString;

use super::allowance::Allowance;
use crate::drivers::amqp::copies::Piece;
use crate::drivers::amqp::properties::{Facts, now, to_message};
use crate::drivers::amqp::survivors::Survivors;
use crate::error::Error;
use crate::queue::{Delivery, Message, Ticket};

/// Suspected of so many deaths, a message is handled alone whatever that costs.
const SURELY_ALONE: u32 = 2;
/// A suspect waits this long for a moment at which nothing else is handled; then it is handled beside others.
const SUSPECT_WAITS: Duration = Duration::from_secs(30);

/// No retry waits longer than a year, in milliseconds; who says so has written it himself.
const LONGEST_WAIT: i64 = 366 * 86_400_000;

/// Names a delivery on its channel.
pub(super) type Tag = u64;

/// A delivery that is not settled.
pub(super) struct Held {
    /// As it came, for the copies that a retry, a dead letter or a release is made of.
    pub(super) original: Arc<Original>,
    /// What is handed out, until it is.
    message: Option<Message>,
    redelivered: bool,
    /// A settlement or a detour is under way.
    settling: bool,
}

/// A delivery as it came.
#[derive(Clone)]
pub(super) struct Original {
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    /// The key it was first published with.
    pub(super) routing_key: String,
    pub(super) facts: Facts,
}

impl<'a> From<&'a Original> for Piece<'a> {
    fn from(original: &'a Original) -> Self {
        Self {
            properties: &original.properties,
            body: &original.body,
            exchange: &original.facts.exchange,
            routing_key: &original.routing_key,
        }
    }
}

impl Original {
    /// How often it was handed out, this time included.
    pub(super) fn deliveries(&self) -> u32 {
        self.earlier().saturating_add(1)
    }

    /// How often it was handed out before.
    pub(super) fn earlier(&self) -> u32 {
        self.facts
            .deliveries
            .saturating_add(self.facts.native_count.unwrap_or(0))
    }
}

/// What has to be done with a delivery before anybody may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detour {
    /// Its time is over.
    Expired,
    /// It is to be held back longer.
    NotYet(Duration),
    /// A consumer died under it and the broker does not count: it goes round once to be counted.
    Recount,
}

/// What a subscription does with suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Taking and handing out.
    Open,
    /// Letting go of everything but one suspect, or beginning to take again.
    Changing,
    /// Holding nothing but a suspect, taking nothing.
    Isolated,
    /// A suspect is handled, alone.
    Alone(Tag),
}

pub(super) struct State {
    pub(super) held: BTreeMap<Tag, Held>,
    ready: VecDeque<Tag>,
    suspects: VecDeque<(Tag, Instant)>,
    allowance: Allowance,
    /// Handed out and not settled.
    pub(super) out: usize,
    /// On a detour.
    pub(super) busy: usize,
    pub(super) course: Course,
    /// Why nothing of it is ours any more.
    pub(super) over: Option<Error>,
    pub(super) stopped: bool,
    /// We close the channel.
    pub(super) closed: bool,
    pub(super) paused: bool,
    pub(super) waker: Option<Waker>,
    queue: String,
    /// The broker counts deliveries itself.
    counted: bool,
    survivors: Arc<Survivors>,
}

impl State {
    pub(super) fn new(queue: &str, counted: bool, survivors: Arc<Survivors>) -> Self {
        Self {
            held: BTreeMap::new(),
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            allowance: Allowance::new(Instant::now()),
            out: 0,
            busy: 0,
            course: Course::Open,
            over: None,
            stopped: false,
            closed: false,
            paused: false,
            waker: None,
            queue: queue.to_owned(),
            counted,
            survivors,
        }
    }

    /// Takes in what has arrived; says what must be done with it first, if it may not be handed out as it is.
    pub(super) fn arrived(&mut self, delivery: lapin::message::Delivery) -> Option<(Tag, Detour)> {
        let tag = delivery.delivery_tag;
        let (message, mut facts) = to_message(
            &delivery.properties,
            delivery.exchange.as_str(),
            delivery.routing_key.as_str(),
            &self.queue,
            Vec::new(),
        );
        // On a classic queue anybody may have written it.
        facts.native_count = facts.native_count.filter(|_| self.counted);
        let survived = delivery.redelivered
            && message
                .id
                .as_deref()
                .is_some_and(|id| self.survivors.recall(&self.queue, id));
        // A copy of it has no count of the broker's any more, and is suspect all the same.
        facts.suspect |= !survived && facts.native_count.is_some_and(|count| count > 0);
        let suspect = facts.suspect;
        let detour = self.detour(&facts, delivery.redelivered && !survived);
        let original = Original {
            properties: delivery.properties,
            body: delivery.data,
            routing_key: message.routing_key.clone(),
            facts,
        };
        let held = Held {
            original: Arc::new(original),
            message: Some(message),
            redelivered: delivery.redelivered,
            settling: detour.is_some(),
        };
        self.held.insert(tag, held);
        match detour {
            Some(_) => self.busy += 1,
            None if suspect => self.suspects.push_back((tag, Instant::now())),
            None => self.ready.push_back(tag),
        }
        detour.map(|detour| (tag, detour))
    }

    fn detour(&self, facts: &Facts, redelivered: bool) -> Option<Detour> {
        let now = now();
        if facts.expires_at.is_some_and(|at| at <= now) {
            return Some(Detour::Expired);
        }
        if let Some(left) = facts
            .due
            .map(|due| due.saturating_sub(now))
            .filter(|left| (1..=LONGEST_WAIT).contains(left))
        {
            return Some(Detour::NotYet(Duration::from_millis(left.unsigned_abs())));
        }
        (redelivered && !self.counted).then_some(Detour::Recount)
    }

    /// A delivery on its detour is to be handed out all the same, alone, as one whose consumer died.
    pub(super) fn suspect(&mut self, tag: Tag) {
        let Some(held) = self.held.get_mut(&tag) else { return };
        let original = Arc::make_mut(&mut held.original);
        original.facts.deliveries = original.facts.deliveries.saturating_add(1);
        original.facts.suspect = true;
        held.settling = false;
        self.busy = self.busy.saturating_sub(1);
        self.suspects.push_back((tag, Instant::now()));
        self.wake();
    }

    /// What can be handed out now.
    pub(super) fn hand_out(&mut self) -> Vec<Delivery> {
        if self.stopped || self.paused {
            return Vec::new();
        }
        match self.course {
            Course::Changing | Course::Alone(_) => return Vec::new(),
            // What is not yet let go of would die with it.
            Course::Isolated if self.busy > 0 => return Vec::new(),
            Course::Isolated => {
                let Some((tag, _)) = self.suspects.pop_front() else {
                    return Vec::new();
                };
                if !self.is_surely_suspect(tag) {
                    self.allowance.take();
                }
                self.course = Course::Alone(tag);
                return self.delivery(tag, true).into_iter().collect();
            }
            Course::Open => {}
        }
        let mut tags: Vec<Tag> = self.ready.drain(..).collect();
        while let Some((tag, _)) = self
            .suspects
            .front()
            .filter(|(_, since)| since.elapsed() >= SUSPECT_WAITS)
        {
            tags.push(*tag);
            self.suspects.pop_front();
        }
        tags.into_iter().filter_map(|tag| self.delivery(tag, false)).collect()
    }

    fn is_surely_suspect(&self, tag: Tag) -> bool {
        self.held
            .get(&tag)
            .is_some_and(|held| held.original.earlier() >= SURELY_ALONE)
    }

    /// Clears suspects that there is no time to handle alone.
    pub(super) fn clear_suspects(&mut self) {
        if self.course != Course::Open || self.suspects.is_empty() || !self.allowance.is_used_up(Instant::now()) {
            return;
        }
        let suspects = std::mem::take(&mut self.suspects);
        let (sure, cleared): (VecDeque<_>, VecDeque<_>) =
            suspects.into_iter().partition(|(tag, _)| self.is_surely_suspect(*tag));
        self.suspects = sure;
        self.ready.extend(cleared.into_iter().map(|(tag, _)| tag));
    }

    /// Whether it is time to let go of everything but the suspects.
    pub(super) fn should_isolate(&self) -> bool {
        self.course == Course::Open && !self.stopped && !self.paused && self.out == 0 && !self.suspects.is_empty()
    }

    /// Whether the last suspect is settled and taking begins again.
    pub(super) fn should_open(&self) -> bool {
        self.course == Course::Isolated && self.suspects.is_empty()
    }

    /// When a suspect has waited long enough.
    pub(super) fn suspect_due(&self) -> Option<Instant> {
        self.suspects.front().map(|(_, since)| *since + SUSPECT_WAITS)
    }

    /// What is let go of so that a suspect is alone: everything that waits, but the first suspect itself.
    pub(super) fn bystanders(&mut self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = self.ready.drain(..).collect();
        tags.extend(self.suspects.drain(1.min(self.suspects.len())..).map(|(tag, _)| tag));
        self.begin_detours(&tags);
        tags
    }

    /// Everything that waits.
    pub(super) fn waiting(&mut self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = self.ready.drain(..).collect();
        tags.extend(self.suspects.drain(..).map(|(tag, _)| tag));
        self.begin_detours(&tags);
        tags
    }

    fn begin_detours(&mut self, tags: &[Tag]) {
        for tag in tags {
            if let Some(held) = self.held.get_mut(tag) {
                held.settling = true;
                self.busy += 1;
            }
        }
    }

    fn delivery(&mut self, tag: Tag, alone: bool) -> Option<Delivery> {
        let held = self.held.get_mut(&tag)?;
        let mut message = held.message.take()?;
        let original = &held.original;
        message.body.clone_from(&original.body);
        self.out += 1;
        Some(Delivery {
            message,
            queue: self.queue.clone(),
            exchange: original.facts.exchange.clone(),
            attempt: original.facts.attempt,
            deliveries: Some(original.deliveries()),
            redelivered: held.redelivered || original.earlier() > 0 || original.facts.attempt > 0,
            alone,
            ticket: Ticket::new(tag),
        })
    }

    /// The delivery with this tag, to settle it; `None` if it is not ours, or somebody is at it.
    pub(super) fn begin_settling(&mut self, tag: Tag) -> Option<Arc<Original>> {
        if self.over.is_some() {
            return None;
        }
        let held = self.held.get_mut(&tag).filter(|held| !held.settling)?;
        held.settling = true;
        Some(Arc::clone(&held.original))
    }

    /// The original of a delivery on a detour.
    pub(super) fn original(&self, tag: Tag) -> Option<Arc<Original>> {
        self.held.get(&tag).map(|held| Arc::clone(&held.original))
    }

    /// A delivery is the broker's again, or gone.
    pub(super) fn settled(&mut self, tag: Tag) {
        let Some(held) = self.held.remove(&tag) else { return };
        if held.message.is_none() {
            self.out = self.out.saturating_sub(1);
        } else {
            self.busy = self.busy.saturating_sub(1);
        }
        if self.course == Course::Alone(tag) {
            self.course = Course::Isolated;
        }
        self.wake();
    }

    /// What was handed out and never settled.
    pub(super) fn unsettled(&self) -> Vec<Tag> {
        let held = self.held.iter().filter(|(_, held)| !held.settling);
        held.map(|(tag, _)| *tag).collect()
    }

    /// Nothing of it is ours any more.
    pub(super) fn lose(&mut self, error: Error) {
        if self.over.is_none() {
            let properties = self.held.values().map(|held| &held.original.properties);
            let ids = properties.filter_map(|properties| properties.message_id().as_ref().map(ShortString::as_str));
            self.survivors.remember(&self.queue, ids);
            self.over = Some(error);
        }
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Nothing has arrived that was not handed out.
    pub(super) fn is_quiet(&self) -> bool {
        self.ready.is_empty() && self.suspects.is_empty() && self.busy == 0 && self.course == Course::Open
    }
}
