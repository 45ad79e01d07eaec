//! What of the broker's options the machine needs.

use std::time::Duration;

use crate::options::BrokerOptions;

/// The machine's share of [`BrokerOptions`].
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Interval between heartbeats to workers.
    pub heartbeat: Duration,
    /// Intervals of silence that make a worker count as gone.
    pub liveness: u32,
    /// How often a request is handed out at most.
    pub max_attempts: u32,
    /// How long one worker may take over a request.
    pub attempt_timeout: Option<Duration>,
    /// How long a request may wait for a worker.
    pub request_ttl: Option<Duration>,
    /// Waiting requests at most, in all.
    pub max_queued: usize,
    /// Waiting requests at most, for one service.
    pub max_queued_per_service: usize,
    /// Bytes of waiting requests at most, in all.
    pub max_queued_bytes: usize,
    /// Bytes of waiting requests at most, for one service.
    pub max_queued_bytes_per_service: usize,
    /// Largest request or joined reply in bytes.
    pub max_message_bytes: usize,
    /// Services at most.
    pub max_services: usize,
    /// Workers at most.
    pub max_workers: usize,
    /// Sessions of MDPX clients at most.
    pub max_sessions: usize,
    /// Outstanding requests of one MDPX client at most.
    pub credit: u32,
    /// Shortest interval between heartbeats that an MDPX peer is granted.
    pub heartbeat_min: Duration,
    /// Longest interval between heartbeats that an MDPX peer is granted.
    pub heartbeat_max: Duration,
}

impl From<&BrokerOptions> for BrokerConfig {
    fn from(options: &BrokerOptions) -> Self {
        BrokerConfig {
            heartbeat: options.heartbeat,
            liveness: options.liveness,
            max_attempts: options.max_attempts,
            attempt_timeout: options.attempt_timeout,
            request_ttl: options.request_ttl,
            max_queued: options.max_queued,
            max_queued_per_service: options.max_queued_per_service,
            max_queued_bytes: options.max_queued_bytes,
            max_queued_bytes_per_service: options.max_queued_bytes_per_service,
            max_message_bytes: options.max_message_bytes,
            max_services: options.max_services,
            max_workers: options.max_workers,
            max_sessions: options.max_sessions,
            credit: options.credit,
            heartbeat_min: options.heartbeat_min,
            heartbeat_max: options.heartbeat_max,
        }
    }
}
