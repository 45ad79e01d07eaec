//! A socket that came through fork() is noticed in the child. On its own, since fork copies the whole process.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::ptr;

use sockets::{Context, Socket, TOO_LONG_MS, connected_pair};
use zmq_sys::*;

/// In a child, whether libzmq says that the call was interrupted.
fn is_noticed_in_the_child(socket: &Socket, flags: u32) -> bool {
    // SAFETY: the child calls nothing but alarm, libzmq and _exit.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1);
    if child == 0 {
        let mut byte = 0u8;
        // SAFETY: one byte for one byte; the process ends here, without running anything of the parent's.
        unsafe {
            libc::alarm(TOO_LONG_MS.unsigned_abs() / 1000);
            let rc = zmq_recv(socket.raw(), (&raw mut byte).cast(), 1, flags as c_int);
            let noticed = rc == -1 && zmq_errno() == errno::EINTR;
            libc::_exit(if noticed { 0 } else { 1 });
        }
    }

    let mut status = 0;
    // SAFETY: our own child, waited for once.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    libc::WEXITSTATUS(status) == 0
}

#[test]
fn inherited_socket_is_interrupted_in_the_child() {
    let context = Context::new();
    let socket = context.socket(ZMQ_DEALER);
    assert!(is_noticed_in_the_child(&socket, 0), "the child waited as if it were the parent");
}

#[test]
fn what_has_come_for_the_parent_is_not_taken_by_the_child() {
    // Never closed: if a child does take something, closing never ends.
    let context = ManuallyDrop::new(Context::new());
    let [router, dealer] = [ZMQ_ROUTER, ZMQ_DEALER].map(|kind| ManuallyDrop::new(context.socket(kind)));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    // SAFETY: room for no byte at all.
    assert_eq!(unsafe { zmq_recv(router.raw(), ptr::null_mut(), 0, ZMQ_DONTWAIT as c_int) }, -1, "there is nothing");
    dealer.send(&[b"message"]);
    let mut stirred = libc::pollfd { fd: router.fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor.
    assert_eq!(unsafe { libc::poll(&raw mut stirred, 1, TOO_LONG_MS) }, 1);

    assert!(is_noticed_in_the_child(&router, ZMQ_DONTWAIT), "the child looked as if it were the parent");
    assert_eq!(router.receive()[1], b"message");
}
