//! What becomes of clients and brokers in a forked child: handles from before say `Closed`, new ones work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod blocking_peers;

use std::ops::ControlFlow;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blocking_peers::*;
use majordomo::{Broker, Client, ClientOptions, ErrorKind, Message, Protocol, RequestOptions, Result};

fn patient(endpoint: &str) -> Client {
    Client::with_options(ClientOptions::new(endpoint).timeout(LONG)).unwrap()
}

fn is_closed<T>(result: Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::Closed)
}

/// Runs `body` in a child; whether it was true for all of it, and the child then ended as a program does.
fn in_child(body: impl FnOnce() -> bool) {
    // SAFETY: the child has this thread only, and uses no lock that another one may have held: that is what is tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: no preconditions. A child that hangs is ended by this.
        unsafe { libc::alarm(60) };
        // Not `_exit`: whatever runs at the end of a program shall find nothing to wait for.
        exit(if body() { 0 } else { 1 });
    }
    assert_eq!(status_of(pid), 0, "the child's status");
}

fn status_of(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: the child is ours, and the status is a live variable.
    while unsafe { libc::waitpid(child, &mut status, 0) } == -1 {}
    status
}

#[test]
fn handles_from_before_are_closed_in_the_child_and_go_on_in_the_parent() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let endpoint = broker.endpoint().to_owned();
    let echo = echo(&endpoint, "echo", 3);
    let client = patient(&endpoint);
    client.request("echo", "before").unwrap();
    let streaming = Client::with_options(ClientOptions::new(&endpoint).protocol(Protocol::V02)).unwrap();
    let parts = streaming.stream("nobody", Message::new()).unwrap();
    let mut handles = Some((broker, client, parts));
    in_child(|| {
        let (broker, client, mut parts) = handles.take().unwrap();
        let closed = is_closed(client.request("echo", "from the child"))
            && is_closed(client.stream("echo", "from the child"))
            && parts.next().is_some_and(is_closed)
            && is_closed(broker.stats())
            && is_closed(broker.wait())
            && is_closed(broker.stop());
        client.close();
        drop((broker, client, parts));
        // The broker runs in the parent; what is new in the child works.
        let fresh = patient(&endpoint).request("echo", "child").is_ok_and(|reply| &reply[0] == b"child");
        let own = Broker::start("tcp://127.0.0.1:0").is_ok_and(|broker| {
            let asked = patient(broker.endpoint()).request("mmi.service", "echo");
            asked.is_ok_and(|reply| &reply[0] == b"404") && broker.stop().is_ok()
        });
        closed && fresh && own
    });
    let (broker, client, parts) = handles.unwrap();
    assert_eq!(&client.request("echo", "parent").unwrap()[0], b"parent");
    drop(parts);
    echo.join().unwrap();
    broker.stop().unwrap();
}

#[test]
fn a_fork_in_the_middle_of_a_call_ends_the_call_in_the_child_only() {
    let (broker, endpoint) = Raw::router();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let answering = thread::spawn(move || {
        let request = broker.recv();
        seen.store(true, Ordering::Release);
        // The answer comes only when the parent has seen its child end.
        let done = broker.recv();
        assert_eq!(done[0], b"done");
        broker.send(&[&request[0], b"", b"MDPC01", b"echo", b"for the parent"]);
        broker
    });
    let options = ClientOptions::new(&endpoint).protocol(Protocol::V01).timeout(LONG);
    let client = Client::with_options(options).unwrap();
    let mut child = None;
    let outcome = client.request_with("echo", "hello".into(), &RequestOptions::default(), &mut |_| {
        // In the middle: the request is out, the reply is not there.
        if child.is_none() && asked.load(Ordering::Acquire) {
            // SAFETY: as in `in_child`.
            let pid = unsafe { libc::fork() };
            child = Some(pid);
            if pid > 0 {
                assert_eq!(status_of(pid), 0, "the child's status");
                let done = Raw::named_dealer(b"done", &endpoint);
                done.send(&[b""]);
                done.socket.set_linger(PATIENCE as i32).unwrap();
            }
        }
        ControlFlow::Continue(())
    });
    if child == Some(0) {
        exit(if is_closed(outcome) { 0 } else { 1 });
    }
    assert_eq!(&outcome.unwrap()[0], b"for the parent");
    answering.join().unwrap();
}

#[test]
fn a_fork_in_the_middle_of_an_mdpx_call_ends_the_call_in_the_child_only() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let client = Client::with_options(ClientOptions::new(broker.endpoint()).protocol(Protocol::X1)).unwrap();
    let (mut child, mut serving) = (None, None);
    let options = RequestOptions { deadline: Some(LONG), ..RequestOptions::default() };
    let outcome = client.request_with("echo", "hello".into(), &options, &mut |_| {
        if child.is_none() && broker.stats().unwrap().queued == 1 {
            // SAFETY: as in `in_child`.
            let pid = unsafe { libc::fork() };
            child = Some(pid);
            if pid > 0 {
                assert_eq!(status_of(pid), 0, "the child's status");
                serving = Some(echo(broker.endpoint(), "echo", 1));
            }
        }
        ControlFlow::Continue(())
    });
    if child == Some(0) {
        exit(if is_closed(outcome) { 0 } else { 1 });
    }
    assert_eq!(&outcome.unwrap()[0], b"hello", "the child has cancelled nothing");
    serving.unwrap().join().unwrap();
}

#[test]
fn forks_at_any_moment_leave_children_that_end() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let client = patient(broker.endpoint());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Locks, turns and sockets are taken and left all the time.
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    client.request("mmi.service", "echo").unwrap();
                }
            });
        }
        for _ in 0..20 {
            in_child(|| {
                is_closed(client.request("mmi.service", "echo"))
                    && is_closed(broker.stats())
                    && patient(broker.endpoint()).request("mmi.service", "echo").is_ok()
            });
        }
        done.store(true, Ordering::Relaxed);
    });
}
