//! What becomes of handles in a child process that `fork` made.
//!
//! The child has none of the parent's threads, and its locks may be held by threads that do not exist any more. So the
//! child gets a new generation: everything shared is made afresh, and a handle of an older generation refuses every call
//! before it touches a lock, and leaks what it holds.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// The process that a handle was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u64);

impl Origin {
    /// The present process. From the first call on, forks are noticed.
    pub(crate) fn here() -> Origin {
        WATCH.call_once(|| {
            // SAFETY: the handler only stores to an atomic, which is allowed between fork and exec.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Origin(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether this is still the process that the handle was made in.
    pub(crate) fn is_here(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }

    /// Refuses a call in any other process.
    ///
    /// # Errors
    /// `Closed` in a child of the process.
    pub(crate) fn check(self, what: &str) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Closed,
            format!("this {what} was made before fork() and belongs to the parent process; make a new one"),
        ))
    }
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
