//! `majordomo-simulate`: runs many seeds, or one seed or script again with its trace. `cargo xtask simulate` builds it first.

#![expect(clippy::print_stdout, reason = "a program for people, whose output is its purpose")]

mod report;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use simulation::plan::{self, Mix};
use simulation::script::Script;
use simulation::{Failure, Report, shrink};

use report::Sum;

/// One seed of so many is run a second time, by hosts whose clocks began to count at other moments.
const OTHER_CLOCKS: u64 = 32;
/// After so many failures the rest of the seeds is not run.
const MAX_FAILURES: usize = 10;

/// Run the machines of broker, clients and workers in virtual time, over a network that goes wrong.
#[derive(Parser, Debug)]
#[command(name = "majordomo-simulate")]
struct Arguments {
    /// How many seeds to run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Run this seed alone and tell what happens; if a promise is broken, shrink the script
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Run the script of this file alone and tell what happens
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed"])]
    script: Option<PathBuf>,
    /// Threads; by default one for each processor
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

fn main() -> ExitCode {
    // A machine that panics is a broken promise, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    let outcome = match (&arguments.script, arguments.seed) {
        (Some(file), _) => read(file).map(|script| replay(&script)),
        (None, Some(seed)) => Ok(replay(&plan::script(seed, Mix::of(seed)))),
        (None, None) => Ok(run_all(&arguments)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("majordomo-simulate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(file: &PathBuf) -> Result<Script> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Script::from_text(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

/// Runs a script, tells what happens, and shrinks it if it breaks a promise; whether it does not.
fn replay(script: &Script) -> bool {
    let (outcome, told) = simulation::trace(script);
    told.iter().for_each(|line| println!("{line}"));
    match outcome.and_then(|_| simulation::run_by_other_clocks(script)) {
        Ok(report) => {
            println!("every promise was kept: {report:?}");
            true
        }
        Err(failure) => {
            tell(script, &failure);
            false
        }
    }
}

/// Tells of a broken promise, with a script that is as short as it can be made.
fn tell(script: &Script, failure: &Failure) {
    let run: fn(&Script) -> Result<Report, Failure> =
        if simulation::run(script).is_err() { simulation::run } else { simulation::run_by_other_clocks };
    let short = shrink::shrink(script, failure, run);
    println!("seed {}: broken: {}: {}", script.setting.seed, failure.promise, failure.detail);
    println!("# {} of {} acts break it; run them again with --script", short.acts.len(), script.acts.len());
    print!("{}", short.to_text());
}

/// Runs many seeds on all processors; whether none failed.
fn run_all(arguments: &Arguments) -> bool {
    let begin = Instant::now();
    let end = arguments.from.saturating_add(arguments.seeds);
    let (next, done, ended) = (AtomicU64::new(arguments.from), AtomicU64::new(0), AtomicUsize::new(0));
    let sum = Mutex::new(Sum::default());
    let lock = || sum.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Sum::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || lock().failures.len() >= MAX_FAILURES {
                        break;
                    }
                    let script = plan::script(seed, Mix::of(seed));
                    let again = seed % OTHER_CLOCKS == 0;
                    let outcome =
                        if again { simulation::run_by_other_clocks(&script) } else { simulation::run(&script) };
                    own.add(if again { 2 } else { 1 }, &outcome);
                    if let Err(failure) = outcome {
                        eprintln!("seed {seed}: broken: {}", failure.promise);
                        lock().failures.push((seed, failure));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                lock().merge(&own);
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| tell_progress(arguments, begin, &done, || ended.load(Ordering::Relaxed) == threads));
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (seed, failure) in &sum.failures {
        tell(&plan::script(*seed, Mix::of(*seed)), failure);
    }
    println!("{}", sum.line(arguments.from, done.load(Ordering::Relaxed), begin.elapsed()));
    sum.failures.is_empty()
}

/// Says from time to time how far it is, until all threads have ended.
fn tell_progress(arguments: &Arguments, begin: Instant, done: &AtomicU64, is_over: impl Fn() -> bool) {
    let mut told = Instant::now();
    while !is_over() {
        std::thread::sleep(Duration::from_millis(50));
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            let (done, seconds) = (done.load(Ordering::Relaxed), begin.elapsed().as_secs_f64());
            let rate = done as f64 / seconds;
            let left = (arguments.seeds.saturating_sub(done)) as f64 / rate.max(1.0);
            eprintln!("{done} of {} seeds, {rate:.0} a second, {left:.0} s to go", arguments.seeds);
        }
    }
}
