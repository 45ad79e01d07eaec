//! `cargo xtask soak`: a steady load for a while, and what becomes of memory, descriptors, threads and latency meanwhile.
//!
//! One broker, and the conformance agents of all languages as workers and clients: each agent asks the service of the next one at
//! a steady rate. A line is fitted to each figure after the warm-up; a leak shows as a slope that its
//! uncertainty does not explain, and fails the soak.

mod load;
mod report;
mod trend;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bench::redirect_output;
use crate::build::{Builder, Stage};
use crate::hub::Hub;
use crate::project::{Language, Project};

use load::Load;
use report::Report;

/// What `cargo xtask soak` is asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How long the load lasts; what grows is judged from 7 minutes on
    #[arg(long, value_name = "M", default_value_t = 20.0)]
    minutes: f64,
    /// How many requests each client makes in a second
    #[arg(long, value_name = "N", default_value_t = 40)]
    rate: u32,
    /// Print JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(3);
/// This share of the time is warm-up, whose samples count for nothing.
const WARM_UP: f64 = 0.25;

/// One look at a process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Seconds since the load began.
    at: f64,
    /// Bytes of memory.
    resident: f64,
    descriptors: f64,
    threads: f64,
}

/// What a process held over time.
#[derive(Debug)]
struct Watched {
    name: String,
    pid: u32,
    samples: Vec<Sample>,
}

/// Runs the load and prints what was found; whether every request was answered rightly, and nothing grows that should not.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<bool> {
    if !arguments.minutes.is_finite() || arguments.minutes < 0.5 || !(1..=1000).contains(&arguments.rate) {
        bail!("--minutes must be at least 0.5, and --rate from 1 to 1000");
    }
    let mut output = redirect_output()?;
    let mut builder = Builder::new(project);
    builder.need(&[Stage::Workspace, Stage::Wheel, Stage::Addon, Stage::CAgents])?;
    let mut hub = Hub::start(project)?;
    let mut load = Load::start(project, &hub.endpoint)?;
    let mut watched = vec![Watched { name: "broker".to_owned(), pid: hub.pid(), samples: Vec::new() }];
    for (language, pid) in Language::ALL.into_iter().zip(load.pids()) {
        watched.push(Watched { name: language.title().to_owned(), pid, samples: Vec::new() });
    }

    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(arguments.minutes * 60.0);
    let mut latencies = Vec::new();
    eprintln!("xtask: soak: {} minutes at {} requests a second for each client", arguments.minutes, arguments.rate);
    while Instant::now() < end {
        let mut measured = load.ask_until((Instant::now() + INTERVAL).min(end), arguments.rate)?;
        hub.check()?;
        let at = begin.elapsed().as_secs_f64();
        latencies.push((at, report::Percentiles::of(&mut measured)));
        for process in &mut watched {
            process.samples.push(look(process.pid, at)?);
        }
    }
    let lasted = begin.elapsed();
    let outcomes = load.stop()?;
    hub.stop()?;
    let report = Report::new(lasted, WARM_UP, &watched, &latencies, outcomes);
    let text = if arguments.json { serde_json::to_string_pretty(&report)? } else { report.table() };
    writeln!(output, "{text}")?;
    let growing: Vec<String> = report.growing().collect();
    if !growing.is_empty() {
        eprintln!("xtask: soak: FAILED: more is held with every minute: {}", growing.join(", "));
    }
    Ok(report.is_right() && growing.is_empty())
}

/// What a process holds now.
fn look(pid: u32, at: f64) -> Result<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let value =
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
        value.ok_or_else(|| anyhow::anyhow!("process {pid} does not tell {name}"))
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(Sample { at, resident: field("VmRSS:")? * 1024.0, descriptors: descriptors as f64, threads: field("Threads:")? })
}
