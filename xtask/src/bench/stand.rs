//! What measurements need, built, and how its programs are started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::contender::{Contender, Protocol};
use super::peer::Peer;
use crate::build::{Builder, Stage};
use crate::process::Run;
use crate::project::{Language, Project};

/// Everything that measurements need, built.
#[derive(Debug)]
pub(crate) struct Stand<'a> {
    project: &'a Project,
    /// The protocol of peers where a contender names none.
    pub(crate) protocol: String,
    /// Whether the programs of a language could be built.
    languages: BTreeMap<Language, Result<(), String>>,
}

impl<'a> Stand<'a> {
    /// Builds what these contenders need. Without the Rust programs nothing can be measured; another language that cannot
    /// be built fails its contenders.
    pub(crate) fn build(
        project: &'a Project,
        builder: &mut Builder<'_>,
        contenders: &[Contender],
        protocol: Option<&str>,
    ) -> Result<Self> {
        eprintln!("xtask: bench: building");
        let mut languages = BTreeMap::new();
        for language in contenders.iter().filter_map(Contender::language) {
            languages
                .entry(language)
                .or_insert_with(|| prepare(project, builder, language).map_err(|error| format!("{error:#}")));
        }
        project.cargo("build").args(["--quiet", "--package", "majordomo-benchmarks"]).run()?;
        let mut stand = Stand { project, protocol: String::new(), languages };
        let known: Vec<String> = Peer::start(stand.program("protocols"))?.line()?;
        stand.protocol = match protocol {
            Some(name) if known.iter().any(|known| known == name) => name.to_owned(),
            Some(name) => bail!("there is no protocol {name:?}; there are {}", known.join(", ")),
            None => known.last().context("the library speaks no protocol")?.clone(),
        };
        Ok(stand)
    }

    /// Keeps the cores awake until it is dropped.
    pub(crate) fn spin(&self) -> Result<Peer> {
        Peer::start_ready(self.program("spin"))
    }

    /// A Rust program, by its role.
    pub(crate) fn program(&self, role: &str) -> Run {
        Run::new(self.binary()).arg(role)
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.project.binary("majordomo-bench")
    }

    /// The program of a role in a language.
    pub(crate) fn peer(&self, language: Language, role: &str) -> Result<Run> {
        let source = |file: &str| self.project.path("benchmarks").join(language.folder()).join(file);
        if let Some(Err(error)) = self.languages.get(&language) {
            bail!("{} could not be built: {error}", language.title());
        }
        Ok(match language {
            Language::Rust => self.program(role),
            Language::Python => Run::new(self.project.venv("python")).arg(source("peer.py")).arg(role),
            Language::Node => Run::new("node").arg(source("peer.mjs")).arg(role),
            Language::C | Language::Cpp => Run::new(compiled(self.project, language)).arg(role),
        })
    }

    pub(crate) fn protocol(&self, protocol: Protocol) -> &str {
        match protocol {
            Protocol::V01 => "0.1",
            Protocol::Best => &self.protocol,
        }
    }

    pub(crate) fn watch(&self, pid: u32, seconds: &str) -> Result<Watched> {
        Peer::start(self.program("watch").arg("--pid").arg(pid.to_string()).args(["--seconds", seconds]))?.line()
    }
}

/// What `majordomo-bench watch` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Watched {
    pub(crate) cores: f64,
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

/// Builds what the peers of a language need.
fn prepare(project: &Project, builder: &mut Builder<'_>, language: Language) -> Result<()> {
    if language == Language::Node {
        // First: npm removes the link to our package, which is none of its own.
        builder.need(&[Stage::ConformancePackages])?;
    }
    builder.need_language(language)?;
    match language {
        Language::Rust | Language::Python => Ok(()),
        Language::Node => link_node_packages(project),
        Language::C => compile(project, language, "cc", &["-std=c99", "-D_XOPEN_SOURCE=700"]),
        Language::Cpp => compile(project, language, "c++", &["-std=c++17"]),
    }
}

/// Lets the peers import the package itself and the one of the conformance suite's foreign peers.
fn link_node_packages(project: &Project) -> Result<()> {
    let modules = project.path("benchmarks/node_modules");
    std::fs::create_dir_all(&modules)?;
    for (name, goal) in [("majordomo", "../../bindings-node"), ("zeromq", "../../conformance/node_modules/zeromq")] {
        let link = modules.join(name);
        if std::fs::read_link(&link).is_ok_and(|present| present.as_os_str() == goal) {
            continue;
        }
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(goal, &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    Ok(())
}

fn compiled(project: &Project, language: Language) -> PathBuf {
    project.built().join("benchmarks").join(language.folder())
}

/// Compiles a peer against the installed form of the C library.
fn compile(project: &Project, language: Language, compiler: &str, standard: &[&str]) -> Result<()> {
    let program = compiled(project, language);
    if let Some(folder) = program.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let library = project.built().join("c");
    let mut search = std::ffi::OsString::from("-Wl,-rpath,");
    search.push(&library);
    Run::new(compiler)
        .args(standard.iter().copied())
        .args(["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(project.path("include"))
        .arg(project.path("benchmarks").join(language.folder()).join(format!("peer.{}", language.folder())))
        .arg("-o")
        .arg(program)
        .arg("-L")
        .arg(&library)
        .arg(search)
        .args(["-lmajordomo", "-lpthread"])
        .run()
}
