//! When the beater has to look in.
//!
//! Whoever lets go of the session says when it is due next; whoever waits for messages on it looks after it and says that
//! nothing is. The beater sleeps until then. It is woken only where the next moment is earlier than it had planned for, and
//! then keeps to the new plan even if the session is looked after again. So messages, which only put off what is due, cost
//! it nothing: it wakes about twice in an interval, and a few times a second while handlers run.

use std::sync::PoisonError;
use std::time::Duration;

use crate::sync::{AtomicBool, AtomicU64, Condvar, Instant, Mutex, Ordering};

/// Between two looks at a session that is due but in somebody's hands.
const BRIEFLY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Beater {
    started: Instant,
    /// It sleeps no longer than this, so that a session that becomes due seldom finds it with later plans.
    interval: Duration,
    /// In microseconds since `started`, as `planned`: when the session must be looked after.
    due: AtomicU64,
    /// Until when the beater sleeps.
    planned: AtomicU64,
    ended: AtomicBool,
    sleep: Mutex<()>,
    awake: Condvar,
}

const NEVER: u64 = u64::MAX;

impl Beater {
    pub(super) fn new(interval: Duration) -> Beater {
        Beater {
            started: Instant::now(),
            interval,
            due: AtomicU64::new(NEVER),
            planned: AtomicU64::new(NEVER),
            ended: AtomicBool::new(false),
            sleep: Mutex::new(()),
            awake: Condvar::new(),
        }
    }

    /// Nothing is due while the caller, who holds the session, waits for messages.
    pub(super) fn rest(&self) {
        self.due.store(NEVER, Ordering::SeqCst);
    }

    /// The caller, who holds the session, is about to let go of it.
    pub(super) fn look_in_at(&self, due: Option<Instant>) {
        let due = due.map_or(NEVER, |due| self.micros(due));
        // Each side stores its own mark before it reads the other's: one of them sees that the plan is too late.
        self.due.store(due, Ordering::SeqCst);
        if due < self.planned.load(Ordering::SeqCst) {
            let _guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.planned.fetch_min(due, Ordering::SeqCst);
            self.awake.notify_one();
        }
    }

    /// Ends [`Beater::run`].
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // Under the lock, so that a beater that has just looked at the mark is asleep when this reaches it.
        let _guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.awake.notify_one();
    }

    /// Calls `look` whenever the session is due, until the end. `look` is `false` where somebody else has the session.
    pub(super) fn run(&self, mut look: impl FnMut() -> bool) {
        while !self.ended.load(Ordering::SeqCst) {
            if self.due.load(Ordering::SeqCst) > self.micros(Instant::now()) {
                self.sleep();
            } else if !look() {
                self.pause();
            }
        }
    }

    /// Sleeps until the session is due, no longer than an interval.
    fn sleep(&self) {
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.planned.store(self.micros(Instant::now() + self.interval), Ordering::SeqCst);
        self.planned.fetch_min(self.due.load(Ordering::SeqCst), Ordering::SeqCst);
        while !self.ended.load(Ordering::SeqCst) {
            let left = self.planned.load(Ordering::SeqCst).saturating_sub(self.micros(Instant::now()));
            if left == 0 {
                break;
            }
            let woken = self.awake.wait_timeout(guard, Duration::from_micros(left));
            (guard, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whoever has the session will soon let go of it, and needs to wake nobody for that.
    fn pause(&self) {
        let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.planned.store(0, Ordering::SeqCst);
        if !self.ended.load(Ordering::SeqCst) {
            drop(self.awake.wait_timeout(guard, BRIEFLY));
        }
    }

    /// Rounded up: who sleeps until then is not too early.
    fn micros(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.started).as_micros();
        u64::try_from(micros).map_or(NEVER, |micros| micros.saturating_add(1))
    }
}
