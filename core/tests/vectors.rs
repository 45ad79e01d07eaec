//! The golden vectors of the conformance suite, read and written by this crate's codec and judged by its broker.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Instant;

use bytes::Bytes;
use majordomo::BrokerOptions;
use majordomo::proto::broker::{Broker, BrokerConfig};
use majordomo::proto::mdp::{self, Part, ToBroker, ToClient, ToWorker, Version};
use serde_json::Value;

fn load(name: &str) -> Vec<(Version, Value)> {
    let path = format!("{}/../conformance/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let table: Value = serde_json::from_str(&text).expect("a JSON table");
    let version =
        (Version::ALL.iter().copied()).find(|version| table["protocol"] == version.name()).expect("a version");
    table["vectors"].as_array().expect("vectors").iter().map(|vector| (version, vector.clone())).collect()
}

fn bytes(hex: &Value) -> Bytes {
    let hex = hex.as_str().expect("hexadecimal text");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

fn frames(list: &Value) -> Vec<Bytes> {
    list.as_array().into_iter().flatten().map(bytes).collect()
}

#[test]
fn well_formed_vectors_are_read_and_written_to_the_byte() {
    for (version, vector) in load("mdp01").into_iter().chain(load("mdp02")) {
        let name = vector["name"].as_str().unwrap_or_default();
        let wire = frames(&vector["frames"]);
        let body = frames(&vector["body"]);
        let part = if vector["command"] == "PARTIAL" { Part::Partial } else { Part::Final };
        let text = |key: &str| vector[key].as_str().unwrap_or_default().to_owned();
        match (text("from").as_str(), text("to").as_str(), text("command").as_str()) {
            ("broker", "client", _) => {
                let message = ToClient { service: bytes(&vector["service"]), part, body };
                assert_eq!(mdp::write_to_client(version, message.clone()), wire, "{name}");
                assert_eq!(mdp::read_to_client(version, wire), Ok(message), "{name}");
            }
            ("broker", "worker", command) => {
                let message = match command {
                    "REQUEST" => ToWorker::Request { address: bytes(&vector["address"]), body },
                    "HEARTBEAT" => ToWorker::Heartbeat,
                    "DISCONNECT" => ToWorker::Disconnect,
                    other => panic!("{name}: {other}"),
                };
                assert_eq!(mdp::write_to_worker(version, message.clone()), wire, "{name}");
                assert_eq!(mdp::read_to_worker(version, wire), Ok(message), "{name}");
            }
            (_, "broker", command) => {
                let message = match command {
                    "REQUEST" => ToBroker::Request { version, service: bytes(&vector["service"]), body },
                    "READY" => ToBroker::Ready { version, service: bytes(&vector["service"]) },
                    "PARTIAL" | "FINAL" => ToBroker::Answer { version, address: bytes(&vector["address"]), part, body },
                    "HEARTBEAT" => ToBroker::Heartbeat { version },
                    "DISCONNECT" => ToBroker::Disconnect { version },
                    other => panic!("{name}: {other}"),
                };
                assert_eq!(mdp::write_to_broker(message.clone()), wire, "{name}");
                assert_eq!(mdp::read_to_broker(wire), Ok(message), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn malformed_vectors_have_the_outcome_that_the_table_says() {
    for (version, vector) in load("malformed01").into_iter().chain(load("malformed02")) {
        let name = vector["name"].as_str().unwrap_or_default();
        let now = Instant::now();
        let mut broker = Broker::new(BrokerConfig::from(&BrokerOptions::new("tcp://127.0.0.1:0")), now, 1);
        if vector["state"] == "registered" {
            let ready = ToBroker::Ready { version, service: Bytes::from("echo") };
            broker.handle_message(now, b"peer", mdp::write_to_broker(ready));
        }
        broker.handle_message(now, b"peer", frames(&vector["frames"]));
        let answers: Vec<_> = std::iter::from_fn(|| broker.poll_transmit()).collect();
        let disconnects = answers.iter().filter(|answer| {
            Version::ALL.iter().any(|v| mdp::read_to_worker(*v, answer.frames.to_vec()) == Ok(ToWorker::Disconnect))
        });
        let expected = usize::from(vector["outcome"] == "disconnect");
        assert_eq!(disconnects.count(), expected, "{version:?} {name}");
        assert_eq!(answers.len(), expected, "{version:?} {name}: nothing else is said");
    }
}

#[test]
fn random_bytes_never_upset_a_machine() {
    let seed = std::env::var("VECTORS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101_u64);
    println!("VECTORS_SEED={seed}");
    let mut state = seed;
    let mut random = move |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let now = Instant::now();
    let mut broker = Broker::new(BrokerConfig::from(&BrokerOptions::new("tcp://127.0.0.1:0")), now, 1);
    let golden: Vec<_> = load("mdp01").into_iter().chain(load("mdp02")).map(|(_, v)| frames(&v["frames"])).collect();
    for round in 0..50_000 {
        // A golden message with a few bytes or frames changed gets further than noise would.
        let mut message = golden[random(golden.len())].clone();
        for _ in 0..=random(3) {
            let at = random(message.len() + 1);
            match random(4) {
                0 => message.insert(at, Bytes::from(vec![random(256) as u8; random(4)])),
                1 if at < message.len() => drop(message.remove(at)),
                2 if at < message.len() => {
                    let mut frame = message[at].to_vec();
                    if !frame.is_empty() {
                        let index = random(frame.len());
                        frame[index] = random(256) as u8;
                    }
                    message[at] = frame.into();
                }
                _ => {}
            }
        }
        for version in Version::ALL {
            // Reading must give an answer for every message; which one is not the point here.
            let _ = mdp::read_to_client(*version, message.clone());
            let _ = mdp::read_to_worker(*version, message.clone());
        }
        broker.handle_message(now, &[round as u8 % 8], message);
        while broker.poll_transmit().is_some() {}
    }
    for peer in 0..8 {
        broker.handle_gone(now, &[peer]);
    }
    let stats = broker.stats(now);
    assert_eq!((stats.workers, stats.queued, stats.queued_bytes, stats.in_flight), (0, 0, 0, 0));
}
