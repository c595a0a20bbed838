//! Replies: told to the sender when its message is settled for good.

use std::sync::Arc;
use std::time::Duration;

use super::handler::{Outcome, Report};
use crate::queue::{Connection, Message, Publication, Settlement};
use crate::wire::reply::{CONTENT_TYPE, Reply as Body, Status};

/// Where a reply goes and what it answers.
#[derive(Debug)]
pub(super) struct Reply {
    to: String,
    correlation_id: Option<String>,
}

impl Reply {
    /// The reply this message asks for. A queue that is neither its sender's own nor allowed gets none, or a sender could
    /// write into any queue.
    pub(super) fn wanted(message: &Message, connection: &dyn Connection, allowed: &[String]) -> Option<Self> {
        let to = message.reply_to.as_deref()?;
        if !connection.is_reply_queue(to) && !allowed.iter().any(|queue| queue == to) {
            tracing::warn!(id = message.id.as_deref().unwrap_or(""), reply_to = %to,
                "no reply is sent: its queue is not a temporary one; name it in the consumer's `replies: allow` to allow it");
            return None;
        }
        Some(Self {
            to: to.to_owned(),
            correlation_id: message.correlation_id.clone().or_else(|| message.id.clone()),
        })
    }
}

/// A reply that was lost on its way is sent again after so long.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// Sends the reply. A failure is logged and changes nothing.
pub(super) async fn answer(
    connection: &dyn Connection,
    reply: &Reply,
    settlement: &Settlement,
    outcome: Option<&Outcome>,
) {
    let status = match (settlement, outcome) {
        (Settlement::Ack, Some(Outcome::Swallowed(_))) => Status::Rejected,
        (Settlement::Ack, _) => Status::Done,
        (Settlement::Reject(_), Some(Outcome::Retry(_))) => Status::Failed,
        (Settlement::Reject(_), _) => Status::Rejected,
        (Settlement::Retry { .. } | Settlement::Release { .. }, _) => return,
    };
    let empty = Report::default();
    let report = match outcome {
        Some(Outcome::Done(report)) => report,
        Some(Outcome::Retry(failure) | Outcome::Reject(failure)) => &failure.report,
        _ => &empty,
    };
    let body = Body {
        status,
        reason: match (settlement, outcome) {
            (Settlement::Reject(dead), _) => Some(dead.reason.clone()),
            (_, Some(Outcome::Swallowed(by))) => Some(format!("swallowed by the listener {by}")),
            _ => None,
        },
        exit_code: report.exit_code,
        signal: report.signal,
        stdout: report.stdout.clone(),
        stderr: report.stderr.clone(),
        stdout_truncated: report.stdout_truncated,
        stderr_truncated: report.stderr_truncated,
    };
    let mut message = Message::new(body.encode())
        .with_content_type(CONTENT_TYPE)
        .with_routing_key(&reply.to);
    message.correlation_id.clone_from(&reply.correlation_id);
    for wait in AGAIN.iter().map(Some).chain([None]) {
        let publication = Publication {
            exchange: Arc::from(""),
            message: message.clone(),
            deduplicate: false,
        };
        let Err(failure) = connection.publish(vec![publication]).await else {
            return;
        };
        let error = failure.into_first();
        let Some(wait) = wait.filter(|_| error.is_transient()) else {
            tracing::warn!(%error, reply_to = %reply.to, "the reply could not be sent; its sender may have gone");
            return;
        };
        // The connection that it went out on may have been lost under it by somebody else's doing.
        tokio::time::sleep(*wait).await;
    }
}
