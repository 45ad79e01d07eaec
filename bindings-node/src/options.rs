//! Options as they come from JavaScript: numbers, and milliseconds for durations.
//!
//! What is left out keeps the core's default; what the numbers may be is the core's business, and a number that cannot
//! become the core's type at all is refused here.

use std::time::Duration;

use napi_derive::napi;

use crate::error::{Result, invalid, thrown};

/// Options of a client. Durations are milliseconds.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct ClientOptions {
    /// Brokers to use.
    pub endpoints: Vec<String>,
    /// Time for one attempt.
    pub timeout: Option<f64>,
    /// Attempts in all.
    pub retries: Option<f64>,
    /// Time for a whole call.
    pub deadline: Option<f64>,
    /// `"auto"`, `"0.1"`, `"0.2"` or `"x1"`.
    pub protocol: Option<String>,
    /// Requests on their way at once.
    pub max_in_flight: Option<f64>,
    /// Further requests that wait their turn.
    pub max_waiting: Option<f64>,
    /// Largest message in bytes.
    pub max_message_bytes: Option<f64>,
    /// First pause before reconnecting.
    pub reconnect_min: Option<f64>,
    /// Longest pause before reconnecting.
    pub reconnect_max: Option<f64>,
}

/// What one request does differently. Durations are milliseconds.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct RequestOptions {
    /// Time for one attempt.
    pub timeout: Option<f64>,
    /// Attempts in all.
    pub retries: Option<f64>,
    /// Time for the whole call.
    pub deadline: Option<f64>,
    /// Times that the broker hands the request to a worker.
    pub max_attempts: Option<f64>,
    /// Whether the request fails at once where the service has no worker.
    pub fail_fast: Option<bool>,
}

/// Options of a worker. Durations are milliseconds.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct WorkerOptions {
    /// Brokers to use.
    pub endpoints: Vec<String>,
    /// Service to register for.
    pub service: String,
    /// Interval between heartbeats.
    pub heartbeat: Option<f64>,
    /// Silent intervals until the broker counts as gone.
    pub liveness: Option<f64>,
    /// Longest pause before reconnecting.
    pub reconnect: Option<f64>,
    /// Requests worked on at once.
    pub concurrency: Option<f64>,
    /// Further requests that wait in the worker.
    pub prefetch: Option<f64>,
    /// Answers that are kept for requests that come again.
    pub keep_outcomes: Option<f64>,
    /// Bytes that these answers may hold.
    pub keep_outcomes_bytes: Option<f64>,
    /// Time that an answer is kept.
    pub keep_outcomes_age: Option<f64>,
    /// `"auto"`, `"0.1"`, `"0.2"` or `"x1"`.
    pub protocol: Option<String>,
    /// Largest message in bytes.
    pub max_message_bytes: Option<f64>,
    /// Longest wait for requests in hand when draining.
    pub drain_timeout: Option<f64>,
}

/// Options of a broker. Durations are milliseconds, and infinity means no limit.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct BrokerOptions {
    /// Endpoints to listen on.
    pub bind: Vec<String>,
    /// Interval between heartbeats.
    pub heartbeat: Option<f64>,
    /// Silent intervals until a worker counts as gone.
    pub liveness: Option<f64>,
    /// Times that a request is handed to a worker.
    pub max_attempts: Option<f64>,
    /// Time that one worker may take over a request.
    pub attempt_timeout: Option<f64>,
    /// Time that a request may wait for a worker.
    pub request_ttl: Option<f64>,
    /// Requests that may wait in all.
    pub max_queued: Option<f64>,
    /// Requests that may wait for one service.
    pub max_queued_per_service: Option<f64>,
    /// Bytes that may wait in all.
    pub max_queued_bytes: Option<f64>,
    /// Bytes that may wait for one service.
    pub max_queued_bytes_per_service: Option<f64>,
    /// Largest message in bytes.
    pub max_message_bytes: Option<f64>,
    /// Services that may exist.
    pub max_services: Option<f64>,
    /// Workers that may be registered.
    pub max_workers: Option<f64>,
    /// Sessions of clients that may be open.
    pub max_sessions: Option<f64>,
    /// Requests that a client may have outstanding.
    pub credit: Option<f64>,
    /// Shortest interval between heartbeats that a peer may ask for.
    pub heartbeat_min: Option<f64>,
    /// Longest interval between heartbeats that a peer may ask for.
    pub heartbeat_max: Option<f64>,
}

impl ClientOptions {
    pub(crate) fn to_core(&self) -> Result<majordomo::ClientOptions> {
        let mut core = majordomo::ClientOptions::new("");
        core.endpoints.clone_from(&self.endpoints);
        set(&mut core.timeout, millis("timeout", self.timeout)?);
        set(&mut core.retries, count("retries", self.retries)?);
        core.deadline = millis("deadline", self.deadline)?;
        set(&mut core.protocol, protocol(self.protocol.as_deref())?);
        set(&mut core.max_in_flight, count("maxInFlight", self.max_in_flight)?);
        set(&mut core.max_waiting, count("maxWaiting", self.max_waiting)?);
        set(&mut core.max_message_bytes, count("maxMessageBytes", self.max_message_bytes)?);
        set(&mut core.reconnect_min, millis("reconnectMin", self.reconnect_min)?);
        set(&mut core.reconnect_max, millis("reconnectMax", self.reconnect_max)?);
        Ok(core)
    }
}

impl RequestOptions {
    pub(crate) fn to_core(&self) -> Result<majordomo::RequestOptions> {
        Ok(majordomo::RequestOptions {
            timeout: millis("timeout", self.timeout)?,
            retries: count("retries", self.retries)?,
            deadline: millis("deadline", self.deadline)?,
            max_attempts: count("maxAttempts", self.max_attempts)?,
            fail_fast: self.fail_fast.unwrap_or(false),
        })
    }
}

impl WorkerOptions {
    pub(crate) fn to_core(&self) -> Result<majordomo::WorkerOptions> {
        let mut core = majordomo::WorkerOptions::new("", &self.service);
        core.endpoints.clone_from(&self.endpoints);
        set(&mut core.heartbeat, millis("heartbeat", self.heartbeat)?);
        set(&mut core.liveness, count("liveness", self.liveness)?);
        set(&mut core.reconnect, millis("reconnect", self.reconnect)?);
        set(&mut core.concurrency, count("concurrency", self.concurrency)?);
        set(&mut core.prefetch, count("prefetch", self.prefetch)?);
        set(&mut core.keep_outcomes, count("keepOutcomes", self.keep_outcomes)?);
        set(&mut core.keep_outcomes_bytes, count("keepOutcomesBytes", self.keep_outcomes_bytes)?);
        set(&mut core.keep_outcomes_age, millis("keepOutcomesAge", self.keep_outcomes_age)?);
        set(&mut core.protocol, protocol(self.protocol.as_deref())?);
        set(&mut core.max_message_bytes, count("maxMessageBytes", self.max_message_bytes)?);
        set(&mut core.drain_timeout, millis("drainTimeout", self.drain_timeout)?);
        Ok(core)
    }
}

impl BrokerOptions {
    pub(crate) fn to_core(&self) -> Result<majordomo::BrokerOptions> {
        let mut core = majordomo::BrokerOptions::new("");
        core.bind.clone_from(&self.bind);
        set(&mut core.heartbeat, millis("heartbeat", self.heartbeat)?);
        set(&mut core.liveness, count("liveness", self.liveness)?);
        set(&mut core.max_attempts, count("maxAttempts", self.max_attempts)?);
        set(&mut core.attempt_timeout, limit("attemptTimeout", self.attempt_timeout)?);
        set(&mut core.request_ttl, limit("requestTtl", self.request_ttl)?);
        set(&mut core.max_queued, count("maxQueued", self.max_queued)?);
        set(&mut core.max_queued_per_service, count("maxQueuedPerService", self.max_queued_per_service)?);
        set(&mut core.max_queued_bytes, count("maxQueuedBytes", self.max_queued_bytes)?);
        set(
            &mut core.max_queued_bytes_per_service,
            count("maxQueuedBytesPerService", self.max_queued_bytes_per_service)?,
        );
        set(&mut core.max_message_bytes, count("maxMessageBytes", self.max_message_bytes)?);
        set(&mut core.max_services, count("maxServices", self.max_services)?);
        set(&mut core.max_workers, count("maxWorkers", self.max_workers)?);
        set(&mut core.max_sessions, count("maxSessions", self.max_sessions)?);
        set(&mut core.credit, count("credit", self.credit)?);
        set(&mut core.heartbeat_min, millis("heartbeatMin", self.heartbeat_min)?);
        set(&mut core.heartbeat_max, millis("heartbeatMax", self.heartbeat_max)?);
        Ok(core)
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *option = value;
    }
}

fn millis(name: &str, given: Option<f64>) -> Result<Option<Duration>> {
    let Some(value) = given else { return Ok(None) };
    match Duration::try_from_secs_f64(value / 1000.0) {
        Ok(duration) => Ok(Some(duration)),
        Err(_) => Err(invalid(format!("{name} must be a number of milliseconds, not {value}"))),
    }
}

/// A duration that may be infinite: `Some(None)` is "no limit", `None` is "not given".
fn limit(name: &str, given: Option<f64>) -> Result<Option<Option<Duration>>> {
    if given == Some(f64::INFINITY) {
        return Ok(Some(None));
    }
    Ok(millis(name, given)?.map(Some))
}

fn count<T: TryFrom<u64>>(name: &str, given: Option<f64>) -> Result<Option<T>> {
    let Some(value) = given else { return Ok(None) };
    // Beyond 2^53 a JavaScript number no longer names one integer.
    let whole = value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
    match T::try_from(value as u64) {
        Ok(count) if whole => Ok(Some(count)),
        _ => Err(invalid(format!("{name} must be a whole number that is not negative, not {value}"))),
    }
}

fn protocol(given: Option<&str>) -> Result<Option<majordomo::Protocol>> {
    given.map(|name| name.parse().map_err(|error| thrown(&error))).transpose()
}
