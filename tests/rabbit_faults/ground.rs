//! The place of a test: a virtual host, a configuration that leads there, a handler that keeps a book, and the reckoning
//! at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::rabbit::{DEADLINE, Vhost};
use crate::support::{Place, Running, wait_for};

/// The queue `demo` of a virtual host, with the consumer and the producer `demo`.
pub struct Ground {
    place: Place,
    pub vhost: Vhost,
}

/// What a test's consumer is made of beside its handler, `./run.sh`.
#[derive(Default)]
pub struct Setup<'a> {
    /// Where the consumer connects to, if not straight to the broker.
    pub through: Option<SocketAddr>,
    /// Further keys of the consumer's connection, such as `heartbeat: 1s`.
    pub connection: &'a str,
    /// Further keys of the consumer.
    pub consumer: &'a str,
    /// Its `queue:`.
    pub queue: &'a str,
}

/// Writes the beginning and the end of each message into the book, and beside it what runs beside itself. `hold-…` waits for
/// [`Ground::let_go`], `fail-…` fails the first time, and `slow-…` takes a moment.
const HANDLER: &str = "id=$(cat)\n\
     exec 9>>\"locks/$id\"\n\
     flock -n -E 99 9 || echo \"$id\" >> overlaps\n\
     echo \"+$id $$ $QCTL_DELIVERIES\" >> book\n\
     case $id in\n\
     hold-*) until test -e \"go-$id\"; do sleep 0.02; done;;\n\
     slow-*) sleep 0.05;;\n\
     fail-*) if [ \"$QCTL_ATTEMPT\" = 0 ]; then exit 1; fi;;\n\
     esac\n\
     echo \"-$id\" >> book";

impl Ground {
    pub fn new(vhost: Vhost, setup: &Setup<'_>) -> Self {
        let ground = Self {
            place: Place::new(),
            vhost,
        };
        ground.configure(setup);
        ground.script("run.sh", HANDLER);
        std::fs::create_dir(ground.path("locks")).unwrap();
        ground
    }

    /// Writes the configuration; what runs already keeps the one before.
    pub fn configure(&self, setup: &Setup<'_>) {
        let straight = self.vhost.url();
        let through = setup
            .through
            .map_or_else(|| straight.clone(), |address| self.vhost.url_at(address));
        // Whoever sends declares the queue as its own connection knows it.
        let producer = setup.through.map_or("through", |_| "straight");
        let queue = if setup.queue.is_empty() { "demo" } else { setup.queue };
        self.write(
            "qctl.yml",
            format!(
                "default: straight\n\
                 connections:\n  straight: {{ url: '{straight}' }}\n  through: {{ url: '{through}', {} }}\n\
                 producers: {{ demo: {{ connection: {producer}, queue: demo }} }}\n\
                 consumers:\n  demo:\n    connection: through\n    queue: {queue}\n    \
                 handler: {{ exec: {{ run: ['./run.sh'] }} }}\n    {}\n",
                setup.connection, setup.consumer
            ),
        );
    }

    /// A consumer that takes.
    pub fn consumer(&self, slots: u32) -> Consumer {
        let slots = slots.to_string();
        let mut consumer =
            Consumer::of(self.start(["--connect-timeout", "2", "consumer", "--concurrency", &slots, "demo"]));
        wait_for("it to consume or to end", || {
            consumer.has_ended() || consumer.lines(" consuming ") > 0
        });
        assert!(!consumer.has_ended(), "{}", consumer.stderr());
        consumer
    }

    /// Sends each line, confirmed.
    pub fn send(&self, lines: &str) {
        self.run(["queuemessage", "--lines", "demo"])
            .stdin(lines)
            .any_stdout()
            .check();
    }

    /// Sends a message past qctl, whose login may be used up.
    pub fn vhost_publish(&self, body: &str) -> bool {
        self.vhost
            .publish("", "demo", &serde_json::json!({"delivery_mode": 2}), body.as_bytes())
    }

    /// Ends the message `hold-…`.
    pub fn let_go(&self, id: &str) {
        self.write(&format!("go-{id}"), "");
    }

    /// How often a line of the book begins with this word.
    pub fn times(&self, word: &str) -> usize {
        self.read("book")
            .lines()
            .filter(|line| line.split(' ').next() == Some(word))
            .count()
    }

    pub fn wait_times(&self, word: &str, count: usize) {
        wait_for(&format!("{word} {count} times in the book"), || {
            self.times(word) >= count
        });
    }

    /// The process that ran this message most lately.
    pub fn child(&self, id: &str) -> u32 {
        let book = self.read("book");
        let word = format!("+{id} ");
        let line = book.lines().rev().find_map(|line| line.strip_prefix(&word)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    }

    /// Shows that the consumer takes messages: one that is sent now is handled.
    pub fn consumes(&self, id: &str) {
        self.send(&format!("{id}\n"));
        self.wait_times(&format!("-{id}"), 1);
    }

    /// Waits until the broker holds no message for the consumer, ready or unacknowledged.
    pub fn wait_empty(&self) {
        wait_for("the queue to be empty", || {
            let counts = self.vhost.counts("demo");
            counts.ready == 0 && counts.unacknowledged == 0
        });
    }

    /// Everything that was `sent` has been handled to its end, nothing else was begun, nothing was given up or ran beside
    /// itself, and no more than so many were handled once more. Returns how many were.
    pub fn reckon(&self, sent: &[String], at_most_twice: usize) -> usize {
        self.reckon_all(sent, sent, at_most_twice)
    }

    /// As [`Ground::reckon`], where some of what was `offered` was not confirmed, and may have been taken or not.
    pub fn reckon_all(&self, confirmed: &[String], offered: &[String], at_most_twice: usize) -> usize {
        let mut done: BTreeMap<String, usize> = BTreeMap::new();
        let mut begun = BTreeSet::new();
        for line in self.read("book").lines() {
            let word = line.split(' ').next().unwrap();
            match word.split_at(1) {
                ("-", id) => *done.entry(id.to_owned()).or_default() += 1,
                ("+", id) => drop(begun.insert(id.to_owned())),
                _ => panic!("the book has an unexpected line: {line:?}"),
            }
        }
        let lost: Vec<&String> = confirmed.iter().filter(|id| !done.contains_key(*id)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} are lost: {lost:?}",
            lost.len(),
            confirmed.len()
        );
        let offered: BTreeSet<&String> = offered.iter().collect();
        let unexpected: Vec<&String> = begun.iter().filter(|id| !offered.contains(id)).collect();
        assert!(unexpected.is_empty(), "nobody sent {unexpected:?}");
        let again = done.values().map(|times| times - 1).sum();
        eprintln!(
            "{} confirmed, {} handled, {again} of them again",
            confirmed.len(),
            done.len()
        );
        assert!(
            again <= at_most_twice,
            "{again} were handled again, {at_most_twice} may be"
        );
        if self.vhost.queue("demo.dead").is_some() {
            assert_eq!(self.vhost.counts("demo.dead").ready, 0, "nothing was given up");
        }
        again
    }

    /// The load ends, and one more message is sent: everything is handled, as with [`Ground::reckon_all`].
    pub fn reckon_load(&self, load: Load<'_>, at_most_twice: usize) -> usize {
        let (confirmed, offered) = load.stop();
        self.consumes("afterwards");
        self.wait_empty();
        let with_last = |ids: Vec<String>| [ids, vec!["afterwards".to_owned()]].concat();
        self.reckon_all(&with_last(confirmed), &with_last(offered), at_most_twice)
    }

    /// The message `hold-a` was begun and comes to its end, and so does one behind it: neither is lost or done twice, and nothing
    /// runs beside itself.
    pub fn ends_well(&self, consumer: Consumer) {
        self.let_go("hold-a");
        self.consumes("afterwards");
        self.wait_empty();
        self.reckon(&["hold-a".to_owned(), "afterwards".to_owned()], 0);
        self.no_overlaps();
        consumer.stop();
    }

    pub fn no_overlaps(&self) {
        assert_eq!(self.read("overlaps"), "", "ran beside themselves");
    }
}

impl Deref for Ground {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Ground {
    /// What a failed test is understood by.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the book\n{}", self.read("book"));
            for file in std::fs::read_dir(self.path("")).unwrap().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if name.starts_with("err-") {
                    eprintln!("--- a log\n{}", self.read(&name));
                }
            }
        }
    }
}

/// A consumer in the background.
pub struct Consumer {
    running: Running,
}

impl Consumer {
    /// One that may not consume yet.
    pub fn of(running: Running) -> Self {
        Self { running }
    }

    /// How many lines of its log have these words.
    pub fn lines(&self, words: &str) -> usize {
        self.running
            .stderr()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    }

    /// Waits for the first line with these words; the time that took.
    pub fn wait_line(&self, words: &str) -> Duration {
        let begun = Instant::now();
        self.wait_lines(words, 1);
        begun.elapsed()
    }

    pub fn wait_lines(&self, words: &str, count: usize) {
        let until = Instant::now() + DEADLINE;
        while self.lines(words) < count {
            assert!(
                Instant::now() < until,
                "waited in vain for {words:?} {count} times in: {}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has begun to consume so often in all.
    pub fn wait_consuming(&self, times: usize) {
        self.wait_lines(" consuming ", times);
    }

    /// Exactly one line with these words is in its log.
    pub fn said_once(&self, words: &str) {
        assert_eq!(
            self.lines(words),
            1,
            "{words:?} in one line of: {}",
            self.running.stderr()
        );
    }

    /// Ends it by SIGTERM, which must be in good order.
    pub fn stop(mut self) {
        self.running.signal(Signal::TERM);
        assert_eq!(self.running.wait(), Some(0), "{}", self.running.stderr());
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        self.running.signal(Signal::KILL);
        assert_eq!(self.running.wait(), None, "it died of the signal");
    }
}

impl Deref for Consumer {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl std::ops::DerefMut for Consumer {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// Somebody who sends one message after the other with `qctl queuemessage`, and writes down what was confirmed.
pub struct Load<'a> {
    ground: &'a Ground,
    running: Running,
}

impl<'a> Load<'a> {
    pub fn start(ground: &'a Ground) -> Self {
        ground.script(
            "load.sh",
            "i=0\n\
             until test -e load-over; do\n\
             i=$((i + 1))\n\
             echo \"slow-$i\" >> offered\n\
             if \"$QCTL\" --connect-timeout 1 queuemessage demo \"slow-$i\" >/dev/null 2>>refusals; then\n\
             echo \"slow-$i\" >> confirmed; else sleep 0.05; fi\n\
             done",
        );
        let qctl = ground.command();
        let mut command = Command::new(ground.path("load.sh"));
        command.env_clear().current_dir(ground.path(""));
        for (name, value) in qctl.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("QCTL", qctl.get_program());
        Self {
            running: ground.launch(command),
            ground,
        }
    }

    /// How many messages were confirmed until now.
    pub fn confirmed(&self) -> usize {
        self.ground.read("confirmed").lines().count()
    }

    /// Waits until so many more were confirmed.
    pub fn goes_on(&self, more: usize) {
        let before = self.confirmed();
        wait_for("messages to be confirmed", || self.confirmed() >= before + more);
    }

    /// Ends it; the ids that were confirmed, and all that were offered.
    pub fn stop(mut self) -> (Vec<String>, Vec<String>) {
        self.ground.write("load-over", "");
        assert_eq!(self.running.wait(), Some(0), "{}", self.running.stderr());
        let ids = |name| self.ground.read(name).lines().map(str::to_owned).collect();
        (ids("confirmed"), ids("offered"))
    }
}

/// Names `PREFIX-1` to `PREFIX-COUNT`.
pub fn ids(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix}-{number}")).collect()
}

/// Their lines.
pub fn lines(ids: &[String]) -> String {
    ids.join("\n") + "\n"
}
