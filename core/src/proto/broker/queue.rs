//! The waiting requests of a service, handed out in turns: one of each client that waits, then the next of each.
//!
//! A client is its connection in 0.1 and 0.2, and its session in MDPX. Its own requests keep their order. What a worker gave
//! back was accepted before whatever of its client still waits, and goes before everything else.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use foldhash::fast::FixedState;

use crate::proto::frame::RoutingId;

use super::Map;
use super::request::{Client, RequestId};
use super::session::SessionKey;

/// So many times what is left of a limit one client may hold. Alone it fills eight ninths of a queue, two fill eight
/// seventeenths each: there is always room for one that has nothing waiting yet. A queue of nine or fewer is nobody's
/// to share, and one client may fill it.
const SHARE: usize = 8;

/// Who waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    Peer(RoutingId),
    Session(SessionKey),
}

impl From<&Client> for Asker {
    fn from(client: &Client) -> Asker {
        match client {
            Client::Mdp { peer, .. } => Asker::Peer(peer.clone()),
            Client::X1 { session, .. } => Asker::Session(*session),
        }
    }
}

/// How much of a limit is taken, or left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) requests: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.requests += 1;
        self.bytes += bytes;
    }

    pub(super) fn subtract(&mut self, bytes: usize) {
        self.requests -= 1;
        self.bytes -= bytes;
    }

    /// Whether a client that holds this much has more than its share, when this much is left for all.
    pub(super) fn is_greedy(self, left: Load) -> bool {
        self.requests > left.requests.saturating_mul(SHARE) || self.bytes > left.bytes.saturating_mul(SHARE)
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Requests that were given back, by order of acceptance.
    returned: VecDeque<RequestId>,
    lines: Map<Asker, Line>,
    /// Everybody who has a line, once; the front is next in turn.
    turns: VecDeque<Asker>,
    /// What waits.
    load: Load,
    /// The numbers in all lines and of what was given back. A request that ended while it waited leaves its number behind.
    numbers: usize,
}

/// One client's requests that no worker has been given yet. There is always a first: most clients wait for one.
#[derive(Debug)]
struct Line {
    first: RequestId,
    rest: VecDeque<RequestId>,
    load: Load,
}

/// A queue that has emptied gives back memory for more than this many numbers, or clients.
const KEPT_CAPACITY: usize = 1024;

impl Queue {
    pub(super) fn new(hash: FixedState) -> Queue {
        Queue {
            returned: VecDeque::new(),
            lines: Map::with_hasher(hash),
            turns: VecDeque::new(),
            load: Load::default(),
            numbers: 0,
        }
    }

    /// What waits.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// What waits of one client and was not given back.
    pub(super) fn load_of(&self, asker: &Asker) -> Load {
        self.lines.get(asker).map_or(Load::default(), |line| line.load)
    }

    /// A new request waits, behind all others of its client.
    pub(super) fn push(&mut self, id: RequestId, asker: Asker, bytes: usize) {
        let line = match self.lines.entry(asker) {
            Entry::Occupied(line) => {
                let line = line.into_mut();
                line.rest.push_back(id);
                line
            }
            Entry::Vacant(place) => {
                self.turns.push_back(place.key().clone());
                place.insert(Line { first: id, rest: VecDeque::new(), load: Load::default() })
            }
        };
        line.load.add(bytes);
        self.load.add(bytes);
        self.numbers += 1;
    }

    /// A request waits again, in front of all that were not given back.
    pub(super) fn give_back(&mut self, id: RequestId, bytes: usize) {
        let place = self.returned.partition_point(|&other| other < id);
        self.returned.insert(place, id);
        self.numbers += 1;
        self.load.add(bytes);
    }

    /// The request that is next in turn; `waits` tells of a number whether its request still does.
    pub(super) fn front(&mut self, waits: impl Fn(RequestId) -> bool) -> Option<RequestId> {
        if self.load.requests == 0 {
            return None;
        }
        while let Some(&id) = self.returned.front() {
            if waits(id) {
                return Some(id);
            }
            self.returned.pop_front();
            self.numbers -= 1;
        }
        while let Some(asker) = self.turns.front() {
            if let Some(line) = self.lines.get_mut(asker) {
                loop {
                    if waits(line.first) {
                        return Some(line.first);
                    }
                    self.numbers -= 1;
                    match line.rest.pop_front() {
                        Some(next) => line.first = next,
                        None => break,
                    }
                }
                self.lines.remove(asker);
            }
            self.turns.pop_front();
        }
        None
    }

    /// Takes the request out that [`Queue::front`] has just named; its client's next turn comes after everybody else's.
    pub(super) fn take_front(&mut self, asker: &Asker, bytes: usize) {
        self.numbers -= 1;
        if self.returned.pop_front().is_none()
            && let Some(line) = self.lines.get_mut(asker)
        {
            line.load.subtract(bytes);
            match line.rest.pop_front() {
                Some(next) => {
                    line.first = next;
                    if self.turns.len() > 1 {
                        self.turns.rotate_left(1);
                    }
                }
                None => {
                    self.lines.remove(asker);
                    self.turns.pop_front();
                }
            }
        }
        self.load.subtract(bytes);
        self.tidy();
    }

    /// A request that waits has ended; its number stays behind.
    pub(super) fn end(&mut self, id: RequestId, asker: &Asker, bytes: usize) {
        if self.returned.binary_search(&id).is_err()
            && let Some(line) = self.lines.get_mut(asker)
        {
            line.load.subtract(bytes);
        }
        self.load.subtract(bytes);
        self.tidy();
    }

    /// Whether more numbers were left behind than there are waiting requests.
    pub(super) fn is_littered(&self) -> bool {
        self.numbers > 2 * self.load.requests + 16
    }

    /// Drops the numbers that do not wait any more.
    pub(super) fn sweep(&mut self, waits: impl Fn(RequestId) -> bool) {
        self.returned.retain(|&id| waits(id));
        self.lines.retain(|_, line| {
            line.rest.retain(|&id| waits(id));
            if waits(line.first) {
                return true;
            }
            let next = line.rest.pop_front();
            line.first = next.unwrap_or(line.first);
            next.is_some()
        });
        self.turns.retain(|asker| self.lines.contains_key(asker));
        self.numbers = self.returned.len() + self.lines.values().map(|line| 1 + line.rest.len()).sum::<usize>();
    }

    /// Nothing that was left behind outlives the last waiting request.
    fn tidy(&mut self) {
        if self.load.requests > 0 {
            return;
        }
        self.numbers = 0;
        self.returned.clear();
        self.lines.clear();
        self.turns.clear();
        if self.returned.capacity() > KEPT_CAPACITY {
            self.returned = VecDeque::new();
        }
        if self.turns.capacity() > KEPT_CAPACITY {
            self.turns = VecDeque::new();
            self.lines.shrink_to(0);
        }
    }
}
