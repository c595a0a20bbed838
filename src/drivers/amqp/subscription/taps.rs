//! The consumers on the channel: one with the prefetch that was asked for, and one more while work is taken ahead, because
//! the prefetch of a consumer cannot be changed while it runs.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

/// One consumer.
pub(super) struct Tap {
    tag: ShortString,
    consumer: Consumer,
    /// We have asked for its end.
    ending: bool,
    prefetch: u16,
}

/// What came out of a consumer.
pub(super) enum Flow {
    Delivery(Box<lapin::message::Delivery>),
    /// The broker ended it.
    Cancelled,
    Failed(lapin::Error),
}

/// The consumers of a subscription.
#[derive(Default)]
pub(super) struct Taps {
    open: Vec<Tap>,
}

/// The tags of our consumers begin with it.
const TAG: &str = "qctl-";

/// Whether a consumer with this tag is one of qctl's.
pub(in crate::drivers::amqp) fn is_ours(tag: &str) -> bool {
    tag.starts_with(TAG)
}

/// Consumer tags tell operators whose a consumer is.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Begins to take from `queue` with this prefetch.
pub(super) async fn open(channel: &Channel, queue: &ShortString, prefetch: usize) -> lapin::Result<Tap> {
    let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX).max(1);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let tag = ShortString::from(format!("{TAG}{}-{number}", std::process::id()));
    let consumer = channel
        .basic_consume(
            queue.clone(),
            tag.clone(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(Tap {
        tag,
        consumer,
        ending: false,
        prefetch,
    })
}

/// Ends the consumers with these tags; what is on its way still comes.
pub(super) async fn cancel(channel: &Channel, tags: Vec<ShortString>) -> lapin::Result<()> {
    for tag in tags {
        channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
    }
    Ok(())
}

impl Taps {
    pub(super) fn add(&mut self, tap: Tap) {
        self.open.push(tap);
    }

    /// Marks all but the first `keep` as ending; their tags.
    pub(super) fn end_all_but(&mut self, keep: usize) -> Vec<ShortString> {
        let ending = self.open.iter_mut().filter(|tap| !tap.ending).skip(keep);
        ending
            .map(|tap| {
                tap.ending = true;
                tap.tag.clone()
            })
            .collect()
    }

    /// The prefetch of those that take, the first and the rest.
    pub(super) fn prefetch(&self) -> (usize, usize) {
        let mut taking = self
            .open
            .iter()
            .filter(|tap| !tap.ending)
            .map(|tap| usize::from(tap.prefetch));
        (taking.next().unwrap_or(0), taking.sum())
    }

    /// What has come; ready for ever until nothing more has.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Flow> {
        let mut index = 0;
        while let Some(tap) = self.open.get_mut(index) {
            match Pin::new(&mut tap.consumer).poll_next(context) {
                Poll::Pending => index += 1,
                Poll::Ready(Some(Ok(delivery))) => return Poll::Ready(Flow::Delivery(Box::new(delivery))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Flow::Failed(error)),
                Poll::Ready(None) => {
                    let ended = self.open.remove(index);
                    if !ended.ending {
                        return Poll::Ready(Flow::Cancelled);
                    }
                }
            }
        }
        Poll::Pending
    }
}
