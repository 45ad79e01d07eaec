//! How a handler learns that nobody waits for its answer any more.
//!
//! A request that nobody asks about costs nothing here: what is kept is kept by worker, and only for requests that are
//! cancelled or watched.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::fork::Origin;

/// Tells that a request was cancelled: its caller has given it up or has run out of time, or the connection that it
/// came by is lost. Clones are the same token. Over MDP/0.1 and 0.2 no worker hears of cancellations.
#[derive(Clone)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    cancelled: AtomicBool,
    watchers: Mutex<Watchers>,
    told: Condvar,
}

#[derive(Default)]
struct Watchers {
    actions: Vec<Box<dyn FnOnce() + Send>>,
    wakers: Vec<(u64, Waker)>,
    last_waiter: u64,
}

impl CancelToken {
    fn new(cancelled: bool) -> CancelToken {
        let (watchers, told) = (Mutex::default(), Condvar::new());
        CancelToken {
            shared: Arc::new(Shared { origin: Origin::here(), cancelled: AtomicBool::new(cancelled), watchers, told }),
        }
    }

    /// The token of a request that will not be cancelled any more.
    pub(crate) fn idle() -> CancelToken {
        CancelToken::new(false)
    }

    /// Whether the request was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire)
    }

    /// Waits until the request is cancelled, at most `timeout`; whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // In a forked child, the lock may be held by a thread that does not exist.
        if self.is_cancelled() || !self.shared.origin.is_here() {
            return self.is_cancelled();
        }
        let ends = Instant::now().checked_add(timeout);
        let mut watchers = self.shared.lock();
        while !self.is_cancelled() {
            let left = ends.map_or(timeout, |ends| ends.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            (watchers, _) = self.shared.told.wait_timeout(watchers, left).unwrap_or_else(PoisonError::into_inner);
        }
        self.is_cancelled()
    }

    /// Calls `action` once when the request is cancelled, at once if it is already. It runs on a thread of the library's
    /// and must return soon. A request that is answered first drops it.
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) {
        if !self.shared.origin.is_here() {
            return;
        }
        let mut watchers = self.shared.lock();
        if self.is_cancelled() {
            drop(watchers);
            action();
        } else {
            watchers.actions.push(Box::new(action));
        }
    }

    /// Waits until the request is cancelled; for ever where it is not.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { token: self.clone(), waiter: 0 }
    }

    /// The request is cancelled: whoever watches is told. No lock of ours may be held.
    pub(crate) fn cancel(&self) {
        let mut watchers = self.shared.lock();
        self.shared.cancelled.store(true, Ordering::Release);
        let Watchers { actions, wakers, .. } = mem::take(&mut *watchers);
        drop(watchers);
        self.shared.told.notify_all();
        for action in actions {
            if catch_unwind(AssertUnwindSafe(action)).is_err() {
                log::error!("an action for a cancelled request panicked");
            }
        }
        for (_, waker) in wakers {
            if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                log::error!("a future's waker panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// A wait for a request's cancellation, see [`CancelToken::cancelled`].
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Cancelled {
    token: CancelToken,
    /// This future's number among those that wait; 0 before it does.
    waiter: u64,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Cancelled { token, waiter } = self.get_mut();
        if token.is_cancelled() {
            return Poll::Ready(());
        }
        if !token.shared.origin.is_here() {
            return Poll::Pending;
        }
        // Wakers are cloned and dropped outside of the lock: they run code of the executor's.
        let waker = context.waker().clone();
        let mut watchers = token.shared.lock();
        if token.is_cancelled() {
            return Poll::Ready(());
        }
        if *waiter == 0 {
            watchers.last_waiter += 1;
            *waiter = watchers.last_waiter;
        }
        let old = match watchers.wakers.iter_mut().find(|(id, _)| id == waiter) {
            Some((_, present)) => Some(mem::replace(present, waker)),
            None => {
                watchers.wakers.push((*waiter, waker));
                None
            }
        };
        drop(watchers);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if self.waiter == 0 || !self.token.shared.origin.is_here() {
            return;
        }
        let mut watchers = self.token.shared.lock();
        let at = watchers.wakers.iter().position(|(id, _)| *id == self.waiter);
        let gone = at.map(|at| watchers.wakers.swap_remove(at));
        drop(watchers);
        drop(gone);
    }
}

/// Which of a worker's requests are cancelled, and which have a token.
#[derive(Default)]
pub(crate) struct Cancellations {
    /// How many entries there are. A request without one takes no lock.
    entries: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cancelled: HashSet<u64>,
    tokens: HashMap<u64, CancelToken>,
}

impl Cancellations {
    pub(crate) fn is_cancelled(&self, id: u64) -> bool {
        self.has_entries() && self.lock().cancelled.contains(&id)
    }

    /// Whether there may be a request that is cancelled.
    pub(crate) fn has_entries(&self) -> bool {
        self.entries.load(Ordering::Acquire) > 0
    }

    /// The token of a request that is in hand.
    pub(crate) fn token(&self, id: u64) -> CancelToken {
        self.change(|state| {
            let cancelled = state.cancelled.contains(&id);
            state.tokens.entry(id).or_insert_with(|| CancelToken::new(cancelled)).clone()
        })
    }

    /// Marks a request as cancelled; the token that is to be told, if it has one.
    pub(crate) fn mark(&self, id: u64) -> Option<CancelToken> {
        self.change(|state| {
            state.cancelled.insert(id);
            state.tokens.get(&id).cloned()
        })
    }

    /// The request has had its answer.
    pub(crate) fn forget(&self, id: u64) {
        if self.has_entries() {
            let token = self.change(|state| {
                state.cancelled.remove(&id);
                state.tokens.remove(&id)
            });
            // The last reference may be here, and what it drops is the caller's.
            drop(token);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.entries.store(state.cancelled.len() + state.tokens.len(), Ordering::Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn everybody_who_watches_a_token_is_told() {
        let requests = Cancellations::default();
        let token = requests.token(7);
        let (sender, receiver) = mpsc::channel();
        token.on_cancel(|| panic!("the caller's own fault"));
        token.on_cancel(move || sender.send(()).unwrap());
        let waiting = thread::spawn({
            let token = token.clone();
            move || token.wait_timeout(Duration::from_secs(60))
        });
        let future = thread::spawn({
            let token = token.clone();
            move || pollster::block_on(token.cancelled())
        });
        assert!(!token.is_cancelled() && !token.wait_timeout(Duration::ZERO));
        requests.mark(7).unwrap().cancel();
        assert!(waiting.join().unwrap() && future.join().is_ok() && receiver.recv().is_ok());
        assert!(token.is_cancelled() && requests.is_cancelled(7));
        let late = Arc::new(AtomicBool::new(false));
        token.on_cancel({
            let late = late.clone();
            move || late.store(true, Ordering::Relaxed)
        });
        assert!(late.load(Ordering::Relaxed), "a token that is cancelled already tells at once");
    }

    #[test]
    fn a_request_that_is_answered_leaves_nothing_behind() {
        let requests = Cancellations::default();
        let token = requests.token(7);
        drop(requests.mark(8));
        assert!(requests.is_cancelled(8) && !requests.is_cancelled(7) && requests.token(8).is_cancelled());
        requests.forget(7);
        requests.forget(8);
        assert!(!requests.has_entries() && !requests.is_cancelled(8) && !token.is_cancelled());
    }
}
