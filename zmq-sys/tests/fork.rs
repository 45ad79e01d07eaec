//! A socket that came through fork() is noticed in the child. On its own, since fork copies the whole process.

#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use sockets::Context;
use zmq_sys::*;

#[test]
fn inherited_socket_is_interrupted_in_the_child() {
    let context = Context::new();
    let socket = context.socket(ZMQ_DEALER);

    // SAFETY: the child calls nothing but libzmq and _exit.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1);
    if child == 0 {
        let mut byte = 0u8;
        // SAFETY: one byte for one byte; the process ends here, without running anything of the parent's.
        unsafe {
            let rc = zmq_recv(socket.raw(), (&raw mut byte).cast(), 1, 0);
            let noticed = rc == -1 && zmq_errno() == errno::EINTR;
            libc::_exit(if noticed { 0 } else { 1 });
        }
    }

    let mut status = 0;
    // SAFETY: our own child, waited for once.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child waited as if it were the parent");
}
