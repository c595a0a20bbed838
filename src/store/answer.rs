//! What a sender who waits is told when its message goes unhandled: expired, purged, dropped, or deleted with its queue.
//! Handled messages are answered by their consumer.

use super::publish::{REPLY_QUEUE, insert};
use super::writer::Tx;
use crate::error::Result;
use crate::queue::Message;
use crate::wire::reply::{CONTENT_TYPE, Reply, Status};

/// The columns of a message that are needed to answer it; a dead letter has had its answer.
pub(crate) const ASKED: &str = "CASE WHEN dead_at IS NULL THEN reply_to END, coalesce(correlation_id, message_id)";

/// Who waits for an answer, as [`ASKED`] has it.
pub(crate) type Asked = (Option<String>, Option<String>);

/// Answers in the transaction in which the message goes. Only a reply queue that is still there is written to, or a sender
/// could write into any queue.
pub(crate) fn answer(tx: &mut Tx<'_>, asked: Asked, status: Status, reason: &str) -> Result<()> {
    let (Some(reply_to), correlation_id) = asked else {
        return Ok(());
    };
    if !reply_to.starts_with(REPLY_QUEUE) {
        return Ok(());
    }
    let Some(queue) = tx.queue(&reply_to)? else {
        return Ok(());
    };
    let reply = Reply {
        reason: Some(reason.to_owned()),
        ..Reply::new(status)
    };
    let message = Message {
        correlation_id,
        ..Message::new(reply.encode())
            .with_content_type(CONTENT_TYPE)
            .with_routing_key(&reply_to)
    };
    insert(tx, "", &message, &[queue])
}
