//! `cargo xtask bench`: Majordomo beside what it is measured by, in turn, and how the figures compare.
//!
//! Machines differ, and so does one machine from minute to minute: what counts are ratios of figures that were taken one
//! right after the other, repeated. Everything is measured in steady mode, see `majordomo-bench spin`.

mod comparison;
mod contender;
mod figures;
mod instructions;
mod peer;
mod stand;
mod table;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::build::Builder;
use crate::project::Project;

use comparison::Comparison;
use contender::Contender;
use figures::{Figures, Results};
use stand::Stand;

/// What `cargo xtask bench` is asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Make only this comparison; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How often every contender is measured
    #[arg(long, value_name = "N", default_value_t = 7)]
    repetitions: usize,
    /// The protocol of Majordomo's peers, by default the best one: 0.1, 0.2 or x1
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// Fail where a target is missed
    #[arg(long)]
    check: bool,
    /// Print JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// The machine and the settings that figures were taken with.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    processor: String,
    cores: usize,
    kernel: String,
    /// The protocol of peers where a comparison names none.
    protocol: String,
    repetitions: usize,
}

/// Measures, prints, and says whether everything could be measured. Whether targets are met is for the reader to judge, or for
/// `--check` where the machine is known to do nothing else.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<bool> {
    let comparisons = chosen(&arguments.only)?;
    if arguments.repetitions == 0 {
        bail!("--repetitions must be at least 1");
    }
    let mut output = redirect_output()?;

    let contenders = contenders(&comparisons);
    let mut builder = Builder::new(project);
    let stand = Stand::build(project, &mut builder, &contenders, arguments.protocol.as_deref())?;
    let setting = setting(&stand, arguments.repetitions)?;
    let results = measure(&stand, &contenders, arguments.repetitions)?;

    let text = match arguments.json {
        true => table::json(&setting, &comparisons, &results)? + "\n",
        false => table::markdown(&setting, &comparisons, &results),
    };
    output.write_all(text.as_bytes()).context("cannot print the figures")?;
    let failures: Vec<String> = results.values().flat_map(|figures| figures.failures.iter().cloned()).collect();
    if !failures.is_empty() {
        eprintln!("xtask: bench: {} measurements failed", failures.len());
    }
    let missed = table::missed(&comparisons, &results);
    if arguments.check && !missed.is_empty() {
        eprintln!("xtask: bench: FAILED: {} targets missed: {}", missed.len(), missed.join("; "));
        return Ok(false);
    }
    Ok(failures.is_empty())
}

/// The comparisons of these names; all of them if there are none.
fn chosen(names: &[String]) -> Result<Vec<Comparison>> {
    let all = comparison::all();
    for name in names {
        if !all.iter().any(|comparison| comparison.name == name) {
            let mut known: Vec<&str> = all.iter().map(|comparison| comparison.name).collect();
            known.dedup();
            bail!("there is no comparison {name:?}; there are {}", known.join(", "));
        }
    }
    let is_chosen = |comparison: &Comparison| names.is_empty() || names.iter().any(|name| name == comparison.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Each contender once, next to the first one that it is compared with.
fn contenders(comparisons: &[Comparison]) -> Vec<Contender> {
    let mut contenders = Vec::new();
    for contender in comparisons.iter().flat_map(Comparison::contenders) {
        if !contenders.contains(&contender) {
            contenders.push(contender);
        }
    }
    contenders
}

/// Measures every contender once in each repetition.
fn measure(stand: &Stand<'_>, contenders: &[Contender], repetitions: usize) -> Result<Results> {
    let _spinner = stand.spin()?;
    let mut results: Results = BTreeMap::new();
    for repetition in 0..repetitions {
        for contender in contenders.iter().filter(|contender| repetition < contender.most_repetitions()) {
            eprintln!("xtask: bench: {} of {repetitions}: {}", repetition + 1, contender.title());
            let figures: &mut Figures = results.entry(contender.clone()).or_default();
            match contender.measure(stand) {
                Ok(sample) => figures.add(&sample),
                Err(error) => {
                    let failure = format!("{}: {error:#}", contender.title());
                    eprintln!("xtask: bench: FAILED: {failure}");
                    figures.fail(failure);
                }
            }
        }
    }
    Ok(results)
}

fn setting(stand: &Stand<'_>, repetitions: usize) -> Result<Setting> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(Setting {
        processor: model.map_or("unknown processor", |(_, name)| name).trim().to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        protocol: stand.protocol.clone(),
        repetitions,
    })
}

/// Sends what is printed from now on, by compilers and package managers, too, to standard error, and returns what was
/// standard output.
pub(crate) fn redirect_output() -> Result<File> {
    let output = nix::unistd::dup(std::io::stdout()).context("cannot keep standard output")?;
    nix::unistd::dup2_stdout(std::io::stderr()).context("cannot redirect standard output")?;
    Ok(File::from(output))
}
