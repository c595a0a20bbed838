//! `peek`: a look at messages that changes nothing.

use serde_json::{Value, json};

use super::target::Target;
use super::{PeekArgs, State};
use crate::commands::Outcome;
use crate::commands::sending::headers_json;
use crate::context::Workplace;
use crate::error::{Error, Result};
use crate::output::{encoded, human_bytes, human_time, known, preview, printable, table};
use crate::queue::message::header;
use crate::queue::{Peek, PeekState, Peeked};

/// Shows messages of one queue.
pub(super) async fn run(place: &Workplace<'_>, given: Option<&str>, args: &PeekArgs) -> Result<Outcome> {
    let target = Target::open(place, given, &args.name.name).await?;
    let (queue, state) = match args.state {
        Some(State::Dead) => (target.dead_queue(), None),
        Some(State::Ready) => (target.queue.clone(), Some(PeekState::Ready)),
        Some(State::Delayed) => (target.queue.clone(), Some(PeekState::Delayed)),
        Some(State::Held) => (target.queue.clone(), Some(PeekState::Held)),
        None => (target.queue.clone(), None),
    };
    let peek = Peek {
        state,
        id: args.id.clone(),
        limit: args.limit as usize,
    };
    let found = target.connection.peek(&queue, &peek).await?;
    if found.is_empty()
        && let Some(id) = &args.id
    {
        return Err(Error::not_found(format!(
            "no message {id} in queue {queue}; `qctl managequeue peek` without --id shows what there is"
        )));
    }
    let output = &place.context.output;
    if output.is_json() {
        output.json(&found.iter().map(document).collect::<Vec<_>>())?;
    } else if found.is_empty() {
        output.note(format_args!("no messages in queue {queue}"));
    } else if args.body {
        let texts: Vec<String> = found.iter().map(in_full).collect();
        output.line(texts.join("\n\n"))?;
    } else {
        output.line(overview(&found))?;
    }
    Ok(Outcome::DONE)
}

fn state_name(state: PeekState) -> &'static str {
    match state {
        PeekState::Ready => "ready",
        PeekState::Delayed => "delayed",
        PeekState::Held => "held",
    }
}

fn overview(found: &[Peeked]) -> String {
    table(
        &["id", "state", "published", "attempts", "size", "routing key", "body"],
        found.iter().map(|peeked| {
            vec![
                known(peeked.message.id.as_ref()),
                state_name(peeked.state).to_owned(),
                known(peeked.message.timestamp.map(human_time)),
                peeked.attempt.to_string(),
                human_bytes(peeked.message.body.len() as u64),
                peeked.message.routing_key.clone(),
                preview(&peeked.message.body, 60),
            ]
        }),
    )
}

fn in_full(peeked: &Peeked) -> String {
    let message = &peeked.message;
    let mut lines = vec![
        format!("id: {}", known(message.id.as_ref())),
        format!("state: {}", state_name(peeked.state)),
        format!("exchange: {}", peeked.exchange),
        format!("routing key: {}", message.routing_key),
        format!("content type: {}", known(message.content_type.as_ref())),
        format!("published: {}", known(message.timestamp.map(human_time))),
        format!("attempts: {}", peeked.attempt),
    ];
    lines.extend(peeked.deliveries.map(|count| format!("deliveries: {count}")));
    lines.extend(peeked.due.map(|due| format!("due: {}", human_time(due))));
    lines.extend(peeked.holder.as_ref().map(|holder| {
        format!(
            "held by: pid {} on {} ({})",
            known(holder.pid),
            known(holder.host.as_ref()),
            known(holder.label.as_ref())
        )
    }));
    lines.extend(
        message
            .headers
            .get(header::REASON)
            .and_then(|reason| reason.as_text())
            .map(|reason| format!("reason: {reason}")),
    );
    let headers = headers_json(&message.headers);
    if headers.as_object().is_some_and(|headers| !headers.is_empty()) {
        lines.push(format!("headers: {headers}"));
    }
    let head: Vec<String> = lines.iter().map(|line| crate::output::one_line(line)).collect();
    format!("{}\n\n{}", head.join("\n"), printable(&message.body))
}

fn document(peeked: &Peeked) -> Value {
    let message = &peeked.message;
    let (encoding, body) = encoded(&message.body);
    json!({
        "id": message.id,
        "state": state_name(peeked.state),
        "exchange": peeked.exchange,
        "routing_key": message.routing_key,
        "content_type": message.content_type,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "priority": message.priority,
        "ttl": message.ttl.map(|ttl| ttl.as_secs_f64()),
        "timestamp": message.timestamp,
        "attempt": peeked.attempt,
        "deliveries": peeked.deliveries,
        "due": peeked.due,
        "holder": peeked.holder,
        "headers": headers_json(&message.headers),
        "size": message.body.len(),
        "body": body,
        "encoding": encoding,
    })
}
