//! How fast children are run: `Command::status` on plain threads against [`Runner`] and [`Pool`] with captured pipes.
//!
//! `cargo bench --bench spawn`, or with a count: `cargo bench --bench spawn -- 3000`. The ways take turns, so that what
//! else the machine does meanwhile befalls them alike.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use qctl::process::{Cancel, Environment, Guardian, Job, OWNER, Pool, Program, Runner};
use qctl::queue::Lifeline;

const THREADS: usize = 2;
const ROUNDS: usize = 7;

fn job(guardian: Option<&Arc<Guardian>>) -> Job {
    let mut env = Environment::inherited();
    env.set(OWNER, "bench");
    let mut job = Job::new(Program::locate(vec!["/bin/true".to_owned()], env, None).expect("/bin/true is there"));
    job.keep = 1 << 20;
    job.lines = Some(Box::new(|_, _| {}));
    job.guardian = guardian.cloned();
    job
}

fn on_threads(count: usize, each: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| each(count / THREADS));
        }
    });
}

fn bare(count: usize) {
    on_threads(count, |count| {
        for _ in 0..count {
            assert!(Command::new("/bin/true").status().expect("/bin/true runs").success());
        }
    });
}

fn runner(count: usize, guardian: Option<&Arc<Guardian>>) {
    on_threads(count, |count| {
        let mut runner = Runner::new().expect("an event counter");
        for _ in 0..count {
            let ended = runner.run(job(guardian), &Cancel::new()).expect("/bin/true runs");
            assert_eq!(ended.exit_code, Some(0));
        }
    });
}

fn pool(count: usize, guardian: Option<&Arc<Guardian>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let pool = Pool::new("bench", THREADS);
        let slot = async || {
            for _ in 0..count / THREADS {
                assert_eq!(
                    pool.submit(job(guardian)).await.expect("/bin/true runs").exit_code,
                    Some(0)
                );
            }
        };
        tokio::join!(slot(), slot());
    });
}

fn main() {
    let count = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(3000);
    let lifeline = Lifeline {
        token: "bench".to_owned(),
        file: None,
    };
    let guardian = Guardian::start(Path::new(env!("CARGO_BIN_EXE_qctl")), &lifeline).expect("a guardian");
    let guardian = Arc::new(guardian);
    let ways: [(&str, &dyn Fn(usize)); 4] = [
        ("bare Command::status", &bare),
        ("Runner, captured", &|count| runner(count, None)),
        ("Runner, captured, guarded", &|count| runner(count, Some(&guardian))),
        ("Pool, captured, guarded", &|count| pool(count, Some(&guardian))),
    ];
    let mut best: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (index, (_, way)) in ways.iter().enumerate() {
            let started = Instant::now();
            way(count);
            best.entry(index)
                .or_default()
                .push(count as f64 / started.elapsed().as_secs_f64());
        }
    }
    let floor = median(&best[&0]);
    for (index, (name, _)) in ways.iter().enumerate() {
        let rates = &best[&index];
        let most = rates.iter().copied().fold(0.0, f64::max);
        println!(
            "{name:28} median {:6.0}/s  best {most:6.0}/s  {:.2} of bare",
            median(rates),
            median(rates) / floor
        );
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
