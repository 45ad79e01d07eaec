//! Waking a thread that waits in a poller.

use std::os::fd::RawFd;

use crate::error::Result;
use crate::sync::{AtomicBool, Ordering};

use super::pipe::Pipe;

/// Wakes one waiting thread from any other. However often it is woken, one byte at most is under way: the first wake
/// after a [`clear`](Waker::clear) costs a system call, the others cost an atomic.
#[derive(Debug)]
pub(crate) struct Waker {
    pending: AtomicBool,
    pipe: Pipe,
}

impl Waker {
    /// A waker that nobody has woken.
    ///
    /// # Errors
    /// `BrokerUnreachable` without free descriptors.
    pub(crate) fn new() -> Result<Waker> {
        Ok(Waker { pending: AtomicBool::new(false), pipe: Pipe::new()? })
    }

    /// Wakes the thread; it finds everything that was stored before this call.
    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.pipe.put();
        }
    }

    /// Takes the wake-up back. The woken thread calls this first, then looks for what there is to do.
    pub(crate) fn clear(&self) {
        if self.pending.load(Ordering::Acquire) {
            self.pipe.take();
            // Swap, not store: what wakers wrote before they saw `true` is visible after this.
            self.pending.swap(false, Ordering::AcqRel);
        }
    }

    /// Whether somebody has woken the thread since it last cleared this.
    pub(super) fn is_woken(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.pipe.fd()
    }
}
