//! Acknowledgements: those that come together go out together, as one where they are the oldest, and each is answered only
//! when the broker has worked it off.
//!
//! AMQP answers no ack. A request on the same channel is worked off after it, so its answer says that the ack was too, and
//! a queue that was deleted meanwhile has been told by then. Everything that comes while one answer is under way shares
//! the next.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, ChannelFlowOptions};
use tokio::sync::oneshot;

use super::state::{State, Tag};

/// How a delivery goes back to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is gone.
    Ack,
    /// It goes back to where it stood.
    Requeue,
}

/// What to tell the broker of one delivery, and whom to tell of its answer.
struct Request {
    tag: Tag,
    word: Word,
    answer: oneshot::Sender<Result<(), lapin::Error>>,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    /// Somebody is at it.
    sending: bool,
}

/// Sends acknowledgements on one channel.
pub(super) struct Desk {
    channel: Channel,
    waiting: Mutex<Waiting>,
}

impl Desk {
    pub(super) fn new(channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            waiting: Mutex::default(),
        })
    }

    /// Gives one delivery back and returns when the broker has it.
    pub(super) async fn send(
        self: &Arc<Self>,
        state: &Arc<Mutex<State>>,
        tag: Tag,
        word: Word,
    ) -> Result<(), lapin::Error> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.requests.push(Request { tag, word, answer });
            !std::mem::replace(&mut waiting.sending, true)
        };
        if first {
            // A task of its own: whoever asks may stop waiting, and the others must not.
            tokio::spawn(Arc::clone(self).work(Arc::clone(state)));
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// A round trip over the channel: what was sent before it is worked off.
    pub(super) async fn round_trip(&self) -> Result<(), lapin::Error> {
        self.channel
            .channel_flow(ChannelFlowOptions { active: true })
            .await
            .map(drop)
    }

    async fn work(self: Arc<Self>, state: Arc<Mutex<State>>) {
        loop {
            let requests = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.requests.is_empty() {
                    waiting.sending = false;
                    return;
                }
                std::mem::take(&mut waiting.requests)
            };
            let acked: BTreeSet<Tag> = requests
                .iter()
                .filter(|request| request.word == Word::Ack)
                .map(|request| request.tag)
                .collect();
            let oldest_held = {
                let state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.held.keys().copied().find(|tag| !acked.contains(tag))
            };
            let (together, single) = grouped(&acked, oldest_held);
            let multiple = BasicAckOptions { multiple: true };
            let requeue = BasicNackOptions {
                requeue: true,
                multiple: false,
            };
            let result = async {
                let acks = together
                    .map(|tag| (tag, multiple))
                    .into_iter()
                    .chain(single.into_iter().map(|tag| (tag, BasicAckOptions::default())));
                // Put in order on the wire before any of them is waited for: one turn of the client's thread for all.
                let acks: Vec<_> = acks
                    .map(|(tag, options)| self.channel.basic_ack(tag, options))
                    .collect();
                let nacks = requests.iter().filter(|request| request.word == Word::Requeue);
                let nacks: Vec<_> = nacks
                    .map(|request| self.channel.basic_nack(request.tag, requeue))
                    .collect();
                let (acks, nacks, round_trip) =
                    tokio::join!(biased; join_all(acks), join_all(nacks), self.round_trip());
                acks.into_iter().chain(nacks).collect::<Result<Vec<()>, _>>()?;
                round_trip
            };
            let result = result.await;
            if result.is_ok() {
                // At once, so that the next ack can cover what comes after them.
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                for request in &requests {
                    state.settled(request.tag);
                }
            }
            for request in requests {
                // Nobody may be waiting any more.
                let _ = request.answer.send(result.clone());
            }
        }
    }
}

/// The tag up to which one ack does for all, and those that need one of their own.
fn grouped(acked: &BTreeSet<Tag>, oldest_held: Option<Tag>) -> (Option<Tag>, Vec<Tag>) {
    let end = oldest_held.unwrap_or(Tag::MAX);
    let together: Vec<Tag> = acked.range(..end).copied().collect();
    let mut single: Vec<Tag> = acked.range(end..).copied().collect();
    match together.as_slice() {
        [] => (None, single),
        [only] => {
            single.push(*only);
            (None, single)
        }
        [.., last] => (Some(*last), single),
    }
}

fn gone() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::grouped;

    #[test]
    fn what_is_older_than_everything_held_goes_together() {
        let acked = BTreeSet::from([1, 2, 3, 7]);
        assert_eq!(grouped(&acked, Some(5)), (Some(3), vec![7]));
        assert_eq!(grouped(&acked, None), (Some(7), vec![]));
        assert_eq!(grouped(&acked, Some(1)), (None, vec![1, 2, 3, 7]));
        assert_eq!(grouped(&BTreeSet::from([4]), Some(9)), (None, vec![4]));
    }

    proptest! {
        #[test]
        fn exactly_the_acked_are_acked(
            all in proptest::collection::btree_set(1_u64..60, 0..40),
            picks in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let acked: BTreeSet<u64> = all.iter().copied().filter(|tag| picks[*tag as usize]).collect();
            let held: Vec<u64> = all.difference(&acked).copied().collect();
            let (together, single) = grouped(&acked, held.first().copied());
            let covered = all.iter().copied().filter(|tag| together.is_some_and(|last| *tag <= last) || single.contains(tag));
            prop_assert_eq!(covered.collect::<BTreeSet<_>>(), acked);
        }
    }
}
