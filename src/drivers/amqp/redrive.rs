//! Moving dead letters back to the queues they came from: a copy is published and confirmed, and only then the letter is
//! removed. What happens in between leaves every message in at least one place.
//!
//! Letters that are not meant are held back until the end and then put back to where they stood, because what is put back
//! earlier comes at once again. It is the broker that holds them; we count them.

use std::time::Duration;

use lapin::types::ShortString;

use super::connection::AmqpConnection;
use super::look::{Scan, check_price};
use super::properties::{Changes, Facts, of_copy, short};
use super::publisher::{Named, Outgoing};
use crate::error::{Error, Result};
use crate::queue::message::header;
use crate::queue::{HeaderValue, Message, Redrive, RedriveReport, Selection};

/// So many letters are on their way at once.
const ROUND: u64 = 500;
/// Or so many bytes of bodies.
const ROUND_BYTES: usize = 16 << 20;
/// No more letters than this are held back: the broker keeps a note of each.
const MOST_HELD_BACK: u64 = 100_000;

/// Moves dead letters of `queue`, or those of all queues that are in it.
pub(super) async fn redrive(connection: &AmqpConnection, queue: &str, redrive: &Redrive) -> Result<RedriveReport> {
    let dead = redrive
        .from
        .clone()
        .or_else(|| connection.dead_letter(queue))
        .ok_or_else(|| {
            Error::not_found(format!(
                "queue `{queue}` has no dead-letter queue; say where its dead letters are"
            ))
        })?;
    // What arrives later, and what dies again meanwhile, is not for this run.
    let (there, _) = connection.depth(&dead).await?;
    check_price(connection, &dead, redrive.at_any_price).await?;
    let mut moving = Moving {
        connection,
        redrive,
        only_of: (dead != queue).then_some(queue),
        there: there.into(),
        scan: Scan::begin(&connection.link, &dead).await?,
        moved: 0,
        held_back: 0,
    };
    let result = moving.run().await;
    let moved = moving.moved;
    let put_back = moving.scan.end().await;
    result.and(put_back).map_err(|error| {
        Error::new(
            error.kind(),
            format!("{error}; {moved} dead letter(s) of `{dead}` were moved before, the others are where they were"),
        )
    })?;
    let (left, _) = connection.depth(&dead).await?;
    let leaving = if redrive.dry_run { moved } else { 0 };
    Ok(RedriveReport {
        moved,
        left: u64::from(left).saturating_sub(leaving),
    })
}

struct Moving<'a> {
    connection: &'a AmqpConnection,
    redrive: &'a Redrive,
    /// Only letters that came from this queue; `None`: each goes to its own.
    only_of: Option<&'a str>,
    /// How many letters there were.
    there: u64,
    scan: Scan<'a>,
    moved: u64,
    held_back: u64,
}

impl Moving<'_> {
    async fn run(&mut self) -> Result<()> {
        let most = self.redrive.selection.limit.unwrap_or(u64::MAX);
        // A tenth of a second's worth at a time keeps to the rate without bursts.
        let step = self
            .redrive
            .rate
            .map_or(ROUND, |rate| u64::from(rate / 10).clamp(1, ROUND));
        while self.moved < most {
            let (count, ended) = self.round(step.min(most - self.moved)).await?;
            self.moved += count;
            if ended {
                break;
            }
            if let Some(rate) = self.redrive.rate.filter(|_| count > 0 && !self.redrive.dry_run) {
                tokio::time::sleep(Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)))).await;
            }
        }
        Ok(())
    }

    /// Moves at most `step` letters; how many, and whether there are no more.
    async fn round(&mut self, step: u64) -> Result<(u64, bool)> {
        let (mut taken, mut outgoing, mut bytes, mut ended) = (Vec::new(), Vec::new(), 0, false);
        while (taken.len() as u64) < step && bytes < ROUND_BYTES {
            if self.scan.taken >= self.there {
                ended = true;
                break;
            }
            if self.held_back >= MOST_HELD_BACK {
                tracing::warn!(
                    "only the first {} of {} dead letters were looked at; redrive or purge some of them first",
                    self.scan.taken,
                    self.there
                );
                ended = true;
                break;
            }
            let Some(mut delivery) = self.scan.next().await? else {
                ended = true;
                break;
            };
            let (message, facts) = self.scan.read(&mut delivery);
            let Some(target) = self
                .target(&message)
                .filter(|_| is_meant(&self.redrive.selection, &message))
            else {
                self.held_back += 1;
                continue;
            };
            if !self.redrive.dry_run {
                bytes += message.body.len();
                outgoing.push((taken.len(), letter(&delivery, &target, message, &facts)?));
            }
            taken.push(delivery);
        }
        if self.redrive.dry_run {
            return Ok((taken.len() as u64, ended));
        }
        let refusal = |to: &Named| {
            Error::temporary(format!(
                "queue `{}` is full, or cannot store it now; make room there",
                to.routing_key
            ))
        };
        let publisher = self.connection.outlet().await?;
        let mut failed = publisher.publish(outgoing, refusal).await;
        let mut count = 0;
        for (index, delivery) in taken.iter().enumerate() {
            if !failed.iter().any(|(position, _)| *position == index) {
                self.scan.remove(delivery).await?;
                count += 1;
            }
        }
        if failed.is_empty() {
            return Ok((count, ended));
        }
        self.moved += count;
        Err(failed.swap_remove(0).1)
    }

    /// Where a letter came from, if that is meant.
    fn target(&self, message: &Message) -> Option<String> {
        let came_from = message.headers.get(header::DEAD_QUEUE)?.as_text()?;
        let is_meant = self.only_of.is_none_or(|queue| queue == came_from);
        is_meant.then(|| came_from.to_owned())
    }
}

fn letter(delivery: &lapin::message::Delivery, target: &str, message: Message, facts: &Facts) -> Result<Outgoing> {
    let changes = Changes {
        fresh: true,
        ..Changes::default()
    };
    Ok(Outgoing {
        to: Named {
            exchange: ShortString::default(),
            routing_key: short("the queue's name", target)?,
        },
        mandatory: true,
        properties: of_copy(&delivery.properties, &facts.exchange, &message.routing_key, &changes),
        body: message.body,
    })
}

/// Whether a letter is one of those selected.
fn is_meant(selection: &Selection, message: &Message) -> bool {
    let header = |name: &str| message.headers.get(name);
    let by_id = selection.id.is_none() || selection.id == message.id;
    let by_text = selection.matching.as_deref().is_none_or(|text| {
        let reason = header(header::REASON)
            .and_then(HeaderValue::as_text)
            .unwrap_or_default();
        contains(&message.body, text.as_bytes()) || message.routing_key.contains(text) || reason.contains(text)
    });
    let died = header(header::DEAD_AT).and_then(HeaderValue::as_int);
    let since = selection
        .since
        .is_none_or(|since| died.is_some_and(|died| died >= since));
    let until = selection
        .until
        .is_none_or(|until| died.is_some_and(|died| died < until));
    by_id && by_text && since && until
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::is_meant;
    use crate::queue::message::header;
    use crate::queue::{Message, Selection};

    #[test]
    fn a_letter_is_selected_by_every_condition() {
        let letter = Message {
            id: Some("1".to_owned()),
            ..Message::new("a banana")
        }
        .with_routing_key("fruit.yellow")
        .with_header(header::REASON, "exit code 65")
        .with_header(header::DEAD_AT, 1000);
        let by_text = |text: &str| Selection {
            matching: Some(text.to_owned()),
            ..Selection::default()
        };
        let by_time = |since, until| Selection {
            since,
            until,
            ..Selection::default()
        };
        let by_id = |id: &str| Selection {
            id: Some(id.to_owned()),
            ..by_text("nan")
        };
        for (selection, expected) in [
            (Selection::default(), true),
            (by_text("nan"), true),
            (by_text("yellow"), true),
            (by_text("code 65"), true),
            (by_text("cherry"), false),
            (by_text(""), true),
            (by_time(Some(1000), Some(1001)), true),
            (by_time(Some(1001), None), false),
            (by_time(None, Some(1000)), false),
            (by_id("1"), true),
            (by_id("2"), false),
        ] {
            assert_eq!(is_meant(&selection, &letter), expected, "{selection:?}");
        }
        assert!(
            !is_meant(&by_time(Some(0), None), &Message::new("x")),
            "nobody knows when it died"
        );
    }
}
