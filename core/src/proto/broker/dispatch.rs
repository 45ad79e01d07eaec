//! The way of a request to a worker: taken in, queued, handed out, given back.

use std::collections::hash_map::Entry;
use std::num::NonZeroU64;
use std::time::Instant;

use log::Level;

use crate::error::ErrorKind;
use crate::proto::frame::{Frame, Frames};
use crate::proto::mdp::{self, ToWorker};
use crate::proto::mdpx::{self, Command, SessionId};

use super::outcome::Outcome;
use super::queue::{Asker, Load};
use super::ready::Ready;
use super::request::{Client, Held, Request, RequestId};
use super::service::ServiceKey;
use super::session::SessionKey;
use super::worker::{Delivery, Wire, Worker, WorkerKey};
use super::{Broker, Transmit, hex, write_address, x1};

impl<F: Frame> Broker<F> {
    /// Whether a client's request for a service may be taken in, or the limit that forbids it.
    ///
    /// A request that a worker has room for is always taken. Of those that have to wait, a full queue refuses all, and one
    /// that fills refuses those clients first that hold more than their share of it (see [`Load::is_greedy`]).
    pub(super) fn admit(
        &self,
        client: &Client,
        service: Option<ServiceKey>,
        body: &Held<F>,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let config = &self.config;
        let entry = service.and_then(|key| self.services.get(key));
        let bytes = body.cost();
        let full = |limit| Err((ErrorKind::QueueFull, limit));
        if body.byte_len() > config.max_message_bytes {
            return Err((ErrorKind::TooLarge, "the request exceeds the broker's max_message_bytes"));
        } else if self.backlog_bytes >= config.max_queued_bytes {
            return full("max_queued_bytes is reached: clients do not read their replies");
        } else if entry.is_some_and(|entry| !entry.ready.is_empty() && entry.queued() == 0) {
            // It will not wait.
            return Ok(());
        } else if entry.is_none() && self.services.len() >= config.max_services {
            return full("max_services is reached");
        }
        // What slow readers leave unread takes bytes of everybody, but no places: it is not a request.
        let left = Load {
            requests: config.max_queued.saturating_sub(self.queued),
            bytes: config.max_queued_bytes.saturating_sub(self.queued_bytes + self.backlog_bytes),
        };
        let load = entry.map_or(Load::default(), |entry| entry.queue.load());
        let left_of_service = Load {
            requests: config.max_queued_per_service.saturating_sub(load.requests),
            bytes: config.max_queued_bytes_per_service.saturating_sub(load.bytes),
        };
        if left.requests == 0 {
            return full("max_queued is reached");
        } else if left.bytes < bytes {
            return full("max_queued_bytes is reached");
        } else if left_of_service.requests == 0 {
            return full("max_queued_per_service is reached");
        } else if left_of_service.bytes < bytes {
            return full("max_queued_bytes_per_service is reached");
        }
        let asker = Asker::from(client);
        let left_services =
            Load { requests: config.max_services.saturating_sub(self.services.len()), bytes: usize::MAX };
        if entry.is_none() && self.waiting.get(&asker).is_some_and(|load| load.is_greedy(left_services)) {
            return full("this client waits for its share of max_services");
        } else if self.waiting.get(&asker).is_some_and(|load| load.is_greedy(left)) {
            return full("this client has its share of max_queued or max_queued_bytes waiting");
        } else if entry.is_some_and(|entry| entry.queue.load_of(&asker).is_greedy(left_of_service)) {
            return full("this client has its share of the service's queue waiting");
        }
        Ok(())
    }

    /// The service that a request was admitted for; a new one comes to be.
    pub(super) fn service_for(&mut self, known: Option<ServiceKey>, name: &[u8]) -> ServiceKey {
        // The codecs let no name pass that is not text.
        known.unwrap_or_else(|| self.new_service(&String::from_utf8_lossy(name)))
    }

    /// A request as the broker's own rules make it.
    pub(super) fn request(&self, now: Instant, client: Client, service: ServiceKey, body: Held<F>) -> Request<F> {
        Request {
            client,
            service,
            body,
            attempts: 0,
            max_attempts: self.config.max_attempts,
            expires: self.config.request_ttl.map(|ttl| now + ttl),
            deadline: None,
            queued: false,
            holder: None,
            avoid: None,
            parts: 0,
            orphaned: false,
            joined: None,
        }
    }

    /// Takes a request in and hands it out if a worker has room.
    pub(super) fn accept(&mut self, now: Instant, request: Request<F>) {
        self.counters.accepted += 1;
        self.last_request += 1;
        let id = self.last_request;
        if let Client::Mdp { peer, .. } = &request.client {
            self.by_client.insert((peer.clone(), id));
        }
        let service = request.service;
        let _ = self.requests.push(id, self.spare.request(request));
        let at_once = self.services.get(service).is_some_and(|entry| entry.queued() == 0);
        if at_once && let Some(to) = self.pick(service, None) {
            return self.deliver(now, id, to);
        }
        self.enqueue(id, false);
        self.dispatch(now, service);
        if let Some(request) = self.requests.get_mut(id).filter(|request| request.queued) {
            request.body.compact();
        }
    }

    /// Lets a request wait: behind its client's others, or, given back, in front of all.
    fn enqueue(&mut self, id: RequestId, returned: bool) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.queued = true;
        let (asker, bytes, expires) = (Asker::from(&request.client), request.body.cost(), request.expires);
        self.queued += 1;
        self.queued_bytes += bytes;
        self.waiting.entry(asker.clone()).or_default().add(bytes);
        if let Some(service) = self.services.get_mut(request.service) {
            if returned {
                service.queue.give_back(id, bytes);
            } else {
                service.queue.push(id, asker, bytes);
            }
        }
        self.arm_expiry(expires);
    }

    /// Counts the request at the front of its service's queue out of it.
    fn dequeue(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id).filter(|request| request.queued) else { return };
        request.queued = false;
        let (service, asker, bytes) = (request.service, Asker::from(&request.client), request.body.cost());
        if let Some(service) = self.services.get_mut(service) {
            service.queue.take_front(&asker, bytes);
        }
        self.count_out(asker, bytes);
    }

    /// One request fewer waits.
    fn count_out(&mut self, asker: Asker, bytes: usize) {
        self.queued -= 1;
        self.queued_bytes -= bytes;
        if let Entry::Occupied(mut load) = self.waiting.entry(asker) {
            load.get_mut().subtract(bytes);
            if load.get().requests == 0 {
                load.remove();
            }
        }
    }

    /// Hands waiting requests to workers with room, the least loaded first, while there are both.
    pub(super) fn dispatch(&mut self, now: Instant, service: ServiceKey) {
        while let Some(id) = self.next_in_turn(service) {
            let avoid = self.requests.get(id).and_then(|request| request.avoid).map(NonZeroU64::get);
            let Some(to) = self.pick(service, avoid) else { return };
            self.dequeue(id);
            self.deliver(now, id, to);
        }
    }

    /// The worker that is next in turn of those with room; one that is to be avoided only if there is no other.
    fn pick(&mut self, service: ServiceKey, avoid: Option<u64>) -> Option<WorkerKey> {
        self.place_moved(service);
        let workers = &self.workers;
        let is_avoided = |key| avoid.is_some() && workers.get(key).map(|worker| worker.serial) == avoid;
        self.services.get(service)?.ready.first(is_avoided)
    }

    /// The waiting request that is next in turn.
    fn next_in_turn(&mut self, service: ServiceKey) -> Option<RequestId> {
        let requests = &self.requests;
        let queue = &mut self.services.get_mut(service)?.queue;
        queue.front(|id| requests.get(id).is_some_and(|request| request.queued))
    }

    /// Hands a request to a worker that has room.
    fn deliver(&mut self, now: Instant, id: RequestId, key: WorkerKey) {
        let (Some(request), Some((to, worker))) = (self.requests.get_mut(id), self.workers.named_mut(key)) else {
            return;
        };
        request.attempts += 1;
        self.last_delivery += 1;
        let delivery = self.last_delivery;
        request.holder = NonZeroU64::new(delivery).map(|delivery| (key, delivery));
        worker.heartbeat.sent(now);
        self.in_flight += 1;
        let service = self.services.get_mut(request.service);
        let was_idle = worker.held.is_empty();
        let _ = worker.held.push(delivery, Delivery { request: Some(id), since: now });
        if let Some(service) = service {
            service.in_flight += 1;
            service.idle -= usize::from(was_idle);
            let has_turn = worker.place.is_some_and(|(before, _)| worker.load() < before + run(before));
            if !has_turn || !worker.has_room() {
                place(key, worker, &mut service.ready, &mut self.last_turn);
            }
        }
        let frames = match worker.wire {
            Wire::Mdp(version) => {
                let address = F::copy_from(&write_address(self.incarnation, delivery));
                Frames::from_vec(mdp::delivery(version, address, request.body.view().frames()))
            }
            Wire::X1 => {
                let (session, number) = match request.client {
                    Client::X1 { session, number } => {
                        (self.sessions.get(&session).map_or(SessionId::default(), |session| session.id), number)
                    }
                    Client::Mdp { .. } => (SessionId::default(), 0),
                };
                let left = request.deadline.map(|deadline| deadline.saturating_duration_since(now));
                // A request whose time is over to the millisecond must not pass for one without a limit.
                let ttl_ms = left.map_or(0, |left| x1::milliseconds(left).max(1));
                let attempt = u16::try_from(request.attempts).unwrap_or(u16::MAX);
                let command = Command::Deliver { delivery, session, number, ttl_ms, attempt };
                if worker.takes_batches && request.body.view().write_inline(&command, &mut self.scratch) {
                    if let Some(full) = self.batches.add(to, &self.scratch) {
                        self.outputs.push_back(full);
                    }
                    return self.watch_attempt(key);
                }
                request.body.view().message(&command, &mut self.scratch)
            }
        };
        let to = to.clone();
        self.say(to, frames);
        self.watch_attempt(key);
    }

    fn watch_attempt(&mut self, key: WorkerKey) {
        if self.config.attempt_timeout.is_some() {
            self.arm_worker(key);
        }
    }

    /// A worker's room has changed: it gets its place anew, and work if there is any.
    pub(super) fn settle_worker(&mut self, now: Instant, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        let Some(service) = self.services.get_mut(worker.service) else { return };
        let mut must_be_placed = false;
        if worker.place.is_some() && worker.has_room() {
            if !std::mem::replace(&mut worker.has_moved, true) {
                must_be_placed = service.ready.has_moved(key);
            }
        } else {
            place(key, worker, &mut service.ready, &mut self.last_turn);
        }
        if service.queued() > 0 {
            let service = worker.service;
            self.dispatch(now, service);
        } else if must_be_placed {
            let service = worker.service;
            self.place_moved(service);
        }
    }

    /// Makes the places of those anew whose loads have changed.
    fn place_moved(&mut self, service: ServiceKey) {
        let Some(ready) = self.services.get_mut(service).map(|service| &mut service.ready) else { return };
        let Some(moved) = ready.take_moved() else { return };
        for &key in &moved {
            // Whoever is gone, or full, has no place. A key may be another worker's by now.
            if let Some(worker) = self.workers.get_mut(key).filter(|worker| worker.service == service)
                && std::mem::take(&mut worker.has_moved)
                && worker.place.is_some()
            {
                place(key, worker, ready, &mut self.last_turn);
            }
        }
        ready.settled(moved);
    }

    /// No worker holds the request any more.
    pub(super) fn land(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if request.holder.take().is_some() {
            self.in_flight -= 1;
            if let Some(service) = self.services.get_mut(request.service) {
                service.in_flight -= 1;
            }
        }
    }

    /// Forgets a request, whatever its state in the queue.
    pub(super) fn forget(&mut self, id: RequestId) {
        if let Some((session, number)) = self.release(id)
            && let Some(session) = self.sessions.get_mut(&session)
        {
            session.end(number);
        }
    }

    /// Forgets a request, but not in its session if it has one: that and its number there.
    pub(super) fn release(&mut self, id: RequestId) -> Option<(SessionKey, u64)> {
        let request = self.requests.remove(id)?;
        let waited = request.queued.then(|| (Asker::from(&request.client), request.body.cost()));
        let in_session = match &request.client {
            Client::Mdp { peer, .. } => {
                self.by_client.remove(&(peer.clone(), id));
                None
            }
            Client::X1 { session, number } => Some((*session, *number)),
        };
        if let Some(service) = self.services.get_mut(request.service) {
            if let Some((asker, bytes)) = &waited {
                service.queue.end(id, asker, *bytes);
            }
            if service.queue.is_littered() {
                let requests = &self.requests;
                service.queue.sweep(|id| requests.get(id).is_some_and(|request| request.queued));
            }
            if service.is_unused() {
                self.services.remove(request.service);
            }
        }
        if let Some((asker, bytes)) = waited {
            self.count_out(asker, bytes);
        }
        self.spare.take_back(request);
        in_session
    }

    /// The worker that held the request is lost, overdue, or failed in a way that another may not: the request goes back
    /// to the front, or ends.
    pub(super) fn give_back(&mut self, now: Instant, id: RequestId, avoid: Option<u64>) {
        self.land(id);
        let Some(request) = self.requests.get_mut(id) else { return };
        let (attempts, max_attempts) = (request.attempts, request.max_attempts);
        if request.orphaned {
            self.counters.abandoned += 1;
            return self.forget(id);
        }
        let end = if request.parts > 0 {
            Some((ErrorKind::WorkerLost, "the worker was lost after the first part of its reply"))
        } else if attempts >= max_attempts && max_attempts == 1 {
            Some((ErrorKind::WorkerLost, "the worker was lost with the request, which may not run twice"))
        } else if attempts >= max_attempts {
            Some((ErrorKind::AttemptsExhausted, "the workers of every permitted attempt were lost"))
        } else if request.expires.is_some_and(|expires| now >= expires) {
            Some((ErrorKind::Expired, "the request waited longer than the broker's request_ttl"))
        } else {
            None
        };
        let service = request.service;
        if let Some((kind, text)) = end {
            if kind == ErrorKind::Expired {
                self.counters.expired += 1;
            } else {
                if let Some(service) = self.services.name(service)
                    && self.complaints.may_say(Level::Warn, now, service.as_bytes())
                {
                    log::warn!("a request for {service:?} failed after attempt {attempts} of {max_attempts}: {text}");
                }
                self.counters.exhausted += 1;
            }
            return self.fail(now, id, &Outcome::Failure { kind, code: 0, text, retryable: kind.is_retryable() });
        }
        request.joined = None;
        request.avoid = avoid.and_then(NonZeroU64::new);
        // An attempt that never reached its worker was taken back and is no redelivery.
        if attempts > 0 {
            self.counters.redelivered += 1;
        }
        self.enqueue(id, true);
        self.dispatch(now, service);
    }

    /// A REQUEST that could not be sent was not an attempt: no worker has seen it.
    pub(super) fn take_back_attempt(&mut self, lost: &Transmit<F>) {
        let Some(worker) = self.worker(&lost.to) else { return };
        let mut deliveries = Vec::new();
        match worker.wire {
            Wire::Mdp(version) => {
                if let Ok(ToWorker::Request { address, .. }) = mdp::read_to_worker(version, lost.frames.to_vec()) {
                    deliveries.extend(super::read_address(self.incarnation, address.as_ref()));
                }
            }
            Wire::X1 => {
                let header = lost.frames.first().map(AsRef::as_ref).unwrap_or_default();
                mdpx::each_message(header, lost.frames.len().saturating_sub(1), |command| {
                    if let Command::Deliver { delivery, .. } = command {
                        deliveries.push(delivery);
                    }
                });
            }
        }
        let requests = deliveries.iter().filter_map(|delivery| worker.held.get(*delivery)?.request);
        for id in requests.collect::<Vec<_>>() {
            if let Some(request) = self.requests.get_mut(id) {
                request.attempts -= 1;
            }
        }
    }

    /// The worker's delivery does not count any more. The worker still owes its answer.
    pub(super) fn void_delivery(&mut self, key: WorkerKey, delivery: u64) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        let Some(held) = worker.held.get_mut(delivery) else { return };
        held.request = None;
        self.tell_cancelled(key, delivery);
    }

    /// Tells a worker, if its protocol can, that nobody waits for a delivery any more.
    pub(super) fn tell_cancelled(&mut self, key: WorkerKey, delivery: u64) {
        if self.workers.get(key).is_some_and(|worker| worker.wire == Wire::X1)
            && let Some(to) = self.workers.name(key).cloned()
        {
            let frames = x1::control(&mut self.scratch, &Command::WorkerCancel { delivery });
            self.say(to, frames);
        }
    }

    /// The client of a request of MDP is gone: what waits is dropped, what runs will have nowhere to go.
    pub(super) fn abandon(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if let Some((worker, delivery)) = request.holder {
            request.orphaned = true;
            self.tell_cancelled(worker, delivery.get());
        } else {
            self.counters.abandoned += 1;
            self.forget(id);
        }
    }

    /// Nobody waits for the request any more: it is taken out of the queue, or its worker is told.
    pub(super) fn withdraw(&mut self, id: RequestId) {
        let holder = self.requests.get(id).and_then(|request| request.holder);
        if let Some((worker, delivery)) = holder {
            self.void_delivery(worker, delivery.get());
            self.land(id);
        }
        self.forget(id);
    }

    /// Attempts that have lasted too long go to other workers.
    pub(super) fn give_up_overdue(&mut self, now: Instant, key: WorkerKey) {
        let Some(limit) = self.config.attempt_timeout else { return };
        let Some(worker) = self.workers.get(key) else { return };
        let serial = worker.serial;
        let overdue: Vec<_> = (worker.held.iter())
            .filter_map(|(delivery, held)| Some((delivery, held.request?, held.since)))
            .filter(|(_, _, since)| now >= *since + limit)
            .collect();
        for (delivery, request, since) in overdue {
            if let Some(id) = self.workers.name(key)
                && self.complaints.may_say(Level::Warn, now, id)
            {
                log::warn!("worker {} is overdue after {:?}", hex(id), now - since);
            }
            self.void_delivery(key, delivery);
            self.give_back(now, request, Some(serial));
        }
    }
}

/// So many requests in a row, as far as they come together, go to one worker that holds so many already.
fn run(load: u32) -> u32 {
    (load / 4).max(1)
}

/// Gives a worker the place that its load calls for.
fn place(key: WorkerKey, worker: &mut Worker, ready: &mut Ready, last_turn: &mut u64) {
    if let Some(before) = worker.place.take() {
        ready.leave(before);
    }
    if worker.has_room() {
        *last_turn += 1;
        let place = (worker.load(), *last_turn);
        worker.place = Some(place);
        ready.enter(place, key);
    }
}
