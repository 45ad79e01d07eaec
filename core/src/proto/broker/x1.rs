//! What peers of MDPX say.

use std::time::{Duration, Instant};

use log::Level;

use crate::error::ErrorKind;
use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdpx::{self, Command, Failure, SessionId};
use crate::proto::mmi;
use crate::proto::moment::earliest;

use super::outcome::{Answer, Outcome};
use super::received::{Received, Said};
use super::request::{Body, Client, Held, RequestId, View};
use super::service::{Service, ServiceKey};
use super::session::{Known, Session, SessionKey};
use super::worker::Wire;
use super::{Broker, Registration, hex};

/// Milliseconds of MDPX for a duration; what does not fit is as long as it can be.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// A message without a body. `scratch` is memory to write in.
pub(super) fn control<F: Frame>(scratch: &mut Vec<u8>, command: &Command<'_>) -> Frames<F> {
    scratch.clear();
    mdpx::write(scratch, command, &[]);
    let mut frames = Frames::new();
    frames.push(F::copy_from(scratch));
    frames
}

impl<F: Frame> Broker<F> {
    pub(super) fn handle_x1(&mut self, now: Instant, peer: &[u8], message: Received<'_, F>) {
        let header = message.header();
        let read = match mdpx::read(header, message.followers().len()) {
            Ok(read) => read,
            Err(reason) => return self.on_malformed(now, peer, reason),
        };
        let layout = read.layout;
        match read.command {
            Command::Hello { session, secret, heartbeat_ms, liveness } => {
                self.on_hello(now, peer, session, secret, (heartbeat_ms, liveness));
            }
            Command::Request { number, acked, ttl_ms, max_attempts, fail_fast, service } => {
                let Some(session) = self.session_of(peer) else { return };
                let ask = Ask { number, acked, ttl_ms, max_attempts, fail_fast };
                if mmi::is_reserved(service) {
                    let (service, message) = (service.to_vec(), message.into_frames());
                    self.on_question(now, session, ask, &service, &View::of_message(&message, layout));
                } else {
                    // A name that is not known yet goes its own way; the header goes with a body of frames.
                    let service = match self.service_key(service) {
                        Some(key) => Asked::Known(key),
                        None => Asked::Unknown(service.to_vec()),
                    };
                    let body = Held::of_header(header, layout, self.spare.buffers())
                        .unwrap_or_else(|| Held::of_message(message.into_frames(), layout));
                    self.on_x1_request(now, session, ask, service, body);
                }
            }
            Command::Cancel { number } => {
                let Some(session) = self.session_of(peer) else { return };
                let Some(session) = self.sessions.get_mut(&session) else { return };
                match session.know(number) {
                    Known::Open(id) => {
                        self.counters.cancelled += 1;
                        self.withdraw(id);
                    }
                    // The outcome has crossed the CANCEL: nobody will say that it has arrived.
                    Known::Kept(_) => {
                        let before = session.kept_bytes();
                        session.discard(number);
                        self.kept_bytes -= before - session.kept_bytes();
                    }
                    Known::New | Known::Gone => {}
                }
            }
            Command::Ack { number } => {
                let Some(session) = self.session_of(peer) else { return };
                if let Some(session) = self.sessions.get_mut(&session) {
                    let before = session.kept_bytes();
                    session.acknowledge(number, self.spare.buffers());
                    self.kept_bytes -= before - session.kept_bytes();
                }
            }
            Command::Ready { capacity, heartbeat_ms, liveness: _, service } => {
                self.on_x1_ready(now, peer, service, capacity, heartbeat_ms);
            }
            Command::WorkerPartial { delivery, sequence: _ } => {
                let body = Body::of_message(message, layout);
                self.on_x1_answer(now, peer, delivery, Answer::Partial(body));
            }
            Command::WorkerFinal { delivery, sequence: _ } => {
                let body = Body::of_message(message, layout);
                self.on_x1_answer(now, peer, delivery, Answer::Final(body));
            }
            Command::WorkerError { delivery, failure } => {
                let answer = Answer::Failure {
                    kind: ErrorKind::from_number(failure.kind).unwrap_or(ErrorKind::Internal),
                    code: failure.code,
                    text: failure.text.to_owned(),
                    retryable: failure.retryable,
                };
                self.on_x1_answer(now, peer, delivery, answer);
            }
            Command::Return { delivery } => self.on_x1_answer(now, peer, delivery, Answer::Returned),
            Command::Drain => {
                if let Some(key) = self.known_worker(now, peer, Wire::X1)
                    && let Some(worker) = self.workers.get_mut(key)
                {
                    worker.heartbeat.heard(now);
                    let is_news = !std::mem::replace(&mut worker.draining, true);
                    if let Some(service) = self.services.get_mut(worker.service) {
                        service.draining += usize::from(is_news);
                    }
                    self.settle_worker(now, key);
                }
            }
            Command::Batch => self.on_batch(now, peer, layout.packed(header).unwrap_or_default()),
            Command::Heartbeat => {
                // Workers first: there are many, and this is what they say most.
                if self.workers.key(peer).is_none() && self.clients.key(peer).is_some() {
                    let frames = control(&mut self.scratch, &Command::Heartbeat);
                    self.say(peer.into(), frames);
                } else if let Some(worker) = self.known_worker(now, peer, Wire::X1) {
                    self.on_beat(now, worker);
                }
            }
            Command::Disconnect { .. } => {
                self.remove_worker(now, peer);
                if let Some(session) = self.session_at(peer) {
                    self.drop_session(session);
                }
            }
            Command::ClientWelcome { .. }
            | Command::Partial { .. }
            | Command::Final { .. }
            | Command::Error { .. }
            | Command::WorkerWelcome { .. }
            | Command::Deliver { .. }
            | Command::WorkerCancel { .. } => self.on_malformed(now, peer, "a command that only a broker sends"),
        }
    }

    /// Several messages in one. An empty one says that its sender takes such messages.
    fn on_batch(&mut self, now: Instant, peer: &[u8], packed: &[u8]) {
        let mut messages = mdpx::unpack(packed).peekable();
        if messages.peek().is_none() {
            if let Some(worker) = self.workers.key(peer).and_then(|key| self.workers.get_mut(key)) {
                worker.takes_batches = true;
            } else if let Some(session) = self.session_at(peer).and_then(|key| self.sessions.get_mut(&key)) {
                session.takes_batches = true;
            }
        }
        for message in messages {
            if !mdpx::may_join(&[message]) {
                return self.on_malformed(now, peer, "a BATCH of something else than moderate messages of one frame");
            }
            self.handle_x1(now, peer, Received::Joined(message));
        }
    }

    fn on_malformed(&mut self, now: Instant, peer: &[u8], reason: &'static str) {
        self.counters.malformed += 1;
        if self.complaints.may_say(Level::Debug, now, peer) {
            log::debug!("dropped a message of peer {}: {reason}", hex(peer));
        }
        if self.workers.key(peer).is_some() {
            self.expel(now, peer, Wire::X1, reason);
        }
    }

    /// The session of a connection. Whoever has none is told so, that it may say HELLO (again).
    fn session_of(&mut self, peer: &[u8]) -> Option<SessionKey> {
        let session = self.session_at(peer);
        if session.is_none() {
            self.say_disconnect(peer.into(), Wire::X1, "no session: say HELLO first");
        }
        session
    }

    fn session_at(&self, peer: &[u8]) -> Option<SessionKey> {
        self.clients.get(self.clients.key(peer)?).copied()
    }

    /// The connection is no session's any more; whose it was.
    fn forget_connection(&mut self, peer: &[u8]) -> Option<SessionKey> {
        let key = self.clients.key(peer)?;
        self.clients.remove(key).map(|(_, session)| session)
    }

    fn granted(&self, heartbeat_ms: u32) -> Duration {
        Duration::from_millis(u64::from(heartbeat_ms)).clamp(self.config.heartbeat_min, self.config.heartbeat_max)
    }

    fn on_hello(&mut self, now: Instant, peer: &[u8], id: SessionId, secret: [u8; 16], beats: (u32, u8)) {
        let refuse = |broker: &mut Self, kind: ErrorKind, text: &str| {
            if broker.complaints.may_say(Level::Warn, now, peer) {
                log::warn!("refused the session of peer {}: {text}", hex(peer));
            }
            let frames = control(&mut broker.scratch, &Command::Disconnect { kind: kind.number(), text });
            broker.say(peer.into(), frames);
        };
        if self.workers.key(peer).is_some() {
            return self.on_malformed(now, peer, "HELLO from a worker");
        }
        let known = self.session_keys.get(&id).copied();
        let secret_of = |key| self.sessions.get(&key).map(|session| session.secret);
        if known.is_some_and(|key| secret_of(key) != Some(secret)) {
            return refuse(self, ErrorKind::Denied, "the session belongs to somebody else");
        }
        // A client says nothing before its WELCOME: a session without a number may be one whose WELCOME was lost, and what
        // the client has said to an earlier broker is not known here.
        let resumed = known.and_then(|key| self.sessions.get(&key)).is_some_and(|session| session.highest > 0);
        if known.is_none() && self.sessions.len() >= self.config.max_sessions {
            return refuse(self, ErrorKind::QueueFull, "max_sessions is reached");
        }
        if let Some(other) = self.session_at(peer).filter(|other| Some(*other) != known) {
            self.drop_session(other);
        }
        let heartbeat = self.granted(beats.0);
        let key = known.unwrap_or_else(|| {
            self.last_turn += 1;
            self.session_keys.insert(id, self.last_turn);
            self.last_turn
        });
        let session = self.sessions.entry(key).or_insert_with(|| Session::new(id, secret, now));
        let peer = RoutingId::from(peer);
        let before = session.peer.replace(peer.clone());
        session.heartbeat = heartbeat;
        session.liveness = u32::from(beats.1).max(1);
        session.takes_batches = false;
        session.forget_at = None;
        session.last_sent = now;
        if let Some(before) = before.filter(|before| *before != peer) {
            self.forget_connection(&before);
        }
        self.forget_connection(&peer);
        self.clients.insert(peer.clone(), key);
        let welcome = Command::ClientWelcome {
            resumed,
            heartbeat_ms: milliseconds(heartbeat),
            liveness: beats.1.max(1),
            credit: self.config.credit,
            max_message: self.config.max_message_bytes as u64,
        };
        let frames = control(&mut self.scratch, &welcome);
        self.say(peer, frames);
        self.arm_session(key);
    }

    /// Takes note of the number; how many requests of the session are open. `None` where the number was used before: what is
    /// known of it has been said.
    fn begin(&mut self, key: SessionKey, ask: &Ask) -> Option<usize> {
        let session = self.sessions.get_mut(&key)?;
        let before = session.kept_bytes();
        session.acknowledge(ask.acked, self.spare.buffers());
        self.kept_bytes -= before - session.kept_bytes();
        let known = session.know(ask.number);
        match known {
            Known::New => {
                session.highest = ask.number;
                Some(session.open)
            }
            // It waits or runs: its outcome will come over the new connection.
            Known::Open(_) => None,
            Known::Kept(frames) => {
                self.counters.repeated += 1;
                if let Some(to) = session.peer.clone() {
                    self.say(to, frames);
                }
                None
            }
            Known::Gone => {
                self.counters.repeated += 1;
                if let Some(to) = session.peer.clone() {
                    let failure = Failure {
                        kind: ErrorKind::Expired.number(),
                        retryable: false,
                        code: 0,
                        text: "the request has had its outcome, which is not kept any more",
                    };
                    let error = Command::Error { number: ask.number, failure };
                    let frames = control(&mut self.scratch, &error);
                    self.say(to, frames);
                }
                None
            }
        }
    }

    fn on_question(&mut self, now: Instant, session: SessionKey, ask: Ask, service: &[u8], body: &View<'_, F>) {
        if self.begin(session, &ask).is_some() {
            let reply = Body::of_frames(self.manage(now, service, body.first()));
            let command = Command::Final { number: ask.number, sequence: 0 };
            let frames = reply.view().message(&command, &mut self.scratch);
            self.say_outcome(now, session, ask.number, Said::Frames(frames));
        }
    }

    fn on_x1_request(&mut self, now: Instant, session: SessionKey, ask: Ask, service: Asked, body: Held<F>) {
        let Some(open) = self.begin(session, &ask) else { return };
        let client = Client::X1 { session, number: ask.number };
        let admitted = if open >= self.config.credit as usize {
            Err((ErrorKind::QueueFull, "more requests outstanding than the credit allows"))
        } else {
            self.admit(&client, service.key(), &body)
        };
        let is_served = || service.key().and_then(|key| self.services.get(key)).is_some_and(Service::is_served);
        let admitted = match admitted {
            Ok(()) if ask.fail_fast && !is_served() => Err((ErrorKind::NoWorker, "no worker serves the service")),
            admitted => admitted,
        };
        if let Err((kind, text)) = admitted {
            self.counters.refused += 1;
            let outcome = Outcome::Failure { kind, code: 0, text, retryable: kind.is_retryable() };
            return self.say_failure(now, session, ask.number, &outcome);
        }
        let service = match service {
            Asked::Known(key) => key,
            Asked::Unknown(name) => self.service_for(None, &name),
        };
        let mut request = self.request(now, client, service, body);
        if ask.max_attempts > 0 {
            request.max_attempts = u32::from(ask.max_attempts);
        }
        if ask.ttl_ms > 0 {
            request.deadline = Some(now + Duration::from_millis(u64::from(ask.ttl_ms)));
        }
        let deadline = request.deadline;
        let key = session;
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if open == 0 {
            // The client begins to wait: the first beat is a whole interval away.
            session.last_sent = now;
            session.next_deadline = None;
        }
        session.begin(ask.number, self.last_request + 1);
        session.next_deadline = earliest([session.next_deadline, deadline]);
        // While it waits, only a deadline can be earlier than what the timer is set to.
        let is_earlier = session.armed.is_none_or(|armed| deadline.is_some_and(|deadline| deadline < armed));
        self.accept(now, request);
        if open == 0 || is_earlier {
            self.arm_session(key);
        }
    }

    fn on_x1_ready(&mut self, now: Instant, peer: &[u8], service: &[u8], capacity: u32, heartbeat_ms: u32) {
        if self.clients.key(peer).is_some() {
            return self.on_malformed(now, peer, "READY from a client");
        }
        let known = self.service_key(service);
        if let Some(key) = self.workers.key(peer)
            && let Some(worker) = self.workers.get_mut(key)
        {
            if worker.wire == Wire::X1 && Some(worker.service) == known {
                worker.heartbeat.heard(now);
                worker.capacity = capacity;
                self.settle_worker(now, key);
            } else {
                self.expel(now, peer, Wire::X1, "READY for another service than before");
            }
            return;
        }
        let heartbeat = self.granted(heartbeat_ms);
        let registration = Registration { wire: Wire::X1, service, capacity, heartbeat };
        let worker = match self.register(now, peer, registration) {
            Ok(worker) => worker,
            Err(why) => {
                if self.complaints.may_say(Level::Warn, now, peer) {
                    log::warn!("refused worker {}: {why}", hex(peer));
                }
                return self.say_disconnect(peer.into(), Wire::X1, why);
            }
        };
        let welcome = Command::WorkerWelcome {
            heartbeat_ms: milliseconds(heartbeat),
            liveness: u8::try_from(self.config.liveness).unwrap_or(u8::MAX),
            max_message: self.config.max_message_bytes as u64,
        };
        let frames = control(&mut self.scratch, &welcome);
        self.say(peer.into(), frames);
        self.settle_worker(now, worker);
    }

    fn on_x1_answer(&mut self, now: Instant, peer: &[u8], delivery: u64, answer: Answer<'_, F>) {
        if let Some(worker) = self.known_worker(now, peer, Wire::X1) {
            self.on_answer(now, worker, Some(delivery), answer);
        } else {
            self.counters.stray_replies += 1;
        }
    }

    /// The connection of a session is gone. What the client asked goes on for a while: it may come back.
    pub(super) fn detach_session(&mut self, now: Instant, peer: &[u8]) {
        let Some(key) = self.forget_connection(peer) else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.peer = None;
        if session.is_settled() {
            self.drop_session(key);
        } else {
            session.forget_at = Some(now + session.heartbeat * session.liveness);
            self.arm_session(key);
        }
    }

    /// The client will not come back.
    pub(super) fn drop_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else { return };
        self.kept_bytes -= session.kept_bytes();
        self.session_keys.remove(&session.id);
        if let Some(peer) = &session.peer {
            self.forget_connection(peer);
        }
        let open: Vec<RequestId> = session.open_requests().collect();
        for id in open {
            self.counters.abandoned += 1;
            self.withdraw(id);
        }
    }
}

/// A service that is asked.
enum Asked {
    Known(ServiceKey),
    Unknown(Vec<u8>),
}

impl Asked {
    fn key(&self) -> Option<ServiceKey> {
        match self {
            Asked::Known(key) => Some(*key),
            Asked::Unknown(_) => None,
        }
    }
}

/// What a client asks for beside service and body.
pub(super) struct Ask {
    number: u64,
    acked: u64,
    ttl_ms: u32,
    max_attempts: u16,
    fail_fast: bool,
}
