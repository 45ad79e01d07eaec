//! Builds each thing once, from one set of libraries, and remembers in a run what was built and what failed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::Run;
use crate::project::{Language, Project};
use crate::setup;
use crate::stamp::Stamp;

/// A thing that other things need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    /// Every crate of the workspace but xtask and the Python binding: libraries, addon, binaries, Rust examples and agent.
    Workspace,
    /// The virtual environment.
    Venv,
    /// The wheel, installed in the virtual environment.
    Wheel,
    /// The Node binding's npm packages.
    NodePackages,
    /// The addon in its package, and the package where examples and agents find it.
    Addon,
    /// The conformance suite's npm packages.
    ConformancePackages,
    /// The C library as it is installed, and its examples.
    C,
    /// The agents in C and C++.
    CAgents,
}

/// Builds stages on demand.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    project: &'a Project,
    done: HashMap<Stage, Result<(), String>>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(project: &'a Project) -> Self {
        Builder { project, done: HashMap::new() }
    }

    /// Makes sure that all of these are there, with what they need themselves.
    pub(crate) fn need(&mut self, stages: &[Stage]) -> Result<()> {
        for &stage in stages {
            let outcome = match self.done.get(&stage) {
                Some(outcome) => outcome.clone(),
                None => {
                    let outcome = self.build(stage).map_err(|error| format!("{error:#}"));
                    self.done.insert(stage, outcome.clone());
                    outcome
                }
            };
            if let Err(text) = outcome {
                bail!("{text}");
            }
        }
        Ok(())
    }

    /// What the programs of a language need to be started.
    pub(crate) fn need_language(&mut self, language: Language) -> Result<()> {
        match language {
            Language::Rust => self.need(&[Stage::Workspace]),
            Language::Python => self.need(&[Stage::Wheel]),
            Language::Node => self.need(&[Stage::Addon]),
            Language::C | Language::Cpp => self.need(&[Stage::C]),
        }
    }

    fn build(&mut self, stage: Stage) -> Result<()> {
        let project = self.project;
        match stage {
            Stage::Workspace => workspace(project),
            Stage::Venv => setup::venv(project),
            Stage::Wheel => {
                self.need(&[Stage::Venv])?;
                install_wheel(project)
            }
            Stage::NodePackages => setup::node_packages(project),
            Stage::Addon => {
                self.need(&[Stage::Workspace])?;
                place_addon(project)?;
                setup::link_node_package(project)
            }
            Stage::ConformancePackages => setup::conformance_packages(project),
            Stage::C => {
                self.need(&[Stage::Workspace])?;
                make(project).args(["library", "examples"]).run()
            }
            Stage::CAgents => {
                self.need(&[Stage::C])?;
                make(project).arg("agents").run()
            }
        }
    }
}

/// What cargo leaves to others: xtask has the development profile, and maturin gives the Python binding an environment of its
/// own, so that cargo and maturin would forever rebuild what the other has built.
pub(crate) const ALL_BUT_PYTHON: [&str; 5] = ["--workspace", "--exclude", "xtask", "--exclude", "majordomo-python"];

fn workspace(project: &Project) -> Result<()> {
    project.cargo("build").args(ALL_BUT_PYTHON).run()
}

/// Where a wheel for this machine is built.
const WHEELS: &str = "xtask/wheels";

fn install_wheel(project: &Project) -> Result<()> {
    let mut stamp = Stamp::new(&project.target(), "wheel").text(&project.triple);
    for source in ["Cargo.toml", "Cargo.lock", "core/Cargo.toml", "core/src", "cli/Cargo.toml", "cli/src", "zmq-sys"] {
        stamp = stamp.files(&project.path(source))?;
    }
    for source in ["Cargo.toml", "pyproject.toml", "README.md", "src", "python"] {
        stamp = stamp.files(&project.path("bindings-python").join(source))?;
    }
    stamp.files(&project.path("xtask/requirements.txt"))?.unless_done(&project.venv("mdbroker"), || {
        eprintln!("xtask: building and installing the wheel");
        let folder = project.target().join(WHEELS);
        let _ = fs::remove_dir_all(&folder);
        wheel(project, &folder, &["--compatibility", "linux"])?;
        let wheel = only_file(&folder, ".whl")?;
        setup::pip(project).args(["install", "--force-reinstall", "--no-deps", "--no-index"]).arg(wheel).run()
    })
}

/// Builds the wheel into `folder`.
pub(crate) fn wheel(project: &Project, folder: &Path, options: &[&str]) -> Result<()> {
    Run::new(project.venv("maturin"))
        .args(["build", "--release", "--quiet", "--target", &project.triple, "--interpreter"])
        .arg(project.venv("python"))
        .arg("--out")
        .arg(folder)
        .args(options.iter().copied())
        .env("CARGO_TARGET_DIR", project.target())
        .dir(&project.path("bindings-python"))
        .run()
}

/// Copies the built addon to where `majordomo` loads it from.
fn place_addon(project: &Project) -> Result<()> {
    let built = project.built().join("libmajordomo_node.so");
    let placed = project.path("bindings-node").join(format!("majordomo.{}.node", node_platform(&project.triple)?));
    let content = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(&placed).is_ok_and(|present| present == content) {
        return Ok(());
    }
    // A process that has the old one loaded keeps it: the new one is another file of the same name.
    let fresh = placed.with_extension("fresh");
    fs::write(&fresh, content)?;
    fs::rename(&fresh, &placed).with_context(|| format!("cannot write {}", placed.display()))
}

/// Node's name of a platform.
fn node_platform(triple: &str) -> Result<&'static str> {
    Ok(match triple {
        "x86_64-unknown-linux-gnu" => "linux-x64-gnu",
        "aarch64-unknown-linux-gnu" => "linux-arm64-gnu",
        _ => bail!("the Node addon has no name for {triple} yet: add it in xtask/src/build.rs"),
    })
}

/// `make` in the C binding, which works with and in the folder that cargo builds into.
pub(crate) fn make(project: &Project) -> Run {
    let mut build = std::ffi::OsString::from("BUILD=");
    build.push(project.built());
    let folder = project.path("bindings-c");
    Run::new("make").args(["--no-print-directory", "-C"]).arg(folder).arg(build).env("MAKEFLAGS", "")
}

/// The one file in a folder whose name ends like this.
pub(crate) fn only_file(folder: &Path, ending: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(_), false) => bail!("{} has more than one *{ending}", folder.display()),
        (None, _) => bail!("{} has no *{ending}", folder.display()),
    }
}

/// Installs the C library, its headers and its package files below `prefix`.
pub(crate) fn install_c(project: &Project, prefix: &Path) -> Result<()> {
    let mut word = std::ffi::OsString::from("PREFIX=");
    word.push(prefix);
    make(project).args(["--silent", "install", "DESTDIR="]).arg(word).run()
}
