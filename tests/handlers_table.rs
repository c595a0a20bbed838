//! The table of handlers in README.md, row by row as it stands there: each is loaded, has a message queued for it, and does what
//! it says, on the embedded store and on RabbitMQ.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "http/peer.rs"]
#[allow(dead_code)] // shared with tests/http
mod peer;
#[path = "fastcgi/php.rs"]
#[allow(dead_code)] // shared with tests/fastcgi
mod php;
#[path = "rabbit/mod.rs"]
mod rabbit;
#[path = "it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use qctl::handlers::HANDLERS;

use peer::Peer;
use php::Php;
use rabbit::Rabbit;
use support::{Finished, Place};

const SQLITE: &str = "connections: { local: 'sqlite://./queue.db' }\n";

/// A line of the table: the kind, and the value of a consumer's `handler:` as it is printed.
struct Row {
    kind: String,
    handler: String,
    cell: String,
}

impl Row {
    fn has_workers(&self) -> bool {
        self.handler.contains("mode: worker")
    }
}

fn root(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root("README.md")).unwrap();
    let (_, section) = text.split_once("\n### Handlers\n").expect("the section");
    let section = section.split("\n### ").next().unwrap();
    let quoted = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [kind, _, cell] = cells.as_slice() else {
            panic!("three columns: {line}")
        };
        Row {
            kind: quoted(kind).unwrap(),
            handler: quoted(cell).unwrap_or_else(|| panic!("no configuration: {line}")),
            cell: (*cell).to_owned(),
        }
    });
    rows.collect()
}

fn row(kind: &str, workers: bool) -> Row {
    let found = rows()
        .into_iter()
        .find(|row| row.kind == kind && row.has_workers() == workers);
    found.unwrap_or_else(|| panic!("README.md has no row for {kind} (workers: {workers})"))
}

/// A place with a producer and a consumer `demo` of this row, and what the table takes for granted: the worker of the
/// documentation and a command. What stands for a server of the reader's own is replaced.
fn place(connection: &str, row: &Row, replacements: &[(&str, &str)]) -> Place {
    let mut handler = row.handler.clone();
    for (printed, here) in replacements {
        assert!(handler.contains(printed), "{printed} is not in {handler}");
        handler = handler.replace(printed, here);
    }
    let place = Place::with_config(&format!(
        "{connection}producers: {{ demo: {{}} }}\n\
         commands: {{ console: {{ run: [./console], worker: [python3, worker.py], allow: ['app:*'] }} }}\n\
         consumers:\n  demo:\n    retry: {{ attempts: 1 }}\n    handler: {handler}\n"
    ));
    place.script("console", "echo \"$*\" > ran");
    place.write("worker.py", fs::read(root("docs/workers/worker.py")).unwrap());
    place.run(["config", "check"]).any_stdout().any_stderr().check();
    place
}

#[track_caller]
fn queue<S: AsRef<str>>(place: &Place, args: impl IntoIterator<Item = S>) {
    place.run(args).any_stdout().any_stderr().check();
}

#[track_caller]
fn one_is_done(place: &Place, row: &Row) -> Finished {
    let run = place
        .run(["consumer", "--until-empty", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    assert!(
        run.stderr.contains("(1 done, 0 not)"),
        "{}: {}",
        row.handler,
        run.stderr
    );
    run
}

/// Runs a test on each of the two.
fn on_both(test: impl Fn(&str)) {
    test(SQLITE);
    let vhost = Rabbit::main().vhost();
    test(&format!("connections: {{ rabbit: '{}' }}\n", vhost.url()));
}

#[test]
fn every_kind_has_a_row_and_every_row_a_kind_and_a_page() {
    let rows = rows();
    let table: BTreeSet<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    let kinds: BTreeSet<&str> = HANDLERS.iter().map(|spec| spec.kind).collect();
    assert_eq!(table, kinds);
    for row in &rows {
        assert!(
            row.handler.starts_with(&format!("{{ {}: ", row.kind)),
            "{}: {}",
            row.kind,
            row.handler
        );
        let link = row.cell.split("](").nth(1).and_then(|rest| rest.split(')').next());
        let link = link.unwrap_or_else(|| panic!("no link: {}", row.cell));
        assert!(root(link).exists(), "{link}");
    }
    // Those that are run by other tests here; a row that is added needs one too.
    assert_eq!(rows.len(), 12);
}

#[test]
fn command() {
    on_both(|connection| {
        let row = row("command", false);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuecommand", "demo", "app:mail", "ann"]);
        one_is_done(&place, &row);
        assert_eq!(place.read("ran"), "app:mail ann\n");
    });
}

#[test]
fn command_with_workers() {
    on_both(|connection| {
        let row = row("command", true);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuecommand", "demo", "app:mail", "ann"]);
        one_is_done(&place, &row);
        assert_eq!(place.read("ran"), "", "a worker took it, not a process");
    });
}

#[test]
fn exec() {
    on_both(|connection| {
        let row = row("exec", false);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuemessage", "demo", "b\na\n"]);
        let run = one_is_done(&place, &row);
        let (a, b) = (run.stderr.find("INFO a"), run.stderr.find("INFO b"));
        assert!(a.is_some() && a < b, "sorted: {}", run.stderr);
    });
}

#[test]
fn exec_with_workers() {
    on_both(|connection| {
        let row = row("exec", true);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuemessage", "demo", "hello"]);
        one_is_done(&place, &row);
    });
}

#[test]
fn service() {
    on_both(|connection| {
        let row = row("service", false);
        let place = place(connection, &row, &[]);
        let call = [
            "queuemessage",
            "--kind",
            "service",
            "demo",
            "logger",
            "log",
            "info",
            "hi",
        ];
        queue(&place, call);
        one_is_done(&place, &row);
    });
}

#[test]
fn http() {
    on_both(|connection| {
        let row = row("http", false);
        // A host of this machine is inside the fence.
        let here = [("[api.example.org]", "[127.0.0.1], private: allow")];
        let place = place(connection, &row, &here);
        let peer = Peer::new(&place);
        queue(&place, ["queuemessage", "--kind", "http", "demo", &peer.url("/fine")]);
        one_is_done(&place, &row);
        assert_eq!(peer.seen().len(), 1);
    });
}

#[test]
fn webhook() {
    on_both(|connection| {
        let row = row("webhook", false);
        // Before the server runs, which needs the place.
        let place = place(connection, &row, &[]);
        let peer = Peer::new(&place);
        let config = place.read("qctl.yml");
        let here = config.replace("https://hooks.example.org/mail", &peer.url("/fine"));
        assert_ne!(here, config);
        place.write("qctl.yml", here);
        queue(&place, ["queuemessage", "demo", "hello"]);
        one_is_done(&place, &row);
        assert_eq!(peer.seen().len(), 1);
    });
}

#[test]
fn xmlrpc() {
    on_both(|connection| {
        let row = row("xmlrpc", false);
        let here = [("[rpc.example.org]", "[127.0.0.1], private: allow")];
        let place = place(connection, &row, &here);
        let peer = Peer::new(&place);
        let server = format!("http://127.0.0.1:{}/", peer.rpc);
        let call = ["queuemessage", "--kind", "xmlrpc", "demo", &server, "sum", "1", "2"];
        queue(&place, call);
        one_is_done(&place, &row);
    });
}

#[test]
fn fastcgi() {
    on_both(|connection| {
        let row = row("fastcgi", false);
        let place = place(connection, &row, &[]);
        let _php = Php::start(&place, "");
        let config = place.read("qctl.yml");
        let here = config
            .replace("/run/php/php-fpm.sock", php::socket(&place).to_str().unwrap())
            .replace("/srv/app/worker.php", place.path("worker.php").to_str().unwrap());
        assert_ne!(here, config);
        place.write("qctl.yml", here);
        place.write(
            "worker.php",
            "<?php file_put_contents(__DIR__ . '/seen', file_get_contents('php://input'));",
        );
        queue(&place, ["queuemessage", "demo", "hello"]);
        one_is_done(&place, &row);
        assert_eq!(place.read("seen"), "hello");
    });
}

#[test]
fn print() {
    on_both(|connection| {
        let row = row("print", false);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuemessage", "demo", "hello"]);
        let run = one_is_done(&place, &row);
        let message: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(message["body"], "hello");
    });
}

#[test]
fn noop() {
    on_both(|connection| {
        let row = row("noop", false);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuemessage", "demo", "hello"]);
        one_is_done(&place, &row);
    });
}

#[test]
fn elsewhere() {
    on_both(|connection| {
        let row = row("elsewhere", false);
        let place = place(connection, &row, &[]);
        queue(&place, ["queuemessage", "demo", "hello"]);
        place
            .run(["consumer", "--until-empty", "demo"])
            .code(78)
            .stderr_contains("the messages are taken by the billing application")
            .check();
        let info = place.json(["managequeue", "info", "demo"]);
        assert_eq!(info["ready"], 1, "{info}");
    });
}
