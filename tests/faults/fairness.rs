//! Processes that share one store.

use rustix::process::Signal;

use crate::ground::ground;
use crate::support::{Running, wait_for};

/// Four consumer processes that take messages as fast as they can get each a fair share of them.
#[test]
fn four_consumers_share_what_there_is() {
    const COUNT: usize = 40_000;

    let ground = ground("noop: {}", "");
    ground
        .run(["queuemessage", "-b", "-m", &COUNT.to_string(), "demo", "x"])
        .any_stdout()
        .check();
    ground
        .run(["managequeue", "pause", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    let mut consumers: Vec<Running> = (0..4).map(|_| ground.start(["consumer", "demo"])).collect();
    wait_for("all consumers to be there", || ground.figure("consumers") == 4);
    ground
        .run(["managequeue", "resume", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    ground.wait_empty();
    for consumer in &consumers {
        consumer.signal(Signal::TERM);
    }
    let shares: Vec<usize> = consumers
        .iter_mut()
        .map(|consumer| {
            assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
            let said = consumer.stderr();
            let (before, _) = said.rsplit_once(" done, 0 not").unwrap();
            before.rsplit_once('(').unwrap().1.parse().unwrap()
        })
        .collect();
    eprintln!("shares of {COUNT}: {shares:?}");
    assert_eq!(shares.iter().sum::<usize>(), COUNT);
    assert!(
        shares.iter().all(|share| (COUNT / 10..=COUNT * 4 / 10).contains(share)),
        "{shares:?}"
    );
}
