//! What is compared with what, and what is aimed at.

use serde::Serialize;

use super::contender::{Contender, Flood, Load, Protocol, Tool};
use super::figures::Quantity;
use crate::project::Language;

/// One figure, or the ratio of two, and its target.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// What `--only` calls it; several may have one name.
    pub(crate) name: &'static str,
    pub(crate) quantity: Quantity,
    pub(crate) of: Contender,
    /// What it is divided by; where there is none, the figure itself counts.
    pub(crate) to: Option<Contender>,
    pub(crate) target: Option<Target>,
}

/// A bound of a comparison's median.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(bound) => value >= bound,
            Target::AtMost(bound) => value <= bound,
        }
    }
}

impl Comparison {
    pub(crate) fn contenders(&self) -> impl Iterator<Item = Contender> {
        [Some(self.of.clone()), self.to.clone()].into_iter().flatten()
    }
}

/// Bodies as short as a greeting.
const SMALL: Load = Load::Pipelined { size: 11, outstanding: 1000, pairs: 1 };
const MANY: Load = Load::Pipelined { size: 11, outstanding: 100, pairs: 10 };
const MEDIUM: Load = Load::Pipelined { size: 1024, outstanding: 1000, pairs: 1 };
const LARGE: Load = Load::Pipelined { size: 64 << 10, outstanding: 200, pairs: 1 };

/// Every comparison, in the order of the table.
pub(crate) fn all() -> Vec<Comparison> {
    use Language::{C, Cpp, Node, Python, Rust};
    use Quantity::{BrokerCpu, BrokerInstructions, ClientInstructions, IdleCores, Kept, Lost, Median, Queued, Rate};
    use Quantity::{Peak, WorkerInstructions};
    use Target::{AtLeast, AtMost};

    let peers = |language, load| Contender::Majordomo { language, protocol: Protocol::Best, load };
    let plain = |load| Contender::Majordomo { language: Rust, protocol: Protocol::V01, load };
    let rust = |load| peers(Rust, load);
    let raw = Contender::RawRelay;
    let idle = |workers, services| Contender::IdleWorkers { workers, services };
    let ratio = |name, quantity, of, to, target| Comparison { name, quantity, of, to: Some(to), target: Some(target) };
    let figure = |name, quantity, of, target| Comparison { name, quantity, of, to: None, target };
    let flood = |kind, count| {
        let flooded = Contender::Beside(Some(Flood { kind, count }));
        ratio("flood", Median, flooded, Contender::Beside(None), AtMost(2.0))
    };

    vec![
        ratio("pipelined-11B", Rate, rust(SMALL), raw(SMALL), AtLeast(0.60)),
        ratio("pipelined-10x10", Rate, rust(MANY), raw(MANY), AtLeast(0.65)),
        ratio("pipelined-1KiB", Rate, rust(MEDIUM), raw(MEDIUM), AtLeast(0.75)),
        ratio("pipelined-64KiB", Rate, rust(LARGE), raw(LARGE), AtLeast(0.95)),
        ratio("broker-cpu", BrokerCpu, rust(SMALL), raw(SMALL), AtMost(2.5)),
        ratio("round-trip", Median, rust(Load::RoundTrip), raw(Load::RoundTrip), AtMost(1.10)),
        ratio("round-trip-0.1", Median, plain(Load::RoundTrip), raw(Load::RoundTrip), AtMost(1.10)),
        figure("python-pipelined", Rate, peers(Python, SMALL), Some(AtLeast(60_000.0))),
        ratio("python-pipelined", Rate, peers(Python, SMALL), Contender::HandWritten(Tool::Pyzmq), AtLeast(5.0)),
        figure("node-pipelined", Rate, peers(Node, SMALL), Some(AtLeast(60_000.0))),
        ratio("node-pipelined", Rate, peers(Node, SMALL), Contender::HandWritten(Tool::NpmZeromq), AtLeast(5.0)),
        ratio("python-round-trip", Median, peers(Python, Load::RoundTrip), rust(Load::RoundTrip), AtMost(1.25)),
        ratio("node-round-trip", Median, peers(Node, Load::RoundTrip), rust(Load::RoundTrip), AtMost(1.25)),
        ratio("c-pipelined", Rate, peers(C, SMALL), rust(SMALL), AtLeast(0.90)),
        ratio("cpp-pipelined", Rate, peers(Cpp, SMALL), rust(SMALL), AtLeast(0.90)),
        ratio("c-round-trip", Median, peers(C, Load::RoundTrip), rust(Load::RoundTrip), AtMost(1.0 / 0.9)),
        ratio("cpp-round-trip", Median, peers(Cpp, Load::RoundTrip), rust(Load::RoundTrip), AtMost(1.0 / 0.9)),
        ratio("idle-workers", BrokerCpu, idle(10_000, 1000), idle(10, 10), AtMost(1.2)),
        figure("idle-workers", IdleCores, idle(10_000, 1000), Some(AtMost(0.05))),
        figure("memory-queued", Queued, Contender::Queue, Some(AtMost(140e6))),
        figure("memory-queued", Kept, Contender::Queue, Some(AtMost(14e6))),
        figure("burst", Lost, Contender::Burst, Some(AtMost(0.0))),
        figure("burst", Peak, Contender::Burst, Some(AtMost(super::contender::BURST_BYTES as f64))),
        flood("messages", 100_000),
        flood("session", 20_000),
        flood("sessions", 20_000),
        flood("services", 100_000),
        flood("names", 20_000),
        flood("ready", 20_000),
        flood("workers", 200),
        flood("deaf", 100_000),
        flood("unread", 20_000),
        flood("bytes", 100_000),
        flood("huge", 20),
        flood("endless", 20),
        flood("halfopen", 2000),
        figure("instructions", BrokerInstructions, Contender::Instructions, None),
        figure("instructions", ClientInstructions, Contender::Instructions, None),
        figure("instructions", WorkerInstructions, Contender::Instructions, None),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_flood_is_measured() {
        let source = include_str!("../../../cli/tests/floods/attack.rs");
        let listed = source.split_once("const ALL: ").and_then(|(_, all)| all.split_once("];")).expect("all of them").0;
        let known: BTreeSet<String> =
            listed.lines().filter_map(|line| Some(line.trim().strip_prefix("Flood::")?.to_lowercase())).collect();
        let measured: BTreeSet<String> = all()
            .into_iter()
            .filter_map(|comparison| match comparison.of {
                Contender::Beside(Some(flood)) => Some(format!("{},", flood.kind)),
                _ => None,
            })
            .collect();
        assert_eq!(measured, known);
    }
}
