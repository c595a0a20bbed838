//! Consumers that are killed with deliveries out. Their children are ended before the broker hears of it.

use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::ground::{Consumer, Ground, Setup, ids, lines};
use crate::rabbit::Rabbit;
use crate::support::{is_running, wait_for};

fn ground(setup: &Setup<'_>) -> Ground {
    Ground::new(Rabbit::main().vhost(), setup)
}

/// What its children do to live on: they do not listen to SIGTERM, and what they run has a session of its own. It holds the
/// lock of its message too.
fn stubborn(ground: &Ground) {
    ground.script(
        "run.sh",
        "trap '' TERM\n\
         id=$(cat)\n\
         exec 9>>\"locks/$id\"\n\
         flock -n -E 99 9 || echo \"$id\" >> overlaps\n\
         echo \"+$id $$ $QCTL_DELIVERIES\" >> book\n\
         case $id in\n\
         hold-*) setsid sh -c \"trap '' TERM; echo \\$\\$ > away; until test -e go-$id; do sleep 0.02; done\";;\n\
         *) setsid sleep 0.05;;\n\
         esac\n\
         echo \"-$id\" >> book",
    );
}

/// However often consumers are killed, everything is handled, nothing beside itself, and again only what they had.
#[test]
fn killed_consumers_lose_nothing_and_leave_nothing_running() {
    const COUNT: usize = 150;
    const SLOTS: u32 = 3;
    let ground = ground(&Setup {
        consumer: "retry: { deliveries: 0 }",
        ..Setup::default()
    });
    stubborn(&ground);
    let sent = ids("job", COUNT);
    ground.send(&lines(&sent));
    let seed = std::env::var("QCTL_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut consumers: Vec<Consumer> = (0..2).map(|_| ground.consumer(SLOTS)).collect();
    let mut killed = 0;
    while ground.times("+job-1") == 0 || killed < 8 {
        std::thread::sleep(Duration::from_millis(rng.u64(50..300)));
        let one = rng.usize(..consumers.len());
        consumers[one].kill();
        killed += 1;
        consumers[one] = ground.consumer(SLOTS);
    }
    wait_for("everything to be handled", || {
        let book = ground.read("book");
        sent.iter()
            .all(|id| book.lines().any(|line| line.strip_prefix('-') == Some(id)))
    });
    ground.wait_empty();
    ground.reckon(&sent, killed * SLOTS as usize * 33);
    ground.no_overlaps();
    for consumer in consumers {
        consumer.stop();
    }
}

/// What a killed consumer had is another one's within the second that the driver declares, and its child is gone by then, with
/// what that started in another session, although neither listens to SIGTERM.
#[test]
fn a_killed_consumers_message_comes_back_when_its_child_is_gone() {
    let ground = ground(&Setup::default());
    stubborn(&ground);
    let mut doomed = ground.consumer(1);
    ground.send("hold-a\n");
    wait_for("the child in another session", || ground.read("away").ends_with('\n'));
    let first = [ground.child("hold-a"), ground.read("away").trim().parse().unwrap()];
    let other = ground.consumer(1);
    let begun = Instant::now();
    doomed.kill();
    wait_for("it to be begun again", || {
        let again = ground.times("+hold-a") == 2;
        assert!(
            !again || !first.iter().any(|pid| is_running(*pid)),
            "runs beside the second"
        );
        again
    });
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(other.lines("alone=true"), 1, "{}", other.stderr());
    ground.let_go("hold-a");
    ground.consumes("afterwards");
    ground.wait_empty();
    ground.reckon(&["hold-a".to_owned(), "afterwards".to_owned()], 0);
    ground.no_overlaps();
    other.stop();
}

/// A guardian that took another's place holds the broker back too.
#[test]
fn a_second_guardian_holds_the_broker_back() {
    let ground = ground(&Setup::default());
    stubborn(&ground);
    let mut doomed = ground.consumer(1);
    ground.send("hold-a\n");
    wait_for("the child in another session", || ground.read("away").ends_with('\n'));
    let away: u32 = ground.read("away").trim().parse().unwrap();
    kill_process(guardian_of(doomed.pid()).unwrap(), Signal::KILL).unwrap();
    doomed.wait_line("starting another");
    wait_for("another guardian", || guardian_of(doomed.pid()).is_some());
    let other = ground.consumer(1);
    // It is there before it has said so; a consumer that is killed meanwhile has one that says it to nobody.
    doomed.kill();
    wait_for("it to be begun again", || ground.times("+hold-a") == 2);
    assert!(!is_running(away), "runs beside the second");
    ground.no_overlaps();
    ground.let_go("hold-a");
    ground.wait_times("-hold-a", 1);
    ground.wait_empty();
    other.stop();
}

/// The guardian among the children of a consumer.
fn guardian_of(consumer: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{consumer}/task/{consumer}/children")).ok();
    // A child belongs to the thread that started it.
    let tasks = std::fs::read_dir(format!("/proc/{consumer}/task")).ok()?;
    let all: Vec<String> = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .chain(children)
        .collect();
    all.iter().flat_map(|pids| pids.split_whitespace()).find_map(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let guards = words.split(|byte| *byte == 0).any(|word| word == b"__guardian");
        guards.then(|| Pid::from_raw(pid.parse().ok()?))?
    })
}
