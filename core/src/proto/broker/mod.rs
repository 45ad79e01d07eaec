//! The broker's machine: services, waiting requests, workers, sessions, and who holds what.
//!
//! Each time a request is handed to a worker it gets a delivery number that is unique in the broker's life. MDPX carries
//! it as it is; in 0.1 and 0.2 it travels as the client address that the worker is obliged to send back. So an answer counts
//! only if it comes from the worker that holds the request, for the delivery under which it holds it.

mod batches;
mod complaints;
mod config;
mod dispatch;
mod older;
mod outcome;
mod queue;
mod ready;
mod received;
mod request;
mod service;
mod session;
mod spare;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod watch;
mod worker;
mod x1;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use log::Level;

use crate::options::Protocol;

use batches::Batches;
use complaints::Complaints;
pub use config::BrokerConfig;
pub use stats::{Counters, Stats};

use super::frame::{Frame, Frames, RoutingId};
use super::heartbeat::Heartbeat;
use super::mdp;
#[cfg(test)]
use super::mdp::Version;
use super::mdpx::{self, SessionId};
use super::mmi;
use super::window::Window;
use queue::{Asker, Load};
use received::Received;
use request::{Request, RequestId};
use service::{Service, ServiceKey, ServiceName};
use session::{Session, SessionKey};
use spare::Spare;
use stats::{ServiceRow, WorkerRow};
use table::Table;
use watch::Timer;
use worker::{Wire, Worker, WorkerKey};

/// A table whose hashes nobody outside can foresee.
type Map<K, V> = HashMap<K, V, FixedState>;

/// A message for a peer.
#[derive(Clone, Debug)]
pub struct Transmit<F> {
    /// Whom it is for.
    pub to: RoutingId,
    /// Its frames, without the routing id.
    pub frames: Frames<F>,
}

/// The machine of a broker.
#[derive(Debug)]
pub struct Broker<F> {
    config: BrokerConfig,
    started: Instant,
    /// Tells this broker's deliveries from those of an earlier one at the same endpoint.
    incarnation: u64,
    services: Table<ServiceName, Service>,
    workers: Table<RoutingId, Worker>,
    sessions: Map<SessionKey, Session<F>>,
    /// The sessions by the names that their clients gave them.
    session_keys: Map<SessionId, SessionKey>,
    /// The sessions of the connections that are there.
    clients: Table<RoutingId, SessionKey>,
    /// Boxed, so that a table of many has little to move and little to waste.
    requests: Window<Box<Request<F>>>,
    spare: Spare<F>,
    /// The requests of each client of MDP, to find them when the client goes away.
    by_client: BTreeSet<(RoutingId, RequestId)>,
    /// What waits of each client that has something waiting.
    waiting: Map<Asker, Load>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// When the next waiting request expires, or earlier.
    expiry: Option<Instant>,
    /// No request before this one can expire while it waits.
    first_to_expire: RequestId,
    outputs: VecDeque<Transmit<F>>,
    /// What goes out in one message to each peer that takes several at once.
    batches: Batches,
    last_request: RequestId,
    last_delivery: u64,
    /// Rises with every worker and session that begins, and with every change of a worker's place.
    last_turn: u64,
    queued: usize,
    queued_bytes: usize,
    in_flight: usize,
    backlog: usize,
    backlog_bytes: usize,
    /// Bytes of the outcomes that all sessions keep.
    kept_bytes: usize,
    counters: Counters,
    complaints: Complaints,
    /// Memory to write headers in.
    scratch: Vec<u8>,
    closed: bool,
}

impl<F: Frame> Broker<F> {
    /// A broker without peers. `incarnation` differs from run to run.
    pub fn new(config: BrokerConfig, now: Instant, incarnation: u64) -> Self {
        let hash = || FixedState::with_seed(incarnation);
        Broker {
            config,
            started: now,
            incarnation,
            services: Table::new(hash()),
            workers: Table::new(hash()),
            sessions: Map::with_hasher(hash()),
            session_keys: Map::with_hasher(hash()),
            clients: Table::new(hash()),
            requests: Window::default(),
            spare: Spare::default(),
            by_client: BTreeSet::new(),
            waiting: Map::with_hasher(hash()),
            timers: BinaryHeap::new(),
            expiry: None,
            first_to_expire: 0,
            outputs: VecDeque::new(),
            batches: Batches::new(hash()),
            last_request: 0,
            last_delivery: 0,
            last_turn: 0,
            queued: 0,
            queued_bytes: 0,
            in_flight: 0,
            backlog: 0,
            backlog_bytes: 0,
            kept_bytes: 0,
            counters: Counters::default(),
            complaints: Complaints::new(hash()),
            scratch: Vec::new(),
            closed: false,
        }
    }

    /// A message came from `peer`; `frames` without the routing id.
    pub fn handle_message(&mut self, now: Instant, peer: &[u8], frames: impl Into<Frames<F>>) {
        let frames = frames.into();
        if self.closed {
            return;
        }
        if frames.first().is_some_and(|header| mdpx::is_header(header.as_ref())) {
            self.handle_x1(now, peer, Received::Alone(frames));
        } else {
            self.handle_older(now, peer, frames.into_vec());
        }
    }

    /// The connection of `peer` is closed.
    pub fn handle_gone(&mut self, now: Instant, peer: &[u8]) {
        self.take_back_said(peer);
        if self.remove_worker(now, peer) {
            self.counters.workers_lost += 1;
            log::info!("worker {} is gone: its connection closed", hex(peer));
        }
        self.remove_client(peer);
        self.detach_session(now, peer);
        // One that was a worker and a client at once has been told what becomes of its own requests.
        self.take_back_said(peer);
    }

    fn take_back_said(&mut self, peer: &[u8]) {
        if let Some(unsent) = self.batches.close(peer) {
            self.take_back_attempt(&unsent);
        }
        self.take_back_outputs(peer);
    }

    /// What has not been handed to the driver is not sent to a peer that is gone: it was no attempt either.
    fn take_back_outputs(&mut self, peer: &[u8]) {
        if self.outputs.iter().any(|transmit| *transmit.to == *peer) {
            let outputs = std::mem::take(&mut self.outputs).into_iter();
            let (unsent, others): (Vec<_>, Vec<_>) = outputs.partition(|transmit| *transmit.to == *peer);
            self.outputs = others.into();
            unsent.iter().for_each(|transmit| self.take_back_attempt(transmit));
        }
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
        if self.complaints.may_say(Level::Warn, now, peer) {
            log::warn!("dropped a message over max_message_bytes of peer {}", hex(peer));
        }
        if let Some(wire) = self.worker(peer).map(|worker| worker.wire) {
            self.expel(now, peer, wire, "a message over max_message_bytes");
        }
    }

    /// How much the driver holds for peers that read slowly; it counts against the limits of waiting requests.
    pub fn set_backlog(&mut self, messages: usize, bytes: usize) {
        self.backlog = messages;
        self.backlog_bytes = bytes;
    }

    /// How many requests wait or run.
    pub fn held(&self) -> usize {
        self.requests.len()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<F>> {
        self.outputs.pop_front().or_else(|| self.batches.close_any())
    }

    /// The next message that waits for nothing more; what is gathered for a peer stays.
    pub fn poll_full(&mut self) -> Option<Transmit<F>> {
        self.outputs.pop_front()
    }

    /// Says something to a peer, behind what waits for it in a batch.
    fn say(&mut self, to: RoutingId, frames: Frames<F>) {
        if let Some(gathered) = self.batches.close(&to) {
            self.outputs.push_back(gathered);
        }
        self.outputs.push_back(Transmit { to, frames });
    }

    /// Says DISCONNECT to every worker and every MDPX client and takes nothing more.
    pub fn shutdown(&mut self, _now: Instant) {
        let mut workers: Vec<_> =
            self.workers.iter().map(|(id, worker)| (worker.serial, id.clone(), worker.wire)).collect();
        self.workers.clear();
        let sessions = self.sessions.drain().filter_map(|(key, session)| Some((key, session.peer?, Wire::X1)));
        workers.extend(sessions);
        // By serial, so that the order is the same in every run.
        workers.sort_by_key(|(serial, ..)| *serial);
        for (_, id, wire) in workers {
            self.say_disconnect(id, wire, "the broker shuts down");
        }
        self.services.clear();
        self.session_keys.clear();
        self.clients.clear();
        self.requests.clear();
        self.by_client.clear();
        self.waiting.clear();
        self.timers.clear();
        self.expiry = None;
        (self.queued, self.queued_bytes, self.in_flight, self.kept_bytes) = (0, 0, 0, 0);
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
            sessions: self.sessions.len(),
            queued: self.queued,
            queued_bytes: self.queued_bytes,
            in_flight: self.in_flight,
            backlog: self.backlog,
            backlog_bytes: self.backlog_bytes,
            kept_bytes: self.kept_bytes,
            counters: self.counters,
        }
    }

    /// A worker registers. `Err` says why it may not.
    fn register(
        &mut self,
        now: Instant,
        peer: &[u8],
        registration: Registration<'_>,
    ) -> Result<WorkerKey, &'static str> {
        let Registration { wire, service, capacity, heartbeat } = registration;
        if mmi::is_reserved(service) {
            return Err("the service's name belongs to the broker");
        }
        let known = self.service_key(service);
        if self.workers.len() >= self.config.max_workers {
            return Err("max_workers is reached");
        }
        if known.is_none() && self.services.len() >= self.config.max_services {
            return Err("max_services is reached");
        }
        let service = match known {
            Some(key) => key,
            None => {
                let name = std::str::from_utf8(service).map_err(|_| "the service's name is no text")?;
                self.new_service(name)
            }
        };
        self.last_turn += 1;
        let worker = Worker {
            serial: self.last_turn,
            wire,
            service,
            heartbeat: Heartbeat::new(now, heartbeat, self.config.liveness),
            held: Window::default(),
            capacity,
            draining: false,
            takes_batches: false,
            place: None,
            has_moved: false,
            // A worker of MDPX is bound to.
            beats_while_busy: wire == Wire::X1,
            armed: None,
        };
        if let Some(entry) = self.services.get_mut(service) {
            entry.workers += 1;
            entry.idle += 1;
        }
        log::debug!("worker {} serves {:?} ({})", hex(peer), self.services.text(service), wire.name());
        let key = self.workers.insert(RoutingId::from(peer), worker);
        self.arm_worker(key);
        Ok(key)
    }

    fn on_beat(&mut self, now: Instant, key: WorkerKey) {
        let interval = self.config.heartbeat;
        if let Some(worker) = self.workers.get_mut(key)
            && worker.beat_heard(now, interval)
        {
            self.beat(now, key);
        }
    }

    /// Says HEARTBEAT to a worker.
    fn beat(&mut self, now: Instant, key: WorkerKey) {
        let to = self.workers.name(key).cloned();
        if let Some((worker, to)) = self.workers.get_mut(key).zip(to) {
            worker.heartbeat.sent(now);
            let frames = match worker.wire {
                Wire::Mdp(version) => Frames::from_vec(mdp::write_to_worker(version, mdp::ToWorker::Heartbeat)),
                Wire::X1 => x1::control(&mut self.scratch, &mdpx::Command::Heartbeat),
            };
            self.say(to, frames);
        }
    }

    /// The worker that is registered as `peer` over this wire. Whoever is not is told so, that it may register (again).
    fn known_worker(&mut self, now: Instant, peer: &[u8], wire: Wire) -> Option<WorkerKey> {
        let key = self.workers.key(peer);
        let known = key.filter(|key| self.workers.get(*key).is_some_and(|worker| worker.wire == wire));
        if known.is_none() {
            self.expel(now, peer, wire, "not registered");
        }
        known
    }

    fn worker(&self, peer: &[u8]) -> Option<&Worker> {
        self.workers.get(self.workers.key(peer)?)
    }

    /// Ends a worker's registration, if it has one, and says DISCONNECT.
    fn expel(&mut self, now: Instant, peer: &[u8], wire: Wire, why: &str) {
        self.remove_worker(now, peer);
        self.say_disconnect(peer.into(), wire, why);
    }

    fn say_disconnect(&mut self, to: RoutingId, wire: Wire, why: &str) {
        let frames = match wire {
            Wire::Mdp(version) => Frames::from_vec(mdp::write_to_worker(version, mdp::ToWorker::Disconnect)),
            Wire::X1 => x1::control(&mut self.scratch, &mdpx::Command::Disconnect { kind: 0, text: why }),
        };
        self.say(to, frames);
    }

    /// Ends a worker's registration; what it holds goes back. Whether there was one.
    fn remove_worker(&mut self, now: Instant, peer: &[u8]) -> bool {
        let Some((_, worker)) = self.workers.key(peer).and_then(|key| self.workers.remove(key)) else { return false };
        if let Some(service) = self.services.get_mut(worker.service) {
            service.workers -= 1;
            service.draining -= usize::from(worker.draining);
            service.idle -= usize::from(worker.held.is_empty());
            if let Some(place) = worker.place {
                service.ready.leave(place);
            }
        }
        for request in worker.held.iter().filter_map(|(_, delivery)| delivery.request) {
            self.give_back(now, request, None);
        }
        self.drop_if_unused(worker.service);
        true
    }

    /// The client of MDP is gone: what waits is dropped, what runs will have nowhere to go.
    fn remove_client(&mut self, peer: &[u8]) {
        let client = RoutingId::from(peer);
        let range = (client.clone(), RequestId::MIN)..=(client, RequestId::MAX);
        let ids: Vec<_> = self.by_client.range(range).map(|(_, id)| *id).collect();
        for id in ids {
            self.abandon(id);
        }
    }

    fn manage(&self, now: Instant, service: &[u8], argument: Option<&[u8]>) -> Vec<F> {
        let text = |text: &str| F::copy_from(text.as_bytes());
        let json = |json: serde_json::Result<Vec<u8>>| vec![text(mmi::OK), F::copy_from(&json.unwrap_or_default())];
        match mmi::question(service) {
            mmi::Question::Service => {
                let known = argument.and_then(|name| std::str::from_utf8(name).ok());
                let served =
                    known.and_then(|name| self.services.get(self.services.key(name)?)).is_some_and(Service::is_served);
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
                idle: service.idle,
                queued: service.queued(),
                queued_bytes: service.queue.load().bytes,
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
                let in_flight = worker.held.iter().filter(|(_, delivery)| delivery.request.is_some()).count();
                let state = match worker.held.len() {
                    0 => "idle",
                    held if held == in_flight => "busy",
                    _ => "overdue",
                };
                let silent_ms = u64::try_from(worker.heartbeat.silence(now).as_millis()).unwrap_or(u64::MAX);
                let service = self.services.text(worker.service);
                let protocol = worker.wire.name();
                WorkerRow { id: hex(id), service, protocol, state, in_flight, silent_ms }
            })
            .collect()
    }

    fn new_service(&mut self, name: &str) -> ServiceKey {
        self.services.insert(Arc::from(name), Service::new(FixedState::with_seed(self.incarnation)))
    }

    fn service_key(&self, name: &[u8]) -> Option<ServiceKey> {
        self.services.key(std::str::from_utf8(name).ok()?)
    }

    fn drop_if_unused(&mut self, key: ServiceKey) {
        if self.services.get(key).is_some_and(Service::is_unused) {
            self.services.remove(key);
        }
    }
}

/// What a worker wants to be.
struct Registration<'a> {
    wire: Wire,
    service: &'a [u8],
    capacity: u32,
    heartbeat: Duration,
}

/// The client address that a worker of MDP sees: incarnation and delivery number.
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
