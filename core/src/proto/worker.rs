//! The worker's machine: one connection, one service, one request at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result, ServiceError};
use crate::message::Message;
use crate::options::WorkerOptions;

use super::failure;
use super::heartbeat::Heartbeat;
use super::mdp::{self, Part, ToBroker, ToWorker, Version};

/// What of [`WorkerOptions`] the machine needs.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Version version.
    pub version: Version,
    /// How many endpoints there are; outputs name them by index.
    pub endpoints: usize,
    /// The service to register for.
    pub service: String,
    /// Interval between heartbeats.
    pub heartbeat: Duration,
    /// Intervals of silence that make the broker count as gone.
    pub liveness: u32,
    /// Longest pause before reconnecting.
    pub reconnect: Duration,
    /// Largest answer in bytes.
    pub max_message_bytes: usize,
    /// How long a drain waits for the request in hand.
    pub drain_timeout: Duration,
}

impl From<&WorkerOptions> for WorkerConfig {
    fn from(options: &WorkerOptions) -> Self {
        WorkerConfig {
            version: Version::of(options.protocol),
            endpoints: options.endpoints.len(),
            service: options.service.clone(),
            heartbeat: options.heartbeat,
            liveness: options.liveness,
            reconnect: options.reconnect,
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
}

/// What the machine wants done.
#[derive(Debug)]
pub enum WorkerOutput {
    /// Open a fresh connection to the endpoint of this index and close any old one.
    Connect {
        /// Index into the options' endpoints.
        endpoint: usize,
    },
    /// Send these frames.
    Send(Vec<Bytes>),
    /// Close the connection after what was sent has gone out.
    Close,
    /// Give this request to the handler; it is answered by its number.
    Request {
        /// The machine's number for the request.
        number: u64,
        /// The request's body.
        body: Message,
    },
    /// The worker is closed or drained: nothing more will come.
    Closed,
}

/// First pause after a connection that came to nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The machine of one session.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    state: State,
    heartbeat: Heartbeat,
    held: Option<Held>,
    /// Number of the last request given to the handler.
    last_number: u64,
    endpoint: usize,
    /// Connections in a row over which the broker said nothing but DISCONNECT.
    failures: u32,
    /// When a drain gives up waiting.
    drain_ends: Option<Instant>,
    random: u64,
    outputs: VecDeque<WorkerOutput>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// A connection is open and READY was sent on it.
    Registered,
    /// There is no connection; the next one is made at this moment.
    Pausing(Instant),
    /// There is no connection; the next one is made when the handler is done with the request that it still has.
    /// Registering earlier would draw requests that nobody works on.
    Detached,
    /// Nothing more will happen.
    Closed,
}

/// The request that the handler has.
#[derive(Debug)]
struct Held {
    number: u64,
    address: Bytes,
    /// Whether the connection that it came by still stands; otherwise the broker has given it to somebody else.
    current: bool,
    /// Parts that 0.1 cannot send on their own, kept for the final one.
    joined: Vec<Bytes>,
    joined_bytes: usize,
}

impl Worker {
    /// A machine that connects and registers at once. `seed` spreads the pauses of many workers.
    pub fn new(config: WorkerConfig, now: Instant, seed: u64) -> Self {
        let heartbeat = Heartbeat::new(now, config.heartbeat, config.liveness);
        let mut worker = Worker {
            config,
            state: State::Closed,
            heartbeat,
            held: None,
            last_number: 0,
            endpoint: 0,
            failures: 0,
            drain_ends: None,
            random: seed | 1,
            outputs: VecDeque::new(),
        };
        worker.register(now);
        worker
    }

    /// Whether the handler has a request.
    pub fn is_busy(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the worker is closed or drained.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// A message came.
    pub fn handle_message(&mut self, now: Instant, frames: Vec<Bytes>) {
        if self.state != State::Registered {
            return;
        }
        match mdp::read_to_worker(self.config.version, frames) {
            Ok(ToWorker::Request { address, body }) if self.held.is_none() => {
                self.alive(now);
                self.last_number += 1;
                let number = self.last_number;
                self.held = Some(Held { number, address, current: true, joined: Vec::new(), joined_bytes: 0 });
                self.outputs.push_back(WorkerOutput::Request { number, body: Message::from_frames(body) });
            }
            Ok(ToWorker::Request { .. }) => {
                // Dropping the second request would lose it. Leaving gives both back to the broker.
                log::warn!("{}: the broker sent a request to a busy worker; reconnecting", self.config.service);
                self.say_disconnect();
                self.detach(now);
            }
            Ok(ToWorker::Heartbeat) => {
                self.failures = 0;
                if self.heartbeat.beat_heard(now) {
                    self.send(now, ToBroker::Heartbeat { version: self.config.version });
                }
            }
            Ok(ToWorker::Disconnect) => {
                log::info!("{}: the broker ended the connection", self.config.service);
                self.detach(now);
            }
            Err(malformed) => {
                log::warn!("{}: dropped a message of the broker: {}", self.config.service, malformed.reason);
            }
        }
    }

    /// The connection broke.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if self.state == State::Registered {
            log::info!("{}: lost the connection to the broker", self.config.service);
            self.detach(now);
        }
    }

    /// The moment of [`Worker::poll_timeout`] has come. The driver first hands over whatever has been received: only
    /// what is still missing then is silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.drain_ends.is_some_and(|ends| now >= ends) {
            self.close(now);
        }
        match self.state {
            State::Registered if self.held.is_none() && now >= self.heartbeat.expiry() => {
                log::info!(
                    "{}: the broker has been silent for {:?}; reconnecting",
                    self.config.service,
                    self.heartbeat.silence(now)
                );
                self.next_endpoint();
                self.register(now);
            }
            State::Registered if now >= self.heartbeat.next_beat() => {
                self.send(now, ToBroker::Heartbeat { version: self.config.version });
            }
            State::Pausing(until) if now >= until => self.register(now),
            _ => {}
        }
    }

    /// The handler answers request `number`. An answer to a request that was lost with its connection is dropped: the
    /// broker has given that request to another worker.
    ///
    /// # Errors
    /// `TooLarge`: nothing was answered, and the request can still be.
    pub fn answer(&mut self, now: Instant, number: u64, answer: Answer) -> Result<()> {
        let (part, mut body, limit) = match answer {
            Answer::Partial(body) => (Part::Partial, body, self.config.max_message_bytes),
            Answer::Final(body) => (Part::Final, body, self.config.max_message_bytes),
            Answer::Failure(failure) => {
                // A failure replaces what 0.1 kept for a joined reply.
                if let Some(held) = &mut self.held {
                    held.joined.clear();
                    held.joined_bytes = 0;
                }
                // Its text is bounded on its own: a failure can always be said.
                (Part::Final, failure::encode(&failure), usize::MAX)
            }
        };
        let Some(held) = self.held.as_mut().filter(|held| held.number == number) else { return Ok(()) };
        let bytes = held.joined_bytes + body.byte_len();
        if bytes > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the answer has {bytes} bytes; max_message_bytes is {limit}"),
            ));
        }
        if part == Part::Partial && self.config.version == Version::V01 {
            held.joined_bytes = bytes;
            held.joined.extend(body);
            return Ok(());
        }
        if !held.joined.is_empty() {
            let mut joined = std::mem::take(&mut held.joined);
            joined.extend(body);
            body = Message::from_frames(joined);
        }
        let (address, current) = (held.address.clone(), held.current);
        if current {
            let version = self.config.version;
            self.send(now, ToBroker::Answer { version, address, part, body: body.into_frames() });
        } else {
            log::warn!("{}: dropped the answer to a request that was lost with its connection", self.config.service);
        }
        if part == Part::Final {
            self.held = None;
            self.finish(now);
        }
        Ok(())
    }

    /// Takes no new work; closes once the request in hand is answered, or its time is over.
    pub fn drain(&mut self, now: Instant) {
        if self.held.is_none() {
            self.close(now);
        } else if self.drain_ends.is_none() && self.state != State::Closed {
            self.drain_ends = Some(now + self.config.drain_timeout);
        }
    }

    /// Says DISCONNECT and closes, whatever is in hand: the broker gives it to another worker.
    pub fn close(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if self.state == State::Registered {
            self.send(now, ToBroker::Disconnect { version: self.config.version });
            self.outputs.push_back(WorkerOutput::Close);
        }
        self.state = State::Closed;
        self.held = None;
        self.drain_ends = None;
        self.outputs.push_back(WorkerOutput::Closed);
    }

    /// When [`Worker::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.state {
            State::Registered if self.held.is_none() => Some(self.heartbeat.next_beat().min(self.heartbeat.expiry())),
            // A Guide broker is silent towards busy workers, so its silence says nothing.
            State::Registered => Some(self.heartbeat.next_beat()),
            State::Pausing(until) => Some(until),
            State::Detached | State::Closed => None,
        };
        due.into_iter().chain(self.drain_ends).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop_front()
    }

    fn register(&mut self, now: Instant) {
        self.state = State::Registered;
        self.heartbeat = Heartbeat::new(now, self.config.heartbeat, self.config.liveness);
        self.outputs.push_back(WorkerOutput::Connect { endpoint: self.endpoint });
        let service = Bytes::copy_from_slice(self.config.service.as_bytes());
        self.send(now, ToBroker::Ready { version: self.config.version, service });
    }

    fn send(&mut self, now: Instant, message: ToBroker<Bytes>) {
        self.heartbeat.sent(now);
        self.outputs.push_back(WorkerOutput::Send(mdp::write_to_broker(message)));
    }

    fn say_disconnect(&mut self) {
        let message = ToBroker::Disconnect { version: self.config.version };
        self.outputs.push_back(WorkerOutput::Send(mdp::write_to_broker(message)));
    }

    /// The broker said something useful on this connection.
    fn alive(&mut self, now: Instant) {
        self.failures = 0;
        self.heartbeat.heard(now);
    }

    /// The connection is of no use any more. The next one is made at once, unless the last ones came to nothing too.
    fn detach(&mut self, now: Instant) {
        self.outputs.push_back(WorkerOutput::Close);
        self.next_endpoint();
        if let Some(held) = &mut self.held {
            held.current = false;
            self.state = State::Detached;
        } else {
            self.reconnect(now);
        }
    }

    /// The handler is done with its request.
    fn finish(&mut self, now: Instant) {
        if self.drain_ends.is_some() {
            self.close(now);
        } else if self.state == State::Detached {
            self.reconnect(now);
        } else {
            // Silence counts from here: while we were busy, the broker did not have to speak.
            self.heartbeat.heard(now);
        }
    }

    fn reconnect(&mut self, now: Instant) {
        if self.failures == 0 {
            self.failures = 1;
            self.register(now);
        } else {
            let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));
            let pause = doubled.min(self.config.reconnect);
            self.failures += 1;
            self.state = State::Pausing(now + pause / 2 + self.jitter(pause / 2));
        }
    }

    fn next_endpoint(&mut self) {
        self.endpoint = (self.endpoint + 1) % self.config.endpoints.max(1);
    }

    /// Up to `span`, at random (xorshift64).
    fn jitter(&mut self, span: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        span.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests;
