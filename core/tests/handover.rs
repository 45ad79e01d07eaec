//! The hand-overs between threads that no lock alone makes right, in every order that their steps can have. What is here are
//! the same steps as in `transport/waker.rs`, `worker/beat.rs` and `aio/reactor.rs`: a change there is a change here.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

/// A waker whose pipe is a count of bytes.
struct Waker {
    pending: AtomicBool,
    bytes: Mutex<usize>,
    written: Condvar,
    /// What wakers leave for the thread, with no ordering of its own.
    work: [AtomicBool; 2],
}

impl Waker {
    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let mut bytes = self.bytes.lock().unwrap();
            *bytes += 1;
            assert_eq!(*bytes, 1, "the pipe is empty when a byte is written");
            self.written.notify_one();
        }
    }

    fn clear(&self) {
        if self.pending.load(Ordering::Acquire) {
            *self.wait() -= 1;
            self.pending.swap(false, Ordering::AcqRel);
        }
    }

    /// Waits until there is something to read, as `poll` does.
    fn wait(&self) -> loom::sync::MutexGuard<'_, usize> {
        let mut bytes = self.bytes.lock().unwrap();
        while *bytes == 0 {
            bytes = self.written.wait(bytes).unwrap();
        }
        bytes
    }
}

#[test]
fn a_woken_thread_finds_all_that_was_left_for_it_and_no_wake_is_lost() {
    let mut model = loom::model::Builder::new();
    // Orders in which threads are interrupted more often than this are many and show nothing new.
    model.preemption_bound = Some(3);
    model.check(|| {
        let waker = Arc::new(Waker {
            pending: AtomicBool::new(false),
            bytes: Mutex::new(0),
            written: Condvar::new(),
            work: [AtomicBool::new(false), AtomicBool::new(false)],
        });
        for index in 0..2 {
            let waker = waker.clone();
            loom::thread::spawn(move || {
                waker.work[index].store(true, Ordering::Relaxed);
                waker.wake();
            });
        }
        // A wake that is lost leaves this thread waiting for ever, which loom reports.
        let mut found = [false; 2];
        while found != [true; 2] {
            drop(waker.wait());
            waker.clear();
            for (found, work) in found.iter_mut().zip(&waker.work) {
                *found |= work.load(Ordering::Relaxed);
            }
        }
    });
}

/// The moment that is now. The beater must not sleep beyond it once something is due then.
const NOW: u8 = 1;
/// Until when a beater sleeps that knows of nothing.
const AN_INTERVAL: u8 = 8;
const NEVER: u8 = 9;

/// The marks that whoever has the session and the beater share, and how far each of them is. All accesses in `beat.rs` are
/// sequentially consistent, so every run of it is one of the orders of these steps. (loom takes them for weaker.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Beat {
    due: u8,
    planned: u8,
    locked: Option<Who>,
    notified: bool,
    setter: u8,
    beater: u8,
    looked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    Setter,
    Beater,
}

impl Beat {
    fn lock(mut self, who: Who) -> Option<Beat> {
        self.locked.is_none().then(|| {
            self.locked = Some(who);
            self
        })
    }

    /// `look_in_at`, called when the session is due at once. `None` where it cannot go on.
    fn set(mut self) -> Option<Beat> {
        match self.setter {
            0 => self.due = NOW,
            1 if NOW < self.planned => {}
            1 => self.setter = 4,
            2 => self = self.lock(Who::Setter)?,
            3 => self.planned = self.planned.min(NOW),
            4 => (self.notified, self.locked) = (self.beater == ASLEEP, None),
            _ => return None,
        }
        self.setter += 1;
        Some(self)
    }

    /// `run` and `sleep`. `None` where it cannot go on.
    fn beat(mut self) -> Option<Beat> {
        let next = match self.beater {
            0 if self.due <= NOW => {
                self.looked = true;
                LOOKED
            }
            0 => 1,
            1 => {
                self = self.lock(Who::Beater)?;
                2
            }
            2 => {
                self.planned = AN_INTERVAL;
                3
            }
            3 => {
                self.planned = self.planned.min(self.due);
                4
            }
            4 if self.planned <= NOW => {
                self.locked = None;
                0
            }
            // To wait on the condition lets go of the lock in the same step.
            4 => {
                (self.locked, self.notified) = (None, false);
                ASLEEP
            }
            ASLEEP if self.notified => {
                self = self.lock(Who::Beater)?;
                self.notified = false;
                4
            }
            _ => return None,
        };
        self.beater = next;
        Some(self)
    }
}

const ASLEEP: u8 = 5;
const LOOKED: u8 = 6;

#[test]
fn a_beater_never_sleeps_beyond_what_was_due_before() {
    let nothing =
        Beat { due: NEVER, planned: NEVER, locked: None, notified: false, setter: 0, beater: 0, looked: false };
    // Also with the plan that an earlier sleep has left behind, which may be in the past.
    let mut open = vec![nothing, Beat { planned: AN_INTERVAL, ..nothing }, Beat { planned: 0, ..nothing }];
    let mut seen = BTreeSet::new();
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        let next: Vec<Beat> = [state.set(), state.beat()].into_iter().flatten().collect();
        assert!(!next.is_empty() || state.looked, "the beater sleeps, and what is due waits: {state:?}");
        open.extend(next);
    }
    assert!(seen.len() > 50, "only {} states", seen.len());
}

/// The engine of the asynchronous handles, which the I/O thread lets go of while it sleeps, and a caller who sends a message
/// on its socket meanwhile. A message comes at any moment, and the caller sets a timer. The same steps as in `aio/reactor.rs`
/// and `aio/engine.rs`; the lock orders all of them but those of the network and the sleep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Shared {
    /// A message has come, and libzmq has not looked at its mail since.
    mail: bool,
    /// What the descriptor says.
    signal: bool,
    /// A message is there to be read.
    readable: bool,
    /// Whether only the descriptor can tell of a message.
    drained: bool,
    /// Somebody has woken the I/O thread.
    woken: bool,
    /// Whether the caller sets a timer.
    sets: bool,
    /// Something is due at once, and whether the sleep takes account of it.
    due: bool,
    planned: bool,
    has_come: bool,
    was_read: bool,
    was_timed: bool,
    locked: bool,
    caller: u8,
    io: u8,
    /// Whether the descriptor had stirred when the sleep ended.
    stirred: bool,
}

impl Shared {
    fn open_mail(&mut self) {
        self.readable |= self.mail;
        (self.mail, self.signal) = (false, false);
    }

    fn ask(&mut self) {
        self.open_mail();
        self.drained = !self.readable;
    }

    fn network(mut self) -> Option<Shared> {
        (!self.has_come).then(|| {
            (self.has_come, self.mail, self.signal) = (true, true, true);
            self
        })
    }

    /// `Queue::push_alone` and `Engine::carry_out`. libzmq looks at its mail when it sends, or does not.
    fn call(mut self, looks: bool) -> Option<Shared> {
        match self.caller {
            0 if !self.locked => self.locked = true,
            1 => {
                self.drained = false;
                self.due = self.sets;
                if looks {
                    self.open_mail();
                }
            }
            2 => self.ask(),
            3 => {
                self.woken |= self.readable || (self.due && !self.planned);
                self.locked = false;
            }
            _ => return None,
        }
        self.caller += 1;
        Some(self)
    }

    /// `Reactor::turn` and `Reactor::wait`.
    fn work(mut self) -> Option<Shared> {
        let next = match self.io {
            0 if !self.locked => {
                self.locked = true;
                1
            }
            1 => {
                if !self.drained {
                    self.ask();
                }
                if self.woken || self.readable { 4 } else { 2 }
            }
            2 => {
                self.planned = self.due;
                self.locked = false;
                3
            }
            // What stirs it is seen before the lock is had.
            3 if self.signal || self.woken || self.planned => {
                self.stirred = self.signal;
                5
            }
            5 if !self.locked => {
                self.locked = true;
                if self.stirred {
                    self.ask();
                }
                4
            }
            4 => {
                self.woken = false;
                self.was_read |= self.readable;
                self.readable = false;
                self.was_timed |= self.due;
                self.due = false;
                self.locked = false;
                0
            }
            _ => return None,
        };
        self.io = next;
        Some(self)
    }
}

#[test]
fn what_a_caller_does_in_the_io_threads_place_hides_no_message_and_no_timer_from_it() {
    let start = |drained, sets| Shared { drained, sets, ..Shared::default() };
    let mut open = vec![start(false, false), start(true, false), start(false, true), start(true, true)];
    let mut seen = BTreeSet::new();
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        let steps = [state.network(), state.call(false), state.call(true), state.work()];
        let next: Vec<Shared> = steps.into_iter().flatten().collect();
        let is_done = state.was_read && (state.was_timed || !state.sets);
        assert!(!next.is_empty() || is_done, "the I/O thread sleeps, and something waits for it: {state:?}");
        open.extend(next);
    }
    assert!(seen.len() > 50, "only {} states", seen.len());
}
