//! The golden vectors of the conformance suite, read and written by this crate's codec and judged by its broker.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use majordomo::proto::broker::{Broker, BrokerConfig};
use majordomo::proto::mdp::{self, Part, ToBroker, ToClient, ToWorker, Version};
use majordomo::proto::mdpx::{self, Command, Failure};
use majordomo::{BrokerOptions, Message, Properties};
use serde_json::Value;

fn table(name: &str) -> Value {
    let path = format!("{}/../conformance/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).expect("a JSON table")
}

fn load(name: &str) -> Vec<(Version, Value)> {
    let table = table(name);
    let version =
        (Version::ALL.iter().copied()).find(|version| table["protocol"] == version.name()).expect("a version");
    table["vectors"].as_array().expect("vectors").iter().map(|vector| (version, vector.clone())).collect()
}

fn load_x1(name: &str) -> Vec<Value> {
    let mut table = table(name);
    assert_eq!(table["protocol"], "x1");
    serde_json::from_value(table["vectors"].take()).expect("vectors")
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

/// The command of a vector of MDPX. `service` and the texts are lent.
fn command<'a>(vector: &'a Value, service: &'a [u8]) -> Command<'a> {
    let text = vector["text"].as_str().unwrap_or_default();
    let small = |key: &str| vector[key].as_u64().unwrap_or_else(|| panic!("no {key} in {vector}"));
    let u8 = |key: &str| u8::try_from(small(key)).expect("8 bits");
    let u16 = |key: &str| u16::try_from(small(key)).expect("16 bits");
    let u32 = |key: &str| u32::try_from(small(key)).expect("32 bits");
    let u64 = |key: &str| vector[key].as_str().and_then(|text| text.parse().ok()).expect("64 bits in decimal text");
    let id = |key: &str| bytes(&vector[key])[..].try_into().expect("16 bytes");
    let flag = |key: &str| vector[key].as_bool().expect("a flag");
    let failure = || Failure { kind: u8("kind"), retryable: flag("retryable"), code: u32("code"), text };
    let peer = [&vector["from"], &vector["to"]].into_iter().find(|peer| *peer != "broker").and_then(Value::as_str);
    match (vector["command"].as_str().unwrap_or_default(), peer.unwrap_or_default()) {
        ("HELLO", "client") => Command::Hello {
            session: id("session"),
            secret: id("secret"),
            heartbeat_ms: u32("heartbeat_ms"),
            liveness: u8("liveness"),
        },
        ("WELCOME", "client") => Command::ClientWelcome {
            resumed: flag("resumed"),
            heartbeat_ms: u32("heartbeat_ms"),
            liveness: u8("liveness"),
            credit: u32("credit"),
            max_message: u64("max_message"),
        },
        ("REQUEST", "client") => Command::Request {
            number: u64("number"),
            acked: u64("acked"),
            ttl_ms: u32("ttl_ms"),
            max_attempts: u16("max_attempts"),
            fail_fast: flag("fail_fast"),
            service,
        },
        ("CANCEL", "client") => Command::Cancel { number: u64("number") },
        ("ACK", "client") => Command::Ack { number: u64("number") },
        ("PARTIAL", "client") => Command::Partial { number: u64("number"), sequence: u32("sequence") },
        ("FINAL", "client") => Command::Final { number: u64("number"), sequence: u32("sequence") },
        ("ERROR", "client") => Command::Error { number: u64("number"), failure: failure() },
        ("READY", "worker") => Command::Ready {
            capacity: u32("capacity"),
            heartbeat_ms: u32("heartbeat_ms"),
            liveness: u8("liveness"),
            service,
        },
        ("WELCOME", "worker") => Command::WorkerWelcome {
            heartbeat_ms: u32("heartbeat_ms"),
            liveness: u8("liveness"),
            max_message: u64("max_message"),
        },
        ("DELIVER", "worker") => Command::Deliver {
            delivery: u64("delivery"),
            session: id("session"),
            number: u64("number"),
            ttl_ms: u32("ttl_ms"),
            attempt: u16("attempt"),
        },
        ("CANCEL", "worker") => Command::WorkerCancel { delivery: u64("delivery") },
        ("RETURN", "worker") => Command::Return { delivery: u64("delivery") },
        ("PARTIAL", "worker") => Command::WorkerPartial { delivery: u64("delivery"), sequence: u32("sequence") },
        ("FINAL", "worker") => Command::WorkerFinal { delivery: u64("delivery"), sequence: u32("sequence") },
        ("ERROR", "worker") => Command::WorkerError { delivery: u64("delivery"), failure: failure() },
        ("DRAIN", "worker") => Command::Drain,
        ("HEARTBEAT", _) => Command::Heartbeat,
        ("DISCONNECT", _) => Command::Disconnect { kind: u8("kind"), text },
        ("BATCH", _) => Command::Batch,
        other => panic!("{other:?}"),
    }
}

fn properties(vector: &Value) -> Properties {
    let mut properties = Properties::new();
    for property in vector["properties"].as_array().into_iter().flatten() {
        let name = String::from_utf8(bytes(&property[0]).into()).expect("a name is text");
        properties.set(&name, bytes(&property[1])).expect("a property");
    }
    properties
}

#[test]
fn well_formed_vectors_of_mdpx_are_read_and_written_to_the_byte() {
    for vector in load_x1("mdpx1") {
        let name = vector["name"].as_str().unwrap_or_default();
        let wire = frames(&vector["frames"]);
        let service = bytes(&vector["service"].as_str().unwrap_or_default().into());
        let command = command(&vector, &service);
        let header = mdpx::read(&wire[0], wire.len() - 1).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert_eq!(header.command, command, "{name}");
        let Some(packed) = vector["packed"].as_bool() else {
            assert_eq!(mdpx::control(&command), wire, "{name}");
            continue;
        };
        let body = Message::from_frames(frames(&vector["body"])).with_properties(properties(&vector));
        assert_eq!(header.layout.into_message(wire[0].clone(), wire[1..].iter().cloned()), body, "{name}");
        let block = header.layout.properties(&wire[0]);
        let mut written = Vec::new();
        mdpx::write(&mut written, &command, block);
        if packed {
            mdpx::pack(&mut written, 0, body.frames());
            let inline = header.layout.packed(&wire[0]).unwrap_or_else(|| panic!("{name}: not packed"));
            assert!(mdpx::unpack(inline).eq(body.iter()), "{name}");
            let mut again = Vec::new();
            mdpx::write(&mut again, &command, block);
            mdpx::pack_again(&mut again, 0, inline);
            assert_eq!(again, written, "{name}");
        } else {
            assert_eq!((header.layout.packed(&wire[0]), &wire[1..]), (None, body.frames()), "{name}");
        }
        assert_eq!(written, wire[0], "{name}");
        if command == Command::Batch {
            check_batch(name, header.layout, &wire[0], body.frames());
        }
        if packed == mdpx::is_packable(block.len(), mdpx::packed_len(body.frames())) {
            assert_eq!(mdpx::message(&command, &body), wire, "{name}: what a sender chooses");
        }
    }
}

/// The messages of a BATCH are what it says, each can be read, and a sender joins them to that BATCH.
fn check_batch(name: &str, layout: mdpx::Layout, header: &Bytes, messages: &[Bytes]) {
    assert!(layout.messages(header).eq(messages.iter().cloned()), "{name}");
    for message in messages {
        assert!(mdpx::may_join(&[message]), "{name}");
        mdpx::read(message, 0).unwrap_or_else(|reason| panic!("{name}: {reason}"));
    }
    // One alone is sent as itself, and none at all says that its sender takes batches.
    if !messages.is_empty() {
        let mut batch = Vec::new();
        mdpx::begin_batch(&mut batch);
        mdpx::pack(&mut batch, 0, messages);
        assert_eq!(&batch[..], &header[..], "{name}");
    }
}

#[test]
fn frames_that_the_document_shows_are_those_of_the_vectors() {
    let path = format!("{}/../docs/mdpx.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let vectors = load_x1("mdpx1");
    let rows: Vec<_> = text.lines().filter(|line| line.contains("`4d445058303")).collect();
    for row in &rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let vector = vectors.iter().find(|vector| vector["name"] == cells[1]).unwrap_or_else(|| panic!("{row}"));
        assert_eq!(cells[2].split('`').nth(1), vector["frames"][0].as_str(), "{row}");
    }
    assert_eq!(rows.len(), 10);
}

#[test]
fn malformed_vectors_of_mdpx_have_the_outcome_that_the_table_says() {
    for vector in load_x1("malformedx1") {
        let name = format!("{} from {} {}", vector["name"], vector["state"], vector["sender"]);
        let now = Instant::now();
        let mut broker = Broker::new(BrokerConfig::from(&BrokerOptions::new("tcp://127.0.0.1:0")), now, 1);
        let hello = Command::Hello { session: [1; 16], secret: [2; 16], heartbeat_ms: 1000, liveness: 3 };
        let ready = Command::Ready { capacity: 1, heartbeat_ms: 1000, liveness: 3, service: b"echo" };
        match vector["state"].as_str().unwrap_or_default() {
            "session" => broker.handle_message(now, b"peer", mdpx::control(&hello)),
            "registered" => broker.handle_message(now, b"peer", mdpx::control(&ready)),
            state => assert_eq!(state, "new", "{name}"),
        }
        while broker.poll_transmit().is_some() {}
        let before = broker.stats(now);
        broker.handle_message(now, b"peer", frames(&vector["frames"]));
        let answers: Vec<_> = std::iter::from_fn(|| broker.poll_transmit()).collect();
        let is_disconnect = |frames: &[Bytes]| {
            matches!(mdpx::read(&frames[0], 0), Ok(mdpx::Header { command: Command::Disconnect { .. }, .. }))
        };
        let (expected, stats) = (usize::from(vector["outcome"] == "disconnect"), broker.stats(now));
        assert_eq!(answers.iter().filter(|answer| is_disconnect(&answer.frames)).count(), expected, "{name}");
        assert_eq!(answers.len(), expected, "{name}: nothing else is said");
        assert_eq!(stats.workers, before.workers - usize::from(expected == 1).min(before.workers), "{name}");
        assert_eq!((stats.sessions, stats.queued), (before.sessions, 0), "{name}: the session goes on");
        if expected == 0 && !name.starts_with("\"disconnect") {
            assert_eq!(stats.counters.malformed, 1, "{name}: it is counted");
        }
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
    let mut golden: Vec<_> =
        load("mdp01").into_iter().chain(load("mdp02")).map(|(_, v)| frames(&v["frames"])).collect();
    golden.extend(load_x1("mdpx1").into_iter().chain(load_x1("malformedx1")).map(|v| frames(&v["frames"])));
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
    // A session that has requests is kept for a while, in case its client comes back.
    let later = now + Duration::from_secs(24 * 3600);
    broker.handle_timeout(later);
    let stats = broker.stats(later);
    assert_eq!((stats.workers, stats.sessions, stats.queued, stats.queued_bytes, stats.in_flight), (0, 0, 0, 0, 0));
}
