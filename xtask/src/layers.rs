//! The layers of the project, checked in the sources: one way down, and each to its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;

use crate::project::Project;

/// What the pure protocol machines must not know.
const IMPURE: [&str; 9] =
    ["zmq", "std::net", "std::thread", "std::env", "std::fs", "Instant::now", "rand::", "getrandom", "libc::"];

/// What nobody in the library may ask the time of: it is set while programs run.
const WALL_CLOCK: [&str; 4] = ["SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME", "gettimeofday"];

/// What only the transport may know.
const TRANSPORT: [&str; 2] = ["zmq::", "zmq_sys"];

/// What a judge of the library must not know.
const LIBRARY: [&str; 1] = ["majordomo::"];
/// What `proto` says of itself, so that the compiler holds it.
const FORBIDS_UNSAFE: &str = "#![forbid(unsafe_code)]";

/// Fails with every line that breaks a layer.
pub(crate) fn check(project: &Project) -> Result<()> {
    let core = project.path("core/src");
    let mut breaches = Vec::new();
    for file in rust_files(&core)? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = without_tests(&file, &text);
        let inside = file.strip_prefix(&core)?;
        if inside.starts_with("proto") {
            breaches
                .extend(mentions(text, &IMPURE).into_iter().map(|found| told(project, &file, found, "proto is pure")));
        } else if !inside.starts_with("transport") {
            breaches.extend(
                mentions(text, &TRANSPORT)
                    .into_iter()
                    .map(|found| told(project, &file, found, "only transport knows zmq")),
            );
        }
    }
    breaches.extend(conform(project)?);
    for place in ["core", "bindings-python", "bindings-node", "bindings-c"] {
        let folder = project.path(place).join("src");
        for file in sources(&folder)? {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let found = mentions(without_tests(&file, &text), &WALL_CLOCK);
            breaches.extend(found.into_iter().map(|found| told(project, &file, found, "the wall clock may step")));
        }
    }
    for binding in ["bindings-python", "bindings-node", "bindings-c"] {
        let manifest = project.path(binding).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("zmq") {
                breaches.push(told(project, &manifest, (number + 1, "zmq"), "faces know the core only"));
            }
        }
    }
    let proto = core.join("proto/mod.rs");
    let text = fs::read_to_string(&proto).with_context(|| format!("cannot read {}", proto.display()))?;
    if !text.lines().any(|line| line == FORBIDS_UNSAFE) {
        breaches.push(told(project, &proto, (1, FORBIDS_UNSAFE), "is missing"));
    }
    if !breaches.is_empty() {
        bail!("{} breaches of the layers:\n{}", breaches.len(), breaches.join("\n"));
    }
    Ok(())
}

/// `mdctl conform` judges any broker by its own reading of the protocols, as a peer of its own: it alone in `cli` may use
/// libzmq, and it may not use the library, which would find itself right.
fn conform(project: &Project) -> Result<Vec<String>> {
    let cli = project.path("cli/src");
    let kit = cli.join("conform");
    let mut breaches = Vec::new();
    let mut judged = 0;
    for entry in WalkDir::new(&cli).sort_by_file_name() {
        let file = entry?.into_path();
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let inside = file.starts_with(&kit);
        judged += usize::from(inside);
        let (words, rule) = if inside {
            (&LIBRARY[..], "the kit judges by itself")
        } else {
            (&TRANSPORT[..], "faces know the core only, conform is a peer of its own")
        };
        breaches.extend(mentions(&text, words).into_iter().map(|found| told(project, &file, found, rule)));
    }
    if judged == 0 {
        bail!("{} has no Rust files", kit.display());
    }
    Ok(breaches)
}

/// The Rust files of the folder; there must be some.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "rs") {
            files.push(entry.into_path());
        }
    }
    if files.is_empty() {
        bail!("{} has no Rust files", folder.display());
    }
    Ok(files)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = sources(folder)?;
    if !files.iter().any(|file| file.starts_with(folder.join("proto"))) {
        bail!("{} has no proto/", folder.display());
    }
    Ok(files)
}

/// Tests stand last in a file, or in a file of their own, and may take a clock's reading as their beginning of time.
fn without_tests<'a>(file: &Path, text: &'a str) -> &'a str {
    if file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs") {
        return "";
    }
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// The lines that say one of the words outside of a comment, and the word.
fn mentions<'a>(text: &str, words: &[&'a str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or("") };
        found.extend(words.iter().filter(|word| says(code, word)).map(|word| (number + 1, *word)));
    }
    found
}

/// Whether the word is there, and not as the end of a longer name.
fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn told(project: &Project, file: &Path, (line, word): (usize, &str), rule: &str) -> String {
    let file = file.strip_prefix(&project.root).unwrap_or(file);
    format!("  {}:{line}: `{word}`: {rule}", file.display())
}

#[cfg(test)]
mod tests {
    use super::{IMPURE, LIBRARY, TRANSPORT, WALL_CLOCK, mentions, without_tests};
    use std::path::Path;

    #[test]
    fn a_clock_in_the_machines_is_a_breach() {
        assert_eq!(mentions("fn f() {\n    let now = Instant::now();\n}", &IMPURE), [(2, "Instant::now")]);
        assert_eq!(mentions("use std::time::{Duration, SystemTime};", &WALL_CLOCK), [(1, "SystemTime")]);
        assert_eq!(mentions("use zmq::Socket;", &TRANSPORT), [(1, "zmq::")]);
        assert_eq!(mentions("use majordomo::proto::mdp;", &LIBRARY), [(1, "majordomo::")]);
    }

    #[test]
    fn tests_may_look_at_the_clock_and_what_stands_before_them_may_not() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    Instant::now();\n}\n";
        assert_eq!(without_tests(Path::new("proto/worker.rs"), text), "fn f() {}\n");
        assert_eq!(without_tests(Path::new("proto/broker/tests.rs"), text), "");
    }

    #[test]
    fn prose_and_longer_names_are_no_breach() {
        assert!(mentions("/// Unlike zmq, std::net or rand:: this is pure.\nlet a = 1; // zmq", &IMPURE).is_empty());
        assert!(mentions("let operand::X = my_zmq;", &IMPURE).is_empty());
    }
}
