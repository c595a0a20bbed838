//! `info`: a queue's figures, ending with why nothing moves.

use serde::Serialize;
use serde_json::Value;

use super::Name;
use super::target::Target;
use crate::commands::Outcome;
use crate::context::Workplace;
use crate::error::Result;
use crate::output::{facts, human_bytes, human_seconds, human_time, known, table};
use crate::queue::{ConsumerInfo, QueueInfo, message};

#[derive(Serialize)]
struct Report {
    /// What the name given was: consumer, producer or queue.
    kind: &'static str,
    connection: String,
    driver: &'static str,
    #[serde(flatten)]
    info: QueueInfo,
    /// Why nothing moves; empty when messages can.
    why: Vec<String>,
}

/// Shows one queue.
pub(super) async fn run(place: &Workplace<'_>, given: Option<&str>, name: &Name) -> Result<Outcome> {
    let target = Target::open_to_look(place, given, &name.name).await?;
    let info = target.connection.info(&target.queue).await?;
    let why = why_nothing_moves(&info);
    let report = Report {
        kind: target.kind,
        connection: target.connection_name.clone(),
        driver: target.connection.driver(),
        info,
        why,
    };
    place.context.output.report(&report, text)?;
    Ok(Outcome::DONE)
}

fn text(report: &Report) -> String {
    let info = &report.info;
    let mut rows = vec![
        ("queue".to_owned(), info.name.clone()),
        (
            "connection".to_owned(),
            format!("{} ({})", report.connection, report.driver),
        ),
        ("ready".to_owned(), info.ready.to_string()),
        ("delayed".to_owned(), known(info.delayed)),
        ("in flight".to_owned(), known(info.held)),
        ("dead".to_owned(), known(info.dead)),
        ("consumers".to_owned(), known(info.consumers)),
        ("oldest".to_owned(), known(info.oldest_seconds.map(human_seconds))),
        ("bytes".to_owned(), known(info.bytes.map(human_bytes))),
        ("next due".to_owned(), known(info.next_due.map(human_time))),
        ("paused".to_owned(), if info.paused { "yes" } else { "no" }.to_owned()),
        ("dead letters to".to_owned(), known(info.dead_letter.as_ref())),
    ];
    rows.extend(info.properties.iter().map(|(name, value)| property(name, value)));
    rows.extend((!info.arguments.is_empty()).then(|| ("arguments".to_owned(), arguments(&info.arguments))));
    rows.extend(info.bindings.iter().map(|binding| {
        let compared = arguments(&message::to_json(&binding.arguments));
        let place = format!("{} {} {compared}", binding.exchange, binding.routing_key);
        let place = place.trim_end().to_owned();
        ("binding".to_owned(), place)
    }));
    let counters = info.counters.iter();
    rows.extend(counters.map(|(name, count)| (name.replace('_', " "), count.to_string())));
    let mut text = facts(rows);
    if !info.consumer_list.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(
            &["pid", "host", "label", "since", "holds", "for"],
            info.consumer_list.iter().map(|consumer| {
                vec![
                    known(consumer.pid),
                    known(consumer.host.as_ref()),
                    known(consumer.label.as_ref()),
                    known(consumer.since.map(human_time)),
                    consumer.held.to_string(),
                    known(consumer.held_seconds.map(human_seconds)),
                ]
            }),
        ));
    }
    for reason in &report.why {
        text.push_str("\n\n");
        text.push_str(&crate::output::one_line(reason));
    }
    text
}

/// The broker's own arguments, as `-a` takes them.
fn arguments<'a>(arguments: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let told = arguments.into_iter().map(|(name, value)| {
        format!(
            "{name}={}",
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        )
    });
    told.collect::<Vec<_>>().join(" ")
}

/// A limit by its name, with its unit.
fn property(name: &str, value: &Value) -> (String, String) {
    let told = name.replace('_', " ");
    if let (Some(name), Some(seconds)) = (told.strip_suffix(" seconds"), value.as_f64()) {
        (name.to_owned(), human_seconds(seconds))
    } else if let (true, Some(bytes)) = (told.ends_with(" bytes"), value.as_u64()) {
        (told, human_bytes(bytes))
    } else {
        (told, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

/// Sentences that say what stands between the messages and their handling; none where messages can move.
fn why_nothing_moves(info: &QueueInfo) -> Vec<String> {
    let mut why = info.blocked_by.clone();
    let (delayed, held) = (info.delayed.unwrap_or(0), info.held.unwrap_or(0));
    if info.paused {
        why.push(format!(
            "paused: nothing is handed out until `qctl managequeue resume {}`",
            info.name
        ));
    }
    if info.ready > 0 && info.consumers == Some(0) && !info.paused {
        why.push(format!("no consumer: {} ready messages wait for one", info.ready));
    }
    if info.ready == 0
        && delayed > 0
        && let Some(due) = info.next_due
    {
        why.push(format!("delayed: the next of {delayed} is due at {}", human_time(due)));
    }
    if held > 0 {
        why.extend(
            info.consumer_list
                .iter()
                .filter(|consumer| consumer.held > 0)
                .map(holder),
        );
    }
    if info.ready == 0 && delayed == 0 && held == 0 {
        let unseen = if info.delayed.is_none() {
            "; delayed ones cannot be counted"
        } else {
            ""
        };
        why.push(format!("empty: no message is waiting{unseen}"));
    }
    why
}

fn holder(consumer: &ConsumerInfo) -> String {
    let mut words = vec![format!("held: {} by", consumer.held)];
    words.extend(consumer.pid.map(|pid| format!("pid {pid}")));
    words.extend(consumer.host.as_ref().map(|host| format!("on {host}")));
    words.extend(consumer.label.as_ref().map(|label| format!("({label})")));
    words.extend(
        consumer
            .since
            .map(|since| format!("connected since {},", human_time(since))),
    );
    words.extend(
        consumer
            .held_seconds
            .map(|seconds| format!("for {}", human_seconds(seconds))),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named() {
        let quiet = QueueInfo {
            name: "mail".to_owned(),
            consumers: Some(1),
            delayed: Some(0),
            ..QueueInfo::default()
        };
        let why = |info: QueueInfo| why_nothing_moves(&info).join("\n");
        assert_eq!(why(quiet.clone()), "empty: no message is waiting");
        assert_eq!(
            why(QueueInfo {
                ready: 2,
                ..quiet.clone()
            }),
            ""
        );
        assert!(
            why(QueueInfo {
                ready: 2,
                consumers: Some(0),
                ..quiet.clone()
            })
            .contains("no consumer: 2 ready")
        );
        assert!(
            why(QueueInfo {
                ready: 2,
                paused: true,
                ..quiet.clone()
            })
            .contains("resume mail")
        );
        let delayed = QueueInfo {
            delayed: Some(3),
            next_due: Some(1_769_860_800_000),
            ..quiet.clone()
        };
        assert!(why(delayed).contains("the next of 3 is due at 2026-01-31"));
        let holder = ConsumerInfo {
            pid: Some(7),
            host: Some("web1".to_owned()),
            label: Some("mail".to_owned()),
            held: 2,
            held_seconds: Some(61.0),
            ..ConsumerInfo::default()
        };
        let held = QueueInfo {
            held: Some(2),
            consumer_list: vec![holder],
            ..quiet.clone()
        };
        assert_eq!(why(held), "held: 2 by pid 7 on web1 (mail) for 1m 1s");
        let blocked = QueueInfo {
            blocked_by: vec!["the disk is full".to_owned()],
            ready: 1,
            ..quiet
        };
        assert_eq!(why(blocked), "the disk is full");
    }
}
