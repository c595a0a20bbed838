//! Properties and headers that foreign clients send.

use serde_json::json;

use crate::ground::Ground;
use crate::support::wait_for;

const EXEC: &str = "
consumers:
  jobs: { queue: jobs, handler: { exec: { run: ['./run.sh'] } }, retry: { attempts: 2, min: 100ms, max: 100ms } }
";

fn ground(script: &str) -> Ground {
    let ground = Ground::new(EXEC);
    ground.place.script("run.sh", script);
    ground.declare("jobs");
    ground
}

/// One header of every type that pika sends by itself, and of every other one that RabbitMQ knows.
const HEADERS: &str = r"
import struct, pika.data

class Raw(bytes):
    pass

encode_value = pika.data.encode_value
def encode_raw(pieces, value):
    if not isinstance(value, Raw):
        return encode_value(pieces, value)
    pieces.append(bytes(value))
    return len(value)
pika.data.encode_value = encode_raw

headers = {
    'text': 'h\u00e9', 'empty': '', 'true': True, 'small': 7, 'negative': -3, 'int': 70000, 'long': 1 << 40,
    'decimal': decimal.Decimal('1.25'), 'time': datetime.datetime(2026, 1, 2, 3, 4, 5), 'bytes': b'\x00\xff',
    'none': None, 'list': ['a', 1, [True]], 'table': {'inner': {'deep': 'x'}, 'n': 1},
    'int8': Raw(b'b\xff'), 'uint8': Raw(b'B\xff'), 'int16': Raw(struct.pack('>ch', b's', -2)),
    'uint16': Raw(struct.pack('>cH', b'u', 65535)), 'uint32': Raw(struct.pack('>cI', b'i', 1 << 31)),
    'int64': Raw(struct.pack('>cq', b'L', 1 << 41)), 'float': Raw(struct.pack('>cf', b'f', 2.5)),
    'double': Raw(struct.pack('>cd', b'd', -0.125)),
}
";

#[test]
fn headers_of_every_type_arrive() {
    let ground = ground(r#"printf '%s' "$QCTL_MESSAGE" > message"#);
    ground.pika(
        &format!("{HEADERS}channel.basic_publish('', 'jobs', b'', pika.BasicProperties(headers=headers))"),
        &json!(null),
    );
    ground.drain("jobs");
    let message: serde_json::Value = serde_json::from_str(&ground.place.read("message")).unwrap();
    assert_eq!(
        message["headers"],
        json!({
            "text": "hé", "empty": "", "true": true, "small": 7, "negative": -3, "int": 70000, "long": 1_i64 << 40,
            "decimal": 1.25, "time": 1_767_323_045, "bytes": "\0\u{fffd}", "none": null,
            "list": ["a", 1, [true]], "table": {"inner": {"deep": "x"}, "n": 1},
            "int8": -1, "uint8": 255, "int16": -2, "uint16": 65535, "uint32": 1_u64 << 31, "int64": 1_i64 << 41,
            "float": 2.5, "double": -0.125,
        })
    );
}

/// A retry and a dead letter are copies: what they do not change is the sender's, type and all.
#[test]
fn a_dead_letter_has_the_properties_of_its_message() {
    let ground = ground("echo no >&2; exit 1");
    let script = format!(
        r"{HEADERS}
channel.basic_publish('', 'jobs', b'\x00body', pika.BasicProperties(
    content_type='text/x', content_encoding='identity', headers=headers, delivery_mode=1, priority=3,
    correlation_id='c', message_id='m', timestamp=1700000000, type='t', app_id='a'))"
    );
    ground.pika(&script, &json!(null));
    let mut consumer = ground.consumer("jobs", "jobs");
    wait_for("the dead letter", || ground.vhost.counts("jobs.dead").ready == 1);
    consumer.signal(rustix::process::Signal::TERM);
    assert_eq!(consumer.wait(), Some(0));
    let different = ground.pika(
        &format!(
            r"{HEADERS}
method, properties, body = channel.basic_get('jobs.dead', auto_ack=True)
expected = dict(content_type='text/x', content_encoding='identity', delivery_mode=2, priority=3, correlation_id='c',
                message_id='m', timestamp=1700000000, type='t', app_id='a', reply_to=None, user_id=None, expiration=None)
different = [[name, repr(getattr(properties, name)), repr(value)] for name, value in expected.items()
             if getattr(properties, name) != value]
def wire(value):
    pieces = []
    pika.data.encode_value(pieces, value)
    return pika.data.decode_value(b''.join(pieces), 0)[0]
different += [[name, repr(properties.headers.get(name)), repr(value)] for name, value in headers.items()
              if properties.headers.get(name) != wire(value)]
answer([body == b'\x00body', different, sorted(set(properties.headers) - set(headers))])"
        ),
        &json!(null),
    );
    assert_eq!(different[0], true);
    assert_eq!(different[1], json!([]));
    assert_eq!(
        different[2],
        json!([
            "x-qctl-attempt",
            "x-qctl-dead-at",
            "x-qctl-dead-queue",
            "x-qctl-exit-code",
            "x-qctl-reason",
            "x-qctl-routing-key",
            "x-qctl-stderr"
        ])
    );
}

/// AMQP says that short strings are UTF-8, and brokers pass on whatever it is. Such a message must be handled like any other,
/// or it would end every consumer of its queue, again and again.
#[test]
fn properties_that_are_not_utf8_end_no_consumer() {
    let ground = ground(r#"echo "$QCTL_CONTENT_TYPE|$QCTL_MESSAGE_ID|$(cat)" >> ran"#);
    ground.pika(
        r"
bad = b'caf\xe9'
ways = [dict(content_type=bad), dict(content_encoding=bad), dict(correlation_id=bad), dict(message_id=bad), dict(type=bad),
        dict(app_id=bad), dict(reply_to=bad), dict(headers={'text': bad}), dict(headers={'table': {'list': [bad]}})]
for number, way in enumerate(ways):
    channel.basic_publish('', 'jobs', b'%d' % number, pika.BasicProperties(**way))
# pika encodes the names of headers by itself, as UTF-8: these go as Latin-1.
import pika.data
pika.data.encode_short_string = lambda pieces, value: (pieces.append(bytes([len(value)]) + value.encode('latin-1')),
                                                        len(value) + 1)[1]
channel.basic_publish('', 'jobs', b'name', pika.BasicProperties(headers={'caf\u00e9': 1}))
channel.basic_publish('', 'jobs', b'last', pika.BasicProperties(content_type='text/plain', message_id='m'))
",
        &json!(null),
    );
    let log = ground.drain("jobs");
    let ran = ground.place.read("ran");
    let bodies: Vec<&str> = ran.lines().filter_map(|line| line.rsplit('|').next()).collect();
    assert_eq!(
        bodies,
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "name", "last"],
        "{log}"
    );
    assert!(ran.starts_with("caf?||0\n"), "{ran}");
    assert!(ran.contains("|caf?|3\n"), "{ran}");
    assert!(ran.ends_with("text/plain|m|last\n"), "{ran}");
    assert!(log.contains("not UTF-8"), "{log}");
}

/// Tables within tables, so deep that reading them by recursion would end the process.
#[test]
fn headers_nested_without_end_end_no_consumer() {
    let ground = ground("cat >> ran; echo >> ran");
    ground.pika(
        &format!(
            r"{HEADERS}
for kind, levels in [(b'A', 9000), (b'A', 100), (b'F', 9000)]:
    value = b'V'
    for level in range(levels):
        if kind == b'F':
            value = b'\x01k' + value
        value = kind + struct.pack('>I', len(value)) + value
    channel.basic_publish('', 'jobs', b'deep', pika.BasicProperties(headers={{'deep': Raw(value), 'flat': 1}}))
channel.basic_publish('', 'jobs', b'last', pika.BasicProperties())
"
        ),
        &json!(null),
    );
    let log = ground.drain("jobs");
    assert_eq!(ground.place.read("ran"), "deep\ndeep\ndeep\nlast\n", "{log}");
}
