//! `cargo xtask dist`: everything a user installs, in `dist/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::{Builder, Stage, install_c, wheel};
use crate::process::Run;
use crate::project::Project;

/// Builds the wheel, the npm tarball, the C archive and the binaries.
pub(crate) fn run(project: &Project) -> Result<()> {
    let mut builder = Builder::new(project);
    builder.need(&[Stage::Workspace, Stage::Venv, Stage::NodePackages, Stage::Addon])?;

    // Made aside, so that a run that fails leaves what an earlier one made.
    let fresh = project.target().join("xtask/dist");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;

    wheel(project, &fresh, &[]).context("the wheel cannot be built")?;
    npm_tarball(project, &fresh).context("the npm package cannot be packed")?;
    c_archive(project, &fresh).context("the C archive cannot be made")?;
    for binary in ["mdbroker", "mdctl"] {
        let built = project.binary(binary);
        fs::copy(&built, fresh.join(binary)).with_context(|| format!("cannot copy {}", built.display()))?;
    }

    let dist = project.path("dist");
    let _ = fs::remove_dir_all(&dist);
    fs::rename(&fresh, &dist).with_context(|| format!("cannot write {}", dist.display()))?;
    let mut made: Vec<_> = fs::read_dir(&dist)?.collect::<std::io::Result<_>>()?;
    made.sort_by_key(fs::DirEntry::file_name);
    for entry in made {
        println!("dist/{} ({} kB)", entry.file_name().to_string_lossy(), entry.metadata()?.len() / 1000);
    }
    Ok(())
}

fn npm_tarball(project: &Project, dist: &Path) -> Result<()> {
    let binding = project.path("bindings-node");
    let has_addon =
        fs::read_dir(&binding)?.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".node"));
    if !has_addon {
        bail!("{} has no addon", binding.display());
    }
    Run::new("npm")
        .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
        .arg(dist)
        .dir(&binding)
        .read()?;
    Ok(())
}

/// `majordomo-c-<version>-<target>.tar.gz` with one folder of that name: README.md, include/, lib/, lib/pkgconfig, lib/cmake.
fn c_archive(project: &Project, dist: &Path) -> Result<()> {
    let name = format!("majordomo-c-{}-{}", env!("CARGO_PKG_VERSION"), project.triple);
    let stage: PathBuf = project.target().join("xtask/archive");
    let _ = fs::remove_dir_all(&stage);
    let folder = stage.join(&name);
    fs::create_dir_all(&folder)?;
    install_c(project, &folder)?;
    for (file, name) in
        [("LICENSE-MIT", "LICENSE-MIT"), ("LICENSE-APACHE", "LICENSE-APACHE"), ("bindings-c/README.md", "README.md")]
    {
        fs::copy(project.path(file), folder.join(name)).with_context(|| format!("cannot copy {file}"))?;
    }
    let archive = dist.join(format!("{name}.tar.gz"));
    Run::new("tar")
        .arg("--create")
        .arg("--gzip")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(&stage)
        .arg(&name)
        .run()
}
