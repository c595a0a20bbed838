//! `requeue`: a message that is given up is sent to another producer instead of the dead-letter queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{ListenerContext, ListenerSpec, Sender};
use crate::error::Result;
use crate::events::{Answer, Event, Listener};
use crate::queue::HeaderValue;
use crate::queue::message::header;
use crate::settings::Settings;

pub(super) const SPEC: ListenerSpec = ListenerSpec {
    kind: "requeue",
    about: "sends a message that is given up to another producer, instead of the dead-letter queue",
    example: "requeue: { producer: again }",
    short: Some("producer"),
    parse,
};

/// A message is sent on so often, unless it is said otherwise, or it would go round for ever.
const TIMES: u64 = 3;

struct Requeue {
    producer: String,
    times: u64,
    delay: Option<Duration>,
    sender: Arc<dyn Sender>,
}

fn parse(mut settings: Settings, context: &ListenerContext) -> Result<Arc<dyn Listener>> {
    let producer = settings.text(&["producer"])?;
    let times = settings.count_within(&["times"], 1, 1_000_000)?.unwrap_or(TIMES);
    let delay = settings.duration(&["delay"])?.filter(|delay| !delay.is_zero());
    settings.check_unknown()?;
    let Some(producer) = producer else {
        return Err(settings.missing("producer", "where messages that are given up are sent"));
    };
    if !context.sender.knows(&producer) {
        return Err(settings.error(
            "producer",
            format!("there is no producer called `{}`", producer.escape_debug()),
        ));
    }
    Ok(Arc::new(Requeue {
        producer,
        times,
        delay,
        sender: Arc::clone(&context.sender),
    }))
}

#[async_trait]
impl Listener for Requeue {
    async fn hear(&self, event: &Event<'_>) -> Result<Answer> {
        // What is not trusted must not come by our signature.
        let given_up = event.trusted && event.ended.is_some_and(|ended| ended.settlement == "dead_letter");
        let Some(message) = event.message.filter(|_| given_up) else {
            return Ok(Answer::Go);
        };
        let before = message
            .headers
            .get(header::REQUEUED)
            .and_then(HeaderValue::as_int)
            .unwrap_or(0);
        if before as u64 >= self.times {
            return Ok(Answer::Go);
        }
        let mut copy = message.clone();
        // It begins anew there: with an id of its own, or it would be taken for what was already settled.
        copy.id = None;
        copy.timestamp = None;
        copy.delay = self.delay;
        copy.reply_to = None;
        copy.headers.retain(|name, _| !name.starts_with("x-qctl-"));
        copy.headers.insert(header::REQUEUED.to_owned(), (before + 1).into());
        self.sender.send(&self.producer, copy).await?;
        Ok(Answer::Moved)
    }
}
