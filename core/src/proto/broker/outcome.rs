//! Answers of workers, and what their clients hear of them: exactly one outcome for each request.

use std::time::Instant;

use log::Level;

use crate::error::{ErrorKind, ServiceError};
use crate::proto::failure;
use crate::proto::frame::{Frame, Frames};
use crate::proto::mdp::{self, Part, ToClient, Version};
use crate::proto::mdpx::{Command, Failure};

use super::queue::Load;
use super::received::Said;
use super::request::{Body, Client, Joined, RequestId};
use super::session::SessionKey;
use super::worker::WorkerKey;
use super::{Broker, Transmit, hex, x1};

/// What a worker says of a delivery.
pub(super) enum Answer<'a, F> {
    /// A part of the reply; more follow.
    Partial(Body<'a, F>),
    /// The reply, or its last part.
    Final(Body<'a, F>),
    /// The handler failed.
    Failure { kind: ErrorKind, code: u32, text: String, retryable: bool },
    /// No handler has seen the request.
    Returned,
}

/// How a request ends, for its client.
pub(super) enum Outcome<'a, F> {
    Reply(Body<'a, F>),
    Failure { kind: ErrorKind, code: u32, text: &'a str, retryable: bool },
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_answer(&mut self, now: Instant, key: WorkerKey, delivery: Option<u64>, answer: Answer<'_, F>) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.heartbeat.heard(now);
        // Only a part leaves the delivery with its worker.
        let held = delivery.and_then(|delivery| match answer {
            Answer::Partial(_) => Some((delivery, *worker.held.get(delivery)?)),
            _ => Some((delivery, worker.held.remove(delivery)?)),
        });
        let Some((delivery, held)) = held else {
            self.counters.stray_replies += 1;
            if let Some(id) = self.workers.name(key)
                && self.complaints.may_say(Level::Debug, now, id)
            {
                log::debug!("dropped an answer of worker {} that nobody waits for", hex(id));
            }
            return;
        };
        if let Answer::Partial(body) = answer {
            match held.request {
                Some(request) => self.forward_part(now, key, delivery, request, body),
                None => self.counters.stray_replies += 1,
            }
            return;
        }
        let serial = worker.serial;
        if worker.held.is_empty()
            && let Some(service) = self.services.get_mut(worker.service)
        {
            service.idle += 1;
        }
        match (held.request, answer) {
            (Some(id), Answer::Final(body)) => self.finish(now, id, Outcome::Reply(body)),
            (Some(id), Answer::Failure { kind, code, text, retryable }) => {
                self.on_failure(now, id, serial, &Outcome::Failure { kind, code, text: &text, retryable }, retryable);
            }
            (Some(id), Answer::Returned) => {
                if let Some(request) = self.requests.get_mut(id) {
                    request.attempts -= 1;
                }
                self.give_back(now, id, Some(serial));
            }
            (None, Answer::Returned) | (_, Answer::Partial(_)) => {}
            (None, _) => self.counters.stray_replies += 1,
        }
        self.settle_worker(now, key);
    }

    /// A handler failed: another one tries if it may.
    fn on_failure(&mut self, now: Instant, id: RequestId, worker: u64, failure: &Outcome<'_, F>, retryable: bool) {
        let again = (self.requests.get(id))
            .is_some_and(|request| retryable && request.parts == 0 && request.attempts < request.max_attempts);
        if again {
            self.give_back(now, id, Some(worker));
        } else {
            // A client that is gone is counted as that.
            let heard = self.requests.get(id).is_some_and(|request| !request.orphaned);
            self.counters.failed += u64::from(heard);
            self.fail(now, id, failure);
        }
    }

    /// A part of the reply: forwarded where the client's protocol has parts, kept for the final one where not.
    fn forward_part(&mut self, now: Instant, worker: WorkerKey, delivery: u64, id: RequestId, body: Body<'_, F>) {
        let Some(request) = self.requests.get_mut(id).filter(|request| !request.orphaned) else { return };
        match &request.client {
            Client::Mdp { version: Version::V01, .. } => {
                let joined = request.joined.get_or_insert_with(|| Box::new(Joined { frames: Vec::new(), bytes: 0 }));
                joined.bytes += body.cost();
                joined.frames.extend(body.view().to_frames());
                if joined.bytes > self.config.max_message_bytes {
                    if let Some(service) = self.services.name(request.service)
                        && self.complaints.may_say(Level::Warn, now, service.as_bytes())
                    {
                        log::warn!("a reply of {service:?} exceeds max_message_bytes when joined for 0.1");
                    }
                    self.counters.exhausted += 1;
                    self.void_delivery(worker, delivery);
                    self.land(id);
                    self.forget(id);
                }
            }
            Client::Mdp { peer, version: Version::V02 } => {
                request.parts += 1;
                let service = F::copy_from(self.services.text(request.service).as_bytes());
                let message = ToClient { service, part: Part::Partial, body: body.view().to_frames() };
                let frames = Frames::from_vec(mdp::write_to_client(Version::V02, message));
                let to = peer.clone();
                self.say(to, frames);
            }
            Client::X1 { session, number } => {
                let command = Command::Partial { number: *number, sequence: request.parts };
                request.parts += 1;
                let Some(session) = self.sessions.get_mut(session) else { return };
                // A client that is away sees from the gap that parts were lost.
                let Some(to) = session.peer.clone() else { return };
                session.last_sent = now;
                let takes_batches = session.takes_batches;
                let part = body
                    .readdressed(*number, self.spare.buffers())
                    .unwrap_or_else(|body| Said::Frames(body.view().message(&command, &mut self.scratch)));
                match part.small() {
                    Some(message) if takes_batches => self.outputs.extend(self.batches.add(&to, message)),
                    _ => self.say(to, part.into_frames()),
                }
            }
        }
    }

    /// The request has failed for good.
    pub(super) fn fail(&mut self, now: Instant, id: RequestId, failure: &Outcome<'_, F>) {
        let Outcome::Failure { kind, code, text, retryable } = *failure else { return };
        self.finish(now, id, Outcome::Failure { kind, code, text, retryable });
    }

    /// The request's one outcome.
    pub(super) fn finish(&mut self, now: Instant, id: RequestId, outcome: Outcome<'_, F>) {
        self.land(id);
        let Some(request) = self.requests.get_mut(id) else { return };
        if request.orphaned {
            self.counters.abandoned += 1;
            return self.forget(id);
        }
        if matches!(outcome, Outcome::Reply(_)) {
            self.counters.answered += 1;
        }
        let parts = request.parts;
        match request.client.clone() {
            Client::Mdp { peer, version } => {
                let body = match outcome {
                    Outcome::Reply(body) => {
                        let mut body = body.into_frames();
                        // A failure stands alone: the parts that came before it are not its beginning.
                        if let Some(mut joined) = request.joined.take().filter(|_| failure::decode(&body).is_none()) {
                            joined.frames.append(&mut body);
                            body = joined.frames;
                        }
                        body
                    }
                    Outcome::Failure { kind: ErrorKind::ServiceError, code, text, .. } => {
                        let failure = failure::encode(&ServiceError::new(code, text));
                        failure.iter().map(F::copy_from).collect()
                    }
                    // The protocol has no word for it: the client's time will run out.
                    Outcome::Failure { .. } => return self.forget(id),
                };
                let service = F::copy_from(self.services.text(request.service).as_bytes());
                let message = ToClient { service, part: Part::Final, body };
                let frames = Frames::from_vec(mdp::write_to_client(version, message));
                self.say(peer, frames);
            }
            Client::X1 { session, number } => match outcome {
                Outcome::Reply(body) => match body.readdressed(number, self.spare.buffers()) {
                    Ok(reply) => self.say_outcome(now, session, number, reply),
                    Err(body) => self.say_older_reply(now, session, number, parts, &body),
                },
                failure => self.say_failure(now, session, number, &failure),
            },
        }
        // Its session has the outcome now.
        self.release(id);
    }

    /// Says what a worker of an older protocol has replied: a reply, or a failure in the clothes of one.
    fn say_older_reply(&mut self, now: Instant, session: SessionKey, number: u64, sequence: u32, body: &Body<'_, F>) {
        match failure::decode(&body.view().to_frames()) {
            Some(ServiceError { code, text, retryable }) => {
                let failure = Outcome::Failure { kind: ErrorKind::ServiceError, code, text: &text, retryable };
                self.say_failure(now, session, number, &failure);
            }
            None => {
                let frames = body.view().message(&Command::Final { number, sequence }, &mut self.scratch);
                self.say_outcome(now, session, number, Said::Frames(frames));
            }
        }
    }

    /// Says ERROR for a number of a session.
    pub(super) fn say_failure(&mut self, now: Instant, session: SessionKey, number: u64, failure: &Outcome<'_, F>) {
        let Outcome::Failure { kind, code, text, retryable } = *failure else { return };
        let failure = Failure { kind: kind.number(), retryable, code, text };
        let frames = x1::control(&mut self.scratch, &Command::Error { number, failure });
        self.say_outcome(now, session, number, Said::Frames(frames));
    }

    /// Says the outcome of a number of a session, and keeps it until the client has acknowledged it.
    pub(super) fn say_outcome(&mut self, now: Instant, session: SessionKey, number: u64, outcome: Said<F>) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let before = session.kept_bytes();
        if let Some(to) = &session.peer {
            session.last_sent = now;
            match outcome.small() {
                Some(message) if session.takes_batches => {
                    if let Some(full) = self.batches.add(to, message) {
                        self.outputs.push_back(full);
                    }
                }
                _ => {
                    self.outputs.extend(self.batches.close(to));
                    self.outputs.push_back(Transmit { to: to.clone(), frames: outcome.to_frames() });
                }
            }
        }
        session.keep(number, outcome);
        self.kept_bytes = self.kept_bytes + session.kept_bytes() - before;
        let kept = Load { requests: 0, bytes: session.kept_bytes() };
        let left = Load { requests: 0, bytes: self.config.max_queued_bytes.saturating_sub(self.kept_bytes) };
        if kept.is_greedy(left) {
            session.shed_to(kept.bytes / 2);
            self.kept_bytes = self.kept_bytes + session.kept_bytes() - kept.bytes;
        }
    }
}
