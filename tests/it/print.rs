//! The handler `print`: what is on standard output, and what becomes of messages when it cannot be written.

use std::fmt::Write as _;
use std::fs::File;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, may_mount, wait_for};

fn place(format: &str) -> Place {
    Place::with_config(&format!(
        "connections: {{ local: 'sqlite://./queue.db' }}\nproducers: {{ look: {{}} }}\nconsumers: {{ look: {{ handler: {format} }} }}\n"
    ))
}

fn queue(place: &Place, lines: &str) {
    place
        .run(["-q", "queuemessage", "--lines", "look"])
        .stdin(lines)
        .any_stdout()
        .check();
}

fn ready(place: &Place) -> u64 {
    let info = place.json(["managequeue", "info", "look"]);
    assert_eq!(info["held"], 0, "{info}");
    info["ready"].as_u64().unwrap()
}

/// Runs a line of shell in which `qctl` is the program; for its standard output and standard error. It must succeed, every
/// program of a pipe.
fn shell(place: &Place, line: &str) -> (String, String) {
    let line = line.replace("qctl", env!("CARGO_BIN_EXE_qctl"));
    let output = place
        .command_of("bash")
        .args(["-c", &format!("set -o pipefail; {line}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{stdout}\n{stderr}", output.status);
    (stdout, stderr)
}

fn numbers(count: usize) -> String {
    (0..count).fold(String::new(), |mut lines, number| {
        let _ = writeln!(lines, "{number}");
        lines
    })
}

#[test]
fn text_is_the_default_and_drives_no_terminal() {
    let place = place("print");
    place
        .run(["-q", "queuemessage", "-c", "text/plain", "look", "a\x1b[31mb\nc"])
        .any_stdout()
        .check();
    let run = place
        .run(["consumer", "--until-empty", "look"])
        .any_stdout()
        .stderr_contains("(1 done, 0 not)")
        .check();
    let (id, rest) = run.stdout.split_once(' ').unwrap();
    assert_eq!(rest, "look text/plain a[31mb c\n");
    assert!(run.stderr.contains(id), "{}", run.stderr);
}

#[test]
fn json_is_read_by_jq_a_line_at_a_time() {
    let place = place("{ print: { format: json } }");
    queue(&place, "one\ntwo \"2\"\nthrée\n");
    place
        .run(["-q", "queuemessage", "--header", "n=5", "look", "-"])
        .stdin(b"\xff\x00".to_vec())
        .any_stdout()
        .check();
    let (stdout, _) = shell(
        &place,
        "qctl -q consumer --until-empty look | jq -r '[.queue, .attempt, .body, .body_base64] | @csv'",
    );
    assert_eq!(
        stdout,
        "\"look\",0,\"one\",\n\"look\",0,\"two \"\"2\"\"\",\n\"look\",0,\"thrée\",\n\"look\",0,,\"/wA=\"\n"
    );
}

#[test]
fn json_tells_all_that_is_known() {
    let place = place("{ print: { format: json } }");
    place
        .run([
            "-q",
            "queuemessage",
            "--header",
            "colour=red",
            "-c",
            "text/plain",
            "look",
            "x",
        ])
        .any_stdout()
        .check();
    let run = place
        .run(["-q", "consumer", "--until-empty", "look"])
        .any_stdout()
        .any_stderr()
        .check();
    let message: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(message["headers"]["colour"], "red");
    assert_eq!(message["content_type"], "text/plain");
    assert_eq!(message["body"], "x");
    assert!(message["id"].is_string() && message["timestamp"].is_i64(), "{message}");
}

#[test]
fn a_body_is_printed_byte_for_byte_in_the_order_of_the_queue() {
    let place = place("{ print: { format: body } }");
    for further in [&[][..], &["--prefetch", "700"]] {
        let lines = numbers(3000);
        queue(&place, &lines);
        let run = place
            .run(["-q", "consumer", "--until-empty", "look"])
            .args(further)
            .any_stdout()
            .any_stderr()
            .check();
        assert!(run.stdout == lines, "{further:?}: {}", run.stdout);
    }
    let bytes: Vec<u8> = (0..=255).collect();
    place
        .run(["-q", "queuemessage", "look", "-"])
        .stdin(bytes.clone())
        .any_stdout()
        .check();
    let run = place
        .run(["-q", "consumer", "--until-empty", "look"])
        .any_stdout()
        .any_stderr()
        .check();
    assert_eq!(run.stdout_bytes, [bytes, b"\n".to_vec()].concat());
}

/// Longer than a pipe holds, so that most are not written when the reader leaves.
#[test]
fn a_reader_that_has_seen_enough_ends_the_consumer_with_success_and_the_rest_is_there_still() {
    let place = place("{ print: { format: body } }");
    let body = "x".repeat(10_000);
    queue(&place, &format!("{body}\n").repeat(300));
    // No limit: only the reader's leaving can end it.
    let (stdout, stderr) = shell(&place, "qctl consumer look | head -1");
    assert_eq!(stdout, format!("{body}\n"));
    assert!(
        stderr.contains("Stopped because: nobody reads standard output any more ("),
        "{stderr}"
    );
    assert!(!stderr.contains("WARN") && !stderr.contains("ERROR"), "{stderr}");
    let done: u64 = {
        let (_, told) = stderr.rsplit_once("any more (").unwrap();
        told.split(' ').next().unwrap().parse().unwrap()
    };
    // Of what was given back nothing is counted as failed or lost.
    assert!(stderr.contains(" done, 0 not)"), "{stderr}");
    assert!((1..=20).contains(&done), "{done}");
    assert_eq!(ready(&place), 300 - done);
    let messages = place.json(["managequeue", "peek", "--limit", "100", "look"]);
    let messages = messages.as_array().unwrap();
    assert!(!messages.is_empty());
    assert!(messages.iter().all(|message| message["attempt"] == 0), "{messages:?}");
}

#[test]
fn one_that_left_before_the_first_message_ends_it_too() {
    let place = place("print");
    queue(&place, "a\nb\n");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = place
        .command()
        .args(["-q", "consumer", "look"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(ready(&place), 2);
}

/// The consumer's own loop never waits for the reader.
#[test]
fn a_reader_that_does_not_read_keeps_nobody_from_stopping_the_consumer() {
    let place = place("{ print: { format: body } }");
    queue(&place, &format!("{}\n", "x".repeat(100_000)).repeat(5));
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = place.command();
    command.args(["consumer", "look"]);
    let log = place.path("log");
    let mut consumer = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    drop(command);
    let says = |text: &str| wait_for(text, || place.read("log").contains(text));
    wait_for("a full pipe", || rustix::io::ioctl_fionread(&reader).unwrap() >= 4096);
    let pid = rustix::process::Pid::from_child(&consumer);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    says("what runs is finished");
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(consumer.wait().unwrap().code(), Some(130), "{}", place.read("log"));
    assert_eq!(ready(&place), 5);
}

#[test]
fn a_full_disk_costs_no_message_and_no_attempt() {
    if !may_mount("print::a_full_disk_costs_no_message_and_no_attempt") {
        return;
    }
    let place = place("{ print: { format: body } }");
    let disk = place.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&disk)
        .status()
        .unwrap();
    assert!(mounted.success());
    let body = "x".repeat(1000);
    queue(&place, &format!("{body}\n").repeat(100));
    let mut consumer = place
        .command()
        .args(["consumer", "--until-empty", "look"])
        .stdin(Stdio::null())
        .stdout(File::create(disk.join("out")).unwrap())
        .stderr(File::create(place.path("log")).unwrap())
        .spawn()
        .unwrap();
    wait_for("the full disk", || place.read("log").contains("short of something"));
    let grown = Command::new("mount")
        .args(["-o", "remount,size=1m"])
        .arg(&disk)
        .status()
        .unwrap();
    assert!(grown.success());
    assert_eq!(consumer.wait().unwrap().code(), Some(0), "{}", place.read("log"));
    assert!(place.read("log").contains("(100 done, 0 not)"), "{}", place.read("log"));
    let out = place.read("disk/out");
    let whole = out.lines().filter(|line| *line == body).count();
    assert_eq!(whole, 100, "every message stands there whole, once");
    assert!(out.lines().count() <= 101, "and at most one was cut off");
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
}

#[test]
fn what_cannot_be_written_at_all_ends_it_with_72() {
    let place = place("print");
    queue(&place, "a\n");
    let read_only = File::open("/dev/null").unwrap();
    let output = place
        .command()
        .args(["consumer", "look"])
        .stdin(Stdio::null())
        .stdout(read_only)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(72), "{stderr}");
    assert!(stderr.contains("standard output cannot be written"), "{stderr}");
    assert_eq!(ready(&place), 1);
}

#[test]
fn an_unknown_form_is_refused() {
    let place = place("{ print: { format: xml } }");
    place
        .run(["config", "check"])
        .code(78)
        .any_stdout()
        .stderr_contains("text")
        .check();
}
