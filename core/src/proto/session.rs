//! The client's machine over MDPX/1: one session, many requests at once.
//!
//! Requests have rising numbers, so everything that happens in order is a queue of numbers, and numbers of requests that
//! have ended stay there until they are come across. Deadlines are kept the same way: most are equal and never come, so
//! none is taken back. Each queue is swept when most of it is dead.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, ServiceError};
use crate::event::ConnectionEvent;
use crate::message::Message;
use crate::options::{ClientOptions, Protocol, RequestOptions};

use super::client::{ReplyMode, call_limit};
use super::discovery::{self, Discovery, Spoken};
use super::mdp::Version;
use super::mdpx::{self, Command, Failure, Header, SessionId};
use super::window::Window;

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
/// A queue of fewer numbers is not swept.
const SWEPT_FROM: usize = 256;

/// What of [`ClientOptions`] the machine needs.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The brokers' endpoints, for the words of errors and events; outputs name them by index.
    pub endpoints: Vec<String>,
    /// What to speak: MDPX/1, or whatever is found out.
    pub protocol: Protocol,
    /// A third of it is the interval between heartbeats; all of it is how long a connection may take to be made.
    pub timeout: Duration,
    /// `timeout` × `retries` is how long a call may take.
    pub retries: u32,
    /// Limit of a call in the place of `timeout` × `retries`.
    pub deadline: Option<Duration>,
    /// How many requests are outstanding at once, if the broker permits.
    pub max_in_flight: usize,
    /// Largest reply in bytes, all its parts joined.
    pub max_message_bytes: usize,
    /// First pause before a broken connection is made again for the second time.
    pub reconnect_min: Duration,
    /// Longest such pause.
    pub reconnect_max: Duration,
}

impl From<&ClientOptions> for SessionConfig {
    fn from(options: &ClientOptions) -> Self {
        SessionConfig {
            endpoints: options.endpoints.clone(),
            protocol: options.protocol,
            timeout: options.timeout,
            retries: options.retries,
            deadline: options.deadline,
            max_in_flight: options.max_in_flight,
            max_message_bytes: options.max_message_bytes,
            reconnect_min: options.reconnect_min,
            reconnect_max: options.reconnect_max,
        }
    }
}

/// Who the client is: random, and different for each machine.
#[derive(Clone, Copy)]
pub struct Identity {
    /// Names the session; workers see it.
    pub session: SessionId,
    /// Proves that the session is the client's; only brokers see it.
    pub secret: [u8; 16],
}

/// A request as its caller gives it. Its form was checked, see [`check_request`](super::client::check_request).
#[derive(Clone, Debug)]
pub struct Asked {
    /// The service's name.
    pub service: Arc<str>,
    /// The body.
    pub body: Message,
    /// What is different for this request.
    pub options: RequestOptions,
    /// How the reply is wanted.
    pub mode: ReplyMode,
    /// When it was submitted: its deadline counts from there.
    pub submitted: Instant,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum SessionOutput {
    /// Open a fresh connection to the endpoint of this index and close any old one.
    Connect {
        /// Index into the options' endpoints.
        endpoint: usize,
    },
    /// Send these frames as soon as the connection is up, in the order of the outputs, then call
    /// [`Session::handle_sent`], once for any number of them. A `Connect` that comes first takes them back.
    Send(Vec<Bytes>),
    /// Close the connection after what was sent.
    Close,
    /// A part of a reply that is followed by more ([`ReplyMode::Parts`] only).
    Partial {
        /// The request's number.
        number: u64,
        /// The part.
        part: Message,
    },
    /// A request's one outcome: the reply or its last part, or the failure.
    Done {
        /// The request's number.
        number: u64,
        /// What became of it.
        outcome: crate::error::Result<Message>,
    },
    /// Something happened to the connection.
    Event(ConnectionEvent),
    /// The broker speaks an older protocol: the connection is closed, and these requests, in the order of their numbers,
    /// are to be asked over a [`Client`](super::client::Client).
    Older {
        /// What the broker speaks.
        version: Version,
        /// Index of its endpoint.
        endpoint: usize,
        /// All requests without an outcome.
        requests: Vec<(u64, Asked)>,
    },
}

/// The machine of one session.
pub struct Session {
    config: SessionConfig,
    identity: Identity,
    stage: Stage,
    /// Index of the endpoint in use.
    endpoint: usize,
    /// Connections that came to nothing since the last message of a broker.
    failures: u32,
    /// Why the last connection was of no use.
    trouble: String,
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
    outputs: VecDeque<SessionOutput>,
    /// Messages that answered nothing.
    strays: u64,
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

#[derive(Debug)]
struct Request {
    asked: Asked,
    deadline: Instant,
    /// How much time each part of the reply gives anew; `None` where the deadline is the caller's own.
    renewal: Option<Duration>,
    /// Whether it is outstanding on this connection.
    on_wire: bool,
    /// Whether it was sent on any connection: then it may have run.
    was_sent: bool,
    /// How many parts have come.
    parts: u32,
    /// Parts that wait for the last one ([`ReplyMode::Whole`]).
    joined: Option<Box<Joined>>,
}

#[derive(Debug, Default)]
struct Joined {
    frames: Vec<Bytes>,
    bytes: usize,
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
            failures: 0,
            trouble: String::new(),
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
            outputs: VecDeque::new(),
            strays: 0,
        }
    }

    /// Whether every request has its outcome.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
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
            return self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error) });
        }
        self.last = number;
        let request = Request::new(&self.config, asked);
        if request.deadline <= now {
            let error = self.late(&request);
            return self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error) });
        }
        self.deadlines.push(Reverse((request.deadline, number)));
        let was_idle = self.requests.is_empty();
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
        self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error) });
        // Outcomes of later numbers may have waited for this one to be acknowledged.
        self.ack_due.get_or_insert(now + ACK_WITHIN);
        self.pump(now);
        self.sweep();
    }

    /// Ends everything: each request fails with `error`, and the broker is told to forget the session.
    pub fn close(&mut self, error: &Error) {
        for number in self.take_numbers() {
            self.drop_request(number);
            self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error.clone()) });
        }
        if matches!(self.stage, Stage::Ready) {
            self.outputs.push_back(SessionOutput::Send(mdpx::control(&Command::Disconnect { kind: 0, text: "" })));
        }
        self.outputs.push_back(SessionOutput::Close);
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
        let Ok(Header { command, layout }) = mdpx::read(&header, frames.len()) else { return self.strays += 1 };
        if command == Command::Batch {
            // One of them may end the connection: the rest is dropped with it.
            return layout.messages(&header).filter(|message| mdpx::may_join(&[message])).for_each(|message| {
                self.handle_message(now, vec![message]);
            });
        }
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
            (Stage::Greeting { .. } | Stage::Ready, Command::Disconnect { text, .. }) => {
                let reason = if text.is_empty() { "the broker has closed the connection" } else { text }.to_owned();
                self.lost(now, reason);
            }
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
            self.lost(now, "the connection was lost".to_owned());
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
                self.trouble = "no connection could be made".to_owned();
                self.give_way(now);
            }
            Stage::Asking { mut discovery, connect_by: None } if discovery.due() <= now => {
                match discovery.handle_timeout(now) {
                    Some(spoken) => self.speak(now, spoken),
                    None => {
                        self.stage = Stage::Asking { discovery, connect_by: None };
                        self.outputs.push_back(SessionOutput::Send(discovery::question()));
                    }
                }
            }
            Stage::Greeting { until, .. } if until <= now => {
                self.trouble = "no answer to HELLO came".to_owned();
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
            Stage::Ready => self.silence_due.into_iter().chain(self.ack_due).min(),
        };
        let deadline = self.deadlines.peek().map(|Reverse((due, _))| *due);
        stage.into_iter().chain(deadline).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    // The connection: made, greeted, lost.

    fn connect(&mut self, now: Instant) {
        if self.failures > 0 {
            let endpoint = self.endpoint_name();
            self.outputs.push_back(SessionOutput::Event(ConnectionEvent::Reconnecting { endpoint }));
        }
        self.outputs.push_back(SessionOutput::Connect { endpoint: self.endpoint });
        match Spoken::fixed(self.config.protocol) {
            None => {
                let connect_by = Some(now + self.config.timeout);
                self.stage = Stage::Asking { discovery: Discovery::new(now), connect_by };
                self.outputs.push_back(SessionOutput::Send(discovery::question()));
            }
            Some(spoken) => self.speak(now, spoken),
        }
    }

    /// What the broker speaks is known.
    fn speak(&mut self, now: Instant, spoken: Spoken) {
        match spoken {
            Spoken::X1 => {
                let heartbeat = (self.config.timeout / u32::from(LIVENESS)).clamp(HEARTBEATS.0, HEARTBEATS.1);
                let hello = mdpx::control(&Command::Hello {
                    session: self.identity.session,
                    secret: self.identity.secret,
                    heartbeat_ms: milliseconds(heartbeat),
                    liveness: LIVENESS,
                });
                self.stage = Stage::Greeting { until: now + self.config.timeout, is_out: false };
                self.outputs.push_back(SessionOutput::Send(hello));
                self.outputs.push_back(SessionOutput::Send(mdpx::control(&Command::Batch)));
            }
            Spoken::Mdp(version) => self.hand_over(version),
        }
    }

    fn hand_over(&mut self, version: Version) {
        self.outputs.push_back(SessionOutput::Close);
        let mut requests = Vec::with_capacity(self.requests.len());
        for number in self.take_numbers() {
            let Some(request) = self.drop_request(number) else { continue };
            match request.is_repeatable() {
                Ok(()) => requests.push((number, request.asked)),
                Err(error) => self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error) }),
            }
        }
        self.outputs.push_back(SessionOutput::Older { version, endpoint: self.endpoint, requests });
        self.failures = 0;
        self.rest();
    }

    fn welcome(&mut self, now: Instant, resumed: bool) {
        self.stage = Stage::Ready;
        let (endpoint, protocol) = (self.endpoint_name(), Protocol::X1);
        self.outputs.push_back(SessionOutput::Event(ConnectionEvent::Connected { endpoint, protocol }));
        let given_up = std::mem::take(&mut self.given_up);
        if resumed {
            for number in given_up {
                self.cancelled.push_back(number);
                self.outputs.push_back(SessionOutput::Send(mdpx::control(&Command::Cancel { number })));
            }
            self.ack_due = Some(now + ACK_WITHIN);
        } else {
            self.begin_anew();
        }
        self.pump(now);
    }

    /// The broker has forgotten the session: what cannot be repeated fails, the rest begins anew.
    fn begin_anew(&mut self) {
        self.acked = 0;
        self.requests.retain(|number, request| match request.is_repeatable() {
            Ok(()) => {
                request.joined = None;
                request.parts = 0;
                true
            }
            Err(error) => {
                self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error) });
                false
            }
        });
    }

    fn lost(&mut self, now: Instant, reason: String) {
        if matches!(self.stage, Stage::Ready) {
            let endpoint = self.endpoint_name();
            let event = ConnectionEvent::Disconnected { endpoint, reason: reason.clone() };
            self.outputs.push_back(SessionOutput::Event(event));
        }
        self.trouble = reason;
        self.outputs.push_back(SessionOutput::Close);
        self.unsend();
        self.failures = self.failures.saturating_add(1);
        let pause = self.pause();
        if self.requests.is_empty() {
            self.stage = Stage::Idle;
        } else if pause.is_zero() {
            self.next_endpoint();
            self.connect(now);
        } else {
            self.stage = Stage::Pausing(now + pause);
        }
    }

    /// The present broker has had its time: the next one is tried.
    fn give_way(&mut self, now: Instant) {
        self.outputs.push_back(SessionOutput::Close);
        self.unsend();
        self.failures = self.failures.saturating_add(1);
        self.reconnect(now);
    }

    fn reconnect(&mut self, now: Instant) {
        self.next_endpoint();
        if self.requests.is_empty() {
            self.stage = Stage::Idle;
        } else {
            self.connect(now);
        }
    }

    fn next_endpoint(&mut self) {
        self.endpoint = (self.endpoint + 1) % self.config.endpoints.len().max(1);
    }

    /// None the first time, then `reconnect_min` doubling up to `reconnect_max`, each somewhat shortened by chance.
    fn pause(&mut self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(2) else { return Duration::ZERO };
        let pause = self.config.reconnect_min.saturating_mul(1 << doublings.min(20)).min(self.config.reconnect_max);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        pause / 2 + (pause / 2).mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// What was sent is to be sent again on the next connection, before the rest.
    fn unsend(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        for number in sent.into_iter().rev() {
            if let Some(request) = self.requests.get_mut(number) {
                request.on_wire = false;
                self.queue.push_front(number);
            }
        }
        self.given_up.extend(self.cancelled.drain(..));
        self.outstanding = 0;
        // What was acknowledged last may be lost as well.
        self.acked = 0;
        self.silence_due = None;
        self.ack_due = None;
        self.unacked = 0;
    }

    /// Without requests and without a connection.
    fn rest(&mut self) {
        self.unsend();
        self.queue.clear();
        self.deadlines.clear();
        self.stage = Stage::Idle;
    }

    /// The session is done with a request that its broker may still have, should it be found again.
    fn drop_request(&mut self, number: u64) -> Option<Request> {
        let request = self.requests.remove(number)?;
        if request.was_sent {
            self.given_up.push(number);
        }
        Some(request)
    }

    /// Every request's number, rising.
    fn take_numbers(&self) -> Vec<u64> {
        self.requests.iter().map(|(number, _)| number).collect()
    }

    fn endpoint_name(&self) -> String {
        self.config.endpoints.get(self.endpoint).cloned().unwrap_or_default()
    }

    // Requests out, outcomes in.

    /// Sends what waits, as far as the credit goes.
    fn pump(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Ready) || self.queue.is_empty() {
            return;
        }
        let acked = self.arrived();
        let owed_nothing = self.outstanding == 0;
        while self.outstanding < self.credit
            && let Some(number) = self.queue.pop_front()
        {
            let Some(request) = self.requests.get_mut(number) else { continue };
            if request.asked.body.byte_len() as u64 > self.max_message {
                let error = Error::new(
                    ErrorKind::TooLarge,
                    format!("the broker takes requests of up to {} bytes", self.max_message),
                );
                self.requests.remove(number);
                self.outputs.push_back(SessionOutput::Done { number, outcome: Err(error) });
                continue;
            }
            self.outputs.push_back(SessionOutput::Send(request.frames(now, number, acked)));
            request.on_wire = true;
            request.was_sent = true;
            self.sent.push_back(number);
            self.outstanding += 1;
            self.acked = acked;
            self.unacked = 0;
        }
        // Silence counts from here where the broker owed nothing before: it may have been quiet for long, and a driver that
        // sleeps between calls has not looked since.
        if self.outstanding > 0 && (owed_nothing || self.silence_due.is_none()) {
            self.heard = now;
            self.silence_due = Some(now + self.patience);
        }
    }

    /// All outcomes up to this number have arrived.
    fn arrived(&mut self) -> u64 {
        for numbers in [&mut self.sent, &mut self.queue] {
            while let Some(number) = numbers.front() {
                if self.requests.get(*number).is_some() {
                    return number - 1;
                }
                numbers.pop_front();
            }
        }
        self.last
    }

    /// The broker was heard.
    fn answered(&mut self, now: Instant) {
        self.heard = now;
        self.failures = 0;
    }

    /// Whether the request waits for exactly this part. A gap fails it: what was lost with a connection does not come.
    fn is_next(&mut self, now: Instant, number: u64, sequence: u32) -> bool {
        match self.requests.get(number) {
            Some(request) if request.was_sent && request.parts == sequence => true,
            Some(request) if request.was_sent => {
                let error = Error::new(
                    ErrorKind::BrokerUnreachable,
                    format!("the connection was lost in the middle of {:?}'s streamed reply", request.asked.service),
                );
                self.cancel(now, number, error);
                false
            }
            _ => {
                self.strays += 1;
                false
            }
        }
    }

    fn partial(&mut self, now: Instant, number: u64, part: Message) {
        let Some(request) = self.requests.get_mut(number) else { return };
        request.parts += 1;
        if let Some(renewal) = request.renewal {
            // The earlier moment stays among the deadlines, and is moved on when it comes.
            request.deadline = now + renewal;
        }
        if request.asked.mode == ReplyMode::Parts {
            return self.outputs.push_back(SessionOutput::Partial { number, part });
        }
        let joined = request.joined.get_or_insert_default();
        joined.bytes += part.byte_len();
        joined.frames.extend(part);
        if joined.bytes > self.config.max_message_bytes {
            let error = Error::new(
                ErrorKind::TooLarge,
                format!("the parts of {:?}'s reply exceed max_message_bytes when joined", request.asked.service),
            );
            self.cancel(now, number, error);
        }
    }

    /// The request's outcome came.
    fn finish(&mut self, now: Instant, number: u64, outcome: crate::error::Result<Message>) {
        let Some(request) = self.requests.remove(number) else { return };
        self.outstanding -= usize::from(request.on_wire);
        let outcome = match (outcome, request.joined) {
            (Ok(last), Some(joined)) => {
                let properties = last.properties().clone();
                let frames = joined.frames.into_iter().chain(last);
                Ok(frames.collect::<Message>().with_properties(properties))
            }
            (outcome, _) => outcome,
        };
        self.outputs.push_back(SessionOutput::Done { number, outcome });
        self.unacked += 1;
        if self.unacked >= ACK_AFTER {
            self.ack();
        } else if self.ack_due.is_none() {
            self.ack_due = Some(now + ACK_WITHIN);
        }
        self.pump(now);
    }

    fn ack(&mut self) {
        self.unacked = 0;
        let number = self.arrived();
        if number > self.acked {
            self.acked = number;
            self.outputs.push_back(SessionOutput::Send(mdpx::control(&Command::Ack { number })));
        }
    }

    /// The broker need not work on a request that has ended here; it is told now or after the next WELCOME.
    fn forget(&mut self, number: u64, request: &Request) {
        if request.on_wire {
            self.outstanding -= 1;
            if self.cancelled.len() >= CANCELS_REPEATED {
                self.cancelled.pop_front();
            }
            self.cancelled.push_back(number);
            self.outputs.push_back(SessionOutput::Send(mdpx::control(&Command::Cancel { number })));
        } else if request.was_sent {
            self.given_up.push(number);
        }
    }

    // Time.

    fn end_late(&mut self, now: Instant) {
        while let Some(Reverse((due, number))) = self.deadlines.peek().copied()
            && due <= now
        {
            self.deadlines.pop();
            let Some(request) = self.requests.get(number) else { continue };
            if request.deadline > now {
                self.deadlines.push(Reverse((request.deadline, number)));
            } else {
                let error = self.late(request);
                self.cancel(now, number, error);
            }
        }
    }

    fn late(&self, request: &Request) -> Error {
        let (service, brokers) = (&request.asked.service, self.config.endpoints.join(", "));
        if request.was_sent {
            let part = if request.parts > 0 { " after part of the reply had arrived" } else { "" };
            return Error::new(ErrorKind::Timeout, format!("no reply from {service:?} by {brokers} in time{part}"));
        }
        if matches!(self.stage, Stage::Ready) {
            let limit = self.credit;
            return Error::new(
                ErrorKind::Timeout,
                format!("the request to {service:?} waited for its turn: {limit} requests were outstanding"),
            );
        }
        if matches!(self.stage, Stage::Asking { connect_by: None, .. } | Stage::Greeting { is_out: true, .. }) {
            let text = format!("{brokers} did not say in time what it speaks, so {service:?} could not be asked");
            return Error::new(ErrorKind::Timeout, text);
        }
        let trouble = if self.trouble.is_empty() { String::new() } else { format!(" ({})", self.trouble) };
        Error::new(
            ErrorKind::BrokerUnreachable,
            format!("no broker could be reached at {brokers} for {service:?}{trouble}"),
        )
    }

    fn look_for_silence(&mut self, now: Instant) {
        if self.silence_due.is_none_or(|due| due > now) {
            return;
        }
        let due = self.heard + self.patience;
        if self.outstanding == 0 {
            self.silence_due = None;
        } else if due > now {
            self.silence_due = Some(due);
        } else {
            self.lost(now, format!("the broker was silent for {:?}", self.patience));
        }
    }

    fn look_for_acks(&mut self, now: Instant) {
        if self.ack_due.is_some_and(|due| due <= now) {
            self.ack_due = None;
            self.ack();
        }
    }

    /// Drops from the queues what belongs to no request, once that is most of it.
    fn sweep(&mut self) {
        let limit = SWEPT_FROM.max(2 * self.requests.len());
        let requests = &self.requests;
        for numbers in [&mut self.queue, &mut self.sent] {
            if numbers.len() > limit {
                numbers.retain(|number| requests.get(*number).is_some());
            }
        }
        if self.deadlines.len() > limit {
            self.deadlines.retain(|Reverse((_, number))| requests.get(*number).is_some());
        }
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

impl Request {
    fn new(config: &SessionConfig, asked: Asked) -> Request {
        let timeout = asked.options.timeout.unwrap_or(config.timeout);
        let retries = asked.options.retries.unwrap_or(config.retries);
        let (limit, explicit) = call_limit(timeout, retries, asked.options.deadline.or(config.deadline));
        Request {
            deadline: asked.submitted + limit,
            renewal: (!explicit).then_some(limit),
            asked,
            on_wire: false,
            was_sent: false,
            parts: 0,
            joined: None,
        }
    }

    /// The frames of its REQUEST.
    fn frames(&self, now: Instant, number: u64, acked: u64) -> Vec<Bytes> {
        let left = self.deadline.saturating_duration_since(now);
        let endless = self.renewal.is_some() && self.asked.mode == ReplyMode::Parts;
        let max_attempts = self.asked.options.max_attempts.unwrap_or(0);
        let command = Command::Request {
            number,
            acked,
            ttl_ms: if endless { 0 } else { milliseconds(left).max(1) },
            max_attempts: u16::try_from(max_attempts).unwrap_or(u16::MAX),
            fail_fast: self.asked.options.fail_fast,
            service: self.asked.service.as_bytes(),
        };
        mdpx::message(&command, &self.asked.body)
    }

    /// Whether it may be sent to a broker that knows nothing of it.
    fn is_repeatable(&self) -> Result<(), Error> {
        let service = &self.asked.service;
        if self.was_sent && self.asked.options.max_attempts == Some(1) {
            let text = format!("the broker was lost while {service:?} was asked; the request may have run");
            return Err(Error::new(ErrorKind::WorkerLost, text));
        }
        if self.parts > 0 && self.asked.mode == ReplyMode::Parts {
            let text = format!("the broker was lost in the middle of {service:?}'s streamed reply");
            return Err(Error::new(ErrorKind::BrokerUnreachable, text));
        }
        Ok(())
    }
}

fn error(failure: Failure<'_>) -> Error {
    let kind = ErrorKind::from_number(failure.kind).unwrap_or(ErrorKind::Internal);
    if kind == ErrorKind::ServiceError {
        return ServiceError::new(failure.code, failure.text).retryable(failure.retryable).into();
    }
    Error::new(kind, if failure.text.is_empty() { kind.description() } else { failure.text })
}

/// Rounded up: who asks for a moment more than nothing does not ask for nothing.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
