//! `mdctl conform`: judges any broker of MDP/0.1 and MDP/0.2, over the wire alone.
//!
//! The kit is a peer of its own. It reads and writes the published protocols by itself and shares nothing with the library:
//! whoever judges by the code that is judged finds it right.

mod dialog;
mod heartbeats;
mod hostile;
mod judge;
mod lost;
mod management;
mod peer;
mod rules;
mod wire;

use std::cell::Cell;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValue;
use serde_json::{Value, json};

use judge::{Judge, Miss};
use rules::{Applies, RULES, Rule};
use wire::{V01, V02, Version};

/// How long the kit waits for what must not come, at most.
const QUIET: Duration = Duration::from_millis(300);
/// How long a broker that has gone may take to come back.
const RETURN: Duration = Duration::from_secs(5);
/// How often a rule that depends on time is looked at again before the broker counts as guilty.
const LOOKS_AGAIN: usize = 2;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The broker's endpoint
    endpoint: String,
    /// The broker's interval between heartbeats, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 2500, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    heartbeat_ms: u64,
    /// Heartbeat intervals after which a silent worker counts as gone for the broker
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    liveness: u32,
    /// How long a request may wait for a worker with the broker, in milliseconds; what depends on it is skipped otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    request_ttl_ms: Option<u64>,
    /// Judge this rule only; may be given several times
    #[arg(long = "rule", value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(RULES.iter().map(listed)))]
    rules: Vec<String>,
}

/// A rule as `--help` lists it.
fn listed(rule: &Rule) -> PossibleValue {
    let value = PossibleValue::new(rule.name);
    if let Err(why) = rule.judge { value.help(why) } else { value }
}

/// Which versions are to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    V01,
    V02,
    All,
}

/// What is found is told as it is found.
pub(crate) trait Audience {
    /// Tells of one rule.
    fn tell(&mut self, finding: &Finding);
}

/// What was found of one rule.
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) protocol: &'static str,
    pub(crate) rule: &'static str,
    /// The specification and its section.
    pub(crate) source: String,
    /// The number of the known defect, where the rule is about one.
    pub(crate) defect: Option<u8>,
    pub(crate) seen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// How the broker came out.
pub(crate) struct Report {
    pub(crate) endpoint: String,
    pub(crate) findings: Vec<Finding>,
    /// Why it could not be judged, if it could not.
    pub(crate) unjudged: Option<String>,
}

/// Judges the broker. It ends by itself: every wait in it has a limit, whatever the broker does.
pub(crate) fn run(
    arguments: &Arguments,
    versions: Versions,
    patience: Duration,
    audience: &mut dyn Audience,
) -> Report {
    let heartbeat = Duration::from_millis(arguments.heartbeat_ms);
    let judge = Judge {
        context: zmq::Context::new(),
        endpoint: arguments.endpoint.clone(),
        heartbeat,
        liveness: arguments.liveness,
        request_ttl: arguments.request_ttl_ms.map(Duration::from_millis),
        patience,
        quiet: QUIET.min(patience),
        run: std::process::id(),
        names: Cell::new(0),
    };
    let mut report = Report { endpoint: arguments.endpoint.clone(), findings: Vec::new(), unjudged: None };
    let wanted: &[&'static Version] = match versions {
        Versions::V01 => &[&V01],
        Versions::V02 => &[&V02],
        Versions::All => &[&V01, &V02],
    };
    let mut spoken = Vec::new();
    for version in wanted.iter().copied() {
        match judge.serves(version) {
            Ok(()) => spoken.push(version),
            Err(Miss::Fail(why) | Miss::Skip(why)) => report.unjudged = Some(format!("{}: {why}", version.name)),
        }
    }
    if spoken.is_empty() {
        return report;
    }
    report.unjudged = None;
    let is_wanted = |rule: &&Rule| arguments.rules.is_empty() || arguments.rules.iter().any(|name| name == rule.name);
    let mut gone = false;
    for rule in RULES.iter().filter(is_wanted) {
        for version in wanted.iter().copied().filter(|version| rule.applies == Applies::Both || version.has_partials())
        {
            let (verdict, seen) = if !spoken.iter().any(|known| std::ptr::eq(*known, version)) {
                (Verdict::Skip, format!("the broker does not speak {}", version.name))
            } else if gone {
                (Verdict::Skip, "the broker is gone".to_owned())
            } else {
                let judged = judge_one(&judge, rule, version);
                gone = judged.2;
                (judged.0, judged.1)
            };
            let finding = Finding {
                verdict,
                protocol: version.name,
                rule: rule.name,
                source: rule.source.name(version),
                defect: rule.defect,
                seen,
            };
            audience.tell(&finding);
            report.findings.push(finding);
        }
    }
    report
}

/// Judges one rule; with it, whether the broker is gone after it and does not come back.
fn judge_one(judge: &Judge, rule: &Rule, version: &'static Version) -> (Verdict, String, bool) {
    let check = match rule.judge {
        Ok(check) => check,
        Err(why) => return (Verdict::Skip, why.to_owned(), false),
    };
    let mut judged = check(judge, version);
    for _ in 0..LOOKS_AGAIN {
        if rule.timed && matches!(judged, Err(Miss::Fail(_))) {
            judged = check(judge, version);
        }
    }
    let (verdict, seen) = match judged {
        Ok(seen) => (Verdict::Pass, seen),
        Err(Miss::Fail(what)) => (Verdict::Fail, what),
        Err(Miss::Skip(why)) => return (Verdict::Skip, why, false),
    };
    if !matches!(judge.serves(version), Err(Miss::Fail(_))) {
        return (verdict, seen, false);
    }
    let ends = std::time::Instant::now() + RETURN;
    while std::time::Instant::now() < ends {
        if judge.serves(version).is_ok() {
            return (Verdict::Fail, format!("the broker went away, and came back; {seen}"), false);
        }
    }
    (Verdict::Fail, format!("the broker serves nobody any more; {seen}"), true)
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "skip",
        }
    }
}

impl Finding {
    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let defect = self.defect.map_or(String::new(), |number| format!(" (known defect {number})"));
        let source = format!("{}{defect}", self.source);
        format!("{}  {}  {:<20}  {:<56}  {}", self.verdict.name(), self.protocol, self.rule, source, self.seen)
    }
}

impl Report {
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    pub(crate) fn to_json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "verdict": finding.verdict.name().to_lowercase(),
                "protocol": finding.protocol,
                "rule": finding.rule,
                "source": finding.source,
                "known_defect": finding.defect,
                "seen": finding.seen,
            })
        };
        json!({
            "endpoint": self.endpoint,
            "passed": self.count(Verdict::Pass),
            "failed": self.count(Verdict::Fail),
            "skipped": self.count(Verdict::Skip),
            "unjudged": self.unjudged,
            "rules": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}
