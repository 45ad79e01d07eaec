//! The broker's machine: services, waiting requests, workers, and who holds what.
//!
//! Each time a request is handed to a worker it gets a delivery number that is unique in the broker's life. The number
//! travels as the client address that 0.1 and 0.2 oblige the worker to send back, so an answer counts only if it comes
//! from the worker that holds the request, for the delivery under which it holds it.

mod config;
mod dispatch;
mod request;
mod service;
mod stats;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::options::Protocol;

pub use config::BrokerConfig;
pub use stats::{Counters, Stats};

use super::frame::{Frame, RoutingId};
use super::heartbeat::Heartbeat;
use super::mdp::{self, Part, ToBroker, ToClient, ToWorker, Version};
use super::mmi;
use request::{Request, RequestId};
use service::{Service, ServiceName};
use stats::{ServiceRow, WorkerRow};
use watch::Timer;
use worker::{Worker, WorkerState};

/// A message for a peer.
#[derive(Clone, Debug)]
pub struct Transmit<F> {
    /// Whom it is for.
    pub to: RoutingId,
    /// Its frames, without the routing id.
    pub frames: Vec<F>,
}

/// The machine of a broker.
#[derive(Debug)]
pub struct Broker<F> {
    config: BrokerConfig,
    started: Instant,
    /// Tells this broker's deliveries from those of an earlier one at the same endpoint.
    incarnation: u64,
    services: HashMap<ServiceName, Service>,
    workers: HashMap<RoutingId, Worker>,
    requests: HashMap<RequestId, Request<F>>,
    /// The requests of each client, to find them when the client goes away.
    by_client: BTreeSet<(RoutingId, RequestId)>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    outputs: VecDeque<Transmit<F>>,
    last_request: RequestId,
    last_delivery: u64,
    /// Rises with every worker that registers or becomes idle.
    last_turn: u64,
    queued: usize,
    queued_bytes: usize,
    in_flight: usize,
    backlog: usize,
    backlog_bytes: usize,
    counters: Counters,
    closed: bool,
}

impl<F: Frame> Broker<F> {
    /// A broker without peers. `incarnation` differs from run to run.
    pub fn new(config: BrokerConfig, now: Instant, incarnation: u64) -> Self {
        Broker {
            config,
            started: now,
            incarnation,
            services: HashMap::new(),
            workers: HashMap::new(),
            requests: HashMap::new(),
            by_client: BTreeSet::new(),
            timers: BinaryHeap::new(),
            outputs: VecDeque::new(),
            last_request: 0,
            last_delivery: 0,
            last_turn: 0,
            queued: 0,
            queued_bytes: 0,
            in_flight: 0,
            backlog: 0,
            backlog_bytes: 0,
            counters: Counters::default(),
            closed: false,
        }
    }

    /// A message came from `peer`; `frames` without the routing id.
    pub fn handle_message(&mut self, now: Instant, peer: &[u8], frames: Vec<F>) {
        if self.closed {
            return;
        }
        match mdp::read_to_broker(frames) {
            Ok(ToBroker::Request { version, service, body }) => self.on_request(now, peer, version, service, body),
            Ok(ToBroker::Ready { version, service }) => self.on_ready(now, peer, version, &service),
            Ok(ToBroker::Answer { version, address, part, body }) => {
                if self.known_worker(now, peer, version) {
                    self.on_answer(now, peer, &address, part, body);
                } else {
                    self.counters.stray_replies += 1;
                }
            }
            Ok(ToBroker::Heartbeat { version }) => {
                if self.known_worker(now, peer, version) {
                    self.on_beat(now, peer);
                }
            }
            Ok(ToBroker::Disconnect { .. }) => {
                self.remove_worker(now, peer);
            }
            Err(malformed) => {
                self.counters.malformed += 1;
                log::debug!("dropped a message of peer {}: {}", hex(peer), malformed.reason);
                if let Some(version) = malformed.worker {
                    self.expel(now, peer, version);
                }
            }
        }
    }

    /// The connection of `peer` is closed.
    pub fn handle_gone(&mut self, now: Instant, peer: &[u8]) {
        if self.remove_worker(now, peer) {
            self.counters.workers_lost += 1;
            log::info!("worker {} is gone: its connection closed", hex(peer));
        }
        self.remove_client(peer);
    }

    /// A message could not be sent, because its peer is not connected.
    pub fn handle_undeliverable(&mut self, now: Instant, lost: Transmit<F>) {
        self.counters.undeliverable += 1;
        self.take_back_attempt(&lost);
        self.handle_gone(now, &lost.to);
    }

    /// A message over the limit came from `peer`, and the driver has dropped it. A worker that sent it would wait for ever
    /// with its request, so it is sent away.
    pub fn handle_too_large(&mut self, now: Instant, peer: &[u8]) {
        self.counters.refused += 1;
        log::warn!("dropped a message over max_message_bytes of peer {}", hex(peer));
        if let Some(version) = self.workers.get(peer).map(|worker| worker.version) {
            self.expel(now, peer, version);
        }
    }

    /// How much the driver holds for peers that read slowly; it counts against the limits of waiting requests.
    pub fn set_backlog(&mut self, messages: usize, bytes: usize) {
        self.backlog = messages;
        self.backlog_bytes = bytes;
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<F>> {
        self.outputs.pop_front()
    }

    /// Says DISCONNECT to every worker and takes nothing more.
    pub fn shutdown(&mut self, _now: Instant) {
        let mut workers: Vec<_> = self.workers.drain().collect();
        // By serial, so that the order is the same in every run.
        workers.sort_by_key(|(_, worker)| worker.serial);
        for (id, worker) in workers {
            let frames = mdp::write_to_worker(worker.version, ToWorker::Disconnect);
            self.outputs.push_back(Transmit { to: id, frames });
        }
        self.services.clear();
        self.requests.clear();
        self.by_client.clear();
        self.timers.clear();
        (self.queued, self.queued_bytes, self.in_flight) = (0, 0, 0);
        self.closed = true;
    }

    /// Counters and sizes.
    pub fn stats(&self, now: Instant) -> Stats {
        Stats {
            version: env!("CARGO_PKG_VERSION"),
            protocols: Protocol::ALL.iter().map(|version| version.name()).collect(),
            uptime_seconds: now.saturating_duration_since(self.started).as_secs_f64(),
            services: self.services.len(),
            workers: self.workers.len(),
            queued: self.queued,
            queued_bytes: self.queued_bytes,
            in_flight: self.in_flight,
            backlog: self.backlog,
            backlog_bytes: self.backlog_bytes,
            counters: self.counters,
        }
    }

    fn on_request(&mut self, now: Instant, peer: &[u8], version: Version, service: F, body: Vec<F>) {
        if mmi::is_reserved(service.as_ref()) {
            let body = self.manage(now, service.as_ref(), body.first());
            let frames = mdp::write_to_client(version, ToClient { service, part: Part::Final, body });
            self.outputs.push_back(Transmit { to: peer.into(), frames });
        } else if let Some(name) = self.admit(service.as_ref(), &body) {
            self.accept(now, peer, version, name, body);
        } else {
            self.counters.refused += 1;
        }
    }

    fn on_ready(&mut self, now: Instant, peer: &[u8], version: Version, service: &F) {
        if self.workers.contains_key(peer) {
            log::info!("worker {} said READY twice", hex(peer));
            self.expel(now, peer, version);
            return;
        }
        let known = self.service_name(service.as_ref());
        let full = self.workers.len() >= self.config.max_workers
            || (known.is_none() && self.services.len() >= self.config.max_services);
        if full || mmi::is_reserved(service.as_ref()) {
            log::warn!("refused worker {}: {}", hex(peer), if full { "a limit is reached" } else { "reserved name" });
            self.say_disconnect(peer.into(), version);
            return;
        }
        let Some(name) = known.or_else(|| std::str::from_utf8(service.as_ref()).ok().map(Arc::from)) else { return };
        let id = RoutingId::from(peer);
        self.last_turn += 1;
        let worker = Worker {
            serial: self.last_turn,
            version,
            service: name.clone(),
            heartbeat: Heartbeat::new(now, self.config.heartbeat, self.config.liveness),
            state: WorkerState::Idle { turn: self.last_turn },
            beats_while_busy: false,
            armed: None,
        };
        let entry = self.services.entry(name.clone()).or_default();
        entry.workers += 1;
        entry.idle.insert(self.last_turn, id.clone());
        self.workers.insert(id, worker);
        log::debug!("worker {} serves {name:?} ({})", hex(peer), version.name());
        self.arm_worker(peer);
        self.dispatch(now, &name);
    }

    fn on_answer(&mut self, now: Instant, peer: &[u8], address: &F, part: Part, body: Vec<F>) {
        let Some(worker) = self.workers.get_mut(peer) else { return };
        worker.heartbeat.heard(now);
        let delivery = read_address(self.incarnation, address.as_ref());
        match worker.state {
            WorkerState::Busy { delivery: held, request, .. } if delivery == Some(held) => match part {
                Part::Partial => self.forward_part(now, peer, request, body),
                Part::Final => {
                    self.finish(request, body);
                    self.make_idle(now, peer);
                }
            },
            WorkerState::Overdue { delivery: held, .. } if delivery == Some(held) => {
                self.counters.stray_replies += 1;
                if part == Part::Final {
                    self.make_idle(now, peer);
                }
            }
            _ => {
                self.counters.stray_replies += 1;
                log::debug!("dropped an answer of worker {} that nobody waits for", hex(peer));
            }
        }
    }

    fn on_beat(&mut self, now: Instant, peer: &[u8]) {
        let interval = self.config.heartbeat;
        if let Some(worker) = self.workers.get_mut(peer)
            && worker.beat_heard(now, interval)
        {
            self.beat(now, peer);
        }
    }

    /// Says HEARTBEAT to a worker.
    fn beat(&mut self, now: Instant, peer: &[u8]) {
        if let Some(worker) = self.workers.get_mut(peer) {
            worker.heartbeat.sent(now);
            let frames = mdp::write_to_worker(worker.version, ToWorker::Heartbeat);
            self.outputs.push_back(Transmit { to: peer.into(), frames });
        }
    }

    /// Whether `peer` is registered under this version. Whoever is not is told so, that it may register (again).
    fn known_worker(&mut self, now: Instant, peer: &[u8], version: Version) -> bool {
        let known = self.workers.get(peer).is_some_and(|worker| worker.version == version);
        if !known {
            self.expel(now, peer, version);
        }
        known
    }

    /// Ends a worker's registration, if it has one, and says DISCONNECT.
    fn expel(&mut self, now: Instant, peer: &[u8], version: Version) {
        self.remove_worker(now, peer);
        self.say_disconnect(peer.into(), version);
    }

    fn say_disconnect(&mut self, to: RoutingId, version: Version) {
        self.outputs.push_back(Transmit { to, frames: mdp::write_to_worker(version, ToWorker::Disconnect) });
    }

    /// Ends a worker's registration; what it holds goes back. Whether there was one.
    fn remove_worker(&mut self, now: Instant, peer: &[u8]) -> bool {
        let Some(worker) = self.workers.remove(peer) else { return false };
        if let Some(service) = self.services.get_mut(&worker.service) {
            service.workers -= 1;
            if let WorkerState::Idle { turn } = worker.state {
                service.idle.remove(&turn);
            }
        }
        if let WorkerState::Busy { request, .. } = worker.state {
            self.give_back(now, request);
        }
        self.drop_if_unused(&worker.service);
        true
    }

    /// The client is gone: what waits is dropped, what runs will have nowhere to go.
    fn remove_client(&mut self, peer: &[u8]) {
        let client = RoutingId::from(peer);
        let range = (client.clone(), RequestId::MIN)..=(client, RequestId::MAX);
        let ids: Vec<_> = self.by_client.range(range).map(|(_, id)| *id).collect();
        for id in ids {
            match self.requests.get_mut(&id) {
                Some(request) if !request.queued => request.orphaned = true,
                _ => {
                    self.counters.abandoned += 1;
                    self.forget(id);
                }
            }
        }
    }

    fn manage(&self, now: Instant, service: &[u8], argument: Option<&F>) -> Vec<F> {
        let text = |text: &str| F::copy_from(text.as_bytes());
        let json = |json: serde_json::Result<Vec<u8>>| vec![text(mmi::OK), F::copy_from(&json.unwrap_or_default())];
        match mmi::question(service) {
            mmi::Question::Service => {
                let known = argument.and_then(|name| std::str::from_utf8(name.as_ref()).ok());
                let served = known.and_then(|name| self.services.get(name)).is_some_and(|service| service.workers > 0);
                vec![text(if served { mmi::OK } else { mmi::NOT_FOUND })]
            }
            mmi::Question::Protocols => {
                std::iter::once(mmi::OK).chain(Protocol::ALL.iter().map(|version| version.name())).map(text).collect()
            }
            mmi::Question::Services => json(serde_json::to_vec(&self.service_rows())),
            mmi::Question::Workers => json(serde_json::to_vec(&self.worker_rows(now))),
            mmi::Question::Stats => json(serde_json::to_vec(&self.stats(now))),
            mmi::Question::Unknown => vec![text(mmi::NOT_IMPLEMENTED)],
        }
    }

    fn service_rows(&self) -> Vec<ServiceRow<'_>> {
        let mut rows: Vec<_> = (self.services.iter())
            .map(|(name, service)| ServiceRow {
                name,
                workers: service.workers,
                idle: service.idle.len(),
                queued: service.queued,
                queued_bytes: service.queued_bytes,
                in_flight: service.in_flight,
            })
            .collect();
        rows.sort_by_key(|row| row.name);
        rows
    }

    fn worker_rows(&self, now: Instant) -> Vec<WorkerRow<'_>> {
        let mut workers: Vec<_> = self.workers.iter().collect();
        workers.sort_by_key(|(_, worker)| worker.serial);
        (workers.into_iter())
            .map(|(id, worker)| {
                let (state, in_flight) = match worker.state {
                    WorkerState::Idle { .. } => ("idle", 0),
                    WorkerState::Busy { .. } => ("busy", 1),
                    WorkerState::Overdue { .. } => ("overdue", 0),
                };
                let silent_ms = u64::try_from(worker.heartbeat.silence(now).as_millis()).unwrap_or(u64::MAX);
                let (service, protocol) = (&*worker.service, worker.version.name());
                WorkerRow { id: hex(id), service, protocol, state, in_flight, silent_ms }
            })
            .collect()
    }

    fn service_name(&self, name: &[u8]) -> Option<ServiceName> {
        let name = std::str::from_utf8(name).ok()?;
        self.services.get_key_value(name).map(|(name, _)| name.clone())
    }

    fn drop_if_unused(&mut self, name: &str) {
        if self.services.get(name).is_some_and(Service::is_unused) {
            self.services.remove(name);
        }
    }
}

/// The client address that a worker sees: incarnation and delivery number.
fn write_address(incarnation: u64, delivery: u64) -> [u8; 16] {
    ((u128::from(incarnation) << 64) | u128::from(delivery)).to_be_bytes()
}

/// The delivery number, if the address is of this incarnation.
fn read_address(incarnation: u64, address: &[u8]) -> Option<u64> {
    let number = u128::from_be_bytes(address.try_into().ok()?);
    let delivery = u64::try_from(number & u128::from(u64::MAX)).ok()?;
    (write_address(incarnation, delivery) == address).then_some(delivery)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
