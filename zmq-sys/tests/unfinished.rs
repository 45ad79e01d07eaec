//! A message whose last frame does not come: what the frames before it may cost.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use std::net::TcpListener;

use sockets::bare::{Bare, last, more};
use sockets::memory::{alone, resident};
use sockets::{Context, Socket, connected_pair};
use zmq_sys::*;

const MIB: usize = 1 << 20;

/// A ROUTER whose frames may have 1 MiB, and a DEALER that is connected to it; where.
fn pair(context: &Context) -> (Socket, Socket, String) {
    let router = context.socket(ZMQ_ROUTER);
    limit(&router);
    let dealer = context.socket(ZMQ_DEALER);
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    let endpoint = router.last_endpoint();
    (router, dealer, endpoint)
}

fn limit(socket: &Socket) {
    socket.set(ZMQ_MAXMSGSIZE, &(MIB as i64).to_ne_bytes()).expect("a limit");
}

#[test]
fn whoever_never_ends_a_message_is_cut_off_and_nobody_else() {
    let _alone = alone();
    let context = Context::new();
    let (router, dealer, endpoint) = pair(&context);
    let before = resident();
    for body in [&b""[..], b"x", &[b'x'; 5000]] {
        let mut hostile = Bare::connect(&endpoint);
        let sent = hostile.never_end(body, 5_000_000).expect("the connection is closed");
        println!("{sent} frames of {} bytes", body.len());

        dealer.send(&[b"still", b"here"]);
        assert_eq!(router.receive()[1..], [b"still".to_vec(), b"here".to_vec()]);
    }
    let grown = resident().saturating_sub(before);
    println!("{} KiB", grown >> 10);
    assert!(grown < 16 * MIB, "memory has grown by {grown} bytes");
}

#[test]
fn frames_that_come_one_by_one_cost_what_they_have() {
    let _alone = alone();
    let context = Context::new();
    let (_router, _dealer, endpoint) = pair(&context);
    let mut hostile = Bare::connect(&endpoint);
    let before = resident();
    let frame = more(&[b'x'; 34]);
    let sent = (0..100_000).find(|_| hostile.write(&frame).is_err() || hostile.ping().is_err());
    let grown = resident().saturating_sub(before);
    println!("{sent:?} frames, {} KiB", grown >> 10);
    assert!(sent.is_some(), "the connection is closed");
    assert!(grown < 16 * MIB, "memory has grown by {grown} bytes");
}

#[test]
fn long_messages_within_the_bound_arrive_whole() {
    let _alone = alone();
    let context = Context::new();
    let (router, dealer, _) = pair(&context);
    let large = vec![b'x'; MIB];
    let frames: Vec<&[u8]> = std::iter::repeat_n(&b""[..], 10_000).chain([&large[..], b"end"]).collect();
    for _ in 0..5 {
        dealer.send(&frames);
        assert_eq!(router.receive()[1..], frames);
    }
}

#[test]
fn without_a_limit_a_message_may_have_any_number_of_frames() {
    let _alone = alone();
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    let frames = vec![&[b'x'; 100][..]; 50_000];
    dealer.send(&frames);
    assert_eq!(router.receive()[1..], frames);
}

#[test]
fn a_dealer_is_told_that_its_router_was_cut_off() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let context = Context::new();
    let dealer = context.socket(ZMQ_DEALER);
    limit(&dealer);
    dealer.set(ZMQ_HICCUP_MSG, b"lost").expect("draft option");
    dealer.connect(&format!("tcp://{}", listener.local_addr().expect("an address")));
    let mut hostile = Bare::accept(&listener);
    assert!(hostile.never_end(b"x", 5_000_000).is_some(), "the connection is closed");
    assert_eq!(dealer.receive(), [b"lost"]);
}

#[test]
fn a_new_connection_owes_nothing_for_what_a_lost_one_left_unfinished() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let context = Context::new();
    let dealer = context.socket(ZMQ_DEALER);
    limit(&dealer);
    dealer.connect(&format!("tcp://{}", listener.local_addr().expect("an address")));
    let half = vec![b'x'; MIB];
    for _ in 0..3 {
        let mut peer = Bare::accept(&listener);
        peer.write(&more(&half)).expect("room");
        peer.ping().expect("it has been read");
    }
    let mut peer = Bare::accept(&listener);
    peer.write(&more(&half)).expect("room");
    peer.write(&last(b"end")).expect("room");
    assert_eq!(dealer.receive(), [half, b"end".to_vec()]);
}
