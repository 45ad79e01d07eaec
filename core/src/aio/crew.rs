//! The I/O side of a worker. Over MDPX it is one session that has many requests in hand. Over MDP/0.1 and 0.2 a session
//! has one, so there are as many sessions as handlers, each with a connection of its own. The first finds out which it
//! is, and goes on finding out each time it connects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, ServiceError};
use crate::options::{Protocol, WorkerOptions};
use crate::proto::worker::{Answer, Worker as Machine, WorkerConfig, WorkerOutput};
use crate::transport::{Dealer, DealerOptions, Received, seed};
use crate::worker::Delivered;

use super::desk::{Answers, Desk};
use super::engine::Io;
use super::link::Link;
use super::timers::Owner;
use super::watch::Watch;

/// How many messages of one session are read before the others have their turn.
const BATCH: usize = 64;
/// How long a closed connection's last messages, DISCONNECT among them, may take to go out.
const LINGER: Duration = Duration::from_secs(1);
/// First pause of libzmq before it connects again. A broker that is back is found quickly.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// A request's number is its session's and, in so many bits, its own within the session.
const NUMBER_BITS: u32 = 40;
/// The session that finds out what the broker speaks.
const FIRST: usize = 0;

pub(super) struct Crew {
    id: u64,
    options: Arc<WorkerOptions>,
    dealer: DealerOptions,
    desk: Arc<Desk>,
    /// Those that are not closed. A number is never used again: answers may still be on their way to it.
    sessions: BTreeMap<usize, Session>,
    last_session: usize,
    /// What the first session speaks, as far as the others have been adapted to it.
    protocol: Option<Protocol>,
    draining: bool,
    /// Why the worker had to end, unless it was asked to.
    failure: Option<Error>,
    /// Whether the worker's end has been told.
    ended: bool,
}

struct Session {
    machine: Machine,
    link: Link,
    /// Whether the end of the turn sees to what it has to send.
    touched: bool,
    answers: Arc<Answers>,
    timer: Option<Instant>,
}

impl Crew {
    pub(super) fn new(io: &mut Io, id: u64, options: Arc<WorkerOptions>, desk: Arc<Desk>) -> Self {
        let dealer = DealerOptions {
            linger: LINGER,
            reconnect_min: RECONNECT_MIN.min(options.reconnect),
            reconnect_max: options.reconnect,
            max_message_bytes: options.max_message_bytes,
        };
        let mut crew = Crew {
            id,
            options,
            dealer,
            desk,
            sessions: BTreeMap::new(),
            last_session: FIRST,
            protocol: None,
            draining: false,
            failure: None,
            ended: false,
        };
        let protocol = crew.options.protocol;
        crew.add_session(io.now, FIRST, protocol);
        crew
    }

    /// Connects and registers.
    pub(super) fn open(&mut self, io: &mut Io) {
        self.settle(io, FIRST);
    }

    /// Takes no new work; sessions end when what they have in hand is answered.
    pub(super) fn drain(&mut self, io: &mut Io) {
        self.draining = true;
        let mut untaken = Vec::new();
        if self.protocol == Some(Protocol::X1) {
            // What has come and what nobody has received is given back as what it is: unseen.
            self.ready(io, FIRST);
            untaken = self.desk.take_untaken();
        }
        self.each(io, |machine, now| machine.drain(now));
        for request in untaken {
            let (index, number) = split(request.id());
            if let Some(session) = self.sessions.get_mut(&index) {
                session.machine.take_back(io.now, number);
            }
            self.settle(io, index);
            // Its answer finds nothing to answer any more.
            drop(request);
        }
    }

    pub(super) fn close(&mut self, io: &mut Io) {
        self.draining = true;
        self.each(io, |machine, now| machine.close(now));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn interests(&self) -> impl Iterator<Item = (Owner, &Dealer, bool)> {
        self.sessions.iter().filter_map(|(index, session)| {
            let (dealer, writable) = session.link.interest()?;
            Some((Owner::Session(self.id, *index), dealer, writable))
        })
    }

    /// A session's connection is readable or writable.
    pub(super) fn ready(&mut self, io: &mut Io, index: usize) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        session.flush(io.now);
        self.settle(io, index);
        for _ in 0..BATCH {
            let Some(session) = self.sessions.get_mut(&index) else { return };
            match session.link.recv() {
                Ok(Received::Nothing) => break,
                Ok(Received::Message(frames)) => session.machine.handle_message(io.now, frames),
                Ok(Received::Disconnected) => session.machine.handle_disconnected(io.now),
                Err(error) => session.lose(io.now, &error),
            }
            self.settle(io, index);
            if self.sessions.get(&index).is_some_and(|session| session.machine.has_one()) {
                // One at a time, it seems: the handler hears of it before it is asked whether there is more.
                return;
            }
        }
    }

    /// Sends what the turn has led to.
    pub(super) fn flush(&mut self, io: &mut Io, index: usize) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        session.touched = false;
        session.flush(io.now);
        self.act(io, index, Machine::poll_output);
    }

    /// A session's moment has come.
    pub(super) fn session_due(&mut self, io: &mut Io, index: usize) {
        // A heartbeat may be there already: only what is missing after this is silence.
        self.ready(io, index);
        let Some(session) = self.sessions.get_mut(&index) else { return };
        if session.machine.poll_timeout().is_some_and(|due| due <= io.now) {
            session.machine.handle_timeout(io.now);
            self.settle(io, index);
        }
        // Messages only put off what is due, and leave the timer as it is. Here it is set anew.
        if let Some(session) = self.sessions.get_mut(&index) {
            io.timers.set(Owner::Session(self.id, index), &mut session.timer, session.machine.poll_timeout());
        }
    }

    /// Whether an answer goes out at once over a session of MDPX that stands, and nothing else begins or ends with it.
    pub(super) fn is_clear(&self, id: u64) -> bool {
        let session = self.sessions.get(&split(id).0).filter(|_| !self.draining);
        session.is_some_and(|session| session.is_x1() && session.link.is_clear() && !session.machine.has_waiting())
    }

    /// Whether the answer's session stands as before and there is nothing to do but wait for messages.
    pub(super) fn is_calm(&self, id: u64) -> bool {
        self.sessions.get(&split(id).0).is_some_and(|session| session.is_x1() && session.link.is_calm())
    }

    /// An event loop looks after the connection of the first session while that has one request at a time.
    pub(super) fn set_watch(&mut self, io: &mut Io, watch: Arc<Watch>) {
        if let Some(session) = self.sessions.get_mut(&FIRST) {
            session.link.set_watch(watch);
        }
        self.settle(io, FIRST);
    }

    /// Whether the event loop is told of messages, and the I/O thread is not.
    pub(super) fn is_lent(&self) -> bool {
        self.sessions.get(&FIRST).is_some_and(|session| session.link.is_lent())
    }

    /// The descriptor of the connection, which may be lent, has stirred.
    pub(super) fn read_lent(&mut self, io: &mut Io) {
        if self.sessions.get(&FIRST).is_some_and(|session| session.link.is_lent_and_readable()) {
            self.ready(io, FIRST);
        }
    }

    /// Takes the connection back if more has come than the event loop was told of.
    pub(super) fn calm_lent(&mut self) {
        let lent = self.sessions.get_mut(&FIRST).filter(|session| session.link.is_lent());
        if let Some(session) = lent.filter(|session| !session.link.is_calm()) {
            session.link.take_back();
        }
    }

    /// A handler answers.
    pub(super) fn answer(&mut self, io: &mut Io, id: u64, answer: Answer) {
        let last = !matches!(answer, Answer::Partial(_));
        let (index, number) = split(id);
        if let Some(session) = self.sessions.get_mut(&index) {
            session.answers.room.arrive(&answer);
            if let Err(error) = session.machine.answer(io.now, number, answer) {
                // The handler may have kept to its own limit, and the broker has a smaller one. The requester must hear
                // something.
                log::warn!("{}: an answer was refused: {error}", self.options.service);
                let failure = ServiceError::new(500, error.to_string());
                let _ = session.machine.answer(io.now, number, Answer::Failure(failure));
            }
            self.settle(io, index);
        }
        if last {
            self.desk.cancellations().forget(id);
        }
    }

    fn add_session(&mut self, now: Instant, index: usize, protocol: Protocol) {
        let config = WorkerConfig { protocol, ..WorkerConfig::from(&*self.options) };
        let session = Session {
            machine: Machine::new(config, now, seed()),
            link: Link::default(),
            touched: false,
            answers: self.desk.answers(),
            timer: None,
        };
        self.sessions.insert(index, session);
    }

    fn each(&mut self, io: &mut Io, act: impl Fn(&mut Machine, Instant)) {
        for index in self.indexes() {
            if let Some(session) = self.sessions.get_mut(&index) {
                act(&mut session.machine, io.now);
            }
            self.settle(io, index);
        }
    }

    fn indexes(&self) -> Vec<usize> {
        self.sessions.keys().copied().collect()
    }

    /// The first session speaks something else than before: over MDPX it does all the work, otherwise others share it.
    fn adapt(&mut self, io: &mut Io, protocol: Protocol) {
        self.protocol = Some(protocol);
        for index in self.indexes().into_iter().filter(|index| *index != FIRST) {
            if let Some(session) = self.sessions.get_mut(&index) {
                session.machine.drain(io.now);
            }
            self.settle(io, index);
        }
        if protocol != Protocol::X1 {
            for _ in 1..self.options.concurrency {
                self.last_session += 1;
                self.add_session(io.now, self.last_session, protocol);
                self.settle(io, self.last_session);
            }
        }
    }

    /// Does what a session's machine wants done; what it gathers goes out at the end of the turn.
    fn settle(&mut self, io: &mut Io, index: usize) {
        self.act(io, index, Machine::poll_ready);
    }

    /// Does what a session's machine wants done, and sees to its timer.
    fn act(&mut self, io: &mut Io, index: usize, poll: fn(&mut Machine) -> Option<WorkerOutput>) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        let mut closed = false;
        while let Some(output) = poll(&mut session.machine) {
            match output {
                WorkerOutput::Connect { endpoint } => {
                    let endpoint = self.options.endpoints.get(endpoint).map_or("", String::as_str);
                    if let Err(error) = session.link.connect(endpoint, &self.dealer) {
                        if error.kind() == ErrorKind::InvalidArgument {
                            // It will never be one that can be connected to.
                            self.failure.get_or_insert(error);
                            session.machine.close(io.now);
                        } else {
                            session.lose(io.now, &error);
                        }
                    }
                }
                WorkerOutput::Send(frames) => session.send(io.now, frames),
                WorkerOutput::Close => {
                    session.flush(io.now);
                    session.link.close();
                }
                WorkerOutput::Request { number, body, attempt, deadline, key: _ } => {
                    let delivered = Delivered { id: join(index, number), body, attempt, deadline };
                    self.desk.request(delivered, &session.answers, &mut io.wakes);
                }
                WorkerOutput::Cancelled { number } => self.desk.cancelled(join(index, number), &mut io.wakes),
                WorkerOutput::Event(event) => {
                    // The worker is one, however many connections it needs.
                    if let Some(hook) = self.options.on_event.as_ref().filter(|_| index == FIRST) {
                        io.wakes.event(Some(hook), event);
                    }
                }
                WorkerOutput::Closed => {
                    session.flush(io.now);
                    session.link.close();
                    closed = true;
                }
            }
        }
        session.answers.room.set_unsent(session.link.unsent_cost());
        session.link.lend(self.id, session.is_x1() && !self.draining && session.machine.has_one_at_most());
        if session.machine.has_gathered() && !session.touched {
            // What this turn leads to goes out together at its end.
            session.touched = true;
            io.unsent.push((self.id, index));
        }
        let protocol = session.machine.protocol();
        if let Some(protocol) = protocol {
            session.answers.set_protocol(protocol);
        }
        let due = session.machine.poll_timeout();
        if due.is_none() || session.timer.is_none_or(|timer| due.is_some_and(|due| due < timer)) {
            io.timers.set(Owner::Session(self.id, index), &mut session.timer, due);
        }
        if closed {
            self.sessions.remove(&index);
        }
        if let Some(protocol) = protocol
            && index == FIRST
            && !self.draining
            && Some(protocol) != self.protocol
        {
            self.adapt(io, protocol);
        }
        if self.sessions.is_empty() && !self.ended {
            self.ended = true;
            self.desk.closed(self.failure.take(), &mut io.wakes);
        }
    }
}

impl Session {
    fn is_x1(&self) -> bool {
        self.machine.protocol() == Some(Protocol::X1)
    }

    fn send(&mut self, now: Instant, frames: Vec<Bytes>) {
        self.link.send(frames);
        self.flush(now);
    }

    fn flush(&mut self, now: Instant) {
        match self.link.flush() {
            Ok(0) => {}
            Ok(_) => self.machine.handle_sent(now),
            Err(error) => self.lose(now, &error),
        }
    }

    /// The socket itself failed.
    fn lose(&mut self, now: Instant, error: &Error) {
        log::warn!("a worker's connection failed: {error}");
        self.link.close();
        self.machine.handle_disconnected(now);
    }
}

fn join(session: usize, number: u64) -> u64 {
    (session as u64) << NUMBER_BITS | number
}

fn split(id: u64) -> (usize, u64) {
    ((id >> NUMBER_BITS) as usize, id & ((1 << NUMBER_BITS) - 1))
}
