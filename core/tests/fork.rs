//! What becomes of a blocking worker in a forked child: handles from before say `Closed`, new ones work.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod worker_peers;

use std::ops::ControlFlow;
use std::process::exit;
use std::thread;

use majordomo::{ErrorKind, Protocol, Worker};
use worker_peers::{Finally, PATIENCE, RawBroker, kind, options};

/// Runs `body` in a child; whether it was true for all of it, and the child then ended as a program does.
fn in_child(body: impl FnOnce() -> bool) {
    // SAFETY: the child has this thread only, and uses no lock that another one may have held: that is what is tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // A child that hangs is ended by this.
        // SAFETY: no preconditions.
        unsafe { libc::alarm(PATIENCE.as_secs() as u32) };
        // Not `_exit`: whatever runs at the end of a program shall find nothing to wait for.
        exit(if body() { 0 } else { 1 });
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status is a live variable.
    while unsafe { libc::waitpid(pid, &mut status, 0) } == -1 {}
    assert_eq!(status, 0, "the child's status");
}

#[test]
fn a_worker_from_before_is_closed_in_the_child_and_goes_on_in_the_parent() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let peer = broker.registered("echo");
    broker.request(&peer, b"client", &[b"hi"]);
    let request = worker.recv().unwrap();
    // Each message that now reaches the worker's socket is one that the child must not look at.
    broker.beat(&peer);
    let mut handles = Some((worker, request));
    in_child(|| {
        let (worker, request) = handles.take().unwrap();
        let closed = kind(worker.recv()) == Some(ErrorKind::Closed)
            && kind(worker.recv_with(None, &mut |_| ControlFlow::Break(()))) == Some(ErrorKind::Closed)
            && kind(request.reply("from the child")) == Some(ErrorKind::Closed)
            && kind(request.partial("from the child")) == Some(ErrorKind::Closed)
            && kind(request.fail(500, "from the child")) == Some(ErrorKind::Closed)
            && worker.iter().next().is_none()
            && !worker.is_busy();
        worker.drain();
        worker.close();
        drop(request);
        drop(worker);
        closed
    });
    let (worker, request) = handles.unwrap();
    request.reply("from the parent").unwrap();
    broker.answered(&peer, b"client", &[b"from the parent"]);
    drop(worker);
    broker.left(&peer);
}

#[test]
fn a_child_may_make_workers_of_its_own() {
    let broker = RawBroker::new(Protocol::V02);
    let options = options(&broker, Protocol::V02);
    let _before = Worker::with_options(options.clone()).unwrap();
    broker.registered("echo");
    thread::scope(|scope| {
        // The broker's socket belongs to this thread; the child is forked by another.
        let child = scope.spawn(|| {
            in_child(|| {
                let Ok(worker) = Worker::with_options(options.clone()) else { return false };
                let Ok(request) = worker.recv() else { return false };
                let answered = request.reply(request.body().clone()).is_ok();
                drop(worker);
                answered
            });
        });
        let peer = broker.registered("echo");
        broker.request(&peer, b"client", &[b"hi"]);
        broker.answered(&peer, b"client", &[b"hi"]);
        broker.left(&peer);
        child.join().unwrap();
    });
}

#[test]
fn a_fork_in_the_middle_of_a_wait_ends_the_wait_in_the_child() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    let mut child = None;
    let result = worker.recv_with(None, &mut |_| match child {
        None => {
            // SAFETY: as in `in_child`.
            let pid = unsafe { libc::fork() };
            child = Some(pid);
            ControlFlow::Continue(())
        }
        Some(_) => ControlFlow::Break(()),
    });
    if child == Some(0) {
        exit(if kind(result) == Some(ErrorKind::Closed) { 0 } else { 1 });
    }
    assert_eq!(kind(result), Some(ErrorKind::Cancelled));
    let mut status = 0;
    // SAFETY: the child is ours, and the status is a live variable.
    while unsafe { libc::waitpid(child.unwrap(), &mut status, 0) } == -1 {}
    assert_eq!(status, 0, "the child's status");
}

#[test]
fn forks_at_any_moment_leave_children_that_end() {
    let broker = RawBroker::new(Protocol::V01);
    let worker = Worker::with_options(options(&broker, Protocol::V01)).unwrap();
    thread::scope(|scope| {
        // Locks and turns are taken and freed all the time.
        scope.spawn(|| worker_peers::echo(&worker));
        scope.spawn(|| {
            let _ending = Finally(|| worker.close());
            for _ in 0..30 {
                in_child(|| kind(worker.recv()) == Some(ErrorKind::Closed) && !worker.is_busy());
            }
        });
        let peer = broker.registered("echo");
        loop {
            broker.request(&peer, b"client", &[b"hi"]);
            if broker.recv_word().1[2] == b"\x05" {
                break;
            }
        }
    });
}
