//! Taking turns at a blocking handle: one call at a time, the others wait.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::wait::{Check, SLICE, Wake};

/// Whose turn it is. A plain lock would make the waiting thread deaf to its caller's wish to stop.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// Ends the turn when dropped.
pub(crate) struct TurnGuard<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn; `None` when `deadline` passes first.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the wait.
    pub(crate) fn take(&self, deadline: Option<Instant>, check: Check<'_>) -> Result<Option<TurnGuard<'_>>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            let now = Instant::now();
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(now).min(SLICE));
            if left.is_zero() {
                return Ok(None);
            }
            let (guard, _) = self.freed.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner);
            taken = guard;
            if *taken {
                drop(taken);
                if check(Wake::Tick) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for another thread's call was interrupted"));
                }
                taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
        *taken = true;
        Ok(Some(TurnGuard(self)))
    }

    /// Whether a call is under way.
    pub(crate) fn is_taken(&self) -> bool {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}
