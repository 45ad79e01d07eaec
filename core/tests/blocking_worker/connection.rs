//! Registration, heartbeats, and finding back to a broker.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use majordomo::{Broker, BrokerOptions, Protocol, Worker, WorkerOptions};

use crate::worker_peers::{BEAT, Finally, RawBroker, echoing, options};

#[test]
fn heartbeats_go_out_while_the_handler_computes() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
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
            let peer = broker.registered("echo");
            broker.request(&peer, b"client", &[b"compute"]);
            broker.hear_beats(&peer, 10);
            done.store(true, Ordering::Relaxed);
            broker.answered(&peer, b"client", &[b"done"]);
        });
    }
}

#[test]
fn a_broker_that_beats_fast_is_answered_by_a_slow_worker_that_computes() {
    let broker = RawBroker::new(Protocol::V01);
    // At its own pace alone, this worker would say nothing for an hour.
    let slow = options(&broker, Protocol::V01).heartbeat(Duration::from_secs(3600));
    let worker = Worker::with_options(slow).unwrap();
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
        let peer = broker.registered("echo");
        broker.beat_until_answered(&peer, 3);
        broker.request(&peer, b"client", &[b"compute"]);
        broker.beat_until_answered(&peer, 5);
        done.store(true, Ordering::Relaxed);
        broker.answered(&peer, b"client", &[b"done"]);
    });
}

#[test]
fn heartbeats_go_out_while_nobody_receives() {
    let broker = RawBroker::new(Protocol::V01);
    let _worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    broker.hear_beats(&peer, 5);
}

#[test]
fn a_busy_worker_stays_with_a_broker_that_is_silent_towards_it() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01).liveness(8)).unwrap();
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
            worker.close();
        });
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"compute"]);
        // Three times its patience.
        broker.hear_beats(&peer, 24);
        done.store(true, Ordering::Relaxed);
        broker.answered(&peer, b"client", &[b"done"]);
        broker.left(&peer);
    });
}

#[test]
fn a_worker_registers_again_after_silence_and_is_not_deaf_meanwhile() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol).liveness(8)).unwrap();
        thread::scope(|scope| {
            let _ending = Finally(|| worker.close());
            echoing(scope, &worker);
            let first = broker.registered("echo");
            let second = broker.registered("echo");
            assert_ne!(first, second, "a fresh connection");
            broker.request(&second, b"client", &[b"hi"]);
            broker.answered(&second, b"client", &[b"hi"]);
            worker.close();
        });
    }
}

#[test]
fn a_worker_registers_again_after_disconnect_and_is_not_deaf_meanwhile() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        thread::scope(|scope| {
            let _ending = Finally(|| worker.close());
            echoing(scope, &worker);
            let first = broker.registered("echo");
            broker.disconnect(&first);
            let second = broker.registered("echo");
            assert_ne!(first, second, "a fresh connection");
            broker.request(&second, b"client", &[b"hi"]);
            broker.answered(&second, b"client", &[b"hi"]);
            worker.close();
        });
    }
}

#[test]
fn a_worker_finds_a_broker_that_was_restarted() {
    let broker = RawBroker::new(Protocol::V01);
    let endpoint = broker.endpoint.clone();
    let worker = Worker::with_options(options(&broker, Protocol::V01).reconnect(BEAT).liveness(8)).unwrap();
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        echoing(scope, &worker);
        broker.registered("echo");
        drop(broker);
        let broker = loop {
            // The port may take a moment to be free.
            match RawBroker::try_at(1000, &endpoint, Protocol::V01) {
                Ok(broker) => break broker,
                Err(_) => thread::yield_now(),
            }
        };
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"hi"]);
        broker.answered(&peer, b"client", &[b"hi"]);
        worker.close();
    });
}

#[test]
fn an_answer_to_a_lost_connection_is_dropped_and_the_next_request_served() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"lost"]);
    let request = worker.recv().unwrap();
    broker.disconnect(&peer);
    // The worker does not register again before the handler is done: nobody could work on what came.
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        scope.spawn(|| {
            assert!(request.reply("nobody waits for this").is_ok());
            let request = worker.recv().unwrap();
            request.reply(request.body().clone()).unwrap();
        });
        let next = loop {
            let (from, message) = broker.recv_word();
            match from == peer {
                // The worker had not yet read the DISCONNECT: as good as the answer being dropped.
                true => assert_eq!(message.last().unwrap(), b"nobody waits for this"),
                false => break from,
            }
        };
        broker.request(&next, b"client", &[b"hi"]);
        broker.answered(&next, b"client", &[b"hi"]);
    });
}

#[test]
fn a_request_that_was_lost_before_anybody_took_it_is_not_handed_out() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let first = broker.registered("echo");
    broker.request(&first, b"client", &[b"lost"]);
    broker.disconnect(&first);
    // Nobody receives, so it is the beater that reads both.
    let second = broker.registered("echo");
    broker.request(&second, b"client", &[b"hi"]);
    assert_eq!(&worker.recv().unwrap().body()[0], b"hi");
}

#[test]
fn the_next_endpoint_is_tried_when_one_is_silent() {
    let silent = RawBroker::new(Protocol::V01);
    let broker = RawBroker::new(Protocol::V01);
    let both = format!("{},{}", silent.endpoint, broker.endpoint);
    let worker =
        Worker::with_options(WorkerOptions::new(&both, "echo").protocol(Protocol::V01).heartbeat(BEAT).liveness(8))
            .unwrap();
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        echoing(scope, &worker);
        silent.registered("echo");
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"hi"]);
        broker.answered(&peer, b"client", &[b"hi"]);
        worker.close();
    });
}

#[test]
fn the_next_endpoint_is_tried_when_nobody_listens_at_one() {
    let gone = RawBroker::new(Protocol::V01).endpoint;
    let broker = RawBroker::new(Protocol::V01);
    let both = format!("{gone},{}", broker.endpoint);
    let _worker =
        Worker::with_options(WorkerOptions::new(&both, "echo").protocol(Protocol::V01).heartbeat(BEAT).liveness(8))
            .unwrap();
    broker.registered("echo");
}

/// Beats of both sides and registrations, as they pass between a worker and a broker.
#[derive(Default)]
struct Passed {
    from_worker: AtomicUsize,
    from_broker: AtomicUsize,
    registrations: AtomicUsize,
    sent_away: AtomicBool,
}

/// Carries messages between one worker and a broker until both have beaten so often, or the worker is sent away.
fn relay(front: &RawBroker, broker: &str, beats: usize, passed: &Passed) {
    let back = zmq::Context::new().socket(zmq::DEALER).unwrap();
    back.set_linger(0).unwrap();
    back.connect(broker).unwrap();
    let mut worker = Vec::new();
    while passed.from_worker.load(Ordering::Relaxed) < beats || passed.from_broker.load(Ordering::Relaxed) < beats {
        let mut items = [front.poll_item(), back.as_poll_item(zmq::POLLIN)];
        assert!(zmq::poll(&mut items, 30_000).unwrap() > 0, "neither side says anything");
        let (from_worker, from_broker) = (items[0].is_readable(), items[1].is_readable());
        if from_worker {
            let (peer, message) = front.recv();
            worker = peer;
            match &message[2][..] {
                b"\x01" => passed.registrations.fetch_add(1, Ordering::Relaxed),
                b"\x04" => passed.from_worker.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            back.send_multipart(message, 0).unwrap();
        }
        if from_broker {
            let message = back.recv_multipart(0).unwrap();
            if message[2] == b"\x05" {
                passed.sent_away.store(true, Ordering::Relaxed);
                return;
            }
            if message[2] == b"\x04" {
                passed.from_broker.fetch_add(1, Ordering::Relaxed);
            }
            front.send(&worker, message);
        }
    }
}

#[test]
fn heartbeat_settings_may_differ_between_the_two_sides() {
    // A busy machine may hold a thread up, but not for the three beats that either side waits.
    let (fast, slow) = (Duration::from_millis(500), Duration::from_secs(5));
    let keeps_the_connection = |broker_beat: Duration, worker_beat: Duration, receiving: bool| {
        let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:*").heartbeat(broker_beat)).unwrap();
        let front = RawBroker::new(Protocol::V01);
        let worker = Worker::with_options(
            WorkerOptions::new(&front.endpoint, "echo").protocol(Protocol::V01).heartbeat(worker_beat),
        )
        .unwrap();
        let passed = Passed::default();
        thread::scope(|scope| {
            let _ending = Finally(|| worker.close());
            let worker = &worker;
            // The beater alone keeps the connection where nobody receives.
            scope.spawn(move || receiving.then(|| assert!(worker.recv().is_err())));
            relay(&front, broker.endpoint(), 10, &passed);
            worker.close();
        });
        assert!(!passed.sent_away.into_inner(), "{broker_beat:?} {worker_beat:?} {receiving}");
        assert_eq!(passed.registrations.into_inner(), 1, "{broker_beat:?} {worker_beat:?} {receiving}");
    };
    thread::scope(|scope| {
        for (broker_beat, worker_beat) in [(slow, fast), (fast, slow)] {
            for receiving in [true, false] {
                scope.spawn(move || keeps_the_connection(broker_beat, worker_beat, receiving));
            }
        }
    });
}
