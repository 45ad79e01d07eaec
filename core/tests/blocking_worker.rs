//! Promises of the blocking worker, kept on real sockets towards a broker that is a bare ROUTER.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod worker_peers;

use std::hint;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use majordomo::{ErrorKind, Message, Protocol, Wake, Worker, WorkerOptions};
use worker_peers::{BEAT, PATIENCE, RawBroker, echoing, kind, options};

#[test]
fn requests_are_answered_in_the_frames_of_the_specification() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        thread::scope(|scope| {
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
fn heartbeats_go_out_while_the_handler_computes() {
    for protocol in [Protocol::V01, Protocol::V02] {
        let broker = RawBroker::new(protocol);
        let worker = Worker::with_options(options(&broker, protocol)).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
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
fn a_broker_that_beats_fast_hears_a_slow_worker_that_computes_at_its_own_pace() {
    let broker = RawBroker::new(Protocol::V01);
    // At its own pace alone, this worker would say nothing for an hour.
    let slow = options(&broker, Protocol::V01).heartbeat(Duration::from_secs(3600));
    let worker = Worker::with_options(slow).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let request = worker.recv().unwrap();
            while !done.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
            request.reply("done").unwrap();
        });
        let peer = broker.registered("echo");
        for _ in 0..2 {
            broker.beat(&peer);
            broker.hear_beats(&peer, 1);
        }
        broker.request(&peer, b"client", &[b"compute"]);
        broker.hear_beats(&peer, 5);
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
        echoing(scope, &worker);
        broker.registered("echo");
        drop(broker);
        let broker = again(&endpoint);
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
    let worker = Worker::with_options(WorkerOptions::new(&both, "echo").heartbeat(BEAT).liveness(8)).unwrap();
    thread::scope(|scope| {
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
    let _worker = Worker::with_options(WorkerOptions::new(&both, "echo").heartbeat(BEAT).liveness(8)).unwrap();
    broker.registered("echo");
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

#[test]
fn a_drain_finishes_the_request_in_hand_and_says_disconnect() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01).drain_timeout(PATIENCE)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    thread::scope(|scope| {
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

#[test]
fn recv_gives_up_after_its_timeout() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(150)] {
        let received = worker.recv_with(Some(timeout), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(received.is_none());
    }
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let received = worker.recv_with(Some(PATIENCE), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(received.unwrap().body(), &Message::from("hi"));
}

#[test]
fn a_waiting_recv_asks_whether_to_go_on() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let mut asked = 0;
    let result = worker.recv_with(None, &mut |wake| {
        assert_eq!(wake, Wake::Tick);
        asked += 1;
        if asked == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(kind(result), Some(ErrorKind::Cancelled));
    // The worker is as good as before.
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    assert_eq!(worker.recv().unwrap().body(), &Message::from("hi"));
}

#[test]
fn a_recv_that_waits_for_its_turn_asks_too() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(kind(worker.recv()), Some(ErrorKind::Closed)));
        while !worker.is_busy() {
            thread::yield_now();
        }
        let result = worker.recv_with(None, &mut |_| ControlFlow::Break(()));
        assert_eq!(kind(result), Some(ErrorKind::Cancelled));
        assert!(worker.recv_with(Some(BEAT), &mut |_| ControlFlow::Continue(())).unwrap().is_none());
        worker.close();
    });
}

#[test]
fn a_signal_is_asked_about_at_once() {
    extern "C" fn noticed(_: libc::c_int) {}
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts what the thread waits in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = noticed as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    let mut in_hand = None;
    // First while it waits for messages, then while it waits for the handler.
    for _ in 0..2 {
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                // SAFETY: no preconditions.
                sender.send(unsafe { libc::pthread_self() }).unwrap();
                let result = worker.recv_with(None, &mut |wake| match wake {
                    Wake::Interrupted => ControlFlow::Break(()),
                    Wake::Tick => ControlFlow::Continue(()),
                });
                assert_eq!(kind(result), Some(ErrorKind::Cancelled));
            });
            let thread = receiver.recv().unwrap();
            // A signal that comes before the wait begins interrupts nothing, so it is sent until it does.
            while !waiting.is_finished() {
                // SAFETY: the thread is joined at the end of the scope only.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                thread::sleep(Duration::from_millis(1));
            }
        });
        if in_hand.is_none() {
            broker.request(&peer, b"client", &[b"hi"]);
            in_hand = Some(worker.recv().unwrap());
        }
    }
}

#[test]
fn a_recv_that_waits_for_the_handler_goes_on_when_another_thread_answers() {
    const ROUNDS: usize = 50;
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let (sender, receiver) = mpsc::channel::<majordomo::Request>();
    let mut ticks = 0;
    thread::scope(|scope| {
        scope.spawn(move || {
            for request in receiver {
                request.reply(request.body().clone()).unwrap();
            }
        });
        let peers = scope.spawn(move || {
            let peer = broker.registered("echo");
            for round in 0..ROUNDS {
                let body = round.to_string();
                broker.request(&peer, b"client", &[body.as_bytes()]);
                broker.answered(&peer, b"client", &[body.as_bytes()]);
            }
        });
        for _ in 0..ROUNDS {
            let mut check = |_| {
                ticks += 1;
                ControlFlow::Continue(())
            };
            sender.send(worker.recv_with(None, &mut check).unwrap().unwrap()).unwrap();
        }
        drop(sender);
        peers.join().unwrap();
    });
    assert!(ticks < ROUNDS, "{ticks} ticks: every request waited for one");
}

#[test]
fn options_that_cannot_be_are_refused() {
    let options = || WorkerOptions::new("tcp://127.0.0.1:5555", "echo");
    for refused in [
        options().concurrency(2),
        options().concurrency(0),
        options().heartbeat(Duration::ZERO),
        options().liveness(0),
        WorkerOptions::new("tcp://127.0.0.1:5555", "mmi.service"),
        WorkerOptions::new("tcp://127.0.0.1:5555", ""),
        WorkerOptions::new("", "echo"),
        WorkerOptions::new("nonsense", "echo"),
        WorkerOptions::new("tcp://127.0.0.1:notaport", "echo"),
    ] {
        assert_eq!(kind(Worker::with_options(refused.clone())), Some(ErrorKind::InvalidArgument), "{refused:?}");
    }
}

/// Listens where another broker has just closed: its port may take a moment to be free.
fn again(endpoint: &str) -> RawBroker {
    loop {
        let probe = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        let free = probe.bind(endpoint).is_ok();
        drop(probe);
        if free {
            if let Ok(broker) = std::panic::catch_unwind(|| RawBroker::at(endpoint, Protocol::V01)) {
                return broker;
            }
        }
        thread::yield_now();
    }
}
