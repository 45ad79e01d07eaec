//! How a blocking call lets its caller look after other things while it waits.

use std::ops::ControlFlow;
use std::time::Duration;

/// Why a waiting call asks its caller whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Time has passed: at most 100 ms since the last question.
    Tick,
    /// A signal arrived in this thread.
    Interrupted,
}

/// Asked at least every 100 ms while a call waits, and at once after a signal in its thread. `Break` ends the call with
/// [`Cancelled`](crate::ErrorKind::Cancelled).
pub type Check<'a> = &'a mut dyn FnMut(Wake) -> ControlFlow<()>;

/// A [`Check`] that always goes on.
pub(crate) fn keep_waiting(_: Wake) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Longest wait between two questions.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
