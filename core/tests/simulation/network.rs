//! The network: connections between peers and the broker, each in order, with delays of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Small deterministic random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.below((to - from) * 1000 + 1))
    }
}

/// A connection's number. A fresh connection of the same peer has a fresh number, as a ROUTER gives a fresh routing id.
pub(crate) type Link = u64;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Frames arrive at the broker.
    ToBroker(Link, Vec<Bytes>),
    /// Frames arrive at the peer.
    ToPeer(Link, Vec<Bytes>),
    /// The broker's transport learns that the connection is closed.
    BrokerSeesClose(Link),
    /// The peer's transport learns that the connection is closed.
    PeerSeesClose(Link),
    /// Something that the world planned.
    Plan(Plan),
}

#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Ask(usize),
    AskSession(usize),
    /// The caller gives this request of this session up.
    Cancel(usize, u64),
    Part {
        worker: usize,
        life: u64,
        number: u64,
    },
    Finish {
        worker: usize,
        life: u64,
        number: u64,
    },
    /// The handler has heard that nobody waits any more.
    Stop {
        worker: usize,
        life: u64,
        number: u64,
    },
    Drain(usize),
    Freeze,
    Kill(usize),
    Revive(usize),
    Cut,
    StopBroker,
    StartBroker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// Nothing passes any more, and neither side knows yet.
    Silent,
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Arrivals by time; the second number keeps the order of those at the same time.
    events: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    links: BTreeMap<Link, (State, Duration, Duration)>,
    last_link: Link,
    /// Dead connections that the peer has closed: the broker does not know.
    unnoticed: Vec<Link>,
}

impl Network {
    pub(crate) fn open(&mut self) -> Link {
        self.last_link += 1;
        self.links.insert(self.last_link, (State::Open, Duration::ZERO, Duration::ZERO));
        self.last_link
    }

    pub(crate) fn state(&self, link: Link) -> State {
        self.links.get(&link).map_or(State::Closed, |(state, ..)| *state)
    }

    pub(crate) fn open_links(&self) -> Vec<Link> {
        self.links.iter().filter(|(_, (state, ..))| *state == State::Open).map(|(link, _)| *link).collect()
    }

    pub(crate) fn silence(&mut self, link: Link) {
        if let Some((state, ..)) = self.links.get_mut(&link) {
            *state = State::Silent;
        }
    }

    /// Cuts a connection: what is under way towards the peer is lost, and each side is told at a time of its own.
    pub(crate) fn sever(&mut self, now: Duration, link: Link, random: &mut Random) {
        let Some((state, to_broker, _)) = self.links.get_mut(&link) else { return };
        *state = State::Silent;
        let at = (*to_broker).max(now) + random.millis(0, 3000);
        self.push(at, Event::BrokerSeesClose(link));
        self.push(now + random.millis(0, 3000), Event::PeerSeesClose(link));
    }

    /// Tells the broker of every connection that is dead.
    pub(crate) fn end_silence(&mut self, now: Duration) {
        let silent = self.links.iter().filter(|(_, (state, ..))| *state == State::Silent).map(|(link, _)| *link);
        let silent: Vec<_> = silent.chain(std::mem::take(&mut self.unnoticed)).collect();
        for link in silent {
            self.push(now, Event::BrokerSeesClose(link));
            self.push(now, Event::PeerSeesClose(link));
        }
    }

    /// Closes a connection: what is under way towards the broker still arrives, then each side that did not close it is told.
    pub(crate) fn close(&mut self, now: Duration, link: Link, random: &mut Random, tell_peer: bool) {
        let Some((state, to_broker, _)) = self.links.get_mut(&link) else { return };
        if *state == State::Open {
            let at = (*to_broker).max(now + random.millis(0, 2));
            self.push(at, Event::BrokerSeesClose(link));
            if tell_peer {
                self.push(now + random.millis(0, 2), Event::PeerSeesClose(link));
            }
        }
        if self.links.remove(&link).is_some_and(|(state, ..)| state == State::Silent) {
            self.unnoticed.push(link);
        }
    }

    pub(crate) fn send_to_broker(&mut self, now: Duration, link: Link, frames: Vec<Bytes>, random: &mut Random) {
        if let Some((State::Open, last, _)) = self.links.get_mut(&link) {
            *last = (*last).max(now + random.millis(0, 5));
            let at = *last;
            self.push(at, Event::ToBroker(link, frames));
        }
    }

    pub(crate) fn send_to_peer(&mut self, now: Duration, link: Link, frames: Vec<Bytes>, random: &mut Random) {
        if let Some((State::Open, _, last)) = self.links.get_mut(&link) {
            *last = (*last).max(now + random.millis(0, 5));
            let at = *last;
            self.push(at, Event::ToPeer(link, frames));
        }
    }

    /// Lets something happen later.
    pub(crate) fn defer(&mut self, at: Duration, event: Event) {
        self.push(at, event);
    }

    pub(crate) fn plan(&mut self, at: Duration, plan: Plan) {
        self.push(at, Event::Plan(plan));
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }
}

/// Virtual time: an origin that the machines' instants are counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(pub(crate) Instant);

impl Clock {
    pub(crate) fn instant(self, at: Duration) -> Instant {
        self.0 + at
    }

    pub(crate) fn since(self, at: Instant) -> Duration {
        at.saturating_duration_since(self.0)
    }
}
