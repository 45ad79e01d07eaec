//! Handles are opened and closed by the thousand, also with requests under way, and give back what they held.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::env;
use std::fs;
use std::process::Command;

use aio_peers::{block_on, until};
use majordomo::{Broker, Client, ClientOptions, ErrorKind, Worker, aio};

/// Where the broker is, for the process that is measured.
const ENDPOINT: &str = "MAJORDOMO_TEST_MANY";
/// Each opens and closes seven handles.
const ROUNDS: usize = 500;
const SPANS: usize = 4;
/// Clients that are open at once.
const AT_ONCE: usize = 100;

fn options(endpoint: &str) -> ClientOptions {
    ClientOptions::new(endpoint).timeout(aio_peers::PATIENCE * 3)
}

fn open_and_close(endpoint: &str, rounds: usize) {
    for _ in 0..rounds {
        let client = Client::with_options(options(endpoint)).unwrap();
        assert_eq!(client.request("mmi.service", "nobody").unwrap()[0], *b"404");
        drop(client);

        let client = aio::Client::with_options(options(endpoint)).unwrap();
        let queued = client.request("nobody", "x");
        let running = client.request("mine", "x");
        let worker = Worker::connect(endpoint, "mine").unwrap();
        let in_hand = worker.recv().unwrap();
        worker.close();
        // It comes from the worker that closed, and is in hand once more.
        let successor = aio::Worker::connect(endpoint, "mine").unwrap();
        let again = block_on(successor.recv()).unwrap();
        successor.close();
        client.close();
        for response in [queued, running] {
            assert_eq!(block_on(response).unwrap_err().kind(), ErrorKind::Closed);
        }
        drop((worker, successor, in_hand, again, client));

        // Dropped with what it has under way, and before its request's future.
        let client = aio::Client::with_options(options(endpoint)).unwrap();
        let response = client.request("nobody", "x");
        drop(client);
        drop(response);

        drop(Worker::connect(endpoint, "idle").unwrap());
        drop(Broker::start("tcp://127.0.0.1:0").unwrap());
    }
}

fn open_at_once(endpoint: &str) {
    let blocking: Vec<_> = (0..AT_ONCE).map(|_| Client::with_options(options(endpoint)).unwrap()).collect();
    let many: Vec<_> = (0..AT_ONCE).map(|_| aio::Client::with_options(options(endpoint)).unwrap()).collect();
    let responses: Vec<_> = many.iter().map(|client| client.request("mmi.service", "nobody")).collect();
    for client in &blocking {
        client.request("mmi.service", "nobody").unwrap();
    }
    for response in responses {
        block_on(response).unwrap();
    }
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn descriptors_and_threads() -> (usize, usize) {
    (entries("/proc/self/fd"), entries("/proc/self/task"))
}

/// Bytes that the allocator has given out.
fn allocated() -> usize {
    // SAFETY: no preconditions.
    unsafe { libc::mallinfo2() }.uordblks
}

/// Runs in a process without the broker, whose descriptors come and go with its peers.
fn give_back(endpoint: &str) {
    // While it is there the I/O thread does not end, and what it keeps of the others stays.
    let keeper = aio::Client::with_options(options(endpoint)).unwrap();
    block_on(keeper.request("mmi.service", "nobody")).unwrap();
    let before = descriptors_and_threads();
    open_and_close(endpoint, 10);
    open_at_once(endpoint);
    // The smallest of several figures: what an allocator keeps now and then shows in some, a leak in all.
    let growth = (0..SPANS).map(|_| {
        let before = allocated();
        open_and_close(endpoint, ROUNDS / SPANS);
        open_at_once(endpoint);
        allocated().saturating_sub(before)
    });
    let least = growth.min().unwrap();
    // The kernel lists a thread that was joined for a moment longer. There may be fewer than before: the connection on
    // which the keeper asked what the broker speaks is closed in the background.
    until("descriptors and threads to come back", || {
        let after = descriptors_and_threads();
        after.0 <= before.0 && after.1 <= before.1
    });
    assert!(least <= 64 * ROUNDS / SPANS + 4096, "{least} bytes are left of {} rounds", ROUNDS / SPANS);
}

#[test]
fn thousands_of_handles_give_back_what_they_hold() {
    if let Ok(endpoint) = env::var(ENDPOINT) {
        return give_back(&endpoint);
    }
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    // This program once more: what it counts is all that is in its process.
    let measured = Command::new(env::current_exe().unwrap())
        .args(["--exact", "thousands_of_handles_give_back_what_they_hold", "--nocapture"])
        .env(ENDPOINT, broker.endpoint())
        .status()
        .unwrap();
    assert!(measured.success());
}
