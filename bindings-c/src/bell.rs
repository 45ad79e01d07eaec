//! A descriptor that is readable while something waits to be taken: what a blocking `recv` and a foreign poll wait for.

use std::io::{ErrorKind as IoErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use majordomo::{Error, ErrorKind, Result};

/// Rings without a system call while nobody listens. At most one byte is in the pipe, so neither end ever blocks.
pub(crate) struct Bell {
    reader: PipeReader,
    writer: PipeWriter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rung: bool,
    /// Whether a byte in the pipe says so.
    is_shown: bool,
    /// Threads in [`Bell::wait`].
    waiting: usize,
    /// Whether the program has the descriptor, and may poll it at any time.
    is_watched: bool,
}

impl Bell {
    pub(crate) fn new() -> Result<Self> {
        let (reader, writer) =
            std::io::pipe().map_err(|error| Error::new(ErrorKind::Internal, format!("no pipe: {error}")))?;
        Ok(Bell { reader, writer, state: Mutex::default() })
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        let mut state = self.lock();
        state.rung = true;
        self.show(&mut state);
    }

    /// Makes the descriptor unreadable. To be called before looking for what there is, so that what comes later rings.
    pub(crate) fn hush(&self) {
        let mut state = self.lock();
        state.rung = false;
        if state.is_shown {
            state.is_shown = (&self.reader).read_exact(&mut [0]).is_err();
        }
    }

    /// The descriptor to poll for input. Reading from it is not the caller's business.
    pub(crate) fn descriptor(&self) -> RawFd {
        let mut state = self.lock();
        state.is_watched = true;
        self.show(&mut state);
        self.reader.as_raw_fd()
    }

    fn show(&self, state: &mut State) {
        if state.rung && !state.is_shown && (state.is_watched || state.waiting > 0) {
            state.is_shown = (&self.writer).write_all(&[1]).is_ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a ring, at most until `deadline`; whether there was one.
    ///
    /// # Errors
    /// `Cancelled` when a signal interrupts the wait.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        let mut state = self.lock();
        if state.rung {
            return Ok(true);
        }
        state.waiting += 1;
        drop(state);
        let rung = self.poll(deadline);
        self.lock().waiting -= 1;
        rung
    }

    fn poll(&self, deadline: Option<Instant>) -> Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut poll = libc::pollfd { fd: self.reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        match unsafe { libc::poll(&raw mut poll, 1, left.map_or(-1, round_up)) } {
            -1 => {
                let error = std::io::Error::last_os_error();
                Err(if error.kind() == IoErrorKind::Interrupted {
                    Error::new(ErrorKind::Cancelled, "a signal interrupted the wait")
                } else {
                    Error::new(ErrorKind::Internal, format!("poll: {error}"))
                })
            }
            ready => Ok(ready > 0),
        }
    }
}

/// Whole milliseconds, never fewer than asked for, so that a wait does not spin at its end.
fn round_up(left: Duration) -> libc::c_int {
    libc::c_int::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    /// Whether the descriptor is readable now.
    fn is_readable(bell: &Bell) -> bool {
        bell.poll(Some(Instant::now())).unwrap()
    }

    #[test]
    fn a_ring_that_nobody_listens_to_is_heard_by_who_comes_later() {
        let bell = Bell::new().unwrap();
        assert!(!bell.wait(Some(Instant::now())).unwrap());
        bell.ring();
        assert!(!is_readable(&bell), "nobody had to be woken");
        assert!(bell.wait(None).unwrap());
        bell.descriptor();
        assert!(is_readable(&bell), "the program polls from now on");
        bell.hush();
        assert!(!is_readable(&bell) && !bell.wait(Some(Instant::now())).unwrap());
        bell.ring();
        bell.ring();
        assert!(is_readable(&bell) && bell.wait(None).unwrap());
        bell.hush();
        assert!(!is_readable(&bell), "several rings are one");
    }

    #[test]
    fn a_ring_wakes_all_who_wait() {
        let bell = Bell::new().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| bell.wait(None).unwrap())).collect();
            while bell.lock().waiting < 3 {
                std::thread::yield_now();
            }
            bell.ring();
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
        assert_eq!(bell.lock().waiting, 0);
    }
}
