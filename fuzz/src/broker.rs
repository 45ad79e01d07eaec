//! A broker's machine and an onlooker, who knows of each peer what it has said and what it was told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use majordomo::BrokerOptions;
use majordomo::proto::broker::{Broker, BrokerConfig, Stats, Transmit};
use majordomo::proto::mdp::{self, Part, ToBroker, ToClient, ToWorker, Version};
use majordomo::proto::mdpx::{self, Command};

use crate::input::Input;
use crate::outputs::{check_from_broker, messages_of_x1};

/// An hour goes by at once at most; this allows for some beats in each second of it.
const MOST_TURNS: usize = 20_000;

/// What the onlooker knows of a number of requests.
#[derive(Default)]
struct Asked {
    times: u32,
    outcomes: u32,
    /// The most attempts that its clients have wanted.
    attempts: u32,
    /// The sessions that those who asked had greeted for.
    sessions: BTreeSet<u8>,
}

/// What the onlooker knows of a peer.
#[derive(Default)]
pub struct Peer {
    /// Whether it has said something on a connection that is still there.
    is_there: bool,
    /// The first bytes of the sessions that it has greeted for.
    greeted: BTreeSet<u8>,
    /// The largest capacity in its last word about it.
    capacity: u32,
    /// Deliveries that it has not answered.
    held: BTreeSet<u64>,
    /// What the message that the broker reads may have happen on the way through it.
    meanwhile: Meanwhile,
    /// The address of the request that it has, as a worker of an older protocol.
    held_address: Option<Bytes>,
    /// Requests less replies, as a client of an older protocol.
    owed: i64,
}

#[derive(Default)]
struct Meanwhile {
    /// Deliveries that it answers unheard: a READY before in it may lead to them.
    guessed: BTreeSet<u64>,
    /// What the capacity was: a RETURN before the READY in it may lead to a delivery.
    capacity: u32,
}

impl Peer {
    /// Its registration as a worker has ended, on either side's word.
    fn let_go(&mut self) {
        self.held.clear();
        self.held_address = None;
    }
}

/// A broker among peers that say whatever they like.
pub struct World {
    pub machine: Broker<Bytes>,
    pub now: Instant,
    config: BrokerConfig,
    peers: BTreeMap<Vec<u8>, Peer>,
    asked: BTreeMap<u64, Asked>,
    last_delivery: u64,
    /// The last messages, to be undeliverable.
    pub sent: VecDeque<Transmit<Bytes>>,
    /// Deliveries and addresses that some worker was told, newest last.
    pub deliveries: VecDeque<u64>,
    pub addresses: VecDeque<Bytes>,
    is_down: bool,
    /// What the broker said of itself before the present input.
    before: Stats,
}

impl World {
    /// A broker with narrow limits.
    pub fn new(input: &mut Input<'_>) -> World {
        let mut config = BrokerConfig::from(&BrokerOptions::new("tcp://127.0.0.1:0"));
        let tight = input.u8();
        config.max_attempts = 1 + u32::from(tight & 3);
        config.attempt_timeout = (tight & 4 != 0).then_some(Duration::from_millis(300));
        config.request_ttl = (tight & 8 != 0).then_some(Duration::from_secs(2));
        config.max_queued = if tight & 16 != 0 { 3 } else { 100 };
        config.max_queued_per_service = 50;
        config.max_queued_bytes = if tight & 32 != 0 { 10_000 } else { 1 << 20 };
        config.max_message_bytes = if tight & 64 != 0 { 1000 } else { 1 << 20 };
        config.max_services = 3;
        config.max_workers = 4;
        config.max_sessions = 2;
        // Hours of beats go by in an input, and each is a turn.
        config.heartbeat_min = Duration::from_secs(1);
        config.credit = if tight & 128 != 0 { 2 } else { 100 };
        let now = Instant::now();
        World {
            machine: Broker::new(config.clone(), now, 77),
            now,
            config,
            peers: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_delivery: 0,
            sent: VecDeque::new(),
            deliveries: VecDeque::new(),
            addresses: VecDeque::new(),
            is_down: false,
            before: Stats::default(),
        }
    }

    /// The peer says this.
    pub fn hear(&mut self, peer: &[u8], frames: Vec<Bytes>) {
        self.note(peer, &frames);
        self.machine.handle_message(self.now, peer, frames);
        self.settle();
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.meanwhile = Meanwhile::default();
        }
    }

    pub fn gone(&mut self, peer: &[u8]) {
        self.peers.remove(peer);
        self.machine.handle_gone(self.now, peer);
        self.settle();
    }

    /// One of the last messages could not be sent.
    pub fn lose(&mut self, index: usize) {
        if let Some(lost) = self.sent.remove(index) {
            self.peers.remove(&lost.to[..]);
            self.machine.handle_undeliverable(self.now, lost);
            self.settle();
        }
    }

    pub fn too_large(&mut self, peer: &[u8]) {
        self.machine.handle_too_large(self.now, peer);
        self.settle();
    }

    pub fn shutdown(&mut self) {
        self.machine.shutdown(self.now);
        self.is_down = true;
        self.settle();
    }

    /// Time goes by; whatever is due on the way happens at its moment.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for turns in 0.. {
            assert!(turns < MOST_TURNS, "the broker is due again and again");
            let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            self.settle();
            assert!(self.machine.poll_timeout().is_none_or(|next| next > self.now), "what was due is done");
        }
        self.now = end;
    }

    /// All peers go, and their time is over: nothing may be left.
    pub fn wind_up(&mut self) {
        let peers: Vec<_> = self.peers.keys().cloned().collect();
        peers.iter().for_each(|peer| self.gone(peer));
        // Sessions are kept for as long as their clients have said that they bear silence, which is four hours at most.
        self.pass(self.config.heartbeat_max * 300);
        let stats = self.machine.stats(self.now);
        assert_eq!((stats.workers, stats.sessions, stats.in_flight, stats.kept_bytes), (0, 0, 0, 0), "{stats:?}");
        assert_eq!(self.machine.held(), stats.queued);
        if self.config.request_ttl.is_some() {
            assert_eq!((stats.queued, stats.services), (0, 0), "{stats:?}");
        }
    }

    /// Takes note of what a peer says.
    fn note(&mut self, peer: &[u8], frames: &[Bytes]) {
        let peer = self.peers.entry(peer.to_vec()).or_default();
        peer.is_there = true;
        if let Some(header) = frames.first().filter(|header| mdpx::is_header(header)) {
            let (mut capacity, mut left) = (None, false);
            let asked = &mut self.asked;
            mdpx::each_message(header, frames.len() - 1, |command| match command {
                Command::Hello { session, .. } => {
                    peer.greeted.insert(session[0]);
                }
                Command::Request { number, max_attempts, .. } => {
                    let entry = asked.entry(number).or_default();
                    entry.times += 1;
                    entry.attempts = entry.attempts.max(u32::from(max_attempts));
                    entry.sessions.extend(&peer.greeted);
                }
                Command::Ready { capacity: now, .. } => capacity = capacity.max(Some(now)),
                Command::WorkerFinal { delivery, .. }
                | Command::WorkerError { delivery, .. }
                | Command::Return { delivery } => {
                    if !peer.held.remove(&delivery) {
                        peer.meanwhile.guessed.insert(delivery);
                    }
                }
                Command::Disconnect { .. } => left = true,
                _ => {}
            });
            peer.meanwhile.capacity = peer.capacity;
            peer.capacity = capacity.unwrap_or(peer.capacity);
            if left {
                peer.let_go();
            }
        }
        match mdp::read_to_broker(frames.to_vec()) {
            Ok(ToBroker::Request { .. }) => peer.owed += 1,
            Ok(ToBroker::Answer { address, part: Part::Final, .. }) if peer.held_address.as_ref() == Some(&address) => {
                peer.held_address = None;
            }
            Ok(ToBroker::Disconnect { .. }) => peer.let_go(),
            _ => {}
        }
    }

    /// Takes everything that the broker says, and looks at its books.
    fn settle(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            self.check(&transmit);
            self.sent.push_back(transmit);
            if self.sent.len() > 8 {
                self.sent.pop_front();
            }
        }
        let stats = self.machine.stats(self.now);
        let (config, counters) = (&self.config, &stats.counters);
        assert_eq!(self.machine.held(), stats.queued + stats.in_flight, "{stats:?}");
        assert!(stats.workers <= config.max_workers && stats.sessions <= config.max_sessions, "{stats:?}");
        assert!(stats.services <= config.max_services, "{stats:?}");
        assert!(stats.kept_bytes <= config.max_queued_bytes, "{stats:?}");
        let before = &self.before;
        // What was taken in already may come back: it is not dropped for a limit.
        if counters.accepted > before.counters.accepted && counters.undeliverable == before.counters.undeliverable {
            assert!(stats.queued <= before.queued.max(config.max_queued), "{stats:?} after {before:?}");
            let most_bytes = before.queued_bytes.max(config.max_queued_bytes);
            assert!(stats.queued_bytes <= most_bytes, "{stats:?} after {before:?}");
        }
        if !self.is_down {
            let ended = counters.answered
                + counters.expired
                + counters.exhausted
                + counters.abandoned
                + counters.cancelled
                + counters.failed;
            assert_eq!(counters.accepted, ended + self.machine.held() as u64, "{stats:?}");
        }
        assert!(stats.queued > 0 || stats.queued_bytes == 0, "{stats:?}");
        self.before = stats;
    }

    fn check(&mut self, transmit: &Transmit<Bytes>) {
        let peer = self.peers.get_mut(&transmit.to[..]).filter(|peer| peer.is_there);
        let Some(peer) = peer else { panic!("something is said to a peer that is not there: {transmit:?}") };
        if transmit.frames.first().is_some_and(|header| mdpx::is_header(header)) {
            for message in messages_of_x1(&transmit.frames) {
                let command = mdpx::read(&message[0], message.len() - 1).expect("was read before").command;
                match command {
                    Command::Deliver { delivery, number, attempt, session, .. } => {
                        assert!(delivery > self.last_delivery, "a delivery has a number of its own");
                        self.last_delivery = delivery;
                        if !peer.meanwhile.guessed.contains(&delivery) {
                            peer.held.insert(delivery);
                        }
                        let capacity = peer.capacity.max(peer.meanwhile.capacity);
                        assert!(peer.held.len() <= capacity as usize, "more deliveries than the capacity");
                        let wanted =
                            self.asked.get(&number).filter(|_| session != [0; 16]).map_or(0, |asked| asked.attempts);
                        assert!(u32::from(attempt) <= self.config.max_attempts.max(wanted), "attempt {attempt}");
                        self.deliveries.push_back(delivery);
                    }
                    Command::Final { number, .. } | Command::Error { number, .. } => {
                        let asked = self.asked.entry(number).or_default();
                        asked.outcomes += 1;
                        assert!(asked.outcomes <= asked.times, "request {number} has more outcomes than it was asked");
                        assert!(!asked.sessions.is_disjoint(&peer.greeted), "an outcome goes to a stranger's session");
                    }
                    Command::Disconnect { .. } => peer.let_go(),
                    _ => {}
                }
            }
        } else {
            check_from_broker(&transmit.frames);
            for version in Version::ALL {
                match mdp::read_to_worker(*version, transmit.frames.to_vec()) {
                    Ok(ToWorker::Request { address, .. }) => {
                        assert_eq!(peer.held_address, None, "an older worker has one request at a time");
                        peer.held_address = Some(address.clone());
                        self.addresses.push_back(address);
                        self.last_delivery += 1;
                    }
                    Ok(ToWorker::Disconnect) => peer.let_go(),
                    Ok(ToWorker::Heartbeat) | Err(_) => {}
                }
                let reply = mdp::read_to_client(*version, transmit.frames.to_vec());
                if let Ok(ToClient { part: Part::Final, .. }) = reply {
                    peer.owed -= 1;
                    assert!(peer.owed >= 0, "more replies than requests");
                }
            }
        }
        for known in [self.deliveries.len(), self.addresses.len()] {
            if known > 16 {
                self.deliveries.pop_front();
                self.addresses.pop_front();
            }
        }
    }
}
