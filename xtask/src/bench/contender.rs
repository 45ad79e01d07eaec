//! What is measured: programs that exchange requests, each time started afresh.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::figures::{Quantity, Sample};
use super::instructions;
use super::peer::{Listening, Peer};
use crate::build::{Builder, Stage};
use crate::process::Run;
use crate::project::{Language, Project};

/// What the broker of a burst may hold, in bytes.
pub(crate) const BURST_BYTES: u64 = 256 << 20;
/// How many requests a flood has.
const FLOOD: u64 = 100_000;
/// How long a broker with idle workers is watched, in seconds: two heartbeat intervals.
const IDLE_SECONDS: &str = "5";

/// Programs whose figures are compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Contender {
    RawRelay(Load),
    Majordomo {
        load: Load,
        protocol: Protocol,
        language: Language,
    },
    /// Peers over 0.1 without Majordomo, small and pipelined, with Majordomo's broker.
    HandWritten(Tool),
    IdleWorkers {
        workers: u32,
        services: u32,
    },
    /// Requests that wait for a worker.
    Queue,
    /// Requests that are all sent before the first reply is read.
    Burst,
    Instructions,
}

/// How clients behave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Load {
    /// As many clients as workers, each client with requests outstanding, of a size in bytes.
    Pipelined { size: u32, outstanding: u32, pairs: u32 },
    /// A blocking client with one request at a time, of 11 bytes.
    RoundTrip,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Protocol {
    V01,
    /// The one of this run: by default the best that this build speaks.
    Best,
}

/// What peers are written with by hand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Tool {
    Pyzmq,
    NpmZeromq,
}

/// What a client prints.
#[derive(Debug, Deserialize)]
struct Measured {
    rate: f64,
    replies: f64,
    median_us: Option<f64>,
    p99_us: Option<f64>,
    watched_cpu_seconds: Option<f64>,
}

/// What `majordomo-bench watch` prints.
#[derive(Debug, Deserialize)]
struct Watched {
    cores: f64,
    resident: f64,
    peak: f64,
}

/// What a flood prints at its end.
#[derive(Debug, Deserialize)]
struct Flooded {
    sent: u64,
    answered: u64,
}

impl Contender {
    /// What it is called in the table.
    pub(crate) fn title(&self) -> String {
        match self {
            Contender::RawRelay(load) => format!("raw relay, {}", load.title()),
            Contender::Majordomo { language, protocol, load } => {
                let version = if *protocol == Protocol::V01 { " over 0.1" } else { "" };
                format!("{}{version}, {}", language.title(), load.title())
            }
            Contender::HandWritten(Tool::Pyzmq) => "pyzmq by hand, pipelined 11 B".to_owned(),
            Contender::HandWritten(Tool::NpmZeromq) => "npm zeromq by hand, pipelined 11 B".to_owned(),
            Contender::IdleWorkers { workers, services } => format!("{workers} idle workers of {services} services"),
            Contender::Queue => "queue without a worker".to_owned(),
            Contender::Burst => "burst".to_owned(),
            Contender::Instructions => "instructions".to_owned(),
        }
    }

    /// How often it is worth measuring: instructions and bytes hardly vary.
    pub(crate) fn most_repetitions(&self) -> usize {
        match self {
            Contender::Queue | Contender::Burst | Contender::Instructions => 3,
            _ => usize::MAX,
        }
    }

    /// Measures it once.
    pub(crate) fn measure(&self, stand: &Stand<'_>) -> Result<Sample> {
        match self {
            Contender::RawRelay(load) => raw_relay(stand, *load),
            Contender::Majordomo { language, protocol, load } => majordomo(stand, *language, *protocol, *load),
            Contender::HandWritten(tool) => hand_written(stand, *tool),
            Contender::IdleWorkers { workers, services } => idle_workers(stand, *workers, *services),
            Contender::Queue => queue(stand),
            Contender::Burst => burst(stand),
            Contender::Instructions => instructions::measure(stand),
        }
    }

    /// The language, other than Rust, that it needs.
    fn language(&self) -> Option<Language> {
        match self {
            Contender::Majordomo { language: Language::Rust, .. } => None,
            Contender::Majordomo { language, .. } => Some(*language),
            Contender::HandWritten(Tool::Pyzmq) => Some(Language::Python),
            Contender::HandWritten(Tool::NpmZeromq) => Some(Language::Node),
            _ => None,
        }
    }
}

impl Load {
    fn title(self) -> String {
        match self {
            Load::Pipelined { size, pairs: 1, .. } if size < 1024 => format!("pipelined {size} B"),
            Load::Pipelined { size, pairs: 1, .. } => format!("pipelined {} KiB", size / 1024),
            Load::Pipelined { size, pairs, .. } => format!("pipelined {size} B, {pairs} clients and workers"),
            Load::RoundTrip => "one at a time".to_owned(),
        }
    }

    fn pairs(self) -> u32 {
        match self {
            Load::Pipelined { pairs, .. } => pairs,
            Load::RoundTrip => 1,
        }
    }
}

/// Everything that measurements need, built.
#[derive(Debug)]
pub(crate) struct Stand<'a> {
    project: &'a Project,
    /// The protocol of peers where a contender names none.
    pub(crate) protocol: String,
    /// Whether the programs of a language could be built.
    languages: BTreeMap<Language, Result<(), String>>,
}

impl<'a> Stand<'a> {
    /// Builds what these contenders need. Without the Rust programs nothing can be measured; another language that cannot
    /// be built fails its contenders.
    pub(crate) fn build(
        project: &'a Project,
        builder: &mut Builder<'_>,
        contenders: &[Contender],
        protocol: Option<&str>,
    ) -> Result<Self> {
        eprintln!("xtask: bench: building");
        let mut languages = BTreeMap::new();
        for language in contenders.iter().filter_map(Contender::language) {
            languages
                .entry(language)
                .or_insert_with(|| prepare(project, builder, language).map_err(|error| format!("{error:#}")));
        }
        project.cargo("build").args(["--quiet", "--package", "majordomo-benchmarks"]).run()?;
        let mut stand = Stand { project, protocol: String::new(), languages };
        let known: Vec<String> = Peer::start(stand.program("protocols"))?.line()?;
        stand.protocol = match protocol {
            Some(name) if known.iter().any(|known| known == name) => name.to_owned(),
            Some(name) => bail!("there is no protocol {name:?}; there are {}", known.join(", ")),
            None => known.last().context("the library speaks no protocol")?.clone(),
        };
        Ok(stand)
    }

    /// Keeps the cores awake until it is dropped.
    pub(crate) fn spin(&self) -> Result<Peer> {
        Peer::start_ready(self.program("spin"))
    }

    /// A Rust program, by its role.
    pub(crate) fn program(&self, role: &str) -> Run {
        Run::new(self.binary()).arg(role)
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.project.binary("majordomo-bench")
    }

    /// The program of a role in a language.
    fn peer(&self, language: Language, role: &str) -> Result<Run> {
        let source = |file: &str| self.project.path("benchmarks").join(language.folder()).join(file);
        if let Some(Err(error)) = self.languages.get(&language) {
            bail!("{} could not be built: {error}", language.title());
        }
        Ok(match language {
            Language::Rust => self.program(role),
            Language::Python => Run::new(self.project.venv("python")).arg(source("peer.py")).arg(role),
            Language::Node => Run::new("node").arg(source("peer.mjs")).arg(role),
            Language::C | Language::Cpp => Run::new(compiled(self.project, language)).arg(role),
        })
    }

    fn protocol(&self, protocol: Protocol) -> &str {
        match protocol {
            Protocol::V01 => "0.1",
            Protocol::Best => &self.protocol,
        }
    }

    fn watch(&self, pid: u32, seconds: &str) -> Result<Watched> {
        Peer::start(self.program("watch").arg("--pid").arg(pid.to_string()).args(["--seconds", seconds]))?.line()
    }
}

/// Builds what the peers of a language need.
fn prepare(project: &Project, builder: &mut Builder<'_>, language: Language) -> Result<()> {
    if language == Language::Node {
        // First: npm removes the link to our package, which is none of its own.
        builder.need(&[Stage::ConformancePackages])?;
    }
    builder.need_language(language)?;
    match language {
        Language::Rust | Language::Python => Ok(()),
        Language::Node => link_node_packages(project),
        Language::C => compile(project, language, "cc", &["-std=c99", "-D_XOPEN_SOURCE=700"]),
        Language::Cpp => compile(project, language, "c++", &["-std=c++17"]),
    }
}

/// Lets the peers import the package itself and the one of the conformance suite's foreign peers.
fn link_node_packages(project: &Project) -> Result<()> {
    let modules = project.path("benchmarks/node_modules");
    std::fs::create_dir_all(&modules)?;
    for (name, goal) in [("majordomo", "../../bindings-node"), ("zeromq", "../../conformance/node_modules/zeromq")] {
        let link = modules.join(name);
        if std::fs::read_link(&link).is_ok_and(|present| present.as_os_str() == goal) {
            continue;
        }
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(goal, &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    Ok(())
}

fn compiled(project: &Project, language: Language) -> PathBuf {
    project.built().join("benchmarks").join(language.folder())
}

/// Compiles a peer against the installed form of the C library.
fn compile(project: &Project, language: Language, compiler: &str, standard: &[&str]) -> Result<()> {
    let program = compiled(project, language);
    if let Some(folder) = program.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let library = project.built().join("c");
    let mut search = std::ffi::OsString::from("-Wl,-rpath,");
    search.push(&library);
    Run::new(compiler)
        .args(standard.iter().copied())
        .args(["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(project.path("include"))
        .arg(project.path("benchmarks").join(language.folder()).join(format!("peer.{}", language.folder())))
        .arg("-o")
        .arg(program)
        .arg("-L")
        .arg(&library)
        .arg(search)
        .args(["-lmajordomo", "-lpthread"])
        .run()
}

fn raw_relay(stand: &Stand<'_>, load: Load) -> Result<Sample> {
    let mut relay = Peer::start(stand.program("raw-proxy"))?;
    let listening: Listening = relay.line()?;
    let workers = stand.program("raw-worker").args(["--endpoint", &listening.workers]);
    let _workers = Peer::start_ready(workers.args(["--workers", &load.pairs().to_string()]))?;
    let (size, outstanding, pairs) = match load {
        Load::Pipelined { size, outstanding, pairs } => (size, outstanding, pairs),
        Load::RoundTrip => (11, 1, 1),
    };
    let clients = with_load(stand.program("raw-client"), size, outstanding, pairs);
    client(clients.args(["--endpoint", &listening.endpoint]).args(["--watch", &listening.pid.to_string()]))
}

fn majordomo(stand: &Stand<'_>, language: Language, protocol: Protocol, load: Load) -> Result<Sample> {
    let mut broker = Peer::start(stand.program("broker"))?;
    let listening: Listening = broker.line()?;
    let protocol = stand.protocol(protocol);
    let ends = |role: &str, endpoint: &str| -> Result<Run> {
        Ok(stand.peer(language, role)?.args(["--endpoint", endpoint, "--protocol", protocol]))
    };
    let workers = match load {
        Load::Pipelined { .. } => ends("worker", &listening.workers)?,
        // Where the language tells them apart, as its client is.
        Load::RoundTrip => {
            ends(if language == Language::Python { "blocking-worker" } else { "worker" }, &listening.workers)?
        }
    };
    let workers = if load.pairs() > 1 { workers.args(["--workers", &load.pairs().to_string()]) } else { workers };
    let _workers = Peer::start_ready(workers)?;
    let clients = match load {
        Load::Pipelined { size, outstanding, pairs } => {
            with_load(ends("client", &listening.endpoint)?, size, outstanding, pairs)
        }
        Load::RoundTrip => ends("round-trip", &listening.endpoint)?,
    };
    client(if language == Language::Rust { clients.args(["--watch", &listening.pid.to_string()]) } else { clients })
}

fn hand_written(stand: &Stand<'_>, tool: Tool) -> Result<Sample> {
    let mut broker = Peer::start(stand.program("broker"))?;
    let listening: Listening = broker.line()?;
    let language = if tool == Tool::Pyzmq { Language::Python } else { Language::Node };
    let ends =
        |role: &str| Ok::<_, anyhow::Error>(stand.peer(language, role)?.args(["--endpoint", &listening.endpoint]));
    let _worker = Peer::start_ready(ends("hand-written-worker")?)?;
    client(with_load(ends("hand-written-client")?, 11, 1000, 1))
}

fn idle_workers(stand: &Stand<'_>, workers: u32, services: u32) -> Result<Sample> {
    let mut broker = Peer::start(stand.program("broker"))?;
    let listening: Listening = broker.line()?;
    let idle = stand.program("idle-workers").args(["--endpoint", &listening.workers]);
    let counts = ["--workers".to_owned(), workers.to_string(), "--services".to_owned(), services.to_string()];
    let protocol = ["--protocol", &stand.protocol];
    let _idle = Peer::start_ready(idle.args(counts).args(protocol))?;
    let watched = stand.watch(listening.pid, IDLE_SECONDS)?;
    let worker = stand.program("worker").args(["--endpoint", &listening.workers]).args(protocol);
    let _worker = Peer::start_ready(worker)?;
    let clients = with_load(stand.program("client"), 11, 1000, 1).args(protocol);
    let mut sample =
        client(clients.args(["--endpoint", &listening.endpoint]).args(["--watch", &listening.pid.to_string()]))?;
    sample.insert(Quantity::IdleCores, watched.cores);
    Ok(sample)
}

fn queue(stand: &Stand<'_>) -> Result<Sample> {
    let mut broker = Peer::start(stand.program("broker"))?;
    let listening: Listening = broker.line()?;
    let before = stand.watch(listening.pid, "0")?.resident;
    let mut flood = Peer::start_ready(flood(stand, &listening).arg("--queue"))?;
    let queued = stand.watch(listening.pid, "0")?.resident;
    let protocol = ["--protocol", &stand.protocol];
    let _worker = Peer::start_ready(stand.program("worker").args(["--endpoint", &listening.workers]).args(protocol))?;
    whole(&flood.line()?)?;
    flood.wait()?;
    // What the broker does when nothing is left to do.
    let kept = stand.watch(listening.pid, "2")?.resident;
    Ok(Sample::from([(Quantity::Queued, queued - before), (Quantity::Kept, kept - before)]))
}

fn burst(stand: &Stand<'_>) -> Result<Sample> {
    let bound = BURST_BYTES.to_string();
    let mut broker = Peer::start(stand.program("broker").args(["--max-queued-bytes", &bound]))?;
    let listening: Listening = broker.line()?;
    let before = stand.watch(listening.pid, "0")?.resident;
    let protocol = ["--protocol", &stand.protocol];
    let _worker = Peer::start_ready(stand.program("worker").args(["--endpoint", &listening.workers]).args(protocol))?;
    let mut flood = Peer::start_ready(flood(stand, &listening))?;
    let result: Flooded = flood.line()?;
    let peak = stand.watch(listening.pid, "0")?.peak;
    let lost = (result.sent - result.answered) as f64;
    Ok(Sample::from([(Quantity::Lost, lost), (Quantity::Peak, peak - before)]))
}

fn flood(stand: &Stand<'_>, listening: &Listening) -> Run {
    let run = stand.program("flood").args(["--endpoint", &listening.endpoint, "--protocol", &stand.protocol]);
    run.args(["--size", "1024", "--requests", &FLOOD.to_string()])
}

/// Fails if a reply is missing.
fn whole(flooded: &Flooded) -> Result<()> {
    if flooded.answered == flooded.sent {
        return Ok(());
    }
    Err(anyhow!("{} of {} requests were answered", flooded.answered, flooded.sent))
}

pub(crate) fn with_load(run: Run, size: u32, outstanding: u32, pairs: u32) -> Run {
    let run = run.args(["--size", &size.to_string(), "--outstanding", &outstanding.to_string()]);
    if pairs > 1 { run.args(["--clients", &pairs.to_string()]) } else { run }
}

/// Runs a client to its end; what it measured.
fn client(run: Run) -> Result<Sample> {
    let mut client = Peer::start(run)?;
    let measured: Measured = client.line()?;
    client.wait()?;
    let cpu = measured.watched_cpu_seconds.map(|seconds| seconds / measured.replies * 100_000.0);
    let quantities = [
        (Quantity::Rate, Some(measured.rate)),
        (Quantity::Median, measured.median_us),
        (Quantity::P99, measured.p99_us),
        (Quantity::BrokerCpu, cpu),
    ];
    Ok(quantities.into_iter().filter_map(|(quantity, value)| Some((quantity, value?))).collect())
}
