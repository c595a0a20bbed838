//! The desk, without any process: whatever happens to the workers, each request is told once, and nobody pays for another.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::{any, prop, prop_oneof, proptest};
use proptest::strategy::Strategy;
use tokio::sync::oneshot;

use super::desk::{Death, Desk, Leave, Request, Told};

type Told1 = oneshot::Receiver<Told>;

fn submit(desk: &mut Desk, now: Instant) -> (u64, Told1) {
    let (told, receiver) = oneshot::channel();
    let id = desk.next_id();
    desk.submit(Request::new(id, format!("{id}\n").into_bytes(), told), now);
    (id, receiver)
}

fn written(desk: &mut Desk, seat: usize) -> String {
    let mut buffer = Vec::new();
    desk.take_outgoing(seat, &mut buffer);
    String::from_utf8(buffer).unwrap().replace('\n', " ")
}

fn died() -> Leave {
    Leave::Died(Death {
        exit_code: Some(1),
        ..Death::default()
    })
}

#[test]
fn requests_wait_for_a_worker_and_each_gets_one_at_a_time() {
    let now = Instant::now();
    let mut desk = Desk::new(2, 1, 16);
    let told: Vec<_> = (0..3).map(|_| submit(&mut desk, now)).collect();
    desk.open(0, u64::MAX, now);
    assert_eq!(
        (written(&mut desk, 0), written(&mut desk, 1)),
        ("1 ".into(), String::new())
    );
    desk.open(1, u64::MAX, now);
    assert_eq!(written(&mut desk, 1), "2 ");
    assert!(
        desk.answered(0, [(9, Ok(String::new()))], now) == [9],
        "nobody asked for that"
    );
    desk.answered(0, [(1, Ok("a".to_owned()))], now + Duration::from_secs(1));
    assert_eq!(written(&mut desk, 0), "3 ");
    let mut told = told.into_iter().map(|(_, told)| told);
    assert_eq!(
        told.next().unwrap().try_recv().unwrap(),
        Told::Answer(Ok("a".to_owned()))
    );
    assert!(told.next().unwrap().try_recv().is_err());
}

#[test]
fn only_a_quick_worker_is_written_requests_ahead() {
    for (each, expected) in [
        (Duration::from_micros(50), 11),
        (Duration::from_micros(600), 1),
        (Duration::from_nanos(1), 17),
    ] {
        let mut now = Instant::now();
        let mut desk = Desk::new(1, 1, 16);
        desk.open(0, u64::MAX, now);
        let mut told = Vec::new();
        for _ in 0..50 {
            let (id, receiver) = submit(&mut desk, now);
            told.push(receiver);
            now += each;
            desk.answered(0, [(id, Ok(String::new()))], now);
        }
        written(&mut desk, 0);
        told.extend((0..40).map(|_| submit(&mut desk, now).1));
        assert_eq!(written(&mut desk, 0).split_whitespace().count(), expected, "{each:?}");
    }
}

#[test]
fn what_was_written_ahead_goes_to_another_worker_unblamed() {
    let mut now = Instant::now();
    let mut desk = Desk::new(1, 1, 16);
    desk.open(0, u64::MAX, now);
    let (id, _told) = submit(&mut desk, now);
    now += Duration::from_micros(10);
    desk.answered(0, [(id, Ok(String::new()))], now);
    let mut told: Vec<_> = (0..3).map(|_| submit(&mut desk, now).1).collect();
    written(&mut desk, 0);
    desk.vacate(0, &died(), now);
    assert!(matches!(told[0].try_recv().unwrap(), Told::Died(_)));
    assert!(told[1].try_recv().is_err() && told[2].try_recv().is_err());
    desk.open(0, u64::MAX, now);
    assert_eq!(written(&mut desk, 0), "3 ", "in their order, one by one again");
}

#[test]
fn no_worker_is_given_more_than_it_may_have() {
    let now = Instant::now();
    let mut desk = Desk::new(1, 10, 16);
    desk.open(0, 3, now);
    let _told: Vec<_> = (0..5).map(|_| submit(&mut desk, now)).collect();
    assert_eq!(written(&mut desk, 0), "1 2 3 ");
}

/// What can happen.
#[derive(Clone, Debug)]
enum Event {
    Submit,
    Open(usize),
    Answer(usize, bool),
    Die(usize, i32),
    TimeOut(usize),
    Abandon(u64),
    Withdraw(u64),
    Retire(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => any::<bool>().prop_map(|_| Event::Submit),
        2 => (0..3_usize).prop_map(Event::Open),
        3 => (0..3_usize, any::<bool>()).prop_map(|(seat, first)| Event::Answer(seat, first)),
        1 => (0..3_usize, 0..2).prop_map(|(seat, code)| Event::Die(seat, code)),
        1 => (0..3_usize).prop_map(Event::TimeOut),
        1 => (0..30_u64).prop_map(Event::Abandon),
        1 => (0..30_u64).prop_map(Event::Withdraw),
        1 => (0..3_usize).prop_map(Event::Retire),
    ]
}

proptest! {
    /// Every request is told once, unless it was taken back; and one that nothing works on is never kept.
    #[test]
    fn each_request_is_told_once(parallel in 1..3_usize, events in prop::collection::vec(event(), 0..120)) {
        let mut now = Instant::now();
        let mut desk = Desk::new(3, parallel, 4);
        let mut told: Vec<(u64, Told1)> = Vec::new();
        let mut held: Vec<Vec<u64>> = vec![Vec::new(); 3];
        let mut back: Vec<u64> = Vec::new();
        for event in events {
            now += Duration::from_micros(20);
            match event {
                Event::Submit => told.push(submit(&mut desk, now)),
                Event::Open(seat) => desk.open(seat, 20, now),
                Event::Answer(seat, first) => {
                    let id = if first { held[seat].first() } else { held[seat].last() };
                    if let Some(id) = id.copied() {
                        held[seat].retain(|held| *held != id);
                        assert!(desk.answered(seat, [(id, Ok(String::new()))], now).is_empty());
                    }
                }
                Event::Die(seat, code) => {
                    held[seat].clear();
                    let death = Death { exit_code: Some(code), ..Death::default() };
                    desk.vacate(seat, &Leave::Died(death), now);
                }
                Event::TimeOut(seat) => {
                    let late = desk.begun_before(seat, now);
                    held[seat].clear();
                    desk.vacate(seat, &Leave::TimedOut(late, String::new()), now);
                }
                Event::Abandon(id) => desk.abandon(id),
                Event::Withdraw(id) => if desk.withdraw(id) { back.push(id) },
                Event::Retire(seat) => desk.retire(seat),
            }
            for (seat, held) in held.iter_mut().enumerate() {
                held.extend(written(&mut desk, seat).split_whitespace().map(|id| id.parse::<u64>().unwrap()));
            }
        }
        // Everything is worked off in the end.
        for seat in 0..3 {
            desk.vacate(seat, &Leave::Cancelled(Vec::new()), now);
        }
        desk.open(0, u64::MAX, now);
        for _ in 0..200 {
            for id in written(&mut desk, 0).split_whitespace() {
                desk.answered(0, [(id.parse().unwrap(), Ok(String::new()))], now);
            }
        }
        for (id, mut told) in told {
            let answer = told.try_recv();
            if let Err(error) = answer {
                assert_eq!(error, oneshot::error::TryRecvError::Closed, "{id} is still waiting");
            } else {
                assert!(!back.contains(&id), "{id} was taken back");
            }
        }
    }
}
