//! A process that has run out of descriptors. It has this one test: the limit is all the process's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs::File;
use std::time::Duration;

use majordomo::{Broker, Client, ClientOptions, ErrorKind, Message, Worker, aio};

/// Nobody listens there, so a client that has all it needs gets the same failure.
const NOBODY: &str = "tcp://127.0.0.1:1";

#[test]
fn without_descriptors_the_broker_is_unreachable_and_the_process_goes_on() {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: the limit is live.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    // With each number of free descriptors it is another one that is missing.
    for free in 0..32 {
        let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        taken.truncate(taken.len() - free);
        for asynchronous in [false, true] {
            let kind = ask(asynchronous).unwrap_err().kind();
            assert_eq!(
                kind,
                ErrorKind::BrokerUnreachable,
                "with {free} free descriptors, asynchronous: {asynchronous}"
            );
        }
        let made = [Worker::connect(NOBODY, "echo").map(drop), Broker::start("tcp://127.0.0.1:*").map(drop)];
        for error in made.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::BrokerUnreachable, "with {free} free descriptors: {error}");
        }
    }
}

fn ask(asynchronous: bool) -> majordomo::Result<Message> {
    let mut options = ClientOptions::new(NOBODY);
    (options.timeout, options.retries) = (Duration::from_millis(20), 1);
    if asynchronous {
        pollster::block_on(aio::Client::with_options(options)?.request("echo", "x"))
    } else {
        Client::with_options(options)?.request("echo", "x")
    }
}
