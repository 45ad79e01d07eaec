//! `cargo xtask sanitize`: the tests of the core and of the C library in builds that watch memory and threads.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::build::make;
use crate::nightly::Nightly;
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

    fn flags(self) -> &'static str {
        match self {
            Sanitizer::Address => "-Zsanitizer=address",
            // The standard library comes without. What it does is nearly all generic, and so compiled here.
            Sanitizer::Thread => "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer",
        }
    }

    /// The variable that its runtime reads, and what it says.
    fn options(self, project: &Project) -> (&'static str, String) {
        match self {
            Sanitizer::Address => ("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1".to_owned()),
            Sanitizer::Thread => {
                let suppressions: PathBuf = project.path("xtask/src/sanitize/thread.supp");
                // Our processes fork with threads on purpose: their children touch nothing of the parent's.
                let options = "die_after_fork=0:history_size=4:second_deadlock_stack=1";
                ("TSAN_OPTIONS", format!("{options}:suppressions={}", suppressions.display()))
            }
        }
    }
}

/// Runs the tests under each (none: both); whether nothing was found. Without a nightly toolchain it says that it skips them.
pub(crate) fn run(project: &Project, sanitizers: &[Sanitizer]) -> Result<bool> {
    let sanitizers = if sanitizers.is_empty() { Sanitizer::value_variants() } else { sanitizers };
    let Some(nightly) = Nightly::find("the sanitizers") else { return Ok(true) };
    let mut good = true;
    for sanitizer in sanitizers {
        let tests = [("core", core(project, &nightly, *sanitizer)), ("C", c(project, &nightly, *sanitizer)?)];
        for (name, test) in tests {
            let outcome = test.run();
            match &outcome {
                Ok(()) => println!("{}, {name}: nothing found", sanitizer.name()),
                Err(error) => println!("FAILED {}, {name}: {error:#}", sanitizer.name()),
            }
            good &= outcome.is_ok();
        }
    }
    Ok(good)
}

/// The tests of the core, and the C library for its own.
fn core(project: &Project, nightly: &Nightly, sanitizer: Sanitizer) -> Run {
    let (variable, options) = sanitizer.options(project);
    let tests = ["--package", "majordomo", "--package", "majordomo-c", "--lib", "--tests", "--no-fail-fast"];
    nightly
        .cargo(project, "test", sanitizer.name(), sanitizer.flags())
        .args(tests)
        // libzmq is watched, too: without that its own locks would not be known.
        .env("CXXFLAGS", format!("-fsanitize={} -fno-omit-frame-pointer -g1", sanitizer.name()))
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env(variable, options)
        .dir(&project.root)
}

/// The tests in C and C++.
fn c(project: &Project, nightly: &Nightly, sanitizer: Sanitizer) -> Result<Run> {
    let (variable, options) = sanitizer.options(project);
    let built = project.target().join(sanitizer.name()).join(&project.triple).join("release");
    let runtime = nightly.runtime(project, sanitizer.runtime())?;
    Ok(make(project)
        .arg("sanitized")
        .arg(format!("BUILD={}", built.display()))
        .arg(format!("RUNTIME={}", runtime.display()))
        .env(variable, options))
}
