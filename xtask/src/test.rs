//! `cargo xtask test`: runs the suites of all languages and adds up what they say.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};

use crate::build::{ALL_BUT_PYTHON, Builder, Stage, make};
use crate::chaos;
use crate::examples::{self, Check};
use crate::failures::Failures;
use crate::fuzz;
use crate::process::Run;
use crate::project::Project;
use crate::readme;
use crate::tally::{Runner, Tally};

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Part {
    /// Unit, integration, simulation and documentation tests of all crates, and of xtask.
    Rust,
    /// The Python package, as installed from its wheel.
    Python,
    /// The npm package.
    Node,
    /// The C and C++ library, also under Valgrind where it is installed.
    C,
    /// All languages against each other and against strangers' peers.
    Conformance,
    /// A minute of killed, frozen and cut off processes in all languages.
    Chaos,
    /// Every example in every language.
    Examples,
    /// The programs of README.md.
    Readme,
    /// Some seconds of each fuzz target, where there is a nightly toolchain.
    Fuzz,
}

/// What one suite did.
#[derive(Debug)]
struct Suite {
    name: String,
    tally: Tally,
    /// What it said of the tests that failed.
    failures: Vec<String>,
    /// What counts as a failure but is no test of the suite.
    troubles: Vec<String>,
    duration: Duration,
}

/// Runs the given parts (none: all) and prints `N passed, N failed` as the last line; whether nothing failed.
pub(crate) fn run(project: &Project, parts: &[Part]) -> bool {
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    let mut builder = Builder::new(project);
    let suites: Vec<Suite> = parts.iter().flat_map(|part| run_part(project, &mut builder, *part)).collect();

    for suite in suites.iter().filter(|suite| !suite.failures.is_empty()) {
        println!("\n{}:\n{}", suite.name, suite.failures.join("\n"));
    }
    println!("\n{}", table(&suites));
    let mut sum = Tally::default();
    for suite in &suites {
        sum += suite.tally;
        for trouble in &suite.troubles {
            sum.failed += 1;
            println!("{}: {trouble}", suite.name);
        }
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    sum.failed == 0
}

fn run_part(project: &Project, builder: &mut Builder<'_>, part: Part) -> Vec<Suite> {
    match part {
        Part::Rust => {
            // The simulation runs thousands of seeds: it needs the release profile, which is everybody else's, too.
            let crates = project.cargo("test").args(ALL_BUT_PYTHON).arg("--no-fail-fast");
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let xtask = Run::new(cargo).args(["test", "--quiet", "--package", "xtask"]).dir(&project.root);
            vec![
                suite("rust", Runner::Cargo, || builder.need(&[Stage::Workspace]).map(|()| crates)),
                suite("xtask", Runner::Cargo, || Ok(xtask)),
            ]
        }
        Part::Python => vec![suite("python", Runner::Pytest, || {
            builder.need(&[Stage::Wheel])?;
            Ok(pytest(project)?.arg("tests").dir(&project.path("bindings-python")))
        })],
        Part::Node => vec![suite("node", Runner::Node, || {
            builder.need(&[Stage::NodePackages, Stage::Addon])?;
            let folder = project.path("bindings-node");
            let run = Run::new("node").args(["--test", "--test-reporter=spec", "--test-reporter-destination=stdout"]);
            Ok(run.args(node_tests(project)?).dir(&folder))
        })],
        Part::C => c_suites(project, builder),
        Part::Conformance => vec![suite("conformance", Runner::Pytest, || {
            builder.need(&[
                Stage::Workspace,
                Stage::Wheel,
                Stage::Addon,
                Stage::ConformancePackages,
                Stage::CAgents,
            ])?;
            // Most of these tests wait for something: three at a time keep two cores busy.
            let run = pytest(project)?.args(["tests", "--require-agents", "--numprocesses=3", "--dist=worksteal"]);
            Ok(run.env("MAJORDOMO_TARGET_DIR", project.built()).dir(&project.path("conformance")))
        })],
        Part::Chaos => vec![checks("chaos", || Ok(chaos::check(project, builder)))],
        Part::Examples => vec![checks("examples", || examples::run(project, builder))],
        Part::Readme => vec![checks("readme", || readme::run(project, builder))],
        // Skipping is said by `smoke` itself.
        Part::Fuzz => fuzz::smoke(project).map(|run| checks("fuzz", || run)).into_iter().collect(),
    }
}

fn c_suites(project: &Project, builder: &mut Builder<'_>) -> Vec<Suite> {
    let mut suites = vec![suite("c", Runner::C, || {
        builder.need(&[Stage::C])?;
        Ok(make(project).arg("check"))
    })];
    if Run::new("valgrind").arg("--version").read().is_ok() {
        suites.push(suite("c, valgrind", Runner::C, || {
            builder.need(&[Stage::C])?;
            Ok(make(project).arg("valgrind"))
        }));
    } else {
        eprintln!("xtask: Valgrind is not installed, so the C tests run without it");
    }
    suites
}

/// pytest of the virtual environment, with the commands that the wheel installed on its path.
fn pytest(project: &Project) -> Result<Run> {
    let mut folders = vec![project.venv("")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(folders).context("PATH cannot be extended")?;
    let run =
        Run::new(project.venv("python")).args(["-m", "pytest", "--color=no", "-p", "no:cacheprovider", "-q", "-ra"]);
    Ok(run.env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The test files of the npm package, named one by one: versions of Node disagree about folders.
fn node_tests(project: &Project) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(project.path("bindings-node/test"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if [".test.mjs", ".test.cjs", ".test.js"].iter().any(|ending| name.ends_with(ending)) {
            files.push(format!("test/{name}"));
        }
    }
    files.sort();
    anyhow::ensure!(!files.is_empty(), "bindings-node/test has no tests");
    Ok(files)
}

/// Runs a suite that is a program.
fn suite(name: &str, runner: Runner, prepare: impl FnOnce() -> Result<Run>) -> Suite {
    eprintln!("\nxtask: tests: {name}");
    let begin = Instant::now();
    let mut tally = Tally::default();
    let mut failures = Failures::new(runner);
    let outcome = prepare().and_then(|run| {
        run.watch(|line| {
            tally += runner.read(line);
            failures.read(line);
        })
    });
    let troubles = judge(&outcome, tally).into_iter().collect();
    Suite { name: name.to_owned(), tally, failures: failures.into_lines(), troubles, duration: begin.elapsed() }
}

/// What is wrong with a suite beyond the tests that failed in it.
fn judge(outcome: &Result<ExitStatus>, tally: Tally) -> Option<String> {
    match outcome {
        Err(error) => Some(format!("{error:#}")),
        Ok(status) if !status.success() && tally.failed == 0 => {
            Some(format!("no test failed, but the suite ended with {status}"))
        }
        Ok(status) if status.success() && tally.failed > 0 => {
            Some("tests failed, but the suite ended as if none had".to_owned())
        }
        Ok(_) if tally.passed + tally.failed == 0 => Some("no test ran".to_owned()),
        Ok(_) => None,
    }
}

/// Runs a suite that is made of checks of xtask's own.
fn checks(name: &str, run: impl FnOnce() -> Result<Vec<Check>>) -> Suite {
    eprintln!("\nxtask: tests: {name}");
    let begin = Instant::now();
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    let mut troubles = Vec::new();
    match run() {
        Ok(checks) => {
            for check in checks {
                match check.outcome {
                    Ok(()) => {
                        println!("ok {}", check.name);
                        tally.passed += 1;
                    }
                    Err(error) => {
                        let failure = format!("FAILED {}: {error:#}", check.name);
                        println!("{failure}");
                        failures.push(failure);
                        tally.failed += 1;
                    }
                }
            }
            if tally == Tally::default() {
                troubles.push("no test ran".to_owned());
            }
        }
        Err(error) => troubles.push(format!("{error:#}")),
    }
    Suite { name: name.to_owned(), tally, failures, troubles, duration: begin.elapsed() }
}

fn table(suites: &[Suite]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["suite", "passed", "failed", "skipped", "seconds"]);
    for suite in suites {
        let failed = suite.tally.failed + suite.troubles.len() as u64;
        table.add_row([
            suite.name.clone(),
            suite.tally.passed.to_string(),
            failed.to_string(),
            suite.tally.skipped.to_string(),
            format!("{:.0}", suite.duration.as_secs_f64()),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::tally::Tally;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn tally(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed, skipped: 0 }
    }

    #[test]
    fn a_suite_that_crashed_or_ran_nothing_is_never_good() {
        let status = |code: i32| Ok(ExitStatus::from_raw(code << 8));
        assert_eq!(judge(&status(0), tally(3, 0)), None);
        assert_eq!(judge(&status(1), tally(3, 1)), None);
        assert!(judge(&status(0), tally(0, 0)).is_some());
        assert!(judge(&status(101), tally(3, 0)).is_some());
        assert!(judge(&status(0), tally(3, 1)).is_some());
        assert!(judge(&Ok(ExitStatus::from_raw(11)), tally(3, 0)).is_some());
        assert!(judge(&Err(anyhow::anyhow!("not built")), tally(0, 0)).is_some());
    }
}
