//! Taking turns at a blocking handle: one call at a time, the others wait.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::wait::{Check, SLICE, Wake};

/// Whose turn it is. A plain lock would make the waiting thread deaf to its caller's wish to stop.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    /// Threads that wait. Without any, the end of a turn costs no system call.
    waiting: usize,
}

/// Ends the turn when dropped.
pub(crate) struct TurnGuard<'a> {
    turn: &'a Turn,
    origin: Origin,
}

impl Turn {
    /// Waits for the turn; `None` when `deadline` passes first.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the wait; `Closed` where it has forked, in the child.
    pub(crate) fn take(&self, deadline: Option<Instant>, check: Check<'_>) -> Result<Option<TurnGuard<'_>>> {
        let origin = Origin::here();
        let mut state = self.lock();
        while state.taken {
            let now = Instant::now();
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(now).min(SLICE));
            if left.is_zero() {
                return Ok(None);
            }
            state.waiting += 1;
            let (guard, _) = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.waiting -= 1;
            if state.taken {
                drop(state);
                if check(Wake::Tick) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for another thread's call was interrupted"));
                }
                origin.check("handle")?;
                state = self.lock();
            }
        }
        state.taken = true;
        Ok(Some(TurnGuard { turn: self, origin }))
    }

    /// Whether a call is under way.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock().taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        // In a child that `check` has forked, the lock may be held by a thread that does not exist.
        if !self.origin.is_here() {
            return;
        }
        let mut state = self.turn.lock();
        state.taken = false;
        if state.waiting > 0 {
            self.turn.freed.notify_one();
        }
    }
}
