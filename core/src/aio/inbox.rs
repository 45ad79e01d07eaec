//! The hand-over to a foreign event loop, in batches.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where outcomes for one event loop arrive.
///
/// `notify` is called once when the inbox goes from empty to non-empty, so one notification serves for whatever arrives
/// until the loop drains the inbox. It is called without any lock held, on the thread that filled the inbox (for
/// requests and workers of this library: their I/O thread), and should do no more than wake the loop.
///
/// ```
/// use majordomo::aio::Inbox;
/// let inbox = Inbox::new(|| println!("wake up"));
/// inbox.push(1);
/// inbox.push(2);
/// let mut batch = Vec::new();
/// inbox.drain(&mut batch);
/// assert_eq!(batch, [1, 2]);
/// ```
pub struct Inbox<T> {
    items: Mutex<Vec<T>>,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl<T> Inbox<T> {
    /// An empty inbox that calls `notify` when it is no longer empty.
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Inbox { items: Mutex::new(Vec::new()), notify: Box::new(notify) })
    }

    /// Adds an item and notifies if it is the first one.
    pub fn push(&self, item: T) {
        if self.store(item) {
            self.ring();
        }
    }

    /// Appends everything that has arrived to `into`, oldest first.
    pub fn drain(&self, into: &mut Vec<T>) {
        let mut items = self.lock();
        if into.is_empty() {
            // The caller's memory serves for the next batch.
            mem::swap(&mut *items, into);
        } else {
            into.append(&mut items);
        }
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an item; whether somebody has to be notified of it.
    pub(super) fn store(&self, item: T) -> bool {
        let mut items = self.lock();
        items.push(item);
        items.len() == 1
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What can be told that something has arrived.
pub(super) trait Bell: Send + Sync {
    fn ring(&self);
}

impl<T: Send> Bell for Inbox<T> {
    fn ring(&self) {
        Inbox::ring(self);
    }
}

impl<T> Inbox<T> {
    fn ring(&self) {
        // A notification that panics must not take the I/O thread of everybody else with it.
        if catch_unwind(AssertUnwindSafe(|| (self.notify)())).is_err() {
            log::error!("an inbox's notification panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_notification_serves_for_all_that_arrives_before_the_inbox_is_drained() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let inbox = Inbox::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let mut batch = Vec::new();
        for expected in 1..=3 {
            (0..10).for_each(|item| inbox.push(item));
            assert_eq!(count.load(Ordering::Relaxed), expected);
            batch.clear();
            inbox.drain(&mut batch);
            assert_eq!(batch, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_notification_that_panics_reaches_nobody() {
        let inbox = Inbox::new(|| panic!("a loop that is gone"));
        inbox.push(1);
        assert_eq!(inbox.len(), 1);
    }
}
