//! The one I/O thread: who shares it, when it ends, and what a fork makes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::sync::{Mutex, MutexGuard, PoisonError};

use aio_peers::{RawBroker, block_on, threads_named, until};
use majordomo::aio::{Client, Worker};
use majordomo::{Broker, ClientOptions, ErrorKind, Message, Protocol};

const THREAD: &str = "majordomo-aio";

/// These tests count threads, so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    until("the thread of the test before to end", || threads_named(THREAD) == 0);
    guard
}

/// The raw brokers speak 0.1.
fn v01(endpoint: &str) -> ClientOptions {
    ClientOptions::new(endpoint).protocol(Protocol::V01)
}

/// The last handle has joined the thread; the kernel may list it for a moment longer.
fn ended() {
    until("the thread to end", || threads_named(THREAD) == 0);
}

#[test]
fn a_hundred_clients_and_workers_share_one_thread_which_ends_with_the_last_of_them() {
    let _alone = alone();
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let workers: Vec<_> =
        (0..100).map(|number| Worker::connect(broker.endpoint(), &format!("echo{number}")).unwrap()).collect();
    let clients: Vec<_> = (0..100).map(|_| Client::connect(broker.endpoint()).unwrap()).collect();
    let responses: Vec<_> =
        clients.iter().enumerate().map(|(number, client)| client.request(&format!("echo{number}"), "hi")).collect();
    for (worker, response) in workers.iter().zip(responses) {
        let request = block_on(worker.recv()).unwrap();
        request.reply(request.service().to_owned()).unwrap();
        assert_eq!(block_on(response).unwrap(), Message::from(request.service()));
    }
    assert_eq!(threads_named(THREAD), 1);
    drop((workers, clients));
    ended();
}

#[test]
fn after_the_last_handle_the_next_one_begins_anew() {
    let _alone = alone();
    let broker = RawBroker::echo();
    for _ in 0..20 {
        let client = Client::with_options(v01(&broker.endpoint)).unwrap();
        assert_eq!(block_on(client.request("echo", "hi")).unwrap(), Message::from("hi"));
        drop(client);
        ended();
    }
}

#[test]
fn the_last_handle_may_be_dropped_by_a_waker_on_the_io_thread_itself() {
    let _alone = alone();
    struct Holding(Mutex<Option<Client>>);
    impl std::task::Wake for Holding {
        fn wake(self: std::sync::Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let broker = RawBroker::echo();
    let client = Client::with_options(v01(&broker.endpoint)).unwrap();
    let mut response = client.request("echo", "hi");
    let waker = std::task::Waker::from(std::sync::Arc::new(Holding(Mutex::new(Some(client)))));
    let mut context = std::task::Context::from_waker(&waker);
    let _ = std::future::Future::poll(std::pin::Pin::new(&mut response), &mut context);
    assert!(block_on(&mut response).is_ok());
    drop(response);
    drop(waker);
    ended();
}

#[test]
fn any_executor_will_do() {
    let _alone = alone();
    let broker = RawBroker::echo();
    let client = Client::with_options(v01(&broker.endpoint)).unwrap();
    let ask = |number: u32| {
        let client = client.clone();
        async move {
            let body = number.to_string();
            assert_eq!(client.request("echo", body.clone()).await.unwrap(), Message::from(body));
            number
        }
    };
    assert_eq!(block_on(ask(1)), 1);
    assert_eq!(pollster::block_on(ask(2)), 2);
    smol::block_on(async {
        let tasks: Vec<_> = (0..50).map(|number| smol::spawn(ask(number))).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await as usize, number);
        }
    });
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    tokio.block_on(async {
        let tasks: Vec<_> = (0..50).map(|number| tokio::spawn(ask(number))).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap() as usize, number);
        }
    });
}

#[test]
fn in_a_forked_child_old_handles_are_closed_and_new_ones_work() {
    let _alone = alone();
    let broker = RawBroker::echo();
    let client = Client::with_options(v01(&broker.endpoint)).unwrap();
    let worker = Worker::connect(&broker.endpoint, "nothing").unwrap();
    let waiting = worker.recv();
    let response = client.request("echo", "before");
    // SAFETY: the child only runs the closure below and ends without returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let closed = |error: majordomo::Error| {
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert!(error.to_string().contains("fork"), "{error}");
            };
            closed(block_on(client.request("echo", "hi")).unwrap_err());
            closed(block_on(response).unwrap_err());
            closed(block_on(waiting).map(|_| ()).unwrap_err());
            client.close();
            worker.close();
            drop((client, worker));
            let fresh = Client::with_options(v01(&broker.endpoint)).unwrap();
            assert_eq!(block_on(fresh.request("echo", "after")).unwrap(), Message::from("after"));
            drop(fresh);
        }));
        // SAFETY: ends the child at once, without the destructors of what belongs to the parent.
        unsafe { libc::_exit(i32::from(passed.is_err())) };
    }
    assert_eq!(block_on(response).unwrap(), Message::from("before"));
    let mut status = -1;
    until("the child to end", || {
        // SAFETY: waits for our own child.
        unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) == child }
    });
    assert_eq!(status, 0, "the child failed");
    assert_eq!(block_on(client.request("echo", "still")).unwrap(), Message::from("still"));
}

#[test]
fn dropping_everything_without_a_broker_does_not_wait_for_one() {
    let _alone = alone();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let worker = Worker::connect(&format!("tcp://{free}"), "echo").unwrap();
    let client = Client::connect(&format!("tcp://{free}")).unwrap();
    let response = client.request("echo", "hi");
    drop((worker, client, response));
    ended();
}
