//! `mdctl conform` on our broker, on brokers that break one rule each, and on what is no broker at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod poor_broker;

use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use majordomo::{Broker, BrokerOptions};
use serde_json::Value;

use poor_broker::{Running, Times};

const HEARTBEAT_MS: u64 = 250;
const LIVENESS: u32 = 3;
const TTL_MS: u64 = 500;
/// Brokers that are judged at the same time: the kit waits most of its time.
const AT_ONCE: usize = 20;

fn mdctl(endpoint: &str, more: &[&str]) -> Output {
    let (heartbeat, liveness, ttl) = (HEARTBEAT_MS.to_string(), LIVENESS.to_string(), TTL_MS.to_string());
    let usual = ["--heartbeat-ms", &heartbeat, "--liveness", &liveness, "--request-ttl-ms", &ttl];
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdctl"));
    command.arg("conform").arg(endpoint).args(usual).args(more).output().unwrap()
}

/// The rules with this verdict, each with its protocol and what was seen.
fn rules(report: &Value, verdict: &str) -> Vec<(String, String, String)> {
    let text = |rule: &Value, name: &str| rule[name].as_str().unwrap().to_owned();
    let rules = report["rules"].as_array().unwrap().iter().filter(|rule| rule["verdict"] == verdict);
    rules.map(|rule| (text(rule, "rule"), text(rule, "protocol"), text(rule, "seen"))).collect()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn ours() -> Broker {
    let options = BrokerOptions::new("tcp://127.0.0.1:0")
        .heartbeat(Duration::from_millis(HEARTBEAT_MS))
        .liveness(LIVENESS)
        .request_ttl(Some(Duration::from_millis(TTL_MS)));
    Broker::with_options(options).unwrap()
}

fn poor(defect: &'static str) -> Running {
    let heartbeat = Duration::from_millis(HEARTBEAT_MS);
    let times = Times { heartbeat, lease: heartbeat * LIVENESS, ttl: Duration::from_millis(TTL_MS) };
    Running::start(defect, times)
}

#[test]
fn our_broker_keeps_every_rule() {
    let broker = ours();
    let output = mdctl(broker.endpoint(), &["--json", "--protocol", "all"]);
    let report = report(&output);
    assert_eq!(rules(&report, "fail"), [], "our broker breaks rules");
    let skipped = rules(&report, "skip");
    let names: Vec<_> = skipped.iter().map(|(rule, ..)| rule.as_str()).collect();
    assert_eq!(names, ["wall-clock", "wall-clock"], "all else can be judged");
    assert!(skipped.iter().all(|(.., why)| why.contains("cannot be judged over the wire")), "{skipped:?}");
    assert_eq!(output.status.code(), Some(0));
    broker.stop().unwrap();
}

/// A rule that no broker can break proves nothing.
#[test]
fn for_each_rule_there_is_a_broker_that_breaks_it_and_no_other() {
    let judged = || report(&mdctl(&poor("none").endpoint, &["--json"]));
    let mut all = judged();
    if !rules(&all, "fail").is_empty() {
        // The poor broker takes its own pauses for its workers' silence; a busy machine makes such pauses.
        all = judged();
    }
    assert_eq!(rules(&all, "fail"), [], "without a defect the poor broker is a right one");
    let names: Vec<String> = {
        let mut names: Vec<_> = rules(&all, "pass").into_iter().map(|(rule, ..)| rule).collect();
        names.dedup();
        names
    };
    assert!(names.len() > 35, "{names:?}");
    let left = Mutex::new(names.into_iter().enumerate());
    let next = || left.lock().unwrap().next();
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, rule)) = next() {
                    let defect: &'static str = rule.clone().leak();
                    // The rules are the same functions for both versions: each is broken in one.
                    let protocol = if rule.starts_with("partial") || number % 2 == 0 { "0.2" } else { "0.1" };
                    let judge = |patience: &str| {
                        let broker = poor(defect);
                        let options = ["--json", "--protocol", protocol, "--timeout-ms", patience];
                        let output = mdctl(&broker.endpoint, &options);
                        let failed = rules(&report(&output), "fail");
                        println!("{defect}: {failed:?}");
                        let names: Vec<_> = failed.iter().map(|(name, ..)| name.as_str()).collect();
                        let is_found = names == [defect] && output.status.code() == Some(1);
                        if is_found {
                            Ok(())
                        } else {
                            Err(format!("{defect} in {protocol}: {failed:?}, {}", output.status))
                        }
                    };
                    // A machine that is busy with other things needs more patience.
                    if let Err(found) = judge("1500").or_else(|_| judge("6000")) {
                        wrong.lock().unwrap().push(found);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_broker_that_dies_under_it_is_a_broken_rule_and_the_rest_is_skipped() {
    let broker = poor("odd-header");
    let more = ["--protocol", "0.1", "--timeout-ms", "500", "--rule", "odd-header", "--rule", "odd-client"];
    let output = mdctl(&broker.endpoint, &more);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("FAIL  0.1  odd-header") && lines[0].contains("serves nobody any more"), "{text}");
    assert!(lines[1].starts_with("skip  0.1  odd-client") && lines[1].ends_with("the broker is gone"), "{text}");
    assert_eq!(lines[2], "0 passed, 1 failed, 1 skipped");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_no_broker_cannot_be_judged() {
    // Somebody listens and says nothing; and somebody who says odd things only.
    let context = zmq::Context::new();
    let silent = context.socket(zmq::ROUTER).unwrap();
    silent.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = silent.get_last_endpoint().unwrap().unwrap();
    for (endpoint, more) in [(&*endpoint, "--json"), ("tcp://127.0.0.1:1", "-v"), ("no endpoint", "-v")] {
        let output = mdctl(endpoint, &["--timeout-ms", "200", more]);
        assert_eq!(output.status.code(), Some(2), "{endpoint}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("could not be judged"), "{endpoint}: {output:?}");
    }
    for wrong in [&["--protocol", "x1"][..], &["--protocol", "0.3"], &["--rule", "no-such-rule"], &["--liveness", "0"]]
    {
        assert_eq!(mdctl(&endpoint, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_version_that_the_broker_does_not_speak_is_skipped() {
    let broker = ours();
    let output = mdctl(broker.endpoint(), &["--rule", "own-reply", "--rule", "mmi-unknown", "--protocol", "0.2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("pass  0.2")).count(), 2, "{text}");
    assert!(text.contains("18/MDP MDP/Client") && text.contains("8/MMI Default services"), "{text}");
    assert_eq!(output.status.code(), Some(0));
    broker.stop().unwrap();
}
