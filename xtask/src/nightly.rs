//! The nightly toolchain, which alone has sanitizers and coverage, and what is built with it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::Run;
use crate::project::Project;

/// The nightly toolchain of this machine.
#[derive(Debug)]
pub(crate) struct Nightly {
    sysroot: PathBuf,
}

impl Nightly {
    /// The toolchain; where there is none, says LOUDLY that `what` is skipped.
    pub(crate) fn find(what: &str) -> Option<Nightly> {
        let sysroot = Run::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).read();
        match sysroot.ok().and_then(|path| String::from_utf8(path).ok()) {
            Some(path) => Some(Nightly { sysroot: path.trim().into() }),
            None => {
                println!("SKIPPED: {what}: this machine has no nightly toolchain (rustup toolchain install nightly)");
                None
            }
        }
    }

    /// Cargo of this toolchain, for this machine, with a folder of its own below `target/`.
    pub(crate) fn cargo(&self, project: &Project, command: &str, folder: &str, flags: &str) -> Run {
        Run::new("rustup")
            .args(["run", "nightly", "cargo", command, "--release", "--target", &project.triple])
            .env("CARGO_TARGET_DIR", project.target().join(folder))
            .env("RUSTFLAGS", flags)
    }

    /// Whether the standard library can be built anew with this toolchain.
    pub(crate) fn has_library_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
    }

    /// The runtime library of a sanitizer, such as `asan`.
    pub(crate) fn runtime(&self, project: &Project, sanitizer: &str) -> Result<PathBuf> {
        let folder = self.sysroot.join("lib/rustlib").join(&project.triple).join("lib");
        let ending = format!("_rt.{sanitizer}.a");
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(&ending) {
                return Ok(path);
            }
        }
        bail!("{} has no *{ending}", folder.display())
    }
}

/// A line of cargo's that says what a build script has built.
#[derive(Deserialize)]
struct BuildScript {
    package_id: String,
    linked_libs: Vec<String>,
    linked_paths: Vec<String>,
}

/// Cargo's options by which libzmq and libsodium are linked as the ordinary build has made them, so that a build with other
/// flags compiles no C++.
pub(crate) fn ordinary_libzmq(project: &Project) -> Result<Vec<String>> {
    let build = project.cargo("build").args(["--quiet", "--package", "majordomo", "--message-format=json"]).read()?;
    let lines = std::str::from_utf8(&build)?.lines();
    let scripts: Vec<BuildScript> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut options = Vec::new();
    for (package, links) in [("/zmq-sys#", "zmq"), ("#libsodium-sys-stable@", "sodium")] {
        let script = scripts.iter().find(|script| script.package_id.contains(package));
        let script = script.with_context(|| format!("cargo does not say what {package} was built as"))?;
        for (key, values) in [("rustc-link-lib", &script.linked_libs), ("rustc-link-search", &script.linked_paths)] {
            let values = serde_json::to_string(values)?;
            options.extend(["--config".to_owned(), format!("target.{}.{links}.{key}={values}", project.triple)]);
        }
    }
    Ok(options)
}
