//! The rules of `qctl::queue`, one function each, and what else a configuration may count on with every driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use qctl::ErrorKind;
use qctl::queue::message::header;
use qctl::queue::{
    Binding, DeadLetter, Delete, Exchange, ExchangeKind, HeaderValue, Headers, LookPrice, Message, Peek, PeekState,
    Publication, Purge, Queue, Redrive, Selection, Settlement, Topology,
};

use crate::subject::{
    SOON, Subject, consume, declare, nothing_comes, publish, queue, settle, take, take_one, take_some, text, texts,
    to_queue,
};

/// Lists all rules; a rule that is not in this list is a warning about dead code, and those are errors here.
macro_rules! for_each_rule {
    ($subject:path) => {
        $crate::rules::each!($subject;
            rule_01_publish_returns_when_the_broker_has_it,
            rule_01_an_unroutable_message_is_an_error,
            rule_02_taking_is_cancel_safe,
            rule_02_what_is_on_its_way_is_told,
            rule_03_a_delivery_dropped_unsettled_comes_back,
            rule_04_settling_what_is_no_longer_ours_is_delivery_lost,
            rule_05_at_most_prefetch_deliveries_are_out,
            rule_06_bodies_and_headers_come_back_byte_for_byte,
            rule_06_a_body_over_the_limit_is_refused_before_sending,
            rule_07_what_is_denied_is_unsupported,
            rule_07_an_unknown_argument_is_unsupported,
            rule_08_first_in_first_out_and_higher_priority_first,
            rule_08_expired_messages_are_dead_lettered_and_a_retry_extends_nothing,
            rule_09_a_retry_is_delayed,
            rule_10_deliveries_are_counted_across_a_death,
            rule_10_what_a_dead_consumer_had_begun_is_handed_out_alone,
            exchanges_route_as_in_amqp,
            a_rejected_message_is_dead_lettered_with_its_reason,
            a_released_message_is_untouched,
            a_delayed_message_waits,
            one_id_within_the_window_is_one_message,
            a_full_queue_refuses_for_now,
            looking_changes_nothing,
            looking_takes_nothing_away,
            a_paused_queue_hands_out_nothing,
            purge_and_delete_take_what_they_say,
            one_message_is_dropped_or_released_by_its_id,
            dead_letters_go_back_by_selection,
            a_reply_queue_goes_with_its_connection,
            a_message_is_withdrawn_unless_it_was_begun,
            a_waiting_consumer_is_woken_at_once,
        );
    };
}
pub(crate) use for_each_rule;

macro_rules! each {
    ($subject:path; $($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                use $crate::subject::Subject;
                $crate::rules::$rule(&<$subject>::fresh()).await;
            }
        )*
    };
}
pub(crate) use each;

pub(crate) async fn rule_01_publish_returns_when_the_broker_has_it(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a", "b"]).await;
    let other = subject.connect().await;
    assert_eq!(
        other.info("q").await.unwrap().ready,
        2,
        "another connection sees both as soon as publish returns"
    );
}

pub(crate) async fn rule_01_an_unroutable_message_is_an_error(subject: &dyn Subject) {
    if !subject.capabilities().unroutable {
        return;
    }
    let connection = subject.connect().await;
    let topology = Topology {
        exchanges: vec![Exchange {
            name: "x".to_owned(),
            durable: true,
            ..Exchange::default()
        }],
        queues: vec![Queue {
            bindings: vec![Binding {
                exchange: "x".to_owned(),
                routing_key: "known".to_owned(),
                ..Binding::default()
            }],
            ..queue("q")
        }],
    };
    connection.declare(&topology).await.unwrap();
    let to = |exchange: &str, key: &str| Publication {
        exchange: Arc::from(exchange),
        message: Message::new("m").with_routing_key(key),
        deduplicate: false,
    };
    let failure = connection
        .publish(vec![
            to("x", "known"),
            to("x", "unknown"),
            to("", "nowhere"),
            to("x", "known"),
        ])
        .await
        .unwrap_err();
    let failed: Vec<(usize, ErrorKind)> = failure
        .failed
        .iter()
        .map(|(index, error)| (*index, error.kind()))
        .collect();
    assert_eq!(
        failed,
        [(1, ErrorKind::Unroutable), (2, ErrorKind::Unroutable)],
        "exactly these were not taken"
    );
    assert!(
        failure.failed[0].1.message().contains("`unknown`"),
        "the key is named: {}",
        failure.failed[0].1
    );
    assert_eq!(connection.info("q").await.unwrap().ready, 2, "the others were");
}

pub(crate) async fn rule_02_taking_is_cancel_safe(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let bodies: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    publish(
        &*connection,
        "q",
        &bodies.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let mut subscription = consume(&*connection, "q", 5).await;
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + SOON;
    let mut patience = 0;
    while seen.len() < bodies.len() {
        assert!(
            Instant::now() < deadline,
            "only {} of {} came",
            seen.len(),
            bodies.len()
        );
        // Ever other moments at which the future is dropped.
        patience = (patience + 37) % 900;
        if let Ok(deliveries) = tokio::time::timeout(Duration::from_micros(patience), subscription.next()).await {
            for delivery in deliveries.unwrap() {
                assert!(seen.insert(text(&delivery)), "{} came twice", text(&delivery));
                settle(&*subscription, delivery, Settlement::Ack).await;
            }
        }
    }
}

pub(crate) async fn rule_02_what_is_on_its_way_is_told(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let mut subscription = consume(&*connection, "q", 1).await;
    nothing_comes(&mut *subscription).await;
    assert!(subscription.is_quiet(), "an empty queue has nothing for us");
    let mut told = 0;
    while told < 5 {
        publish(&*connection, "q", &["a"]).await;
        let deadline = Instant::now() + SOON;
        let delivery = loop {
            assert!(Instant::now() < deadline, "it is not taken");
            // Dropped at once, but from now on it is asked for.
            if let Some(mut deliveries) = subscription.next().now_or_never().transpose().unwrap() {
                break deliveries.remove(0);
            }
            if connection.info("q").await.unwrap().ready == 0 {
                assert!(!subscription.is_quiet(), "neither ready nor on its way");
                told += 1;
                break take_one(&mut *subscription).await;
            }
        };
        settle(&*subscription, delivery, Settlement::Ack).await;
    }
}

pub(crate) async fn rule_03_a_delivery_dropped_unsettled_comes_back(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a", "b", "c"]).await;
    let mut first = consume(&*connection, "q", 3).await;
    let mut taken = take(&mut *first, 3).await;
    settle(&*first, taken.remove(0), Settlement::Ack).await;
    drop(taken);
    first.close().await.unwrap();
    let mut second = consume(&*connection, "q", 3).await;
    assert_eq!(
        texts(&take(&mut *second, 2).await),
        ["b", "c"],
        "a clean close gives back at once, in order"
    );
}

pub(crate) async fn rule_04_settling_what_is_no_longer_ours_is_delivery_lost(subject: &dyn Subject) {
    let connection = subject.connect().await;
    let by_force = Delete {
        force: true,
        ..Delete::default()
    };
    declare(&*connection, queue("q")).await;
    for settlement in [
        Settlement::Ack,
        Settlement::Retry { after: Duration::ZERO },
        Settlement::Reject(DeadLetter::default()),
        Settlement::Release { uncounted: false },
    ] {
        declare(&*connection, queue("q")).await;
        publish(&*connection, "q", &["a"]).await;
        let mut subscription = consume(&*connection, "q", 1).await;
        let delivery = take_one(&mut *subscription).await;
        let settler = subscription.settler();
        subject.connect().await.delete("q", by_force).await.unwrap();
        let error = settler.settle(delivery.ticket, settlement.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeliveryLost, "{settlement:?}");
    }
}

pub(crate) async fn rule_05_at_most_prefetch_deliveries_are_out(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a", "b", "c", "d", "e"]).await;
    let mut subscription = consume(&*connection, "q", 3).await;
    let mut out = take(&mut *subscription, 3).await;
    nothing_comes(&mut *subscription).await;
    settle(&*subscription, out.remove(0), Settlement::Ack).await;
    assert_eq!(text(&take_one(&mut *subscription).await), "d");
    nothing_comes(&mut *subscription).await;
}

pub(crate) async fn rule_06_bodies_and_headers_come_back_byte_for_byte(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let mut subscription = consume(&*connection, "q", 1).await;
    let mut headers: Headers = BTreeMap::from([
        ("text".to_owned(), HeaderValue::from("grüße \"quoted\" \u{1F600}\n\t")),
        ("int".to_owned(), HeaderValue::Int(i64::MIN)),
        ("bool".to_owned(), HeaderValue::Bool(true)),
    ]);
    if subject.capabilities().binary_headers {
        headers.extend([
            ("bytes".to_owned(), HeaderValue::Bytes(vec![0, 255, 10])),
            ("float".to_owned(), HeaderValue::Float(0.1)),
            ("time".to_owned(), HeaderValue::Time(1_700_000_000)),
            ("null".to_owned(), HeaderValue::Null),
            (
                "list".to_owned(),
                HeaderValue::List(vec![HeaderValue::Int(1), HeaderValue::from("x")]),
            ),
            (
                "table".to_owned(),
                HeaderValue::Table(BTreeMap::from([("k".to_owned(), HeaderValue::Bool(false))])),
            ),
        ]);
    }
    let every_byte: Vec<u8> = (0..=255).collect();
    for body in [
        Vec::new(),
        vec![0],
        b"\0\r\n\0".to_vec(),
        every_byte.repeat(4096),
        vec![b'x'; 1025],
        "\u{feff}é".into(),
    ] {
        let message = Message {
            body,
            content_type: Some("application/x-test; charset=utf-8".to_owned()),
            routing_key: "q".to_owned(),
            id: Some("id 1".to_owned()),
            correlation_id: Some("c".to_owned()),
            reply_to: Some("r".to_owned()),
            timestamp: Some(1_700_000_000_123),
            headers: headers.clone(),
            ..Message::default()
        };
        connection.publish(vec![to_queue("q", message.clone())]).await.unwrap();
        let delivery = take_one(&mut *subscription).await;
        assert_eq!(delivery.message, message);
        assert_eq!(
            (delivery.queue.as_str(), delivery.exchange.as_str(), delivery.attempt),
            ("q", "", 0)
        );
        settle(&*subscription, delivery, Settlement::Ack).await;
    }
}

pub(crate) async fn rule_06_a_body_over_the_limit_is_refused_before_sending(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let limit = usize::try_from(subject.capabilities().max_body).unwrap();
    let failure = connection
        .publish(vec![to_queue("q", Message::new(vec![0; limit + 1]))])
        .await
        .unwrap_err();
    assert_eq!(failure.failed[0].1.kind(), ErrorKind::BadInput);
    assert_eq!(connection.info("q").await.unwrap().ready, 0);
}

pub(crate) async fn rule_07_an_unknown_argument_is_unsupported(subject: &dyn Subject) {
    let connection = subject.connect().await;
    let arguments = || Headers::from([("x-qctl-unheard-of".to_owned(), HeaderValue::Int(1))]);
    let of_a_queue = Topology {
        exchanges: Vec::new(),
        queues: vec![Queue {
            arguments: arguments(),
            ..queue("q")
        }],
    };
    let of_an_exchange = Topology {
        exchanges: vec![Exchange {
            name: "x".to_owned(),
            durable: true,
            arguments: arguments(),
            ..Exchange::default()
        }],
        queues: vec![queue("q")],
    };
    for topology in [of_a_queue, of_an_exchange] {
        let unconnected = subject.connector().check(&topology).unwrap_err();
        let declared = connection.declare(&topology).await.unwrap_err();
        for error in [unconnected, declared] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            for part in [connection.driver(), "`x-qctl-unheard-of`"] {
                assert!(error.message().contains(part), "{error}");
            }
        }
    }
    let error = connection.info("q").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "before any effect");
}

pub(crate) async fn rule_07_what_is_denied_is_unsupported(subject: &dyn Subject) {
    let connection = subject.connect().await;
    let can = subject.capabilities();
    assert_eq!(
        connection.capabilities(),
        can,
        "a connection can what its connector says"
    );
    declare(&*connection, queue("q")).await;
    let purge = Purge { dry_run: true };
    let redrive = Redrive {
        dry_run: true,
        ..Redrive::default()
    };
    for (verb, can, result) in [
        ("list", can.list, connection.list().await.map(drop)),
        (
            "peek",
            can.peek,
            connection
                .peek(
                    "q",
                    &Peek {
                        limit: 1,
                        ..Peek::default()
                    },
                )
                .await
                .map(drop),
        ),
        ("purge", can.purge, connection.purge("q", purge).await.map(drop)),
        ("pause", can.pause, connection.set_paused("q", false).await),
        ("drop", can.by_id, connection.drop_message("q", "none").await.map(drop)),
        (
            "release",
            can.by_id,
            connection.release_message("q", "none").await.map(drop),
        ),
        (
            "redrive",
            can.redrive,
            connection.redrive("q", &redrive).await.map(drop),
        ),
        ("reply", can.reply, connection.temporary_queue().await.map(drop)),
        (
            "withdraw",
            can.withdraw,
            connection.withdraw("none", "r").await.map(drop),
        ),
        (
            "delete",
            can.delete,
            connection.delete("q", Delete::default()).await.map(drop),
        ),
    ] {
        match result {
            Ok(()) => assert!(can, "{verb} works but is denied"),
            Err(error) => {
                assert!(!can, "{verb}: {error}");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{verb}: {error}");
                assert!(
                    error.message().contains(connection.driver()),
                    "the driver is named: {error}"
                );
            }
        }
    }
}

pub(crate) async fn rule_08_first_in_first_out_and_higher_priority_first(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("plain")).await;
    publish(&*connection, "plain", &["1", "2", "3", "4"]).await;
    let mut subscription = consume(&*connection, "plain", 4).await;
    assert_eq!(texts(&take(&mut *subscription, 4).await), ["1", "2", "3", "4"]);
    if !subject.capabilities().priority {
        return;
    }
    declare(
        &*connection,
        Queue {
            max_priority: Some(5),
            ..queue("ranked")
        },
    )
    .await;
    for (body, priority) in [
        ("low", None),
        ("high", Some(5)),
        ("middle", Some(3)),
        ("over", Some(200)),
        ("high 2", Some(5)),
    ] {
        let message = Message {
            priority,
            ..Message::new(body)
        };
        connection.publish(vec![to_queue("ranked", message)]).await.unwrap();
    }
    let mut subscription = consume(&*connection, "ranked", 5).await;
    assert_eq!(
        texts(&take(&mut *subscription, 5).await),
        ["high", "over", "high 2", "middle", "low"],
        "a priority over the highest counts as the highest"
    );
}

pub(crate) async fn rule_08_expired_messages_are_dead_lettered_and_a_retry_extends_nothing(subject: &dyn Subject) {
    if !subject.capabilities().ttl {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let ttl = Some(Duration::from_millis(300));
    let begun = Instant::now();
    connection
        .publish(vec![to_queue(
            "q",
            Message {
                ttl,
                ..Message::new("short")
            },
        )])
        .await
        .unwrap();
    let mut subscription = consume(&*connection, "q", 1).await;
    let delivery = take_one(&mut *subscription).await;
    assert!(
        delivery.message.headers.contains_key(header::EXPIRES_AT),
        "the absolute expiry travels with the message"
    );
    settle(
        &*subscription,
        delivery,
        Settlement::Retry {
            after: Duration::from_millis(400),
        },
    )
    .await;
    let mut dead = consume(&*connection, "q.dead", 1).await;
    // Whoever looks at the queue moves what has expired; a consumer that waits for the retry does.
    let delivery = tokio::select! {
        delivery = take_one(&mut *dead) => delivery,
        unexpected = subscription.next() => panic!("an expired message was handed out: {unexpected:?}"),
    };
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(text(&delivery), "short");
    assert_eq!(
        delivery.message.headers.get(header::REASON),
        Some(&HeaderValue::from("expired"))
    );
    if subject.capabilities().counters {
        let counters = connection.info("q").await.unwrap().counters;
        assert_eq!(counters.get("expired"), Some(&1), "counted: {counters:?}");
    }
}

pub(crate) async fn rule_09_a_retry_is_delayed(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a"]).await;
    let mut subscription = consume(&*connection, "q", 1).await;
    for attempt in 0..3 {
        let delivery = take_one(&mut *subscription).await;
        assert_eq!(delivery.attempt, attempt);
        let settled = Instant::now();
        settle(
            &*subscription,
            delivery,
            Settlement::Retry {
                after: Duration::from_millis(250),
            },
        )
        .await;
        nothing_comes(&mut *subscription).await;
        publish(&*connection, "q", &["other"]).await;
        let other = take_one(&mut *subscription).await;
        assert_eq!(text(&other), "other", "a delayed retry holds up nobody");
        settle(&*subscription, other, Settlement::Ack).await;
        let back = take_one(&mut *subscription).await;
        assert!(
            settled.elapsed() >= Duration::from_millis(245),
            "back after {:?}",
            settled.elapsed()
        );
        assert!(back.redelivered);
        settle(&*subscription, back, Settlement::Release { uncounted: true }).await;
    }
}

pub(crate) async fn rule_10_deliveries_are_counted_across_a_death(subject: &dyn Subject) {
    if !subject.capabilities().delivery_count {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["poison"]).await;
    for deliveries in 1..=3 {
        let doomed = subject.connect().await;
        let mut subscription = consume(&*doomed, "q", 1).await;
        let delivery = take_one(&mut *subscription).await;
        assert_eq!(delivery.deliveries, Some(deliveries));
        assert_eq!(delivery.attempt, 0, "a death is no attempt");
        // Dropped with no word: to the broker, this consumer has died.
        drop((delivery, subscription, doomed));
    }
}

pub(crate) async fn rule_10_what_a_dead_consumer_had_begun_is_handed_out_alone(subject: &dyn Subject) {
    if !subject.capabilities().delivery_count {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a", "b", "c", "d"]).await;
    let doomed = subject.connect().await;
    let mut subscription = consume(&*doomed, "q", 2).await;
    let held = take(&mut *subscription, 2).await;
    drop((held, subscription, doomed));
    let mut subscription = consume(&*connection, "q", 4).await;
    let mut suspects = Vec::new();
    let mut others = Vec::new();
    while suspects.len() + others.len() < 4 {
        for delivery in take_some(&mut *subscription).await {
            if delivery.alone {
                assert!(delivery.redelivered);
                suspects.push(text(&delivery));
                nothing_comes(&mut *subscription).await;
            } else {
                assert_eq!(delivery.deliveries, Some(1), "the others were never suspected");
                others.push(text(&delivery));
            }
            settle(&*subscription, delivery, Settlement::Ack).await;
        }
    }
    suspects.sort();
    others.sort();
    assert_eq!(
        (suspects, others),
        (
            vec!["a".to_owned(), "b".to_owned()],
            vec!["c".to_owned(), "d".to_owned()]
        )
    );
}

pub(crate) async fn exchanges_route_as_in_amqp(subject: &dyn Subject) {
    let connection = subject.connect().await;
    let exchange = |name: &str, kind| Exchange {
        name: name.to_owned(),
        kind,
        durable: true,
        ..Exchange::default()
    };
    let bound = |name: &str, bindings: &[(&str, &str)]| Queue {
        bindings: bindings
            .iter()
            .map(|(exchange, key)| Binding {
                exchange: (*exchange).to_owned(),
                routing_key: (*key).to_owned(),
                ..Binding::default()
            })
            .collect(),
        ..queue(name)
    };
    let topology = Topology {
        exchanges: vec![
            exchange("direct", ExchangeKind::Direct),
            exchange("fanout", ExchangeKind::Fanout),
            exchange("topic", ExchangeKind::Topic),
        ],
        queues: vec![
            bound("one", &[("direct", "a"), ("fanout", ""), ("topic", "mail.*")]),
            bound(
                "two",
                &[
                    ("direct", "a"),
                    ("direct", "b"),
                    ("fanout", "ignored"),
                    ("topic", "mail.#"),
                    ("topic", "#.eu"),
                ],
            ),
        ],
    };
    connection.declare(&topology).await.unwrap();
    connection.declare(&topology).await.expect("declaring twice is once");
    let mut expected = [0, 0];
    for (exchange, key, one, two) in [
        ("direct", "a", 1, 1),
        ("direct", "b", 0, 1),
        ("fanout", "anything", 1, 1),
        ("topic", "mail.eu", 1, 1),
        ("topic", "mail", 0, 1),
        ("topic", "sms.eu", 0, 1),
        ("", "one", 1, 0),
    ] {
        let message = Message::new(vec![b'm'; 2000]).with_routing_key(key);
        let publication = Publication {
            exchange: Arc::from(exchange),
            message,
            deduplicate: false,
        };
        connection.publish(vec![publication]).await.unwrap();
        expected[0] += one;
        expected[1] += two;
        for (name, expected) in ["one", "two"].iter().zip(expected) {
            assert_eq!(
                connection.info(name).await.unwrap().ready,
                expected,
                "{name} after {exchange} {key}"
            );
        }
    }
    let changed = Topology {
        exchanges: vec![exchange("direct", ExchangeKind::Topic)],
        queues: Vec::new(),
    };
    let error = connection.declare(&changed).await.unwrap_err();
    assert!(
        error.message().contains("direct") && error.message().contains("topic"),
        "both types are named: {error}"
    );
}

pub(crate) async fn a_rejected_message_is_dead_lettered_with_its_reason(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    assert_eq!(
        connection.info("q.dead").await.unwrap().ready,
        0,
        "the dead-letter queue is there from the start"
    );
    let large = Message {
        id: Some("1".to_owned()),
        ..Message::new(vec![7; 5000]).with_header("own", "kept")
    };
    connection.publish(vec![to_queue("q", large.clone())]).await.unwrap();
    let mut subscription = consume(&*connection, "q", 1).await;
    let delivery = take_one(&mut *subscription).await;
    let reason = DeadLetter {
        reason: "exit code 65".to_owned(),
        headers: BTreeMap::from([(header::EXIT_CODE.to_owned(), HeaderValue::Int(65))]),
    };
    settle(&*subscription, delivery, Settlement::Reject(reason)).await;
    let mut dead = consume(&*connection, "q.dead", 1).await;
    let delivery = take_one(&mut *dead).await;
    let headers = &delivery.message.headers;
    assert_eq!(delivery.message.body, large.body);
    assert_eq!(headers.get("own"), Some(&HeaderValue::from("kept")));
    assert_eq!(headers.get(header::REASON), Some(&HeaderValue::from("exit code 65")));
    assert_eq!(headers.get(header::EXIT_CODE), Some(&HeaderValue::Int(65)));
    assert_eq!(headers.get(header::DEAD_QUEUE), Some(&HeaderValue::from("q")));
}

pub(crate) async fn a_released_message_is_untouched(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a"]).await;
    let mut subscription = consume(&*connection, "q", 1).await;
    let delivery = take_one(&mut *subscription).await;
    settle(&*subscription, delivery, Settlement::Release { uncounted: true }).await;
    let delivery = take_one(&mut *subscription).await;
    assert_eq!(delivery.attempt, 0);
    if subject.capabilities().delivery_count {
        assert_eq!(delivery.deliveries, Some(1), "what never began is not counted");
        settle(&*subscription, delivery, Settlement::Release { uncounted: false }).await;
        assert_eq!(take_one(&mut *subscription).await.deliveries, Some(2), "what began is");
    }
}

pub(crate) async fn a_delayed_message_waits(subject: &dyn Subject) {
    if !subject.capabilities().delay {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let mut subscription = consume(&*connection, "q", 10).await;
    let sent = Instant::now();
    for (body, delay) in [("later", 400), ("sooner", 200), ("now", 0)] {
        let delay = Some(Duration::from_millis(delay)).filter(|delay| !delay.is_zero());
        connection
            .publish(vec![to_queue(
                "q",
                Message {
                    delay,
                    ..Message::new(body)
                },
            )])
            .await
            .unwrap();
    }
    let delayed = connection.info("q").await.unwrap().delayed;
    assert_eq!(delayed, subject.capabilities().delayed_by_queue.then_some(2));
    let mut order = Vec::new();
    for earliest in [0, 195, 395] {
        order.push(text(&take_one(&mut *subscription).await));
        assert!(
            sent.elapsed() >= Duration::from_millis(earliest),
            "{order:?} after {:?}",
            sent.elapsed()
        );
    }
    assert_eq!(order, ["now", "sooner", "later"]);
}

pub(crate) async fn one_id_within_the_window_is_one_message(subject: &dyn Subject) {
    if !subject.capabilities().deduplication {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    declare(&*connection, queue("r")).await;
    let with_id = |queue: &str, id: &str, deduplicate| Publication {
        exchange: Arc::from(""),
        message: Message {
            id: Some(id.to_owned()),
            ..Message::new("m").with_routing_key(queue)
        },
        deduplicate,
    };
    connection
        .publish(vec![
            with_id("q", "1", true),
            with_id("q", "1", true),
            with_id("q", "2", true),
        ])
        .await
        .unwrap();
    connection
        .publish(vec![with_id("q", "1", true), with_id("r", "1", true)])
        .await
        .unwrap();
    assert_eq!(
        connection.info("q").await.unwrap().ready,
        2,
        "the same id again is the same message"
    );
    assert_eq!(
        connection.info("r").await.unwrap().ready,
        1,
        "to another queue it is another message"
    );
    connection
        .publish(vec![with_id("q", "9", false), with_id("q", "9", false)])
        .await
        .unwrap();
    assert_eq!(
        connection.info("q").await.unwrap().ready,
        4,
        "ids that qctl made are not compared"
    );
}

pub(crate) async fn a_full_queue_refuses_for_now(subject: &dyn Subject) {
    if !subject.capabilities().max_length {
        return;
    }
    let connection = subject.connect().await;
    declare(
        &*connection,
        Queue {
            max_length: Some(2),
            ..queue("short")
        },
    )
    .await;
    declare(
        &*connection,
        Queue {
            max_bytes: Some(10),
            ..queue("light")
        },
    )
    .await;
    let batch = |queue: &str| {
        ["12345", "12345", "12345"]
            .map(|body| to_queue(queue, Message::new(body)))
            .to_vec()
    };
    for (name, limit) in [("short", "max_length"), ("light", "max_bytes")] {
        let failure = connection.publish(batch(name)).await.unwrap_err();
        let (index, error) = &failure.failed[0];
        assert_eq!(
            (failure.failed.len(), *index, error.kind()),
            (1, 2, ErrorKind::Temporary),
            "{error}"
        );
        assert!(
            error.message().contains(limit) && error.message().contains(name),
            "limit and queue are named: {error}"
        );
        let mut subscription = consume(&*connection, name, 1).await;
        let delivery = take_one(&mut *subscription).await;
        settle(&*subscription, delivery, Settlement::Ack).await;
        subscription.close().await.unwrap();
        connection
            .publish(vec![to_queue(name, Message::new("12345"))])
            .await
            .expect("there is room again");
    }
}

pub(crate) async fn looking_changes_nothing(subject: &dyn Subject) {
    if !subject.capabilities().peek_is_free {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    assert_eq!(connection.look_price("q").await.unwrap(), LookPrice::Nothing);
    publish(&*connection, "q", &["held", "ready"]).await;
    let delay = Some(Duration::from_mins(1));
    connection
        .publish(vec![to_queue(
            "q",
            Message {
                delay,
                id: Some("delayed".to_owned()),
                ..Message::new("delayed")
            },
        )])
        .await
        .unwrap();
    let mut subscription = consume(&*connection, "q", 1).await;
    let held = take_one(&mut *subscription).await;
    let looker = subject.connect().await;
    let everything = Peek {
        limit: 10,
        ..Peek::default()
    };
    for _ in 0..2 {
        let found: Vec<(PeekState, String)> = looker
            .peek("q", &everything)
            .await
            .unwrap()
            .into_iter()
            .map(|peeked| (peeked.state, String::from_utf8(peeked.message.body).unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                (PeekState::Ready, "ready".to_owned()),
                (PeekState::Delayed, "delayed".to_owned()),
                (PeekState::Held, "held".to_owned())
            ]
        );
    }
    let one = Peek {
        id: Some("delayed".to_owned()),
        limit: 10,
        ..Peek::default()
    };
    let found = looker.peek("q", &one).await.unwrap();
    assert_eq!((found.len(), found[0].state), (1, PeekState::Delayed));
    let only_held = Peek {
        state: Some(PeekState::Held),
        limit: 10,
        ..Peek::default()
    };
    let found = looker.peek("q", &only_held).await.unwrap();
    assert_eq!(
        found[0].holder.as_ref().and_then(|holder| holder.pid),
        Some(std::process::id())
    );
    settle(&*subscription, held, Settlement::Ack).await;
    assert_eq!(
        take_one(&mut *subscription).await.deliveries,
        Some(1),
        "looking is no delivery"
    );
}

pub(crate) async fn looking_takes_nothing_away(subject: &dyn Subject) {
    let can = subject.capabilities();
    if !can.peek || can.peek_is_free {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    assert!(
        matches!(connection.look_price("q").await.unwrap(), LookPrice::Mark(told) if !told.is_empty()),
        "what it changes is told"
    );
    publish(&*connection, "q", &["a", "b", "c"]).await;
    let found = |look: Peek| {
        let connection = &connection;
        async move {
            let found = connection.peek("q", &look).await.unwrap();
            let bodies = found.into_iter().map(|peeked| {
                assert_eq!(peeked.state, PeekState::Ready);
                String::from_utf8(peeked.message.body).unwrap()
            });
            bodies.collect::<Vec<_>>()
        }
    };
    let at_most = |limit| Peek {
        limit,
        ..Peek::default()
    };
    for _ in 0..2 {
        assert_eq!(found(at_most(10)).await, ["a", "b", "c"], "as they stand in the queue");
    }
    assert_eq!(found(at_most(2)).await, ["a", "b"]);
    let by_id = Peek {
        id: Some("b".to_owned()),
        ..at_most(10)
    };
    assert_eq!(found(by_id).await, ["b"]);
    for state in [PeekState::Delayed, PeekState::Held] {
        let hidden = Peek {
            state: Some(state),
            ..at_most(10)
        };
        let error = connection.peek("q", &hidden).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(connection.info("q").await.unwrap().ready, 3);
    let mut subscription = consume(&*connection, "q", 1).await;
    for expected in ["a", "b", "c"] {
        let delivery = take_one(&mut *subscription).await;
        assert_eq!(text(&delivery), expected, "nothing is lost or moved");
        settle(&*subscription, delivery, Settlement::Ack).await;
    }
}

pub(crate) async fn a_paused_queue_hands_out_nothing(subject: &dyn Subject) {
    if !subject.capabilities().pause {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let mut subscription = consume(&*connection, "q", 1).await;
    connection.set_paused("q", true).await.unwrap();
    publish(&*connection, "q", &["a"]).await;
    nothing_comes(&mut *subscription).await;
    assert!(connection.info("q").await.unwrap().paused);
    connection.set_paused("q", false).await.unwrap();
    assert_eq!(text(&take_one(&mut *subscription).await), "a");
}

pub(crate) async fn purge_and_delete_take_what_they_say(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["held", "a", "b"]).await;
    let delay = Some(Duration::from_mins(1));
    connection
        .publish(vec![to_queue(
            "q",
            Message {
                delay,
                ..Message::new(vec![1; 3000])
            },
        )])
        .await
        .unwrap();
    let mut subscription = consume(&*connection, "q", 1).await;
    let held = take_one(&mut *subscription).await;
    let waiting = if subject.capabilities().delayed_by_queue { 3 } else { 2 };
    assert_eq!(connection.purge("q", Purge { dry_run: true }).await.unwrap(), waiting);
    assert_eq!(
        connection.purge("q", Purge::default()).await.unwrap(),
        waiting,
        "ready and delayed, not what is held"
    );
    let error = connection.delete("q", Delete::default()).await.unwrap_err();
    assert!(error.message().contains("--force"), "{error}");
    settle(&*subscription, held, Settlement::Ack).await;
    subscription.close().await.unwrap();
    publish(&*connection, "q", &["x"]).await;
    let if_empty = Delete {
        if_empty: true,
        ..Delete::default()
    };
    let error = connection.delete("q", if_empty).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    let waiting = consume(&*connection, "q.dead", 1).await;
    let if_unused = Delete {
        force: true,
        if_unused: true,
        ..Delete::default()
    };
    let error = connection.delete("q.dead", if_unused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    waiting.close().await.unwrap();
    let if_neither = Delete {
        if_empty: true,
        if_unused: true,
        ..Delete::default()
    };
    assert_eq!(connection.delete("q.dead", if_neither).await.unwrap(), 0);
    assert_eq!(connection.delete("q", Delete::default()).await.unwrap(), 1);
    assert_eq!(connection.info("q").await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub(crate) async fn one_message_is_dropped_or_released_by_its_id(subject: &dyn Subject) {
    if !subject.capabilities().by_id {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["a", "b"]).await;
    let delay = Some(Duration::from_mins(1));
    connection
        .publish(vec![to_queue(
            "q",
            Message {
                delay,
                id: Some("c".to_owned()),
                ..Message::new("c")
            },
        )])
        .await
        .unwrap();
    assert!(connection.drop_message("q", "a").await.unwrap());
    assert!(!connection.drop_message("q", "a").await.unwrap(), "it is gone");
    assert!(connection.release_message("q", "c").await.unwrap());
    assert!(
        !connection.release_message("q", "b").await.unwrap(),
        "it is not delayed"
    );
    let mut subscription = consume(&*connection, "q", 5).await;
    assert_eq!(texts(&take(&mut *subscription, 2).await), ["b", "c"]);
}

pub(crate) async fn dead_letters_go_back_by_selection(subject: &dyn Subject) {
    if !subject.capabilities().redrive {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    publish(&*connection, "q", &["apple", "banana", "cherry"]).await;
    let mut subscription = consume(&*connection, "q", 3).await;
    for delivery in take(&mut *subscription, 3).await {
        settle(
            &*subscription,
            delivery,
            Settlement::Reject(DeadLetter {
                reason: "no".to_owned(),
                ..DeadLetter::default()
            }),
        )
        .await;
    }
    let redrive = |selection| Redrive {
        selection,
        ..Redrive::default()
    };
    let matching = Selection {
        matching: Some("nan".to_owned()),
        ..Selection::default()
    };
    let dry = Redrive {
        dry_run: true,
        ..redrive(matching.clone())
    };
    assert_eq!(connection.redrive("q", &dry).await.unwrap().moved, 1);
    assert_eq!(
        connection.info("q").await.unwrap().dead,
        Some(3),
        "a dry run moves nothing"
    );
    assert_eq!(connection.redrive("q", &redrive(matching)).await.unwrap().moved, 1);
    let delivery = take_one(&mut *subscription).await;
    assert_eq!(
        (text(&delivery).as_str(), delivery.attempt),
        ("banana", 0),
        "as fresh as new"
    );
    assert!(
        !delivery.message.headers.keys().any(|name| name.starts_with("x-qctl-")),
        "{:?}",
        delivery.message.headers
    );
    let limited = Selection {
        limit: Some(1),
        ..Selection::default()
    };
    assert_eq!(connection.redrive("q", &redrive(limited)).await.unwrap().moved, 1);
    assert_eq!(text(&take_one(&mut *subscription).await), "apple");
    let by_id = Selection {
        id: Some("cherry".to_owned()),
        ..Selection::default()
    };
    assert_eq!(connection.redrive("q", &redrive(by_id)).await.unwrap().moved, 1);
    assert_eq!(connection.info("q").await.unwrap().dead, Some(0));
}

pub(crate) async fn a_reply_queue_goes_with_its_connection(subject: &dyn Subject) {
    if !subject.capabilities().reply {
        return;
    }
    let asking = subject.connect().await;
    declare(&*asking, queue("q")).await;
    let reply_to = asking.temporary_queue().await.unwrap();
    let mut replies = consume(&*asking, &reply_to, 1).await;
    let request = Message {
        reply_to: Some(reply_to),
        ..Message::new("question")
    };
    asking.publish(vec![to_queue("q", request)]).await.unwrap();
    let answering = subject.connect().await;
    let mut requests = consume(&*answering, "q", 1).await;
    let request = take_one(&mut *requests).await;
    let reply_to = request.message.reply_to.clone().unwrap();
    assert!(answering.is_reply_queue(&reply_to));
    assert!(!answering.is_reply_queue("q"), "nobody else's queue");
    answering
        .publish(vec![to_queue(&reply_to, Message::new("answer"))])
        .await
        .unwrap();
    assert_eq!(text(&take_one(&mut *replies).await), "answer");
    settle(&*requests, request, Settlement::Ack).await;
    replies.close().await.unwrap();
    asking.close().await.unwrap();
    let late = answering.publish(vec![to_queue(&reply_to, Message::new("late"))]).await;
    let late = late.map_err(|failure| failure.into_first().kind());
    if subject.capabilities().lost_replies {
        assert_eq!(late, Err(ErrorKind::Unroutable));
    } else {
        assert_eq!(late, Ok(()));
    }
}

pub(crate) async fn a_message_is_withdrawn_unless_it_was_begun(subject: &dyn Subject) {
    if !subject.capabilities().withdraw {
        return;
    }
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let request = |body: &str| {
        let reply_to = Some("r".to_owned());
        to_queue(
            "q",
            Message {
                id: Some(body.to_owned()),
                reply_to,
                ..Message::new(body)
            },
        )
    };
    publish(&*connection, "q", &["b"]).await;
    let mut other = consume(&*connection, "q", 1).await;
    let dead = take_one(&mut *other).await;
    settle(&*other, dead, Settlement::Reject(DeadLetter::default())).await;
    other.close().await.unwrap();
    connection
        .publish(vec![request("a"), request("b"), request("retried")])
        .await
        .unwrap();
    assert!(
        !connection.withdraw("b", "another").await.unwrap(),
        "somebody else's request of the same id"
    );
    assert!(connection.withdraw("b", "r").await.unwrap());
    assert_eq!(
        connection.info("q").await.unwrap().dead,
        Some(1),
        "the dead letter of the same id stays"
    );
    let mut subscription = consume(&*connection, "q", 2).await;
    let mut taken = take(&mut *subscription, 2).await;
    assert_eq!(texts(&taken), ["a", "retried"]);
    assert!(!connection.withdraw("a", "r").await.unwrap(), "it was begun");
    let retry = Settlement::Retry {
        after: Duration::from_mins(1),
    };
    settle(&*subscription, taken.remove(1), retry).await;
    assert!(!connection.withdraw("retried", "r").await.unwrap(), "it has run once");
}

pub(crate) async fn a_waiting_consumer_is_woken_at_once(subject: &dyn Subject) {
    let connection = subject.connect().await;
    declare(&*connection, queue("q")).await;
    let mut subscription = consume(&*connection, "q", 1).await;
    nothing_comes(&mut *subscription).await;
    let other = subject.connect().await;
    let mut waits = Vec::new();
    for _ in 0..11 {
        let sent = Instant::now();
        let (delivery, ()) = tokio::join!(take_one(&mut *subscription), publish(&*other, "q", &["ping"]));
        waits.push(sent.elapsed());
        settle(&*subscription, delivery, Settlement::Ack).await;
    }
    waits.sort();
    assert!(
        waits[5] < Duration::from_millis(100),
        "woken by an event, not by a timer: {waits:?}"
    );
}
