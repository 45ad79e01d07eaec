//! An I/O thread that sleeps while others do its work: a caller who sends, and an event loop that reads.

use std::collections::BTreeSet;

/// The engine of the asynchronous handles, which the I/O thread lets go of while it sleeps; a caller who sends a message on
/// its socket meanwhile and sets a timer; and an event loop that the connection may be lent to. Messages come at any moment.
/// The same steps as in `aio/reactor.rs`, `aio/engine.rs`, `aio/link.rs` and `aio/watch.rs`; the lock orders all of them but
/// those of the network and of the sleeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Shared {
    /// How many messages are still to come, and how many are there to be read.
    coming: u8,
    unread: u8,
    /// libzmq has found nothing to read and must get mail before it sees a message: then one is sent with the next.
    asleep: bool,
    /// There is mail, of which the descriptor tells.
    signal: bool,
    /// Whether only the descriptor can tell of a message.
    drained: bool,
    /// The event loop is told of messages, and the I/O thread is not.
    lent: bool,
    /// Somebody has woken the I/O thread.
    woken: bool,
    /// Whether the caller sets a timer.
    sets: bool,
    /// Something is due at once, and whether the sleep takes account of it.
    due: bool,
    planned: bool,
    locked: bool,
    caller: u8,
    io: u8,
    event_loop: u8,
    /// Whether the I/O thread sleeps by the descriptor as well, and whether that had stirred when the sleep ended.
    watches: bool,
    stirred: bool,
}

impl Shared {
    /// What libzmq does with its mail whenever it looks for it.
    fn open_mail(&mut self) {
        if self.signal {
            (self.signal, self.asleep) = (false, false);
        }
    }

    fn ask(&mut self) {
        self.open_mail();
        self.asleep |= self.unread == 0;
        self.drained = self.asleep;
    }

    /// Reads one message, and does not ask whether there is more.
    fn read(&mut self) {
        if !self.drained && !self.asleep && self.unread > 0 {
            self.unread -= 1;
        }
    }

    fn is_readable(&self) -> bool {
        !self.drained && !self.asleep && self.unread > 0
    }

    /// `Link::is_calm`.
    fn is_calm(&mut self) -> bool {
        if !self.drained {
            self.ask();
        }
        self.drained
    }

    fn network(mut self) -> Option<Shared> {
        (self.coming > 0).then(|| {
            (self.coming, self.unread) = (self.coming - 1, self.unread + 1);
            self.signal |= self.asleep;
            self
        })
    }

    /// `Queue::push_alone` and `Engine::carry_out`. libzmq looks at its mail when it sends, or does not; the connection is
    /// taken back, or is not.
    fn call(mut self, looks: bool, takes_back: bool) -> Option<Shared> {
        match self.caller {
            0 if !self.locked => self.locked = true,
            1 => {
                self.drained = false;
                self.due = self.sets;
                if looks {
                    self.open_mail();
                }
            }
            2 => {
                let was_lent = self.lent;
                self.lent &= !takes_back;
                let is_calm = self.is_calm();
                self.woken |= !is_calm || (was_lent && !self.lent) || (self.due && !self.planned);
                self.locked = false;
            }
            _ => return None,
        }
        self.caller += 1;
        Some(self)
    }

    /// `Reactor::turn` and `Reactor::wait`. In its turn it may lend the connection, or take it back.
    fn work(mut self, lends: bool) -> Option<Shared> {
        let next = match self.io {
            0 if !self.locked => {
                self.locked = true;
                1
            }
            1 => {
                self.watches = !(self.lent && self.drained);
                if self.watches && !self.drained {
                    self.ask();
                }
                if self.woken || (self.watches && self.is_readable()) { 4 } else { 2 }
            }
            2 => {
                self.planned = self.due;
                self.locked = false;
                3
            }
            // What stirs it is seen before the lock is had.
            3 if (self.signal && self.watches) || self.woken || self.planned => {
                self.stirred = self.signal && self.watches;
                5
            }
            5 if !self.locked => {
                self.locked = true;
                self.watches = !(self.lent && self.drained);
                if self.watches && self.stirred {
                    self.ask();
                }
                4
            }
            4 => {
                self.woken = false;
                if self.watches {
                    self.read();
                }
                self.due = false;
                self.lent = lends && (self.lent || self.is_calm());
                self.locked = false;
                0
            }
            _ => return None,
        };
        self.io = next;
        Some(self)
    }

    /// `Watch::turn`. It may take the connection back.
    fn turn(mut self, takes_back: bool) -> Option<Shared> {
        let next = match self.event_loop {
            0 if self.lent && self.signal => 1,
            1 if !self.locked => {
                self.locked = true;
                2
            }
            2 => {
                if self.lent {
                    self.ask();
                    self.read();
                    self.drained = false;
                    self.lent &= !takes_back;
                }
                self.woken |= !self.lent;
                self.locked = false;
                3
            }
            // Outcomes are told, and a caller may act.
            3 if !self.locked => {
                self.locked = true;
                4
            }
            4 => {
                self.lent = self.lent && self.is_calm();
                self.woken |= !self.lent;
                self.locked = false;
                0
            }
            _ => return None,
        };
        self.event_loop = next;
        Some(self)
    }

    /// What follows by itself.
    fn compelled(self) -> Vec<Shared> {
        let begun = if self.caller > 0 { self.calls() } else { Vec::new() };
        let own = [false, true].into_iter().flat_map(|choice| [self.work(choice), self.turn(choice)]);
        own.flatten().chain(begun).collect()
    }

    /// What others may do.
    fn possible(self) -> Vec<Shared> {
        let begun = if self.caller == 0 { self.calls() } else { Vec::new() };
        begun.into_iter().chain(self.network()).collect()
    }

    fn calls(self) -> Vec<Shared> {
        let both = [false, true];
        both.into_iter().flat_map(|looks| both.map(|takes_back| self.call(looks, takes_back))).flatten().collect()
    }
}

#[test]
fn what_others_do_in_the_io_threads_place_hides_no_message_and_no_timer_from_it() {
    let start = |drained, sets| Shared { coming: 3, drained, asleep: drained, sets, ..Shared::default() };
    let mut open = vec![start(false, false), start(true, false), start(false, true), start(true, true)];
    let mut seen = BTreeSet::new();
    let (mut lent, mut read_by_loop) = (0, 0);
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        let compelled = state.compelled();
        let is_done = state.unread == 0 && !state.due;
        assert!(!compelled.is_empty() || is_done, "everybody sleeps, and something waits: {state:?}");
        lent += usize::from(state.lent);
        read_by_loop += usize::from(state.turn(false).is_some_and(|after| after.unread < state.unread));
        open.extend(compelled);
        open.extend(state.possible());
    }
    assert!(lent > 100 && read_by_loop > 10, "{} states, {lent} of them lent, {read_by_loop} read", seen.len());
}
