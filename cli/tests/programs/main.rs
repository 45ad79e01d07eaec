//! The programs as people run them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod bench;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use majordomo::{Broker, Worker, WorkerOptions};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

/// A running mdbroker; dropped, it is killed.
struct Running {
    process: Child,
    endpoints: Vec<String>,
}

impl Running {
    fn start(arguments: &[&str], endpoints: usize) -> Running {
        let mut process = Command::new(env!("CARGO_BIN_EXE_mdbroker"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let endpoints = (0..endpoints)
            .map(|_| lines.next().unwrap().unwrap().strip_prefix("listening on ").unwrap().to_owned())
            .collect();
        Running { process, endpoints }
    }

    fn signal(mut self, signal: i32) -> Output {
        kill(signal, self.process.id());
        let status = self.process.wait().unwrap();
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(&mut self.process.stderr.take().unwrap(), &mut stderr).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mdbroker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mdbroker")).args(arguments).output().unwrap()
}

fn mdctl(arguments: &[&str], input: &[u8]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_mdctl"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input closes it.
    let _ = process.stdin.take().unwrap().write_all(input);
    process.wait_with_output().unwrap()
}

/// Sends a signal to a process.
fn kill(signal: i32, process: u32) {
    let status = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status();
    assert!(status.unwrap().success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn mdbroker_says_where_it_listens_and_ends_cleanly_on_signals() {
    for signal in [SIGINT, SIGTERM] {
        let running = Running::start(&["--bind", "tcp://127.0.0.1:*", "--bind", "tcp://127.0.0.1:0", "-v"], 2);
        assert!(
            running
                .endpoints
                .iter()
                .all(|endpoint| endpoint.starts_with("tcp://127.0.0.1:") && !endpoint.ends_with(":0"))
        );
        let endpoint = running.endpoints[1].clone();
        // The worker shall learn of the end by DISCONNECT, not by silence.
        let options = WorkerOptions::new(&endpoint, "echo").heartbeat(Duration::from_secs(3600));
        let worker = Arc::new(Worker::with_options(options).unwrap());
        let receiving = thread::spawn({
            let worker = worker.clone();
            move || worker.recv().is_err()
        });
        while text(&mdctl(&["services", "--json", "--broker", &endpoint], b"").stdout).find("echo").is_none() {
            thread::yield_now();
        }
        let output = running.signal(signal);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        // The address is free, and the worker comes back to whoever listens there.
        let broker = Broker::start(&endpoint).unwrap();
        while broker.stats().unwrap().workers == 0 {
            thread::yield_now();
        }
        worker.close();
        assert!(receiving.join().unwrap());
    }
}

#[test]
fn mdbroker_tells_wrong_arguments_from_failures() {
    for arguments in [
        &[][..],
        &["--bind"],
        &["--bind", "nonsense"],
        &["--bind", "tcp://127.0.0.1:0", "--liveness", "0"],
        &["--bind", "tcp://127.0.0.1:0", "--credit", "0"],
        &["--bind", "tcp://127.0.0.1:0", "--heartbeat-min-ms", "3", "--heartbeat-max-ms", "2"],
        &["--what"],
    ] {
        assert_eq!(mdbroker(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let output = mdbroker(&["--bind", broker.endpoint()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(broker.endpoint()), "{}", text(&output.stderr));
    assert_eq!(mdbroker(&["--version"]).status.code(), Some(0));
    assert_eq!(mdbroker(&["--help"]).status.code(), Some(0));
}

#[test]
fn mdbroker_takes_every_option_and_keeps_to_the_limits() {
    let running = Running::start(
        &[
            "--bind",
            "tcp://127.0.0.1:0",
            "--heartbeat-ms",
            "1000",
            "--liveness",
            "4",
            "--max-attempts",
            "2",
            "--attempt-timeout-ms",
            "1000",
            "--request-ttl-ms",
            "200",
            "--max-queued",
            "10",
            "--max-queued-per-service",
            "5",
            "--max-queued-bytes",
            "1000000",
            "--max-queued-bytes-per-service",
            "100000",
            "--max-message-bytes",
            "100000",
            "--max-services",
            "10",
            "--max-workers",
            "10",
            "--max-sessions",
            "10",
            "--credit",
            "100",
            "--heartbeat-min-ms",
            "20",
            "--heartbeat-max-ms",
            "5000",
            "-vv",
        ],
        1,
    );
    let endpoint = running.endpoints[0].clone();
    let ask = |body: &[u8]| mdctl(&["request", "nobody", "-", "--broker", &endpoint, "--timeout-ms", "20000"], body);
    // Nobody serves it: --request-ttl-ms ends it, which is another status than that of a client that gave up.
    let output = ask(b"hello");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let output = ask(&[b'x'; 100_001]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("100000"), "{}", text(&output.stderr));
    assert_eq!(running.signal(SIGTERM).status.code(), Some(0));
}

#[test]
fn mdctl_asks_services_with_text_files_and_standard_input() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let worker = Worker::connect(broker.endpoint(), "echo").unwrap();
    let serving = thread::spawn(move || {
        for request in &worker {
            match request.body().first() {
                Some(b"fail") => request.fail(42, "not today").unwrap(),
                _ => request.reply(request.body().clone()).unwrap(),
            }
            if request.body().first() == Some(b"end") {
                return;
            }
        }
    });
    let file = std::env::temp_dir().join(format!("mdctl-{}", std::process::id()));
    std::fs::write(&file, "from a file").unwrap();
    let at_file = format!("@{}", file.display());
    let common = ["--broker", broker.endpoint(), "--timeout-ms", "20000"];
    let run = |arguments: &[&str], input: &[u8]| mdctl(&[arguments, &common].concat(), input);

    let output = run(&["request", "echo", "text", &at_file, "-", "@@at", ""], b"from stdin");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "text\nfrom a file\nfrom stdin\n@at\n\n");
    assert_eq!(run(&["request", "echo", "--raw", "-"], b"\0\xff").stdout, b"\0\xff");
    let told: Value = serde_json::from_slice(&run(&["request", "echo", "--json", "a", "-"], b"\xff").stdout).unwrap();
    assert_eq!(told, serde_json::json!({ "frames": ["a", { "hex": "ff" }] }));
    assert_eq!(text(&run(&["request", "echo", "--protocol", "0.2", "new"], b"").stdout), "new\n");

    let failed = run(&["request", "echo", "fail"], b"");
    assert_eq!(failed.status.code(), Some(4));
    assert!(text(&failed.stderr).contains("not today"));
    assert_eq!(run(&["request", "echo", "@/nonexistent"], b"").status.code(), Some(1));
    assert_eq!(run(&["request", "echo", "-", "-"], b"").status.code(), Some(2));
    assert_eq!(run(&["request", "", "x"], b"").status.code(), Some(2));
    assert_eq!(run(&["request"], b"").status.code(), Some(2));
    assert_eq!(run(&["services", "--protocol", "7"], b"").status.code(), Some(2));
    assert_eq!(run(&["request", "echo", "end"], b"").status.code(), Some(0));
    serving.join().unwrap();
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn mdctl_shows_services_workers_and_counters() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let run = |arguments: &[&str]| {
        let output = mdctl(&[arguments, &["--broker", broker.endpoint(), "--timeout-ms", "20000"]].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(run(&["services"]), "none\n");
    let _worker = Worker::connect(broker.endpoint(), "an.echo").unwrap();
    while broker.stats().unwrap().workers == 0 {
        thread::yield_now();
    }
    for command in ["services", "workers"] {
        assert!(run(&[command]).contains("an.echo"));
        let rows: Value = serde_json::from_str(&run(&[command, "--json"])).unwrap();
        assert_eq!(rows.as_array().map(Vec::len), Some(1));
    }
    assert!(run(&["stats"]).contains("uptime seconds"));
    let stats: Value = serde_json::from_str(&run(&["stats", "--json"])).unwrap();
    assert_eq!(stats["workers"], 1);
}

#[test]
fn mdctl_asks_the_broker_itself_over_every_protocol() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    for (protocol, sessions) in [("auto", 1), ("x1", 1), ("0.2", 0), ("0.1", 0)] {
        // The session of the one before has gone.
        while broker.stats().unwrap().sessions > 0 {
            thread::yield_now();
        }
        let common = ["--broker", broker.endpoint(), "--timeout-ms", "20000", "--protocol", protocol];
        let output = mdctl(&[&["stats", "--json"], &common[..]].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        // Who asks over MDPX has a session meanwhile, and is the only client.
        assert_eq!(stats["sessions"], sessions, "{protocol}");
        for command in ["services", "workers"] {
            assert_eq!(text(&mdctl(&[&[command, "--json"], &common[..]].concat(), b"").stdout), "[]\n", "{protocol}");
        }
    }
}

#[test]
fn mdctl_says_by_its_status_that_no_broker_is_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = format!("tcp://127.0.0.1:{port}");
    let output = mdctl(&["stats", "--broker", &broker, "--timeout-ms", "100", "--retries", "1"], b"");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains(&broker));
}

#[test]
fn mdctl_sends_properties_and_shows_those_of_the_reply() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let worker = Arc::new(Worker::connect(broker.endpoint(), "mirror").unwrap());
    let serving = thread::spawn({
        let worker = worker.clone();
        move || {
            for request in &*worker {
                let body = request.body().clone().with_properties(request.properties().clone());
                request.reply(body).unwrap();
            }
        }
    });
    let common = ["--broker", broker.endpoint(), "--timeout-ms", "20000"];
    let run = |arguments: &[&str]| mdctl(&[&["request", "mirror", "body"], arguments, &common].concat(), b"");
    let properties = ["--property", "trace=a=b\u{1b}", "--property", "empty="];

    let output = run(&[&properties[..], &["--verbose", "--max-attempts", "1"]].concat());
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "body\n".to_owned()),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stderr).contains("trace: a=b\\u{1b}\n"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("empty: \n"));
    let told: Value = serde_json::from_slice(&run(&[&properties[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!(told["properties"], serde_json::json!({ "trace": "a=b\u{1b}", "empty": "" }));
    assert_eq!(text(&run(&properties).stderr), "");
    for wrong in [["--property", "nothing"], ["--property", "=value"], ["--max-attempts", "0"]] {
        assert_eq!(run(&wrong).status.code(), Some(2), "{wrong:?}");
    }
    worker.close();
    serving.join().unwrap();
}

#[test]
fn mdctl_fails_fast_where_nobody_serves() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let arguments = ["request", "nobody", "--fail-fast", "--broker", broker.endpoint(), "--timeout-ms", "20000"];
    let output = mdctl(&arguments, b"");
    // A timeout would be status 3.
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}

#[test]
fn signals_end_an_mdctl_that_waits_and_a_broker_that_holds_its_request() {
    for signal in [SIGINT, SIGTERM] {
        let running = Running::start(&["--bind", "tcp://127.0.0.1:0"], 1);
        let endpoint = running.endpoints[0].clone();
        let mut waiting = Command::new(env!("CARGO_BIN_EXE_mdctl"))
            .args(["request", "nobody", "hello", "--broker", &endpoint, "--timeout-ms", "3600000"])
            .spawn()
            .unwrap();
        let mut held = Command::new(env!("CARGO_BIN_EXE_mdctl"))
            .args(["request", "nobody", "hello", "--broker", &endpoint, "--timeout-ms", "3600000"])
            .spawn()
            .unwrap();
        let client = majordomo::Client::connect(&endpoint).unwrap();
        let queued = || -> u64 {
            let stats = client.request("mmi.stats", majordomo::Message::new()).unwrap();
            serde_json::from_slice::<Value>(&stats[1]).unwrap()["queued"].as_u64().unwrap()
        };
        while queued() < 2 {
            thread::yield_now();
        }
        kill(signal, waiting.id());
        assert_eq!(waiting.wait().unwrap().signal(), Some(signal));
        assert_eq!(running.signal(signal).status.code(), Some(0));
        held.kill().unwrap();
        held.wait().unwrap();
    }
}

#[test]
fn signals_end_an_mdctl_conform_in_the_middle_and_its_broker_serves_on() {
    for signal in [SIGINT, SIGTERM] {
        // What is judged by heartbeats takes minutes with these.
        let running = Running::start(&["--bind", "tcp://127.0.0.1:0", "--heartbeat-ms", "60000"], 1);
        let endpoint = running.endpoints[0].clone();
        let mut judging = Command::new(env!("CARGO_BIN_EXE_mdctl"))
            .args(["conform", &endpoint, "--heartbeat-ms", "60000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut findings = BufReader::new(judging.stdout.take().unwrap()).lines();
        findings.next().expect("a finding").unwrap();
        let kill = Command::new("kill").args([format!("-{signal}"), judging.id().to_string()]).status();
        assert!(kill.unwrap().success());
        assert_eq!(judging.wait().unwrap().signal(), Some(signal));
        let client = majordomo::Client::connect(&endpoint).unwrap();
        client.request("mmi.protocols", majordomo::Message::new()).unwrap();
        assert_eq!(running.signal(SIGTERM).status.code(), Some(0));
    }
}
