//! Promises of serving with a function.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod worker_peers;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use majordomo::{ErrorKind, Message, Protocol, Request, ServiceError, Stop, serve};
use worker_peers::{Finally, PATIENCE, RawBroker, kind, options};

type Outcome = Result<Message, ServiceError>;

fn echo(request: &Request) -> Outcome {
    Ok(request.body().clone())
}

#[test]
fn as_many_requests_are_worked_on_at_once_as_there_are_sessions() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let stop = Stop::new();
        let options = options(&broker, protocol).concurrency(4);
        let all_here = Barrier::new(4);
        thread::scope(|scope| {
            let _ending = Finally(|| stop.stop());
            let serving = scope.spawn(|| {
                serve(options, &stop, |request| {
                    all_here.wait();
                    echo(request)
                })
            });
            let mut peers: Vec<_> = (0..4).map(|_| broker.registered("echo")).collect();
            for (number, peer) in peers.iter().enumerate() {
                broker.request(peer, b"client", &[&[number as u8]]);
            }
            // None of them is answered before all four have arrived.
            let mut answers: Vec<_> = (0..4).map(|_| broker.recv_word().1.pop().unwrap()).collect();
            answers.sort();
            assert_eq!(answers, [[0], [1], [2], [3]]);
            stop.stop();
            serving.join().unwrap().unwrap();
            let mut gone: Vec<_> = (0..4).map(|_| broker.recv_word().0).collect();
            gone.sort();
            peers.sort();
            assert_eq!(gone, peers, "each says DISCONNECT");
        });
    }
}

#[test]
fn a_handler_may_fail_panic_answer_by_itself_or_send_parts() {
    let broker = RawBroker::new(Protocol::V02);
    let stop = Stop::new();
    let options = options(&broker, Protocol::V02).max_message_bytes(1000);
    let handler = |request: &Request| match &request.body()[0] {
        b"fail" => Err(ServiceError::new(404, "no such page")),
        b"panic" => panic!("on purpose"),
        b"itself" => {
            request.reply("by itself").unwrap();
            Ok(Message::from("ignored"))
        }
        b"parts" => {
            request.partial("one").unwrap();
            Ok(Message::from("two"))
        }
        b"large" => Ok(Message::from(vec![0; 1001])),
        _ => echo(request),
    };
    thread::scope(|scope| {
        let _ending = Finally(|| stop.stop());
        let serving = scope.spawn(|| serve(options, &stop, handler));
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"fail"]);
        broker.answered(&peer, b"client", &[b"MAJORDOMO-ERROR", b"404", b"no such page"]);
        broker.request(&peer, b"client", &[b"panic"]);
        broker.answered(&peer, b"client", &[b"MAJORDOMO-ERROR", b"500", b"the handler panicked"]);
        broker.request(&peer, b"client", &[b"itself"]);
        broker.answered(&peer, b"client", &[b"by itself"]);
        broker.request(&peer, b"client", &[b"parts"]);
        broker.partly_answered(&peer, b"client", &[b"one"]);
        broker.answered(&peer, b"client", &[b"two"]);
        broker.request(&peer, b"client", &[b"large"]);
        let (_, answer) = broker.recv_word();
        assert_eq!(answer[4..6], [b"MAJORDOMO-ERROR".to_vec(), b"500".to_vec()]);
        broker.request(&peer, b"client", &[b"hi"]);
        broker.answered(&peer, b"client", &[b"hi"]);
        stop.stop();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn stop_lets_the_requests_in_hand_be_finished_and_answered() {
    let broker = RawBroker::new(Protocol::V01);
    let stop = Stop::new();
    let options = options(&broker, Protocol::V01).drain_timeout(PATIENCE);
    let (arrived, arrives) = mpsc::sync_channel(1);
    let (go_on, goes_on) = mpsc::sync_channel(1);
    let goes_on = std::sync::Mutex::new(goes_on);
    thread::scope(|scope| {
        let _ending = Finally(|| stop.stop());
        let serving = scope.spawn(|| {
            serve(options, &stop, |request| {
                arrived.send(()).unwrap();
                goes_on.lock().unwrap().recv().unwrap();
                echo(request)
            })
        });
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"hi"]);
        arrives.recv().unwrap();
        stop.stop();
        go_on.send(()).unwrap();
        broker.answered(&peer, b"client", &[b"hi"]);
        broker.left(&peer);
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn a_handler_may_stop_the_serving_it_is_part_of() {
    let broker = RawBroker::new(Protocol::V01);
    let stop = Stop::new();
    let options = options(&broker, Protocol::V01).drain_timeout(PATIENCE).concurrency(2);
    thread::scope(|scope| {
        let _ending = Finally(|| stop.stop());
        let serving = scope.spawn(|| {
            serve(options, &stop, |request| {
                stop.stop();
                echo(request)
            })
        });
        let peers = [broker.registered("echo"), broker.registered("echo")];
        broker.request(&peers[0], b"client", &[b"last words"]);
        let mut answers = 0;
        for _ in 0..3 {
            let (peer, message) = broker.recv_word();
            if message.last().unwrap() == b"last words" {
                assert_eq!(peer, peers[0]);
                answers += 1;
            }
        }
        assert_eq!(answers, 1, "one answer, and one DISCONNECT of each");
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn a_stopped_handle_serves_nothing_and_a_serving_that_ended_leaves_nothing_behind() {
    let broker = RawBroker::new(Protocol::V01);
    let stop = Stop::new();
    stop.stop();
    let called = AtomicUsize::new(0);
    serve(options(&broker, Protocol::V01), &stop, |request| {
        called.fetch_add(1, Ordering::Relaxed);
        echo(request)
    })
    .unwrap();
    stop.stop();
    assert_eq!(called.load(Ordering::Relaxed), 0);
}

#[test]
fn options_that_cannot_be_are_refused() {
    let broker = RawBroker::new(Protocol::V01);
    let refused = serve(options(&broker, Protocol::V01).concurrency(0), &Stop::new(), echo);
    assert_eq!(kind(refused), Some(ErrorKind::InvalidArgument));
}
