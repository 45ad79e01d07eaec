//! What the broker tells about itself, through [`Broker::stats`](super::Broker::stats) and the `mmi.*` services.

use serde::Serialize;

/// The broker's counters and sizes. Counters count since the broker's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The broker's version.
    pub version: &'static str,
    /// Protocol versions that it speaks.
    pub protocols: Vec<&'static str>,
    /// Seconds since its start.
    pub uptime_seconds: f64,
    /// Services with workers, waiting requests or requests in flight.
    pub services: usize,
    /// Registered workers.
    pub workers: usize,
    /// Sessions of MDPX clients.
    pub sessions: usize,
    /// Requests that wait for a worker.
    pub queued: usize,
    /// What they count in bytes towards the limits.
    pub queued_bytes: usize,
    /// Requests that workers hold.
    pub in_flight: usize,
    /// Replies and requests that the driver holds for peers that read slowly.
    pub backlog: usize,
    /// Their bytes.
    pub backlog_bytes: usize,
    /// Bytes of outcomes that MDPX clients have not acknowledged yet.
    pub kept_bytes: usize,
    /// Counters of what happened.
    #[serde(flatten)]
    pub counters: Counters,
}

/// What happened since the broker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Requests taken in.
    pub accepted: u64,
    /// Requests whose final answer was sent to their client.
    pub answered: u64,
    /// Requests given back to the queue after their worker was lost or overdue.
    pub redelivered: u64,
    /// Requests that waited longer than `request_ttl`, or whose caller's time was over.
    pub expired: u64,
    /// Requests not taken in because of a limit.
    pub refused: u64,
    /// Requests that ended because every attempt failed, or a stream broke after its first part.
    pub exhausted: u64,
    /// Requests whose client went away before they were answered.
    pub abandoned: u64,
    /// Requests that came again and were answered from what was kept, or refused as over.
    pub repeated: u64,
    /// Requests that their callers gave up.
    pub cancelled: u64,
    /// Requests that ended with the failure that their handler reported.
    pub failed: u64,
    /// Messages that were not of the protocol.
    pub malformed: u64,
    /// Answers that nobody waits for: late, of the wrong worker, or invented.
    pub stray_replies: u64,
    /// Messages whose receiver could not be reached.
    pub undeliverable: u64,
    /// Workers that went away without saying so.
    pub workers_lost: u64,
}

/// One element of the reply of `mmi.services`.
#[derive(Debug, Serialize)]
pub(super) struct ServiceRow<'a> {
    pub(super) name: &'a str,
    pub(super) workers: usize,
    pub(super) idle: usize,
    pub(super) queued: usize,
    pub(super) queued_bytes: usize,
    pub(super) in_flight: usize,
}

/// One element of the reply of `mmi.workers`.
#[derive(Debug, Serialize)]
pub(super) struct WorkerRow<'a> {
    /// Routing id in hexadecimal.
    pub(super) id: String,
    pub(super) service: &'a str,
    pub(super) protocol: &'static str,
    pub(super) state: &'static str,
    pub(super) in_flight: usize,
    pub(super) silent_ms: u64,
}
