//! Many connections that say something now and then.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use sockets::bare::{Bare, last};
use sockets::memory::{alone, resident};
use sockets::{Context, Socket};
use zmq_sys::*;

const PEERS: usize = 100;

fn peers(endpoint: &str) -> Vec<Bare> {
    (0..PEERS).map(|_| Bare::connect(endpoint)).collect()
}

/// Takes a message of each peer and sends it back.
fn answer(router: &Socket) {
    let received: Vec<_> = (0..PEERS).map(|_| router.receive()).collect();
    received.iter().for_each(|message| router.send(&[&message[0], &message[1]]));
}

#[test]
fn what_many_say_at_once_arrives_also_while_others_leave() {
    let _alone = alone();
    let context = Context::new();
    let router = context.socket(ZMQ_ROUTER);
    let endpoint = router.bind("tcp://127.0.0.1:*");
    for round in 0..10u8 {
        let mut staying = peers(&endpoint);
        for (number, peer) in staying.iter_mut().enumerate() {
            peer.write(&last(&[round, number as u8])).expect("room");
        }
        let mut number = 0..PEERS;
        // What they have said is there, or will be; their connections end while it is read.
        staying.retain(|_| number.next().is_some_and(|number| number % 2 == 0));
        answer(&router);
        for (number, peer) in staying.iter_mut().enumerate() {
            assert_eq!(peer.read(), (0, vec![round, 2 * number as u8]));
        }
    }
}

#[test]
fn connections_that_say_little_keep_what_they_hold_in_memory() {
    const ROUNDS: usize = 600;
    let _alone = alone();
    let context = Context::new();
    let router = context.socket(ZMQ_ROUTER);
    let mut peers = peers(&router.bind("tcp://127.0.0.1:*"));
    let mut before = 0;
    for round in 0..ROUNDS {
        peers.iter_mut().for_each(|peer| peer.write(&last(b"beat")).expect("room"));
        answer(&router);
        for peer in &mut peers {
            assert_eq!(peer.read(), (0, b"beat".to_vec()));
        }
        if round == 2 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    println!("{} KiB", grown >> 10);
    assert!(grown < PEERS * (24 << 10), "memory has grown by {grown} bytes");
}
