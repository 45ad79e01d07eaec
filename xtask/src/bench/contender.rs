//! What is measured: programs that exchange requests, each time started afresh.

use anyhow::{Result, anyhow};
use serde::Deserialize;

use super::figures::{Quantity, Sample};
use super::instructions;
use super::peer::{Listening, Peer};
use super::stand::Stand;
use crate::process::Run;
use crate::project::Language;

/// What the broker of a burst may hold, in bytes.
pub(crate) const BURST_BYTES: u64 = 256 << 20;
/// What a message may have with a broker that is flooded, in bytes: as where strangers can connect, no more than is needed.
const FLOODED_MESSAGE_BYTES: u64 = 1 << 20;
/// How many requests a flood has.
const FLOOD: u64 = 100_000;
/// How long a broker with idle workers is watched, in seconds: two heartbeat intervals.
const IDLE_SECONDS: &str = "5";
/// Their heartbeat interval.
const INTERVAL_SECONDS: &str = "2.5";

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
    /// A client with one request at a time, while somebody else floods the broker, or nobody does. All of them run where the
    /// system lets them: a flood is work for both threads of the broker, which has one core where round trips are measured.
    Beside(Option<Flood>),
    Instructions,
}

/// What a hostile peer does too much of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Flood {
    /// What `majordomo-bench hostile` calls it.
    pub(crate) kind: &'static str,
    /// How often it does so before it begins anew.
    pub(crate) count: u32,
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
            Contender::Beside(Some(flood)) => format!("one at a time, during a flood: {}", flood.kind),
            Contender::Beside(None) => "one at a time, on any core".to_owned(),
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
            Contender::Beside(flood) => beside(stand, *flood),
            Contender::Instructions => instructions::measure(stand),
        }
    }

    /// The language, other than Rust, that it needs.
    pub(super) fn language(&self) -> Option<Language> {
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

    /// Starts one of the programs. One message at a time goes from thread to thread, and what that costs depends on whether
    /// both are on one core, which the system decides anew for each process. So it is decided here, alike for all: clients
    /// and workers on one core, what is between them on another.
    fn start(self, place: Place, run: Run) -> Result<Peer> {
        match (self, place) {
            (Load::Pipelined { .. }, _) => Peer::start(run),
            (Load::RoundTrip, Place::Ends) => Peer::start_on(0, run),
            (Load::RoundTrip, Place::Middle) => Peer::start_on(1, run),
        }
    }

    fn pairs(self) -> u32 {
        match self {
            Load::Pipelined { pairs, .. } => pairs,
            Load::RoundTrip => 1,
        }
    }
}

/// Where on the way of a message a program is.
#[derive(Clone, Copy)]
enum Place {
    Ends,
    Middle,
}

fn raw_relay(stand: &Stand<'_>, load: Load) -> Result<Sample> {
    let mut relay = load.start(Place::Middle, stand.program("raw-proxy"))?;
    let listening: Listening = relay.line()?;
    let workers = stand.program("raw-worker").args(["--endpoint", &listening.workers]);
    let workers = workers.args(["--workers", &load.pairs().to_string()]);
    let _workers = load.start(Place::Ends, workers)?.once_ready()?;
    let (size, outstanding, pairs) = match load {
        Load::Pipelined { size, outstanding, pairs } => (size, outstanding, pairs),
        Load::RoundTrip => (11, 1, 1),
    };
    let clients = with_load(stand.program("raw-client"), size, outstanding, pairs);
    let clients = clients.args(["--endpoint", &listening.endpoint]).args(["--watch", &listening.pid.to_string()]);
    measured(load.start(Place::Ends, clients)?)
}

fn majordomo(stand: &Stand<'_>, language: Language, protocol: Protocol, load: Load) -> Result<Sample> {
    let mut broker = load.start(Place::Middle, stand.program("broker"))?;
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
    let _workers = load.start(Place::Ends, workers)?.once_ready()?;
    let clients = match load {
        Load::Pipelined { size, outstanding, pairs } => {
            with_load(ends("client", &listening.endpoint)?, size, outstanding, pairs)
        }
        Load::RoundTrip => ends("round-trip", &listening.endpoint)?,
    };
    let watch = ["--watch".to_owned(), listening.pid.to_string()];
    let clients = if language == Language::Rust { clients.args(watch) } else { clients };
    measured(load.start(Place::Ends, clients)?)
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
    // What they have in common is their beats: the first interval still has to do with their coming.
    stand.watch(listening.pid, INTERVAL_SECONDS)?;
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

fn beside(stand: &Stand<'_>, flood: Option<Flood>) -> Result<Sample> {
    let limit = FLOODED_MESSAGE_BYTES.to_string();
    let mut broker = Peer::start(stand.program("broker").args(["--max-message-bytes", &limit]))?;
    let listening: Listening = broker.line()?;
    let protocol = ["--protocol", &stand.protocol];
    let _worker = Peer::start_ready(stand.program("worker").args(["--endpoint", &listening.workers]).args(protocol))?;
    let hostile = |Flood { kind, count }: Flood| {
        let run = stand.program("hostile").args(["--endpoint", &listening.endpoint, "--kind", kind]);
        Peer::start_ready(run.args(["--count", &count.to_string()]))
    };
    let _hostile = flood.map(hostile).transpose()?;
    client(stand.program("round-trip").args(["--endpoint", &listening.endpoint]).args(protocol))
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
    measured(Peer::start(run)?)
}

/// What a client measures until its end.
fn measured(mut client: Peer) -> Result<Sample> {
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
