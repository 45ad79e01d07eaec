//! `cargo xtask codegen`: the committed files that a program writes. With `--check` they are compared and not written.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::build::{Builder, Stage};
use crate::process::Run;
use crate::project::Project;

/// A generated file, and what a fresh generation says it should be.
#[derive(Debug)]
struct Generated {
    file: &'static str,
    fresh: Vec<u8>,
}

/// Writes the generated files, or fails if `check` is set and one of them is not up to date.
pub(crate) fn run(project: &Project, builder: &mut Builder<'_>, check: bool) -> Result<()> {
    let all = [c_header(project)?, node_types(project, builder)?];
    let mut stale = Vec::new();
    for generated in all {
        let path = project.path(generated.file);
        if fs::read(&path).is_ok_and(|present| present == generated.fresh) {
            continue;
        }
        stale.push(generated.file);
        if check {
            let fresh = scratch(project)?.join("fresh");
            fs::write(&fresh, &generated.fresh)?;
            // Its status says that there are differences, which is known.
            let _ = Run::new("diff").arg("-u").arg(&path).arg(&fresh).run();
        } else {
            fs::write(&path, &generated.fresh).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("xtask: wrote {}", generated.file);
        }
    }
    if check && !stale.is_empty() {
        bail!("not what a fresh generation gives: {} (run `cargo xtask codegen`)", stale.join(", "));
    }
    Ok(())
}

fn scratch(project: &Project) -> Result<PathBuf> {
    let folder = project.target().join("xtask/codegen");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// `include/majordomo.h`, which the C binding's own program makes with cbindgen.
fn c_header(project: &Project) -> Result<Generated> {
    let run = project.cargo("run").args([
        "--quiet",
        "--package",
        "majordomo-c",
        "--features",
        "header",
        "--bin",
        "majordomo-header",
    ]);
    let fresh = run.read().context("the C header cannot be generated")?;
    if fresh.is_empty() {
        bail!("the generated C header is empty");
    }
    Ok(Generated { file: "include/majordomo.h", fresh })
}

/// `bindings-node/native.d.ts`, the types of the addon, which napi's macros write while it is compiled.
fn node_types(project: &Project, builder: &mut Builder<'_>) -> Result<Generated> {
    builder.need(&[Stage::NodePackages])?;
    let folder = scratch(project)?;
    let file = folder.join("native.d.ts");
    let _ = fs::remove_file(&file);
    Run::new(project.npm_program("napi"))
        .args([
            "build",
            "--platform",
            "--release",
            "--no-js",
            "--target",
            &project.triple,
            "--dts",
            "native.d.ts",
            "--target-dir",
        ])
        .arg(project.target())
        .arg("--output-dir")
        .arg(&folder)
        .dir(&project.path("bindings-node"))
        .read()
        .context("the types of the addon cannot be generated")?;
    let fresh = fs::read(&file).with_context(|| format!("napi has not written {}", file.display()))?;
    Ok(Generated { file: "bindings-node/native.d.ts", fresh })
}
