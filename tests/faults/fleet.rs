//! Several consumers of one queue, killed at random and started again.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::ground::Ground;
use crate::support::{Running, wait_for};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Consumer,
    Guardian,
    /// The consumer, and its guardian before it can do anything about it.
    Both,
    /// Every consumer with its guardian.
    All,
}

/// Consumers that are replaced as soon as they are killed.
pub struct Fleet<'a> {
    ground: &'a Ground,
    args: &'a [&'a str],
    consumers: Vec<Running>,
    pub rng: Rng,
    /// So many consumers were killed.
    pub consumers_killed: usize,
    /// So many guardians were killed.
    pub guardians_killed: usize,
}

impl<'a> Fleet<'a> {
    /// Starts so many consumers with these arguments.
    pub fn start(ground: &'a Ground, name: &str, count: usize, args: &'a [&'a str]) -> Self {
        let seed = std::env::var("QCTL_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        eprintln!("{name}: seed {seed}");
        Self {
            ground,
            args,
            consumers: (0..count).map(|_| ground.start(args)).collect(),
            rng: Rng::with_seed(seed),
            consumers_killed: 0,
            guardians_killed: 0,
        }
    }

    /// Kills one of `targets` every so many milliseconds until the queue is empty, but no longer than `at_most`: a busy machine
    /// then gets the time that it needs, as long as anything is done at all.
    pub fn kill_until_empty(&mut self, targets: &[Target], every: std::ops::Range<u64>, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while Instant::now() < deadline {
            thread::sleep(Duration::from_millis(self.rng.u64(every.clone())));
            // Killed first, looked at then: work that is done quickly is disturbed all the same.
            let target = *self.rng.choice(targets).unwrap();
            self.kill(target);
            if self.ground.is_empty() {
                return;
            }
        }
        let mut left = self.ground.left();
        while left > 0 {
            let before = left;
            wait_for("something to be done undisturbed", || {
                left = self.ground.left();
                left < before
            });
        }
    }

    fn kill(&mut self, target: Target) {
        let one = self.rng.usize(..self.consumers.len());
        let chosen = if target == Target::All {
            0..self.consumers.len()
        } else {
            one..one + 1
        };
        for index in chosen.clone() {
            let consumer = &mut self.consumers[index];
            assert!(
                !consumer.has_ended(),
                "a consumer ended by itself: {}",
                consumer.stderr()
            );
            let pid = Pid::from_raw(consumer.pid().cast_signed()).unwrap();
            let guardian = if target == Target::Consumer {
                None
            } else {
                guardian_of(pid)
            };
            let guardian_first = self.rng.bool();
            let kill_guardian = || {
                if let Some(guardian) = guardian {
                    let _ = kill_process(guardian, Signal::KILL);
                }
            };
            if guardian_first {
                kill_guardian();
            }
            if target != Target::Guardian {
                consumer.signal(Signal::KILL);
                self.consumers_killed += 1;
            }
            if !guardian_first {
                kill_guardian();
            }
            self.guardians_killed += usize::from(guardian.is_some());
        }
        if target != Target::Guardian {
            for index in chosen {
                assert_eq!(self.consumers[index].wait(), None, "it died of the signal");
                self.consumers[index] = self.ground.start(self.args);
            }
        }
    }

    /// Stops all of them in order.
    pub fn stop(mut self) {
        for consumer in &mut self.consumers {
            // A signal that comes before the consumer listens would kill it.
            wait_for("the consumer to listen", || consumer.stderr().contains("consuming"));
            consumer.signal(Signal::TERM);
        }
        for consumer in &mut self.consumers {
            assert_eq!(consumer.wait(), Some(0), "{}", consumer.stderr());
        }
    }
}

/// The guardian of a living consumer; `None` if it has none yet, or none any more.
pub fn guardian_of(consumer: Pid) -> Option<Pid> {
    let parent = consumer.as_raw_nonzero().get();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
        let found: i32 = fields.next()?.parse().ok()?;
        if found != parent {
            return None;
        }
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        words
            .split(|byte| *byte == 0)
            .any(|word| word == b"__guardian")
            .then(|| Pid::from_raw(pid))?
    })
}
