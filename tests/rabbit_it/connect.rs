//! Getting to the broker: by URL and by parts, over TLS, by several hosts; and what is told where it does not work.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::ground::Ground;
use crate::rabbit::{Vhost, segment};
use crate::support::{Place, wait_for};

const REST: &str = "
producers: { jobs: {} }
consumers: { jobs: { queue: jobs, handler: noop } }
";

/// A port on which nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A listener that takes connections and never answers.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn with_connection(ground: &Ground, connection: &str) {
    ground
        .place
        .write("qctl.yml", format!("connections: {{ rabbit: {connection} }}\n{REST}"));
}

#[track_caller]
fn works(ground: &Ground, connection: &str) {
    with_connection(ground, connection);
    ground.place.run(["queuemessage", "jobs", "x"]).any_stdout().check();
    assert!(!ground.vhost.take("jobs", 1).is_empty(), "{connection}");
}

/// How it fails: within the time, in one line without the password. Returns the line.
#[track_caller]
fn fails(ground: &Ground, connection: &str, code: i32) -> String {
    with_connection(ground, connection);
    let begun = Instant::now();
    let (found, _, error) = ground.outcome(&["--connect-timeout", "2s", "queuemessage", "jobs", "x"], b"");
    assert_eq!(found, Some(code), "{connection}: {error}");
    assert!(begun.elapsed().as_secs_f64() < 4.0, "{connection}: {error}");
    assert_eq!(error.lines().count(), 1, "{connection}: {error}");
    assert!(!error.contains(ground.vhost.password()), "{error}");
    error
}

/// Login, password and vhost of the test as keys.
fn account(vhost: &Vhost) -> String {
    format!(
        "login: '{}', password: '{}', vhost: '{}'",
        vhost.user(),
        vhost.password(),
        vhost.name()
    )
}

#[test]
fn a_connection_is_written_as_a_url_or_in_parts() {
    let ground = Ground::new(REST);
    let vhost = &ground.vhost;
    let broker = vhost.rabbit().amqp();
    let (user, password, segment_of) = (segment(vhost.user()), vhost.password(), segment(vhost.name()));
    ground.place.write("password", format!("{password}\n"));
    for connection in [
        format!("'{}'", vhost.url()),
        format!("{{ url: '{}' }}", vhost.url()),
        format!(
            "{{ driver: amqp, host: 127.0.0.1, port: {}, {} }}",
            broker.port(),
            account(vhost)
        ),
        format!("{{ driver: amqp, hosts: ['{broker}'], {} }}", account(vhost)),
        format!("{{ url: 'amqp://{broker}', {} }}", account(vhost)),
        format!("{{ url: 'amqp://{user}@{broker}/{segment_of}', password_file: password }}"),
        format!("{{ url: 'amqp://{user}@{broker}/{segment_of}', password: '${{SECRET:-{password}}}' }}"),
        // Zero is none, and a second is the least.
        format!("'{}?heartbeat=0'", vhost.url()),
        format!("{{ url: '{}', heartbeat: 1s, frame_max: 4096 }}", vhost.url()),
    ] {
        works(&ground, &connection);
    }
}

#[test]
fn hosts_are_tried_in_turn() {
    let ground = Ground::new(REST);
    let vhost = &ground.vhost;
    let broker = vhost.rabbit().amqp();
    let refused = format!("127.0.0.1:{}", closed_port());
    let (_listener, silent) = silent();
    let at = |hosts: &str| format!("{{ url: 'amqp://{hosts}', {} }}", account(vhost));
    works(&ground, &at(&format!("{refused},{broker}")));
    let begun = Instant::now();
    with_connection(&ground, &at(&format!("{silent},{broker}")));
    ground
        .place
        .run(["--connect-timeout", "2s", "queuemessage", "jobs", "x"])
        .any_stdout()
        .check();
    assert!(begun.elapsed().as_secs_f64() < 2.0, "it leaves time for the next");
    let error = fails(&ground, &at(&format!("{refused},{silent}")), 69);
    assert!(error.contains("none of 2 hosts") && error.contains(&refused), "{error}");
    assert!(
        error.contains(&silent.to_string()) && error.contains("did not answer"),
        "{error}"
    );
}

#[test]
fn tls_checks_who_answers() {
    let ground = Ground::new(REST);
    let vhost = &ground.vhost;
    let rabbit = vhost.rabbit();
    let (ca, other) = (rabbit.ca(), rabbit.other_ca());
    let (certificate, key) = rabbit.client_certificate();
    let port = rabbit.amqps().port();
    let tls = |host: &str, keys: &str| {
        format!(
            "{{ url: 'amqps://{host}:{port}', {}, tls: {{ {keys} }} }}",
            account(vhost)
        )
    };
    let trusting = |path: &Path| format!("ca_file: {}", path.display());
    works(
        &ground,
        &format!("{{ url: '{}', tls: {{ {} }} }}", vhost.tls_url(), trusting(&ca)),
    );
    works(&ground, &tls("127.0.0.1", &trusting(&ca)));
    let identity = format!("cert_file: {}, key_file: {}", certificate.display(), key.display());
    works(&ground, &tls("localhost", &format!("{}, {identity}", trusting(&ca))));
    works(
        &ground,
        &tls("127.1", &format!("{}, server_name: localhost", trusting(&ca))),
    );

    // Somebody else's signature, none that the system knows, and the right one for another name.
    for keys in [trusting(&other), String::new()] {
        let error = fails(&ground, &tls("localhost", &keys), 69);
        assert!(
            error.contains("its certificate is not signed by anybody") && error.contains("ca_file"),
            "{error}"
        );
    }
    let error = fails(
        &ground,
        &tls(
            "localhost",
            &format!("{}, server_name: broker.example.org", trusting(&ca)),
        ),
        69,
    );
    assert!(
        error.contains("its certificate is for another name") && error.contains("server_name"),
        "{error}"
    );
    let error = fails(&ground, &tls("localhost", "ca_file: /no/such/file.pem"), 78);
    assert!(error.contains("/no/such/file.pem"), "{error}");
    let wrong = ground.place.write("wrong.pem", "no certificate");
    let error = fails(&ground, &tls("localhost", &trusting(&wrong)), 78);
    assert!(error.contains("wrong.pem holds no PEM certificate"), "{error}");

    // Each port with the other's scheme.
    let plain = rabbit.amqp();
    let error = fails(
        &ground,
        &format!(
            "{{ url: 'amqps://{plain}', {}, tls: {{ {} }} }}",
            account(vhost),
            trusting(&ca)
        ),
        69,
    );
    assert!(error.contains("TLS"), "{error}");
    let error = fails(
        &ground,
        &format!("{{ url: 'amqp://127.0.0.1:{port}', {} }}", account(vhost)),
        69,
    );
    assert!(error.contains("amqps"), "{error}");
}

#[test]
fn what_is_wrong_with_a_login_is_told() {
    let ground = Ground::new(REST);
    let vhost = &ground.vhost;
    let broker = vhost.rabbit().amqp();
    let url = |user: &str, password: &str, name: &str| {
        format!("'amqp://{}:{password}@{broker}/{}'", segment(user), segment(name))
    };
    let (user, password, name) = (vhost.user(), vhost.password(), vhost.name());
    let error = fails(&ground, &url(user, "hunter2secret", name), 77);
    assert!(
        error.contains("refuses this login; check login and password"),
        "{error}"
    );
    assert!(!error.contains("hunter2secret"), "{error}");
    let error = fails(&ground, &url("nobody", password, name), 77);
    assert!(error.contains("refuses this login"), "{error}");
    let error = fails(&ground, &url(user, password, "nowhere/no%"), 66);
    assert!(error.contains("no vhost `nowhere/no%`"), "{error}");
    let other = vhost.rabbit().vhost();
    let error = fails(&ground, &url(user, password, other.name()), 77);
    assert!(
        error.contains("may not use the vhost") && error.contains("set_permissions"),
        "{error}"
    );
    vhost.permit("", "", "");
    let error = fails(&ground, &url(user, password, name), 77);
    assert!(
        error.contains("queue `jobs`") && error.contains("set_permissions"),
        "{error}"
    );
}

#[test]
fn what_is_no_broker_is_told() {
    let ground = Ground::new(REST);
    let at = |address: &str| format!("'amqp://{address}'");
    let port = closed_port();
    let error = fails(&ground, &at(&format!("127.0.0.1:{port}")), 69);
    assert!(
        error.contains("connection refused") && error.contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
    let (_listener, silent) = silent();
    let error = fails(&ground, &at(&silent.to_string()), 69);
    assert!(error.contains("did not answer within 2 s"), "{error}");
    let error = fails(&ground, &at("no-such-host.invalid"), 69);
    assert!(error.contains("`no-such-host.invalid` is not known"), "{error}");
    let management = ground.vhost.rabbit().management_address();
    let error = fails(&ground, &at(&management.to_string()), 69);
    assert!(error.contains("is it the right host and port"), "{error}");

    // Something that greets and is no broker, and something that hangs up.
    let (listener, address) = self::silent();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut client, b"220 mail.example.org ESMTP\r\n");
            let _ = client.read(&mut [0; 64]);
        }
    });
    let error = fails(&ground, &at(&address.to_string()), 69);
    assert!(error.contains("AMQP port"), "{error}");
}

/// Operators see whose a connection is.
#[test]
fn a_connection_names_label_host_and_process() {
    let ground = Ground::new(REST);
    ground.declare("jobs");
    let consumer = ground.place.start(["consumer", "--label", "web1", "jobs"]);
    let mut name = String::new();
    wait_for("the connection in the management API", || {
        let connections = ground.vhost.connections();
        let found = connections
            .iter()
            .find_map(|connection| connection["client_properties"]["connection_name"].as_str());
        name = found.unwrap_or_default().to_owned();
        found.is_some()
    });
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    assert_eq!(name, format!("web1 ({host}:{})", consumer.pid()));
}

/// However much is asked to be told, the password is not.
#[test]
fn the_password_is_never_shown() {
    let ground = Ground::new(REST);
    let password = ground.vhost.password();
    for connection in [
        format!("'{}'", ground.vhost.url()),
        format!(
            "{{ url: 'amqp://{}', {} }}",
            ground.vhost.rabbit().amqp(),
            account(&ground.vhost)
        ),
        // Where it is wrong, too.
        format!("'{}'", ground.vhost.url().replace("amqp://", "amqp://x")),
        format!("'{}/nonsense/of/a/path'", ground.vhost.url()),
        format!("'{}'", ground.vhost.url().replace('@', "@@")),
    ] {
        with_connection(&ground, &connection);
        for arguments in [
            &["-vv", "queuemessage", "jobs", "x"][..],
            &["-vv", "--output", "json", "managedriver", "check"],
            &["-vv", "consumer", "--until-empty", "jobs"],
            &["config", "show"],
            &["--output", "json", "config", "show"],
            &["config", "check"],
        ] {
            let (_, output, error) = ground.outcome(arguments, b"");
            assert!(
                !output.contains(password) && !error.contains(password),
                "{arguments:?}: {output}{error}"
            );
            assert!(!(output + &error).is_empty(), "{arguments:?}");
        }
    }
}

/// Keys that contradict each other or lack each other are told with their place.
#[test]
fn mistakes_in_an_entry_name_the_key() {
    for (connection, expected) in [
        ("{ url: 'amqp://h', host: h }", "host"),
        ("{ url: 'amqp://u@h', login: u }", "login"),
        ("{ url: 'amqp://h/v', vhost: v }", "vhost"),
        ("{ url: 'amqp://h', heartbeat: 20h }", "heartbeat"),
        ("{ url: 'amqp://h', frame_max: 100 }", "frame_max"),
        ("{ url: 'amqp://h', max_body: 1G }", "max_body"),
        ("{ url: 'amqp://h', mechanism: external }", "mechanism"),
        ("{ url: 'amqps://h', tls: false }", "tls"),
        ("{ url: 'amqps://h', tls: { cert_file: c.pem } }", "key_file"),
        ("{ url: 'amqp://h', hearbeat: 5s }", "did you mean"),
        ("'amqp://h/a/b'", "%2f"),
        ("'amqp://h?heartbeet=1'", "heartbeet"),
        ("'amqp://h:port'", "h:port"),
    ] {
        let place = Place::with_config(&format!("connections: {{ rabbit: {connection} }}\n{REST}"));
        let finished = place
            .run(["config", "check"])
            .code(78)
            .any_stdout()
            .any_stderr()
            .check();
        let told = finished.stderr + &finished.stdout;
        assert!(told.contains(expected), "{connection}: {told}");
        assert!(told.contains("qctl.yml:1"), "{connection}: {told}");
    }
    // What is not given is what everybody's broker has.
    let place = Place::with_config(&format!("connections: {{ rabbit: {{ driver: amqp }} }}\n{REST}"));
    let shown = place.json(["config", "show"]);
    assert_eq!(
        shown["connections"]["rabbit"]["endpoint"],
        json!("amqp://guest@localhost:5672/%2f"),
        "{shown}"
    );
}
