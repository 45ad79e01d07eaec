//! The network: connections between peers and the broker, each in order, with delays of their own; and what is going to
//! happen.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bytes::Bytes;

use super::random::Random;

/// Virtual time, in nanoseconds since the world's beginning.
pub(super) type Moment = u64;

/// A millisecond.
pub(super) const MS: Moment = 1_000_000;
/// Longest time until one side learns of a broken connection.
const NOTICED_WITHIN: u64 = 3_000;

/// A connection's number. A fresh connection of the same peer has a fresh number, as a ROUTER gives a fresh routing id.
pub(super) type Link = usize;

/// Who is at the other end of a connection from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A client of MDP, or a connection that a client over MDPX has for one request.
    Older(usize),
    Session(usize),
    Worker(usize),
}

#[derive(Debug)]
pub(super) enum Event {
    /// Frames arrive at the broker.
    ToBroker(Link, Vec<Bytes>),
    /// Frames arrive at the peer.
    ToPeer(Link, Vec<Bytes>),
    /// The broker's transport learns that the connection is closed.
    BrokerSeesClose(Link),
    /// The peer's transport learns that the connection is closed.
    PeerSeesClose(Link),
    /// An act of the script.
    Act(usize),
    /// A client that was busy is asked again.
    AskAgain(usize),
    /// The caller of this request gives it up.
    Cancel(usize),
    /// The handler of a worker's request gives a part, answers, or stops because it was told to.
    Handler {
        worker: usize,
        life: u64,
        number: u64,
        deed: Deed,
    },
    /// Whoever was ended comes back.
    BrokerBack,
    ClientBack(usize),
    WorkerBack(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Part,
    Finish,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Nothing passes any more, and neither side knows yet.
    Silent,
    /// The broker has closed it: what it said before that still arrives.
    Ending,
    Closed,
}

#[derive(Debug)]
struct Connection {
    owner: Owner,
    state: State,
    /// When the last message arrives at the broker, and at the peer.
    to_broker: Moment,
    to_peer: Moment,
    /// Nothing that is sent arrives before this.
    stalled: Moment,
    /// How many messages were sent, either way.
    sent: u64,
    /// Whether nothing has ever kept its messages.
    is_sound: bool,
}

#[derive(Debug)]
struct Pending {
    at: Moment,
    sequence: u64,
    event: Event,
}

#[derive(Debug)]
pub(super) struct Network {
    seed: u64,
    delay: Moment,
    events: BinaryHeap<Pending>,
    sequence: u64,
    connections: Vec<Connection>,
    /// Dead connections that the peer has closed: the broker does not know.
    unnoticed: Vec<Link>,
}

impl Network {
    pub(super) fn new(seed: u64, delay: Moment) -> Network {
        Network {
            seed,
            delay,
            events: BinaryHeap::with_capacity(64),
            sequence: 0,
            connections: Vec::new(),
            unnoticed: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, owner: Owner) -> Link {
        self.connections.push(Connection {
            owner,
            state: State::Open,
            to_broker: 0,
            to_peer: 0,
            stalled: 0,
            sent: 0,
            is_sound: true,
        });
        self.connections.len() - 1
    }

    /// How many connections there have been.
    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    /// Whose connection it is; known after its end, for what still arrives.
    pub(super) fn owner(&self, link: Link) -> Owner {
        self.connections[link].owner
    }

    pub(super) fn state(&self, link: Link) -> State {
        self.connections[link].state
    }

    /// Whether the connection stands, and has never kept a message back.
    pub(super) fn is_sound(&self, link: Link) -> bool {
        self.connections[link].state == State::Open && self.connections[link].is_sound
    }

    pub(super) fn silence(&mut self, link: Link) {
        let connection = &mut self.connections[link];
        connection.is_sound = false;
        if connection.state == State::Open {
            connection.state = State::Silent;
        }
    }

    pub(super) fn stall(&mut self, now: Moment, link: Link, time: Moment) {
        self.connections[link].stalled = now + time;
        self.connections[link].is_sound = false;
    }

    /// Cuts a connection: what is under way towards the peer is lost, and each side is told at a time of its own.
    pub(super) fn sever(&mut self, now: Moment, link: Link) {
        let mut random = self.random(link);
        self.silence(link);
        let connection = &self.connections[link];
        let at = connection.to_broker.max(now) + random.below(NOTICED_WITHIN) * MS;
        self.plan(at, Event::BrokerSeesClose(link));
        self.plan(now + random.below(NOTICED_WITHIN) * MS, Event::PeerSeesClose(link));
    }

    /// Tells everybody of every connection that is dead.
    pub(super) fn end_silence(&mut self, now: Moment) {
        let silent = (0..self.connections.len()).filter(|link| self.connections[*link].state == State::Silent);
        let silent: Vec<_> = silent.chain(std::mem::take(&mut self.unnoticed)).collect();
        for link in silent {
            self.plan(now, Event::BrokerSeesClose(link));
            self.plan(now, Event::PeerSeesClose(link));
        }
    }

    /// Closes a connection: what is under way towards the broker still arrives, then each side that did not close it is told.
    pub(super) fn close(&mut self, now: Moment, link: Link, tell_peer: bool) {
        let mut random = self.random(link);
        let connection = &mut self.connections[link];
        let state = std::mem::replace(&mut connection.state, State::Closed);
        let soon = now + random.below(2 * MS);
        let at = connection.to_broker.max(soon);
        match state {
            State::Open => {
                self.plan(at, Event::BrokerSeesClose(link));
                if tell_peer {
                    self.plan(now + random.below(2 * MS), Event::PeerSeesClose(link));
                }
            }
            State::Silent => self.unnoticed.push(link),
            State::Ending | State::Closed => {}
        }
    }

    /// The broker has died, and all its connections with it.
    pub(super) fn close_all(&mut self, now: Moment) {
        for link in 0..self.connections.len() {
            if self.connections[link].state == State::Open {
                self.close(now, link, true);
            }
        }
    }

    /// The broker has ended, and closed its connections: what it has said arrives, and then the end.
    pub(super) fn end_all(&mut self, now: Moment) {
        for link in 0..self.connections.len() {
            if self.connections[link].state == State::Open {
                let soon = now + self.random(link).below(2 * MS);
                let connection = &mut self.connections[link];
                connection.state = State::Ending;
                let at = connection.to_peer.max(soon);
                self.plan(at, Event::PeerSeesClose(link));
            }
        }
    }

    pub(super) fn send_to_broker(&mut self, now: Moment, link: Link, frames: Vec<Bytes>) {
        let way = self.way(link);
        let connection = &mut self.connections[link];
        if connection.state == State::Open {
            connection.to_broker = connection.to_broker.max(now + way).max(connection.stalled);
            let at = connection.to_broker;
            self.plan(at, Event::ToBroker(link, frames));
        }
    }

    pub(super) fn send_to_peer(&mut self, now: Moment, link: Link, frames: Vec<Bytes>) {
        let way = self.way(link);
        let connection = &mut self.connections[link];
        if connection.state == State::Open {
            connection.to_peer = connection.to_peer.max(now + way).max(connection.stalled);
            let at = connection.to_peer;
            self.plan(at, Event::ToPeer(link, frames));
        }
    }

    /// Lets something happen later. What is planned for the same moment happens in the order of planning.
    pub(super) fn plan(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.events.push(Pending { at, sequence: self.sequence, event });
    }

    pub(super) fn next_at(&self) -> Option<Moment> {
        self.events.peek().map(|pending| pending.at)
    }

    pub(super) fn pop_due(&mut self, now: Moment) -> Option<Event> {
        self.events.peek().filter(|pending| pending.at <= now)?;
        self.events.pop().map(|pending| pending.event)
    }

    fn way(&mut self, link: Link) -> Moment {
        self.random(link).below(self.delay + 1)
    }

    fn random(&mut self, link: Link) -> Random {
        let connection = &mut self.connections[link];
        connection.sent += 1;
        Random::of(self.seed, link as u64 + 1000, connection.sent)
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    /// The earliest is the greatest: it comes out of the heap first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
