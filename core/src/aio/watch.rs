//! An event loop that looks after the connections of its handles itself.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::Result;
use crate::transport::{Bundle, Dealer};

use super::engine::Engine;
use super::runtime::Queue;

/// What lets an event loop read messages on its own thread, which saves their way from the I/O thread to it.
///
/// The loop waits for the [descriptor](AsFd) with others of its own and calls [`Watch::turn`] when it is readable. While a
/// [client](super::Client::watched_by) or a [worker](super::Worker::watched_by) has no more than one request at a time, the
/// messages of its broker come by this way (MDPX only); where there are several, they come from the I/O thread, so that both
/// threads work. Heartbeats and whatever else is due are the I/O thread's at all times: a loop that is busy holds up
/// nothing but its own work.
pub struct Watch {
    bundle: Bundle,
    /// That of the handles.
    queue: Mutex<Weak<Queue>>,
    closed: AtomicBool,
}

impl Watch {
    /// A watch over nothing yet.
    ///
    /// # Errors
    /// `BrokerUnreachable` where the operating system gives no descriptor of this kind.
    pub fn new() -> Result<Arc<Watch>> {
        Ok(Arc::new(Watch { bundle: Bundle::new()?, queue: Mutex::default(), closed: AtomicBool::new(false) }))
    }

    /// Does what the descriptor has told of. Outcomes and requests go to their [inboxes](super::Inbox), whose notifications
    /// are called on this thread, as may be those of others; then `deliver` is called, which should take them out.
    pub fn turn(&self, deliver: impl FnOnce()) {
        let mut handles = Vec::new();
        let queue = self.queue().filter(|_| self.is_open());
        self.bundle.stirred(&mut handles);
        let look_after = |look: fn(&mut Engine, u64)| {
            if let Some(queue) = &queue {
                queue.look_after(&handles, look);
            }
        };
        look_after(Engine::read_lent);
        deliver();
        // Whoever has an answer mostly asks again, which finds out whether there is more to read: so this comes last.
        look_after(Engine::calm_lent);
    }

    /// Ends the watch: the I/O thread looks after everything. Nobody should wait for the descriptor any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(queue) = self.queue() {
            queue.waker().wake();
        }
    }

    /// Takes handles of this I/O thread from now on.
    pub(super) fn begin(&self, queue: &Arc<Queue>) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(queue);
    }

    /// Tells the loop of the connection's next message; whether it will. There is none now.
    pub(super) fn add(&self, dealer: &Dealer, handle: u64) -> bool {
        self.is_open() && self.bundle.add(dealer, handle)
    }

    pub(super) fn remove(&self, dealer: &Dealer) {
        self.bundle.remove(dealer);
    }

    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    fn queue(&self) -> Option<Arc<Queue>> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        queue.filter(|queue| queue.origin().is_here())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bundle.as_fd()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("open", &self.is_open()).finish_non_exhaustive()
    }
}
