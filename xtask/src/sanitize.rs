//! `cargo xtask sanitize`: the tests of the core and of the C library in builds that watch memory and threads.

use anyhow::Result;
use clap::ValueEnum;

use crate::build::make;
use crate::nightly::{Nightly, ordinary_libzmq};
use crate::process::Run;
use crate::project::Project;

/// What watches.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Sanitizer {
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
}

/// Runs the tests under each (none: both); whether nothing was found. Without a nightly toolchain it says that it skips them.
pub(crate) fn run(project: &Project, sanitizers: &[Sanitizer]) -> Result<bool> {
    let sanitizers = if sanitizers.is_empty() { Sanitizer::value_variants() } else { sanitizers };
    let Some(nightly) = Nightly::find("the sanitizers") else { return Ok(true) };
    let mut good = true;
    for sanitizer in sanitizers {
        if *sanitizer == Sanitizer::Thread && !nightly.has_library_source() {
            println!(
                "SKIPPED: {}: the nightly toolchain lacks rust-src (rustup component add rust-src)",
                sanitizer.name()
            );
            continue;
        }
        let core = build(project, &nightly, *sanitizer, "test")?;
        let core = core.args(["--package", "majordomo", "--lib", "--tests", "--no-fail-fast"]).run();
        let library = build(project, &nightly, *sanitizer, "build")?.args(["--package", "majordomo-c"]).run();
        let c = library.and_then(|()| c(project, &nightly, *sanitizer)?.run());
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
fn build(project: &Project, nightly: &Nightly, sanitizer: Sanitizer, command: &str) -> Result<Run> {
    let (variable, options) = sanitizer.options();
    let run = nightly
        .cargo(project, command, sanitizer.name(), &format!("-Zsanitizer={}", sanitizer.name()))
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env(variable, options)
        .dir(&project.root);
    Ok(match sanitizer {
        // Of libzmq it sees what it allocates and frees, and the memory that it copies.
        Sanitizer::Address => run.args(ordinary_libzmq(project)?),
        // It must see all locks: those of libzmq, and those of the standard library, which is built anew.
        Sanitizer::Thread => run.arg("-Zbuild-std").env("CXXFLAGS", "-fsanitize=thread -g -fno-omit-frame-pointer"),
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
        .env(variable, options))
}
