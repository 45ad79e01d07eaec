//! The broker on real sockets, with peers that contain none of our code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod blocking_peers;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use blocking_peers::*;
use majordomo::{Broker, BrokerOptions, ErrorKind};

fn broker() -> Broker {
    Broker::start("tcp://127.0.0.1:0").unwrap()
}

#[test]
fn a_stopped_broker_says_disconnect_and_frees_its_address() {
    let first = broker();
    let endpoint = first.endpoint().to_owned();
    let old = worker_01(&endpoint, "echo");
    let new = worker_02(&endpoint, "echo");
    while first.stats().unwrap().workers < 2 {
        std::thread::yield_now();
    }
    first.stop().unwrap();
    assert_eq!(old.recv_work(), [b"".to_vec(), b"MDPW01".to_vec(), vec![5]]);
    assert_eq!(new.recv_work(), [b"MDPW02".to_vec(), vec![6]]);
    assert_eq!(first.stats().err().map(|error| error.kind()), Some(ErrorKind::Closed));
    first.stop().unwrap();
    let second = Broker::start(&endpoint).unwrap();
    assert_eq!(second.endpoint(), endpoint);
}

#[test]
fn several_endpoints_lead_to_the_same_services() {
    let directory = std::env::temp_dir().join(format!("majordomo-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = format!("ipc://{}", directory.join("broker").display());
    let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0,tcp://127.0.0.1:*").bind(&path)).unwrap();
    assert_eq!(broker.endpoints().len(), 3);
    let echo = echo(&broker.endpoints()[0], "echo", 3);
    for endpoint in broker.endpoints() {
        let client = Raw::dealer(endpoint);
        client.send(&[b"", b"MDPC01", b"echo", endpoint.as_bytes()]);
        assert_eq!(client.recv()[3], endpoint.as_bytes());
    }
    echo.join().unwrap();
    broker.stop().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn clients_and_workers_of_both_versions_work_together() {
    let broker = broker();
    let worker = worker_02(broker.endpoint(), "stream");
    let (old, new) = (Raw::dealer(broker.endpoint()), Raw::dealer(broker.endpoint()));
    let ask = [b"MDPC02".as_slice(), &[1], b"stream", b"go"];
    for (client, request) in [(&old, [b"".as_slice(), b"MDPC01", b"stream", b"go"]), (&new, ask)] {
        client.send(&request);
        let request = worker.recv_work();
        assert_eq!(
            (request[0].as_slice(), request[1].as_slice(), request[4].as_slice()),
            (&b"MDPW02"[..], &[2][..], &b"go"[..])
        );
        worker.send(&[b"MDPW02", &[3], &request[2], b"", b"a", b"b"]);
        worker.send(&[b"MDPW02", &[4], &request[2], b"", b"c"]);
    }
    let text =
        |frames: Frames| frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect::<Vec<_>>();
    assert_eq!(text(old.recv()), ["", "MDPC01", "stream", "a", "b", "c"]);
    assert_eq!(text(new.recv()), ["MDPC02", "\u{2}", "stream", "a", "b"]);
    assert_eq!(text(new.recv()), ["MDPC02", "\u{3}", "stream", "c"]);
}

#[test]
fn a_request_survives_the_loss_of_its_worker() {
    // Heartbeats play no part in it: they are set to a week.
    let broker =
        Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").heartbeat(Duration::from_secs(7 * 24 * 3600)))
            .unwrap();
    let first = worker_01(broker.endpoint(), "echo");
    let client = Raw::dealer(broker.endpoint());
    client.send(&[b"", b"MDPC01", b"echo", b"hello"]);
    assert_eq!(first.recv_work()[5], b"hello");
    let second = worker_01(broker.endpoint(), "echo");
    drop(first);
    let request = second.recv_work();
    assert_eq!(request[5], b"hello");
    answer_01(&second, &request, &[b"world"]);
    assert_eq!(client.recv()[3], b"world");
    let stats = broker.stats().unwrap();
    assert_eq!((stats.counters.workers_lost, stats.counters.redelivered, stats.counters.answered), (1, 1, 1));
}

#[test]
fn a_burst_of_replies_reaches_a_client_that_reads_slowly() {
    const PARTS: u32 = 100_000;
    let broker = broker();
    let worker = worker_02(broker.endpoint(), "burst");
    let client = Raw::new_slow_dealer(broker.endpoint());
    client.send(&[b"MDPC02", &[1], b"burst"]);
    let request = worker.recv_work();
    let mut body = vec![0; 1024];
    for number in 0..PARTS {
        body[..4].copy_from_slice(&number.to_be_bytes());
        worker.send(&[b"MDPW02", &[if number + 1 < PARTS { 3 } else { 4 }], &request[2], b"", &body]);
    }
    // The client starts to read when the broker has taken everything in.
    while broker.stats().unwrap().counters.answered == 0 {
        thread::yield_now();
    }
    assert!(broker.stats().unwrap().backlog > 0, "the client was not slow");
    for number in 0..PARTS {
        let part = client.recv();
        assert_eq!(part[1], [if number + 1 < PARTS { 2 } else { 3 }]);
        assert_eq!(part[3][..4], number.to_be_bytes());
    }
    assert_eq!(broker.stats().unwrap().counters.undeliverable, 0);
}

#[test]
fn a_message_of_100_megabytes_passes() {
    let broker = broker();
    let echo = echo(broker.endpoint(), "echo", 1);
    let client = Raw::dealer(broker.endpoint());
    let body: Vec<u8> = (0..100_000_000u32).map(|number| (number % 251) as u8).collect();
    client.send(&[b"", b"MDPC01", b"echo", &body, b"", &body[..3]]);
    let reply = client.recv();
    assert!(reply[3] == body && reply[4].is_empty() && reply[5] == body[..3]);
    echo.join().unwrap();
}

#[test]
fn a_message_over_the_limit_hurts_nobody_else() {
    let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").max_message_bytes(1 << 20)).unwrap();
    let echo = echo(broker.endpoint(), "echo", 1);
    let hostile = Raw::dealer(broker.endpoint());
    hostile.send(&[b"", b"MDPC01", b"echo", &vec![0; 2 << 20]]);
    let client = Raw::dealer(broker.endpoint());
    client.send(&[b"", b"MDPC01", b"echo", b"fine"]);
    assert_eq!(client.recv()[3], b"fine");
    echo.join().unwrap();
}

#[test]
fn hostile_bytes_leave_the_broker_at_work() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    println!("SEED={seed}");
    let mut random = seed;
    let mut next = move |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit as u64) as usize
    };
    let broker = broker();
    let words: [&[u8]; 14] = [
        b"",
        b"MDPC01",
        b"MDPW01",
        b"MDPC02",
        b"MDPW02",
        &[1],
        &[2],
        &[3],
        &[4],
        &[5],
        &[6],
        b"echo",
        b"mmi.service",
        &[0xff; 300],
    ];
    for _ in 0..20 {
        let peer = Raw::dealer(broker.endpoint());
        for _ in 0..200 {
            let frames: Vec<&[u8]> = (0..1 + next(7)).map(|_| words[next(words.len())]).collect();
            peer.send(&frames);
        }
        // A question that is answered: the broker has read what came before it.
        peer.send(&[b"", b"MDPC01", b"mmi.protocols"]);
        while peer.recv().get(2).is_none_or(|frame| frame != b"mmi.protocols") {}
    }
    // Not of ZeroMQ at all.
    let address = broker.endpoint().strip_prefix("tcp://").unwrap();
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 100], &[0; 1000], b"\xff\0\0\0\0\0\0\0\0\x7f\xff\xff"] {
        use std::io::Write;
        let _ = std::net::TcpStream::connect(address).unwrap().write_all(bytes);
    }
    let echo = echo(broker.endpoint(), "after", 1);
    let client = Raw::dealer(broker.endpoint());
    client.send(&[b"", b"MDPC01", b"after", b"still here"]);
    assert_eq!(client.recv()[3], b"still here");
    echo.join().unwrap();
}

#[test]
fn an_address_in_use_and_impossible_options_are_errors() {
    let broker = broker();
    assert_eq!(Broker::start(broker.endpoint()).err().map(|error| error.kind()), Some(ErrorKind::Internal));
    for endpoint in ["", "tcp://", "udp://127.0.0.1:1", "tcp://127.0.0.1:0\0"] {
        assert_eq!(Broker::start(endpoint).err().map(|error| error.kind()), Some(ErrorKind::InvalidArgument));
    }
}

#[test]
fn waiting_ends_when_another_thread_stops_the_broker_or_the_caller_gives_up() {
    let broker = Arc::new(broker());
    let outcome = broker.wait_with(&mut |_| ControlFlow::Break(()));
    assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::Cancelled));
    let waiting = thread::spawn({
        let broker = broker.clone();
        move || broker.wait()
    });
    broker.stop().unwrap();
    waiting.join().unwrap().unwrap();
}
