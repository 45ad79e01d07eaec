//! The asynchronous worker, with an embedded broker between it and its clients.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use aio_peers::{Seeded, block_on, until};
use futures_core::Stream;
use majordomo::aio::{Client, Inbox, Worker, WorkerEvent, WorkerEventKind};
use majordomo::proto::mdpx;
use majordomo::{Broker, ClientOptions, ErrorKind, Message, Protocol, Request, Result, WorkerOptions};

fn broker() -> Broker {
    Broker::start("tcp://127.0.0.1:0").unwrap()
}

fn client(broker: &Broker) -> Client {
    Client::with_options(ClientOptions::new(broker.endpoint()).timeout(Duration::from_secs(20))).unwrap()
}

fn worker(broker: &Broker, concurrency: usize) -> Worker {
    Worker::with_options(WorkerOptions::new(broker.endpoint(), "echo").concurrency(concurrency)).unwrap()
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

#[test]
fn a_worker_holds_as_many_requests_as_it_has_sessions_and_answers_in_any_order() {
    let seed = 17;
    println!("seed {seed}");
    let mut random = Seeded(seed);
    let (broker, count) = (broker(), 16);
    let (worker, client) = (worker(&broker, count), client(&broker));
    let responses: Vec<_> = (0..200).map(|number| client.request("echo", format!("{number}"))).collect();
    let mut held: Vec<Request> = Vec::new();
    let mut answered = 0;
    while answered < responses.len() {
        while held.len() < count.min(responses.len() - answered) {
            held.push(block_on(worker.recv()).unwrap());
        }
        let request = held.swap_remove(random.below(held.len()));
        request.reply(request.body().clone()).unwrap();
        answered += 1;
    }
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(block_on(response).unwrap(), Message::from(format!("{number}")));
    }
}

#[test]
fn requests_come_as_a_stream_and_are_answered_from_any_thread() {
    let broker = broker();
    let (worker, client) = (worker(&broker, 4), client(&broker));
    let responses: Vec<_> = (0..20).map(|number| client.request("echo", format!("{number}"))).collect();
    let mut requests = worker.requests();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let next = std::future::poll_fn(|context| Pin::new(&mut requests).poll_next(context));
            let request = block_on(next).unwrap();
            scope.spawn(move || request.reply(request.body().clone()).unwrap());
        }
    });
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(block_on(response).unwrap(), Message::from(format!("{number}")));
    }
    worker.close();
    assert!(block_on(std::future::poll_fn(|context| Pin::new(&mut requests).poll_next(context))).is_none());
}

#[test]
fn serve_runs_handlers_side_by_side_and_survives_those_that_panic() {
    let broker = broker();
    let (worker, client) = (worker(&broker, 3), client(&broker));
    let running = Arc::new(AtomicUsize::new(0));
    let serving = std::thread::spawn({
        let (worker, running) = (worker.clone(), running.clone());
        move || {
            block_on(worker.serve(async |request: Request| match request.body().first() {
                Some(b"panic") => panic!("a broken handler"),
                Some(b"together") => {
                    running.fetch_add(1, Ordering::AcqRel);
                    // Ends only when all three run at once.
                    std::future::poll_fn(|context| {
                        if running.load(Ordering::Acquire) >= 3 {
                            return Poll::Ready(());
                        }
                        context.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                    request.reply("done").unwrap();
                }
                _ => drop(request),
            }))
        }
    });
    let together: Vec<_> = (0..3).map(|_| client.request("echo", "together")).collect();
    for response in together {
        assert_eq!(block_on(response).unwrap(), Message::from("done"));
    }
    for body in ["panic", "dropped"] {
        let error = block_on(client.request("echo", body)).unwrap_err();
        assert_eq!(error.service_error().unwrap().code, 500);
    }
    block_on(worker.drain()).unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn an_inbox_gets_the_requests_and_then_the_end() {
    let broker = broker();
    let inbox: Arc<Inbox<WorkerEvent>> = Inbox::new(|| {});
    let options = WorkerOptions::new(broker.endpoint(), "echo").concurrency(2);
    let worker = Worker::with_inbox(options, &inbox, 5).unwrap();
    let client = client(&broker);
    let (answered, dropped) = (client.request("echo", "answer"), client.request("echo", "drop"));
    until("two requests", || inbox.len() == 2);
    let mut events = Vec::new();
    inbox.drain(&mut events);
    for event in events {
        let WorkerEvent { token: 5, kind: WorkerEventKind::Request(request), .. } = event else { panic!() };
        if request.body().first() == Some(b"answer") {
            request.reply("answer").unwrap();
            assert_eq!(kind(request.reply("twice")), ErrorKind::InvalidArgument);
        }
    }
    assert_eq!(block_on(answered).unwrap(), Message::from("answer"));
    assert_eq!(block_on(dropped).unwrap_err().service_error().unwrap().code, 500);
    assert_eq!(kind(block_on(worker.recv())), ErrorKind::InvalidArgument);
    drop(worker);
    until("the end", || !inbox.is_empty());
    let mut events = Vec::new();
    inbox.drain(&mut events);
    assert!(matches!(events[..], [WorkerEvent { token: 5, kind: WorkerEventKind::Closed(None), .. }]));
}

#[test]
fn a_drain_finishes_what_is_in_hand_and_takes_nothing_more() {
    let broker = broker();
    let (first, client) = (worker(&broker, 1), client(&broker));
    let responses: Vec<_> = ["1", "2"].into_iter().map(|body| client.request("echo", body)).collect();
    let in_hand = block_on(first.recv()).unwrap();
    let drain = first.drain();
    in_hand.reply(in_hand.body().clone()).unwrap();
    block_on(drain).unwrap();
    assert_eq!(kind(block_on(first.recv())), ErrorKind::Closed);
    let second = worker(&broker, 1);
    let left = block_on(second.recv()).unwrap();
    left.reply(left.body().clone()).unwrap();
    for (response, body) in responses.into_iter().zip(["1", "2"]) {
        assert_eq!(block_on(response).unwrap(), Message::from(body));
    }
}

#[test]
fn a_drain_waits_no_longer_than_its_limit() {
    let broker = broker();
    let options = WorkerOptions::new(broker.endpoint(), "echo").drain_timeout(Duration::from_millis(50));
    let (hanging, client) = (Worker::with_options(options).unwrap(), client(&broker));
    let response = client.request("echo", "hi");
    let never_answered = block_on(hanging.recv()).unwrap();
    block_on(hanging.drain()).unwrap();
    never_answered.reply("too late").unwrap();
    let other = worker(&broker, 1);
    let request = block_on(other.recv()).unwrap();
    request.reply("in time").unwrap();
    assert_eq!(block_on(response).unwrap(), Message::from("in time"));
}

#[test]
fn a_worker_that_is_closed_or_dropped_gives_its_requests_to_the_others() {
    let broker = broker();
    let client = client(&broker);
    for drops in [false, true] {
        let leaving = worker(&broker, 1);
        let response = client.request("echo", "hi");
        let in_hand = block_on(leaving.recv()).unwrap();
        if drops {
            drop(leaving);
        } else {
            leaving.close();
        }
        let other = worker(&broker, 1);
        let request = block_on(other.recv()).unwrap();
        request.reply("the other's").unwrap();
        assert_eq!(block_on(response).unwrap(), Message::from("the other's"));
        drop(in_hand);
    }
}

#[test]
fn a_request_that_nobody_received_goes_to_another_worker_when_its_worker_leaves() {
    let broker = broker();
    let client = client(&broker);
    let leaving = worker(&broker, 1);
    let response = client.request("echo", "hi");
    until("the request to be handed out", || broker.stats().unwrap().in_flight == 1);
    drop(leaving);
    let other = worker(&broker, 1);
    block_on(other.recv()).unwrap().reply("the other's").unwrap();
    assert_eq!(block_on(response).unwrap(), Message::from("the other's"));
}

#[test]
fn heartbeats_go_out_while_every_handler_is_stuck() {
    let beat = Duration::from_millis(200);
    let options = majordomo::BrokerOptions::new("tcp://127.0.0.1:0").heartbeat(beat).liveness(3);
    let broker = Broker::with_options(options).unwrap();
    for protocol in [Protocol::V02, Protocol::X1] {
        let beating = WorkerOptions::new(broker.endpoint(), "echo").protocol(protocol).heartbeat(beat);
        let (stuck, client) = (Worker::with_options(beating).unwrap(), client(&broker));
        let response = client.request("echo", "hi");
        let request = block_on(stuck.recv()).unwrap();
        // This thread, which handles the request, does nothing for five times what the broker would bear in silence.
        std::thread::sleep(beat * 3 * 5);
        request.reply("after all").unwrap();
        assert_eq!(block_on(response).unwrap(), Message::from("after all"));
    }
}

#[test]
fn a_worker_finds_the_broker_again_that_was_restarted() {
    let first = broker();
    let endpoint = first.endpoint().to_owned();
    let options = WorkerOptions::new(&endpoint, "echo").heartbeat(Duration::from_millis(100));
    let worker = Worker::with_options(options.concurrency(2)).unwrap();
    let client = client(&first);
    let response = client.request("echo", "1");
    block_on(worker.recv()).unwrap().reply("1").unwrap();
    assert!(block_on(response).is_ok());
    first.stop().unwrap();
    drop(first);
    let _second = Broker::start(&endpoint).unwrap();
    let response = client.request("echo", "2");
    block_on(worker.recv()).unwrap().reply("2").unwrap();
    assert_eq!(block_on(response).unwrap(), Message::from("2"));
}

#[test]
fn partials_stream_to_the_client_and_too_large_ones_are_refused() {
    let broker = broker();
    let options = WorkerOptions::new(broker.endpoint(), "echo").protocol(Protocol::V02).max_message_bytes(1000);
    let worker = Worker::with_options(options).unwrap();
    let client = Client::with_options(ClientOptions::new(broker.endpoint()).protocol(Protocol::V02)).unwrap();
    let mut parts = client.stream("echo", "hi");
    let request = block_on(worker.recv()).unwrap();
    for number in 0..10 {
        request.partial(number.to_string()).unwrap();
    }
    assert_eq!(kind(request.partial(vec![0; 1001])), ErrorKind::TooLarge);
    assert_eq!(kind(request.reply(vec![0; 1001])), ErrorKind::TooLarge);
    assert!(!request.is_answered());
    request.reply("end").unwrap();
    let mut bodies = VecDeque::new();
    while let Some(part) = block_on(parts.next_part()) {
        bodies.push_back(part.unwrap());
    }
    assert_eq!(bodies.pop_back(), Some(Message::from("end")));
    assert_eq!(bodies, (0..10).map(|number| Message::from(number.to_string())).collect::<VecDeque<_>>());
}

/// Parts that nobody reads are refused after some: at first because they wait for the I/O thread, and, when that has
/// taken them, because they wait for the connection. libzmq takes a thousand for itself.
#[test]
fn parts_that_the_broker_does_not_take_are_refused_when_they_are_too_many() {
    const MOST: usize = 10_000;
    for protocol in [Protocol::V02, Protocol::X1] {
        let sink = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        sink.set_rcvhwm(1).unwrap();
        sink.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = sink.get_last_endpoint().unwrap().unwrap();
        let options = WorkerOptions::new(&endpoint, "echo").protocol(protocol).heartbeat(Duration::from_secs(600));
        let worker = Worker::with_options(options.max_message_bytes(1 << 20)).unwrap();
        let ready = sink.recv_multipart(0).unwrap();
        let messages: &[Vec<Vec<u8>>] = &match protocol {
            Protocol::V02 => {
                vec![["MDPW02", "\x02", "client", "", "hi"].map(|frame| frame.as_bytes().to_vec()).to_vec()]
            }
            _ => {
                let welcome = mdpx::Command::WorkerWelcome { heartbeat_ms: 600_000, liveness: 3, max_message: 1 << 20 };
                let deliver =
                    mdpx::Command::Deliver { delivery: 1, session: [1; 16], number: 1, ttl_ms: 0, attempt: 1 };
                let body = Message::from("hi");
                let messages = [mdpx::control(&welcome), mdpx::message(&deliver, &body)];
                messages.map(|frames| frames.iter().map(|frame| frame.to_vec()).collect()).to_vec()
            }
        };
        for message in messages {
            sink.send(&ready[0], zmq::SNDMORE).unwrap();
            sink.send_multipart(message, 0).unwrap();
        }
        let request = block_on(worker.recv()).unwrap();
        let (mut accepted, mut refused_since) = (0, 0);
        while refused_since < 1000 && accepted < MOST {
            match request.partial(vec![0; 64 << 10]) {
                Ok(()) => (accepted, refused_since) = (accepted + 1, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::QueueFull);
                    refused_since += 1;
                    std::thread::yield_now();
                }
            }
        }
        assert!(accepted < MOST, "{protocol}: {accepted} parts were accepted that nobody takes");
        request.reply("end").unwrap();
        let mut parts = 0;
        loop {
            let message = sink.recv_multipart(0).unwrap();
            let command = if protocol == Protocol::V02 { message[2][0] } else { message[1][mdpx::MAGIC.len()] };
            match (protocol, command) {
                (Protocol::V02, 3) | (Protocol::X1, 0x16) => parts += 1,
                (Protocol::V02, 4) | (Protocol::X1, 0x17) => break,
                (_, other) => assert_eq!((other, parts), (0x23, 0), "{protocol}: the empty BATCH of the beginning"),
            }
        }
        assert_eq!(parts, accepted, "{protocol}: what was accepted arrives");
    }
}

#[test]
fn of_many_tasks_that_wait_one_gets_the_request_and_a_dropped_one_loses_none() {
    let broker = broker();
    let (worker, client) = (worker(&broker, 1), client(&broker));
    let got = RefCell::new(Vec::new());
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let tasks: Vec<_> = (0..5)
            .map(|number| {
                let (worker, got) = (worker.clone(), &got);
                executor.spawn(async move {
                    while let Ok(request) = worker.recv().await {
                        got.borrow_mut().push(number);
                        request.reply("hi").unwrap();
                    }
                })
            })
            .collect();
        let mut tasks = VecDeque::from(tasks);
        while tasks.len() > 1 {
            let gone = tasks.pop_front();
            let response = client.request("echo", "hi");
            drop(gone);
            assert_eq!(response.await.unwrap(), Message::from("hi"));
        }
        worker.close();
        for task in tasks {
            task.await;
        }
    }));
    assert_eq!(got.borrow().len(), 4);
}

#[test]
fn bad_options_are_refused_and_an_impossible_endpoint_ends_the_worker_with_its_error() {
    assert_eq!(kind(Worker::connect("tcp://127.0.0.1:1", "mmi.mine")), ErrorKind::InvalidArgument);
    assert_eq!(kind(Worker::connect("", "echo")), ErrorKind::InvalidArgument);
    let worker = Worker::connect("tcp://no-port", "echo").unwrap();
    assert_eq!(kind(block_on(worker.recv())), ErrorKind::InvalidArgument);
    assert_eq!(kind(block_on(worker.drain())), ErrorKind::InvalidArgument);
    let inbox: Arc<Inbox<WorkerEvent>> = Inbox::new(|| {});
    let _worker = Worker::with_inbox(WorkerOptions::new("tcp://no-port", "echo"), &inbox, 1).unwrap();
    until("the end", || inbox.len() == 1);
}
