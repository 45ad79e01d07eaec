//! Descriptors, and waiting for them.

use std::mem;
use std::os::fd::RawFd;

use loom::sync::{Condvar, Mutex, MutexGuard};

#[derive(Default)]
struct Kernel {
    descriptors: Mutex<Descriptors>,
    changed: Condvar,
}

#[derive(Default)]
struct Descriptors {
    /// By its number, whether a descriptor is readable.
    readable: Vec<bool>,
    /// Whether somebody waits. Without anybody there is one step less to try orders of.
    is_watched: bool,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel::default();
}

/// A descriptor with nothing to read.
pub(crate) fn open() -> RawFd {
    let readable = &mut lock().readable;
    readable.push(false);
    readable.len() as RawFd - 1
}

/// Gives a descriptor something to read; whether it had something already.
pub(crate) fn write(fd: RawFd) -> bool {
    let mut descriptors = lock();
    if mem::take(&mut descriptors.is_watched) {
        KERNEL.changed.notify_all();
    }
    mem::replace(&mut descriptors.readable[fd as usize], true)
}

/// Waits until the descriptor is readable and takes what there is.
pub(crate) fn read(fd: RawFd) {
    wait(fd).readable[fd as usize] = false;
}

/// Waits until the descriptor is readable. Where it never is, loom fails the test.
pub(crate) fn poll(fd: RawFd) {
    drop(wait(fd));
}

fn wait(fd: RawFd) -> MutexGuard<'static, Descriptors> {
    let mut descriptors = lock();
    while !descriptors.readable[fd as usize] {
        descriptors.is_watched = true;
        descriptors = KERNEL.changed.wait(descriptors).unwrap();
    }
    descriptors
}

fn lock() -> MutexGuard<'static, Descriptors> {
    KERNEL.descriptors.lock().unwrap()
}
