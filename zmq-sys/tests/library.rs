//! Which libzmq is linked, and what it can do that the one under the published crate cannot.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use sockets::{Context, connected_pair, has, version};
use zmq_sys::*;

#[test]
fn version_is_4_3_5_or_later() {
    assert!(version() >= (4, 3, 5), "{:?}", version());
}

#[test]
fn curve_is_there_and_makes_key_pairs() {
    assert!(has(c"curve"));
    let (mut public, mut secret, mut again) = ([0; 41], [0; 41], [0; 41]);
    // SAFETY: each buffer has the 41 bytes that a key in Z85 with its NUL takes.
    unsafe {
        assert_eq!(zmq_curve_keypair(public.as_mut_ptr(), secret.as_mut_ptr()), 0);
        assert_eq!(zmq_curve_public(again.as_mut_ptr(), secret.as_ptr()), 0);
    }
    assert_eq!(public, again);
}

#[test]
fn ipc_and_draft_options_are_there() {
    assert!(has(c"ipc"));
    assert!(has(c"draft"));
}

#[test]
fn draft_options_are_accepted_before_bind_and_connect() {
    let context = Context::new();
    for kind in [ZMQ_ROUTER, ZMQ_DEALER] {
        let socket = context.socket(kind);
        for option in [ZMQ_HELLO_MSG, ZMQ_DISCONNECT_MSG, ZMQ_HICCUP_MSG] {
            assert_eq!(socket.set(option, b"x"), Ok(()), "{option} on {kind}");
        }
        let stop = ZMQ_RECONNECT_STOP_CONN_REFUSED as i32;
        assert_eq!(socket.set_int(ZMQ_RECONNECT_STOP, stop), Ok(()));
    }
}

#[test]
fn router_is_told_when_a_peer_closes() {
    let context = Context::new();
    let router = context.socket(ZMQ_ROUTER);
    router.set(ZMQ_DISCONNECT_MSG, b"gone").expect("draft option");
    let dealer = context.socket(ZMQ_DEALER);
    dealer.set(ZMQ_ROUTING_ID, b"peer").expect("routing id");
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");

    drop(dealer);
    assert_eq!(router.receive(), [b"peer", b"gone"]);
}

#[test]
fn dealer_is_told_when_its_router_closes() {
    let context = Context::new();
    let dealer = context.socket(ZMQ_DEALER);
    dealer.set(ZMQ_HICCUP_MSG, b"lost").expect("draft option");
    let router = context.socket(ZMQ_ROUTER);
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");

    drop(router);
    assert_eq!(dealer.receive(), [b"lost"]);
}
