//! The world: peers driven as their drivers would drive them, and the account of what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use majordomo::proto::broker::{Broker, BrokerConfig};
use majordomo::proto::worker::{Answer, Worker, WorkerConfig, WorkerOutput};
use majordomo::{BrokerOptions, Message, Protocol, ServiceError, WorkerOptions};

use crate::clients::ClientPeer;
use crate::ledger::{Ledger, split};
use crate::network::{Clock, Event, Link, Network, Plan, Random, State};
use crate::sessions::SessionPeer;

const BEAT: Duration = Duration::from_millis(500);
const LAST_FAULT: u64 = 8_000;
const LAST_REQUEST: u64 = 9_000;
pub(crate) const SERVICES: u64 = 3;
/// The service of one worker that keeps outcomes and never dies.
pub(crate) const KEEPER: &str = "keeper";
/// A service without workers.
pub(crate) const NOBODY: &str = "nobody";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) kill_workers: bool,
    /// Connections break, and both sides learn of it.
    pub(crate) cut: bool,
    /// Connections go dead without a word: what is under way is lost, and only silence tells.
    pub(crate) silent_cut: bool,
    pub(crate) slow_handlers: bool,
    pub(crate) restart_broker: bool,
    /// Every request may run once at most: `max_attempts` 1 at the broker, `retries` 1 at the client.
    pub(crate) once: bool,
    /// Callers who give up, who have little time, who want no second attempt or no waiting, and handlers that want one.
    pub(crate) impatient: bool,
    /// Workers leave in good order and come back.
    pub(crate) drain: bool,
    /// Peers and the broker stand still for a while.
    pub(crate) freeze: bool,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Faults {
            kill_workers: false,
            cut: false,
            silent_cut: false,
            slow_handlers: false,
            restart_broker: false,
            once: false,
            impatient: false,
            drain: false,
            freeze: false,
        }
    }

    pub(crate) fn all() -> Self {
        Faults {
            kill_workers: true,
            cut: true,
            silent_cut: true,
            slow_handlers: true,
            restart_broker: true,
            once: false,
            impatient: true,
            drain: true,
            freeze: true,
        }
    }
}

pub(crate) struct WorkerPeer {
    pub(crate) machine: Option<Worker>,
    pub(crate) options: WorkerOptions,
    pub(crate) link: Option<Link>,
    /// Rises with each restart: a handler of an earlier life must not answer for a later one.
    pub(crate) life: u64,
    pub(crate) bodies: BTreeMap<u64, (Message, u32)>,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) random: Random,
    pub(crate) clock: Clock,
    pub(crate) now: Duration,
    pub(crate) network: Network,
    pub(crate) broker: Option<Broker<Bytes>>,
    pub(crate) incarnation: u64,
    pub(crate) clients: Vec<ClientPeer>,
    pub(crate) sessions: Vec<SessionPeer>,
    pub(crate) workers: Vec<WorkerPeer>,
    /// Whose connection it is; kept after its end, for what still arrives.
    pub(crate) owners: BTreeMap<Link, Owner>,
    pub(crate) known_to_broker: BTreeSet<Link>,
    /// How often the handler of each request ran.
    pub(crate) runs: BTreeMap<String, u32>,
    /// Whether the run ended because nothing was left to do.
    pub(crate) settled: bool,
    /// Streams that broke after their caller had been given a part: these cannot be begun again.
    pub(crate) broken_streams: usize,
    /// When what comes after the run will have happened.
    pub(crate) wound_up: Duration,
    pub(crate) ledger: Ledger,
    /// How many requests a client of MDPX may have outstanding.
    pub(crate) credit: u32,
    /// Who stands still, and until when.
    frozen: BTreeMap<Owner, Duration>,
    /// Texts of requests of whose reply a handler gave a part.
    pub(crate) parted: BTreeSet<String>,
    /// Texts of requests that have had their outcome.
    pub(crate) ended: BTreeSet<String>,
    /// Texts of requests that this broker has handed to a worker.
    delivered: BTreeSet<String>,
    /// How often a request was in a worker's hands when its broker died.
    pub(crate) orphaned: BTreeMap<String, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Client(usize),
    Session(usize),
    Worker(usize),
    /// Owns no connection, but may stand still.
    Broker,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1405_7b7e_f767_814f);
        let clock = Clock(Instant::now());
        let clients = (0..random.below(3)).map(|_| ClientPeer::random(&mut random, faults.once)).collect();
        let sessions = (0..1 + random.below(3)).map(|_| SessionPeer::new(&mut random, clock.instant(Duration::ZERO)));
        let sessions = sessions.collect();
        let count = SERVICES + if faults.drain { SERVICES } else { random.below(4) };
        let workers = (0..count).map(|index| WorkerPeer::new(&mut random, index, faults)).collect::<Vec<_>>();
        let workers = workers.into_iter().chain([WorkerPeer::keeper(&mut random)]).collect();
        let credit = 1 + random.below(6) as u32;
        World {
            seed,
            faults,
            random,
            clock,
            now: Duration::ZERO,
            network: Network::default(),
            broker: None,
            incarnation: 0,
            clients,
            sessions,
            workers,
            owners: BTreeMap::new(),
            known_to_broker: BTreeSet::new(),
            runs: BTreeMap::new(),
            settled: false,
            broken_streams: 0,
            wound_up: Duration::MAX,
            ledger: Ledger::default(),
            credit,
            frozen: BTreeMap::new(),
            parted: BTreeSet::new(),
            ended: BTreeSet::new(),
            delivered: BTreeSet::new(),
            orphaned: BTreeMap::new(),
        }
    }

    /// Runs until nothing is left to do but heartbeats.
    pub(crate) fn run(&mut self) {
        self.start_broker();
        for index in 0..self.workers.len() {
            self.start_worker(index);
        }
        for index in 0..self.clients.len() {
            for _ in 0..2 + self.random.below(6) {
                let at = self.random.millis(0, LAST_REQUEST);
                self.network.plan(at, Plan::Ask(index));
            }
        }
        for index in 0..self.sessions.len() {
            // Some come in a crowd, so that the credit is used up.
            let crowd = self.random.millis(0, LAST_REQUEST);
            for _ in 0..4 + self.random.below(16) {
                let at = if self.random.chance(50) { crowd } else { self.random.millis(0, LAST_REQUEST) };
                self.network.plan(at, Plan::AskSession(index));
            }
        }
        self.plan_faults();
        self.settled = self.run_until(Duration::from_secs(400), World::is_settled);
    }

    /// Runs until something holds; whether it did before the end.
    pub(crate) fn run_until(&mut self, end: Duration, holds: impl Fn(&World) -> bool) -> bool {
        while let Some(at) = self.next_moment().filter(|at| *at < end) {
            self.now = self.now.max(at);
            // Input first, then timers: as the drivers do.
            while self.network.next_at().is_some_and(|at| at <= self.now) {
                if let Some(event) = self.network.pop() {
                    self.on_event(event);
                }
            }
            self.fire_timers();
            if holds(self) {
                return true;
            }
        }
        self.now = self.now.max(end);
        false
    }

    fn plan_faults(&mut self) {
        let moments = |random: &mut Random, most: u64| -> Vec<Duration> {
            (0..1 + random.below(most)).map(|_| random.millis(0, LAST_FAULT)).collect()
        };
        if self.faults.kill_workers {
            for at in moments(&mut self.random, 5) {
                if let Some(victim) = self.victim() {
                    self.network.plan(at, Plan::Kill(victim));
                    let back = at + self.random.millis(10, 3000);
                    self.network.plan(back, Plan::Revive(victim));
                }
            }
        }
        if self.faults.drain {
            for at in moments(&mut self.random, 6) {
                if let Some(victim) = self.victim() {
                    self.network.plan(at, Plan::Drain(victim));
                }
            }
        }
        if self.faults.freeze {
            for at in moments(&mut self.random, 4) {
                self.network.plan(at, Plan::Freeze);
            }
        }
        if self.faults.cut || self.faults.silent_cut {
            for at in moments(&mut self.random, 8) {
                self.network.plan(at, Plan::Cut);
            }
        }
        if self.faults.restart_broker {
            for at in moments(&mut self.random, 2) {
                self.network.plan(at, Plan::StopBroker);
                let back = at + self.random.millis(1, 2000);
                self.network.plan(back, Plan::StartBroker);
            }
        }
    }

    /// A worker to lose. Where nothing else goes wrong, one is always left for each service to answer.
    fn victim(&mut self) -> Option<usize> {
        let first = if self.faults.silent_cut { 0 } else { SERVICES };
        let mortal = (self.workers.len() as u64 - 1).checked_sub(first).filter(|mortal| *mortal > 0)?;
        Some((first + self.random.below(mortal)) as usize)
    }

    fn next_moment(&self) -> Option<Duration> {
        let timer = |owner: Owner, at: Option<Instant>| Some(self.clock.since(at?).max(self.thaw(owner)));
        let of = |(index, client): (usize, &ClientPeer)| timer(Owner::Client(index), client.machine.poll_timeout());
        let clients = self.clients.iter().enumerate().filter_map(of);
        let of = |(index, peer): (usize, &SessionPeer)| timer(Owner::Session(index), peer.machine.poll_timeout());
        let sessions = self.sessions.iter().enumerate().filter_map(of);
        let of =
            |(index, peer): (usize, &WorkerPeer)| timer(Owner::Worker(index), peer.machine.as_ref()?.poll_timeout());
        let workers = self.workers.iter().enumerate().filter_map(of);
        let broker = self.broker.as_ref().and_then(|broker| timer(Owner::Broker, broker.poll_timeout()));
        clients.chain(sessions).chain(workers).chain(broker).chain(self.network.next_at()).min()
    }

    /// Until when this one stands still.
    fn thaw(&self, owner: Owner) -> Duration {
        self.frozen.get(&owner).copied().unwrap_or_default()
    }

    fn is_frozen(&self, owner: Owner) -> bool {
        self.thaw(owner) > self.now
    }

    /// Whether every request has its outcome, all that was planned has happened, and no request is left at the broker.
    fn is_settled(&self) -> bool {
        let idle = self.clients.iter().all(|client| client.machine.is_idle())
            && self.sessions.iter().all(|peer| peer.machine.is_idle());
        let planned = self.now > Duration::from_millis(LAST_FAULT + LAST_REQUEST);
        let stats = self.broker.as_ref().map(|broker| broker.stats(self.clock.instant(self.now)));
        idle && planned && stats.is_some_and(|stats| stats.queued == 0 && stats.in_flight == 0)
    }

    fn fire_timers(&mut self) {
        let now = self.clock.instant(self.now);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for index in 0..self.clients.len() {
            if due(self.clients[index].machine.poll_timeout()) && !self.is_frozen(Owner::Client(index)) {
                self.clients[index].machine.handle_timeout(now);
                self.drive_client(index);
            }
        }
        for index in 0..self.sessions.len() {
            if due(self.sessions[index].machine.poll_timeout()) && !self.is_frozen(Owner::Session(index)) {
                self.sessions[index].machine.handle_timeout(now);
                self.drive_session(index);
            }
        }
        for index in 0..self.workers.len() {
            let frozen = self.is_frozen(Owner::Worker(index));
            let Some(machine) = &mut self.workers[index].machine else { continue };
            if due(machine.poll_timeout()) && !frozen {
                machine.handle_timeout(now);
                self.drive_worker(index);
            }
        }
        let frozen = self.is_frozen(Owner::Broker);
        if let Some(broker) = &mut self.broker
            && due(broker.poll_timeout())
            && !frozen
        {
            broker.handle_timeout(now);
            self.drive_broker();
        }
    }

    /// Who has to be awake for this.
    fn subject(&self, event: &Event) -> Option<Owner> {
        match event {
            Event::ToBroker(..) | Event::BrokerSeesClose(_) => Some(Owner::Broker),
            Event::ToPeer(link, _) | Event::PeerSeesClose(link) => self.owners.get(link).copied(),
            Event::Plan(Plan::Ask(index)) => Some(Owner::Client(*index)),
            Event::Plan(Plan::AskSession(index) | Plan::Cancel(index, _)) => Some(Owner::Session(*index)),
            Event::Plan(
                Plan::Part { worker, .. }
                | Plan::Finish { worker, .. }
                | Plan::Stop { worker, .. }
                | Plan::Drain(worker),
            ) => Some(Owner::Worker(*worker)),
            Event::Plan(_) => None,
        }
    }

    fn on_event(&mut self, event: Event) {
        if let Some(owner) = self.subject(&event).filter(|owner| self.is_frozen(*owner)) {
            // What comes meanwhile waits in its order.
            return self.network.defer(self.thaw(owner), event);
        }
        let now = self.clock.instant(self.now);
        match event {
            Event::ToBroker(link, frames) => {
                if let Some(broker) = &mut self.broker {
                    self.known_to_broker.insert(link);
                    match self.owners.get(&link) {
                        Some(&Owner::Session(index)) => {
                            split(&frames).iter().for_each(|frames| self.ledger.of_session(index, link, frames));
                        }
                        Some(Owner::Worker(_)) => {
                            split(&frames).iter().for_each(|frames| self.ledger.of_worker(self.seed, link, frames));
                        }
                        _ => {}
                    }
                    broker.handle_message(now, &link.to_be_bytes(), frames);
                    self.drive_broker();
                }
            }
            Event::BrokerSeesClose(link) => {
                if let Some(broker) = &mut self.broker {
                    broker.handle_gone(now, &link.to_be_bytes());
                    self.drive_broker();
                }
            }
            Event::ToPeer(link, frames) if self.network.state(link) == State::Open => match self.owners.get(&link) {
                Some(&Owner::Client(index)) if self.clients[index].link == Some(link) => {
                    self.clients[index].machine.handle_message(now, frames);
                    self.drive_client(index);
                }
                Some(&Owner::Session(index)) if self.sessions[index].link == Some(link) => {
                    self.sessions[index].machine.handle_message(now, frames);
                    self.drive_session(index);
                }
                Some(&Owner::Worker(index)) if self.workers[index].link == Some(link) => {
                    if let Some(machine) = &mut self.workers[index].machine {
                        split(&frames).iter().for_each(|frames| self.ledger.at_worker(link, frames));
                        machine.handle_message(now, frames);
                        self.drive_worker(index);
                    }
                }
                _ => {}
            },
            Event::ToPeer(..) => {}
            Event::PeerSeesClose(link) => match self.owners.get(&link) {
                Some(&Owner::Client(index)) if self.clients[index].link == Some(link) => {
                    self.clients[index].link = None;
                    self.clients[index].machine.handle_disconnected(now);
                    self.drive_client(index);
                }
                Some(&Owner::Session(index)) if self.sessions[index].link == Some(link) => {
                    self.sessions[index].link = None;
                    self.sessions[index].machine.handle_disconnected(now);
                    self.drive_session(index);
                }
                Some(&Owner::Worker(index)) if self.workers[index].link == Some(link) => {
                    self.workers[index].link = None;
                    if let Some(machine) = &mut self.workers[index].machine {
                        machine.handle_disconnected(now);
                        self.drive_worker(index);
                    }
                }
                _ => {}
            },
            Event::Plan(plan) => self.on_plan(plan),
        }
    }

    fn on_plan(&mut self, plan: Plan) {
        let now = self.clock.instant(self.now);
        match plan {
            Plan::Ask(index) => self.ask(index),
            Plan::AskSession(index) => self.ask_session(index),
            Plan::Cancel(index, number) => self.cancel(index, number),
            Plan::Part { worker, life, number } => {
                let peer = &mut self.workers[worker];
                let (Some(machine), true) = (&mut peer.machine, peer.life == life) else { return };
                let Some((body, _)) = peer.bodies.get(&number) else { return };
                self.parted.insert(text_of(body));
                assert!(machine.answer(now, number, Answer::Partial(Message::from("part"))).is_ok());
                self.drive_worker(worker);
            }
            Plan::Finish { worker, life, number } => {
                let peer = &mut self.workers[worker];
                let (Some(machine), true) = (&mut peer.machine, peer.life == life) else { return };
                let Some((body, attempt)) = peer.bodies.remove(&number) else { return };
                let text = text_of(&body);
                let answer = match text.split(' ').next() {
                    Some("fail") => Answer::Failure(ServiceError::new(418, text)),
                    Some("retry") if attempt < 3 => Answer::Failure(ServiceError::new(503, text).retryable(true)),
                    _ => Answer::Final(body),
                };
                assert!(machine.answer(now, number, answer).is_ok());
                self.drive_worker(worker);
            }
            Plan::Stop { worker, life, number } => {
                let peer = &mut self.workers[worker];
                let (Some(machine), true) = (&mut peer.machine, peer.life == life) else { return };
                if peer.bodies.remove(&number).is_some() {
                    assert!(machine.answer(now, number, Answer::Cancelled).is_ok());
                    self.drive_worker(worker);
                }
            }
            Plan::Drain(index) => {
                if let Some(machine) = &mut self.workers[index].machine {
                    machine.drain(now);
                    self.drive_worker(index);
                }
            }
            Plan::Freeze => {
                let peers = (0..self.clients.len()).map(Owner::Client);
                let peers = peers.chain((0..self.sessions.len()).map(Owner::Session));
                let owners: Vec<_> =
                    peers.chain((0..self.workers.len()).map(Owner::Worker)).chain([Owner::Broker]).collect();
                let owner = owners[self.random.below(owners.len() as u64) as usize];
                // A moment at which nothing else happens: what waited stays before what comes then.
                let thaw = self.now + self.random.millis(10, 4000) + Duration::from_nanos(1);
                if !self.is_frozen(owner) {
                    self.frozen.insert(owner, thaw);
                }
            }
            Plan::Kill(index) => {
                self.frozen.remove(&Owner::Worker(index));
                self.workers[index].machine = None;
                self.workers[index].bodies.clear();
                if let Some(link) = self.workers[index].link.take() {
                    self.network.close(self.now, link, &mut self.random, false);
                }
            }
            Plan::Revive(index) => {
                if self.workers[index].machine.is_none() {
                    self.start_worker(index);
                }
            }
            Plan::Cut => {
                let links = self.network.open_links();
                if !links.is_empty() {
                    let link = links[self.random.below(links.len() as u64) as usize];
                    if self.faults.silent_cut && self.random.chance(50) {
                        self.network.silence(link);
                    } else if self.random.chance(50) {
                        self.network.sever(self.now, link, &mut self.random);
                    } else {
                        self.network.close(self.now, link, &mut self.random, true);
                    }
                }
            }
            Plan::StopBroker => {
                self.broker = None;
                self.frozen.remove(&Owner::Broker);
                for text in std::mem::take(&mut self.delivered) {
                    if !self.ended.contains(&text) {
                        *self.orphaned.entry(text).or_default() += 1;
                    }
                }
                for link in self.network.open_links() {
                    self.network.close(self.now, link, &mut self.random, true);
                }
            }
            Plan::StartBroker => {
                if self.broker.is_none() {
                    self.start_broker();
                }
            }
        }
    }

    fn start_broker(&mut self) {
        self.incarnation += 1;
        let options = BrokerOptions::new("tcp://broker:1")
            .heartbeat(BEAT)
            .max_attempts(if self.faults.once { 1 } else { 100 })
            .attempt_timeout(self.faults.slow_handlers.then_some(Duration::from_secs(2)))
            .request_ttl(Some(Duration::from_secs(20)));
        let mut config = BrokerConfig::from(&options);
        config.credit = self.credit;
        let now = self.clock.instant(self.now);
        self.broker = Some(Broker::new(config, now, self.incarnation));
        self.known_to_broker.clear();
        self.ledger.begin_anew();
        for index in 0..self.sessions.len() {
            self.flush_session(index);
        }
        for index in 0..self.clients.len() {
            self.flush_client(index);
        }
    }

    fn start_worker(&mut self, index: usize) {
        let now = self.clock.instant(self.now);
        let seed = self.random.next();
        let peer = &mut self.workers[index];
        peer.life += 1;
        peer.machine = Some(Worker::new(WorkerConfig::from(&peer.options), now, seed));
        self.drive_worker(index);
    }

    pub(crate) fn drive_worker(&mut self, index: usize) {
        while let Some(output) = self.workers[index].machine.as_mut().and_then(Worker::poll_output) {
            match output {
                WorkerOutput::Connect { .. } => {
                    self.close_worker_link(index);
                    // While there is no broker the connection stays down and what is sent on it waits; the machine
                    // notices by silence and tries again, so that losing it here is the harder case.
                    if self.broker.is_some() {
                        let link = self.network.open();
                        self.owners.insert(link, Owner::Worker(index));
                        self.workers[index].link = Some(link);
                    }
                }
                WorkerOutput::Send(frames) => {
                    if let Some(link) = self.workers[index].link {
                        split(&frames).iter().for_each(|frames| self.ledger.by_worker(self.seed, link, frames));
                        self.network.send_to_broker(self.now, link, frames, &mut self.random);
                    }
                }
                WorkerOutput::Close => self.close_worker_link(index),
                WorkerOutput::Request { number, body, attempt, deadline, .. } => {
                    self.on_work(index, number, body, attempt, deadline);
                }
                WorkerOutput::Cancelled { number } => {
                    let (worker, life) = (index, self.workers[index].life);
                    // Some handlers stop when they are told, some do not listen.
                    if self.workers[index].options.service != KEEPER && self.random.chance(50) {
                        let at = self.now + self.random.millis(0, 20);
                        self.network.plan(at, Plan::Stop { worker, life, number });
                    }
                }
                WorkerOutput::Closed => {
                    self.workers[index].machine = None;
                    self.workers[index].bodies.clear();
                    if self.wound_up == Duration::MAX {
                        let back = self.now + self.random.millis(10, 3000);
                        self.network.plan(back, Plan::Revive(index));
                    }
                }
                WorkerOutput::Event(_) => {}
            }
        }
    }

    fn on_work(&mut self, index: usize, number: u64, body: Message, attempt: u32, deadline: Option<Instant>) {
        let (seed, text) = (self.seed, text_of(&body));
        let late = deadline.is_some_and(|deadline| self.clock.instant(self.now) >= deadline);
        assert!(!late, "seed {seed}: work is started whose time is over: {text}");
        *self.runs.entry(text).or_default() += 1;
        let slow = self.faults.slow_handlers && self.random.chance(10);
        let time = if slow { self.random.millis(1000, 4000) } else { self.random.millis(0, 100) };
        let life = self.workers[index].life;
        self.workers[index].bodies.insert(number, (body, attempt));
        // Parts come at moments of their own, so that faults fall between them and the end.
        let parts = if self.workers[index].options.service == KEEPER { 0 } else { self.random.below(3) };
        for _ in 0..parts {
            let at = self.now + time.mul_f64(self.random.below(100) as f64 / 100.0);
            self.network.plan(at, Plan::Part { worker: index, life, number });
        }
        self.network.plan(self.now + time, Plan::Finish { worker: index, life, number });
    }

    fn close_worker_link(&mut self, index: usize) {
        if let Some(link) = self.workers[index].link.take() {
            self.network.close(self.now, link, &mut self.random, false);
        }
    }

    fn drive_broker(&mut self) {
        let now = self.clock.instant(self.now);
        while let Some(transmit) = self.broker.as_mut().and_then(Broker::poll_transmit) {
            let link = Link::from_be_bytes(transmit.to[..].try_into().expect("our routing ids have eight bytes"));
            match self.owners.get(&link) {
                _ if self.network.state(link) == State::Closed => {}
                Some(&Owner::Session(index)) => {
                    split(&transmit.frames).iter().for_each(|frames| self.ledger.told_session(index, link, frames));
                }
                Some(Owner::Worker(_)) => {
                    let messages = split(&transmit.frames);
                    self.delivered.extend(messages.iter().filter_map(|frames| self.ledger.told_worker(link, frames)));
                }
                _ => {}
            }
            match self.network.state(link) {
                State::Closed => {
                    if let Some(broker) = &mut self.broker {
                        broker.handle_undeliverable(now, transmit);
                    }
                }
                _ => self.network.send_to_peer(self.now, link, transmit.frames.into_vec(), &mut self.random),
            }
        }
        self.ledger.check(self.seed, self.credit as usize);
    }
}

impl WorkerPeer {
    fn new(random: &mut Random, index: u64, faults: Faults) -> WorkerPeer {
        let protocols = [Protocol::V01, Protocol::V02, Protocol::X1, Protocol::X1, Protocol::Auto];
        // The older protocols have no good order to leave in.
        let oldest = if faults.drain && !faults.silent_cut { 2 } else { 0 };
        let protocol = protocols[oldest + random.below((protocols.len() - oldest) as u64) as usize];
        let options = WorkerOptions::new("tcp://broker:1", &format!("s{}", index % SERVICES)).protocol(protocol);
        WorkerPeer { machine: None, options: spread(random, options), link: None, life: 0, bodies: BTreeMap::new() }
    }

    fn keeper(random: &mut Random) -> WorkerPeer {
        let options = WorkerOptions::new("tcp://broker:1", KEEPER)
            .protocol(Protocol::X1)
            .keep_outcomes(1000)
            .keep_outcomes_age(Duration::from_secs(3600));
        WorkerPeer { machine: None, options: spread(random, options), link: None, life: 0, bodies: BTreeMap::new() }
    }
}

/// Unequal settings on the two sides are part of every run.
fn spread(random: &mut Random, options: WorkerOptions) -> WorkerOptions {
    options
        .heartbeat(BEAT * (1 + random.below(3) as u32) / 2)
        .liveness(3)
        .concurrency(1 + random.below(3) as usize)
        .prefetch(random.below(4) as usize)
}

/// What a request says: its kind and its number.
fn text_of(body: &Message) -> String {
    body.first().map(|frame| String::from_utf8_lossy(frame).into_owned()).unwrap_or_default()
}
