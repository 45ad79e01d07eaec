//! The I/O side of a worker: its sessions, each with a connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::options::WorkerOptions;
use crate::proto::worker::{Answer, Worker as Machine, WorkerConfig, WorkerOutput};
use crate::transport::{Dealer, DealerOptions, Received, seed};

use super::desk::{Desk, Room};
use super::link::Link;
use super::reactor::Io;
use super::timers::Owner;

/// How many messages of one session are read before the others have their turn.
const BATCH: usize = 16;
/// How long a closed connection's last messages, DISCONNECT among them, may take to go out.
const LINGER: Duration = Duration::from_secs(1);
/// First pause of libzmq before it connects again. A broker that is back is found quickly.
const RECONNECT_MIN: Duration = Duration::from_millis(100);

pub(super) struct Crew {
    id: u64,
    options: Arc<WorkerOptions>,
    dealer: DealerOptions,
    desk: Arc<Desk>,
    sessions: Vec<Session>,
    /// Sessions that are not closed.
    open: usize,
    /// Why the worker had to end, unless it was asked to.
    failure: Option<Error>,
    /// Whether the worker's end has been told.
    ended: bool,
}

struct Session {
    machine: Machine,
    link: Link,
    room: Arc<Room>,
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
        let session = || Session {
            machine: Machine::new(WorkerConfig::from(&*options), io.now, seed()),
            link: Link::default(),
            room: Arc::default(),
            timer: None,
        };
        let sessions: Vec<_> = std::iter::repeat_with(session).take(options.concurrency).collect();
        let open = sessions.len();
        Crew { id, options, dealer, desk, sessions, open, failure: None, ended: false }
    }

    /// Connects and registers every session.
    pub(super) fn open(&mut self, io: &mut Io) {
        self.each(io, |_, _| {});
    }

    /// Takes no new work; sessions end when what they have in hand is answered.
    pub(super) fn drain(&mut self, io: &mut Io) {
        self.each(io, |machine, now| machine.drain(now));
    }

    pub(super) fn close(&mut self, io: &mut Io) {
        self.each(io, |machine, now| machine.close(now));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn interests(&self) -> impl Iterator<Item = (Owner, &Dealer, bool)> {
        self.sessions.iter().enumerate().filter_map(|(index, session)| {
            let (dealer, writable) = session.link.interest()?;
            Some((Owner::Session(self.id, index), dealer, writable))
        })
    }

    /// A session's connection is readable or writable.
    pub(super) fn ready(&mut self, io: &mut Io, index: usize) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.flush(io.now);
        self.settle(io, index);
        for _ in 0..BATCH {
            let session = &mut self.sessions[index];
            match session.link.recv() {
                Ok(Received::Nothing) => break,
                Ok(Received::Message(frames)) => session.machine.handle_message(io.now, frames),
                Ok(Received::Disconnected) => session.machine.handle_disconnected(io.now),
                Err(error) => session.lose(io.now, &error),
            }
            self.settle(io, index);
        }
    }

    /// A session's moment has come.
    pub(super) fn session_due(&mut self, io: &mut Io, index: usize) {
        // A heartbeat may be there already: only what is missing after this is silence.
        self.ready(io, index);
        let Some(session) = self.sessions.get_mut(index) else { return };
        if session.machine.poll_timeout().is_some_and(|due| due <= io.now) {
            session.machine.handle_timeout(io.now);
            self.settle(io, index);
        }
    }

    /// A handler answers.
    pub(super) fn answer(&mut self, io: &mut Io, index: usize, number: u64, answer: Answer) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.room.arrive(&answer);
        if let Err(error) = session.machine.answer(io.now, number, answer) {
            // Its size was checked before it came here, so this is for completeness: the requester must hear something.
            log::warn!("{}: an answer was refused: {error}", self.options.service);
            let failure = crate::error::ServiceError::new(500, error.to_string());
            let _ = session.machine.answer(io.now, number, Answer::Failure(failure));
        }
        self.settle(io, index);
    }

    fn each(&mut self, io: &mut Io, act: impl Fn(&mut Machine, Instant)) {
        for index in 0..self.sessions.len() {
            act(&mut self.sessions[index].machine, io.now);
            self.settle(io, index);
        }
    }

    /// Does what a session's machine wants done, and sets its timer.
    fn settle(&mut self, io: &mut Io, index: usize) {
        let session = &mut self.sessions[index];
        while let Some(output) = session.machine.poll_output() {
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
                WorkerOutput::Send(frames) => {
                    session.link.send(frames);
                    session.flush(io.now);
                }
                WorkerOutput::Close => session.link.close(),
                WorkerOutput::Request { number, body } => {
                    self.desk.request(index, &session.room, number, body, &mut io.wakes);
                }
                WorkerOutput::Closed => {
                    session.link.close();
                    self.open -= 1;
                }
            }
        }
        session.room.set_unsent(session.link.unsent_cost());
        let due = session.machine.poll_timeout();
        io.timers.set(Owner::Session(self.id, index), &mut session.timer, due);
        if self.open == 0 && !self.ended {
            self.ended = true;
            self.desk.closed(self.failure.take(), &mut io.wakes);
        }
    }
}

impl Session {
    fn flush(&mut self, now: Instant) {
        if let Err(error) = self.link.flush() {
            self.lose(now, &error);
        }
    }

    /// The socket itself failed.
    fn lose(&mut self, now: Instant, error: &Error) {
        log::warn!("a worker's connection failed: {error}");
        self.link.close();
        self.machine.handle_disconnected(now);
    }
}
