//! Descriptors, and waiting for them.

use std::os::fd::RawFd;

use loom::sync::{Condvar, Mutex, MutexGuard};

#[derive(Default)]
struct Kernel {
    /// By its number, whether a descriptor is readable.
    readable: Mutex<Vec<bool>>,
    changed: Condvar,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel::default();
}

/// A descriptor with nothing to read.
pub(crate) fn open() -> RawFd {
    let mut readable = KERNEL.readable.lock().unwrap();
    readable.push(false);
    readable.len() as RawFd - 1
}

/// Makes a descriptor readable, or takes what there is to read; whether it was readable.
pub(crate) fn set(fd: RawFd, is_readable: bool) -> bool {
    let mut readable = KERNEL.readable.lock().unwrap();
    let was_readable = std::mem::replace(&mut readable[fd as usize], is_readable);
    KERNEL.changed.notify_all();
    was_readable
}

/// Waits until one of these is readable. Where none ever is, loom fails the test.
pub(crate) fn poll(fds: &[RawFd]) {
    drop(wait(fds));
}

/// Waits until the descriptor is readable and takes what there is.
pub(crate) fn read(fd: RawFd) {
    wait(&[fd])[fd as usize] = false;
}

fn wait(fds: &[RawFd]) -> MutexGuard<'static, Vec<bool>> {
    let mut readable = KERNEL.readable.lock().unwrap();
    while !fds.iter().any(|&fd| readable[fd as usize]) {
        readable = KERNEL.changed.wait(readable).unwrap();
    }
    readable
}
