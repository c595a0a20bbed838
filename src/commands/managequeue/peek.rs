//! `peek`: a look at messages that takes none away, and says first what it does to them.

use serde_json::{Value, json};

use super::change::refused;
use super::target::Target;
use super::{PeekArgs, State};
use crate::commands::sending::headers_json;
use crate::commands::{Outcome, confirm_or};
use crate::context::Workplace;
use crate::error::{Error, Result};
use crate::output::{encoded, human_bytes, human_time, known, one_line, preview, printable, rfc3339, table};
use crate::queue::message::header;
use crate::queue::{HeaderValue, LookPrice, Peek, PeekState, Peeked};

/// Shows messages of one queue.
pub(super) async fn run(place: &Workplace<'_>, given: Option<&str>, args: &PeekArgs) -> Result<Outcome> {
    let target = Target::open_to_look(place, given, &args.name.name).await?;
    let (queue, state) = match args.state {
        Some(State::Dead) => match target.dead_queue().await? {
            Some(dead) => (dead, None),
            None => {
                return Err(Error::not_found(format!(
                    "queue {} has no dead-letter queue; what is rejected there is dropped",
                    target.queue
                )));
            }
        },
        Some(State::Ready) => (target.queue.clone(), Some(PeekState::Ready)),
        Some(State::Delayed) => (target.queue.clone(), Some(PeekState::Delayed)),
        Some(State::Held) => (target.queue.clone(), Some(PeekState::Held)),
        None => (target.queue.clone(), None),
    };
    let peek = Peek {
        state,
        id: args.id.clone(),
        limit: match args.limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        },
        at_any_price: true,
    };
    let shows = !matches!(state, Some(PeekState::Delayed | PeekState::Held));
    if shows && !agree_on_price(place, &target, &queue, "Look all the same?").await? {
        return Ok(refused(place));
    }
    let found = target.connection.peek(&queue, &peek).await?;
    let is_dead = args.state == Some(State::Dead) || target.is_for_dead_letters().await?;
    if found.is_empty()
        && let Some(id) = &args.id
    {
        return Err(Error::not_found(format!(
            "no message {} in queue {queue}; `qctl managequeue peek` without --id shows what there is",
            one_line(id)
        )));
    }
    let output = &place.context.output;
    if output.is_json() {
        output.json(&found.iter().map(|peeked| document(peeked, is_dead)).collect::<Vec<_>>())?;
    } else if found.is_empty() {
        output.note(format_args!("no messages in queue {queue}"));
    } else if args.body {
        let texts: Vec<String> = found.iter().map(|peeked| in_full(peeked, is_dead)).collect();
        output.line(texts.join("\n\n"))?;
    } else {
        output.line(if is_dead {
            overview_of_dead(&found)
        } else {
            overview(&found)
        })?;
    }
    Ok(Outcome::DONE)
}

/// Says what a look at the messages of `queue` does to them; where it uses them up, it is done only if that is agreed to.
pub(super) async fn agree_on_price(
    place: &Workplace<'_>,
    target: &Target,
    queue: &str,
    question: &str,
) -> Result<bool> {
    match target.connection.look_price(queue).await? {
        LookPrice::Nothing => Ok(true),
        LookPrice::Mark(told) => {
            place.context.output.note(one_line(&told));
            Ok(true)
        }
        LookPrice::Delivery(told) => {
            let question = format!("{}. {question}", one_line(&told));
            confirm_or(place.context, question, "add --yes").await
        }
    }
}

fn state_name(state: PeekState, is_dead: bool) -> &'static str {
    match state {
        PeekState::Ready if is_dead => "dead",
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
                known(peeked.message.id.as_deref().map(one_line)),
                state_name(peeked.state, false).to_owned(),
                known(peeked.message.timestamp.map(human_time)),
                peeked.attempt.to_string(),
                human_bytes(peeked.message.body.len() as u64),
                one_line(&peeked.message.routing_key),
                preview(&peeked.message.body, 60),
            ]
        }),
    )
}

/// Of dead letters, why and when they died is what is asked.
fn overview_of_dead(found: &[Peeked]) -> String {
    table(
        &["id", "died", "attempts", "size", "routing key", "reason", "body"],
        found.iter().map(|peeked| {
            vec![
                known(peeked.message.id.as_deref().map(one_line)),
                known(died(peeked).map(human_time)),
                peeked.attempt.to_string(),
                human_bytes(peeked.message.body.len() as u64),
                one_line(&peeked.message.routing_key),
                known(text_of(peeked, header::REASON).map(|reason| preview(reason.as_bytes(), 60))),
                preview(&peeked.message.body, 40),
            ]
        }),
    )
}

fn died(peeked: &Peeked) -> Option<i64> {
    peeked
        .message
        .headers
        .get(header::DEAD_AT)
        .and_then(HeaderValue::as_int)
}

fn text_of<'a>(peeked: &'a Peeked, name: &str) -> Option<&'a str> {
    peeked.message.headers.get(name).and_then(HeaderValue::as_text)
}

fn in_full(peeked: &Peeked, is_dead: bool) -> String {
    let message = &peeked.message;
    let mut lines = vec![
        format!("id: {}", known(message.id.as_deref().map(one_line))),
        format!("state: {}", state_name(peeked.state, is_dead)),
        format!("exchange: {}", peeked.exchange),
        format!("routing key: {}", one_line(&message.routing_key)),
        format!("content type: {}", known(message.content_type.as_deref().map(one_line))),
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
    lines.extend(died(peeked).map(|time| format!("died: {}", human_time(time))));
    lines.extend(text_of(peeked, header::DEAD_QUEUE).map(|queue| format!("from queue: {queue}")));
    lines.extend(text_of(peeked, header::REASON).map(|reason| format!("reason: {reason}")));
    let headers = headers_json(&message.headers);
    if headers.as_object().is_some_and(|headers| !headers.is_empty()) {
        lines.push(format!("headers: {headers}"));
    }
    let head: Vec<String> = lines.iter().map(|line| one_line(line)).collect();
    format!("{}\n\n{}", head.join("\n"), printable(&message.body))
}

fn document(peeked: &Peeked, is_dead: bool) -> Value {
    let message = &peeked.message;
    let (encoding, body) = encoded(&message.body);
    json!({
        "id": message.id,
        "state": state_name(peeked.state, is_dead),
        "exchange": peeked.exchange,
        "routing_key": message.routing_key,
        "content_type": message.content_type,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "priority": message.priority,
        "timestamp": message.timestamp,
        "published_at": message.timestamp.map(rfc3339),
        "attempt": peeked.attempt,
        "deliveries": peeked.deliveries,
        "due_at": peeked.due.map(rfc3339),
        "holder": peeked.holder,
        "dead_at": died(peeked).map(rfc3339),
        "dead_queue": text_of(peeked, header::DEAD_QUEUE),
        "reason": text_of(peeked, header::REASON),
        "headers": headers_json(&message.headers),
        "size": message.body.len(),
        "body": body,
        "encoding": encoding,
    })
}
