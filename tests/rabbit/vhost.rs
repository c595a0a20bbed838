//! A virtual host and a user for one test, and what the test looks at or does behind the driver's back.

use std::fmt::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{Rabbit, segment};

/// A fresh virtual host and a user who may do everything in it and nothing elsewhere; both are removed on drop.
pub struct Vhost {
    rabbit: Rabbit,
    name: String,
    user: String,
    password: String,
}

/// How many messages and consumers a queue has at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub ready: u64,
    pub unacknowledged: u64,
    pub consumers: u64,
}

/// A message that the management API took from a queue.
#[derive(Debug)]
pub struct Fetched {
    pub body: Vec<u8>,
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    /// As AMQP names them; `headers` is one of them.
    pub properties: Value,
}

impl Vhost {
    pub(super) fn create(rabbit: &Rabbit) -> Self {
        // The test's name, for whoever looks at the broker's log.
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("test").replace("::", ".");
        let name = format!("{test}-{:016x}", fastrand::u64(..));
        let vhost = Self {
            rabbit: rabbit.clone(),
            user: name.clone(),
            password: format!("{:016x}", fastrand::u64(..)),
            name,
        };
        let management = rabbit.management();
        management.put(&format!("vhosts/{}", vhost.segment()), &json!({}));
        vhost.set_password(&vhost.password);
        vhost.permit(".*", ".*", ".*");
        vhost
    }

    pub fn rabbit(&self) -> &Rabbit {
        &self.rabbit
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password that the user was made with.
    pub fn password(&self) -> &str {
        &self.password
    }

    pub fn url(&self) -> String {
        self.url_at(self.rabbit.amqp())
    }

    /// The URL through a [`super::Proxy`] in front of the broker.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!(
            "amqp://{}:{}@{address}/{}",
            segment(&self.user),
            self.password,
            self.segment()
        )
    }

    /// By name, so that the broker's certificate is checked against one.
    pub fn tls_url(&self) -> String {
        format!(
            "amqps://{}:{}@localhost:{}/{}",
            segment(&self.user),
            self.password,
            self.rabbit.amqps().port(),
            self.segment()
        )
    }

    /// Everything that the management API tells of a queue; `None` where it is not there. What is counted in it is up to
    /// half a second old: [`Vhost::counts`] is not.
    pub fn queue(&self, queue: &str) -> Option<Value> {
        self.rabbit.management().find(&self.queue_path(queue))
    }

    /// The names of all queues.
    pub fn queues(&self) -> Vec<String> {
        let queues = self.rabbit.management().get(&format!("queues/{}", self.segment()));
        let names = queues.as_array().unwrap().iter();
        names.map(|queue| queue["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Asks the queue itself, so that it is true now; a quorum queue tells what was true at most half a second ago.
    pub fn counts(&self, queue: &str) -> Counts {
        let answer = self.rabbit.eval(&format!(
            "{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r({}, queue, {})), \
             list_to_tuple([Count || {{_, Count}} <- \
             rabbit_amqqueue:info(Queue, [messages_ready, messages_unacknowledged, consumers])])",
            binary(&self.name),
            binary(queue)
        ));
        let numbers: Vec<u64> = answer
            .trim_matches(['{', '}'])
            .split(',')
            .map(|number| number.trim().parse().unwrap())
            .collect();
        Counts {
            ready: numbers[0],
            unacknowledged: numbers[1],
            consumers: numbers[2],
        }
    }

    /// Makes a durable queue with native arguments, such as `{"x-queue-type": "quorum"}`.
    pub fn declare(&self, queue: &str, arguments: &Value) {
        self.rabbit.management().put(
            &self.queue_path(queue),
            &json!({"durable": true, "arguments": arguments}),
        );
    }

    pub fn delete_queue(&self, queue: &str) {
        self.rabbit.management().delete(&self.queue_path(queue));
    }

    /// Publishes past the driver; an empty exchange is the default one. Says whether it was routed to a queue.
    pub fn publish(&self, exchange: &str, routing_key: &str, properties: &Value, body: &[u8]) -> bool {
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let answer = self.rabbit.management().post(
            &format!("exchanges/{}/{}/publish", self.segment(), segment(exchange)),
            &json!({
                "routing_key": routing_key,
                "properties": properties,
                "payload": BASE64_STANDARD.encode(body),
                "payload_encoding": "base64",
            }),
        );
        answer["routed"].as_bool().unwrap()
    }

    /// Takes up to so many messages and acknowledges them.
    pub fn take(&self, queue: &str, count: usize) -> Vec<Fetched> {
        self.fetch(queue, count, "ack_requeue_false")
    }

    /// Shows up to so many messages and puts them back, which counts as a delivery.
    pub fn peek(&self, queue: &str, count: usize) -> Vec<Fetched> {
        self.fetch(queue, count, "reject_requeue_true")
    }

    fn fetch(&self, queue: &str, count: usize, acknowledgement: &str) -> Vec<Fetched> {
        let answer = self.rabbit.management().post(
            &format!("{}/get", self.queue_path(queue)),
            &json!({"count": count, "ackmode": acknowledgement, "encoding": "base64"}),
        );
        let messages = answer.as_array().unwrap().iter();
        messages.map(fetched).collect()
    }

    /// The connections that are open in this virtual host, as the management API tells of them.
    pub fn connections(&self) -> Vec<Value> {
        let connections = self
            .rabbit
            .management()
            .get(&format!("vhosts/{}/connections", self.segment()));
        connections.as_array().unwrap().clone()
    }

    /// Has the broker close all connections of this virtual host, with a close frame. Returns how many.
    pub fn close_connections(&self) -> usize {
        let connections = self.connections();
        for connection in &connections {
            let name = connection["name"].as_str().unwrap();
            // It may have gone by itself meanwhile.
            self.rabbit
                .management()
                .try_delete(&format!("connections/{}", segment(name)));
        }
        connections.len()
    }

    /// Gives the user another password; open connections stay.
    pub fn set_password(&self, password: &str) {
        self.rabbit.management().put(
            &format!("users/{}", segment(&self.user)),
            &json!({"password": password, "tags": "management"}),
        );
    }

    /// Deletes the user; the broker closes their connections.
    pub fn delete_user(&self) {
        self.rabbit
            .management()
            .delete(&format!("users/{}", segment(&self.user)));
    }

    /// Sets what the user may configure, write to and read from: regular expressions of names.
    pub fn permit(&self, configure: &str, write: &str, read: &str) {
        self.rabbit.management().put(
            &format!("permissions/{}/{}", self.segment(), segment(&self.user)),
            &json!({"configure": configure, "write": write, "read": read}),
        );
    }

    /// Lays a policy, such as `{"delivery-limit": 2}`, on the queues whose names match the regular expression.
    pub fn set_policy(&self, name: &str, pattern: &str, definition: &Value) {
        self.rabbit.management().put(
            &format!("policies/{}/{}", self.segment(), segment(name)),
            &json!({"pattern": pattern, "definition": definition, "apply-to": "queues"}),
        );
    }

    fn segment(&self) -> String {
        segment(&self.name)
    }

    fn queue_path(&self, queue: &str) -> String {
        format!("queues/{}/{}", self.segment(), segment(queue))
    }
}

impl Drop for Vhost {
    /// Where the broker is down, as it may be at the end of a test of faults, the next such test clears away.
    fn drop(&mut self) {
        let management = self.rabbit.management();
        management.try_delete(&format!("vhosts/{}", self.segment()));
        management.try_delete(&format!("users/{}", segment(&self.user)));
    }
}

fn fetched(message: &Value) -> Fetched {
    let text = |key: &str| message[key].as_str().unwrap().to_owned();
    Fetched {
        body: BASE64_STANDARD.decode(text("payload")).unwrap(),
        exchange: text("exchange"),
        routing_key: text("routing_key"),
        redelivered: message["redelivered"].as_bool().unwrap(),
        properties: message["properties"].clone(),
    }
}

/// A name as an Erlang binary, byte by byte, so that no character of it means anything.
fn binary(name: &str) -> String {
    let mut bytes = String::new();
    for byte in name.bytes() {
        let separator = if bytes.is_empty() { "" } else { "," };
        write!(bytes, "{separator}{byte}").unwrap();
    }
    format!("<<{bytes}>>")
}
