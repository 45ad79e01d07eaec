//! Drain, close and drop.

use std::ops::ControlFlow;
use std::thread;

use majordomo::{ErrorKind, Protocol, Worker};

use crate::worker_peers::{BEAT, Finally, PATIENCE, RawBroker, kind, options};

#[test]
fn a_drain_finishes_the_request_in_hand_and_says_disconnect() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01).drain_timeout(PATIENCE)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        scope.spawn(|| worker.drain());
        scope.spawn(|| assert_eq!(kind(worker.recv()), Some(ErrorKind::Closed)));
        broker.hear_beats(&peer, 3);
        request.reply("done").unwrap();
        broker.answered(&peer, b"client", &[b"done"]);
        broker.left(&peer);
    });
    assert_eq!(kind(worker.recv()), Some(ErrorKind::Closed));
}

#[test]
fn a_drain_does_not_wait_for_a_handler_that_never_ends() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01).drain_timeout(BEAT)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    worker.drain();
    broker.left(&peer);
    assert!(request.reply("too late").is_ok(), "dropped: the broker has given the request to another worker");
}

#[test]
fn a_drain_that_is_interrupted_leaves_the_request_in_hand_to_be_answered_or_given_back() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01).drain_timeout(PATIENCE)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    let mut asked = 0;
    let outcome = worker.drain_with(&mut |_| {
        asked += 1;
        if asked < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(kind(outcome), Some(ErrorKind::Cancelled));
    request.reply("hi").unwrap();
    broker.answered(&peer, b"client", &[b"hi"]);
    worker.close();
    broker.left(&peer);
}

#[test]
fn a_drain_leaves_a_request_that_nobody_has_taken_to_others() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    // By the time of the second beat the beater has read the request.
    broker.hear_beats(&peer, 2);
    worker.drain();
    broker.left(&peer);
    assert_eq!(kind(worker.recv()), Some(ErrorKind::Closed));
}

#[test]
fn close_ends_a_recv_of_another_thread() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        let receiving = scope.spawn(|| kind(worker.recv()));
        while !worker.is_busy() {
            thread::yield_now();
        }
        worker.close();
        assert_eq!(receiving.join().unwrap(), Some(ErrorKind::Closed));
    });
    broker.left(&peer);
    worker.close();
    assert_eq!(kind(worker.recv()), Some(ErrorKind::Closed));
    assert!(worker.iter().next().is_none());
}

#[test]
fn close_ends_a_recv_that_waits_for_the_handler() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        let receiving = scope.spawn(|| kind(worker.recv()));
        while !worker.is_busy() {
            thread::yield_now();
        }
        worker.close();
        assert_eq!(receiving.join().unwrap(), Some(ErrorKind::Closed));
    });
    broker.left(&peer);
    assert!(request.reply("too late").is_ok());
}

#[test]
fn a_dropped_worker_says_disconnect_also_with_a_request_in_hand() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        let peer = broker.registered("echo");
        drop(worker);
        broker.left(&peer);

        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"hi"]);
        let request = worker.recv().unwrap();
        drop(worker);
        broker.left(&peer);
        drop(request);
    }
}
