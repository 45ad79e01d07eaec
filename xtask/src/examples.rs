//! Runs every example in every language and holds what it prints against what it promises.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build::{Builder, Stage};
use crate::demo::troubles;
use crate::hub::{Hub, output_within};
use crate::project::{Language, Project};
use crate::textstats::{exchange, interrupt};

/// How long an example may run.
const LIMIT: Duration = Duration::from_secs(60);

/// The example that is two programs.
const TEXTSTATS: &str = "textstats";

/// Something that was tried, and whether it went well.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) outcome: Result<()>,
}

/// All examples in all languages.
pub(crate) fn run(project: &Project, builder: &mut Builder<'_>) -> Result<Vec<Check>> {
    // The broker.
    builder.need(&[Stage::Workspace])?;
    let mut checks = Vec::new();
    for example in names(project)? {
        if example == TEXTSTATS {
            let outcome = Language::ALL.into_iter().try_for_each(|language| builder.need_language(language));
            checks.push(Check {
                name: format!("{TEXTSTATS}, five clients and five workers"),
                outcome: outcome.and_then(|()| textstats(project)),
            });
            checks.push(Check {
                name: format!("{TEXTSTATS}, workers that are interrupted at work"),
                outcome: interrupted(project),
            });
            continue;
        }
        for language in Language::ALL {
            let outcome = builder.need_language(language).and_then(|()| one(project, &example, language));
            checks.push(Check { name: format!("{example} in {}", language.title()), outcome });
        }
    }
    Ok(checks)
}

/// The folders of `examples/` that state an expected output.
fn names(project: &Project) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(project.path("examples"))?
        .flatten()
        .filter(|entry| entry.path().join("expected.txt").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn one(project: &Project, example: &str, language: Language) -> Result<()> {
    let expected = expected(project, example)?;
    let hub = Hub::start(project)?;
    let program = project.example(language, example, example).arg(&hub.endpoint);
    let output = output_within(program, LIMIT)?;
    hub.stop()?;
    same(&output, &expected)
}

fn textstats(project: &Project) -> Result<()> {
    let expected = expected(project, TEXTSTATS)?;
    let mut files: Vec<PathBuf> = fs::read_dir(project.path("examples/textstats/input"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let result = exchange(project, &files, |_| {})?;
    let troubles = troubles(&result, &files);
    if !troubles.is_empty() {
        bail!("{}", troubles.join("\n"));
    }
    let mut output = String::new();
    for (position, file) in files.iter().enumerate() {
        // All answers for a file are the same here.
        let answer = result.answers.iter().find(|answer| answer.file == position);
        let reply = answer.and_then(|answer| answer.outcome.as_deref().ok()).context("no answer")?;
        output.push_str(&format!("{}: {reply}\n", file.file_name().unwrap_or_default().to_string_lossy()));
    }
    same(&output, &expected)
}

fn interrupted(project: &Project) -> Result<()> {
    let folder = project.target().join("interrupted");
    fs::create_dir_all(&folder)?;
    let outcome = interrupt(project, &folder);
    fs::remove_dir_all(folder)?;
    outcome
}

fn expected(project: &Project, example: &str) -> Result<String> {
    let file = project.path("examples").join(example).join("expected.txt");
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// Fails with both texts unless they are equal.
pub(crate) fn same(printed: &str, expected: &str) -> Result<()> {
    if printed != expected {
        bail!("it printed\n{printed}\ninstead of\n{expected}");
    }
    Ok(())
}
