//! How many bytes the properties of a message take on the wire. All of them, headers too, stand in one frame.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::properties::is_needed;
use crate::queue::message::header;

/// Around the payload of a frame: type, channel, length and the octet at its end.
const AROUND: usize = 8;
/// In front of the properties: class, weight, length of the body, flags.
const BEFORE: usize = 14;

/// The length of the frame that carries these properties.
pub(super) fn of_frame(properties: &BasicProperties) -> usize {
    let shorts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    let shorts: usize = shorts.into_iter().flatten().map(of_short).sum();
    AROUND
        + BEFORE
        + shorts
        + properties.headers().as_ref().map_or(0, of_table)
        + properties.delivery_mode().map_or(0, |_| 1)
        + properties.priority().map_or(0, |_| 1)
        + properties.timestamp().map_or(0, |_| 8)
}

/// What a broker may add to the headers of a message that it dead-letters, and then hands out whether it fits into a frame or not:
/// an entry of `x-death`, and where it first died.
const ADDED: usize = 2048;
/// No header that a copy needs is longer; a longer one is somebody else's.
const LONGEST_NEEDED: usize = 1024;

/// The same properties without as many headers as it takes to fit into a frame of `most` bytes, whatever the broker adds to
/// them, and what was left out: the last lines of a child's errors, then the largest that the copy does not need.
pub(super) fn fitted(mut properties: BasicProperties, most: usize) -> (BasicProperties, Vec<String>) {
    let most = most.saturating_sub(ADDED).max(most / 2);
    let mut left_out = Vec::new();
    while of_frame(&properties) > most {
        let headers = properties.headers().clone().unwrap_or_default();
        let needed = |name: &str, value: &AMQPValue| is_needed(name) && of_value(value) <= LONGEST_NEEDED;
        let others = headers
            .inner()
            .iter()
            .filter(|(name, value)| !needed(name.as_str(), value));
        let largest = || {
            others
                .max_by_key(|(_, value)| of_value(value))
                .map(|(name, _)| name.as_str())
        };
        let Some(least_needed) = Some(header::STDERR)
            .filter(|name| headers.contains_key(name))
            .or_else(largest)
        else {
            break;
        };
        let mut fewer = FieldTable::default();
        for (name, value) in headers.inner().iter().filter(|(name, _)| name.as_str() != least_needed) {
            fewer.insert(name.clone(), value.clone());
        }
        left_out.push(least_needed.to_owned());
        properties = properties.with_headers(fewer);
    }
    (properties, left_out)
}

fn of_short(text: &ShortString) -> usize {
    1 + text.as_str().len()
}

fn of_table(table: &FieldTable) -> usize {
    let entries = table.inner().iter();
    4 + entries
        .map(|(name, value)| of_short(name) + of_value(value))
        .sum::<usize>()
}

/// With the octet that says its type.
fn of_value(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => of_short(text),
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::FieldArray(list) => 4 + list.as_slice().iter().map(of_value).sum::<usize>(),
        AMQPValue::FieldTable(table) => of_table(table),
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable};

    use super::{ADDED, fitted, of_frame};

    #[test]
    fn what_is_least_needed_is_left_out_first() {
        let mut headers = FieldTable::default();
        for (name, length) in [
            ("x-qctl-stderr", 50),
            ("big", 500),
            ("small", 5),
            ("x-qctl-reason", 900),
            // No reason of qctl's is as long, nor is this a header of its own.
            ("x-qctl-zz", 700),
        ] {
            headers.insert(name.into(), AMQPValue::LongString("x".repeat(length).into()));
        }
        let whole = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m".into());
        let size = of_frame(&whole);
        for (most, expected) in [
            (size, &[][..]),
            (size - 1, &["x-qctl-stderr"]),
            (size - 100, &["x-qctl-stderr", "x-qctl-zz"]),
            (size - 1000, &["x-qctl-stderr", "x-qctl-zz", "big"]),
            (100, &["x-qctl-stderr", "x-qctl-zz", "big", "small"]),
        ] {
            let with_room = (2 * most).min(most + ADDED);
            let (fit, left_out) = fitted(whole.clone(), with_room);
            assert_eq!(left_out, expected);
            assert!(of_frame(&fit) <= most || most == 100);
            assert_eq!(fit.message_id(), whole.message_id());
        }
    }
}
