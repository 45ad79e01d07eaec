//! Options of the three roles: one table for all languages, the Guide's numbers by default.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::EventHook;

/// Longest accepted service name in bytes.
pub const MAX_SERVICE_NAME: usize = 255;

const DEFAULT_MAX_MESSAGE: usize = 256 << 20;
/// Timers are kept far from the ends of what clocks and libzmq's milliseconds in an `int` can say.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// The protocol that a client or a worker speaks with its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// The best that both know: the broker is asked on every new connection.
    #[default]
    Auto,
    /// MDP/0.1 (RFC 7): one reply to each request; what the Guide's programs speak.
    V01,
    /// MDP/0.2 (RFC 18): streaming replies.
    V02,
    /// MDPX/1: many requests at once, typed failures, deadlines, cancellation, properties.
    X1,
}

impl Protocol {
    /// Every protocol, oldest first, [`Protocol::Auto`] not among them.
    pub const ALL: &'static [Protocol] = &[Protocol::V01, Protocol::V02, Protocol::X1];

    /// The name in options and in `mmi.protocols`: `"auto"`, `"0.1"`, `"0.2"` or `"x1"`.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Auto => "auto",
            Protocol::V01 => "0.1",
            Protocol::V02 => "0.2",
            Protocol::X1 => "x1",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        std::iter::once(Protocol::Auto)
            .chain(Protocol::ALL.iter().copied())
            .find(|protocol| protocol.name() == name)
            .ok_or_else(|| {
                Error::invalid(format!("protocol must be \"auto\", \"0.1\", \"0.2\" or \"x1\", not {name:?}"))
            })
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)+) => {
        $($(#[$doc])* #[must_use] pub fn $field(mut self, $field: $type) -> Self { self.$field = $field; self })+
    };
}

/// How a client behaves. Durations apply as soon as a request is submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Brokers to use; the next one is tried when the current one is silent.
    pub endpoints: Vec<String>,
    /// How long one attempt may take without a sign of the reply: 2500 ms.
    pub timeout: Duration,
    /// How often a request is sent at most, the first time included: 3.
    pub retries: u32,
    /// How long a whole call may take: `timeout` × `retries` where `None`.
    pub deadline: Option<Duration>,
    /// Protocol: the best that both sides know.
    pub protocol: Protocol,
    /// Asynchronous client: how many requests are in flight at once: 1,000. MDPX carries them on one connection, within the
    /// broker's credit; MDP/0.1 and 0.2 need a connection for each, and 64 of these at most are used.
    pub max_in_flight: usize,
    /// Asynchronous client: how many further requests may wait for their turn: 10,000.
    pub max_waiting: usize,
    /// Largest message sent or accepted, in bytes: 256 MiB. Parts of a streamed reply that are joined, or wait to be read, may
    /// take as much, each frame counted with 64 bytes more.
    pub max_message_bytes: usize,
    /// First pause before a broken connection is made again: 100 ms.
    pub reconnect_min: Duration,
    /// Longest such pause: 32 s.
    pub reconnect_max: Duration,
    /// Told what happens to the connection.
    pub on_event: Option<EventHook>,
}

impl ClientOptions {
    /// Options for the broker at `endpoints`, several separated by commas.
    pub fn new(endpoints: &str) -> Self {
        ClientOptions {
            endpoints: split(endpoints),
            timeout: Duration::from_millis(2500),
            retries: 3,
            deadline: None,
            protocol: Protocol::default(),
            max_in_flight: 1_000,
            max_waiting: 10_000,
            max_message_bytes: DEFAULT_MAX_MESSAGE,
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(32),
            on_event: None,
        }
    }

    setters! {
        /// Sets how long one attempt may take.
        timeout: Duration,
        /// Sets how often a request is sent at most.
        retries: u32,
        /// Sets the protocol.
        protocol: Protocol,
        /// Sets how many requests an asynchronous client has in flight at once.
        max_in_flight: usize,
        /// Sets how many further requests of an asynchronous client may wait.
        max_waiting: usize,
        /// Sets the largest message in bytes.
        max_message_bytes: usize,
        /// Sets the first pause before reconnecting.
        reconnect_min: Duration,
        /// Sets the longest pause before reconnecting.
        reconnect_max: Duration,
    }

    /// Sets who is told what happens to the connection; see [`EventHook`].
    #[must_use]
    pub fn on_event(mut self, hook: EventHook) -> Self {
        self.on_event = Some(hook);
        self
    }

    /// Sets how long a whole call may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Checks every option.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn validate(&self) -> Result<()> {
        endpoints(&self.endpoints)?;
        duration("timeout", self.timeout)?;
        at_least_one("retries", self.retries as usize)?;
        optional_duration("deadline", self.deadline)?;
        at_least_one("max_in_flight", self.max_in_flight)?;
        at_least_one("max_message_bytes", self.max_message_bytes)?;
        duration("reconnect_min", self.reconnect_min)?;
        duration("reconnect_max", self.reconnect_max)?;
        at_most("max_in_flight", self.max_in_flight, 1_000_000)
    }
}

/// What one request does differently from its client's options. `None` leaves the client's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How often the request is sent at most.
    pub retries: Option<u32>,
    /// How long the whole call may take.
    pub deadline: Option<Duration>,
    /// How often the request is handed to a worker at most, 1 to 65,535; the broker's option where `None`. A request of
    /// one attempt never runs twice, whatever fails: where it may have run, it fails with `WorkerLost`. Towards a broker
    /// of MDP/0.1 or 0.2 it is sent once only.
    pub max_attempts: Option<u32>,
    /// Whether the request fails with `NoWorker` at once where the service has no worker; otherwise it waits for one.
    /// MDP/0.1 and 0.2 cannot say so, and wait.
    pub fail_fast: bool,
}

impl RequestOptions {
    /// Checks every option.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn validate(&self) -> Result<()> {
        optional_duration("timeout", self.timeout)?;
        at_least_one("retries", self.retries.unwrap_or(1) as usize)?;
        let max_attempts = self.max_attempts.unwrap_or(1) as usize;
        at_least_one("max_attempts", max_attempts)?;
        at_most("max_attempts", max_attempts, usize::from(u16::MAX))?;
        optional_duration("deadline", self.deadline)
    }
}

/// How a worker behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Brokers to use; the next one is tried when the current one is silent.
    pub endpoints: Vec<String>,
    /// Service to register for: 1 to 255 bytes of UTF-8 without control characters, not starting with `mmi.`.
    pub service: String,
    /// Interval between heartbeats: 2500 ms.
    pub heartbeat: Duration,
    /// How many intervals the broker may be silent before it counts as gone: 3.
    pub liveness: u32,
    /// Longest pause before reconnecting: 2500 ms.
    pub reconnect: Duration,
    /// How many requests are worked on at once: 1.
    pub concurrency: usize,
    /// How many further requests the worker holds ready for its handlers: 0. A few dozen save a worker of short handlers
    /// the way to the broker between two requests; while another worker is idle, no request waits here. MDPX only.
    pub prefetch: usize,
    /// How many outcomes are kept, so that a repeat of a request is answered without running the handler again: 0. A
    /// request is known by its idempotency key, see [`Properties`](crate::Properties), or by its client's session and
    /// number. Streamed replies are not kept. MDPX only. Each registration keeps its own: [`serve`](crate::serve) with a
    /// `concurrency` above 1 makes several, an asynchronous worker one.
    pub keep_outcomes: usize,
    /// How many bytes the kept outcomes may take: 64 MiB.
    pub keep_outcomes_bytes: usize,
    /// How long an outcome is kept: 5 minutes.
    pub keep_outcomes_age: Duration,
    /// Protocol: the best that both sides know.
    pub protocol: Protocol,
    /// Largest message sent or accepted, in bytes: 256 MiB.
    pub max_message_bytes: usize,
    /// How long a drain waits for requests in hand: 5 s.
    pub drain_timeout: Duration,
    /// Told what happens to the connection.
    pub on_event: Option<EventHook>,
}

impl WorkerOptions {
    /// Options for a worker of `service` at the broker at `endpoints`, several separated by commas.
    pub fn new(endpoints: &str, service: &str) -> Self {
        WorkerOptions {
            endpoints: split(endpoints),
            service: service.to_owned(),
            heartbeat: Duration::from_millis(2500),
            liveness: 3,
            reconnect: Duration::from_millis(2500),
            concurrency: 1,
            prefetch: 0,
            keep_outcomes: 0,
            keep_outcomes_bytes: 64 << 20,
            keep_outcomes_age: Duration::from_secs(300),
            protocol: Protocol::default(),
            max_message_bytes: DEFAULT_MAX_MESSAGE,
            drain_timeout: Duration::from_secs(5),
            on_event: None,
        }
    }

    setters! {
        /// Sets the interval between heartbeats.
        heartbeat: Duration,
        /// Sets how many intervals of silence make the broker count as gone.
        liveness: u32,
        /// Sets the longest pause before reconnecting.
        reconnect: Duration,
        /// Sets how many requests are worked on at once.
        concurrency: usize,
        /// Sets how many further requests are held ready.
        prefetch: usize,
        /// Sets how many outcomes are kept.
        keep_outcomes: usize,
        /// Sets how many bytes the kept outcomes may take.
        keep_outcomes_bytes: usize,
        /// Sets how long an outcome is kept.
        keep_outcomes_age: Duration,
        /// Sets the protocol.
        protocol: Protocol,
        /// Sets the largest message in bytes.
        max_message_bytes: usize,
        /// Sets how long a drain waits for requests in hand.
        drain_timeout: Duration,
    }

    /// Sets who is told what happens to the connection; see [`EventHook`].
    #[must_use]
    pub fn on_event(mut self, hook: EventHook) -> Self {
        self.on_event = Some(hook);
        self
    }

    /// Checks every option.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn validate(&self) -> Result<()> {
        endpoints(&self.endpoints)?;
        service_name(&self.service)?;
        if self.service.starts_with("mmi.") {
            return Err(Error::invalid(format!(
                "service {:?}: names that start with \"mmi.\" belong to the broker (RFC 8)",
                self.service
            )));
        }
        duration("heartbeat", self.heartbeat)?;
        at_least_one("liveness", self.liveness as usize)?;
        duration("reconnect", self.reconnect)?;
        at_least_one("concurrency", self.concurrency)?;
        at_most("concurrency", self.concurrency, 1024)?;
        at_most("prefetch", self.prefetch, 65_536)?;
        duration("keep_outcomes_age", self.keep_outcomes_age)?;
        at_least_one("max_message_bytes", self.max_message_bytes)?;
        duration("drain_timeout", self.drain_timeout)
    }
}

/// How a broker behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerOptions {
    /// Endpoints to listen on, all for clients and workers of every protocol version.
    pub bind: Vec<String>,
    /// Interval between heartbeats to workers: 2500 ms.
    pub heartbeat: Duration,
    /// How many intervals a worker may be silent before it counts as gone: 3.
    pub liveness: u32,
    /// How often a request is handed to a worker at most: 3.
    pub max_attempts: u32,
    /// How long one worker may take over a request; no limit where `None`.
    pub attempt_timeout: Option<Duration>,
    /// How long a request may wait for a worker: 300 s; no limit where `None`.
    pub request_ttl: Option<Duration>,
    /// How many requests may wait in all: 100,000.
    pub max_queued: usize,
    /// How many requests may wait for one service: 100,000.
    pub max_queued_per_service: usize,
    /// How many bytes the waiting requests may hold in all: 1 GiB.
    pub max_queued_bytes: usize,
    /// How many bytes the waiting requests of one service may hold: 1 GiB.
    pub max_queued_bytes_per_service: usize,
    /// Largest message accepted, in bytes: 256 MiB.
    pub max_message_bytes: usize,
    /// How many services may have workers or waiting requests: 10,000.
    pub max_services: usize,
    /// How many workers may be registered: 100,000.
    pub max_workers: usize,
    /// How many sessions MDPX clients may have open: 100,000.
    pub max_sessions: usize,
    /// How many requests one MDPX client may have outstanding: 16,384.
    pub credit: u32,
    /// Shortest interval between heartbeats that an MDPX peer is granted: 10 ms.
    pub heartbeat_min: Duration,
    /// Longest interval between heartbeats that an MDPX peer is granted: 60 s.
    pub heartbeat_max: Duration,
}

impl BrokerOptions {
    /// Options for a broker that listens on `bind`, several endpoints separated by commas. Port 0 (or `*`) picks a
    /// free port.
    pub fn new(bind: &str) -> Self {
        BrokerOptions {
            bind: split(bind),
            heartbeat: Duration::from_millis(2500),
            liveness: 3,
            max_attempts: 3,
            attempt_timeout: None,
            request_ttl: Some(Duration::from_secs(300)),
            max_queued: 100_000,
            max_queued_per_service: 100_000,
            max_queued_bytes: 1 << 30,
            max_queued_bytes_per_service: 1 << 30,
            max_message_bytes: DEFAULT_MAX_MESSAGE,
            max_services: 10_000,
            max_workers: 100_000,
            max_sessions: 100_000,
            credit: 16_384,
            heartbeat_min: Duration::from_millis(10),
            heartbeat_max: Duration::from_secs(60),
        }
    }

    setters! {
        /// Sets the interval between heartbeats.
        heartbeat: Duration,
        /// Sets how many intervals of silence make a worker count as gone.
        liveness: u32,
        /// Sets how often a request is handed to a worker at most.
        max_attempts: u32,
        /// Sets how long one worker may take over a request.
        attempt_timeout: Option<Duration>,
        /// Sets how long a request may wait for a worker.
        request_ttl: Option<Duration>,
        /// Sets how many requests may wait in all.
        max_queued: usize,
        /// Sets how many requests may wait for one service.
        max_queued_per_service: usize,
        /// Sets how many bytes the waiting requests may hold in all.
        max_queued_bytes: usize,
        /// Sets how many bytes the waiting requests of one service may hold.
        max_queued_bytes_per_service: usize,
        /// Sets the largest message in bytes.
        max_message_bytes: usize,
        /// Sets how many services there may be.
        max_services: usize,
        /// Sets how many workers there may be.
        max_workers: usize,
        /// Sets how many sessions of MDPX clients there may be.
        max_sessions: usize,
        /// Sets how many requests one MDPX client may have outstanding.
        credit: u32,
        /// Sets the shortest interval between heartbeats that an MDPX peer is granted.
        heartbeat_min: Duration,
        /// Sets the longest interval between heartbeats that an MDPX peer is granted.
        heartbeat_max: Duration,
    }

    /// Adds an endpoint to listen on.
    #[must_use]
    pub fn bind(mut self, endpoint: &str) -> Self {
        self.bind.extend(split(endpoint));
        self
    }

    /// Checks every option.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn validate(&self) -> Result<()> {
        endpoints(&self.bind)?;
        duration("heartbeat", self.heartbeat)?;
        at_least_one("liveness", self.liveness as usize)?;
        at_least_one("max_attempts", self.max_attempts as usize)?;
        optional_duration("attempt_timeout", self.attempt_timeout)?;
        optional_duration("request_ttl", self.request_ttl)?;
        at_least_one("credit", self.credit as usize)?;
        duration("heartbeat_min", self.heartbeat_min)?;
        duration("heartbeat_max", self.heartbeat_max)?;
        if self.heartbeat_min > self.heartbeat_max {
            return Err(Error::invalid("heartbeat_min must not exceed heartbeat_max"));
        }
        at_least_one("max_message_bytes", self.max_message_bytes)
    }
}

/// Checks that `name` can be the name of a service.
///
/// # Errors
/// `InvalidArgument` unless it is 1 to 255 bytes without control characters.
pub fn service_name(name: &str) -> Result<()> {
    if crate::proto::is_service_name(name.as_bytes()) {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "service {name:?}: a name is 1 to {MAX_SERVICE_NAME} bytes of text without control characters"
        )))
    }
}

fn split(endpoints: &str) -> Vec<String> {
    endpoints.split(',').map(|endpoint| endpoint.trim().to_owned()).collect()
}

fn endpoints(endpoints: &[String]) -> Result<()> {
    if endpoints.is_empty() {
        return Err(Error::invalid("at least one endpoint is needed"));
    }
    for endpoint in endpoints {
        let known = ["tcp://", "ipc://", "inproc://"]
            .iter()
            .any(|scheme| endpoint.strip_prefix(scheme).is_some_and(|address| !address.is_empty()));
        if !known || endpoint.contains('\0') {
            return Err(Error::invalid(format!(
                "endpoint {endpoint:?}: expected tcp://host:port, ipc://path or inproc://name"
            )));
        }
    }
    Ok(())
}

fn duration(name: &str, value: Duration) -> Result<()> {
    if value < Duration::from_millis(1) || value > MAX_DURATION {
        return Err(Error::invalid(format!("{name} must be between 1 ms and 7 days, not {value:?}")));
    }
    Ok(())
}

fn optional_duration(name: &str, value: Option<Duration>) -> Result<()> {
    value.map_or(Ok(()), |value| duration(name, value))
}

fn at_least_one(name: &str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(Error::invalid(format!("{name} must be at least 1")));
    }
    Ok(())
}

fn at_most(name: &str, value: usize, limit: usize) -> Result<()> {
    if value > limit {
        return Err(Error::invalid(format!("{name} must be at most {limit}, not {value}")));
    }
    Ok(())
}
