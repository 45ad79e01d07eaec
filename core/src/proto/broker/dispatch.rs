//! The way of a request: taken in, queued, handed out, given back, answered.

use std::sync::Arc;
use std::time::Instant;

use crate::proto::failure;
use crate::proto::frame::{Frame, RoutingId};
use crate::proto::mdp::{self, Part, ToClient, ToWorker, Version};

use super::request::{Request, RequestId, byte_len, cost};
use super::service::ServiceName;
use super::worker::WorkerState;
use super::{Broker, Transmit, hex, write_address};

impl<F: Frame> Broker<F> {
    /// The name of the service that a request may be taken in for; `None` where a limit forbids it.
    pub(super) fn admit(&self, service: &[u8], body: &[F]) -> Option<ServiceName> {
        let config = &self.config;
        let bytes = cost(body);
        let known = self.service_name(service);
        let entry = known.as_ref().and_then(|name| self.services.get(name));
        let limit = if byte_len(body) > config.max_message_bytes {
            Some("max_message_bytes")
        } else if self.backlog_bytes >= config.max_queued_bytes {
            Some("max_queued_bytes: clients do not read their replies")
        } else if entry.is_some_and(|entry| !entry.idle.is_empty() && entry.queued == 0) {
            None
        } else if self.queued + self.backlog >= config.max_queued {
            Some("max_queued")
        } else if self.queued_bytes + self.backlog_bytes + bytes > config.max_queued_bytes {
            Some("max_queued_bytes")
        } else if entry.map_or(0, |entry| entry.queued) >= config.max_queued_per_service {
            Some("max_queued_per_service")
        } else if entry.map_or(0, |entry| entry.queued_bytes) + bytes > config.max_queued_bytes_per_service {
            Some("max_queued_bytes_per_service")
        } else if entry.is_none() && self.services.len() >= config.max_services {
            Some("max_services")
        } else {
            None
        };
        if let Some(limit) = limit {
            log::debug!("refused a request for {:?}: {limit}", String::from_utf8_lossy(service));
            return None;
        }
        known.or_else(|| std::str::from_utf8(service).ok().map(Arc::from))
    }

    /// Takes a request in and hands it out if a worker is idle.
    pub(super) fn accept(&mut self, now: Instant, peer: &[u8], version: Version, service: ServiceName, body: Vec<F>) {
        self.counters.accepted += 1;
        self.last_request += 1;
        let id = self.last_request;
        let client = RoutingId::from(peer);
        self.by_client.insert((client.clone(), id));
        let request = Request {
            client,
            version,
            service: service.clone(),
            bytes: cost(&body),
            body,
            attempts: 0,
            expires: self.config.request_ttl.map(|ttl| now + ttl),
            queued: false,
            streaming: false,
            orphaned: false,
            joined: Vec::new(),
            joined_bytes: 0,
        };
        self.requests.insert(id, request);
        self.enqueue(id);
        self.dispatch(now, &service);
        if let Some(request) = self.requests.get_mut(&id).filter(|request| request.queued) {
            request.body.iter_mut().for_each(F::compact);
            self.arm_service(&service);
        }
    }

    fn enqueue(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.queued = true;
        self.queued += 1;
        self.queued_bytes += request.bytes;
        self.services.entry(request.service.clone()).or_default().enqueue(id, request.bytes);
    }

    /// Counts a request out of its service's queue.
    fn dequeue(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id).filter(|request| request.queued) else { return };
        request.queued = false;
        self.queued -= 1;
        self.queued_bytes -= request.bytes;
        if let Some(service) = self.services.get_mut(&request.service) {
            service.uncount(request.bytes);
        }
    }

    /// Hands waiting requests to idle workers, the longest idle first, while there are both.
    pub(super) fn dispatch(&mut self, now: Instant, name: &str) {
        while let Some(id) = self.oldest(name) {
            let Some((_, worker)) = self.services.get_mut(name).and_then(|service| service.idle.pop_first()) else {
                return;
            };
            self.dequeue(id);
            self.deliver(now, id, worker);
        }
    }

    /// The waiting request that is next in turn.
    pub(super) fn oldest(&mut self, name: &str) -> Option<RequestId> {
        let service = self.services.get_mut(name)?;
        while let Some(id) = service.front() {
            if self.requests.get(&id).is_some_and(|request| request.queued) {
                return Some(id);
            }
            service.skip_front();
        }
        None
    }

    fn deliver(&mut self, now: Instant, id: RequestId, to: RoutingId) {
        let (Some(request), Some(worker)) = (self.requests.get_mut(&id), self.workers.get_mut(&to)) else { return };
        request.attempts += 1;
        self.last_delivery += 1;
        let delivery = self.last_delivery;
        worker.state = WorkerState::Busy { delivery, request: id, since: now };
        worker.heartbeat.sent(now);
        self.in_flight += 1;
        if let Some(service) = self.services.get_mut(&request.service) {
            service.in_flight += 1;
        }
        let address = F::copy_from(&write_address(self.incarnation, delivery));
        let message = ToWorker::Request { address, body: request.body.clone() };
        let frames = mdp::write_to_worker(worker.version, message);
        if self.config.attempt_timeout.is_some() {
            self.arm_worker(&to);
        }
        self.outputs.push_back(Transmit { to, frames });
    }

    /// No worker holds the request any more.
    fn land(&mut self, id: RequestId) {
        self.in_flight -= 1;
        if let Some(service) = self.requests.get(&id).and_then(|request| self.services.get_mut(&request.service)) {
            service.in_flight -= 1;
        }
    }

    /// Forgets a request, whatever its state in the queue.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.dequeue(id);
        let Some(request) = self.requests.remove(&id) else { return };
        self.by_client.remove(&(request.client, id));
        if let Some(service) = self.services.get_mut(&request.service).filter(|service| service.is_littered()) {
            let requests = &self.requests;
            service.sweep(|id| requests.get(&id).is_some_and(|request| request.queued));
        }
        self.drop_if_unused(&request.service);
    }

    /// The worker that held the request is lost or overdue: it goes back to the front, or ends.
    pub(super) fn give_back(&mut self, now: Instant, id: RequestId) {
        self.land(id);
        let max_attempts = self.config.max_attempts;
        let Some(request) = self.requests.get_mut(&id) else { return };
        let service = request.service.clone();
        let end = if request.orphaned {
            Some(&mut self.counters.abandoned)
        } else if request.streaming || request.attempts >= max_attempts {
            log::warn!("a request for {service:?} failed after attempt {} of {max_attempts}", request.attempts);
            Some(&mut self.counters.exhausted)
        } else if request.expires.is_some_and(|expires| now >= expires) {
            Some(&mut self.counters.expired)
        } else {
            None
        };
        if let Some(counter) = end {
            *counter += 1;
            self.forget(id);
            return;
        }
        request.joined = Vec::new();
        request.joined_bytes = 0;
        // An attempt that never reached its worker was taken back and is no redelivery.
        if request.attempts > 0 {
            self.counters.redelivered += 1;
        }
        self.enqueue(id);
        self.dispatch(now, &service);
        self.arm_service(&service);
    }

    /// A REQUEST that could not be sent was not an attempt: no worker has seen it.
    pub(super) fn take_back_attempt(&mut self, lost: &Transmit<F>) {
        let Some(worker) = self.workers.get(&lost.to) else { return };
        let WorkerState::Busy { delivery, request, .. } = worker.state else { return };
        let Ok(ToWorker::Request { address, .. }) = mdp::read_to_worker(worker.version, lost.frames.clone()) else {
            return;
        };
        if address.as_ref() == write_address(self.incarnation, delivery)
            && let Some(request) = self.requests.get_mut(&request)
        {
            request.attempts -= 1;
        }
    }

    /// A part of the reply: forwarded where the client's protocol has parts, kept for the final one where not.
    pub(super) fn forward_part(&mut self, now: Instant, worker: &[u8], id: RequestId, body: Vec<F>) {
        let Some(request) = self.requests.get_mut(&id).filter(|request| !request.orphaned) else { return };
        match request.version {
            Version::V01 => {
                request.joined_bytes += cost(&body);
                request.joined.extend(body);
                if request.joined_bytes > self.config.max_message_bytes {
                    log::warn!("a reply of {:?} exceeds max_message_bytes when joined for 0.1", request.service);
                    self.counters.exhausted += 1;
                    self.land(id);
                    self.forget(id);
                    self.make_overdue(now, worker);
                }
            }
            Version::V02 => {
                request.streaming = true;
                let service = F::copy_from(request.service.as_bytes());
                let message = ToClient { service, part: Part::Partial, body };
                let frames = mdp::write_to_client(request.version, message);
                self.outputs.push_back(Transmit { to: request.client.clone(), frames });
            }
        }
    }

    /// The final answer: the request's one outcome.
    pub(super) fn finish(&mut self, id: RequestId, mut body: Vec<F>) {
        self.land(id);
        if let Some(request) = self.requests.get_mut(&id) {
            // A failure stands alone: the parts that came before it are not its beginning.
            if !request.joined.is_empty() && failure::decode(&body).is_none() {
                let mut joined = std::mem::take(&mut request.joined);
                joined.append(&mut body);
                body = joined;
            }
            if request.orphaned {
                self.counters.abandoned += 1;
            } else {
                self.counters.answered += 1;
                let service = F::copy_from(request.service.as_bytes());
                let message = ToClient { service, part: Part::Final, body };
                let frames = mdp::write_to_client(request.version, message);
                self.outputs.push_back(Transmit { to: request.client.clone(), frames });
            }
        }
        self.forget(id);
    }

    /// The worker is free again and goes to the back of the line.
    pub(super) fn make_idle(&mut self, now: Instant, peer: &[u8]) {
        let Some((id, worker)) = self.workers.get_key_value(peer) else { return };
        let (id, name) = (id.clone(), worker.service.clone());
        self.last_turn += 1;
        let turn = self.last_turn;
        if let Some(worker) = self.workers.get_mut(peer) {
            worker.state = WorkerState::Idle { turn };
        }
        if let Some(service) = self.services.get_mut(&name) {
            service.idle.insert(turn, id);
        }
        self.dispatch(now, &name);
    }

    /// The worker's attempt does not count any more; it is idle again when it has answered.
    pub(super) fn make_overdue(&mut self, now: Instant, peer: &[u8]) {
        let Some(worker) = self.workers.get_mut(peer) else { return };
        if let WorkerState::Busy { delivery, since, .. } = worker.state {
            log::warn!("worker {} of {:?} is overdue after {:?}", hex(peer), worker.service, now - since);
            worker.state = WorkerState::Overdue { delivery, since };
        }
    }
}
