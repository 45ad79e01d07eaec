//! What the library's `sync.rs` names, of loom's making, and a clock that stands still.

use std::cell::Cell;
use std::ops::Add;
use std::sync::LockResult;
use std::time::Duration;

use loom::sync::MutexGuard;
use loom::sync::atomic::fence;

pub(crate) use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::Ordering;

/// Longer than any pause: a wait of this length does not end by itself.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

loom::thread_local! {
    /// Whether the thread has stored something in the one order of all since its last fence.
    static HAS_STORED: Cell<bool> = Cell::new(false);
}

/// loom takes a sequentially consistent access for a weaker one, but not a fence. One between each such store and the next
/// such load makes of them what they should be: without it the load may pass the store. A weaker load gets none before it,
/// and a weaker store none behind it.
fn load<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
    if order == Ordering::SeqCst {
        catch_up();
    }
    access()
}

fn store<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
    if order != Ordering::SeqCst {
        catch_up();
    }
    let value = access();
    HAS_STORED.with(|has| has.set(order == Ordering::SeqCst));
    value
}

fn catch_up() {
    if HAS_STORED.with(|has| has.replace(false)) {
        fence(Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> AtomicBool {
        AtomicBool(loom::sync::atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        load(order, || self.0.load(order))
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        store(order, || self.0.store(value, order));
    }

    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        load(order, || store(order, || self.0.swap(value, order)))
    }
}

#[derive(Debug)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> AtomicU64 {
        AtomicU64(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        load(order, || self.0.load(order))
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        store(order, || self.0.store(value, order));
    }

    pub(crate) fn compare_exchange(&self, old: u64, new: u64, order: Ordering, failed: Ordering) -> Result<u64, u64> {
        load(order, || store(order, || self.0.compare_exchange(old, new, order, failed)))
    }

    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        load(order, || store(order, || self.0.fetch_and(value, order)))
    }

    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        load(order, || store(order, || self.0.fetch_sub(value, order)))
    }

    pub(crate) fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
        load(order, || store(order, || self.0.fetch_min(value, order)))
    }
}

/// loom's waits end by no clock. Here a short one is over as soon as all others have had their turn, a long one never.
#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar(loom::sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        if time >= LONG {
            return Ok((self.0.wait(guard).unwrap(), false));
        }
        loom::thread::yield_now();
        Ok((guard, true))
    }
}

/// A moment of a clock that stands still.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(Duration::ZERO)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}
