//! What is sent goes out, whether or not there is room for it at once.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use sockets::Context;
use sockets::bare::{Bare, last};
use zmq_sys::*;

#[test]
fn a_peer_that_reads_late_gets_everything_in_order() {
    const MESSAGES: usize = 400;
    let context = Context::new();
    let router = context.socket(ZMQ_ROUTER);
    router.set_int(ZMQ_SNDHWM, 0).expect("an option");
    let mut peer = Bare::connect(&router.bind("tcp://127.0.0.1:*"));
    peer.write(&last(b"hello")).expect("room");
    let sender = router.receive().swap_remove(0);

    // Of all sizes, more than any socket takes before somebody reads.
    let body = |number: usize| vec![number as u8; (number * number) % 100_000];
    for number in 0..MESSAGES {
        router.send(&[&sender, &body(number)]);
    }
    for number in 0..MESSAGES {
        assert_eq!(peer.read(), (0, body(number)), "{number}");
    }
    // And alone, again and again, each after the one before it has been read.
    for number in 0..MESSAGES {
        router.send(&[&sender, &body(number)]);
        assert_eq!(peer.read(), (0, body(number)), "{number}");
    }
}
