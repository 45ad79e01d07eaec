//! A descriptor that is readable while something waits to be taken: what a blocking `recv` and a foreign poll wait for.

use std::io::{ErrorKind as IoErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use majordomo::{Error, ErrorKind, Result};

/// At most one byte is in the pipe, so neither end ever blocks.
pub(crate) struct Bell {
    reader: PipeReader,
    writer: PipeWriter,
    rung: Mutex<bool>,
}

impl Bell {
    pub(crate) fn new() -> Result<Self> {
        let (reader, writer) =
            std::io::pipe().map_err(|error| Error::new(ErrorKind::Internal, format!("no pipe: {error}")))?;
        Ok(Bell { reader, writer, rung: Mutex::new(false) })
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        *rung = *rung || (&self.writer).write_all(&[1]).is_ok();
    }

    /// Makes the descriptor unreadable. To be called before looking for what there is, so that what comes later rings.
    pub(crate) fn hush(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if *rung {
            *rung = (&self.reader).read_exact(&mut [0]).is_err();
        }
    }

    /// The descriptor to poll for input. Reading from it is not the caller's business.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Waits for a ring, at most until `deadline`; whether there was one.
    ///
    /// # Errors
    /// `Cancelled` when a signal interrupts the wait.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut poll = libc::pollfd { fd: self.descriptor(), events: libc::POLLIN, revents: 0 };
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
