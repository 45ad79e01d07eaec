//! `cargo xtask lint`: every checker of every language. All of them run, whatever the first ones find.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use walkdir::WalkDir;

use crate::build::{Builder, Stage};
use crate::codegen;
use crate::layers;
use crate::process::Run;
use crate::project::Project;

/// Where Python lives.
const PYTHON: [&str; 4] = ["bindings-python", "benchmarks", "conformance", "examples"];

/// Runs all checks and says which failed; whether none did.
pub(crate) fn run(project: &Project) -> bool {
    let mut builder = Builder::new(project);
    let mut failed = Vec::new();
    let mut step = |name: &'static str, check: &mut dyn FnMut() -> Result<()>| {
        eprintln!("xtask: lint: {name}");
        if let Err(error) = check() {
            println!("{name}: {error:#}");
            failed.push(name);
        }
    };
    step("layers", &mut || layers::check(project));
    step("rustfmt", &mut || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Run::new(&cargo).args(["fmt", "--all", "--check"]).dir(&project.root).run()?;
        Run::new(cargo).args(["fmt", "--check"]).dir(&project.path("fuzz")).run()
    });
    step("clippy", &mut || {
        // Not --all-targets, which also makes tests of what says `test = false`.
        let targets = ["--lib", "--bins", "--tests", "--examples"];
        let all = project.cargo("clippy").args(["--quiet", "--workspace", "--exclude", "xtask"]).args(targets);
        all.args(["--", "-D", "warnings"]).run()
    });
    step("clippy of xtask", &mut || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let own = ["clippy", "--quiet", "--package", "xtask", "--all-targets", "--", "-D", "warnings"];
        Run::new(cargo).args(own).dir(&project.root).run()
    });
    step("ruff", &mut || {
        builder.need(&[Stage::Venv])?;
        ruff(project).args(["check", "--quiet"]).args(PYTHON).run()
    });
    step("ruff format", &mut || {
        builder.need(&[Stage::Venv])?;
        ruff(project).args(["format", "--check", "--quiet"]).args(PYTHON).run()
    });
    step("mypy", &mut || {
        builder.need(&[Stage::Venv])?;
        Run::new(project.venv("mypy"))
            .args(["--strict", "--no-error-summary"])
            .dir(&project.path("bindings-python"))
            .run()
    });
    step("types of the npm package", &mut || {
        builder.need(&[Stage::NodePackages])?;
        Run::new(project.npm_program("tsc"))
            .args(["--strict", "-p", "tsconfig.json"])
            .dir(&project.path("bindings-node"))
            .run()
    });
    step("C and C++ warnings", &mut || compilers(project));
    step("generated files", &mut || codegen::run(project, &mut builder, true));

    if failed.is_empty() {
        println!("lint: nothing found");
    } else {
        println!("lint: failed: {}", failed.join(", "));
    }
    failed.is_empty()
}

fn ruff(project: &Project) -> Run {
    Run::new(project.venv("ruff")).dir(&project.root)
}

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// The headers and everything written in C and C++, with warnings as errors.
fn compilers(project: &Project) -> Result<()> {
    let header = project.path("include/majordomo.h");
    let gcc = |standard: &str| compiler(project, "gcc", "c", standard);
    let gxx = |standard: &str| compiler(project, "g++", "c++", standard);
    gcc("-std=c99").arg(&header).run()?;
    gxx("-std=c++11").arg(&header).run()?;
    gxx("-std=c++17").arg(project.path("include/majordomo.hpp")).run()?;
    let c = sources(project, "c")?;
    let cpp = sources(project, "cpp")?;
    // POSIX is what the examples and tests are written for; the header itself needs C99 only.
    gcc("-std=c99").arg("-D_XOPEN_SOURCE=700").args(c).run()?;
    gxx("-std=c++17").args(cpp).run()
}

fn compiler(project: &Project, program: &str, language: &str, standard: &str) -> Run {
    let run = Run::new(program).args(["-x", language, standard, "-fsyntax-only"]).args(WARNINGS);
    run.arg("-I").arg(project.path("include"))
}

/// All files of that extension; each of the places must have some.
fn sources(project: &Project, extension: &str) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for place in ["bindings-c/tests", "examples", "conformance/agents"] {
        let before = all.len();
        for entry in WalkDir::new(project.path(place))
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|e| e.file_name() != "node_modules")
        {
            let path = entry?.into_path();
            if has_extension(&path, extension) {
                all.push(path);
            }
        }
        if all.len() == before {
            bail!("{place} has no *.{extension}");
        }
    }
    Ok(all)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|present| present == extension)
}
