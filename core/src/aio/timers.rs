//! When the I/O thread has to look after whom.

use std::collections::BTreeSet;
use std::time::Instant;

/// Whom a socket or a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The MDPX connection of a client, by the client's number.
    Client(u64),
    /// One of several connections of a client, by the client's number and the connection's index.
    Connection(u64, usize),
    /// The requests of a client that wait for a connection.
    Waiting(u64),
    /// A session of a worker, by the worker's number and the session's index.
    Session(u64, usize),
}

/// One moment for each owner that has one. Owners keep their own moment; this orders them.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, Owner)>,
}

impl Timers {
    /// Moves the owner's timer from `current` to `wanted`.
    pub(super) fn set(&mut self, owner: Owner, current: &mut Option<Instant>, wanted: Option<Instant>) {
        if *current != wanted {
            if let Some(at) = *current {
                self.due.remove(&(at, owner));
            }
            if let Some(at) = wanted {
                self.due.insert((at, owner));
            }
            *current = wanted;
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Everyone whose moment has come. Their timers stay set until they set them anew.
    pub(super) fn due(&self, now: Instant, into: &mut Vec<Owner>) {
        into.extend(self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, owner)| *owner));
    }
}
