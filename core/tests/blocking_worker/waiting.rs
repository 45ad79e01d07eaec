//! How `recv` waits, and options that leave nothing to wait for.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use majordomo::{ErrorKind, Message, Protocol, Wake, Worker, WorkerOptions};

use crate::worker_peers::{BEAT, Finally, PATIENCE, RawBroker, kind, options};

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
        let _ending = Finally(|| worker.close());
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

/// Makes SIGUSR1 interrupt what a thread waits in, and do nothing else.
fn notice_signals() {
    extern "C" fn noticed(_: libc::c_int) {}
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts what the thread waits in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = noticed as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
}

#[test]
fn a_recv_that_asks_nobody_goes_on_after_signals() {
    notice_signals();
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let _ending = Finally(|| worker.close());
        let waiting = scope.spawn(|| {
            // SAFETY: no preconditions.
            sender.send(unsafe { libc::pthread_self() }).unwrap();
            worker.recv().unwrap().reply("answer").unwrap();
        });
        let thread = receiver.recv().unwrap();
        for _ in 0..1000 {
            // SAFETY: the thread is joined at the end of the scope only.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            thread::yield_now();
        }
        assert!(!waiting.is_finished());
        broker.request(&peer, b"client", &[b"hi"]);
        broker.answered(&peer, b"client", &[b"answer"]);
    });
}

#[test]
fn a_signal_is_asked_about_at_once() {
    notice_signals();
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
        let _ending = Finally(|| worker.close());
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
