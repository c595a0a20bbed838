//! `qctl consumer --metrics`, and what systemd is told.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use qctl::consumer::{Limits, Meter, Pulse};
use qctl::observe::{Address, ConsumerLabels, ConsumerPage, Server};
use rustix::process::Signal;

use crate::observer::Observer;
use crate::support::{Place, Running, wait_for};

fn place(script: &str) -> Place {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: { queue: demo } }\n\
         consumers:\n  demo:\n    queue: demo\n    handler: { exec: { run: ['./run.sh'] } }\n    concurrency: 2\n    \
         retry: { attempts: 2, min: 10ms, max: 10ms }\n",
    );
    place.script("run.sh", script);
    place
}

fn send(place: &Place, lines: &str) {
    place
        .run(["queuemessage", "--lines", "demo"])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn observed(place: &Place) -> (Running, Observer) {
    let running = place.start(["consumer", "--metrics", "127.0.0.1:0", "demo"]);
    let observer = Observer::of(&running);
    observer.wait("/readyz", 200);
    (running, observer)
}

#[test]
fn the_figures_are_those_of_what_happens() {
    let place = place(
        "case $(cat) in\n\
         good) exit 0;;\nbad) exit 65;;\nflaky) test $QCTL_ATTEMPT = 1;;\nhopeless) exit 1;;\n\
         hold) until test -e go; do sleep 0.02; done;;\nesac",
    );
    let (mut consumer, observer) = observed(&place);
    let figures = observer.figures();
    assert_eq!((figures.count("messages_begun_total"), figures.outcome("done")), (0, 0));
    assert_eq!(figures.count("connected"), 1);
    let before = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    send(&place, "good\ngood\nbad\nflaky\nhopeless\nhold\n");
    wait_for("the figures", || {
        let figures = observer.figures();
        figures.outcome("done") == 3 && figures.outcome("dead_letter") == 2
    });
    let figures = observer.figures();
    assert_eq!((figures.outcome("retry"), figures.count("retries_total")), (2, 2));
    assert_eq!(figures.count("messages_begun_total"), 8, "six, and two once more");
    assert_eq!(figures.count("in_flight"), 1);
    assert_eq!(figures.count("handler_seconds_count"), 7);
    assert!(figures.value("qctl_consumer_handler_seconds_sum") > 0.0);
    assert_eq!((figures.outcome("release"), figures.count("reconnects_total")), (0, 0));
    let last = figures.value("qctl_consumer_last_message_timestamp_seconds");
    assert!(last > before - 1.0 && last < before + 60.0, "{last}, {before}");
    assert!(figures.value("process_resident_memory_bytes") > 1_000_000.0);

    // It stops: alive, and not ready.
    consumer.signal(Signal::TERM);
    assert_eq!(observer.wait("/readyz", 503), "stopping\n");
    assert_eq!(observer.get("/healthz").status, 200);
    place.write("go", "");
    assert_eq!(consumer.wait(), Some(0));
}

/// A php-fpm that is away has begun nothing.
#[test]
fn a_message_given_back_untouched_is_counted_as_such() {
    let place = Place::with_config(
        "connections: { here: 'sqlite://./queue.db' }\nproducers: { demo: {} }\nconsumers:\n  demo:\n    \
         handler: { fastcgi: { socket: 'unix:/nonexistent/php.sock', script: /worker.php } }\n",
    );
    let (_consumer, observer) = observed(&place);
    send(&place, "a\n");
    wait_for("it to be given back", || observer.figures().outcome("release") > 0);
    let figures = observer.figures();
    assert_eq!((figures.outcome("retry"), figures.outcome("dead_letter")), (0, 0));
}

#[test]
fn only_what_is_there_is_told() {
    let place = place("true");
    let (_consumer, observer) = observed(&place);
    let metrics = observer.get("/metrics?x=y");
    assert_eq!(metrics.status, 200);
    let expected = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(metrics.head.contains(expected), "{}", metrics.head);
    let head = observer.ask("HEAD", "/metrics", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(
        head.head.contains(expected) && head.head.contains("content-length:"),
        "{}",
        head.head
    );
    for path in ["/healthz", "/readyz"] {
        let answer = observer.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    }
    for path in ["/", "/metrics/", "/../etc/passwd", "/healthz/x"] {
        assert_eq!(observer.get(path).status, 404, "{path}");
    }
    for method in ["POST", "DELETE", "OPTIONS"] {
        let answer = observer.ask(method, "/metrics", "Content-Length: 0\r\n");
        assert!(
            answer.status == 405 && answer.head.contains("allow: get, head"),
            "{answer:?}"
        );
    }
}

#[test]
fn a_unix_socket_is_its_owners_alone() {
    let place = place("true");
    let path = place.path("metrics.sock");
    // One left over from a process that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let address = format!("unix://{}", path.display());
    let mut consumer = place.start(["consumer", "--metrics", &address, "demo"]);
    let observer = Observer::of(&consumer);
    observer.wait("/readyz", 200);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    observer.figures();
    place
        .run(["consumer", "--metrics", &address, "demo"])
        .code(75)
        .stderr_contains("cannot listen at")
        .check();
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0));
    assert!(!path.exists(), "the socket goes with it");
    place.write("file", "precious");
    place
        .run([
            "consumer",
            "--metrics",
            &format!("unix://{}", place.path("file").display()),
            "demo",
        ])
        .code(1)
        .stderr_contains("there is something else of this name")
        .check();
    assert_eq!(place.read("file"), "precious");
}

/// Before anything is consumed.
#[test]
fn an_address_that_cannot_be_had_is_an_error_at_once() {
    let place = place("echo ran > ran");
    send(&place, "a\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place
        .run(["consumer", "--until-empty", "--metrics", &address, "demo"])
        .code(75)
        .stderr_contains(&format!("--metrics: cannot listen at http://{address}"))
        .check();
    for open in ["0.0.0.0:0", "tcp://[::]:0"] {
        place
            .run(["consumer", "--until-empty", "--metrics", open, "demo"])
            .code(77)
            .stderr_contains("--metrics-token-file")
            .check();
    }
    for wrong in ["9100", "example.org:80", "unix:relative"] {
        place
            .run(["consumer", "--metrics", wrong, "demo"])
            .code(2)
            .any_stderr()
            .check();
    }
    assert_eq!(place.read("ran"), "");
}

#[test]
fn who_is_let_in_from_elsewhere_knows_the_token() {
    let place = place("true");
    let file = place.write("token", "s3cret\n");
    let (missing, file) = (place.path("missing"), file.to_str().unwrap().to_owned());
    place
        .run([
            "consumer",
            "--metrics",
            "0.0.0.0:0",
            "--metrics-token-file",
            missing.to_str().unwrap(),
            "demo",
        ])
        .code(78)
        .stderr_contains("missing")
        .check();
    let consumer = place.start([
        "consumer",
        "--metrics",
        "0.0.0.0:0",
        "--metrics-token-file",
        &file,
        "demo",
    ]);
    let Observer::Tcp(address) = Observer::of(&consumer) else {
        panic!("not tcp")
    };
    let observer = Observer::Tcp(address.replace("0.0.0.0", "127.0.0.1"));
    let status = |path: &str, header: &str| observer.ask("GET", path, header).status;
    for path in ["/metrics", "/healthz", "/readyz", "/else"] {
        for header in [
            "",
            "Authorization: Bearer s3cre\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Basic s3cret\r\n",
        ] {
            assert_eq!(status(path, header), 401, "{path} {header}");
        }
    }
    assert_eq!(status("/metrics", "Authorization: Bearer s3cret\r\n"), 200);
    assert_eq!(status("/metrics", "authorization: bearer s3cret\r\n"), 200);
    place.write("token", "changed");
    assert_eq!(status("/metrics", "Authorization: Bearer s3cret\r\n"), 401);
    assert_eq!(status("/metrics", "Authorization: Bearer changed\r\n"), 200);
    assert!(!consumer.stderr().contains("s3cret"));
}

/// Who is slow, or says too much, costs itself its connection and nobody anything else.
#[test]
fn a_slow_client_costs_only_itself() {
    let place = place("true");
    let (_consumer, observer) = observed(&place);
    let begun = Instant::now();
    let mut slow: Vec<_> = (0..30).map(|_| observer.connect()).collect();
    for line in &mut slow {
        line.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
    }
    for _ in 0..5 {
        assert_eq!(observer.get("/healthz").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    send(&place, "a\n");
    wait_for("the message", || observer.figures().outcome("done") == 1);
    // More than there are places: the next is let in when these have had their time.
    let more: Vec<_> = (0..60).map(|_| observer.connect()).collect();
    assert_eq!(observer.get("/healthz").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    drop(more);
    for mut line in slow {
        // Ended by the server, with an answer or without.
        let mut rest = Vec::new();
        let _ = line.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    }
    let mut loud = observer.connect();
    let header = format!("X: {}\r\n", "x".repeat(8000));
    let said = loud.write_all(b"GET /metrics HTTP/1.1\r\n").and_then(|()| {
        for _ in 0..100 {
            loud.write_all(header.as_bytes())?;
        }
        Ok(())
    });
    let mut rest = Vec::new();
    let read = loud.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{said:?} {read:?}");
    assert_eq!(observer.get("/healthz").status, 200);
}

#[test]
fn a_broker_that_is_away_is_no_fault_of_health() {
    // Bound and let go: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = Place::with_config(&format!(
        "connections: {{ away: 'amqp://guest:s3cret@127.0.0.1:{port}/' }}\nconsumers: {{ demo: {{ handler: noop }} }}\n"
    ));
    let consumer = place.start(["consumer", "--metrics", "127.0.0.1:0", "demo"]);
    let observer = Observer::of(&consumer);
    consumer.wait_stderr("cannot connect yet");
    let reason = observer.wait("/readyz", 503);
    assert!(
        reason.starts_with("not connected: ") && reason.lines().count() == 1,
        "{reason}"
    );
    assert!(!reason.contains("s3cret"), "{reason}");
    assert_eq!(observer.get("/healthz").status, 200);
    assert_eq!(observer.figures().count("connected"), 0);
}

/// The server lives apart from what it tells of: when that hangs, it says so.
#[test]
fn silence_for_ten_seconds_is_told() {
    let labels = ConsumerLabels {
        consumer: "demo".to_owned(),
        queue: "demo".to_owned(),
        handler: "noop".to_owned(),
    };
    let pulse = Pulse::default();
    pulse.watch();
    let begun = Instant::now();
    let page = ConsumerPage::new(labels, &Limits::default(), Meter::counting(), pulse);
    let server = Server::start(&Address::parse("127.0.0.1:0").unwrap(), None, Arc::new(page)).unwrap();
    let Address::Tcp(address) = server.address() else {
        panic!("not tcp")
    };
    let observer = Observer::Tcp(address.to_string());
    assert_eq!(observer.get("/healthz").status, 200);
    let reason = observer.wait("/healthz", 503);
    assert_eq!(reason, "the consumer has given no sign of life for 10 s\n");
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert_eq!(observer.get("/readyz").body, reason);
}

/// What systemd asks of a service of the type notify with a watchdog.
#[test]
fn systemd_is_told() {
    let place = place("true");
    let path = place.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = place.command();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .args(["consumer", "demo"]);
    let mut consumer = place.launch(command);
    let mut told = String::new();
    let mut hear = |word: &str| {
        while !told.contains(word) {
            let mut buffer = [0; 4096];
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{error}: {word} after {told}"));
            told.push_str(&String::from_utf8_lossy(&buffer[..length]));
            told.push('\n');
        }
        std::mem::take(&mut told)
    };
    hear("READY=1");
    for _ in 0..3 {
        let between = hear("WATCHDOG=1");
        assert!(!between.contains("STOPPING"), "{between}");
    }
    consumer.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(consumer.wait(), Some(0));
}
