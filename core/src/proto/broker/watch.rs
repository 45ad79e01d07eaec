//! Time: heartbeats, silence, attempts that last too long, requests that wait too long.
//!
//! Each worker and each service has at most one timer. A message only moves marks in time; the timer looks at them when it
//! fires and is set anew, so that messages cost nothing here.

use std::cmp::Reverse;
use std::time::Instant;

use crate::proto::frame::{Frame, RoutingId};

use super::service::ServiceName;
use super::worker::WorkerState;
use super::{Broker, hex};

/// Whose timer it is. One that does not fit its owner's `armed` mark any more is ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Worker(RoutingId, u64),
    Service(ServiceName),
}

impl<F: Frame> Broker<F> {
    /// The moment of [`Broker::poll_timeout`] has come. The driver first hands over whatever has been received: only
    /// what is still missing then is silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, _))) = self.timers.peek() {
            if *at > now {
                return;
            }
            let Some(Reverse((at, timer))) = self.timers.pop() else { return };
            match timer {
                Timer::Worker(id, serial) => self.on_worker_timer(now, at, &id, serial),
                Timer::Service(name) => self.on_service_timer(now, at, &name),
            }
        }
    }

    /// When [`Broker::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Sets the worker's timer if it must fire earlier than it is set.
    pub(super) fn arm_worker(&mut self, peer: &[u8]) {
        let Some((id, worker)) = self.workers.get_key_value(peer) else { return };
        let due = worker.due(self.config.attempt_timeout);
        if worker.armed.is_none_or(|armed| due < armed) {
            self.timers.push(Reverse((due, Timer::Worker(id.clone(), worker.serial))));
            if let Some(worker) = self.workers.get_mut(peer) {
                worker.armed = Some(due);
            }
            self.sweep_timers();
        }
    }

    /// Sets the service's timer by its oldest waiting request, if it must fire earlier than it is set.
    pub(super) fn arm_service(&mut self, name: &str) {
        let oldest = self.oldest(name).and_then(|id| self.requests.get(&id)).and_then(|request| request.expires);
        let Some((name, service)) = self.services.get_key_value(name) else { return };
        let Some(due) = oldest.filter(|due| service.armed.is_none_or(|armed| *due < armed)) else { return };
        let name = name.clone();
        self.timers.push(Reverse((due, Timer::Service(name.clone()))));
        if let Some(service) = self.services.get_mut(&name) {
            service.armed = Some(due);
        }
        self.sweep_timers();
    }

    /// Services and workers that come and go leave timers behind; they must not outnumber the ones that count.
    fn sweep_timers(&mut self) {
        if self.timers.len() > 4 * (self.services.len() + self.workers.len()) + 64 {
            let (workers, services) = (&self.workers, &self.services);
            self.timers.retain(|Reverse((at, timer))| match timer {
                Timer::Worker(id, serial) => {
                    workers.get(id).is_some_and(|worker| worker.serial == *serial && worker.armed == Some(*at))
                }
                Timer::Service(name) => services.get(name).is_some_and(|service| service.armed == Some(*at)),
            });
        }
    }

    fn on_worker_timer(&mut self, now: Instant, at: Instant, id: &RoutingId, serial: u64) {
        let (interval, attempt_timeout) = (self.config.heartbeat, self.config.attempt_timeout);
        let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.serial == serial) else { return };
        if worker.armed != Some(at) {
            return;
        }
        worker.armed = None;
        if now.saturating_duration_since(at) > interval {
            // We were stopped ourselves for so long that nobody's silence means anything yet.
            worker.heartbeat.heard(now);
        }
        if worker.expiry().is_some_and(|expiry| now >= expiry) {
            let (silence, version) = (worker.heartbeat.silence(now), worker.version);
            log::info!("worker {} of {:?} is gone: silent for {silence:?}", hex(id), worker.service);
            self.counters.workers_lost += 1;
            self.expel(now, id, version);
            return;
        }
        if worker.attempt_ends(attempt_timeout).is_some_and(|ends| now >= ends)
            && let WorkerState::Busy { request, .. } = worker.state
        {
            self.make_overdue(now, id);
            self.give_back(now, request);
        }
        if self.workers.get(id).is_some_and(|worker| now >= worker.heartbeat.next_beat()) {
            self.beat(now, id);
        }
        self.arm_worker(id);
    }

    fn on_service_timer(&mut self, now: Instant, at: Instant, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name).filter(|service| service.armed == Some(at)) else { return };
        service.armed = None;
        while let Some(id) = self.oldest(name) {
            let expires = self.requests.get(&id).and_then(|request| request.expires);
            if expires.is_none_or(|expires| now < expires) {
                break;
            }
            self.counters.expired += 1;
            log::debug!("a request for {name:?} expired in the queue");
            self.forget(id);
        }
        self.arm_service(name);
    }
}
