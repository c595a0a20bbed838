//! Settling: an ack, or a confirmed copy to where the message goes next and then an ack. Requeueing is for what is given
//! back untouched where a copy cannot be made; it is never the way to try again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shared;
use super::desk::Word;
use super::state::{Detour, Original, Tag};
use crate::drivers::amqp::ladder::{self, Landing, Rung};
use crate::drivers::amqp::properties::{Changes, now};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::message::header;
use crate::queue::{DeadLetter, HeaderValue, Headers, Settle, Settlement, Ticket};

/// Settles deliveries of one subscription.
pub(super) struct Settler {
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl Settle for Settler {
    async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<()> {
        let tag = ticket.tag();
        let Some(original) = self.shared.state().begin_settling(tag) else {
            return Err(self.shared.not_ours());
        };
        if settlement == Settlement::Ack {
            return self.shared.send(tag, Word::Ack).await;
        }
        // A copy of what is no longer ours would be one message more.
        self.shared.still_ours().await?;
        let word = self.shared.copy(&original, &settlement).await?;
        self.shared.send(tag, word).await
    }

    async fn start(&self, _ticket: &Ticket) -> Result<()> {
        // The broker counts what it hands out, begun or not.
        Ok(())
    }
}

impl Shared {
    fn not_ours(&self) -> Error {
        let why = match &self.state().over {
            Some(error) => error.to_string(),
            None => format!("queue `{}`: the delivery is settled already", self.source.queue),
        };
        Error::delivery_lost(format!("{why}; the message may be delivered again"))
    }

    /// Gives the delivery back to the broker and returns when it has been worked off.
    async fn send(self: &Arc<Self>, tag: Tag, word: Word) -> Result<()> {
        let sent = self.desk.send(&self.state, tag, word).await;
        self.answered(&sent)
    }

    async fn still_ours(self: &Arc<Self>) -> Result<()> {
        let answer = self.desk.round_trip().await;
        self.answered(&answer)
    }

    /// What the channel has told by the time of an answer decides: a queue that is gone has taken its deliveries with it.
    fn answered(self: &Arc<Self>, answer: &Result<(), lapin::Error>) -> Result<()> {
        {
            let mut state = self.state();
            match answer {
                Ok(()) => self.look(&mut state),
                Err(error) => state.lose(self.failed(error)),
            }
        }
        if self.state().over.is_some() {
            return Err(self.not_ours());
        }
        Ok(())
    }

    /// Puts a copy where the settlement says; what to tell the broker of the original.
    async fn copy(&self, original: &Original, settlement: &Settlement) -> Result<Word> {
        match settlement {
            Settlement::Ack => {}
            Settlement::Retry { after } => {
                let attempt = original.facts.attempt.saturating_add(1);
                self.hold_back(original, *after, attempt, original.deliveries()).await?;
            }
            Settlement::Reject(dead) => self.bury(original, dead).await?,
            Settlement::Release { uncounted } => {
                let deliveries = if *uncounted {
                    original.earlier()
                } else {
                    original.deliveries()
                };
                return Ok(self.untouched(original, deliveries).await);
            }
        }
        Ok(Word::Ack)
    }

    /// A copy to the rung of the ladder that brings it back after `wait`.
    async fn hold_back(&self, original: &Original, wait: Duration, attempt: u32, deliveries: u32) -> Result<()> {
        let (milliseconds, again) = ladder::rung(wait);
        let landing = if self.source.limited {
            Landing::LimitedQueue(&self.source.queue)
        } else {
            self.source.management.landing(&self.source.queue).await
        };
        let changes = Changes {
            counts: Some((self.source.queue.clone(), attempt, deliveries)),
            due: again.then(|| now().saturating_add(ladder::milliseconds(wait))),
            ..Changes::default()
        };
        self.copies
            .hold_back(
                &self.source.queue,
                original.into(),
                &changes,
                &Rung { milliseconds, landing },
            )
            .await
    }

    /// A copy to the dead-letter queue, where there is one.
    async fn bury(&self, original: &Original, dead: &DeadLetter) -> Result<()> {
        let Some(to) = &self.source.dead_letter else {
            return Ok(());
        };
        let mut set: Headers = dead.headers.clone();
        set.insert(header::REASON.to_owned(), dead.reason.as_str().into());
        set.insert(header::DEAD_QUEUE.to_owned(), self.source.queue.as_str().into());
        set.insert(header::DEAD_AT.to_owned(), HeaderValue::Int(now()));
        let changes = Changes {
            set,
            ..Changes::default()
        };
        self.copies.bury(to, original.into(), &changes).await
    }

    /// A copy to the end of its own queue.
    async fn back(&self, original: &Original, deliveries: u32, suspect: bool) -> Result<()> {
        let changes = Changes {
            counts: Some((self.source.queue.clone(), original.facts.attempt, deliveries)),
            suspect,
            ..Changes::default()
        };
        self.copies.back(&self.source.queue, original.into(), &changes).await
    }

    /// The same for what is given back untouched. Where no copy can be made, because the queue is full or the login may not,
    /// the original goes back to where it stood.
    async fn untouched(&self, original: &Original, deliveries: u32) -> Word {
        match self.back(original, deliveries, original.facts.suspect).await {
            Ok(()) => Word::Ack,
            Err(_) => Word::Requeue,
        }
    }

    /// Does what must be done with a delivery before anybody may have it.
    pub(super) async fn detour(self: Arc<Self>, tag: Tag, detour: Detour) {
        let Some(original) = self.state().original(tag) else {
            return;
        };
        let id = original.properties.message_id().as_ref().map_or("", |id| id.as_str());
        let queue = self.source.queue.as_str();
        let done = match detour {
            Detour::Expired => {
                let dead = DeadLetter {
                    reason: "expired".to_owned(),
                    ..DeadLetter::default()
                };
                let done = self.bury(&original, &dead).await.map(|()| Word::Ack);
                let to = self.source.dead_letter.as_deref().unwrap_or("nowhere");
                tracing::warn!(%queue, %id, %to, "expired before it was handled, dead-lettered");
                done
            }
            Detour::NotYet(left) => {
                let (attempt, deliveries) = (original.facts.attempt, original.facts.deliveries);
                let done = self.hold_back(&original, left, attempt, deliveries).await;
                done.map(|()| Word::Ack)
            }
            Detour::Recount => match self.back(&original, original.deliveries(), true).await {
                Ok(()) => {
                    tracing::info!(%queue, %id, deliveries = original.deliveries(),
                        "handed out before and never settled: its consumer may have died; counted");
                    Ok(Word::Ack)
                }
                // The queue is full, or the login may not write to it.
                Err(error) if matches!(error.kind(), ErrorKind::Temporary | ErrorKind::NotAllowed) => {
                    // Put back it would come again at once, and again. Its death is counted when it is next put somewhere.
                    tracing::warn!(%queue, %id, deliveries = original.deliveries(), %error,
                        "handed out before and never settled: its consumer may have died; it cannot be counted, and is handled \
                         alone");
                    self.state().suspect(tag);
                    return;
                }
                Err(error) => Err(error),
            },
        };
        self.finish(tag, done).await;
    }

    /// Gives back untouched what was never handed out.
    pub(super) async fn let_go(self: Arc<Self>, tag: Tag) {
        let Some(original) = self.state().original(tag) else {
            return;
        };
        let word = self.untouched(&original, original.earlier()).await;
        self.finish(tag, Ok(word)).await;
    }

    /// Gives back untouched what was handed out and is settled by nobody.
    pub(super) async fn give_back(self: Arc<Self>, tag: Tag) {
        let Some(original) = self.state().begin_settling(tag) else {
            return;
        };
        let word = self.untouched(&original, original.earlier()).await;
        self.finish(tag, Ok(word)).await;
    }

    async fn finish(self: &Arc<Self>, tag: Tag, done: Result<Word>) {
        let result = match done {
            Ok(word) => self.send(tag, word).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // It is held and nobody works on it: only a new connection brings it back.
            self.state().lose(error);
        }
    }
}
