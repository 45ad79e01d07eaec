//! `cargo xtask sanitize`: the tests of the core and of the C library in builds that watch memory and threads.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::build::make;
use crate::nightly::{Nightly, ordinary_libzmq};
use crate::process::Run;
use crate::project::Project;

/// Why ThreadSanitizer is skipped.
const NO_LIBRARY: &str = "SKIPPED: thread: the nightly toolchain has no rust-src. ThreadSanitizer must see the locks, which are in the standard
library: without a library that is built for it, it reports every second lock that was waited for as a race.
Get it by `rustup component add rust-src --toolchain nightly`, or say where the sources are: --library-source FOLDER";

/// The tests of the core.
const TESTS: [&str; 6] = ["--package", "majordomo", "--lib", "--tests", "--no-fail-fast", "--"];

/// What the names of the tests say that fork.
const FORKS: [&str; 2] = ["fork", "child"];

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// What is to watch; by default both
    #[arg(value_enum)]
    sanitizers: Vec<Sanitizer>,
    /// The folder `library` of the Rust sources, for ThreadSanitizer where the toolchain has no rust-src; of a version as
    /// close to the toolchain's as can be had
    #[arg(long, value_name = "FOLDER")]
    library_source: Option<PathBuf>,
}

/// What watches.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Sanitizer {
    /// AddressSanitizer: memory that is used wrongly or leaks.
    Address,
    /// ThreadSanitizer: memory that threads use at the same time.
    Thread,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Sanitizer::Address => "address",
            Sanitizer::Thread => "thread",
        }
    }

    /// The name of its runtime library.
    fn runtime(self) -> &'static str {
        match self {
            Sanitizer::Address => "asan",
            Sanitizer::Thread => "tsan",
        }
    }

    /// The variable that its runtime reads, and what it says.
    fn options(self) -> (&'static str, &'static str) {
        match self {
            Sanitizer::Address => ("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1"),
            // Our tests fork with threads on purpose: the children touch nothing of the parent's.
            Sanitizer::Thread => ("TSAN_OPTIONS", "die_after_fork=0:history_size=4:second_deadlock_stack=1"),
        }
    }

    fn options_without_leaks(self) -> String {
        self.options().1.replace("detect_leaks=1", "detect_leaks=0")
    }
}

/// Runs the tests under each sanitizer; whether nothing was found. What this machine lacks is skipped, and said.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<bool> {
    let Arguments { sanitizers, library_source } = arguments;
    let sanitizers = if sanitizers.is_empty() { Sanitizer::value_variants() } else { sanitizers };
    if let Some(folder) = library_source {
        ensure!(folder.join("Cargo.lock").is_file(), "{} is not the folder `library` of Rust", folder.display());
    }
    let Some(nightly) = Nightly::find("the sanitizers") else { return Ok(true) };
    let mut good = true;
    for &sanitizer in sanitizers {
        if sanitizer == Sanitizer::Thread && library_source.is_none() && !nightly.has_library_source() {
            println!("{NO_LIBRARY}");
            continue;
        }
        let build = |command| build(project, &nightly, sanitizer, library_source.as_deref(), command);
        let tests = || Ok::<_, anyhow::Error>(build("test")?.args(TESTS));
        // A forked child loses by nature what the threads of its parent held: there leaks are not looked for.
        let core = tests()?.args(["--skip", FORKS[0], "--skip", FORKS[1]]).run();
        let forks = tests()?.args(FORKS).env(sanitizer.options().0, sanitizer.options_without_leaks()).run();
        let core = core.and(forks);
        let library = build("build")?.args(["--package", "majordomo-c"]).run();
        let c = library.and_then(|()| c(project, &nightly, sanitizer)?.run());
        for (name, outcome) in [("core", core), ("C", c)] {
            match &outcome {
                Ok(()) => println!("{}, {name}: nothing found", sanitizer.name()),
                Err(error) => println!("FAILED {}, {name}: {error:#}", sanitizer.name()),
            }
            good &= outcome.is_ok();
        }
    }
    Ok(good)
}

/// Cargo with the sanitizer.
fn build(
    project: &Project,
    nightly: &Nightly,
    sanitizer: Sanitizer,
    library_source: Option<&Path>,
    command: &str,
) -> Result<Run> {
    let (variable, options) = sanitizer.options();
    let run = nightly
        .cargo(project, command, sanitizer.name(), &format!("-Zsanitizer={}", sanitizer.name()))
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env(variable, options)
        .dir(&project.root);
    if sanitizer == Sanitizer::Address {
        // Of libzmq it sees what it allocates and frees, and the memory that it copies.
        let leaks = format!("suppressions={}", project.path("xtask/leaks.supp").display());
        return Ok(run.args(ordinary_libzmq(project)?).env("LSAN_OPTIONS", leaks));
    }
    // It must see all locks: those of libzmq, and those of the standard library, which is built anew.
    let run = run.arg("-Zbuild-std").env("CXXFLAGS", "-fsanitize=thread -g -fno-omit-frame-pointer");
    Ok(match library_source {
        // Cargo's own tests know no other way either.
        Some(folder) => run.env("__CARGO_TESTS_ONLY_SRC_ROOT", folder),
        None => run,
    })
}

/// The tests in C and C++.
fn c(project: &Project, nightly: &Nightly, sanitizer: Sanitizer) -> Result<Run> {
    let (variable, options) = sanitizer.options();
    let built = project.target().join(sanitizer.name()).join(&project.triple).join("release");
    let runtime = nightly.runtime(project, sanitizer.runtime())?;
    Ok(make(project)
        .arg("sanitized")
        .arg(format!("BUILD={}", built.display()))
        .arg(format!("RUNTIME={}", runtime.display()))
        .arg(format!("SANITIZER={}", sanitizer.name()))
        .env(variable, options))
}
