//! What becomes of a dead consumer's messages while others are busy, and of what a busy consumer has taken ahead.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{Ground, ground, python};
use crate::support::{Running, wait_for};

/// The embedded store's `crash_return` of 1 s, and as much again, twice, for a machine that runs other tests meanwhile.
const CRASH_RETURN: Duration = Duration::from_secs(3);

/// A handler that writes `+ID` and `-ID` into `book`; a message `hold-…` lasts until there is a file `go-hold-…`.
fn with_book(further: &str) -> Ground {
    let further =
        format!("{further}\n  demo.dead: {{ queue: demo.dead, handler: {{ exec: {{ run: ['./dead.sh'] }} }} }}");
    let ground = ground("exec: { run: ['./run.sh'] }", &further);
    ground.script("dead.sh", "echo \"$QCTL_ATTEMPT $QCTL_DELIVERIES $(cat)\" >> dead-book");
    ground.script(
        "run.sh",
        "id=$(cat); echo \"+$id\" >> book\n\
         case $id in hold-*) until test -e \"go-$id\"; do sleep 0.02; done;; esac\n\
         echo \"-$id\" >> book",
    );
    ground
}

/// How often this line stands in the book.
fn times(ground: &Ground, line: &str) -> usize {
    ground.read("book").lines().filter(|found| *found == line).count()
}

fn wait_for_line(ground: &Ground, line: &str) {
    wait_for(&format!("{line} in the book"), || times(ground, line) > 0);
}

/// A consumer with so many slots, ready to take.
fn consumer(ground: &Ground, slots: &str) -> Running {
    let consumer = ground.start(["consumer", "--concurrency", slots, "demo"]);
    consumer.wait_stderr("consuming");
    consumer
}

fn stop(mut consumer: Running) {
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
}

/// While one consumer is busy in all its slots, another one that is idle has a dead one's message within the second that the
/// driver declares.
#[test]
fn an_idle_consumer_has_a_dead_ones_message_at_once() {
    let ground = with_book("");
    let busy = consumer(&ground, "1");
    ground.send("hold-busy\n");
    wait_for_line(&ground, "+hold-busy");
    let mut doomed = consumer(&ground, "1");
    ground.send("hold-orphan\n");
    wait_for_line(&ground, "+hold-orphan");
    let idle = consumer(&ground, "1");
    doomed.signal(Signal::KILL);
    let killed = Instant::now();
    doomed.wait();
    wait_for("the orphan to be begun again", || times(&ground, "+hold-orphan") == 2);
    let took = killed.elapsed();
    assert!(took < CRASH_RETURN, "{took:?}");
    ground.write("go-hold-orphan", "");
    wait_for_line(&ground, "-hold-orphan");
    ground.write("go-hold-busy", "");
    ground.wait_empty();
    assert_eq!(times(&ground, "+hold-busy"), 1);
    stop(busy);
    stop(idle);
}

/// What a consumer has taken ahead of its slots because the handler was quick is given back untouched when one job turns slow,
/// so that another consumer has it soon.
#[test]
fn what_waits_behind_a_slow_job_is_given_back() {
    let ground = ground("exec: { run: ['./run.sh'] }", "");
    ground.script(
        "run.sh",
        "read -r id\n\
         case $id in hold-*) echo \"+$id\" >> book; until test -e \"go-$id\"; do sleep 0.02; done;; esac\n\
         case $id in behind-*) echo \"+$id $QCTL_DELIVERIES\" >> book;; esac",
    );
    let quick = "quick\n".repeat(80);
    ground.send(&format!("{quick}hold-slow\nbehind-1\nbehind-2\nbehind-3\nbehind-4\n"));
    let slow = consumer(&ground, "1");
    wait_for_line(&ground, "+hold-slow");
    let begun = Instant::now();
    let other = consumer(&ground, "1");
    while !(1..=4).all(|number| times(&ground, &format!("+behind-{number} 1")) == 1) {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "what was behind it is not handled, once each: {}\n{}\n{}",
            ground.read("book"),
            slow.stderr(),
            other.stderr()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(
        slow.stderr().contains("given back untouched"),
        "something had been taken ahead, or this test has shown nothing: {}",
        slow.stderr()
    );
    wait_for("the slow one alone to be held", || ground.figure("held") == 1);
    ground.write("go-hold-slow", "");
    ground.wait_empty();
    stop(slow);
    stop(other);
}

/// A consumer with three slots that runs `hold-long`, beside a message `hold-suspect` whose consumer was killed over it.
fn with_suspect() -> (Ground, Running) {
    let ground = with_book("");
    let mut doomed = consumer(&ground, "1");
    ground.send("hold-suspect\n");
    wait_for_line(&ground, "+hold-suspect");
    let survivor = consumer(&ground, "3");
    ground.send("hold-long\n");
    wait_for_line(&ground, "+hold-long");
    doomed.signal(Signal::KILL);
    doomed.wait();
    wait_for("the suspect to be given back", || ground.figure("ready") == 1);
    (ground, survivor)
}

/// A message that may have killed its consumer is not begun beside a job that runs already, nor is another one begun beside
/// it; what is not suspected goes on meanwhile.
#[test]
fn a_suspect_runs_alone() {
    let (ground, survivor) = with_suspect();
    ground.send("fine\n");
    wait_for_line(&ground, "-fine");
    assert_eq!(times(&ground, "+hold-suspect"), 1, "not beside the long one");
    ground.write("go-hold-long", "");
    wait_for("the suspect to be begun again", || times(&ground, "+hold-suspect") == 2);
    ground.send("hold-late\n");
    ground.write("go-hold-late", "");
    // Only now may the suspect end, and were it not alone the late one would be begun before that.
    ground.write("go-hold-suspect", "");
    ground.wait_empty();
    let book = ground.read("book");
    let expected =
        "+hold-suspect\n+hold-long\n+fine\n-fine\n-hold-long\n+hold-suspect\n-hold-suspect\n+hold-late\n-hold-late\n";
    assert_eq!(book, expected);
    stop(survivor);
}

/// A suspect that has waited for 30 s is begun beside others, or a busy consumer would never get to it; and nothing else has to
/// happen for that.
#[test]
fn a_suspect_does_not_wait_for_ever() {
    let (ground, survivor) = with_suspect();
    comes_beside_others_in_the_end(&ground, 1);
    stop(survivor);
}

/// Nor does one that a consumer had taken alone and given back unfinished.
#[test]
fn a_suspect_that_was_given_back_does_not_wait_for_ever() {
    let (ground, survivor) = with_suspect();
    let mut stopped = consumer(&ground, "1");
    wait_for("the suspect to be begun again", || times(&ground, "+hold-suspect") == 2);
    stopped.signal(Signal::TERM);
    stopped.wait_stderr("stopping");
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.wait(), Some(130), "{}", stopped.stderr());
    assert_eq!(ground.figure("ready"), 1);
    comes_beside_others_in_the_end(&ground, 2);
    stop(survivor);
}

/// The suspect, begun so often until now, is begun beside `hold-long` as soon as 30 s are over.
fn comes_beside_others_in_the_end(ground: &Ground, begun: usize) {
    let before = Instant::now();
    // It has waited for 28.5 of its 30 s.
    python(
        ground,
        "import sqlite3; db = sqlite3.connect('queue.db', timeout=20); \
         db.execute('update message set held_since = held_since - 28500 where suspect = 1'); db.commit()",
    );
    // So that the consumer looks once more; from here on it knows when the suspect's wait is over.
    ground.send("fine\n");
    wait_for_line(ground, "-fine");
    wait_for("the suspect to be begun beside the long one", || {
        times(ground, "+hold-suspect") > begun
    });
    let took = before.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(times(ground, "-hold-long"), 0);
    for message in ["long", "suspect"] {
        ground.write(&format!("go-hold-{message}"), "");
    }
    ground.wait_empty();
}

/// The owner of a message as the tables have it: asking qctl would recover it.
fn is_held(ground: &Ground, body: &str) -> bool {
    python(
        ground,
        &format!(
            "import sqlite3; db = sqlite3.connect('queue.db'); \
             row = db.execute(\"select state from message where cast(body as text) = '{body}'\").fetchone(); \
             open('state', 'w').write(str(row[0] if row else 'none'))"
        ),
    );
    let state = ground.read("state");
    assert_ne!(state, "none", "{body} is in the store");
    state != "0"
}

/// A consumer that is busy in all its slots, and alone, gives back what a dead one held all the same.
#[test]
fn a_busy_consumer_recovers_what_a_dead_one_held() {
    let ground = with_book("");
    let busy = consumer(&ground, "1");
    ground.send("hold-busy\n");
    wait_for_line(&ground, "+hold-busy");
    let mut doomed = consumer(&ground, "1");
    ground.send("hold-orphan\n");
    wait_for_line(&ground, "+hold-orphan");
    assert!(is_held(&ground, "hold-orphan"));
    doomed.signal(Signal::KILL);
    let killed = Instant::now();
    doomed.wait();
    wait_for("the orphan to be given back", || !is_held(&ground, "hold-orphan"));
    let took = killed.elapsed();
    assert!(took < CRASH_RETURN, "{took:?}");
    assert!(is_held(&ground, "hold-busy"));
    ground.write("go-hold-orphan", "");
    ground.write("go-hold-busy", "");
    ground.wait_empty();
    assert_eq!((times(&ground, "-hold-busy"), times(&ground, "-hold-orphan")), (1, 1));
    stop(busy);
}

/// A message that killed its consumers too often is given up unhandled, and the next one is taken after it.
#[test]
fn what_follows_a_poison_message_is_handled() {
    let ground = with_book("retry: { deliveries: 1 }");
    ground.send("hold-poison\n");
    let mut doomed = consumer(&ground, "1");
    wait_for_line(&ground, "+hold-poison");
    doomed.signal(Signal::KILL);
    doomed.wait();
    let survivor = consumer(&ground, "1");
    wait_for("the poison to be dead-lettered", || ground.figure("dead") == 1);
    ground.send("next\n");
    wait_for_line(&ground, "-next");
    assert_eq!(times(&ground, "+hold-poison"), 1);
    stop(survivor);
    // Whoever takes it from there counts anew, and gets it.
    let dead = ground.start(["consumer", "demo.dead"]);
    ground.write("go-hold-poison", "");
    wait_for("it to be handled there", || {
        ground.read("dead-book") == "0 1 hold-poison\n"
    });
    stop(dead);
}

/// A queue that is deleted and declared anew while its consumer is busy is another one; the consumer notices and goes on with it.
#[test]
fn a_queue_made_anew_under_a_busy_consumer_is_consumed() {
    let ground = with_book("");
    let busy = consumer(&ground, "1");
    ground.send("hold-busy\n");
    wait_for_line(&ground, "+hold-busy");
    ground
        .run(["managequeue", "delete", "--force", "--yes", "demo"])
        .any_stdout()
        .any_stderr()
        .check();
    // The first one is given the number that is free now.
    for name in ["another", "demo"] {
        ground
            .run(["managequeue", "declare", name])
            .any_stdout()
            .any_stderr()
            .check();
    }
    ground.write("go-hold-busy", "");
    wait_for_line(&ground, "-hold-busy");
    // Long after it has looked, or not at all if it heard nothing.
    busy.wait_stderr("was deleted");
    ground.send("next\n");
    wait_for_line(&ground, "-next");
    stop(busy);
}

/// So many are handled as `-m` says, although some that were begun ahead of the slots were given back when one turned slow.
#[test]
fn a_message_limit_is_reached_in_full() {
    let ground = with_book("");
    let quick = "quick\n".repeat(60);
    ground.send(&format!("{quick}hold-slow\n{}", "late\n".repeat(20)));
    let mut limited = ground.start(["consumer", "-m", "63", "demo"]);
    wait_for_line(&ground, "+hold-slow");
    wait_for("what waits behind it to be given back", || ground.figure("ready") == 20);
    ground.write("go-hold-slow", "");
    assert_eq!(limited.wait(), Some(0), "{}", limited.stderr());
    assert!(limited.stderr().contains("63 done"), "{}", limited.stderr());
    assert_eq!(ground.figure("ready"), 18);
}

/// Whatever others who may write there put into the store's folders, nobody waits for it.
#[test]
fn a_fifo_for_an_owner_holds_nobody_up() {
    let ground = with_book("");
    ground.send("a\n");
    let token = "0123456789abcdef0123456789abcdef";
    rustix::fs::mknodat(
        rustix::fs::CWD,
        ground.path("queue.db.owners").join(token),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    python(
        &ground,
        &format!(
            "import sqlite3; db = sqlite3.connect('queue.db'); \
             db.execute(\"insert into owner(token, queue, since) select '{token}', id, 0 from queue limit 1\"); db.commit()"
        ),
    );
    assert_eq!(ground.figure("ready"), 1);
}
