//! How fast children are run: `Command::status` on plain threads against [`Runner`] and [`Pool`] with captured pipes.
//!
//! `cargo bench --bench spawn`, or with a count: `cargo bench --bench spawn -- 3000`. The ways take short turns, and each is
//! compared with the bare one of the same round, so that what else the machine does meanwhile befalls them alike.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use qctl::process::{Cancel, Environment, Guardian, Job, OWNER, Pool, Program, Runner};
use qctl::queue::Lifeline;

const THREADS: usize = 2;
/// How many children are run in one turn.
const TURN: usize = 150;

fn program() -> Program {
    let mut env = Environment::inherited();
    env.set(OWNER, "bench");
    Program::locate(vec!["/bin/true".to_owned()], env, None).expect("/bin/true is there")
}

fn job(program: &Program, guardian: Option<&Arc<Guardian>>) -> Job {
    let mut job = Job::new(program.clone());
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
    let program = program();
    on_threads(count, |count| {
        let mut runner = Runner::new().expect("an event counter");
        for _ in 0..count {
            let ended = runner
                .run(job(&program, guardian), &Cancel::new())
                .expect("/bin/true runs");
            assert_eq!(ended.exit_code, Some(0));
        }
    });
}

fn pool(count: usize, ahead: usize, guardian: Option<&Arc<Guardian>>) {
    let program = program();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let pool = Pool::new("bench", THREADS);
        let callers = THREADS + ahead;
        let slot = async |number: usize| {
            for _ in 0..(count + number) / callers {
                assert_eq!(
                    pool.submit(job(&program, guardian))
                        .await
                        .expect("/bin/true runs")
                        .exit_code,
                    Some(0)
                );
            }
        };
        futures_util::future::join_all((0..callers).map(slot)).await;
    });
}

fn main() {
    let count: usize = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(3000);
    let lifeline = Lifeline {
        token: "bench".to_owned(),
        file: None,
        socket: None,
    };
    let guardian = Guardian::start(Path::new(env!("CARGO_BIN_EXE_qctl")), &lifeline).expect("a guardian");
    let guardian = Arc::new(guardian);
    let ways: [(&str, &dyn Fn(usize)); 6] = [
        ("bare Command::status", &bare),
        ("Runner, captured", &|count| runner(count, None)),
        ("Runner, captured, guarded", &|count| runner(count, Some(&guardian))),
        ("Pool, captured, guarded", &|count| pool(count, 0, Some(&guardian))),
        ("Pool, one job ahead", &|count| pool(count, 1, Some(&guardian))),
        ("Pool, two jobs ahead", &|count| pool(count, 2, Some(&guardian))),
    ];
    let mut rates = [(); 6].map(|()| Vec::new());
    let mut ratios = [(); 6].map(|()| Vec::new());
    for _ in 0..count.div_ceil(TURN) {
        let mut floor = None;
        for (index, (_, way)) in ways.iter().enumerate() {
            let started = Instant::now();
            way(TURN);
            let rate = TURN as f64 / started.elapsed().as_secs_f64();
            rates[index].push(rate);
            ratios[index].push(rate / *floor.get_or_insert(rate));
        }
    }
    for (index, (name, _)) in ways.iter().enumerate() {
        let (low, middle, high) = quartiles(&rates[index]);
        let (_, ratio, _) = quartiles(&ratios[index]);
        println!("{name:26} {middle:5.0}/s [{low:.0}-{high:.0}]  {ratio:.2} of bare");
    }
}

fn quartiles(values: &[f64]) -> (f64, f64, f64) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
    (at(1), at(2), at(3))
}
