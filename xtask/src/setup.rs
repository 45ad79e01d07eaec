//! Tools and foreign peers: a virtual environment in `target/venv` and the npm packages, all inside the repository.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::process::Run;
use crate::project::Project;
use crate::stamp::Stamp;

/// The virtual environment with what `xtask/requirements.txt` names.
pub(crate) fn venv(project: &Project) -> Result<()> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let version =
        Run::new(&python).arg("--version").read().context("Python 3.11 or later is needed (or set PYTHON)")?;
    let requirements = project.path("xtask/requirements.txt");
    Stamp::new(&project.target(), "venv")
        .text(&String::from_utf8_lossy(&version))
        .text(&project.root.to_string_lossy())
        .files(&requirements)?
        .unless_done(&project.venv("ruff"), || {
            eprintln!("xtask: setting up target/venv");
            Run::new(&python)
                .args(["-m", "venv"])
                .arg(project.target().join("venv"))
                .run()
                .context("cannot make a virtual environment (on Debian: apt-get install python3-venv)")?;
            pip(project).args(["install", "--requirement"]).arg(&requirements).run()
        })
}

/// The virtual environment's pip.
pub(crate) fn pip(project: &Project) -> Run {
    let quiet = ["-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"];
    Run::new(project.venv("python")).args(quiet).dir(&project.root)
}

/// The development packages of the Node binding, as its lock file says.
pub(crate) fn node_packages(project: &Project) -> Result<()> {
    npm_install(project, "bindings-node")
}

/// The Node peers of the conformance suite, as its lock file says.
pub(crate) fn conformance_packages(project: &Project) -> Result<()> {
    npm_install(project, "conformance")
}

/// Lets programs in `examples/` and `conformance/` import `majordomo` as an installed package.
pub(crate) fn link_node_package(project: &Project) -> Result<()> {
    for folder in ["examples", "conformance"] {
        let modules = project.path(folder).join("node_modules");
        fs::create_dir_all(&modules)?;
        let link = modules.join("majordomo");
        let goal = Path::new("../../bindings-node");
        if fs::read_link(&link).is_ok_and(|present| present == goal) {
            continue;
        }
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(goal, &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    Ok(())
}

fn npm_install(project: &Project, folder: &str) -> Result<()> {
    let node = Run::new("node").arg("--version").read().context("Node 20 or later is needed")?;
    let path = project.path(folder);
    Stamp::new(&project.target(), &format!("npm-{folder}"))
        .text(&String::from_utf8_lossy(&node))
        .files(&path.join("package.json"))?
        .files(&path.join("package-lock.json"))?
        .unless_done(&path.join("node_modules/.package-lock.json"), || {
            eprintln!("xtask: installing the npm packages of {folder}/");
            // No package we use needs its install script: compiled addons come along. Not `npm ci`, which refuses a lock
            // file without the entries of packages for other platforms; --no-save leaves the lock file as it is.
            let options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
            Run::new("npm").arg("install").args(options).dir(&path).run()
        })
}
