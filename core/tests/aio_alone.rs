//! Requests and answers that go out from the thread that gives them, because the I/O thread has nothing to do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use aio_peers::block_on;
use majordomo::aio::{Client, Worker};
use majordomo::{Broker, BrokerOptions, ClientOptions, ErrorKind, Message, RequestOptions, WorkerOptions};

/// So seldom that no heartbeat makes up for a message that was overlooked.
const SELDOM: Duration = Duration::from_secs(3600);

fn broker() -> Broker {
    Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").heartbeat(SELDOM)).unwrap()
}

fn client(broker: &Broker) -> Client {
    let options = ClientOptions::new(broker.endpoint()).timeout(Duration::from_secs(20)).retries(1);
    Client::with_options(options).unwrap()
}

fn worker(broker: &Broker) -> Worker {
    Worker::with_options(WorkerOptions::new(broker.endpoint(), "echo").heartbeat(SELDOM).concurrency(4)).unwrap()
}

/// Answers until its worker is closed.
fn echo(worker: &Worker) {
    while let Ok(request) = block_on(worker.recv()) {
        request.reply(request.body().clone()).unwrap();
    }
}

fn ask(client: &Client, body: &str) {
    assert_eq!(block_on(client.request("echo", body)).unwrap(), Message::from(body));
}

/// How often the I/O thread has gone to sleep.
fn sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let mut io = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "majordomo-aio\n"));
    let status = fs::read_to_string(io.next().unwrap().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn one_request_at_a_time_wakes_the_io_thread_only_for_what_arrives() {
    let broker = broker();
    let (client, worker) = (client(&broker), worker(&broker));
    thread::scope(|scope| {
        scope.spawn(|| echo(&worker));
        ask(&client, "the connections stand");
        let (before, count) = (sleeps(), 1000);
        (0..count).for_each(|number| ask(&client, &format!("{number}")));
        // A request and a reply each time; four were the two that go out to wake it as well.
        let each = (sleeps() - before) as f64 / f64::from(count);
        println!("{each} sleeps for each request");
        assert!(each < 3.0, "{each} sleeps for each request");
        worker.close();
    });
}

#[test]
fn what_arrives_while_an_answer_goes_out_is_not_overlooked() {
    let broker = broker();
    let worker = worker(&broker);
    thread::scope(|scope| {
        scope.spawn(|| echo(&worker));
        // In step: a request that is overlooked is followed by none that would bring it to light.
        let together = Barrier::new(3);
        let clients: Vec<_> = (0..3).map(|_| client(&broker)).collect();
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| {
                    for round in 0..3000 {
                        together.wait();
                        ask(client, &format!("{round}"));
                    }
                });
            }
        });
        worker.close();
    });
}

#[test]
fn the_limit_of_a_request_is_kept_when_the_io_thread_had_nothing_to_wait_for() {
    let broker = broker();
    let client = client(&broker);
    // It finds the broker, and is over.
    let limits = RequestOptions { fail_fast: true, ..RequestOptions::default() };
    let nobody =
        |limits: &RequestOptions| block_on(client.request_with("nobody", "".into(), limits)).unwrap_err().kind();
    assert_eq!(nobody(&limits), ErrorKind::NoWorker);
    for _ in 0..20 {
        let limits = RequestOptions { deadline: Some(Duration::from_millis(20)), ..RequestOptions::default() };
        assert_eq!(nobody(&limits), ErrorKind::Timeout);
    }
}
