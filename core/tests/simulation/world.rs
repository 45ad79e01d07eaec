//! The world: peers driven as their drivers would drive them, and the account of what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use majordomo::proto::broker::{Broker, BrokerConfig};
use majordomo::proto::client::{Client, ClientConfig, ReplyMode};
use majordomo::proto::worker::{Answer, Worker, WorkerConfig, WorkerOutput};
use majordomo::{BrokerOptions, ClientOptions, Message, Protocol, ServiceError, WorkerOptions};

use crate::network::{Clock, Event, Link, Network, Plan, Random, State};

const BEAT: Duration = Duration::from_millis(500);
const LAST_FAULT: u64 = 8_000;
const LAST_REQUEST: u64 = 9_000;
pub(crate) const SERVICES: u64 = 3;

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
        }
    }
}

/// A client with its connection, its requests and their outcomes.
pub(crate) struct ClientPeer {
    pub(crate) machine: Client,
    pub(crate) mode: ReplyMode,
    pub(crate) link: Option<Link>,
    /// Frames that wait for a broker to take them.
    pub(crate) unsent: Option<Vec<Bytes>>,
    pub(crate) asked: u64,
    /// Text of the request under way.
    pub(crate) current: Option<String>,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) outcomes: BTreeMap<u64, Vec<bool>>,
}

pub(crate) struct WorkerPeer {
    pub(crate) machine: Option<Worker>,
    pub(crate) options: WorkerOptions,
    pub(crate) link: Option<Link>,
    /// Rises with each restart: a handler of an earlier life must not answer for a later one.
    pub(crate) life: u64,
    pub(crate) bodies: BTreeMap<u64, Message>,
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
}

#[derive(Clone, Copy)]
pub(crate) enum Owner {
    Client(usize),
    Worker(usize),
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1405_7b7e_f767_814f);
        let protocol = |random: &mut Random| if random.chance(50) { Protocol::V01 } else { Protocol::V02 };
        let retries = if faults.once { 1 } else { 30 };
        let clients = (0..1 + random.below(4))
            .map(|_| {
                let options = ClientOptions::new("tcp://broker:1")
                    .protocol(protocol(&mut random))
                    .timeout(Duration::from_secs(4))
                    .retries(retries)
                    .deadline(Duration::from_secs(90));
                ClientPeer {
                    machine: Client::new(ClientConfig::from(&options)),
                    mode: if random.chance(50) { ReplyMode::Whole } else { ReplyMode::Parts },
                    link: None,
                    unsent: None,
                    asked: 0,
                    current: None,
                    parts: Vec::new(),
                    outcomes: BTreeMap::new(),
                }
            })
            .collect();
        let workers = (0..SERVICES + random.below(4))
            .map(|index| WorkerPeer {
                machine: None,
                options: WorkerOptions::new("tcp://broker:1", &format!("s{}", index % SERVICES))
                    .protocol(protocol(&mut random))
                    // Unequal settings on the two sides are part of every run.
                    .heartbeat(BEAT * (1 + random.below(3) as u32) / 2)
                    .liveness(3),
                link: None,
                life: 0,
                bodies: BTreeMap::new(),
            })
            .collect();
        World {
            seed,
            faults,
            random,
            clock: Clock(Instant::now()),
            now: Duration::ZERO,
            network: Network::default(),
            broker: None,
            incarnation: 0,
            clients,
            workers,
            owners: BTreeMap::new(),
            known_to_broker: BTreeSet::new(),
            runs: BTreeMap::new(),
            settled: false,
            broken_streams: 0,
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
        self.plan_faults();
        let end = Duration::from_secs(400);
        while let Some(at) = self.next_moment().filter(|at| *at < end) {
            self.now = self.now.max(at);
            // Input first, then timers: as the drivers do.
            while self.network.next_at().is_some_and(|at| at <= self.now) {
                if let Some(event) = self.network.pop() {
                    self.on_event(event);
                }
            }
            self.fire_timers();
            if self.is_settled() {
                self.settled = true;
                break;
            }
        }
    }

    fn plan_faults(&mut self) {
        let moments = |random: &mut Random, most: u64| -> Vec<Duration> {
            (0..1 + random.below(most)).map(|_| random.millis(0, LAST_FAULT)).collect()
        };
        if self.faults.kill_workers {
            for at in moments(&mut self.random, 5) {
                // Only the workers beyond the first of each service die: one is always left to answer.
                let spare = self.workers.len() as u64 - SERVICES;
                if spare > 0 || self.faults.silent_cut {
                    let first = if self.faults.silent_cut { 0 } else { SERVICES };
                    let victim = (first + self.random.below(self.workers.len() as u64 - first)) as usize;
                    self.network.plan(at, Plan::Kill(victim));
                    let back = at + self.random.millis(10, 3000);
                    self.network.plan(back, Plan::Revive(victim));
                }
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

    fn next_moment(&self) -> Option<Duration> {
        let clients = self.clients.iter().filter_map(|client| client.machine.poll_timeout());
        let workers = self.workers.iter().filter_map(|worker| worker.machine.as_ref()?.poll_timeout());
        let broker = self.broker.as_ref().and_then(Broker::poll_timeout);
        let timers = clients.chain(workers).chain(broker).map(|at| self.clock.since(at));
        timers.chain(self.network.next_at()).min()
    }

    /// Whether every request has its outcome, all that was planned has happened, and no request is left at the broker.
    fn is_settled(&self) -> bool {
        let idle = self.clients.iter().all(|client| client.machine.is_idle());
        let planned = self.now > Duration::from_millis(LAST_FAULT + LAST_REQUEST);
        let stats = self.broker.as_ref().map(|broker| broker.stats(self.clock.instant(self.now)));
        idle && planned && stats.is_some_and(|stats| stats.queued == 0 && stats.in_flight == 0)
    }

    fn fire_timers(&mut self) {
        let now = self.clock.instant(self.now);
        for index in 0..self.clients.len() {
            if self.clients[index].machine.poll_timeout().is_some_and(|at| at <= now) {
                self.clients[index].machine.handle_timeout(now);
                self.drive_client(index);
            }
        }
        for index in 0..self.workers.len() {
            let Some(machine) = &mut self.workers[index].machine else { continue };
            if machine.poll_timeout().is_some_and(|at| at <= now) {
                machine.handle_timeout(now);
                self.drive_worker(index);
            }
        }
        if let Some(broker) = &mut self.broker
            && broker.poll_timeout().is_some_and(|at| at <= now)
        {
            broker.handle_timeout(now);
            self.drive_broker();
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = self.clock.instant(self.now);
        match event {
            Event::ToBroker(link, frames) => {
                if let Some(broker) = &mut self.broker {
                    self.known_to_broker.insert(link);
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
                Some(&Owner::Worker(index)) if self.workers[index].link == Some(link) => {
                    if let Some(machine) = &mut self.workers[index].machine {
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
            Plan::Part { worker, life, number } => {
                let peer = &mut self.workers[worker];
                let (Some(machine), true) = (&mut peer.machine, peer.life == life) else { return };
                assert!(machine.answer(now, number, Answer::Partial(Message::from("part"))).is_ok());
                self.drive_worker(worker);
            }
            Plan::Finish { worker, life, number } => {
                let peer = &mut self.workers[worker];
                let (Some(machine), true) = (&mut peer.machine, peer.life == life) else { return };
                let Some(body) = peer.bodies.remove(&number) else { return };
                let text = String::from_utf8_lossy(&body[0]).into_owned();
                if text.contains("fail") {
                    assert!(machine.answer(now, number, Answer::Failure(ServiceError::new(418, &*text))).is_ok());
                } else {
                    assert!(machine.answer(now, number, Answer::Final(body)).is_ok());
                }
                self.drive_worker(worker);
            }
            Plan::Kill(index) => {
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
                    } else {
                        self.network.close(self.now, link, &mut self.random, true);
                    }
                }
            }
            Plan::StopBroker => {
                self.broker = None;
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
        let now = self.clock.instant(self.now);
        self.broker = Some(Broker::new(BrokerConfig::from(&options), now, self.incarnation));
        self.known_to_broker.clear();
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

    fn drive_worker(&mut self, index: usize) {
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
                        self.network.send_to_broker(self.now, link, frames, &mut self.random);
                    }
                }
                WorkerOutput::Close => self.close_worker_link(index),
                WorkerOutput::Request { number, body, .. } => {
                    *self.runs.entry(String::from_utf8_lossy(&body[0]).into_owned()).or_default() += 1;
                    let slow = self.faults.slow_handlers && self.random.chance(10);
                    let time = if slow { self.random.millis(1000, 4000) } else { self.random.millis(0, 100) };
                    let life = self.workers[index].life;
                    self.workers[index].bodies.insert(number, body);
                    // Parts come at moments of their own, so that faults fall between them and the end.
                    for _ in 0..self.random.below(3) {
                        let at = self.now + time.mul_f64(self.random.below(100) as f64 / 100.0);
                        self.network.plan(at, Plan::Part { worker: index, life, number });
                    }
                    self.network.plan(self.now + time, Plan::Finish { worker: index, life, number });
                }
                WorkerOutput::Cancelled { .. } | WorkerOutput::Event(_) | WorkerOutput::Closed => {}
            }
        }
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
            match self.network.state(link) {
                State::Closed => {
                    if let Some(broker) = &mut self.broker {
                        broker.handle_undeliverable(now, transmit);
                    }
                }
                _ => self.network.send_to_peer(self.now, link, transmit.frames.into_vec(), &mut self.random),
            }
        }
    }
}
