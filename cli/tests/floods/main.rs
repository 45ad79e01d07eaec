//! Hostile peers against a real `mdbroker`: its memory stays within its limits, everybody else is served meanwhile, and whoever can be
//! told is told why it is refused.
//!
//! `FLOODS=full` makes the floods ten to a hundred times as large.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod attack;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use majordomo::{Client, Worker};

use attack::{Aftermath, Flood};

const MIB: usize = 1 << 20;
/// What waiting requests and unread replies may hold, by the broker's option.
const MAX_QUEUED_BYTES: usize = 16 * MIB;
const MAX_MESSAGE_BYTES: usize = MIB;
/// What may come on top of the requests and replies that wait: as much again of outcomes that sessions keep; what libzmq
/// holds of messages that are on their way, a thousand each way for a connection; what the allocator has not given back.
const BESIDE: usize = 48 * MIB;
/// What a connection costs in libzmq. How many there are is bounded by the descriptors that the process may have.
const CONNECTION: usize = 48 << 10;

/// A running broker with small limits.
struct Hub {
    process: Child,
    endpoint: String,
    resident: usize,
    log: PathBuf,
}

impl Hub {
    fn start(name: &str) -> Hub {
        // A file, not a pipe: one that nobody reads would stop a broker that logs too much, instead of failing the test.
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("floods-{name}.log"));
        let limits = [
            ("--max-queued", 10_000),
            ("--max-queued-bytes", MAX_QUEUED_BYTES),
            ("--max-message-bytes", MAX_MESSAGE_BYTES),
            ("--max-services", 500),
            ("--max-workers", 1000),
            ("--max-sessions", 100),
            ("--credit", 1000),
        ];
        let mut process = Command::new(env!("CARGO_BIN_EXE_mdbroker"))
            .args(["--bind", "tcp://127.0.0.1:0"])
            .args(limits.map(|(name, value)| format!("{name}={value}")))
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        let mut hub = Hub { process, endpoint, resident: 0, log };
        hub.resident = hub.memory("VmRSS");
        hub
    }

    /// A line of the kernel's account of the process, in bytes.
    fn memory(&self, what: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Ends the broker; what it has logged.
    fn end(mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A peer of each side that behaves. It says when it has `begun`, asks until `stop` and once more, and counts how many of its
/// requests were answered, each rightly.
fn bystander(endpoint: &str, begun: impl FnOnce(), stop: &AtomicBool, answered: &AtomicUsize) {
    let worker = Worker::connect(endpoint, "bystander").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(request) = worker.recv() {
                let body = request.body().clone();
                request.reply(body).unwrap();
            }
        });
        // Whatever goes wrong, the worker's thread ends.
        let _closing = Closing(&worker);
        let client = Client::connect(endpoint).unwrap();
        // A request that a worker has room for needs no place in a full queue. The worker must be there first.
        while &client.request("mmi.service", "bystander").unwrap()[0] != b"200" {
            thread::yield_now();
        }
        begun();
        loop {
            let last = stop.load(Ordering::Relaxed);
            let text = answered.load(Ordering::Relaxed).to_string();
            let reply = client.request("bystander", &*text).unwrap();
            assert_eq!(&reply[0], text.as_bytes());
            answered.fetch_add(1, Ordering::Relaxed);
            if last {
                return;
            }
        }
    })
}

struct Closing<'a>(&'a Worker);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Floods a broker while others ask it; what came of it, and the broker's log.
fn flood(flood: Flood, ordinary: usize, full: usize) -> (Aftermath, String) {
    let count = if std::env::var("FLOODS").is_ok_and(|value| value == "full") { full } else { ordinary };
    let hub = Hub::start(&flood.name());
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let after = thread::scope(|scope| {
        let (begun, wait) = mpsc::channel();
        let others = scope.spawn(|| bystander(&hub.endpoint, move || begun.send(()).unwrap(), &stop, &answered));
        wait.recv().unwrap();
        let after = flood.run(&hub.endpoint, count);
        // However short it was: it goes on until others have been answered meanwhile, or have failed.
        while answered.load(Ordering::Relaxed) < 2 && !others.is_finished() {
            drop(flood.run(&hub.endpoint, count));
        }
        stop.store(true, Ordering::Relaxed);
        others.join().unwrap();
        let answered = answered.load(Ordering::Relaxed);
        println!("{}: {count}, others were answered {answered} times meanwhile", flood.name());
        after
    });
    let grown = hub.memory("VmHWM").saturating_sub(hub.resident);
    println!("{}: memory has grown by {} KiB; refusals: {:?}", flood.name(), grown / 1024, after.refusals);
    let bound = MAX_QUEUED_BYTES + BESIDE + after.connections() * CONNECTION;
    assert!(grown < bound, "{}: memory has grown by {grown} bytes, beyond {bound}", flood.name());
    // Whoever comes after it is served as if nothing had been.
    bystander(&hub.endpoint, || (), &AtomicBool::new(true), &AtomicUsize::new(0));
    let log = hub.end();
    println!("{}: {} lines of log", flood.name(), log.lines().count());
    assert!(
        log.lines().count() < 50,
        "the log is not a flood of its own:\n{}",
        log.lines().take(60).collect::<Vec<_>>().join("\n")
    );
    (after, log)
}

#[test]
fn a_million_requests_for_nobody_fill_a_queue_and_no_more() {
    flood(Flood::Messages, 100_000, 1_000_000);
}

#[test]
fn a_session_that_asks_beyond_its_credit_is_told_so() {
    let (after, _) = flood(Flood::Session, 20_000, 1_000_000);
    assert!(after.refusals.keys().any(|text| text.contains("credit")), "{:?}", after.refusals);
}

#[test]
fn sessions_within_their_credit_are_told_that_the_queue_is_full() {
    let (after, _) = flood(Flood::Sessions, 20_000, 100_000);
    assert!(after.refusals.keys().any(|text| text.contains("max_queued")), "{:?}", after.refusals);
}

#[test]
fn a_million_names_of_services_fill_a_table_and_no_more() {
    flood(Flood::Services, 100_000, 1_000_000);
}

#[test]
fn a_session_that_makes_up_names_of_services_is_told_that_the_table_is_full() {
    let (after, _) = flood(Flood::Names, 20_000, 1_000_000);
    assert!(after.refusals.keys().any(|text| text.contains("max_services")), "{:?}", after.refusals);
}

#[test]
fn a_storm_of_registrations_is_sent_away() {
    let (after, _) = flood(Flood::Ready, 50_000, 1_000_000);
    assert!(after.refusals.contains_key("DISCONNECT"), "{:?}", after.refusals);
}

#[test]
fn workers_beyond_the_limit_are_told_so() {
    let (after, _) = flood(Flood::Workers, 700, 3000);
    assert!(after.refusals.keys().any(|text| text.contains("max_services")), "{:?}", after.refusals);
}

#[test]
fn a_client_that_never_reads_its_replies_costs_its_share_and_no_more() {
    flood(Flood::Deaf, 200_000, 1_000_000);
}

#[test]
fn a_session_that_reads_no_outcome_finds_refusals_among_them() {
    let (after, _) = flood(Flood::Unread, 20_000, 1_000_000);
    assert!(after.refusals.keys().any(|text| text.contains("credit")), "{:?}", after.refusals);
}

#[test]
fn a_million_messages_of_one_byte_are_dropped() {
    flood(Flood::Bytes, 100_000, 1_000_000);
}

#[test]
fn messages_that_say_they_have_a_gibibyte_end_their_connection() {
    let (after, _) = flood(Flood::Huge, 20, 500);
    assert_eq!(after.ended, after.connections(), "each of them");
}

#[test]
fn messages_that_never_end_end_their_connection() {
    let (after, _) = flood(Flood::Endless, 20, 500);
    assert_eq!(after.ended, after.connections(), "each of them");
}

#[test]
fn half_open_connections_by_the_thousand_cost_nobody_else_an_answer() {
    flood(Flood::HalfOpen, 2000, 9000);
}

/// One client has a thousand requests waiting when another one comes: it is served next, not last.
#[test]
fn one_greedy_client_does_not_starve_others() {
    let hub = Hub::start("starve");
    let worker = Worker::connect(&hub.endpoint, "scarce").unwrap();
    let greedy = majordomo::aio::Client::connect(&hub.endpoint).unwrap();
    let modest = Client::connect(&hub.endpoint).unwrap();
    let asker = Client::connect(&hub.endpoint).unwrap();
    let _held: Vec<_> = (0..900).map(|_| greedy.request("scarce", "greedy")).collect();
    let queued = || -> u64 {
        let reply = asker.request("mmi.stats", "").unwrap();
        serde_json::from_slice::<serde_json::Value>(&reply[1]).unwrap()["queued"].as_u64().unwrap()
    };
    // All of them but the one that the worker has been given.
    while queued() != 899 {
        thread::yield_now();
    }
    let before = thread::scope(|scope| {
        let asking = scope.spawn(|| modest.request("scarce", "modest").unwrap());
        while queued() < 900 {
            thread::yield_now();
        }
        let mut before = 0;
        loop {
            let request = worker.recv().unwrap();
            let modest = request.body()[0] == *b"modest";
            request.reply("done").unwrap();
            if modest {
                break;
            }
            before += 1;
        }
        asking.join().unwrap();
        before
    });
    // What the worker had been given already comes first, then one of the greedy client's.
    assert!(before <= 2, "{before} of the greedy client's requests went before the modest one's");
    hub.end();
}
