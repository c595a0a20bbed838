//! The figures of queues. What is counted as ready and who consumes is asked of the queue itself and true now; what else there
//! is comes from the management API, where there is one, and is some seconds old.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connection::AmqpConnection;
use super::documents::{ChannelDocument, ConnectionDocument, ConsumerDocument, NodeDocument, QueueDocument, table};
use super::nature::{DeadLetterTarget, Kind, Nature};
use super::pause;
use super::properties::now;
use crate::error::{ErrorKind, Result};
use crate::queue::topology::usual_dead_letter;
use crate::queue::{Binding, ConsumerInfo, HeaderValue, Headers, QueueInfo};

/// Everything about one queue.
pub(super) async fn info(connection: &AmqpConnection, queue: &str) -> Result<QueueInfo> {
    let (ready, consumers) = connection.depth(queue).await?;
    let document = connection.management.queue(queue).await;
    let nature = match &document {
        Some(document) => Some(Nature::told(document, connection.management.version().await)),
        None => Nature::of(connection, queue).await?,
    };
    let known = Known {
        document: document.as_ref(),
        nature: nature.as_ref(),
        paused: pause::is_paused(&connection.link, queue).await?,
    };
    let mut info = figures(connection, queue, (ready, consumers), &known, |_| true).await?;
    let Some(document) = document else {
        return Ok(info);
    };
    let management = &connection.management;
    let (bindings, nodes) = tokio::join!(management.bindings(queue), management.nodes());
    info.bindings = bindings
        .unwrap_or_default()
        .into_iter()
        // Every queue is bound to the default exchange by its name.
        .filter(|binding| !binding.source.is_empty())
        .map(|binding| Binding {
            exchange: binding.source,
            routing_key: binding.routing_key,
            arguments: told_arguments(&binding.arguments),
        })
        .collect();
    info.blocked_by.extend(nodes.iter().flatten().filter_map(alarm));
    if !document.consumer_details.is_empty() {
        let (connections, channels) = tokio::join!(management.connections(), management.channels());
        info.consumer_list = consumers_of(
            &document.consumer_details,
            &connections.unwrap_or_default(),
            &channels.unwrap_or_default(),
        );
    }
    Ok(info)
}

fn told_arguments(arguments: &Value) -> Headers {
    let told = table(arguments).into_iter();
    told.map(|(name, value)| {
        let value = HeaderValue::of_scalar(&value).unwrap_or_else(|| HeaderValue::Text(value.to_string()));
        (name, value)
    })
    .collect()
}

/// The figures of several queues: those that a list shows.
pub(super) async fn several(connection: &AmqpConnection, queues: &[String]) -> Result<Vec<QueueInfo>> {
    let documents: BTreeMap<String, QueueDocument> = connection
        .management
        .queues()
        .await
        .unwrap_or_default()
        .into_iter()
        .map(|document| (document.name.clone(), document))
        .collect();
    let version = connection.management.version().await;
    let mut found = Vec::with_capacity(queues.len());
    for queue in queues {
        let depth = match connection.depth(queue).await {
            Ok(depth) => depth,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let document = documents.get(queue);
        let nature = document.map(|document| Nature::told(document, version));
        let known = Known {
            document,
            nature: nature.as_ref(),
            paused: if documents.is_empty() {
                pause::is_paused(&connection.link, queue).await?
            } else {
                documents.contains_key(&pause::mark(queue))
            },
        };
        let there = |name: &str| documents.is_empty() || documents.contains_key(name);
        found.push(figures(connection, queue, depth, &known, there).await?);
    }
    Ok(found)
}

/// What is known of a queue besides its depth.
struct Known<'a> {
    document: Option<&'a QueueDocument>,
    nature: Option<&'a Nature>,
    paused: bool,
}

/// `may_be_there` spares the broker questions after queues that are not there: it logs each.
async fn figures(
    connection: &AmqpConnection,
    queue: &str,
    (ready, consumers): (u32, u32),
    known: &Known<'_>,
    may_be_there: impl Fn(&str) -> bool,
) -> Result<QueueInfo> {
    let Known {
        document,
        nature,
        paused,
    } = *known;
    let target = nature.map_or(DeadLetterTarget::Nowhere, Nature::dead_letter);
    let wanted = match (connection.known(queue), &target) {
        (Some(known), _) => known.dead_letter,
        (None, DeadLetterTarget::Queue(name)) => Some(name.clone()),
        (None, _) => None,
    };
    let certain = wanted.is_some() || connection.known(queue).is_some();
    // Where nothing is said, qctl's consumers put what they give up where they usually do.
    let dead_letter = wanted.or_else(|| usual_dead_letter(queue).filter(|_| !certain));
    let dead = match &dead_letter {
        Some(dead) if may_be_there(dead) => match connection.depth(dead).await {
            Ok((ready, _)) => Some(u64::from(ready)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        },
        _ => None,
    };
    let mut blocked_by: Vec<String> = nature.and_then(lost_when_given_up).into_iter().collect();
    if let (DeadLetterTarget::Queue(name), None) = (&target, dead)
        && dead_letter.as_ref() == Some(name)
    {
        blocked_by.push(format!(
            "its dead letters go to queue `{name}`, which is not there, so they are lost; `qctl managequeue declare {name}` makes it"
        ));
    }
    if let Some(document) = document
        && let Some(state) = document.state.as_deref()
        && matches!(state, "down" | "crashed" | "stopped" | "minority")
    {
        blocked_by.push(format!(
            "the queue is {state}: its node or most of its replicas are down"
        ));
    }
    let oldest = document
        .and_then(|document| document.head_message_timestamp)
        .filter(|_| ready > 0)
        .map(|seconds| (now() as f64 / 1000.0 - seconds as f64).max(0.0));
    Ok(QueueInfo {
        name: queue.to_owned(),
        ready: ready.into(),
        held: document.and_then(|document| document.messages_unacknowledged),
        dead,
        consumers: Some(consumers.into()),
        oldest_seconds: oldest,
        bytes: document.and_then(|document| document.message_bytes_ready),
        paused,
        dead_letter: dead_letter.filter(|_| certain || dead.is_some()),
        properties: nature.map(properties).unwrap_or_default(),
        arguments: nature
            .map(|nature| nature.arguments.clone().into_iter().collect())
            .unwrap_or_default(),
        blocked_by,
        ..QueueInfo::default()
    })
}

/// A queue that loses what it gives up.
fn lost_when_given_up(nature: &Nature) -> Option<String> {
    let limit = nature.delivery_limit()?;
    (nature.dead_letter() == DeadLetterTarget::Nowhere).then(|| {
        format!(
            "delivery limit {limit} and no dead-letter target: a message that is handed out again more often is lost; set \
             dead-letter-exchange by a policy, or declare the queue anew with `dead_letter`"
        )
    })
}

fn properties(nature: &Nature) -> BTreeMap<String, Value> {
    let seconds = |argument: &str| nature.limit(argument).map(|ms| Value::from(ms as f64 / 1000.0));
    let number = |argument: &str| nature.limit(argument).map(Value::from);
    let on = |is: bool| is.then_some(Value::Bool(true));
    let of_quorum = || nature.delivery_limit().map(Value::from);
    [
        ("type", Some(Value::from(nature.kind.to_string()))),
        ("durable", Some(Value::from(nature.durable))),
        ("auto_delete", on(nature.auto_delete)),
        ("exclusive", on(nature.exclusive)),
        (
            "max_priority",
            number("x-max-priority").filter(|_| nature.kind == Kind::Classic),
        ),
        ("ttl_seconds", seconds("x-message-ttl")),
        ("expires_seconds", seconds("x-expires")),
        ("max_length", number("x-max-length")),
        ("max_bytes", number("x-max-length-bytes")),
        ("overflow", nature.choice("x-overflow").map(Value::from)),
        ("delivery_limit", of_quorum()),
        ("policy", nature.policy.clone().map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn alarm(node: &NodeDocument) -> Option<String> {
    let short_of = match (node.mem_alarm, node.disk_free_alarm) {
        (false, false) => return None,
        (true, false) => "memory",
        (false, true) => "disk space",
        (true, true) => "memory and disk space",
    };
    Some(format!(
        "node {} is short of {short_of}, so the broker takes no messages until there is more",
        node.name
    ))
}

/// One entry a channel: a consumer of ours may have two consumers in the broker's sense while it takes work ahead.
fn consumers_of(
    details: &[ConsumerDocument],
    connections: &[ConnectionDocument],
    channels: &[ChannelDocument],
) -> Vec<ConsumerInfo> {
    let mut by_channel: BTreeMap<&str, ConsumerInfo> = BTreeMap::new();
    for consumer in details {
        let text = |key: &str| consumer.channel_details[key].as_str();
        let channel = text("name").unwrap_or(&consumer.consumer_tag);
        let connection = text("connection_name").and_then(|name| connections.iter().find(|known| known.name == name));
        let name = connection.and_then(|connection| connection.user_provided_name.as_deref());
        let (label, host, pid) = match name.and_then(label_of) {
            Some((label, host, pid)) => (Some(label), Some(host), Some(pid)),
            None => (
                Some(name.unwrap_or(&consumer.consumer_tag).to_owned()),
                text("peer_host").map(str::to_owned),
                None,
            ),
        };
        let held = channels.iter().find(|known| known.name == channel);
        by_channel.entry(channel).or_insert_with(|| ConsumerInfo {
            pid,
            host,
            label,
            since: connection.and_then(|connection| connection.connected_at),
            held: held.map_or(0, |channel| channel.messages_unacknowledged),
            held_seconds: None,
        });
    }
    by_channel.into_values().collect()
}

/// Reads the name that a connection of ours has: `LABEL (HOST:PID)`.
fn label_of(name: &str) -> Option<(String, String, u32)> {
    let (label, rest) = name.strip_suffix(')')?.rsplit_once(" (")?;
    let (host, pid) = rest.rsplit_once(':')?;
    Some((label.to_owned(), host.to_owned(), pid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ChannelDocument, ConnectionDocument, ConsumerDocument, consumers_of, label_of};

    #[test]
    fn our_connections_say_whose_they_are() {
        let expected = ("night (2) shift".to_owned(), "web1".to_owned(), 7);
        assert_eq!(label_of("night (2) shift (web1:7)"), Some(expected));
        for foreign in ["", "php (web1)", "app (x:y)", "127.0.0.1:5 -> 127.0.0.1:6"] {
            assert_eq!(label_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn consumers_on_one_channel_are_one() {
        let consumer = |tag: &str, channel: &str| ConsumerDocument {
            consumer_tag: tag.to_owned(),
            channel_details: json!({ "name": channel, "connection_name": "c", "peer_host": "10.0.0.1" }),
        };
        let gone = ConsumerDocument {
            consumer_tag: "gone".to_owned(),
            channel_details: json!([]),
        };
        let details = [
            consumer("a", "c (1)"),
            consumer("b", "c (1)"),
            consumer("d", "c (2)"),
            gone,
        ];
        let connections = [ConnectionDocument {
            name: "c".to_owned(),
            user_provided_name: Some("mail (web1:7)".to_owned()),
            connected_at: Some(5),
        }];
        let channels = [ChannelDocument {
            name: "c (1)".to_owned(),
            messages_unacknowledged: 3,
        }];
        let told: Vec<_> = consumers_of(&details, &connections, &channels)
            .into_iter()
            .map(|consumer| (consumer.label.unwrap_or_default(), consumer.pid, consumer.held))
            .collect();
        assert_eq!(
            told,
            [
                ("mail".to_owned(), Some(7), 3),
                ("mail".to_owned(), Some(7), 0),
                ("gone".to_owned(), None, 0)
            ]
        );
    }
}
