//! The worker's machine: one connection and one service. Over MDP/0.1 and 0.2 it has one request at a time, over MDPX as
//! many as its capacity.

mod hand;
mod older;
mod outcomes;
mod x1;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::FixedState;

use crate::error::{Error, ErrorKind, Result, ServiceError};
use crate::event::ConnectionEvent;
use crate::message::Message;
use crate::options::{Protocol, WorkerOptions};

use super::discovery::{self, Discovery, Spoken};
use super::heartbeat::Heartbeat;
use super::mdp::ToBroker;
use super::mdpx::Command;
use super::moment::earliest;
use super::outputs::{Output, Outputs};

pub use hand::RequestKey;
use hand::{Held, Waiting};
use outcomes::{Limits, Outcomes};

/// What of [`WorkerOptions`] the machine needs.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The protocol that is spoken, or `Auto`.
    pub protocol: Protocol,
    /// The brokers' endpoints, for the words of events; outputs name them by index.
    pub endpoints: Vec<String>,
    /// The service to register for.
    pub service: String,
    /// Interval between heartbeats; over MDPX the one that is asked for.
    pub heartbeat: Duration,
    /// Intervals of silence that make the broker count as gone.
    pub liveness: u32,
    /// Longest pause before reconnecting.
    pub reconnect: Duration,
    /// How many requests are given to handlers at once (MDPX; otherwise 1).
    pub concurrency: usize,
    /// How many further ones wait in the machine (MDPX; otherwise 0).
    pub prefetch: usize,
    /// How many outcomes are kept (MDPX; otherwise 0).
    pub keep_outcomes: usize,
    /// How many bytes these may take.
    pub keep_outcomes_bytes: usize,
    /// How long they are kept.
    pub keep_outcomes_age: Duration,
    /// Largest answer in bytes.
    pub max_message_bytes: usize,
    /// How long a drain waits for the requests in hand.
    pub drain_timeout: Duration,
}

impl From<&WorkerOptions> for WorkerConfig {
    fn from(options: &WorkerOptions) -> Self {
        WorkerConfig {
            protocol: options.protocol,
            endpoints: options.endpoints.clone(),
            service: options.service.clone(),
            heartbeat: options.heartbeat,
            liveness: options.liveness,
            reconnect: options.reconnect,
            concurrency: options.concurrency,
            prefetch: options.prefetch,
            keep_outcomes: options.keep_outcomes,
            keep_outcomes_bytes: options.keep_outcomes_bytes,
            keep_outcomes_age: options.keep_outcomes_age,
            max_message_bytes: options.max_message_bytes,
            drain_timeout: options.drain_timeout,
        }
    }
}

/// A handler's answer, or a part of it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A part; more follow.
    Partial(Message),
    /// The reply, or its last part.
    Final(Message),
    /// The handler failed.
    Failure(ServiceError),
    /// The handler was stopped, because nobody waits for the answer any more.
    Cancelled,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum WorkerOutput {
    /// Open a fresh connection to the endpoint of this index and close any old one.
    Connect {
        /// Index into the options' endpoints.
        endpoint: usize,
    },
    /// Send these frames, then call [`Worker::handle_sent`].
    Send(Vec<Bytes>),
    /// Close the connection after what was sent has gone out.
    Close,
    /// Give this request to the handler; it is answered by its number.
    Request {
        /// The machine's number for the request.
        number: u64,
        /// The request's body and properties.
        body: Message,
        /// Which attempt this is, from 1; 1 where the protocol does not say.
        attempt: u32,
        /// When the caller's patience ends, where the protocol says.
        deadline: Option<Instant>,
        /// What the request is called by its client, where the client speaks MDPX.
        key: Option<RequestKey>,
    },
    /// Nobody waits for the answer to this request any more. It is still owed.
    Cancelled {
        /// The machine's number for the request.
        number: u64,
    },
    /// Tell who wants to know.
    Event(ConnectionEvent),
    /// The worker is closed or drained: nothing more will come.
    Closed,
}

impl Output for WorkerOutput {
    fn send(frames: Vec<Bytes>) -> Self {
        WorkerOutput::Send(frames)
    }

    fn follows_what_was_said(&self) -> bool {
        match self {
            WorkerOutput::Connect { .. } | WorkerOutput::Send(_) | WorkerOutput::Close | WorkerOutput::Closed => true,
            WorkerOutput::Request { .. } | WorkerOutput::Cancelled { .. } | WorkerOutput::Event(_) => false,
        }
    }
}

/// First pause after a connection that came to nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long the broker may take to have heard that the worker drains.
const FENCE: Duration = Duration::from_millis(500);

/// The machine of one session.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    state: State,
    /// What is spoken on the present connection, or was on the last one; `None` until it is found out.
    spoken: Option<Spoken>,
    /// Whether the broker has been heard on this connection.
    is_connected: bool,
    heartbeat: Heartbeat,
    /// Largest answer in bytes that this connection takes.
    limit: usize,
    /// What the handlers have, by number.
    running: HashMap<u64, Held, FixedState>,
    /// How much of that came by a connection that is lost.
    stale: u32,
    /// What waits for a handler.
    waiting: VecDeque<Waiting>,
    /// How many deliveries of this connection are owed an answer.
    in_hand: u32,
    /// How many the broker was told may be.
    announced: u32,
    outcomes: Outcomes,
    /// Number of the last request given to a handler.
    last_number: u64,
    endpoint: usize,
    /// How many connections were begun.
    connections: u64,
    /// Connections in a row over which the broker said nothing but DISCONNECT.
    failures: u32,
    /// When a drain gives up waiting.
    drain_ends: Option<Instant>,
    /// Until when deliveries may still come that were on their way when DRAIN was said (MDPX).
    fence: Option<Instant>,
    random: u64,
    outputs: Outputs<WorkerOutput>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The broker is asked what it speaks; `None` until the question has gone out.
    Asking(Option<Discovery>),
    /// READY was said; WELCOME is to come (MDPX).
    Greeting,
    /// READY was said.
    Registered,
    /// There is no connection; the next one is made at this moment.
    Pausing(Instant),
    /// There is no connection; the next one is made when the handlers are done with the requests that they still have.
    /// Registering earlier would draw requests that nobody works on.
    Detached,
    /// Nothing more will happen.
    Closed,
}

impl Worker {
    /// A machine that connects and registers at once. `seed` spreads the pauses of many workers.
    pub fn new(config: WorkerConfig, now: Instant, seed: u64) -> Self {
        let limits =
            Limits { count: config.keep_outcomes, bytes: config.keep_outcomes_bytes, age: config.keep_outcomes_age };
        let mut worker = Worker {
            state: State::Closed,
            spoken: None,
            is_connected: false,
            heartbeat: Heartbeat::new(now, config.heartbeat, config.liveness),
            limit: config.max_message_bytes,
            running: HashMap::with_hasher(FixedState::with_seed(seed)),
            stale: 0,
            waiting: VecDeque::new(),
            in_hand: 0,
            announced: 0,
            outcomes: Outcomes::new(limits, seed),
            last_number: 0,
            endpoint: 0,
            connections: 0,
            failures: 0,
            drain_ends: None,
            fence: None,
            random: seed | 1,
            outputs: Outputs::default(),
            config,
        };
        worker.connect(now);
        worker
    }

    /// Whether a handler has a request.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether all that is in hand is one request.
    pub fn has_one(&self) -> bool {
        self.running.len() == 1 && self.waiting.is_empty()
    }

    /// Whether no more than one request is in hand.
    pub fn has_one_at_most(&self) -> bool {
        self.running.len() + self.waiting.len() <= 1
    }

    /// Whether a further request waits for a handler that has time.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the worker is closed or drained.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// What is spoken with the broker; `None` until it is found out.
    pub fn protocol(&self) -> Option<Protocol> {
        self.spoken.map(Protocol::from)
    }

    /// What was to be sent has gone out.
    pub fn handle_sent(&mut self, now: Instant) {
        if let State::Asking(asked) = &mut self.state {
            match asked {
                Some(discovery) => discovery.handle_sent(now),
                None => *asked = Some(Discovery::new(now)),
            }
        }
    }

    /// A message came.
    pub fn handle_message(&mut self, now: Instant, frames: Vec<Bytes>) {
        match (&self.state, self.spoken) {
            (State::Asking(_), _) => match discovery::read_answer(frames) {
                Some(spoken) => {
                    self.greet(now, spoken);
                    if self.version().is_some() {
                        self.connected();
                    }
                }
                None => self.dropped("something else than the answer to mmi.protocols"),
            },
            (State::Registered | State::Greeting, Some(Spoken::X1)) => self.handle_x1(now, frames),
            (State::Registered, Some(Spoken::Mdp(version))) => self.handle_older(now, version, frames),
            _ => {}
        }
    }

    /// The connection broke.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if self.has_connection() {
            log::info!("{}: lost the connection to the broker", self.config.service);
            self.detach(now, "the connection was lost");
        }
    }

    /// The moment of [`Worker::poll_timeout`] has come. The driver first hands over whatever has been received: only
    /// what is still missing then is silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.outcomes.drop_aged(now);
        if self.drain_ends.is_some_and(|ends| now >= ends) {
            self.close(now);
        }
        if self.fence.is_some_and(|until| now >= until) {
            self.pass_fence(now);
        }
        if self.expiry().is_some_and(|expiry| now >= expiry) {
            let silence = self.heartbeat.silence(now);
            log::info!("{}: the broker has been silent for {silence:?}; reconnecting", self.config.service);
            self.lose("the broker was silent for too long");
            self.next_endpoint();
            if self.must_finish_first() {
                self.outputs.push(WorkerOutput::Close);
                self.state = State::Detached;
                self.finish(now);
            } else {
                self.announce_reconnect();
                self.connect(now);
            }
            return;
        }
        match &mut self.state {
            State::Asking(Some(discovery)) if now >= discovery.due() => match discovery.handle_timeout(now) {
                Some(spoken) => self.greet(now, spoken),
                None => self.outputs.say(discovery::question()),
            },
            State::Registered if now >= self.heartbeat.next_beat() => self.beat(now),
            State::Pausing(until) if now >= *until => self.connect(now),
            _ => {}
        }
    }

    /// The handler answers request `number`. An answer to a request that was lost with its connection is dropped: the
    /// broker has given that request to another worker.
    ///
    /// # Errors
    /// `TooLarge`: nothing was answered, and the request can still be.
    pub fn answer(&mut self, now: Instant, number: u64, answer: Answer) -> Result<()> {
        match self.running.get(&number).map(Held::delivery) {
            Some(Some(_)) => self.answer_x1(now, number, answer),
            Some(None) => self.answer_older(now, number, answer),
            None => Ok(()),
        }
    }

    /// Request `number` was put out but has reached no handler: another worker shall have it. Over MDP/0.1 and 0.2 that
    /// takes leaving the broker.
    pub fn take_back(&mut self, now: Instant, number: u64) {
        let Some(held) = self.release(number) else { return };
        match held.delivery() {
            Some(delivery) => self.take_back_x1(now, held, delivery),
            None if held.current => self.close(now),
            None => self.finish(now),
        }
    }

    /// Takes no new work; closes once what handlers have is answered, or its time is over.
    pub fn drain(&mut self, now: Instant) {
        if self.state == State::Closed || self.drain_ends.is_some() {
            return;
        }
        self.outputs.push(WorkerOutput::Event(ConnectionEvent::Draining));
        self.give_back_unstarted(now);
        // READY has gone out, if the WELCOME is still to come: the broker may have handed out requests.
        let is_told = matches!(self.state, State::Greeting | State::Registered) && self.is_x1();
        if self.running.is_empty() && !is_told {
            return self.close(now);
        }
        self.drain_ends = Some(now + self.config.drain_timeout);
        match self.state {
            State::Greeting | State::Registered if is_told => {
                self.say(now, &Command::Drain);
                // Whatever the broker says after the answer to this it has said in the knowledge of the DRAIN. Leaving
                // earlier would cost what is on its way an attempt.
                self.outputs.say(discovery::question());
                self.fence = Some(now + FENCE);
            }
            State::Greeting | State::Registered | State::Detached | State::Closed => {}
            // Handlers still run for an earlier connection. This one would bring nothing but new work.
            State::Asking(_) | State::Pausing(_) => {
                self.leave(now);
                self.state = State::Detached;
            }
        }
    }

    /// Says DISCONNECT and closes, whatever is in hand: the broker gives it to another worker.
    pub fn close(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        self.lose_deliveries();
        self.leave(now);
        self.state = State::Closed;
        self.running.clear();
        self.drain_ends = None;
        self.fence = None;
        self.outputs.push(WorkerOutput::Closed);
    }

    /// When [`Worker::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match &self.state {
            State::Registered => Some(self.heartbeat.next_beat()),
            State::Asking(asked) => asked.as_ref().map(Discovery::due),
            State::Pausing(until) => Some(*until),
            State::Greeting | State::Detached | State::Closed => None,
        };
        earliest([due, self.expiry(), self.drain_ends, self.fence])
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop()
    }

    /// The next thing to do that need not wait for the end of what is handed in at the moment: small messages that were
    /// gathered until then go out together.
    pub fn poll_ready(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop_ready()
    }

    /// Whether there is something that only [`Worker::poll_output`] gives.
    pub fn has_gathered(&self) -> bool {
        self.outputs.has_gathered()
    }

    /// When the broker's silence will have lasted too long; `None` while it need not speak.
    fn expiry(&self) -> Option<Instant> {
        let obliged = match self.state {
            State::Asking(None) | State::Greeting => true,
            // A Guide broker is silent towards busy workers, so its silence says nothing.
            State::Registered => self.is_x1() || self.running.is_empty(),
            _ => false,
        };
        obliged.then(|| self.heartbeat.expiry())
    }

    fn has_connection(&self) -> bool {
        matches!(self.state, State::Asking(_) | State::Greeting | State::Registered)
    }

    fn connect(&mut self, now: Instant) {
        self.heartbeat = Heartbeat::new(now, self.config.heartbeat, self.config.liveness);
        self.limit = self.config.max_message_bytes;
        self.connections += 1;
        self.outputs.push(WorkerOutput::Connect { endpoint: self.endpoint });
        if let Some(spoken) = Spoken::fixed(self.config.protocol) {
            self.greet(now, spoken);
        } else {
            self.spoken = None;
            self.state = State::Asking(None);
            self.outputs.say(discovery::question());
        }
    }

    /// It is known what the broker speaks.
    fn greet(&mut self, now: Instant, spoken: Spoken) {
        self.spoken = Some(spoken);
        match spoken {
            Spoken::X1 => {
                self.state = State::Greeting;
                self.heartbeat.heard(now);
                self.say_ready(now);
                self.say(now, &Command::Batch);
            }
            Spoken::Mdp(_) if self.is_busy() => {
                // Handlers still run for an earlier connection, and a broker of these protocols cannot be told.
                self.outputs.push(WorkerOutput::Close);
                self.state = State::Detached;
            }
            Spoken::Mdp(version) => {
                self.state = State::Registered;
                self.heartbeat.heard(now);
                let service = Bytes::copy_from_slice(self.config.service.as_bytes());
                self.send_older(now, ToBroker::Ready { version, service });
            }
        }
    }

    fn beat(&mut self, now: Instant) {
        if let Some(version) = self.version() {
            self.send_older(now, ToBroker::Heartbeat { version });
        } else {
            self.say(now, &Command::Heartbeat);
        }
    }

    /// Says DISCONNECT where the broker knows us, and closes the connection.
    fn leave(&mut self, now: Instant) {
        match (&self.state, self.version()) {
            (State::Registered, Some(version)) => self.send_older(now, ToBroker::Disconnect { version }),
            (State::Registered | State::Greeting, None) => self.say(now, &Command::Disconnect { kind: 0, text: "" }),
            _ => {}
        }
        if self.has_connection() {
            self.outputs.push(WorkerOutput::Close);
        }
    }

    /// The broker has been heard.
    fn connected(&mut self) {
        if !self.is_connected
            && let Some(protocol) = self.protocol()
        {
            self.is_connected = true;
            let event = ConnectionEvent::Connected { endpoint: self.endpoint_name(), protocol };
            self.outputs.push(WorkerOutput::Event(event));
        }
    }

    /// The broker said something useful on this connection.
    fn alive(&mut self, now: Instant) {
        self.failures = 0;
        self.heartbeat.heard(now);
    }

    fn dropped(&self, reason: &str) {
        log::warn!("{}: dropped a message of the broker: {reason}", self.config.service);
    }

    /// The connection is of no use any more. The next one is made at once, unless the last ones came to nothing too.
    fn detach(&mut self, now: Instant, reason: &str) {
        // Who holds a request hears of it before the connection is gone.
        self.lose(reason);
        self.outputs.push(WorkerOutput::Close);
        self.next_endpoint();
        if self.must_finish_first() {
            self.state = State::Detached;
            self.finish(now);
        } else {
            self.reconnect(now);
        }
    }

    /// What the connection carried is lost with it.
    fn lose(&mut self, reason: &str) {
        if std::mem::take(&mut self.is_connected) {
            let event = ConnectionEvent::Disconnected { endpoint: self.endpoint_name(), reason: reason.to_owned() };
            self.outputs.push(WorkerOutput::Event(event));
        }
        self.lose_deliveries();
        self.fence = None;
    }

    /// Whether what handlers still have must be finished before there is another connection, or there is to be none.
    fn must_finish_first(&self) -> bool {
        self.drain_ends.is_some() || (self.is_busy() && self.version().is_some())
    }

    /// Nothing comes any more that the broker sent before it knew of the drain.
    fn pass_fence(&mut self, now: Instant) {
        self.fence = None;
        self.finish(now);
    }

    /// The request is in no handler's hands any more.
    fn release(&mut self, number: u64) -> Option<Held> {
        let held = self.running.remove(&number)?;
        self.stale = self.stale.saturating_sub(u32::from(!held.current));
        if let Some(key) = &held.key {
            self.outcomes.end(key);
        }
        Some(held)
    }

    /// A handler is done with its request.
    fn finish(&mut self, now: Instant) {
        if self.drain_ends.is_some() {
            if self.running.is_empty() && self.fence.is_none() {
                self.close(now);
            }
            return;
        }
        match self.state {
            State::Detached if self.running.is_empty() => self.reconnect(now),
            State::Registered | State::Greeting if self.is_x1() => self.go_on(now),
            // Silence counts from here: while we were busy, the broker did not have to speak.
            State::Registered => self.heartbeat.heard(now),
            _ => {}
        }
    }

    fn announce_reconnect(&mut self) {
        let event = ConnectionEvent::Reconnecting { endpoint: self.endpoint_name() };
        self.outputs.push(WorkerOutput::Event(event));
    }

    fn reconnect(&mut self, now: Instant) {
        self.announce_reconnect();
        if self.failures == 0 {
            self.failures = 1;
            self.connect(now);
        } else {
            let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));
            let pause = doubled.min(self.config.reconnect);
            self.failures += 1;
            self.state = State::Pausing(now + pause / 2 + self.jitter(pause / 2));
        }
    }

    fn next_endpoint(&mut self) {
        self.endpoint = (self.endpoint + 1) % self.config.endpoints.len().max(1);
    }

    fn endpoint_name(&self) -> String {
        self.config.endpoints.get(self.endpoint).cloned().unwrap_or_default()
    }

    /// Up to `span`, at random (xorshift64).
    fn jitter(&mut self, span: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        span.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

fn too_large(bytes: usize, limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the answer has {bytes} bytes; max_message_bytes is {limit}"))
}

/// What is said of a request that nobody waits for.
fn cancelled() -> ServiceError {
    ServiceError::new(499, "the request was cancelled")
}

#[cfg(test)]
mod tests;
