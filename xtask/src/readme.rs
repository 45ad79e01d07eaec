//! Runs the programs of README.md and of the bindings' READMEs as they stand there.
//!
//! A program is a fenced block after a line `<!-- run: python -->`; the fenced block after it, marked `text`, is what it prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build::{Builder, Stage, install_c};
use crate::examples::{Check, same};
use crate::hub::{Hub, output_within};
use crate::process::Run;
use crate::project::{Language, Project};

/// The endpoint that stands in the programs; they run with that of a broker of their own.
const ENDPOINT: &str = "tcp://127.0.0.1:5555";
const LIMIT: Duration = Duration::from_secs(60);

/// What the packages ship.
const BINDINGS: [&str; 3] = ["bindings-python/README.md", "bindings-node/README.md", "bindings-c/README.md"];

/// A program of a README.
#[derive(PartialEq, Debug)]
struct Snippet {
    /// Where it stands: file and line.
    place: String,
    language: Language,
    source: String,
    output: String,
}

/// All programs; README.md must have one for every language.
pub(crate) fn run(project: &Project, builder: &mut Builder<'_>) -> Result<Vec<Check>> {
    builder.need(&[Stage::Workspace])?;
    let read = |file: &str| snippets(file, &fs::read_to_string(project.path(file))?);
    let mut snippets = read("README.md")?;
    let mut checks = Vec::new();
    for language in Language::ALL {
        if !snippets.iter().any(|snippet| snippet.language == language) {
            let outcome = Err(anyhow::anyhow!("there is none"));
            checks.push(Check { name: format!("README program in {}", language.title()), outcome });
        }
    }
    for file in BINDINGS {
        snippets.extend(read(file)?);
    }
    for snippet in &snippets {
        let outcome = builder.need_language(snippet.language).and_then(|()| check(project, snippet));
        checks.push(Check { name: format!("{} in {}", snippet.place, snippet.language.title()), outcome });
    }
    Ok(checks)
}

fn check(project: &Project, snippet: &Snippet) -> Result<()> {
    if !snippet.source.contains(ENDPOINT) {
        bail!("it does not use {ENDPOINT}");
    }
    let folder = project.target().join("xtask/readme");
    fs::create_dir_all(&folder)?;
    let hub = Hub::start(project)?;
    let source = snippet.source.replace(ENDPOINT, &hub.endpoint);
    let program = prepare(project, &folder, snippet.language, &source)?;
    let output = output_within(program, LIMIT)?;
    hub.stop()?;
    same(&output, &snippet.output)
}

/// Writes the program into `folder`, compiles it if that is what its language does, and says how to start it.
fn prepare(project: &Project, folder: &Path, language: Language, source: &str) -> Result<Run> {
    let extension = match language {
        Language::Rust => "rs",
        Language::Python => "py",
        Language::Node => "mjs",
        Language::C => "c",
        Language::Cpp => "cpp",
    };
    let file = folder.join(format!("first.{extension}"));
    fs::write(&file, source)?;
    let binary = folder.join(format!("first-{}", language.folder()));
    match language {
        Language::Python => return Ok(Run::new(project.venv("python")).arg(file)),
        Language::Node => {
            let link = folder.join("node_modules/majordomo");
            fs::create_dir_all(folder.join("node_modules"))?;
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(project.path("bindings-node"), link)?;
            return Ok(Run::new("node").arg(file));
        }
        Language::Rust => {
            let word = |name: &str, path: PathBuf| {
                let mut word = std::ffi::OsString::from(name);
                word.push(path);
                word
            };
            // Derive macros are built for the machine that compiles, in the folder without a target.
            Run::new("rustc")
                .args(["--edition", "2024", "--target", &project.triple, "--extern"])
                .arg(word("majordomo=", project.built().join("libmajordomo.rlib")))
                .arg("-L")
                .arg(word("dependency=", project.built().join("deps")))
                .arg("-L")
                .arg(word("dependency=", project.target().join("release/deps")))
                .arg("-o")
                .arg(&binary)
                .arg(file)
                .run()?;
        }
        Language::C => compile(project, "gcc", "-std=c99", &file, &binary)?,
        Language::Cpp => compile(project, "g++", "-std=c++17", &file, &binary)?,
    }
    Ok(Run::new(binary))
}

/// Against the library as it is installed, as a user does.
fn compile(project: &Project, compiler: &str, standard: &str, file: &Path, binary: &Path) -> Result<()> {
    let prefix: PathBuf = project.target().join("xtask/prefix");
    install_c(project, &prefix)?;
    let library = prefix.join("lib");
    let mut run_path = std::ffi::OsString::from("-Wl,-rpath,");
    run_path.push(&library);
    Run::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(prefix.join("include"))
        .arg(file)
        .arg("-L")
        .arg(library)
        .args(["-lmajordomo", "-lpthread"])
        .arg(run_path)
        .arg("-o")
        .arg(binary)
        .run()
}

fn snippets(file: &str, text: &str) -> Result<Vec<Snippet>> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(name) = line.trim().strip_prefix("<!-- run:").and_then(|rest| rest.strip_suffix("-->")) else {
            continue;
        };
        let place = format!("{file}:{}", number + 1);
        let language = Language::ALL.into_iter().find(|language| language.folder() == name.trim());
        let language = language.with_context(|| format!("{place}: unknown language {:?}", name.trim()))?;
        let (_, source) = block(&mut lines).with_context(|| format!("{place}: no program follows"))?;
        let (mark, output) = block(&mut lines).with_context(|| format!("{place}: no output follows the program"))?;
        if mark != "text" {
            bail!("{place}: the block after the program is marked {mark:?} instead of \"text\"");
        }
        found.push(Snippet { place, language, source, output });
    }
    Ok(found)
}

/// The next fenced block, which only empty lines may precede: its mark and its content.
fn block<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<(String, String)> {
    let mark = loop {
        let (_, line) = lines.next()?;
        if !line.trim().is_empty() {
            break line.strip_prefix("```")?.trim().to_owned();
        }
    };
    let mut content = String::new();
    for (_, line) in lines {
        if line == "```" {
            return Some((mark, content));
        }
        content.push_str(line);
        content.push('\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Snippet, snippets};
    use crate::project::Language;

    #[test]
    fn marked_programs_are_found_with_their_output() {
        let text =
            "# Title\n```sh\nnot this\n```\n<!-- run: cpp -->\n```cpp\nint main() {\n}\n```\n\n```text\nOK\n```\n";
        let expected = Snippet {
            place: "README.md:5".to_owned(),
            language: Language::Cpp,
            source: "int main() {\n}\n".to_owned(),
            output: "OK\n".to_owned(),
        };
        assert_eq!(snippets("README.md", text).expect("well-formed"), [expected]);
    }

    #[test]
    fn a_marked_program_without_output_is_an_error() {
        for text in [
            "<!-- run: c -->\n```c\nint x;\n```\n",
            "<!-- run: c -->\n```c\nint x;\n```\nprose\n```text\n```\n",
            "<!-- run: c -->\n```c\nint x;\n```\n```c\n```\n",
            "<!-- run: c -->\nprose\n",
            "<!-- run: c -->\n```c\nunfinished\n",
            "<!-- run: cobol -->\n```c\n```\n```text\n```\n",
        ] {
            assert!(snippets("README.md", text).is_err(), "{text}");
        }
    }
}
