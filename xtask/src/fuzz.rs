//! `cargo xtask fuzz`: libFuzzer on every codec, every machine and every function of the C library (see `fuzz/`).

mod seeds;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use crate::examples::Check;
use crate::nightly::{Nightly, ordinary_libzmq};
use crate::process::Run;
use crate::project::Project;

/// Coverage as libFuzzer reads it, and AddressSanitizer, which finds what Rust's own checks do not.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Zsanitizer=address -Ccodegen-units=4";

/// The targets, by their files in `fuzz/fuzz_targets`.
pub(crate) const TARGETS: [&str; 11] =
    ["mdp", "mdpx", "discovery", "failure", "mmi", "broker", "session", "client", "worker", "c_messages", "c_handles"];

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The targets to run, one after the other; by default all
    #[arg(long = "target", value_name = "NAME", value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each of them runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// How long a target runs.
#[derive(Clone, Copy)]
enum Extent {
    Seconds(u64),
    /// Some inputs, the same each time: what an ordinary test run must not do is find something new.
    Same,
}

/// What a run of a target did, from libFuzzer's last line.
#[derive(Default, PartialEq, Eq, Debug)]
struct Figures {
    runs: String,
    coverage: String,
    features: String,
    corpus: String,
}

/// Runs the targets; whether none found anything. Without a nightly toolchain it says that it skips them.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<bool> {
    let Some(nightly) = Nightly::find("fuzzing") else { return Ok(true) };
    let all: Vec<String> = TARGETS.map(str::to_owned).into();
    let targets = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    let checks = run_all(project, &nightly, targets, Extent::Seconds(arguments.seconds))?;
    let mut good = true;
    for check in checks {
        if let Err(error) = check.outcome {
            println!("FAILED {}: {error:#}", check.name);
            good = false;
        }
    }
    Ok(good)
}

/// A few inputs for each target; `None` where there is no nightly toolchain.
pub(crate) fn smoke(project: &Project) -> Option<Result<Vec<Check>>> {
    let nightly = Nightly::find("fuzzing")?;
    Some(run_all(project, &nightly, &TARGETS.map(str::to_owned), Extent::Same))
}

fn run_all(project: &Project, nightly: &Nightly, targets: &[String], extent: Extent) -> Result<Vec<Check>> {
    let build = nightly.cargo(project, "build", "fuzz", FLAGS).dir(&project.path("fuzz"));
    let bins = targets.iter().flat_map(|target| ["--bin", target]);
    build.arg("--quiet").args(ordinary_libzmq(project)?).args(bins).run()?;
    seeds::write(project)?;

    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["target", "executions", "coverage", "features", "corpus"]);
    let mut checks = Vec::new();
    for target in targets {
        let mut figures = Figures::default();
        let outcome = run_target(project, target, extent, &mut figures);
        let Figures { runs, coverage, features, corpus } = figures;
        table.add_row([target.clone(), runs, coverage, features, corpus]);
        checks.push(Check { name: format!("fuzz {target}"), outcome });
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    Ok(checks)
}

fn run_target(project: &Project, target: &str, extent: Extent, figures: &mut Figures) -> Result<()> {
    let folder = |kind: &str| -> Result<PathBuf> {
        let folder = project.target().join("fuzz").join(kind).join(target);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    };
    let (corpus, seeds, artifacts) = (folder("corpus")?, folder("seeds")?, folder("artifacts")?);
    let program = project.target().join("fuzz").join(&project.triple).join("release").join(target);
    // libFuzzer reports to standard error. What mdmsg_print and mdmsg_dump print is of no interest.
    let mask = if target.starts_with("c_") { "3" } else { "0" };
    let run = Run::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
        .arg(program)
        .args([format!("-artifact_prefix={}/", artifacts.display()), format!("-close_fd_mask={mask}")]);
    let run = run.args(["-timeout=60", "-rss_limit_mb=4096", "-max_len=16384", "-len_control=0"]);
    let run = match extent {
        Extent::Seconds(seconds) => run.arg(format!("-max_total_time={seconds}")).arg(corpus),
        Extent::Same => {
            // Whatever goes over connections is slow, and with its seeds gets far at once.
            let inputs = if target == "c_handles" { 300 } else { 2000 };
            // Without what earlier runs have found.
            fs::remove_dir_all(folder("smoke")?)?;
            run.args([format!("-runs={inputs}"), "-seed=1".to_owned()]).arg(folder("smoke")?)
        }
    };
    let run = run.arg(seeds).dir(&project.root);
    let words = run.words();
    let status = run.watch(|line| {
        if let Some(read) = read_figures(line) {
            *figures = read;
        }
    })?;
    if !status.success() {
        bail!("`{words}` ended with {status}; what it found is in {}", artifacts.display());
    }
    Ok(())
}

/// The figures of a line such as `#8192 DONE cov: 512 ft: 2048 corp: 300/12Kb lim: 64 exec/s: 2000 rss: 40Mb`.
fn read_figures(line: &str) -> Option<Figures> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].to_owned());
    let runs = words.first()?.strip_prefix('#')?;
    Some(Figures { runs: runs.to_owned(), coverage: after("cov:")?, features: after("ft:")?, corpus: after("corp:")? })
}

#[cfg(test)]
mod tests {
    use super::{Figures, TARGETS, read_figures};
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_function_of_the_header_is_in_a_target() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
        let targets: Vec<String> = TARGETS
            .iter()
            .filter(|name| name.starts_with("c_"))
            .map(|name| read(&format!("fuzz/fuzz_targets/{name}.rs")))
            .collect();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let called: BTreeSet<&str> = targets.iter().flat_map(|text| text.split(|c| !is_word(c))).collect();
        let header = read("include/majordomo.h");
        let code = header.lines().filter(|line| !line.starts_with(['/', ' ', '#']));
        let declared: Vec<&str> = code
            .filter_map(|line| line.split_once('('))
            .filter_map(|(before, _)| before.rsplit(|c| !is_word(c)).next())
            .filter(|name| name.starts_with("md"))
            .collect();
        assert!(declared.len() > 100, "only {} functions found: the scan is blind", declared.len());
        let missing: Vec<&&str> = declared.iter().filter(|name| !called.contains(**name)).collect();
        assert!(missing.is_empty(), "never fuzzed: {missing:?}");
    }

    #[test]
    fn the_last_line_of_libfuzzer_has_the_figures() {
        let line = "#8192\tDONE   cov: 512 ft: 2048 corp: 300/12Kb lim: 64 exec/s: 2000 rss: 40Mb";
        let figures = |words: [&str; 4]| {
            let [runs, coverage, features, corpus] = words.map(str::to_owned);
            Figures { runs, coverage, features, corpus }
        };
        assert_eq!(read_figures(line), Some(figures(["8192", "512", "2048", "300/12Kb"])));
        assert_eq!(read_figures("INFO: seed corpus: files: 3"), None);
    }

    #[test]
    fn every_target_that_is_there_is_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
        let files = std::fs::read_dir(folder).expect("the targets").map(|file| file.expect("a file").path());
        let mut names: Vec<_> =
            files.map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
        names.sort();
        let mut targets = TARGETS.map(str::to_owned);
        targets.sort();
        assert_eq!(names, targets);
    }
}
