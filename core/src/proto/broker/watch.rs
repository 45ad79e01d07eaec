//! Time: heartbeats, silence, attempts that last too long, requests that wait too long.
//!
//! Each worker and each session has at most one timer, and all waiting requests have one together. A message only moves
//! marks in time; the timer looks at them when it fires and is set anew, so that messages cost nothing here.

use std::cmp::Reverse;
use std::time::Instant;

use crate::error::ErrorKind;
use crate::proto::frame::Frame;
use crate::proto::mdpx::Command;
use crate::proto::moment::earliest;

use super::outcome::Outcome;
use super::request::RequestId;
use super::session::SessionKey;
use super::worker::WorkerKey;
use super::{Broker, hex, x1};

/// Whose timer it is. One that does not fit its owner's `armed` mark any more is ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Worker(WorkerKey, u64),
    Session(SessionKey),
}

impl<F: Frame> Broker<F> {
    /// The moment of [`Broker::poll_timeout`] has come. The driver first hands over whatever has been received: only
    /// what is still missing then is silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.expiry.is_some_and(|expiry| expiry <= now) {
            self.end_expired(now);
        }
        while let Some(Reverse((at, _))) = self.timers.peek() {
            if *at > now {
                return;
            }
            let Some(Reverse((at, timer))) = self.timers.pop() else { return };
            match timer {
                Timer::Worker(key, serial) => self.on_worker_timer(now, at, key, serial),
                Timer::Session(key) => self.on_session_timer(now, at, key),
            }
        }
    }

    /// When [`Broker::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest([self.timers.peek().map(|Reverse((at, _))| *at), self.expiry])
    }

    /// Sets the worker's timer if it must fire earlier than it is set.
    pub(super) fn arm_worker(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        let due = worker.due(self.started, self.config.attempt_timeout);
        if worker.armed.is_none_or(|armed| due < armed) {
            worker.armed = Some(due);
            self.timers.push(Reverse((due, Timer::Worker(key, worker.serial))));
            self.sweep_timers();
        }
    }

    /// Sees to it that a request that begins to wait is looked at when it expires.
    pub(super) fn arm_expiry(&mut self, expires: Option<Instant>) {
        if self.expiry.is_none_or(|expiry| expires.is_some_and(|expires| expires < expiry)) {
            self.expiry = expires;
        }
    }

    /// Workers and sessions that come and go leave timers behind; they must not outnumber the ones that count.
    fn sweep_timers(&mut self) {
        if self.timers.len() > 4 * (self.workers.len() + self.sessions.len()) + 64 {
            let (workers, sessions) = (&self.workers, &self.sessions);
            self.timers.retain(|Reverse((at, timer))| match timer {
                Timer::Worker(key, serial) => {
                    workers.get(*key).is_some_and(|worker| worker.serial == *serial && worker.armed == Some(*at))
                }
                Timer::Session(key) => sessions.get(key).is_some_and(|session| session.armed == Some(*at)),
            });
        }
    }

    fn on_worker_timer(&mut self, now: Instant, at: Instant, key: WorkerKey, serial: u64) {
        let (interval, attempt_timeout) = (self.config.heartbeat, self.config.attempt_timeout);
        let Some(worker) = self.workers.get_mut(key).filter(|worker| worker.serial == serial) else { return };
        if worker.armed != Some(at) {
            return;
        }
        worker.armed = None;
        if now.saturating_duration_since(at) > interval {
            // We were stopped ourselves for so long that nobody's silence means anything yet.
            worker.heartbeat.heard(now);
        }
        if worker.expiry().is_some_and(|expiry| now >= expiry) {
            let (silence, wire) = (worker.heartbeat.silence(now), worker.wire);
            let service = self.services.text(worker.service);
            let Some(id) = self.workers.name(key).cloned() else { return };
            log::info!("worker {} of {service:?} is gone: silent for {silence:?}", hex(&id));
            self.counters.workers_lost += 1;
            self.expel(now, &id, wire, "silent for too long");
            return;
        }
        if worker.attempt_ends(attempt_timeout).is_some_and(|ends| now >= ends) {
            self.give_up_overdue(now, key);
        }
        if self.workers.get(key).is_some_and(|worker| now >= worker.heartbeat.next_beat_in_slots(self.started)) {
            self.beat(now, key);
        }
        self.arm_worker(key);
    }

    /// Ends the waiting requests that have expired. Requests expire in the order of their acceptance, whichever their
    /// service and whatever became of them meanwhile: each is looked at once.
    fn end_expired(&mut self, now: Instant) {
        self.expiry = None;
        while let Some((id, request)) = self.requests.next_from(self.first_to_expire) {
            if request.expires.is_none_or(|expires| now < expires) {
                self.first_to_expire = id;
                self.expiry = request.expires.filter(|_| self.queued > 0);
                return;
            }
            self.first_to_expire = id + 1;
            // One that a worker holds may be answered, or ends when it is given back.
            if request.queued {
                log::debug!("a request for {:?} expired in the queue", self.services.text(request.service));
                self.counters.expired += 1;
                self.fail(now, id, &expired("the request waited longer than the broker's request_ttl"));
            }
        }
    }

    /// Sets the session's timer if it must fire earlier than it is set.
    pub(super) fn arm_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(due) = session.due().filter(|due| session.armed.is_none_or(|armed| *due < armed)) else { return };
        session.armed = Some(due);
        self.timers.push(Reverse((due, Timer::Session(key))));
        self.sweep_timers();
    }

    fn on_session_timer(&mut self, now: Instant, at: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.armed == Some(at)) else { return };
        session.armed = None;
        if session.forget_at.is_some_and(|forget_at| now >= forget_at) {
            log::info!("a client that was away for too long is given up");
            return self.drop_session(key);
        }
        if session.next_deadline.is_some_and(|deadline| now >= deadline) {
            self.end_late_requests(now, key);
        }
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.open > 0
            && now >= session.last_sent + session.heartbeat
            && let Some(to) = session.peer.clone()
        {
            session.last_sent = now;
            let frames = x1::control(&mut self.scratch, &Command::Heartbeat);
            self.say(to, frames);
        }
        self.arm_session(key);
    }

    /// Ends a session's requests whose time is over, wherever they are, and finds the next deadline.
    fn end_late_requests(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        let deadlines = session.open_requests().filter_map(|id| Some((self.requests.get(id)?.deadline?, id)));
        let (mut late, mut next) = (Vec::<RequestId>::new(), None::<Instant>);
        for (deadline, id) in deadlines {
            if now >= deadline {
                late.push(id);
            } else {
                next = earliest([next, Some(deadline)]);
            }
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            session.next_deadline = next;
        }
        for id in late {
            self.counters.expired += 1;
            let holder = self.requests.get(id).and_then(|request| request.holder);
            if let Some((worker, delivery)) = holder {
                self.void_delivery(worker, delivery.get());
            }
            self.fail(now, id, &expired("the request's time to live is over"));
        }
    }
}

fn expired<F>(text: &'static str) -> Outcome<'static, F> {
    Outcome::Failure { kind: ErrorKind::Expired, code: 0, text, retryable: ErrorKind::Expired.is_retryable() }
}
