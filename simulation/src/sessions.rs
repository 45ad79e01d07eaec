//! Clients of MDPX driven as their drivers would drive them.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use majordomo::proto::client::ClientConfig;
use majordomo::proto::session::{Asked, Identity, Session, SessionConfig, SessionOutput, Terms};
use majordomo::{ConnectionEvent, Error, ErrorKind, Properties};

use super::network::{Event, Link, MS, Moment, Owner};
use super::older::{OlderPeer, options};
use super::random::Random;
use super::script::ClientSetting;
use super::world::World;

/// A blocking client looks whether its connection is still there where its last request is longer ago.
const LOOKS_AFTER: Moment = 100 * MS;

/// A client with its connection and its requests.
pub(super) struct SessionPeer {
    pub(super) machine: Session,
    /// Index among the script's clients.
    client: usize,
    pub(super) link: Option<Link>,
    /// Whether the machine has asked for a connection.
    wants_link: bool,
    /// What waits for a broker to take it.
    unsent: VecDeque<Vec<Bytes>>,
    /// Its requests, by their numbers.
    pub(super) ids: Vec<usize>,
    /// Requests that wait for their turn (blocking).
    pub(super) waiting: VecDeque<usize>,
    /// What came while the driver slept; `None` stands for the end of the connection.
    inbox: VecDeque<(Link, Option<Vec<Bytes>>)>,
    /// Whether the driver sleeps while no request is under way.
    blocking: bool,
    last_used: Moment,
    pub(super) due: Moment,
    pub(super) thaw: Moment,
    pub(super) is_dead: bool,
    /// Rises with each restart.
    pub(super) life: u64,
    /// Connections before this one were an earlier life's.
    pub(super) first_link: Link,
}

pub(super) fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "given up")
}

impl SessionPeer {
    pub(super) fn new(client: usize, setting: &ClientSetting, seed: u64, now: Instant) -> SessionPeer {
        let mut session = [0; 16];
        session[..8].copy_from_slice(&Random::of(seed, 5, client as u64).next().to_be_bytes());
        let identity = Identity { session, secret: [7; 16] };
        SessionPeer {
            machine: Session::new(SessionConfig::from(&options(setting)), identity, now),
            client,
            link: None,
            wants_link: false,
            unsent: VecDeque::new(),
            ids: Vec::new(),
            waiting: VecDeque::new(),
            inbox: VecDeque::new(),
            blocking: setting.blocking,
            last_used: 0,
            due: Moment::MAX,
            thaw: 0,
            is_dead: false,
            life: 0,
            first_link: 0,
        }
    }

    /// Whether nobody looks at the machine.
    pub(super) fn sleeps(&self) -> bool {
        self.is_dead || (self.blocking && self.machine.is_idle())
    }
}

impl World<'_> {
    /// A blocking client goes on with its next request, if it has one and is free.
    pub(super) fn wake_for_next(&mut self, index: usize) {
        let peer = &mut self.sessions[index];
        if !peer.machine.is_idle() || peer.is_dead {
            return;
        }
        // A request that has gone over to an older protocol is still the client's one request.
        let is_busy = self.olders.iter().any(|older| older.owner() == Some(index) && older.current.is_some());
        let Some(id) = peer.waiting.pop_front().filter(|_| !is_busy) else { return };
        if self.now - peer.last_used >= LOOKS_AFTER {
            self.read_inbox(index);
        }
        self.start_session_request(index, id);
        self.read_inbox(index);
    }

    fn read_inbox(&mut self, index: usize) {
        while let Some((link, message)) = self.sessions[index].inbox.pop_front() {
            self.hand_over(index, link, message);
        }
    }

    /// Everybody looks at their machines, for the end.
    pub(super) fn wake_all(&mut self) {
        for index in 0..self.sessions.len() {
            self.sessions[index].blocking = false;
            self.read_inbox(index);
        }
    }

    pub(super) fn start_session_request(&mut self, index: usize, id: usize) {
        let (now, moment) = (self.clocks.client(self.now), self.now);
        let peer = &mut self.sessions[index];
        let deadline = self.script.setting.clients[peer.client].deadline;
        peer.ids.push(id);
        let number = peer.ids.len() as u64;
        let Some(asking) = self.ledger.asking(id) else { return };
        (asking.is_asked, asking.number) = (true, number);
        let mut body = asking.body();
        if asking.ask.key {
            let mut properties = Properties::new();
            if properties.set(Properties::IDEMPOTENCY_KEY, &asking.text).is_ok() {
                body = body.with_properties(properties);
            }
        }
        // What the plan asks for can be; were it not so, the request would be missed at the end.
        let Ok(terms) = Terms::new(asking.target(), &asking.options()) else { return };
        let asked = Asked { terms, body, mode: asking.mode(), submitted: now };
        let (limit, cancel) = (asking.limit(moment, deadline), asking.ask.cancel);
        peer.machine.start(now, number, asked);
        self.limit(limit, id);
        if let Some(cancel) = cancel {
            self.network.plan(moment + cancel * MS, Event::Cancel(id));
        }
        self.drive_session(index);
    }

    /// A message came, or the connection's end.
    pub(super) fn at_session(&mut self, index: usize, link: Link, message: Option<Vec<Bytes>>) {
        if self.sessions[index].sleeps() {
            self.sessions[index].inbox.push_back((link, message));
        } else {
            self.hand_over(index, link, message);
        }
    }

    fn hand_over(&mut self, index: usize, link: Link, message: Option<Vec<Bytes>>) {
        let now = self.clocks.client(self.now);
        let peer = &mut self.sessions[index];
        if peer.link != Some(link) {
            return;
        }
        match message {
            Some(frames) => peer.machine.handle_message(now, frames),
            None => {
                peer.link = None;
                peer.machine.handle_disconnected(now);
            }
        }
        self.drive_session(index);
    }

    pub(super) fn drive_session(&mut self, index: usize) {
        while let Some(output) = self.sessions[index].machine.poll_output() {
            match output {
                SessionOutput::Connect { .. } => {
                    self.close_session_link(index);
                    self.sessions[index].wants_link = true;
                }
                SessionOutput::Send(frames) => self.sessions[index].unsent.push_back(frames),
                SessionOutput::Close => {
                    self.flush_session(index);
                    self.close_session_link(index);
                }
                SessionOutput::Partial { number, part } => {
                    let Some(id) = self.sessions[index].ids.get(number as usize - 1).copied() else { continue };
                    let Some(asking) = self.ledger.asking(id) else { continue };
                    let is_open = asking.outcome.is_none();
                    asking.parts.extend(part);
                    self.ledger.hold(is_open, "parts come before the outcome", || format!("part of {id}"));
                }
                SessionOutput::Done { number, outcome } => {
                    self.sessions[index].last_used = self.now;
                    if let Some(id) = self.sessions[index].ids.get(number as usize - 1).copied() {
                        self.on_outcome(id, &outcome);
                    }
                }
                SessionOutput::Event(ConnectionEvent::Disconnected { reason, .. }) => {
                    self.judge_silence(self.sessions[index].link, &reason);
                }
                // Nobody else has the client's session here, so it is never denied.
                SessionOutput::Identify | SessionOutput::Event(_) => {}
                SessionOutput::Older { version, requests, .. } => {
                    for (number, asked) in requests {
                        let client = self.sessions[index].client;
                        let mut config = ClientConfig::from(&options(&self.script.setting.clients[client]));
                        config.version = version;
                        let Some(id) = self.sessions[index].ids.get(number as usize - 1).copied() else { continue };
                        if let Some(asking) = self.ledger.asking(id) {
                            asking.older = true;
                            asking.parts.clear();
                        }
                        let mut older = OlderPeer::with(client, config, Some(index));
                        older.thaw = self.sessions[index].thaw;
                        self.olders.push(older);
                        let waited = self.clocks.client(self.now).saturating_duration_since(asked.submitted);
                        self.start_older(self.olders.len() - 1, id, waited);
                    }
                }
            }
        }
        self.flush_session(index);
        let peer = &mut self.sessions[index];
        peer.due = self.clocks.client_due(peer.machine.poll_timeout());
    }

    /// Who takes a living broker for dead over a sound connection has miscounted.
    pub(super) fn judge_silence(&mut self, link: Option<Link>, reason: &str) {
        let is_deaf = self.broker.is_some() && link.is_some_and(|link| self.network.is_sound(link));
        let fine = self.ledger.allowed.deceit || !is_deaf || !reason.contains("silent");
        self.ledger.hold(fine, "nobody alive is taken for dead", || format!("the broker, on {link:?}: {reason}"));
    }

    fn close_session_link(&mut self, index: usize) {
        let peer = &mut self.sessions[index];
        peer.unsent.clear();
        peer.wants_link = false;
        if let Some(link) = peer.link.take() {
            self.network.close(self.now, link, false);
        }
    }

    pub(super) fn kill_session(&mut self, index: usize) {
        self.close_session_link(index);
        let peer = &mut self.sessions[index];
        (peer.is_dead, peer.due, peer.thaw) = (true, Moment::MAX, 0);
        peer.waiting.clear();
        peer.inbox.clear();
        peer.ids.clear();
        self.sessions[index].first_link = self.network.count();
        self.sessions[index].machine.close(&given_up());
        while self.sessions[index].machine.poll_output().is_some() {}
        self.ledger.forget_session(index);
    }

    /// A connection comes up as soon as there is a broker, and takes what waits for it.
    pub(super) fn flush_session(&mut self, index: usize) {
        let peer = &mut self.sessions[index];
        if self.broker.is_none() || peer.unsent.is_empty() || !(peer.wants_link || peer.link.is_some()) {
            return;
        }
        let link = *peer.link.get_or_insert_with(|| self.network.open(Owner::Session(index)));
        while let Some(frames) = peer.unsent.pop_front() {
            self.network.send_to_broker(self.now, link, frames);
        }
        peer.machine.handle_sent(self.clocks.client(self.now));
    }
}
