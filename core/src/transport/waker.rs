//! Waking a thread that waits in a poller.

use std::os::fd::RawFd;

use crate::error::Result;
use crate::sync::{AtomicU64, Ordering};

use super::pipe::Pipe;

/// Wakes a waiting thread from any other. Only a thread that sleeps has to be woken by the operating system: as long as it
/// works, and looks here before it sleeps, a wake costs an atomic.
#[derive(Debug)]
pub(crate) struct Waker {
    state: AtomicU64,
    pipe: Pipe,
}

/// In the state of a waker that was woken and not cleared since.
const WOKEN: u64 = 1;
/// In the state of a waker whose pipe has a byte for it, or will have in a moment. Only with [`WOKEN`].
const SHOWN: u64 = 2;
/// One thread that sleeps; these are counted.
const SLEEPER: u64 = 4;

/// A thread counts as asleep while it has this.
pub(crate) struct Sleep<'a>(&'a Waker);

impl Waker {
    /// A waker that nobody has woken.
    ///
    /// # Errors
    /// `BrokerUnreachable` without free descriptors.
    pub(crate) fn new() -> Result<Waker> {
        Ok(Waker { state: AtomicU64::new(0), pipe: Pipe::new()? })
    }

    /// Wakes the thread; it finds everything that was stored before this call.
    pub(crate) fn wake(&self) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let shows = state & WOKEN == 0 && state >= SLEEPER;
            let woken = state | WOKEN | if shows { SHOWN } else { 0 };
            // Also where it has been woken already: what was stored before becomes visible by this.
            match self.state.compare_exchange(state, woken, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if shows => return self.pipe.put(),
                Ok(_) => return,
                Err(changed) => state = changed,
            }
        }
    }

    /// Takes the wake-up back. The woken thread calls this first, then looks for what there is to do.
    pub(crate) fn clear(&self) {
        if self.is_woken() && self.state.fetch_and(!(WOKEN | SHOWN), Ordering::AcqRel) & SHOWN != 0 {
            self.pipe.take();
        }
    }

    /// Whether somebody has woken the thread since it last cleared this.
    pub(super) fn is_woken(&self) -> bool {
        self.state.load(Ordering::Acquire) & WOKEN != 0
    }

    /// To be had while a thread waits for the descriptor, which tells of wake-ups from now on. `None` where it has been woken
    /// already, and must not wait.
    pub(super) fn fall_asleep(&self) -> Option<Sleep<'_>> {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & WOKEN == 0 {
            match self.state.compare_exchange(state, state + SLEEPER, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(Sleep(self)),
                Err(changed) => state = changed,
            }
        }
        None
    }

    pub(super) fn fd(&self) -> RawFd {
        self.pipe.fd()
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(SLEEPER, Ordering::AcqRel);
    }
}
