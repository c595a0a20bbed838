//! The verbs that change a queue. Those that destroy ask first.

use serde_json::json;

use super::target::Target;
use super::{DeleteArgs, MessageArgs, Name, PurgeArgs, RedriveArgs};
use crate::commands::{Outcome, confirm};
use crate::context::Workplace;
use crate::error::{Error, ErrorKind, Result};
use crate::output::one_line;
use crate::queue::{Delete, Peek, PeekState, Purge, Redrive, Selection};

/// `pause` and `resume`.
pub(super) async fn set_paused(
    place: &Workplace<'_>,
    given: Option<&str>,
    name: &Name,
    paused: bool,
) -> Result<Outcome> {
    let target = Target::open(place, given, &name.name).await?;
    target.connection.set_paused(&target.queue, paused).await?;
    place
        .context
        .output
        .report(&json!({ "queue": target.queue, "paused": paused }), |_| {
            format!("{} queue {}", if paused { "paused" } else { "resumed" }, target.queue)
        })?;
    Ok(Outcome::DONE)
}

/// `purge`.
pub(super) async fn purge(place: &Workplace<'_>, given: Option<&str>, args: &PurgeArgs) -> Result<Outcome> {
    let target = Target::open(place, given, &args.name.name).await?;
    let dead = if args.dead {
        target.dead_queue().await?.filter(|dead| *dead != target.queue)
    } else {
        None
    };
    let purge = Purge { dry_run: args.dry_run };
    if !args.dry_run {
        let count = target.connection.purge(&target.queue, Purge { dry_run: true }).await?;
        let widened = dead
            .as_ref()
            .map(|dead| format!(" and all of {dead}"))
            .unwrap_or_default();
        let question = format!(
            "Remove all ready and delayed messages of queue {} ({count} now){widened}?",
            target.queue
        );
        if !confirm(place.context, question).await? {
            return Ok(refused(place));
        }
    }
    let removed = target.connection.purge(&target.queue, purge).await?;
    let removed_dead = match &dead {
        Some(dead) => match target.connection.purge(dead, purge).await {
            Ok(count) => Some(count),
            // No message was ever given up, so the queue for them may not be there.
            Err(error) if error.kind() == ErrorKind::NotFound => Some(0),
            Err(error) => return Err(error),
        },
        None => None,
    };
    let report =
        json!({ "queue": target.queue, "removed": removed, "removed_dead": removed_dead, "dry_run": args.dry_run });
    place.context.output.report(&report, |_| {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        let mut lines = vec![format!("{verb} {removed} message(s) from queue {}", target.queue)];
        match (removed_dead, &dead) {
            (Some(count), Some(dead)) => lines.push(format!("{verb} {count} message(s) from queue {dead}")),
            _ if args.dead => lines.push(format!("queue {} has no dead-letter queue of its own", target.queue)),
            _ => {}
        }
        lines.join("\n")
    })?;
    Ok(Outcome::DONE)
}

/// `delete`.
pub(super) async fn delete(place: &Workplace<'_>, given: Option<&str>, args: &DeleteArgs) -> Result<Outcome> {
    let target = Target::open_as_it_is(place, given, &args.name.name).await?;
    let queue = &target.queue;
    // A broker that does not count as it goes tells nothing of what consumers hold.
    let held_is_counted = target.connection.capabilities().counters;
    if args.dry_run {
        let info = target.connection.info(queue).await?;
        let waiting = info.ready + info.delayed.unwrap_or(0);
        let held = info.held.unwrap_or(0);
        let report = json!({ "queue": queue, "messages": waiting, "held": held, "dry_run": true });
        place.context.output.report(&report, |_| {
            let consumers = info.consumers.unwrap_or(0);
            if consumers > 0 && !held_is_counted {
                format!(
                    "would delete queue {queue} with {waiting} message(s){}",
                    held_by(consumers)
                )
            } else {
                format!("would delete queue {queue} with {waiting} message(s), {held} more are held")
            }
        })?;
        return Ok(Outcome::DONE);
    }
    if !confirm(place.context, format!("Delete queue {queue} and all its messages?")).await? {
        return Ok(refused(place));
    }
    let delete = Delete {
        force: args.force,
        if_empty: args.if_empty,
        if_unused: args.if_unused,
    };
    let consumers = if args.force && !held_is_counted {
        target.connection.info(queue).await?.consumers.unwrap_or(0)
    } else {
        0
    };
    let gone = target.connection.delete(queue, delete).await?;
    let held = held_by(consumers);
    place
        .context
        .output
        .report(&json!({ "queue": queue, "messages": gone, "dry_run": false }), |_| {
            format!("deleted queue {queue}; {gone} message(s) went with it{held}")
        })?;
    Ok(Outcome::DONE)
}

fn held_by(consumers: u64) -> String {
    match consumers {
        0 => String::new(),
        count => format!(", and what {count} consumer(s) held of it"),
    }
}

/// `drop`.
pub(super) async fn drop_message(place: &Workplace<'_>, given: Option<&str>, args: &MessageArgs) -> Result<Outcome> {
    let target = Target::open(place, given, &args.name.name).await?;
    let (id, queue) = (&args.id, &target.queue);
    let gone = if args.dry_run {
        is_in(&target, id, &[PeekState::Ready, PeekState::Delayed]).await?
    } else {
        if !confirm(place.context, format!("Remove message {id} from queue {queue}?")).await? {
            return Ok(refused(place));
        }
        target.connection.drop_message(queue, id).await?
    };
    if !gone {
        return Err(not_dropped(&target, id).await);
    }
    say_one(place, args, &target, "dropped", "drop")
}

/// Whether a message is in one of these states: what a dry run tells.
async fn is_in(target: &Target, id: &str, states: &[PeekState]) -> Result<bool> {
    let look = Peek {
        id: Some(id.to_owned()),
        limit: 10,
        ..Peek::default()
    };
    let found = target.connection.peek(&target.queue, &look).await?;
    Ok(found.iter().any(|peeked| states.contains(&peeked.state)))
}

/// Why a message could not be dropped.
async fn not_dropped(target: &Target, id: &str) -> Error {
    let held = Peek {
        state: Some(PeekState::Held),
        id: Some(id.to_owned()),
        limit: 1,
        ..Peek::default()
    };
    let queue = &target.queue;
    match target.connection.peek(queue, &held).await {
        Ok(found) if !found.is_empty() => Error::temporary(format!(
            "message {} of queue {queue} is held by a consumer; stop that first, `qctl managequeue info` names it",
            one_line(id)
        )),
        _ => no_such_message(id, queue, "; `qctl managequeue peek` shows what there is"),
    }
}

/// `release`.
pub(super) async fn release(place: &Workplace<'_>, given: Option<&str>, args: &MessageArgs) -> Result<Outcome> {
    let target = Target::open(place, given, &args.name.name).await?;
    let (id, queue) = (&args.id, &target.queue);
    let released = if args.dry_run {
        is_in(&target, id, &[PeekState::Delayed]).await?
    } else {
        target.connection.release_message(queue, id).await?
    };
    if !released {
        return Err(no_such_message(
            id,
            queue,
            " that is delayed; `qctl managequeue peek --state delayed` shows what there is",
        ));
    }
    say_one(place, args, &target, "released", "release")
}

/// `redrive`.
pub(super) async fn redrive(place: &Workplace<'_>, given: Option<&str>, args: &RedriveArgs) -> Result<Outcome> {
    let target = Target::open(place, given, &args.name.name).await?;
    // A dead-letter queue stands for the queue it serves; where it serves several, each letter goes back to its own.
    let back_to = match target.source().await? {
        Some(source) => Some(source),
        None if target.is_for_dead_letters().await? => None,
        None => Some(target.queue.clone()),
    };
    let Some(dead) = target.dead_queue().await? else {
        return Err(Error::not_found(format!(
            "queue {} has no dead-letter queue, so there is nothing to move back; what is rejected there is dropped",
            target.queue
        )));
    };
    if (args.dry_run || args.selects())
        && !super::peek::agree_on_price(place, &target, &dead, "Look for them all the same?").await?
    {
        return Ok(refused(place));
    }
    let redrive = Redrive {
        from: Some(dead.clone()),
        selection: Selection {
            id: args.id.clone(),
            matching: args.matching.clone(),
            since: args.since,
            until: args.until,
            limit: args.limit.filter(|limit| *limit > 0),
        },
        rate: args.rate.filter(|rate| *rate > 0),
        dry_run: args.dry_run,
        within: None,
        at_any_price: true,
    };
    let named = back_to.as_ref().unwrap_or(&target.queue);
    let report = target.connection.redrive(named, &redrive).await?;
    if let Some(id) = &args.id
        && report.moved == 0
    {
        return Err(no_such_message(
            id,
            &dead,
            "; `qctl managequeue peek --state dead` shows what there is",
        ));
    }
    let document = json!({
        "queue": back_to,
        "from": dead,
        "moved": report.moved,
        "left": report.left,
        "dry_run": args.dry_run,
    });
    place.context.output.report(&document, |_| {
        let verb = if args.dry_run { "would move" } else { "moved" };
        let place = match &back_to {
            Some(queue) => format!("to queue {queue}"),
            None => "to the queues they came from".to_owned(),
        };
        format!(
            "{verb} {} dead letter(s) of {dead} back {place}, {} left",
            report.moved, report.left
        )
    })?;
    Ok(Outcome::DONE)
}

fn say_one(place: &Workplace<'_>, args: &MessageArgs, target: &Target, done: &str, verb: &str) -> Result<Outcome> {
    let report = json!({ "queue": target.queue, "id": args.id, "dry_run": args.dry_run });
    place.context.output.report(&report, |_| {
        let told = if args.dry_run {
            format!("would {verb}")
        } else {
            done.to_owned()
        };
        format!("{told} message {} of queue {}", args.id, target.queue)
    })?;
    Ok(Outcome::DONE)
}

fn no_such_message(id: &str, queue: &str, further: &str) -> Error {
    Error::not_found(format!("no message {} in queue {queue}{further}", one_line(id)))
}

/// Nothing was agreed to.
pub(super) fn refused(place: &Workplace<'_>) -> Outcome {
    place.context.output.note("nothing was changed");
    Outcome(1)
}
