//! `mdctl bench`.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use majordomo::{Broker, BrokerOptions, Worker};
use nix::pty::openpty;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{kill, mdctl, text};

/// What is told of the latencies, in the order in which they rise.
const LATENCIES: [&str; 6] = ["min", "p50", "p90", "p99", "p99.9", "max"];

/// The number that `name` has in the table for people.
fn printed(table: &str, name: &str) -> f64 {
    let value = table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in:\n{table}")).trim();
    value.trim_end_matches("/s").trim_end_matches(" us").parse().unwrap()
}

/// Rate and median in what a terminal was sent, once it has shown both: lines such as `███░░  51234/s  p50 87 us  0 errors`,
/// each over the last one.
fn shown(screen: &str) -> Option<(f64, f64)> {
    screen.split(['\r', '\n']).find_map(|line| {
        let (before, after) = line.split_once("/s  p50 ")?;
        let rate = before.rsplit(' ').next()?.parse().ok()?;
        Some((rate, after.split_once(" us")?.0.parse().ok()?)).filter(|(rate, _)| *rate > 0.0)
    })
}

/// What `mdctl bench` says that a signal ends once the broker has given so many answers more.
fn ended(signal: i32, broker: &Broker, answers: u64, arguments: &[&str]) -> Output {
    let before = broker.stats().unwrap().counters.answered;
    let process = Command::new(env!("CARGO_BIN_EXE_mdctl"))
        .args(["bench", broker.endpoint(), "--echo", "--duration", "3600", "--timeout-ms", "20000"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while broker.stats().unwrap().counters.answered < before + answers {
        thread::yield_now();
    }
    kill(signal, process.id());
    let output = process.wait_with_output().unwrap();
    // Nothing is drawn where there is no terminal.
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{}", text(&output.stdout));
    output
}

#[test]
fn mdctl_bench_measures_its_own_echo_worker_over_every_protocol() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    for protocol in ["auto", "0.1", "0.2", "x1"] {
        let arguments = ["--outstanding", "8", "--json", "--protocol", protocol];
        let told: Value = serde_json::from_slice(&ended(SIGINT, &broker, 1000, &arguments).stdout).unwrap();
        assert!(told["answered"].as_u64().unwrap() > 0, "{told}");
        assert_eq!(told["errors"], json!({}));
        assert_eq!(told["protocol"], if protocol == "auto" { "x1" } else { protocol });
        let latencies = LATENCIES.map(|name| told["latency_us"][name].as_f64().unwrap());
        assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{told}");
    }
}

#[test]
fn mdctl_bench_ends_on_a_signal_with_the_figures_so_far() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    for signal in [SIGINT, SIGTERM] {
        let table = text(&ended(signal, &broker, 1000, &[]).stdout);
        let latencies = LATENCIES.map(|name| printed(&table, &format!("latency {name}")));
        assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{table}");
        assert!(printed(&table, "rate") > 0.0, "{table}");
    }
}

#[test]
fn mdctl_bench_keeps_more_requests_outstanding_than_the_broker_grants_and_its_client_lets_wait() {
    let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").credit(16)).unwrap();
    for protocol in ["0.2", "x1"] {
        // The one that tries the way, all of the first round, and one that could be sent because another was answered.
        let answers = 1 + 12_000 + 1;
        let arguments = ["--outstanding", "12000", "--json", "--protocol", protocol];
        let told: Value = serde_json::from_slice(&ended(SIGINT, &broker, answers, &arguments).stdout).unwrap();
        assert_eq!(told["errors"], json!({}), "{told}");
        assert!(told["answered"].as_u64().unwrap() > 0, "{told}");
        assert_eq!(told["unanswered"], 12_000, "{told}");
    }
}

#[test]
fn mdctl_bench_shows_rate_and_median_on_a_terminal_while_it_measures() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let terminal = openpty(None, None).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_mdctl"))
        .args(["bench", broker.endpoint(), "--echo", "--duration", "30", "--timeout-ms", "20000"])
        .env("TERM", "xterm")
        .stdout(Stdio::piped())
        .stderr(terminal.slave)
        .spawn()
        .unwrap();
    let (mut screen, mut sent, mut bytes) = (File::from(terminal.master), Vec::new(), [0; 4096]);
    // Where the program ends without having shown them, the terminal ends too, and with it this loop.
    let (rate, median) = loop {
        let length = screen.read(&mut bytes).unwrap_or_else(|error| panic!("{error} after {}", text(&sent)));
        sent.extend_from_slice(&bytes[..length]);
        if let Some(found) = shown(&text(&sent)) {
            break found;
        }
    };
    kill(SIGINT, process.id());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(median > 0.0 && printed(&text(&output.stdout), "rate") > 0.0, "{rate}/s, {median} us");
}

#[test]
fn mdctl_bench_tells_failed_requests_and_wrong_arguments_by_its_status() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("tcp://127.0.0.1:{port}");
    let output = mdctl(&["bench", &nobody, "--timeout-ms", "100", "--retries", "1"], b"");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    for wrong in [["--duration", "0"], ["--duration", "x"], ["--outstanding", "0"]] {
        assert_eq!(mdctl(&[&["bench", &nobody], &wrong[..]].concat(), b"").status.code(), Some(2), "{wrong:?}");
    }

    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let worker = Arc::new(Worker::connect(broker.endpoint(), "moody").unwrap());
    let serving = thread::spawn({
        let worker = worker.clone();
        move || {
            let mut answered = false;
            for request in &*worker {
                // The request that tries the way is answered, the measured ones are not.
                if answered { request.fail(42, "not today") } else { request.reply("yes") }.unwrap();
                answered = true;
            }
        }
    });
    let arguments = ["bench", broker.endpoint(), "moody", "--duration", "0.5", "--json", "--timeout-ms", "20000"];
    let output = mdctl(&arguments, b"");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["errors"]["ServiceError"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["answered"], 0);
    assert!(told["seconds"].as_f64().unwrap() >= 0.5, "{told}");
    worker.close();
    serving.join().unwrap();
}
