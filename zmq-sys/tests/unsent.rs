//! What the operating system holds of a connection whose peer does not read.
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use std::fs;
use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sockets::bare::{Bare, last};
use sockets::{Context, Socket, TOO_LONG_MS};
use zmq_sys::*;

/// Of this project's libzmq alone.
const ZMQ_TCP_NOTSENT_LOWAT: u32 = 10_001;

const BOUND: usize = 100_000;
/// What is written in one piece may go beyond the bound.
const PIECE: usize = 1 << 16;
const MESSAGES: usize = 200;

#[test]
fn a_connection_that_nobody_reads_from_takes_little_of_the_operating_system_where_that_is_wanted() {
    let context = Context::new();
    let sockets = [ZMQ_ROUTER, ZMQ_DEALER, ZMQ_ROUTER].map(|kind| context.socket(kind));
    let [accepting, connecting, unbounded] = &sockets;
    for bounded in [accepting, connecting] {
        bounded.set_int(ZMQ_TCP_NOTSENT_LOWAT, BOUND as i32).expect("an option of this library");
    }
    let mut accepted = [accept(accepting), connect(connecting)];
    let other = accept(unbounded);
    // One I/O thread writes to all of them in turn: it would have written as much to the first.
    let start = Instant::now();
    while unsent_to(other.port()) < 4 * (BOUND + PIECE) {
        assert!(start.elapsed() < Duration::from_millis(TOO_LONG_MS.unsigned_abs().into()), "nothing is written");
        sleep(Duration::from_millis(1));
    }
    for peer in &mut accepted {
        let held = unsent_to(peer.port());
        assert!((BOUND / 2..=BOUND + PIECE).contains(&held), "{held} bytes");
        for number in 0..MESSAGES {
            assert_eq!(peer.read(), (0, body(number)), "{number}");
        }
    }
}

/// A peer of a listening ROUTER, which has far more for it than it can be given.
fn accept(router: &Socket) -> Bare {
    router.set_int(ZMQ_SNDHWM, 0).expect("an option");
    let mut peer = Bare::connect(&router.bind("tcp://127.0.0.1:*"));
    peer.write(&last(b"hello")).expect("room");
    let sender = router.receive().swap_remove(0);
    (0..MESSAGES).for_each(|number| router.send(&[&sender, &body(number)]));
    peer
}

/// The same for a DEALER that connects.
fn connect(dealer: &Socket) -> Bare {
    dealer.set_int(ZMQ_SNDHWM, 0).expect("an option");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    dealer.connect(&format!("tcp://{}", listener.local_addr().expect("an address")));
    (0..MESSAGES).for_each(|number| dealer.send(&[&body(number)]));
    Bare::accept(&listener)
}

fn body(number: usize) -> Vec<u8> {
    vec![number as u8; PIECE]
}

/// How many bytes wait to be sent to this port of this host.
fn unsent_to(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("the system's table of connections");
    let remote = format!("0100007F:{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.filter(|row| row.get(2) == Some(&&*remote)).find(|row| row.get(3) == Some(&"01"));
    let queues = row.expect("the connection")[4].split(':').next().expect("the queue of what is sent").to_owned();
    usize::from_str_radix(&queues, 16).expect("a number")
}
