//! `cargo xtask demo`: programs in five languages count the words of a folder of texts for each other, over one broker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use walkdir::{DirEntry, WalkDir};

use crate::build::{Builder, Stage};
use crate::project::{Language, Project};
use crate::textstats::{Answer, Exchange, exchange};

/// How many troubles are told one by one.
const TOLD: usize = 20;

/// Runs the demo on the texts of `input`, by default on the project's own documentation.
pub(crate) fn run(project: &Project, input: Option<&Path>) -> Result<()> {
    let files = match input {
        Some(folder) => texts(folder)?,
        None => documentation(project)?,
    };
    eprintln!("xtask: building the broker and the programs of five languages");
    let mut builder = Builder::new(project);
    builder.need(&[Stage::Workspace])?;
    for language in Language::ALL {
        builder.need_language(language)?;
    }

    let size: u64 = files.iter().filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum();
    println!("{} files, {} in all; 5 clients send each of them to 5 workers over one broker", files.len(), bytes(size));
    let expected = files.len() * 25;
    let mut progress = Progress::new(expected);
    let result = exchange(project, &files, |answer| progress.step(answer))?;
    progress.end();

    println!("{}", table(&result.answers, files.len()));
    println!("client down, worker across: requests answered of requests sent, median round trip");
    let troubles = troubles(&result, &files);
    if troubles.is_empty() {
        println!("{expected} requests, {expected} answers; the five workers agree on every file");
        return Ok(());
    }
    for trouble in troubles.iter().take(TOLD) {
        println!("  {trouble}");
    }
    if troubles.len() > TOLD {
        println!("  … and {} more", troubles.len() - TOLD);
    }
    bail!("{} of the demo's promises are not kept", troubles.len());
}

/// All texts below a folder: regular files without a NUL byte near their beginning.
fn texts(folder: &Path) -> Result<Vec<PathBuf>> {
    let (texts, others): (Vec<_>, Vec<_>) = files(folder)?.into_iter().partition(|file| is_text(file));
    if !others.is_empty() {
        eprintln!("xtask: {} files are not texts and are left out", others.len());
    }
    if texts.is_empty() {
        bail!("{} has no text file", folder.display());
    }
    Ok(texts)
}

/// The project's own documentation: everything in Markdown.
fn documentation(project: &Project) -> Result<Vec<PathBuf>> {
    let mut files = files(&project.root)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    Ok(files)
}

/// All files below a folder, except what version control, package managers and compilers keep there.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(|entry| !is_stored(entry)) {
        let entry = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?;
        // Links to files count, links to folders do not: they may lead back.
        if fs::metadata(entry.path()).is_ok_and(|data| data.is_file()) {
            files.push(std::path::absolute(entry.path())?);
        }
    }
    Ok(files)
}

fn is_stored(entry: &DirEntry) -> bool {
    if entry.depth() == 0 || !entry.file_type().is_dir() {
        return false;
    }
    let path = entry.path();
    let is_of_cargo = path.join("CACHEDIR.TAG").exists()
        || (entry.file_name() == "target" && path.with_file_name("Cargo.toml").exists());
    is_of_cargo || entry.file_name() == ".git" || entry.file_name() == "node_modules"
}

/// A file that cannot be read counts as a text, so that its absence is not silent.
fn is_text(path: &Path) -> bool {
    let mut beginning = Vec::new();
    match File::open(path).and_then(|file| file.take(8192).read_to_end(&mut beginning)) {
        Ok(_) => !beginning.contains(&0),
        Err(_) => true,
    }
}

/// What is missing, and where workers do not agree.
pub(crate) fn troubles(result: &Exchange, files: &[PathBuf]) -> Vec<String> {
    let mut troubles = result.troubles.clone();
    let mut by_request: BTreeMap<(usize, Language, Language), Vec<&Answer>> = BTreeMap::new();
    for answer in &result.answers {
        by_request.entry((answer.file, answer.client, answer.worker)).or_default().push(answer);
    }
    for (position, file) in files.iter().enumerate() {
        let mut replies: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for client in Language::ALL {
            for worker in Language::ALL {
                let pair = format!("{} client, {} worker", client.title(), worker.title());
                let answers = by_request.get(&(position, client, worker)).map_or(&[][..], Vec::as_slice);
                match answers {
                    [Answer { outcome: Ok(reply), .. }] => {
                        replies.entry(reply).or_default().insert(worker.title());
                    }
                    [Answer { outcome: Err(error), .. }] => {
                        troubles.push(format!("{}: {error} ({pair})", file.display()))
                    }
                    [] => troubles.push(format!("{}: no answer ({pair})", file.display())),
                    more => troubles.push(format!("{}: {} answers ({pair})", file.display(), more.len())),
                }
            }
        }
        if replies.len() > 1 {
            let sides = replies.iter().map(|(reply, workers)| {
                let workers: Vec<&str> = workers.iter().copied().collect();
                format!("{}: {reply}", workers.join(", "))
            });
            let sides: Vec<String> = sides.collect();
            troubles.push(format!("{}: the workers do not agree: {}", file.display(), sides.join("; ")));
        }
    }
    troubles
}

fn table(answers: &[Answer], files: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(std::iter::once("client \\ worker").chain(Language::ALL.iter().map(|language| language.title())));
    for client in Language::ALL {
        let cells = Language::ALL.iter().map(|&worker| {
            let times = answers
                .iter()
                .filter(|answer| answer.client == client && answer.worker == worker && answer.outcome.is_ok())
                .map(|answer| answer.milliseconds);
            cell(times.collect(), files)
        });
        table.add_row(std::iter::once(client.title().to_owned()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cell(mut times: Vec<f64>, files: usize) -> String {
    let answered = format!("{} of {files}", times.len());
    match median(&mut times) {
        Some(median) => format!("{answered}, {median:.2} ms"),
        None => answered,
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn bytes(size: u64) -> String {
    match size {
        0..10_000 => format!("{size} bytes"),
        10_000..10_000_000 => format!("{} kB", size / 1000),
        _ => format!("{} MB", size / 1_000_000),
    }
}

/// A bar on a terminal; elsewhere a line for each tenth.
struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
    expected: usize,
}

impl Progress {
    fn new(expected: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(u64::try_from(expected).unwrap_or(u64::MAX));
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} answers, {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, done: 0, expected }
    }

    fn step(&mut self, answer: &Answer) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{} → {}", answer.client.title(), answer.worker.title()));
                bar.inc(1);
            }
            None if self.done * 10 / self.expected > (self.done - 1) * 10 / self.expected => {
                eprintln!("{} of {} answers", self.done, self.expected);
            }
            None => {}
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exchange, median, troubles};
    use crate::project::Language;
    use crate::textstats::Answer;
    use std::path::PathBuf;

    fn complete(files: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        for client in Language::ALL {
            for worker in Language::ALL {
                for file in 0..files {
                    answers.push(Answer {
                        client,
                        worker,
                        file,
                        milliseconds: 1.0,
                        outcome: Ok(format!("{{{file}}}")),
                    });
                }
            }
        }
        answers
    }

    fn judged(answers: Vec<Answer>) -> Vec<String> {
        troubles(&Exchange { answers, troubles: Vec::new() }, &[PathBuf::from("a.txt"), PathBuf::from("b.txt")])
    }

    #[test]
    fn a_complete_exchange_has_no_troubles() {
        assert_eq!(judged(complete(2)), Vec::<String>::new());
    }

    #[test]
    fn a_missing_answer_is_a_trouble() {
        let mut answers = complete(2);
        answers.remove(7);
        assert_eq!(judged(answers).len(), 1);
    }

    #[test]
    fn an_answer_given_twice_is_a_trouble() {
        let mut answers = complete(2);
        answers.push(answers[3].clone());
        assert_eq!(judged(answers).len(), 1);
    }

    #[test]
    fn an_error_is_a_trouble() {
        let mut answers = complete(2);
        answers[11].outcome = Err("MD_ETIMEOUT".to_owned());
        assert!(judged(answers)[0].contains("MD_ETIMEOUT"));
    }

    #[test]
    fn one_worker_that_counts_differently_is_a_trouble() {
        let mut answers = complete(2);
        answers[4].outcome = Ok("{0 }".to_owned());
        assert!(judged(answers)[0].contains("do not agree"));
    }

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_middle_two() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
