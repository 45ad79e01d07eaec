//! What answers look like on the wire, and which are refused.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;

use majordomo::{ErrorKind, Protocol, Worker};

use crate::worker_peers::{Finally, PATIENCE, RawBroker, echoing, kind, options};

#[test]
fn requests_are_answered_in_the_frames_of_the_specification() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        thread::scope(|scope| {
            let _ending = Finally(|| worker.close());
            echoing(scope, &worker);
            let peer = broker.registered("echo");
            let large = vec![7; 1 << 20];
            let bodies: [&[&[u8]]; 5] = [&[b"hi"], &[b""], &[b"a", b"", b"\0\xff"], &[&large], &[]];
            for (number, body) in bodies.into_iter().enumerate() {
                let address = [0, number as u8, 255];
                broker.request(&peer, &address, body);
                broker.answered(&peer, &address, body);
            }
            worker.close();
            broker.left(&peer);
        });
    }
}

#[test]
fn parts_go_out_in_0_2_and_are_joined_in_0_1() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"count"]);
        let request = worker.recv().unwrap();
        request.partial("one").unwrap();
        request.partial(["two", "2"]).unwrap();
        request.reply("three").unwrap();
        if protocol == Protocol::V02 {
            broker.partly_answered(&peer, b"client", &[b"one"]);
            broker.partly_answered(&peer, b"client", &[b"two", b"2"]);
            broker.answered(&peer, b"client", &[b"three"]);
        } else {
            broker.answered(&peer, b"client", &[b"one", b"two", b"2", b"three"]);
        }
    }
}

#[test]
fn a_stream_that_outruns_the_broker_arrives_whole() {
    const PARTS: usize = 20_000;
    let broker = RawBroker::with_room_for(10, "tcp://127.0.0.1:*", Protocol::V02);
    let worker = Worker::with_options(options(&broker, Protocol::V02)).unwrap();
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        scope.spawn(|| {
            let request = worker.recv().unwrap();
            for part in 0..PARTS {
                let mut body = part.to_string().into_bytes();
                body.resize(2000, b' ');
                request.partial(body).unwrap();
            }
            request.reply("end").unwrap();
            worker.close();
        });
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"count"]);
        for part in 0..PARTS {
            let (_, message) = broker.recv_word();
            let body = String::from_utf8(message.last().unwrap().clone()).unwrap();
            assert_eq!(body.trim_end(), part.to_string());
        }
        broker.answered(&peer, b"client", &[b"end"]);
        broker.left(&peer);
    });
}

#[test]
fn a_part_that_waits_for_room_can_be_interrupted_and_holds_up_no_other_thread_and_is_not_lost() {
    let broker = RawBroker::with_room_for(10, "tcp://127.0.0.1:*", Protocol::V02);
    let mut options = options(&broker, Protocol::V02);
    // The connection is not given up meanwhile.
    options.heartbeat = PATIENCE;
    let worker = Worker::with_options(options).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"count"]);
    let request = worker.recv().unwrap();

    let part = || vec![0; 1 << 16];
    let mut parts = 1;
    let interrupted = loop {
        if let Err(error) = request.partial_with(part(), &mut |_| ControlFlow::Break(())) {
            break error;
        }
        parts += 1;
    };
    assert_eq!(interrupted.kind(), ErrorKind::Cancelled);

    thread::scope(|scope| {
        let (asked, questions) = mpsc::channel();
        let request = &request;
        let waiting = scope.spawn(move || {
            request.partial_with(part(), &mut |_| {
                asked.send(()).unwrap();
                ControlFlow::Continue(())
            })
        });
        questions.recv_timeout(PATIENCE).unwrap();
        request.reply("end").unwrap();
        for _ in 0..=parts {
            broker.partly_answered(&peer, b"client", &[&part()]);
        }
        broker.answered(&peer, b"client", &[b"end"]);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_failure_is_an_answer_of_three_frames() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"page"]);
        worker.recv().unwrap().fail(404, "no such page").unwrap();
        broker.answered(&peer, b"client", &[b"MAJORDOMO-ERROR", b"404", b"no such page"]);
    }
}

#[test]
fn a_second_answer_is_refused_and_never_sent() {
    let broker = RawBroker::new(Protocol::V02);
    let worker = Worker::with_options(options(&broker, Protocol::V02)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    assert!(!request.is_answered());
    request.reply("first").unwrap();
    assert!(request.is_answered());
    assert_eq!(kind(request.reply("second")), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(request.partial("second")), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(request.fail(500, "second")), Some(ErrorKind::InvalidArgument));
    drop(request);
    broker.answered(&peer, b"client", &[b"first"]);
    drop(worker);
    broker.left(&peer);
}

#[test]
fn a_request_that_is_dropped_is_answered_by_a_failure() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    drop(worker.recv().unwrap());
    broker.answered(&peer, b"client", &[b"MAJORDOMO-ERROR", b"500", b"the request was dropped without an answer"]);
}

#[test]
fn an_answer_that_is_too_large_is_refused_and_the_request_can_still_be_failed() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol).max_message_bytes(1000)).unwrap();
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"all"]);
        let request = worker.recv().unwrap();
        assert_eq!(kind(request.reply(vec![0; 1001])), Some(ErrorKind::TooLarge));
        assert_eq!(kind(request.partial(vec![0; 1001])), Some(ErrorKind::TooLarge));
        assert!(!request.is_answered());
        request.fail(413, "too much").unwrap();
        broker.answered(&peer, b"client", &[b"MAJORDOMO-ERROR", b"413", b"too much"]);
    }
}
