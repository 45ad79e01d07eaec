//! The world: virtual time, and the peers driven as their drivers would drive them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use majordomo::proto::broker::Broker;

use super::asks::{Allowed, Asking};
use super::ledger::Ledger;
use super::network::{Event, Link, MS, Moment, Network, Owner, State};
use super::older::OlderPeer;
use super::script::{Act, Script, Speaks};
use super::sessions::SessionPeer;
use super::workers::WorkerPeer;

/// More happenings than this at one moment mean that time does not go on.
const BUSTLE: u32 = 20_000;

/// The hosts' monotonic clocks: where each began to count has no meaning.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    broker: Instant,
    clients: Instant,
    workers: Instant,
}

impl Clocks {
    /// All clocks began at the same moment.
    pub fn equal(base: Instant) -> Clocks {
        Clocks { broker: base, clients: base, workers: base }
    }

    /// The broker's, the clients' and the workers' hosts were started at moments far from each other.
    pub fn unequal(base: Instant) -> Clocks {
        let later = |hours: u64| base + Duration::from_secs(hours * 3600);
        Clocks { broker: later(24 * 365), clients: later(7), workers: later(24 * 3650) }
    }

    pub(super) fn broker(&self, at: Moment) -> Instant {
        self.broker + Duration::from_nanos(at)
    }

    pub(super) fn client(&self, at: Moment) -> Instant {
        self.clients + Duration::from_nanos(at)
    }

    pub(super) fn worker(&self, at: Moment) -> Instant {
        self.workers + Duration::from_nanos(at)
    }

    fn due(base: Instant, due: Option<Instant>) -> Moment {
        due.map_or(Moment::MAX, |due| due.saturating_duration_since(base).as_nanos() as Moment)
    }

    pub(super) fn broker_due(&self, due: Option<Instant>) -> Moment {
        Clocks::due(self.broker, due)
    }

    pub(super) fn client_due(&self, due: Option<Instant>) -> Moment {
        Clocks::due(self.clients, due)
    }

    pub(super) fn worker_due(&self, due: Option<Instant>) -> Moment {
        Clocks::due(self.workers, due)
    }
}

pub(super) struct World<'a> {
    pub(super) script: &'a Script,
    pub(super) clocks: Clocks,
    pub(super) now: Moment,
    pub(super) network: Network,
    pub(super) broker: Option<Broker<Bytes>>,
    pub(super) broker_due: Moment,
    /// Until when the broker stands still, or did.
    pub(super) broker_thaw: Moment,
    /// Whether the broker has done something that was not looked at.
    pub(super) broker_acted: bool,
    pub(super) incarnation: u64,
    /// Connections that this broker has heard of, from which on they are its own.
    pub(super) first_link: Link,
    pub(super) known_to_broker: Vec<bool>,
    pub(super) olders: Vec<OlderPeer>,
    pub(super) sessions: Vec<SessionPeer>,
    pub(super) workers: Vec<WorkerPeer>,
    /// Where the script's clients are.
    pub(super) clients: Vec<Owner>,
    pub(super) ledger: Ledger<'a>,
    /// Calls by the moment at which they must have ended.
    pub(super) limits: Vec<(Moment, usize)>,
    pub(super) next_limit: Moment,
    /// How many acts are to come.
    pub(super) acts_left: usize,
    pub(super) is_ending: bool,
    pub(super) bustle: u32,
    pub(super) told: Option<Vec<String>>,
    /// A digest of all that was sent, where it is wanted.
    pub(super) digest: Option<u64>,
}

impl<'a> World<'a> {
    pub(super) fn new(script: &'a Script, clocks: Clocks, tells: bool, digests: bool) -> World<'a> {
        let setting = &script.setting;
        let mut network = Network::new(setting.seed, setting.delay * MS);
        let mut asks: Vec<Option<Asking<'a>>> = Vec::new();
        for (index, planned) in script.acts.iter().enumerate() {
            network.plan(planned.at * 1000, Event::Act(index));
            if let Act::Ask(ask) = &planned.act {
                asks.resize_with(asks.len().max(ask.id + 1), || None);
                asks[ask.id] = Some(Asking::new(ask));
            }
        }
        let (mut olders, mut sessions, mut clients) = (Vec::new(), Vec::new(), Vec::new());
        for (index, client) in setting.clients.iter().enumerate() {
            if matches!(client.speaks, Speaks::V01 | Speaks::V02) {
                clients.push(Owner::Older(olders.len()));
                olders.push(OlderPeer::new(index, client));
            } else {
                clients.push(Owner::Session(sessions.len()));
                sessions.push(SessionPeer::new(index, client, setting.seed, clocks.client(0)));
            }
        }
        let workers = setting.workers.iter().map(WorkerPeer::new).collect();
        let ledger = Ledger::new(asks, Allowed::by(script), &setting.broker, sessions.len());
        World {
            script,
            clocks,
            now: 0,
            network,
            broker: None,
            broker_due: Moment::MAX,
            broker_thaw: 0,
            broker_acted: false,
            incarnation: 0,
            first_link: 0,
            known_to_broker: Vec::new(),
            olders,
            sessions,
            workers,
            clients,
            ledger,
            limits: Vec::new(),
            next_limit: Moment::MAX,
            acts_left: script.acts.len(),
            is_ending: false,
            bustle: 0,
            told: tells.then(Vec::new),
            digest: digests.then_some(0),
        }
    }

    pub(super) fn begin(&mut self) {
        self.start_broker();
        for index in 0..self.workers.len() {
            self.start_worker(index);
        }
    }

    /// Runs until something holds, but no longer than so many milliseconds; whether it held before that, and every promise
    /// was kept.
    pub(super) fn run(&mut self, ms: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + ms * MS;
        loop {
            let at = self.next_moment();
            if at >= end || self.ledger.failure.is_some() {
                return self.ledger.failure.is_none() && holds(self);
            }
            if at > self.now {
                self.now = at;
                self.bustle = 0;
            }
            // Input first, then timers: as the drivers do.
            while let Some(event) = self.network.pop_due(self.now) {
                // What one input does wrong the next one could undo.
                self.check_broker(false);
                self.on_event(event);
                if self.is_bustling() {
                    return false;
                }
            }
            self.check_broker(false);
            self.fire_timers();
            self.check_step();
            if self.is_bustling() {
                return false;
            }
            if holds(self) {
                return self.ledger.failure.is_none();
            }
        }
    }

    fn is_bustling(&mut self) -> bool {
        self.bustle += 1;
        let now = self.now;
        self.ledger.hold(self.bustle < BUSTLE, "time goes on", || format!("it stands still at {} ms", now / MS));
        self.ledger.failure.is_some()
    }

    fn next_moment(&self) -> Moment {
        let mut next = self.network.next_at().unwrap_or(Moment::MAX);
        let timers = self.broker.iter().map(|_| self.broker_due.max(self.broker_thaw));
        let timers = timers.chain(self.olders.iter().map(|peer| peer.due.max(peer.thaw)));
        let timers =
            timers.chain(self.sessions.iter().filter(|peer| !peer.sleeps()).map(|peer| peer.due.max(peer.thaw)));
        let timers = timers.chain(self.workers.iter().map(|peer| peer.due.max(peer.thaw)));
        for at in timers {
            next = next.min(at);
        }
        next.max(self.now)
    }

    /// Whether every request has its outcome, all that was planned has happened, and no request is left at the broker.
    pub(super) fn is_settled(&self) -> bool {
        self.acts_left == 0
            && self.sessions.iter().all(|peer| peer.machine.is_idle() && peer.waiting.is_empty())
            && self.olders.iter().all(|peer| peer.machine.is_idle() && peer.waiting.is_empty())
            && self.broker.as_ref().is_some_and(|broker| broker.held() == 0)
    }

    /// What must hold after every step.
    fn check_step(&mut self) {
        self.check_broker(true);
        if self.broker.is_some() && self.broker_thaw <= self.now {
            self.ledger.check_workers(self.now, self.broker_thaw);
        }
        if self.now > self.next_limit {
            self.check_limits();
        }
    }

    /// What must hold after everything that the broker has done. `timely` is whether its timers have had their turn.
    fn check_broker(&mut self, timely: bool) {
        if std::mem::take(&mut self.broker_acted)
            && let Some(broker) = &self.broker
        {
            self.ledger.check(self.now, timely, broker, self.clocks.broker(self.now));
        }
    }

    /// Nobody waits longer than the call may take.
    fn check_limits(&mut self) {
        let now = self.now;
        let mut limits = std::mem::take(&mut self.limits);
        limits.retain_mut(|(limit, id)| {
            if *limit >= now {
                return true;
            }
            let Some(asking) = self.ledger.asks[*id].as_ref() else { return false };
            let (client, is_over) = (asking.ask.client, asking.outcome.is_some() || asking.is_orphan);
            if is_over {
                return false;
            }
            let thaw = match self.clients[client] {
                Owner::Session(index) => self.sessions[index].thaw,
                Owner::Older(index) => self.olders[index].thaw,
                Owner::Worker(_) => 0,
            };
            if thaw >= *limit {
                *limit = thaw;
                return thaw > now;
            }
            self.ledger.hold(false, "no call takes longer than it may", || format!("request {id}"));
            false
        });
        self.next_limit = limits.iter().map(|(limit, _)| *limit).min().unwrap_or(Moment::MAX);
        self.limits = limits;
    }

    pub(super) fn limit(&mut self, at: Moment, id: usize) {
        self.limits.push((at, id));
        self.next_limit = self.next_limit.min(at);
    }

    fn fire_timers(&mut self) {
        let now = self.now;
        for index in 0..self.olders.len() {
            let peer = &mut self.olders[index];
            if peer.due <= now && peer.thaw <= now {
                peer.machine.handle_timeout(self.clocks.client(now));
                self.drive_older(index);
            }
        }
        for index in 0..self.sessions.len() {
            let peer = &mut self.sessions[index];
            if peer.due <= now && peer.thaw <= now && !peer.sleeps() {
                peer.machine.handle_timeout(self.clocks.client(now));
                self.drive_session(index);
            }
        }
        for index in 0..self.workers.len() {
            let peer = &mut self.workers[index];
            let Some(machine) = &mut peer.machine else { continue };
            if peer.due <= now && peer.thaw <= now {
                machine.handle_timeout(self.clocks.worker(now));
                self.drive_worker(index);
            }
        }
        if let Some(broker) = &mut self.broker
            && self.broker_due <= now
            && self.broker_thaw <= now
        {
            self.ledger.begin_input();
            broker.handle_timeout(self.clocks.broker(now));
            self.drive_broker();
        }
    }

    /// Until when whoever this concerns stands still.
    fn thaw(&self, event: &Event) -> Moment {
        match event {
            Event::ToBroker(..) | Event::BrokerSeesClose(_) => self.broker_thaw,
            Event::ToPeer(link, _) | Event::PeerSeesClose(link) => self.thaw_of(self.network.owner(*link)),
            Event::Act(index) => match &self.script.acts[*index].act {
                Act::Ask(ask) => self.thaw_of(self.clients[ask.client]),
                Act::Drain { worker, .. } | Act::Leave { worker, .. } => self.workers[*worker].thaw,
                Act::EndBroker { .. } => self.broker_thaw,
                _ => 0,
            },
            Event::AskAgain(client) => self.thaw_of(self.clients[*client]),
            Event::Cancel(id) => self.ledger.asks[*id].as_ref().map_or(0, |a| self.thaw_of(self.clients[a.ask.client])),
            Event::Handler { worker, .. } => self.workers[*worker].thaw,
            Event::BrokerBack | Event::ClientBack(_) | Event::WorkerBack(_) => 0,
        }
    }

    fn thaw_of(&self, owner: Owner) -> Moment {
        match owner {
            Owner::Older(index) => self.olders[index].thaw,
            Owner::Session(index) => self.sessions[index].thaw,
            Owner::Worker(index) => self.workers[index].thaw,
        }
    }

    fn on_event(&mut self, event: Event) {
        let thaw = self.thaw(&event);
        if thaw > self.now {
            // What comes meanwhile waits in its order.
            return self.network.plan(thaw, event);
        }
        self.tell(&event);
        match event {
            Event::ToBroker(link, frames) => self.at_broker(link, frames),
            Event::BrokerSeesClose(link) => {
                if let Some(broker) = &mut self.broker
                    && self.known_to_broker.get(link).is_some_and(|known| *known)
                {
                    self.known_to_broker[link] = false;
                    self.ledger.begin_input();
                    self.ledger.gone(link);
                    broker.handle_gone(self.clocks.broker(self.now), &(link as u64).to_be_bytes());
                    self.drive_broker();
                }
            }
            Event::ToPeer(link, _) if !matches!(self.network.state(link), State::Open | State::Ending) => {}
            Event::ToPeer(link, frames) => match self.network.owner(link) {
                Owner::Older(index) => self.at_older(index, link, frames),
                Owner::Session(index) => self.at_session(index, link, Some(frames)),
                Owner::Worker(index) => self.at_worker(index, link, frames),
            },
            Event::PeerSeesClose(link) => match self.network.owner(link) {
                Owner::Older(index) => self.older_sees_close(index, link),
                Owner::Session(index) => self.at_session(index, link, None),
                Owner::Worker(index) => self.worker_sees_close(index, link),
            },
            Event::Act(index) => self.on_act(index),
            Event::AskAgain(client) => self.ask_next(client),
            Event::Cancel(id) => self.cancel(id),
            Event::Handler { worker, life, number, deed } => self.on_handler(worker, life, number, deed),
            Event::BrokerBack => {
                if self.broker.is_none() {
                    self.start_broker();
                }
            }
            Event::ClientBack(client) => self.start_client(client),
            Event::WorkerBack(worker) => {
                if self.workers[worker].machine.is_none() && !self.is_ending {
                    self.start_worker(worker);
                }
            }
        }
    }
}
