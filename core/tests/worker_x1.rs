//! Workers of MDPX, blocking and asynchronous, with an embedded broker between them and a raw client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;
mod worker_peers;
mod x1_peers;

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use aio_peers::{block_on, until};
use bytes::Bytes;
use majordomo::aio::{self, Inbox, WorkerEvent, WorkerEventKind};
use majordomo::proto::mdpx::{self, Command};
use majordomo::{
    Broker, ErrorKind, EventHook, Message, Properties, Protocol, Request, ServiceError, Worker, WorkerOptions,
};
use worker_peers::{BEAT, Finally, PATIENCE, RawBroker};
use x1_peers::{Outcome, X1Client};

fn broker() -> Broker {
    Broker::start("tcp://127.0.0.1:0").unwrap()
}

fn options(broker: &Broker) -> WorkerOptions {
    WorkerOptions::new(broker.endpoint(), "echo")
}

fn reply(number: u64, body: impl Into<Message>) -> Outcome {
    Outcome::Reply(number, body.into())
}

/// A listener for connection events, and their names as they come.
fn listener() -> (EventHook, mpsc::Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let hook = EventHook::new(move |event| sender.lock().unwrap().send(event.name().to_owned()).unwrap());
    (hook, receiver)
}

fn events(receiver: &mpsc::Receiver<String>, count: usize) -> Vec<String> {
    (0..count).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect()
}

#[test]
fn properties_attempt_and_time_reach_the_handler_and_properties_come_back() {
    let broker = broker();
    let worker = Worker::with_options(options(&broker)).unwrap();
    let client = X1Client::new(broker.endpoint());
    let mut properties = Properties::new();
    properties.set(Properties::CONTENT_TYPE, "text/plain").unwrap();
    let before = Instant::now();
    client.ask_within(1, 60_000, Message::from("hi").with_properties(properties.clone()));
    let request = worker.recv().unwrap();
    assert_eq!(request.properties(), &properties);
    assert_eq!(request.attempt(), 1);
    let limit = Duration::from_secs(60);
    assert!(request.deadline().unwrap() > before && request.remaining().unwrap() <= limit);
    request.reply(request.body().clone()).unwrap();
    assert_eq!(client.hear(), reply(1, Message::from("hi").with_properties(properties)));
    client.ask(2, "hi");
    let request = worker.recv().unwrap();
    assert_eq!((request.deadline(), request.remaining()), (None, None));
}

#[test]
fn a_blocking_worker_answers_parts_and_failures_and_holds_further_requests_ready() {
    let broker = broker();
    let worker = Worker::with_options(options(&broker).prefetch(8)).unwrap();
    let client = X1Client::new(broker.endpoint());
    for number in 1..=20 {
        client.ask(number, "hi");
    }
    until("the worker to be full", || broker.stats().unwrap().in_flight == 9);
    for number in 1..=20 {
        let request = worker.recv().unwrap();
        match number % 3 {
            0 => request.fail(404, "no").unwrap(),
            1 => request.reply("ok").unwrap(),
            _ => {
                request.partial("one").unwrap();
                request.reply("two").unwrap();
            }
        }
    }
    for number in 1..=20 {
        match number % 3 {
            0 => assert_eq!(client.hear(), Outcome::Failed(number, ErrorKind::ServiceError, 404)),
            1 => assert_eq!(client.hear(), reply(number, "ok")),
            _ => {
                assert_eq!(client.hear(), Outcome::Part(number, 0, "one".into()));
                assert_eq!(client.hear(), reply(number, "two"));
            }
        }
    }
}

#[test]
fn an_answer_that_was_held_back_for_company_goes_out_where_none_comes() {
    let broker = broker();
    let worker = Worker::with_options(options(&broker).prefetch(8)).unwrap();
    let client = X1Client::new(broker.endpoint());
    for number in (1..=12).step_by(3) {
        (number..number + 3).for_each(|number| client.ask(number, "hi"));
        // While nobody receives, the helper thread reads what came, a message at each of its looks.
        thread::sleep(Duration::from_millis(300));
        worker.recv().unwrap().reply("ok").unwrap();
        let slow = worker.recv().unwrap();
        // The next beat, which would take it along, is more than a second away.
        let since = Instant::now();
        assert_eq!(client.hear(), reply(number, "ok"));
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        slow.reply("ok").unwrap();
        worker.recv().unwrap().reply("ok").unwrap();
        assert_eq!([client.hear(), client.hear()], [1, 2].map(|next| reply(number + next, "ok")));
    }
}

#[test]
fn heartbeats_go_out_while_the_handler_computes() {
    let broker = RawBroker::new(Protocol::X1);
    let worker = Worker::with_options(worker_peers::options(&broker, Protocol::X1)).unwrap();
    let say = |peer: &[u8], frames: Vec<Bytes>| broker.send(peer, frames.iter().map(|frame| frame.to_vec()).collect());
    // Who says something next, and whether it is what is waited for.
    let hear = |wanted: fn(&Command<'_>) -> bool| {
        let (peer, frames) = broker.recv();
        let header = Bytes::from(frames[0].clone());
        (peer, wanted(&mdpx::read(&header, frames.len() - 1).unwrap().command))
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ending = Finally(|| {
            done.store(true, Ordering::Relaxed);
            worker.close();
        });
        scope.spawn(|| {
            let request = worker.recv().unwrap();
            while !done.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
            request.reply("done").unwrap();
        });
        let (peer, is_ready) = hear(|command| matches!(command, Command::Ready { .. }));
        assert!(is_ready, "READY was to come");
        let heartbeat_ms = BEAT.as_millis() as u32;
        say(&peer, mdpx::control(&Command::WorkerWelcome { heartbeat_ms, liveness: 100, max_message: 1 << 20 }));
        let delivery = Command::Deliver { delivery: 1, session: [0; 16], number: 1, ttl_ms: 0, attempt: 1 };
        say(&peer, mdpx::message(&delivery, &"compute".into()));
        let is_beat = |command: &Command<'_>| matches!(command, Command::Heartbeat);
        // Before the first it may have said that it takes several messages in one.
        while !hear(is_beat).1 {}
        for _ in 0..9 {
            assert_eq!(hear(is_beat), (peer.clone(), true), "a HEARTBEAT was to come");
        }
        done.store(true, Ordering::Relaxed);
        while !hear(|command| matches!(command, Command::WorkerFinal { delivery: 1, .. })).1 {}
    });
}

#[test]
fn a_blocking_handler_is_told_that_its_request_is_cancelled() {
    let broker = broker();
    let worker = Worker::with_options(options(&broker).prefetch(1)).unwrap();
    let client = X1Client::new(broker.endpoint());
    client.ask(1, "long");
    let request = worker.recv().unwrap();
    assert!(!request.is_cancelled());
    let token = request.cancel_token();
    client.ask(2, "dropped before its turn");
    client.ask(3, "next");
    until("the second request to be handed out", || broker.stats().unwrap().in_flight == 2);
    client.cancel(2);
    client.cancel(1);
    assert!(token.wait_timeout(PATIENCE) && request.is_cancelled());
    request.partial("for nobody").unwrap();
    request.reply("for nobody").unwrap();
    let next = worker.recv().unwrap();
    assert_eq!(next.body(), &Message::from("next"));
    assert!(!next.is_cancelled());
    next.reply("ok").unwrap();
    assert_eq!(client.hear(), reply(3, "ok"));
}

#[test]
fn the_time_of_a_request_that_runs_ends_with_a_cancellation() {
    let broker = broker();
    let worker = Worker::with_options(options(&broker)).unwrap();
    let client = X1Client::new(broker.endpoint());
    client.ask_within(1, 100, "long");
    let request = worker.recv().unwrap();
    assert!(request.cancel_token().wait_timeout(PATIENCE));
    assert_eq!(client.hear(), Outcome::Failed(1, ErrorKind::Expired, 0));
    drop(request);
    client.ask(2, "next");
    worker.recv().unwrap().reply("ok").unwrap();
    assert_eq!(client.hear(), reply(2, "ok"));
}

#[test]
fn a_retryable_failure_goes_to_another_worker_as_the_next_attempt() {
    let broker = broker();
    let (first, second) =
        (Worker::with_options(options(&broker)).unwrap(), Worker::with_options(options(&broker)).unwrap());
    until("both workers", || broker.stats().unwrap().workers == 2);
    let client = X1Client::new(broker.endpoint());
    client.ask(1, "hi");
    let (give_up, take_over) =
        match first.recv_with(Some(Duration::from_millis(200)), &mut |_| std::ops::ControlFlow::Continue(())) {
            Ok(Some(request)) => (request, &second),
            _ => (second.recv().unwrap(), &first),
        };
    give_up.fail_with(ServiceError::new(503, "later").retryable(true)).unwrap();
    let request = take_over.recv().unwrap();
    assert_eq!(request.attempt(), 2);
    request.fail_with(ServiceError::new(503, "never")).unwrap();
    assert_eq!(client.hear(), Outcome::Failed(1, ErrorKind::ServiceError, 503));
}

#[test]
fn an_idempotent_service_runs_a_repeated_request_once() {
    let broker = broker();
    let runs = AtomicUsize::new(0);
    let worker = Worker::with_options(options(&broker).keep_outcomes(10)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for request in &worker {
                runs.fetch_add(1, Ordering::Relaxed);
                request.reply("done").unwrap();
            }
        });
        let client = X1Client::new(broker.endpoint());
        let mut properties = Properties::new();
        properties.set(Properties::IDEMPOTENCY_KEY, "order 7").unwrap();
        for number in 1..4 {
            client.ask(number, Message::from("hi").with_properties(properties.clone()));
            assert_eq!(client.hear(), reply(number, "done"));
        }
        worker.close();
    });
    assert_eq!(runs.into_inner(), 1);
}

#[test]
fn the_handlers_of_an_asynchronous_worker_share_what_it_keeps_of_outcomes() {
    let broker = broker();
    let runs = AtomicUsize::new(0);
    let worker = aio::Worker::with_options(options(&broker).keep_outcomes(10).concurrency(3)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            block_on(worker.serve(async |request: Request| {
                runs.fetch_add(1, Ordering::Relaxed);
                request.reply("done").unwrap();
            }))
        });
        let client = X1Client::new(broker.endpoint());
        let mut properties = Properties::new();
        properties.set(Properties::IDEMPOTENCY_KEY, "order 7").unwrap();
        for number in 1..10 {
            client.ask(number, Message::from("hi").with_properties(properties.clone()));
            assert_eq!(client.hear(), reply(number, "done"));
        }
        worker.close();
    });
    assert_eq!(runs.into_inner(), 1);
}

#[test]
fn an_asynchronous_worker_has_one_connection_and_holds_concurrency_and_prefetch() {
    let broker = broker();
    let worker = aio::Worker::with_options(options(&broker).concurrency(3).prefetch(2)).unwrap();
    let client = X1Client::new(broker.endpoint());
    for number in 1..=10 {
        client.ask(number, format!("{number}"));
    }
    until("the worker to be full", || broker.stats().unwrap().in_flight == 5);
    assert_eq!(broker.stats().unwrap().workers, 1);
    let mut held: Vec<_> = (0..3).map(|_| block_on(worker.recv()).unwrap()).collect();
    for number in (1..=10).rev() {
        let request = held.pop().unwrap();
        request.reply(request.body().clone()).unwrap();
        let Outcome::Reply(answered, body) = client.hear() else { panic!("no reply") };
        assert_eq!(body, Message::from(format!("{answered}")));
        if number > 3 {
            held.push(block_on(worker.recv()).unwrap());
        }
    }
}

#[test]
fn serve_drops_the_handler_of_a_cancelled_request() {
    struct Tell(mpsc::Sender<()>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    let broker = broker();
    let worker = aio::Worker::with_options(options(&broker).concurrency(2)).unwrap();
    let ((began, begins), (dropped, drops)) = (mpsc::channel(), mpsc::channel());
    let serving = thread::spawn({
        let worker = worker.clone();
        move || {
            block_on(worker.serve(async |request: Request| {
                let _tell = Tell(dropped.clone());
                began.send(()).unwrap();
                if request.body().first() == Some(b"for ever") {
                    std::future::pending::<()>().await;
                }
                request.reply("ok").unwrap();
            }))
        }
    });
    let client = X1Client::new(broker.endpoint());
    client.ask(1, "for ever");
    // One that is cancelled sooner has no handler.
    begins.recv_timeout(PATIENCE).unwrap();
    client.cancel(1);
    drops.recv_timeout(PATIENCE).unwrap();
    client.ask(2, "hi");
    assert_eq!(client.hear(), reply(2, "ok"));
    block_on(worker.drain()).unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn an_inbox_and_a_future_hear_of_cancellations() {
    let broker = broker();
    let inbox: Arc<Inbox<WorkerEvent>> = Inbox::new(|| {});
    let _worker = aio::Worker::with_inbox(options(&broker), &inbox, 5).unwrap();
    let client = X1Client::new(broker.endpoint());
    client.ask(1, "hi");
    let mut batch = Vec::new();
    until("the request", || !inbox.is_empty());
    inbox.drain(&mut batch);
    let Some(WorkerEvent { kind: WorkerEventKind::Request(request), .. }) = batch.pop() else { panic!("no request") };
    client.cancel(1);
    block_on(request.cancel_token().cancelled());
    until("the event", || !inbox.is_empty());
    inbox.drain(&mut batch);
    let Some(WorkerEvent { token: 5, kind: WorkerEventKind::Cancelled { id }, .. }) = batch.pop() else {
        panic!("no cancellation");
    };
    assert_eq!(id, request.id());
    assert!(request.is_cancelled());
    drop(request);
    until("the answer that is owed", || broker.stats().unwrap().counters.stray_replies == 1);
}

#[test]
fn a_drain_gives_back_what_nobody_has_received() {
    let broker = broker();
    let leaving = aio::Worker::with_options(options(&broker).concurrency(3).prefetch(1)).unwrap();
    let client = X1Client::new(broker.endpoint());
    for number in 1..5 {
        client.ask(number, format!("{number}"));
    }
    until("the requests to be handed out", || broker.stats().unwrap().in_flight == 4);
    let begun = block_on(leaving.recv()).unwrap();
    let end = leaving.drain();
    let other = Worker::with_options(options(&broker)).unwrap();
    for _ in 0..3 {
        let request = other.recv().unwrap();
        assert_eq!(request.attempt(), 1, "no handler had seen it");
        request.reply("the other's").unwrap();
        assert!(matches!(client.hear(), Outcome::Reply(..)));
    }
    begun.reply("to the end").unwrap();
    assert_eq!(client.hear(), reply(1, "to the end"));
    block_on(end).unwrap();
}

#[test]
fn a_blocking_drain_gives_back_what_nobody_has_received() {
    let broker = broker();
    let leaving = Worker::with_options(options(&broker).prefetch(2)).unwrap();
    let client = X1Client::new(broker.endpoint());
    for number in 1..4 {
        client.ask(number, format!("{number}"));
    }
    until("the requests to be handed out", || broker.stats().unwrap().in_flight == 3);
    leaving.drain();
    let other = Worker::with_options(options(&broker)).unwrap();
    for number in 1..4 {
        let request = other.recv().unwrap();
        assert_eq!((request.attempt(), request.body()), (1, &Message::from(format!("{number}"))));
        request.reply("the other's").unwrap();
    }
}

#[test]
fn connection_events_are_told_by_both_kinds_of_worker() {
    let first = broker();
    let endpoint = first.endpoint().to_owned();
    let (hook, blocking_events) = listener();
    let blocking = Worker::with_options(options(&first).on_event(hook)).unwrap();
    let (hook, aio_events) = listener();
    let aio = aio::Worker::with_options(options(&first).concurrency(3).on_event(hook)).unwrap();
    for receiver in [&blocking_events, &aio_events] {
        assert_eq!(events(receiver, 1), ["connected"]);
    }
    first.stop().unwrap();
    drop(first);
    for receiver in [&blocking_events, &aio_events] {
        assert_eq!(events(receiver, 2), ["disconnected", "reconnecting"]);
    }
    let _second = Broker::start(&endpoint).unwrap();
    for receiver in [&blocking_events, &aio_events] {
        while events(receiver, 1) != ["connected"] {}
    }
    blocking.drain();
    block_on(aio.drain()).unwrap();
    for receiver in [&blocking_events, &aio_events] {
        assert_eq!(events(receiver, 1), ["draining"]);
    }
}

#[test]
fn at_an_older_broker_there_are_as_many_sessions_as_handlers_until_it_is_replaced() {
    let older = RawBroker::new(Protocol::V01);
    let endpoint = older.endpoint.clone();
    let options = WorkerOptions::new(&endpoint, "echo").concurrency(3).heartbeat(Duration::from_millis(200));
    let _worker = aio::Worker::with_options(options).unwrap();
    let (peer, question) = older.recv();
    assert_eq!(question, worker_peers::frames(&[b"", b"MDPC01", b"mmi.protocols", b""]));
    older.send(&peer, worker_peers::frames(&[b"", b"MDPC01", b"mmi.protocols", b"501"]));
    let mut peers: Vec<_> = (0..3).map(|_| older.registered("echo")).collect();
    peers.sort();
    peers.dedup();
    assert_eq!(peers.len(), 3);
    drop(older);
    let broker = Broker::start(&endpoint).unwrap();
    let services = || broker.stats().unwrap();
    until("one session that holds three requests", || services().workers == 1);
    let client = X1Client::new(&endpoint);
    for number in 1..5 {
        client.ask(number, "hi");
    }
    until("three requests to be handed out", || services().in_flight == 3 && services().workers == 1);
}
