//! Scripts on a real php-fpm.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::ground::Ground;
use crate::php::{Php, socket};
use crate::support::{Place, wait_for};

fn handler(place: &Place, further: &str) -> String {
    format!(
        "handler: {{ fastcgi: {{ socket: 'unix:{}', script: '{}'{further} }} }}",
        socket(place).display(),
        place.path("worker.php").display()
    )
}

/// A consumer `demo` of a script.
fn place(script: &str, further: &str) -> Place {
    let place = Place::new();
    place.write(
        "qctl.yml",
        format!(
            "connections: {{ here: 'sqlite://./queue.db' }}\nproducers: {{ demo: {{}} }}\nconsumers:\n  demo:\n    \
             retry: {{ attempts: 3, min: 10ms, max: 10ms }}\n    {}\n",
            handler(&place, further)
        ),
    );
    place.write("worker.php", format!("<?php\n{script}\n"));
    place
}

fn send(place: &Place, lines: &str) {
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn drain(place: &Place) -> String {
    place
        .run(["consumer", "--until-empty", "demo"])
        .any_stderr()
        .check()
        .stderr
}

/// Runs until what is left is done or dead, retries included.
fn finish(place: &Place) -> String {
    let mut log = String::new();
    wait_for("all messages", || {
        log.push_str(&drain(place));
        let info = place.json(["managequeue", "info", "demo"]);
        ["ready", "delayed", "unacked"]
            .iter()
            .all(|key| info[key].as_u64().unwrap_or(0) == 0)
    });
    log
}

fn dead(place: &Place) -> Vec<Value> {
    let peeked = place.json(["managequeue", "peek", "--limit", "100", "demo.dead"]);
    peeked.as_array().unwrap_or_else(|| panic!("{peeked}")).clone()
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The sample configuration and the sample script do what their manual says.
#[test]
fn the_samples_of_the_manual_work() {
    let place = Place::new();
    let config = document("config/fastcgi.yml")
        .replace(
            "unix:/run/php/php-fpm.sock",
            &format!("unix:{}", socket(&place).display()),
        )
        .replace("/srv/app", place.path("").to_str().unwrap().trim_end_matches('/'))
        .replace("/var/lib/qctl", place.path("").to_str().unwrap().trim_end_matches('/'));
    place.write("qctl.yml", config);
    place.write("worker.php", document("docs/workers/fastcgi.php"));
    let _php = Php::start(&place, "");
    place
        .run(["queuemessage", "--lines", "orders"])
        .stdin("{\"id\": 7}\n{\"name\": 7}\n")
        .any_stdout()
        .check();
    let log = place
        .run(["consumer", "--until-empty", "orders"])
        .stderr_contains("1 done, 1 not")
        .check()
        .stderr;
    assert_eq!(place.read("orders"), "7 of orders\n");
    assert!(log.contains("not an order"), "{log}");
}

#[test]
fn a_script_gets_the_body_byte_for_byte_and_the_facts() {
    let place = place(
        "file_put_contents(__DIR__ . '/body', file_get_contents('php://input'));
        file_put_contents(__DIR__ . '/server', json_encode($_SERVER, JSON_INVALID_UTF8_SUBSTITUTE));",
        ", params: { APP: one }",
    );
    let _php = Php::start(&place, "");
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    place
        .run([
            "queuemessage",
            "--header",
            "HTTP_PROXY=evil",
            "--header",
            "script_filename=/etc/passwd",
        ])
        .args(["--header", "traceparent=00-ab-cd-01", "-c", "image/png", "demo"])
        .args(["-"])
        .stdin(body.clone())
        .any_stdout()
        .check();
    drain(&place);
    assert!(fs::read(place.path("body")).unwrap() == body, "the body is another");
    let server: Value = serde_json::from_str(&place.read("server")).unwrap();
    let software = format!("qctl/{}", env!("CARGO_PKG_VERSION"));
    for (name, expected) in [
        ("APP", "one"),
        ("CONTENT_TYPE", "image/png"),
        ("CONTENT_LENGTH", "300000"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/worker.php"),
        ("SCRIPT_NAME", "/worker.php"),
        ("SCRIPT_FILENAME", place.path("worker.php").to_str().unwrap()),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", &software),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("QCTL_QUEUE", "demo"),
        ("QCTL_ATTEMPT", "0"),
        ("TRACEPARENT", "00-ab-cd-01"),
    ] {
        assert_eq!(server[name], expected, "{name}");
    }
    let message: Value = serde_json::from_str(server["QCTL_MESSAGE"].as_str().unwrap()).unwrap();
    assert_eq!(message["headers"]["HTTP_PROXY"], "evil");
    let names: Vec<&String> = server.as_object().unwrap().keys().collect();
    assert!(!names.iter().any(|name| name.starts_with("HTTP_")), "{names:?}");
}

/// PHP takes no parameter that is cut by a record's end: many long facts are several whole records.
#[test]
fn long_facts_arrive_whole() {
    let place = place(
        "file_put_contents(__DIR__ . '/server', json_encode($_SERVER));",
        &format!(", params: {{ A: '{0}', B: '{0}' }}", "a".repeat(40_000)),
    );
    let _php = Php::start(&place, "");
    let header = format!("long={}", "x".repeat(60_000));
    place
        .run(["queuemessage", "--header", &header, "demo", "body"])
        .any_stdout()
        .check();
    let header = format!("long={}", "x".repeat(70_000));
    let log = drain(&place);
    assert!(log.contains("1 done, 0 not"), "{log}");
    let server: Value = serde_json::from_str(&place.read("server")).unwrap();
    assert_eq!(server["B"].as_str().map(str::len), Some(40_000));
    assert!(server["QCTL_MESSAGE"].as_str().unwrap().len() > 60_000);
    place
        .run(["queuemessage", "--header", &header, "demo", "body"])
        .any_stdout()
        .check();
    assert!(drain(&place).contains("1 done, 0 not"));
    let server: Value = serde_json::from_str(&place.read("server")).unwrap();
    assert_eq!(
        (&server["QCTL_MESSAGE"], &server["QCTL_MESSAGE_TRUNCATED"]),
        (&Value::Null, &json!("1"))
    );
}

#[test]
fn what_a_script_says_decides() {
    let place = place(
        "$body = file_get_contents('php://input');
        file_put_contents(__DIR__ . '/seen', \"$body {$_SERVER['QCTL_ATTEMPT']}\\n\", FILE_APPEND | LOCK_EX);
        error_log(\"about $body\");
        switch ($body) {
            case 'later': if ($_SERVER['QCTL_ATTEMPT'] == 0) { http_response_code(503); } break;
            case 'bad': http_response_code(400); break;
            case 'no': header('X-Qctl-Outcome: reject'); header('X-Qctl-Reason: no such order'); break;
            case 'throws': http_response_code(500); throw new RuntimeException('boom');
            case 'long': http_response_code(500); sleep(30);
        }",
        ", timeout: 700ms",
    );
    let php = Php::start(&place, "");
    send(&place, "good\nlater\nbad\nno\nthrows\n");
    let log = finish(&place);
    let mut seen: Vec<String> = place.read("seen").lines().map(str::to_owned).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "bad 0", "good 0", "later 0", "later 1", "no 0", "throws 0", "throws 1", "throws 2"
        ]
    );
    let mut reasons: Vec<(String, String)> = dead(&place)
        .iter()
        .map(|message| {
            let headers = &message["headers"];
            let text = |name: &str| headers[name].as_str().unwrap_or_default().to_owned();
            (text("x-qctl-reason"), text("x-qctl-stderr"))
        })
        .collect();
    reasons.sort();
    assert_eq!(reasons.len(), 3, "{reasons:?}\n{log}");
    assert_eq!(reasons[0].0, "no such order");
    assert_eq!(reasons[1].0, "status 400");
    assert!(reasons[1].1.contains("about bad"), "{reasons:?}");
    assert_eq!(reasons[2].0, "status 500 (attempt 3 of 3)");
    assert!(log.contains("about good"), "its standard error is logged: {log}");

    send(&place, "long\n");
    let log = drain(&place);
    assert!(log.contains("timed out after 700ms"), "{log}");
    php.end();
}

/// What the manual warns of is so: these are PHP's ways, and the sample script minds them.
#[test]
fn the_manual_is_right_about_php() {
    let place = place(
        "$body = file_get_contents('php://input');
        file_put_contents(__DIR__ . '/seen', strlen($body) . ' of ' . $_SERVER['CONTENT_LENGTH'] . \"\\n\", FILE_APPEND);
        if ($body === 'fatal') { throw new RuntimeException('boom'); }",
        "",
    );
    let _php = Php::start(&place, "php_admin_value[post_max_size] = 1K");
    let say = |content_type: &str, body: &str| {
        place
            .run(["queuemessage", "-c", content_type, "demo", "--", body])
            .any_stdout()
            .check();
        let log = drain(&place);
        assert!(log.contains("1 done, 0 not"), "{log}");
    };
    say("text/plain", "fatal");
    say("text/plain", &"x".repeat(2000));
    say("application/x-www-form-urlencoded", &"x".repeat(2000));
    say("multipart/form-data; boundary=x", "--x\r\n");
    assert_eq!(place.read("seen"), "5 of 5\n2000 of 2000\n2000 of 2000\n0 of 5\n");

    // The sample takes neither for done.
    place.write("worker.php", document("docs/workers/fastcgi.php"));
    place
        .run(["queuemessage", "-c", "multipart/form-data; boundary=x", "demo", "{}"])
        .any_stdout()
        .check();
    assert!(finish(&place).contains("status 500 (attempt 3 of 3)"));
}

/// As with a missing program: nothing is parked because of a deploy.
#[test]
fn a_missing_script_ends_the_consumer_and_touches_nothing() {
    let place = place("", "");
    let _php = Php::start(&place, "");
    fs::remove_file(place.path("worker.php")).unwrap();
    send(&place, "a\nb\n");
    let error = place
        .run(["consumer", "--until-empty", "demo"])
        .code(72)
        .any_stderr()
        .check()
        .stderr;
    assert!(error.contains("consumers.demo.handler.fastcgi.script: "), "{error}");
    assert!(
        error.contains("worker.php: php-fpm cannot run it (404 File not found."),
        "{error}"
    );
    let info = place.json(["managequeue", "info", "demo"]);
    assert_eq!(info["ready"], 2, "{info}");
    place.write(
        "worker.php",
        "<?php file_put_contents(__DIR__ . '/attempt', $_SERVER['QCTL_ATTEMPT'], FILE_APPEND);",
    );
    assert!(drain(&place).contains("2 done, 0 not"));
    assert_eq!(place.read("attempt"), "00");
}

/// Whatever php-fpm was doing when it went: each message is handled, and none is given up.
#[test]
fn a_php_fpm_that_restarts_loses_nothing() {
    for further in ["", ", keep_connections: true"] {
        let place = place(
            "usleep(3000); file_put_contents(__DIR__ . '/seen', file_get_contents('php://input') . \"\\n\", FILE_APPEND | LOCK_EX);",
            further,
        );
        place.write(
            "qctl.yml",
            place.read("qctl.yml").replace("attempts: 3", "attempts: 50") + "    concurrency: 3\n",
        );
        let all: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        send(&place, &all.join("\n"));
        // It is not there yet: the consumer waits.
        let mut consumer = place.start(["consumer", "--messages", "0", "demo"]);
        consumer.wait_stderr("it is waited for");
        let mut seen = 0;
        for _ in 0..3 {
            // Processes that end after a few requests close connections as well.
            let php = Php::start(&place, "pm.max_requests = 7");
            seen += 60;
            wait_for("some of it to be done", || place.read("seen").lines().count() > seen);
            php.end();
        }
        let _php = Php::start(&place, "pm.max_requests = 7");
        let unique = || {
            place
                .read("seen")
                .lines()
                .map(str::to_owned)
                .collect::<std::collections::BTreeSet<_>>()
        };
        wait_for("all of it to be done", || unique().len() == all.len());
        consumer.signal(rustix::process::Signal::TERM);
        assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
        let info = place.json(["managequeue", "info", "demo.dead"]);
        assert_eq!(info["ready"], 0, "{info}");
    }
}

#[test]
fn it_works_on_rabbitmq_too() {
    let place = Place::new();
    let ground = Ground::new(&format!(
        "producers: {{ demo: {{}} }}\nconsumers:\n  demo:\n    {}\n",
        handler(&place, "")
    ));
    place.write(
        "worker.php",
        "<?php $body = file_get_contents('php://input'); http_response_code($body === 'good' ? 200 : 422);
        file_put_contents(__DIR__ . '/seen', \"$body {$_SERVER['QCTL_QUEUE']}\\n\", FILE_APPEND);",
    );
    let _php = Php::start(&place, "");
    ground.declare("demo");
    send(&ground.place, "good\nbad\n");
    let log = ground.drain("demo");
    assert!(log.contains("1 done, 1 not") && log.contains("status 422"), "{log}");
    assert_eq!(place.read("seen"), "good demo\nbad demo\n");
    assert_eq!(ground.vhost.counts("demo.dead").ready, 1);
}
