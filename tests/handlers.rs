//! The handlers that run children, through the library's front door.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qctl::ErrorKind;
use qctl::consumer::{Call, ExitCodes, Handler, Outcome, Report};
use qctl::handlers::command::{CommandHandler, CommandSettings};
use qctl::handlers::exec::{Exec, ExecSettings};
use qctl::handlers::noop::Noop;
use qctl::handlers::{BodyWay, CommandEntry, Commands, DashArguments, HandlerContext, Mode, Pattern};
use qctl::process::ChildOutput;
use qctl::queue::{Lifeline, Message};
use qctl::residents::WorkerSettings;
use tokio_util::sync::CancellationToken;

fn context(commands: Commands) -> HandlerContext {
    HandlerContext::new(
        Arc::new(commands),
        ExitCodes::default(),
        PathBuf::from(env!("CARGO_BIN_EXE_qctl")),
        2,
    )
}

fn lifeline(token: &str) -> Lifeline {
    Lifeline {
        token: format!("{token}-{}", std::process::id()),
        file: None,
        socket: None,
    }
}

fn call(message: Message) -> Call {
    Call {
        message,
        queue: "mail".to_owned(),
        exchange: "news".to_owned(),
        attempt: 1,
        deliveries: Some(2),
        cancel: CancellationToken::new(),
        patience: None,
        output_wanted: true,
    }
}

fn exec(run: &[&str]) -> ExecSettings {
    ExecSettings {
        place: "consumers.mail.handler.exec".to_owned(),
        run: run.iter().map(|word| (*word).to_owned()).collect(),
        timeout: Some(Duration::from_secs(20)),
        env: vec![("EXTRA".to_owned(), "more".to_owned())],
        cwd: None,
        output: ChildOutput::default(),
        mode: Mode::Process,
        body: BodyWay::default(),
        workers: WorkerSettings::default(),
    }
}

fn done(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Done(report) => report,
        other => panic!("not done: {other:?}"),
    }
}

fn rejected(outcome: Outcome) -> String {
    match outcome {
        Outcome::Reject(failure) => failure.reason,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Commands that print each of their words on a line of its own.
fn printing(allow: &[&str]) -> Commands {
    Commands {
        entries: vec![CommandEntry {
            name: "print".to_owned(),
            run: vec!["printf".to_owned(), "%s\\n".to_owned()],
            allow: allow.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
            env: vec![],
            cwd: None,
            worker: None,
            dash_arguments: DashArguments::Refuse,
        }],
    }
}

fn json(body: &str) -> Call {
    call(Message::new(body).with_content_type("application/json"))
}

#[tokio::test]
async fn exec_gives_body_and_facts_to_its_program() {
    let script = "cat; echo; echo $QCTL_QUEUE $QCTL_EXCHANGE $QCTL_ROUTING_KEY $QCTL_ATTEMPT $QCTL_DELIVERIES $EXTRA; \
                  echo $QCTL_MESSAGE; echo $QCTL_OWNER";
    let handler = Exec::new(exec(&["sh", "-c", script]), &context(Commands::default()));
    let lifeline = lifeline("facts");
    handler.prepare(&lifeline).await.unwrap();
    let message = Message::new("the body")
        .with_routing_key("a.b")
        .with_header("colour", "red");
    let report = done(handler.handle(call(message)).await);
    let text = String::from_utf8(report.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["the body", "mail news a.b 1 2 more"]);
    let facts: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(
        (facts["queue"].as_str(), facts["headers"]["colour"].as_str()),
        (Some("mail"), Some("red"))
    );
    assert_eq!(lines[3], lifeline.token);
    handler.finish().await;
}

#[tokio::test]
async fn no_output_wanted_keeps_no_output_but_the_last_of_its_errors() {
    let handler = Exec::new(
        exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]),
        &context(Commands::default()),
    );
    let mut call = call(Message::new(""));
    call.output_wanted = false;
    let Outcome::Retry(failure) = handler.handle(call).await else {
        panic!("not a retry")
    };
    assert_eq!((failure.reason.as_str(), failure.by_signal), ("exit code 3", false));
    assert_eq!(
        (failure.report.stdout.len(), failure.report.stderr_tail.as_str()),
        (0, "err")
    );
}

#[tokio::test]
async fn deaths_by_signal_and_time_outs_are_told_apart() {
    let handler = Exec::new(exec(&["sh", "-c", "kill -9 $$"]), &context(Commands::default()));
    let Outcome::Retry(failure) = handler.handle(call(Message::new(""))).await else {
        panic!("not a retry")
    };
    assert_eq!(
        (failure.reason.as_str(), failure.by_signal),
        ("killed by SIGKILL", true)
    );
    let mut settings = exec(&["sleep", "600"]);
    settings.timeout = Some(Duration::from_millis(50));
    let handler = Exec::new(settings, &context(Commands::default()));
    let Outcome::Retry(failure) = handler.handle(call(Message::new(""))).await else {
        panic!("not a retry")
    };
    assert_eq!(
        (failure.reason.as_str(), failure.by_signal),
        ("timed out after 50ms", false)
    );
}

#[tokio::test]
async fn a_cancelled_call_ends_its_child() {
    let handler = Exec::new(exec(&["sleep", "600"]), &context(Commands::default()));
    let call = call(Message::new(""));
    let cancel = call.cancel.clone();
    let (outcome, ()) = tokio::join!(handler.handle(call), async { cancel.cancel() });
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_fault_of_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker");
    let name = path.to_str().unwrap();
    let handler = Exec::new(exec(&[name]), &context(Commands::default()));
    let error = handler.prepare(&lifeline("fault")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    let expected = format!("consumers.mail.handler.exec.run: {name} does not exist");
    assert!(error.to_string().starts_with(&expected), "{error}");

    fs::write(&path, "#!/bin/sh\n").unwrap();
    let error = handler.prepare(&lifeline("fault")).await.unwrap_err();
    assert!(error.to_string().contains("is not executable"), "{error}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    handler.prepare(&lifeline("fault")).await.unwrap();
    done(handler.handle(call(Message::new(""))).await);

    // It goes missing while the consumer runs.
    fs::remove_file(&path).unwrap();
    let outcome = handler.handle(call(Message::new(""))).await;
    assert!(
        matches!(&outcome, Outcome::WorkerFault(reason) if reason.contains("does not exist")),
        "{outcome:?}"
    );
    handler.finish().await;
}

#[tokio::test]
async fn a_guardian_that_cannot_start_is_a_fault_too() {
    let known = context(Commands::default());
    let context = HandlerContext::new(known.commands, known.exit_codes, "/no/such/qctl".into(), 1);
    let handler = Exec::new(exec(&["true"]), &context);
    let error = handler.prepare(&lifeline("guardian")).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::WorkerFault && error.to_string().contains("guardian"),
        "{error}"
    );
}

#[tokio::test]
async fn command_runs_what_is_allowed_word_for_word() {
    let handler = CommandHandler::new(CommandSettings::default(), &context(printing(&["app:*"])));
    handler.prepare(&lifeline("command")).await.unwrap();
    let body =
        r#"{"command":"app:mail","arguments":["a b","$(id)","; ls",7],"options":{"f":"x y","env":"prod","v":null}}"#;
    let report = done(handler.handle(json(body)).await);
    let text = String::from_utf8(report.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["app:mail", "a b", "$(id)", "; ls", "7", "-fx y", "--env=prod", "-v"]
    );
    handler.finish().await;
}

#[tokio::test]
async fn command_refuses_what_is_wrong_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let trap = folder.path().join("P");
    let handler = CommandHandler::new(CommandSettings::default(), &context(printing(&["app:*"])));
    let injection = format!(
        r#"{{"command":"app:x","options":{{"x; touch {}; #":null}}}}"#,
        trap.display()
    );
    let big = format!(r#"{{"command":"app:x","arguments":["{}"]}}"#, "x".repeat(5 << 20));
    let long = format!(r#"{{"command":"app:x","arguments":["{}"]}}"#, "x".repeat(3 << 20));
    for (body, expected) in [
        ("no json", "not JSON"),
        (r#"{"arguments":[]}"#, "no \"command\""),
        (r#"{"command":"rm"}"#, "\"rm\" is not allowed"),
        (r#"{"command":"app:x","arguments":["--env=x"]}"#, "begins with a dash"),
        (r#"{"command":"app:x","arguments":["a\u0000"]}"#, "NUL byte"),
        (&injection, "option name"),
        (&big, "no more than 4194304 are read here"),
        (&long, "too big for"),
    ] {
        let reason = rejected(handler.handle(json(body)).await);
        assert!(reason.contains(expected), "{reason}: {expected}");
    }
    assert!(!trap.exists());
    let other = call(Message::new(r#"{"command":"app:x"}"#).with_content_type("vnd.php.serialized"));
    assert!(rejected(handler.handle(other).await).contains("vnd.php.serialized"));
    // A body without a content type is taken for what it must be.
    done(handler.handle(call(Message::new(r#"{"command":"app:x"}"#))).await);
}

#[tokio::test]
async fn command_can_be_restricted_to_some_entries() {
    let settings = CommandSettings {
        commands: Some(vec!["print".to_owned()]),
        ..CommandSettings::default()
    };
    let handler = CommandHandler::new(settings, &context(printing(&["app:*"])));
    done(handler.handle(json(r#"{"command":"app:x"}"#)).await);
    assert!(rejected(handler.handle(json(r#"{"command":"echoback"}"#)).await).contains("not allowed"));
    let settings = CommandSettings {
        commands: Some(vec!["echoback".to_owned()]),
        ..CommandSettings::default()
    };
    let handler = CommandHandler::new(settings, &context(printing(&["app:*"])));
    assert!(rejected(handler.handle(json(r#"{"command":"app:x"}"#)).await).contains("not allowed"));
}

#[tokio::test]
async fn command_names_the_entry_whose_program_is_missing() {
    let mut commands = printing(&["app:*"]);
    commands.entries[0].run = vec!["/no/such/console".to_owned()];
    let handler = CommandHandler::new(CommandSettings::default(), &context(commands));
    let error = handler.prepare(&lifeline("entry")).await.unwrap_err();
    assert_eq!(error.exit_code(), 72);
    assert!(
        error
            .to_string()
            .starts_with("commands.print.run: /no/such/console does not exist"),
        "{error}"
    );
}

#[tokio::test]
async fn children_carry_the_mark_of_the_latest_lifeline() {
    let handler = Exec::new(exec(&["printenv", "QCTL_OWNER"]), &context(Commands::default()));
    for token in ["one", "one", "two"] {
        let lifeline = lifeline(token);
        handler.prepare(&lifeline).await.unwrap();
        let report = done(handler.handle(call(Message::new(""))).await);
        assert_eq!(String::from_utf8(report.stdout).unwrap().trim(), lifeline.token);
    }
    handler.finish().await;
}

#[tokio::test]
async fn noop_is_done_at_once() {
    assert!(Noop.in_process());
    assert_eq!(done(Noop.handle(call(Message::new("x"))).await), Report::default());
}
