//! The same handlers behind RabbitMQ, with messages that pika sends.

use serde_json::json;

use crate::ground::Ground;
use crate::peer::Peer;

const CONSUMERS: &str = "
consumers:
  calls: { handler: { http: { allow: [127.0.0.1], private: allow } }, retry: { attempts: 1 } }
  rpc: { handler: { xmlrpc: { allow: [127.0.0.1], private: allow } }, retry: { attempts: 1 } }
  hook: { handler: { webhook: { url: 'http://127.0.0.1:PORT/hook' } }, retry: { attempts: 1 } }
";

const PUBLISH: &str = r"
for queue, content_type, body in given:
    channel.basic_publish('', queue, body.encode(), pika.BasicProperties(content_type=content_type, delivery_mode=2))
";

#[test]
fn messages_of_others_are_asked_for() {
    let ground = Ground::new(CONSUMERS);
    let peer = Peer::new(&ground.place);
    let config = ground.place.read("qctl.yml").replace("PORT", &peer.port.to_string());
    ground.place.write("qctl.yml", config);
    for name in ["calls", "rpc", "hook"] {
        ground.declare(name);
    }
    let php = |url: String| url.replace('/', "\\/");
    let rpc = format!("http://127.0.0.1:{}/", peer.rpc);
    let given = json!([
        [
            "calls",
            "application/json",
            format!(
                r#"{{"url":"{}","options":{{"13":5,"10018":"UA","47":true}}}}"#,
                php(peer.url("/asked"))
            )
        ],
        [
            "calls",
            null,
            format!(r#"{{"url":"{}","options":[]}}"#, php(peer.url("/untyped")))
        ],
        [
            "calls",
            null,
            format!(
                "O:8:\"stdClass\":1:{{s:3:\"url\";s:5:\"{}\";}}",
                peer.url("/serialised")
            )
        ],
        [
            "rpc",
            "application/json",
            format!(r#"{{"server":"{}","method":"sum","arguments":[1,2]}}"#, php(rpc))
        ],
        ["hook", null, "any body"],
    ]);
    ground.pika(PUBLISH, &given);
    for name in ["calls", "rpc", "hook"] {
        ground.drain(name);
    }
    let mut paths: Vec<(String, String)> = peer
        .seen()
        .iter()
        .map(|request| {
            (
                request["method"].as_str().unwrap().to_owned(),
                request["path"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    paths.sort();
    let expected = [
        ("GET", "/untyped"),
        ("POST", "/"),
        ("POST", "/asked"),
        ("POST", "/hook"),
    ];
    assert_eq!(
        paths,
        expected.map(|(method, path)| (method.to_owned(), path.to_owned()))
    );
    let hook = peer
        .seen()
        .into_iter()
        .find(|request| request["path"] == "/hook")
        .unwrap();
    assert_eq!(
        crate::peer::header(&hook, "content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(ground.vhost.counts("calls.dead").ready, 1);
    let dead = ground.vhost.take("calls.dead", 1);
    let reason = format!("{:?}", dead[0].properties);
    assert!(reason.contains("the body is not JSON"), "{reason}");
}
