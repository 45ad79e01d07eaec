//! Who is to be woken at the end of a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use crate::event::{ConnectionEvent, EventHook};
use crate::worker::CancelToken;

use super::inbox::{Bell, Inbox};

/// Collects wake-ups while the I/O thread works through a batch, and makes each of them once at its end. Nothing of ours
/// is locked or half done then, so what a waker or a notification does can hurt nobody but itself.
#[derive(Default)]
pub(super) struct Wakes {
    wakers: Vec<Waker>,
    bells: Vec<Arc<dyn Bell>>,
    /// Cancelled requests that somebody watches.
    cancelled: Vec<CancelToken>,
    /// What listeners are to be told of workers' connections.
    events: Vec<(EventHook, ConnectionEvent)>,
}

impl Wakes {
    pub(super) fn waker(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    pub(super) fn wakers(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wakers.extend(wakers);
    }

    /// Puts `item` into the inbox, whose loop is notified at the end of the batch.
    pub(super) fn store<T: Send + 'static>(&mut self, inbox: &Arc<Inbox<T>>, item: T) {
        if inbox.store(item) {
            let address = Arc::as_ptr(inbox).cast::<()>();
            // A loop that drained in the middle of the batch is still notified only once for the batch.
            if !self.bells.iter().any(|bell| Arc::as_ptr(bell).cast::<()>() == address) {
                self.bells.push(inbox.clone());
            }
        }
    }

    /// Whoever watches this request is told that it is cancelled.
    pub(super) fn cancelled(&mut self, token: CancelToken) {
        self.cancelled.push(token);
    }

    /// Tells the listener of it at the end of the batch, if there is one.
    pub(super) fn event(&mut self, hook: Option<&EventHook>, event: impl Into<Option<ConnectionEvent>>) {
        self.events.extend(hook.cloned().zip(event.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.bells.is_empty() && self.cancelled.is_empty() && self.events.is_empty()
    }

    /// Makes the wake-ups.
    pub(super) fn flush(&mut self) {
        for (hook, event) in self.events.drain(..) {
            hook.call(&event);
        }
        for token in self.cancelled.drain(..) {
            token.cancel();
        }
        for waker in self.wakers.drain(..) {
            if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                log::error!("a future's waker panicked");
            }
        }
        for bell in self.bells.drain(..) {
            bell.ring();
            // The last reference may be here, and dropping it runs the owner's code.
            if catch_unwind(AssertUnwindSafe(|| drop(bell))).is_err() {
                log::error!("an inbox panicked while it was dropped");
            }
        }
    }
}
