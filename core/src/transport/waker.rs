//! Waking a thread that waits in a poller.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;

use super::socket::io_error;

/// Wakes one waiting thread from any other. However often it is woken, one byte at most is under way: the first wake
/// after a [`clear`](Waker::clear) costs a system call, the others cost an atomic.
#[derive(Debug)]
pub(crate) struct Waker {
    pending: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Waker {
    /// A waker that nobody has woken.
    ///
    /// # Errors
    /// `BrokerUnreachable` without free descriptors.
    pub(crate) fn new() -> Result<Waker> {
        let (reader, writer) = io::pipe().map_err(|error| io_error("no pipe could be opened", &error))?;
        Ok(Waker { pending: AtomicBool::new(false), reader, writer })
    }

    /// Wakes the thread; it finds everything that was stored before this call.
    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // The pipe is empty, so this neither waits nor fails.
            let _ = (&self.writer).write_all(&[1]);
        }
    }

    /// Takes the wake-up back. The woken thread calls this first, then looks for what there is to do.
    pub(crate) fn clear(&self) {
        if self.pending.load(Ordering::Acquire) {
            let _ = (&self.reader).read(&mut [0]);
            // Swap, not store: what wakers wrote before they saw `true` is visible after this.
            self.pending.swap(false, Ordering::AcqRel);
        }
    }

    /// Whether somebody has woken the thread since it last cleared this.
    pub(super) fn is_woken(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}
