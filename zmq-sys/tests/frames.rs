//! A message of many frames is one message.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use std::thread::sleep;
use std::time::Duration;

use sockets::{Context, connected_pair};
use zmq_sys::*;

/// libzmq looks for commands about once in a millisecond of sending.
const LONG: Duration = Duration::from_millis(20);

#[test]
fn what_is_asked_of_a_socket_waits_for_the_end_of_the_message_and_no_longer() {
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    sleep(LONG);
    assert_eq!(dealer.send_frame(b"first", true), Ok(()));
    context.shut_down();
    for more in [true, true, false] {
        sleep(LONG);
        assert_eq!(dealer.send_frame(b"further", more), Ok(()));
    }
    sleep(LONG);
    assert!(dealer.send_frame(b"the next", true).is_err(), "the context is shut down");
}
