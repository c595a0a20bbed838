//! What the broker takes away under a running consumer: its queue, its login, its password, its permissions.

use rustix::process::Signal;
use serde_json::json;

use crate::ground::{Ground, Setup, ids, lines};
use crate::rabbit::Rabbit;
use crate::support::wait_for;

fn ground() -> Ground {
    Ground::new(Rabbit::main().vhost(), &Setup::default())
}

/// A queue that is deleted under its consumer is declared again and consumed, busy or not.
#[test]
fn a_deleted_queue_is_made_anew() {
    let ground = ground();
    let consumer = ground.consumer(2);
    ground.vhost.delete_queue("demo");
    consumer.wait_consuming(2);
    consumer.said_once("the broker has ended the subscription, because the queue was deleted");
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    let child = ground.child("hold-a");
    ground.vhost.delete_queue("demo");
    consumer.wait_consuming(3);
    assert!(!crate::support::is_running(child), "its message is gone, and so is it");
    assert_eq!(consumer.lines(" done "), 0, "{}", consumer.stderr());
    ground.consumes("afterwards");
    ground.wait_empty();
    assert_eq!(
        consumer.lines("connection lost; connecting again"),
        2,
        "{}",
        consumer.stderr()
    );
    consumer.stop();
}

/// A login that is deleted, and cannot log in for a while, is waited for.
#[test]
fn a_login_that_is_revoked_is_waited_for() {
    let ground = ground();
    let mut consumer = ground.consumer(1);
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    ground.vhost.delete_user();
    wait_for("it to be refused twice", || {
        consumer.lines("the broker refuses this login; check login and password") >= 2
    });
    assert!(!consumer.has_ended(), "{}", consumer.stderr());
    ground.vhost.set_password(ground.vhost.password());
    ground.vhost.permit(".*", ".*", ".*");
    ground.wait_times("+hold-a", 2);
    ground.ends_well(consumer);
}

/// A password in a file is read again at each connect, and a file that is away for a moment is waited for.
#[test]
fn a_password_that_changes_is_read_again() {
    let ground = ground();
    let password = ground.vhost.password().to_owned();
    ground.write("password", &password);
    let config = ground.read("qctl.yml");
    let through = format!("through: {{ url: '{}'", ground.vhost.url());
    let without = through.replace(&format!(":{password}@"), "@") + ", password_file: ./password";
    assert!(config.contains(&through));
    ground.write("qctl.yml", config.replace(&through, &without));
    let consumer = ground.consumer(1);
    ground.vhost.set_password("changed-b7e1");
    wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
    consumer.wait_line("the broker refuses this login");
    std::fs::remove_file(ground.path("password")).unwrap();
    wait_for("the missing file to be told of", || {
        consumer.lines("./password") > 0 || consumer.lines("/password") > 0
    });
    ground.write("password", "changed-b7e1\n");
    consumer.wait_consuming(2);
    assert_eq!(ground.vhost.rabbit().log().matches("changed-b7e1").count(), 0);
    assert!(!consumer.stderr().contains(&password), "no secret in the log");
    consumer.stop();
}

/// Permissions that are gone are waited for too.
#[test]
fn permissions_that_are_taken_away_are_waited_for() {
    let ground = ground();
    let mut consumer = ground.consumer(1);
    ground.vhost.permit("", "", "");
    wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
    wait_for("it to be refused twice", || {
        consumer.lines("give the login permissions") >= 2
    });
    assert!(!consumer.has_ended(), "{}", consumer.stderr());
    ground.vhost.permit(".*", ".*", ".*");
    ground.consumes("afterwards");
    ground.wait_empty();
    consumer.stop();
}

/// Whoever is alive to take it again knows that none of it has killed its consumer: it is not handled one by one.
#[test]
fn what_was_in_hand_at_a_cut_comes_back_beside_each_other() {
    for queue in [
        "",
        "{ name: demo, arguments: { x-queue-type: quorum, x-delivery-limit: 20 } }",
    ] {
        let ground = Ground::new(
            Rabbit::main().vhost(),
            &Setup {
                queue,
                ..Setup::default()
            },
        );
        let consumer = ground.consumer(5);
        let held: Vec<String> = ids("hold", 5);
        ground.send(&lines(&held));
        for id in &held {
            ground.wait_times(&format!("+{id}"), 1);
        }
        wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
        for id in &held {
            ground.wait_times(&format!("+{id}"), 2);
        }
        for id in &held {
            ground.let_go(id);
        }
        ground.wait_empty();
        ground.reckon(&held, 0);
        consumer.stop();
    }
}

/// A paused consumer has nothing on its channel that could tell of its end.
#[test]
fn a_paused_consumer_whose_connection_is_closed_comes_back() {
    let ground = ground();
    let consumer = ground.consumer(1);
    ground
        .run(["managequeue", "pause", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
    consumer.wait_line("connection lost");
    ground
        .run(["managequeue", "resume", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    ground.consumes("afterwards");
    consumer.stop();
}

/// Nor has one that takes nothing more because it ends: what it handles is ended before its copy begins elsewhere.
#[test]
fn what_is_finished_at_the_end_never_runs_beside_its_copy() {
    let ground = ground();
    let ending = ground.consumer(1);
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    ending.signal(rustix::process::Signal::TERM);
    ending.wait_line("stopping");
    let next = ground.consumer(1);
    wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
    ground.wait_times("+hold-a", 2);
    ground.let_go("hold-a");
    ground.wait_empty();
    ground.no_overlaps();
    next.stop();
}

/// The broker closes a connection as an administrator asks it to.
#[test]
fn a_connection_that_an_administrator_closes_is_made_anew() {
    let ground = ground();
    let consumer = ground.consumer(1);
    wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
    consumer.wait_consuming(2);
    consumer.said_once("connection lost; connecting again");
    ground.consumes("afterwards");
    consumer.stop();
}

/// A login that may have no more connections is told so, and goes on when it may.
#[test]
fn a_limit_of_connections_is_told_as_what_it_is() {
    let ground = ground();
    let limit = |most: i64| {
        let user = crate::rabbit::segment(ground.vhost.user());
        let path = format!("user-limits/{user}/max-connections");
        ground.vhost.rabbit().management().put(&path, &json!({"value": most}));
    };
    limit(0);
    ground
        .run(["queuemessage", "demo", "x"])
        .code(69)
        .stderr_contains("connection limit")
        .check();
    limit(-1);
    let mut consumer = ground.consumer(1);
    limit(0);
    wait_for("the connection to be listed", || ground.vhost.close_connections() > 0);
    consumer.wait_line("connection limit");
    limit(-1);
    ground.consumes("afterwards");
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
}
