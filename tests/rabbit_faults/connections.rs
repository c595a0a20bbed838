//! Connections that are cut, stand still, or are taken and never answered.

use std::fs;
use std::time::Duration;

use crate::ground::{Consumer, Ground, Load, Setup, ids, lines};
use crate::rabbit::{Proxy, Rabbit};
use crate::support::wait_for;

fn through<'a>(proxy: &Proxy, consumer: &'a str) -> Setup<'a> {
    Setup {
        through: Some(proxy.address()),
        connection: "heartbeat: 1s",
        consumer,
        ..Setup::default()
    }
}

/// A connection that is cut again and again under load: everything is handled, each cut costs at most what the consumer held,
/// and is one line of the log.
#[test]
fn a_connection_cut_under_load_loses_nothing() {
    const CUTS: usize = 4;
    const SLOTS: usize = 3;
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let ground = Ground::new(rabbit.vhost(), &through(&proxy, ""));
    let consumer = ground.consumer(3);
    let load = Load::start(&ground);
    for cut in 1..=CUTS {
        load.goes_on(10);
        wait_for("messages to be handled", || ground.times("-slow-1") > 0);
        proxy.cut();
        consumer.wait_consuming(cut + 1);
    }
    let (confirmed, offered) = load.stop();
    assert_eq!(confirmed, offered, "those who send are not concerned");
    ground.wait_empty();
    ground.consumes("afterwards");
    ground.wait_empty();
    let all = [confirmed, vec!["afterwards".to_owned()]].concat();
    // A quick handler takes ahead, at most twice sixteen a slot.
    ground.reckon(&all, CUTS * SLOTS * 33);
    assert_eq!(
        consumer.lines("connection lost; connecting again"),
        CUTS,
        "{}",
        consumer.stderr()
    );
    consumer.stop();
}

/// A connection on which nothing comes any more is given up within two heartbeats (and half a one more, where they are of a
/// second), what runs is ended, and the consumer goes on where there is an answer.
#[test]
fn a_connection_that_stands_still_is_noticed_and_left() {
    let rabbit = Rabbit::main();
    for hold in [Proxy::hold, Proxy::hold_to_client] {
        let proxy = Proxy::new(rabbit.amqp());
        let ground = Ground::new(rabbit.vhost(), &through(&proxy, ""));
        let consumer = ground.consumer(2);
        ground.send("hold-a\n");
        ground.wait_times("+hold-a", 1);
        hold(&proxy);
        let noticed = consumer.wait_line("connection lost");
        assert!(noticed < Duration::from_millis(3500), "{noticed:?}");
        assert!(
            consumer
                .stderr()
                .contains("the broker has sent nothing for two heartbeats")
        );
        consumer.said_once("connection lost; connecting again");
        proxy.cut();
        proxy.pass();
        ground.wait_times("+hold-a", 2);
        ground.ends_well(consumer);
    }
}

/// A wire on which acks go out and no answers come back: what was handled is not said to be done, and at most handled again.
#[test]
fn an_ack_without_an_answer_is_no_success() {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let ground = Ground::new(rabbit.vhost(), &through(&proxy, ""));
    let consumer = ground.consumer(1);
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    // Not a byte of the ack reaches the broker, so it hands the message out again.
    proxy.hold();
    ground.let_go("hold-a");
    ground.wait_times("-hold-a", 1);
    consumer.wait_line("not settled; the message comes back");
    assert_eq!(consumer.lines(" done "), 0, "{}", consumer.stderr());
    proxy.cut();
    proxy.pass();
    ground.wait_times("-hold-a", 2);
    ground.wait_empty();
    ground.reckon(&["hold-a".to_owned()], 1);
    consumer.stop();
}

/// While nothing listens the consumer tries again, each time later, in one line each, and goes on when there is somebody.
#[test]
fn a_refused_connection_is_tried_again() {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let ground = Ground::new(rabbit.vhost(), &through(&proxy, ""));
    let consumer = ground.consumer(1);
    proxy.refuse();
    proxy.cut();
    wait_for("several tries", || consumer.lines("connection refused") >= 3);
    let log = consumer.stderr();
    let waits: Vec<u64> = log
        .lines()
        .filter_map(|line| line.split_once("wait_ms=")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    assert_eq!(
        log.lines().filter(|line| line.contains("WARN")).count(),
        waits.len(),
        "{log}"
    );
    proxy.pass();
    ground.consumes("afterwards");
    ground.wait_empty();
    ground.reckon(&["afterwards".to_owned()], 0);
    consumer.stop();
}

/// A proxy that takes connections and never answers, tried many times: neither threads nor open files are left of them.
#[test]
fn connections_that_are_never_answered_leave_nothing_behind() {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    proxy.hold();
    let ground = Ground::new(rabbit.vhost(), &through(&proxy, ""));
    // Thirty hosts at each try, all of them this one.
    let one = proxy.address().to_string();
    let many = vec![one.as_str(); 30].join(",");
    ground.write("qctl.yml", ground.read("qctl.yml").replace(&one, &many));
    let consumer = Consumer::of(ground.start(["--connect-timeout", "1", "consumer", "demo"]));
    let after_tries = |count: usize| {
        consumer.wait_lines("none of 30 hosts can be used", count);
        let pid = consumer.pid();
        (status(pid, "Threads"), files(pid), status(pid, "VmRSS"))
    };
    let first = after_tries(1);
    let last = after_tries(4);
    eprintln!("threads, files, KiB: {first:?} after 30 connections, {last:?} after 120");
    assert!(last.0 <= first.0 + 1, "threads: {first:?}, then {last:?}");
    assert!(last.1 <= first.1 + 2, "open files: {first:?}, then {last:?}");
    // In a debug build some megabytes come and go; what a connection keeps would be more.
    assert!(last.2 <= first.2 + 16384, "memory: {first:?}, then {last:?}");
    proxy.pass();
    ground.consumes("afterwards");
    ground.wait_empty();
    consumer.stop();
}

/// A number of the kernel's; memory is in KiB.
fn status(pid: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':')
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Children that take several heartbeats keep no heartbeat from going out, nor does a handler that is waited for.
#[test]
fn heartbeats_go_on_while_a_handler_works() {
    let rabbit = Rabbit::main();
    let proxy = Proxy::new(rabbit.amqp());
    let ground = Ground::new(rabbit.vhost(), &through(&proxy, ""));
    let consumer = ground.consumer(1);
    ground.send("hold-a\n");
    ground.wait_times("+hold-a", 1);
    // The broker gives a client up after two heartbeats, and this is the fault itself: time that passes.
    std::thread::sleep(Duration::from_millis(3500));
    ground.let_go("hold-a");
    ground.wait_times("-hold-a", 1);
    ground.wait_empty();
    ground.send(&lines(&ids("more", 3)));
    ground.wait_times("-more-3", 1);
    assert_eq!(consumer.lines(" consuming "), 1, "{}", consumer.stderr());
    assert_eq!(consumer.lines("WARN"), 0, "{}", consumer.stderr());
    consumer.stop();
}
