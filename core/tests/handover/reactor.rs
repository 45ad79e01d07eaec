//! An I/O thread that sleeps while a caller sends in its place.

use std::collections::BTreeSet;

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
