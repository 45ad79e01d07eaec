//! Copies the machines to where `tests/planted.rs` compiles them with bugs planted in them; which bug is in force is chosen at
//! run time. The product's sources know nothing of it.

use std::fs;
use std::path::{Path, PathBuf};

mod bugs {
    include!("tests/planted/bugs.rs");
}

/// What the machines need of the core beside themselves.
const MODULES: [&str; 5] = ["error", "event", "message", "options", "properties"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let core = root.join("../core/src");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=tests/planted/bugs.rs");
    let mut sources = Vec::new();
    for module in MODULES {
        sources.push(PathBuf::from(module).with_extension("rs"));
    }
    println!("cargo::rerun-if-changed={}", core.join("proto").display());
    collect(&core, Path::new("proto"), &mut sources)?;
    sources.sort();
    let mut texts = Vec::new();
    for source in sources {
        println!("cargo::rerun-if-changed={}", core.join(&source).display());
        let text = fs::read_to_string(core.join(&source))?;
        // Unit tests stay behind.
        texts.push((source, text.replace("#[cfg(test)]", "#[cfg(any())]")));
    }
    let misfits: Vec<_> = bugs::BUGS.iter().filter(|bug| !plant(bug, &mut texts)).map(|bug| bug.name).collect();
    let copy = out.join("planted");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    for (source, text) in texts {
        let file = copy.join(source);
        fs::create_dir_all(file.parent().unwrap_or(&copy))?;
        fs::write(file, text)?;
    }
    let mut root =
        format!("/// Bugs whose place in the sources was not found.\nconst MISFITS: &[&str] = &{misfits:?};\n");
    for module in MODULES.iter().copied().chain(["proto"]) {
        let file = if module == "proto" { "proto/mod.rs".to_owned() } else { format!("{module}.rs") };
        root += &format!("#[path = {:?}]\npub mod {module};\n", copy.join(file));
    }
    fs::write(out.join("planted.rs"), root)?;
    Ok(())
}

/// Puts a bug beside the text that it falsifies, which stands in exactly one place; whether it does.
fn plant(bug: &bugs::Bug, texts: &mut [(PathBuf, String)]) -> bool {
    let count = texts.iter().map(|(_, text)| text.matches(bug.find).count()).sum::<usize>();
    if count == 1 {
        let condition = format!("crate::is_planted({:?})", bug.name);
        for (_, text) in texts {
            *text = text.replace(bug.find, &bug.replace.replace("PLANTED", &condition));
        }
    }
    count == 1
}

fn collect(core: &Path, folder: &Path, sources: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(core.join(folder))? {
        let name = entry?.file_name();
        let path = folder.join(&name);
        if core.join(&path).is_dir() {
            if name != "tests" {
                collect(core, &path, sources)?;
            }
        } else if name != "tests.rs" && path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}
