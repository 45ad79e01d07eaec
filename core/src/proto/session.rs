//! The client's machine over MDPX/1: one session, many requests at once.
//!
//! Requests have rising numbers, so everything that happens in order is a queue of numbers, and numbers of requests that
//! have ended stay there until they are come across. Deadlines are kept the same way: most are equal and never come, so
//! none is taken back. Each queue is swept when most of it is dead.

mod connection;
mod exchange;
mod interface;
mod request;
mod time;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind};

use super::discovery::{self, Discovery};
use super::mdpx::{self, Command, Header};
use super::moment::earliest;
use super::outputs::Outputs;
use super::window::Window;

pub use interface::{Asked, Identity, SessionConfig, SessionOutput, Terms};
use request::{Request, error};

/// How many intervals of silence mean that the broker is gone.
const LIVENESS: u8 = 3;
/// Bounds of the interval between heartbeats that a client asks for.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(2500));
/// After so many outcomes without a request that says they have arrived, an ACK says it.
const ACK_AFTER: u32 = 256;
/// After this time an ACK says it, too.
const ACK_WITHIN: Duration = Duration::from_secs(1);
/// So many CANCELs at most are repeated on the next connection; what was said before them has long arrived.
const CANCELS_REPEATED: usize = 1024;
/// Kinds of DISCONNECT that say why a broker does not take a session.
const REFUSALS: [ErrorKind; 2] = [ErrorKind::QueueFull, ErrorKind::Denied];
/// A queue of fewer numbers is not swept.
const SWEPT_FROM: usize = 256;

/// The machine of one session.
pub struct Session {
    config: SessionConfig,
    identity: Identity,
    stage: Stage,
    /// Index of the endpoint in use.
    endpoint: usize,
    /// How many connections were begun.
    connections: u64,
    /// Connections that came to nothing since the last message of a broker.
    failures: u32,
    /// Why the last connection was of no use.
    trouble: Trouble,
    /// State of the generator that spreads the pauses (xorshift64).
    random: u64,
    /// Everything that has no outcome.
    requests: Window<Request>,
    /// Numbers that are to be sent on this connection, rising; some have ended.
    queue: VecDeque<u64>,
    /// Numbers that were sent on this connection, rising, each below those of `queue`; some have ended.
    sent: VecDeque<u64>,
    /// How many of `sent` have no outcome.
    outstanding: usize,
    /// The broker's limit for that.
    credit: usize,
    /// The broker's largest message in bytes.
    max_message: u64,
    /// The highest number there was.
    last: u64,
    /// Deadlines by their moment; some have been moved on, and some belong to requests that have ended.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Sent on an earlier connection and given up since: the broker does not know yet, or may not.
    given_up: Vec<u64>,
    /// The last CANCELs of this connection: they may be lost with it.
    cancelled: VecDeque<u64>,
    /// What the broker was last told of arrived outcomes.
    acked: u64,
    /// Outcomes since then.
    unacked: u32,
    /// When to tell it.
    ack_due: Option<Instant>,
    /// When the broker was last heard, or when it began to owe an answer.
    heard: Instant,
    /// Longest silence while it owes one.
    patience: Duration,
    /// When to look at that; `None` while nothing is owed.
    silence_due: Option<Instant>,
    outputs: Outputs<SessionOutput>,
    /// Messages that answered nothing.
    strays: u64,
}

/// Why a connection was of no use.
#[derive(Debug, Default)]
struct Trouble {
    /// How the broker has refused the session: `QueueFull` or `Denied`. `None` where it did not.
    refusal: Option<ErrorKind>,
    text: String,
    /// Index of the endpoint.
    endpoint: usize,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// There is none, and nothing to have one for.
    Idle,
    /// The next one waits for this moment.
    Pausing(Instant),
    /// The broker is asked what it speaks. Until the question is out, the moment bounds the wait for the connection.
    Asking { discovery: Discovery, connect_by: Option<Instant> },
    /// HELLO waits for its WELCOME until this moment; whether it is out.
    Greeting { until: Instant, is_out: bool },
    /// Requests go out.
    Ready,
}

impl Session {
    /// A machine without a connection.
    pub fn new(config: SessionConfig, identity: Identity, now: Instant) -> Self {
        let mut seed = [0; 8];
        for (byte, random) in seed.iter_mut().zip(identity.session) {
            *byte = random;
        }
        Session {
            config,
            identity,
            stage: Stage::Idle,
            endpoint: 0,
            connections: 0,
            failures: 0,
            trouble: Trouble::default(),
            random: u64::from_ne_bytes(seed) | 1,
            requests: Window::default(),
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            outstanding: 0,
            credit: 0,
            max_message: u64::MAX,
            last: 0,
            deadlines: BinaryHeap::new(),
            given_up: Vec::new(),
            cancelled: VecDeque::new(),
            acked: 0,
            unacked: 0,
            ack_due: None,
            heard: now,
            patience: Duration::MAX,
            silence_due: None,
            outputs: Outputs::default(),
            strays: 0,
        }
    }

    /// Whether every request has its outcome.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether no more than one request has no outcome yet.
    pub fn has_one_at_most(&self) -> bool {
        self.requests.len() <= 1
    }

    /// How many messages came that answered nothing; they were dropped.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Whether the broker has welcomed the client on the present connection.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    /// How many requests may be outstanding at once: what was configured, or less where the broker has said so.
    pub fn limit(&self) -> usize {
        match self.stage {
            Stage::Ready => self.credit,
            _ => self.config.max_in_flight,
        }
    }

    /// Who the client is from now on: the answer to [`SessionOutput::Identify`].
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Begins the next connection with the endpoint of this index.
    pub fn set_endpoint(&mut self, endpoint: usize) {
        if matches!(self.stage, Stage::Idle) {
            self.endpoint = endpoint % self.config.endpoints.len().max(1);
        }
    }

    /// Takes a request in. Its number is above those of all earlier ones.
    pub fn start(&mut self, now: Instant, number: u64, asked: Asked) {
        if number <= self.last {
            let error = Error::new(ErrorKind::Internal, format!("request {number} comes after {}", self.last));
            return self.outputs.push(SessionOutput::Done { number, outcome: Err(error) });
        }
        self.last = number;
        let request = Request::new(&self.config, asked);
        if request.deadline <= now {
            let error = self.late(&request);
            return self.outputs.push(SessionOutput::Done { number, outcome: Err(error) });
        }
        self.deadlines.push(Reverse((request.deadline, number)));
        let was_idle = self.requests.is_empty();
        if was_idle {
            // What brokers have said to earlier requests was long ago.
            self.trouble = Trouble::default();
        }
        // The number is above all others, so this is taken.
        let _ = self.requests.push(number, request);
        self.queue.push_back(number);
        match self.stage {
            Stage::Ready => self.pump(now),
            Stage::Idle => self.connect(now),
            // Whoever asks anew does not wait for a pause that others have earned.
            Stage::Pausing(_) if was_idle => self.connect(now),
            _ => {}
        }
        self.sweep();
    }

    /// Gives a request up: `error` is its outcome, and the broker is told. Without such a request nothing happens.
    pub fn cancel(&mut self, now: Instant, number: u64, error: Error) {
        let Some(request) = self.requests.remove(number) else { return };
        self.forget(number, &request);
        self.outputs.push(SessionOutput::Done { number, outcome: Err(error) });
        // Outcomes of later numbers may have waited for this one to be acknowledged.
        self.ack_due.get_or_insert(now + ACK_WITHIN);
        self.pump(now);
        self.sweep();
    }

    /// Ends everything: each request fails with `error`, and the broker is told to forget the session.
    pub fn close(&mut self, error: &Error) {
        for number in self.take_numbers() {
            self.drop_request(number);
            self.outputs.push(SessionOutput::Done { number, outcome: Err(error.clone()) });
        }
        if matches!(self.stage, Stage::Ready) {
            self.outputs.say(mdpx::control(&Command::Disconnect { kind: 0, text: "" }));
        }
        self.outputs.push(SessionOutput::Close);
        self.rest();
    }

    /// The connection is up and has taken something.
    pub fn handle_sent(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Asking { discovery, connect_by } => {
                if connect_by.take().is_some() {
                    discovery.handle_sent(now);
                }
            }
            Stage::Greeting { until, is_out } => {
                *until = (*until).max(now + self.config.timeout);
                *is_out = true;
            }
            Stage::Idle | Stage::Pausing(_) | Stage::Ready => {}
        }
    }

    /// A message came.
    pub fn handle_message(&mut self, now: Instant, frames: Vec<Bytes>) {
        if let Stage::Asking { .. } = self.stage {
            return match discovery::read_answer(frames) {
                Some(spoken) => self.speak(now, spoken),
                None => self.strays += 1,
            };
        }
        let mut frames = frames.into_iter();
        let Some(header) = frames.next() else { return self.strays += 1 };
        if !mdpx::is_batch(&header) {
            return self.hear(now, header, frames);
        }
        let Ok(Header { layout, .. }) = mdpx::read(&header, frames.len()) else { return self.strays += 1 };
        let connection = self.connections;
        for message in layout.messages(&header).take_while(|message| mdpx::may_join(&[message])) {
            self.hear(now, message, Vec::new().into_iter());
            // It may have ended the connection: the rest is dropped with it.
            if !matches!(self.stage, Stage::Greeting { .. } | Stage::Ready) || self.connections != connection {
                break;
            }
        }
    }

    /// A message of MDPX came, alone or with others.
    fn hear(&mut self, now: Instant, header: Bytes, frames: std::vec::IntoIter<Bytes>) {
        let Ok(Header { command, layout }) = mdpx::read(&header, frames.len()) else { return self.strays += 1 };
        match (self.stage, command) {
            (
                Stage::Greeting { .. },
                Command::ClientWelcome { resumed, heartbeat_ms, liveness, credit, max_message },
            ) => {
                self.patience = Duration::from_millis(u64::from(heartbeat_ms.max(1))) * u32::from(liveness.max(1));
                self.credit = usize::try_from(credit).unwrap_or(usize::MAX).clamp(1, self.config.max_in_flight.max(1));
                self.max_message = max_message;
                self.welcome(now, resumed);
            }
            (Stage::Greeting { .. }, Command::Disconnect { kind, text }) => {
                let kind = ErrorKind::from_number(kind);
                self.refused(now, kind.filter(|kind| REFUSALS.contains(kind)), reason(text));
            }
            (Stage::Ready, Command::Disconnect { text, .. }) => self.lost(now, None, reason(text)),
            (Stage::Ready, Command::Final { number, sequence }) => {
                self.answered(now);
                if !self.is_next(now, number, sequence) {
                    return;
                }
                self.finish(now, number, Ok(layout.into_message(header, frames)));
            }
            (Stage::Ready, Command::Partial { number, sequence }) => {
                self.answered(now);
                if self.is_next(now, number, sequence) {
                    self.partial(now, number, layout.into_message(header, frames));
                }
            }
            (Stage::Ready, Command::Error { number, failure }) => {
                self.answered(now);
                let error = error(failure);
                if let Some(request) = self.requests.get(number).filter(|request| request.was_sent) {
                    // The broker has seen it a little earlier than the client: it is the caller's own time that is over.
                    let late = error.kind() == ErrorKind::Expired && request.deadline <= now;
                    let error = if late { self.late(request) } else { error };
                    self.finish(now, number, Err(error));
                } else {
                    self.strays += 1;
                }
            }
            (Stage::Ready, Command::Heartbeat) => self.answered(now),
            _ => self.strays += 1,
        }
    }

    /// The connection broke.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Idle | Stage::Pausing(_)) {
            self.lost(now, None, "the connection was lost".to_owned());
        }
    }

    /// No connection could be opened at all: every request fails with this error.
    pub fn handle_refused(&mut self, error: &Error) {
        self.stage = Stage::Idle;
        self.close(error);
    }

    /// The moment of [`Session::poll_timeout`] has come. What the connection has received was handed over before.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_late(now);
        match self.stage {
            Stage::Pausing(until) if until <= now => self.reconnect(now),
            Stage::Asking { connect_by: Some(until), .. } if until <= now => {
                self.blame(None, "no connection could be made".to_owned());
                self.give_way(now);
            }
            Stage::Asking { mut discovery, connect_by: None } if discovery.due() <= now => {
                match discovery.handle_timeout(now) {
                    Some(spoken) => self.speak(now, spoken),
                    None => {
                        self.stage = Stage::Asking { discovery, connect_by: None };
                        self.outputs.say(discovery::question());
                    }
                }
            }
            Stage::Greeting { until, .. } if until <= now => {
                self.blame(None, "no answer to HELLO came".to_owned());
                self.give_way(now);
            }
            Stage::Ready => {
                self.look_for_silence(now);
                self.look_for_acks(now);
            }
            _ => {}
        }
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Idle => None,
            Stage::Pausing(until) | Stage::Greeting { until, .. } => Some(*until),
            Stage::Asking { discovery, connect_by } => Some(connect_by.unwrap_or(discovery.due())),
            Stage::Ready => earliest([self.silence_due, self.ack_due]),
        };
        let deadline = self.deadlines.peek().map(|Reverse((due, _))| *due);
        earliest([stage, deadline])
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the identity: it holds the secret.
        f.debug_struct("Session")
            .field("stage", &self.stage)
            .field("requests", &self.requests.len())
            .field("outstanding", &self.outstanding)
            .finish_non_exhaustive()
    }
}

fn reason(text: &str) -> String {
    if text.is_empty() { "the broker has closed the connection" } else { text }.to_owned()
}

#[cfg(test)]
mod tests;
