//! A registered worker, as the broker sees it.

use std::time::{Duration, Instant};

use crate::proto::heartbeat::Heartbeat;
use crate::proto::mdp::Version;

use super::request::RequestId;
use super::service::ServiceName;

#[derive(Debug)]
pub(super) struct Worker {
    /// Tells this registration from an earlier one of the same routing id.
    pub(super) serial: u64,
    pub(super) version: Version,
    pub(super) service: ServiceName,
    pub(super) heartbeat: Heartbeat,
    pub(super) state: WorkerState,
    /// Whether the worker has shown that it beats while its handler runs. A Guide worker does not, so only of one that
    /// does is silence while busy a sign of death.
    pub(super) beats_while_busy: bool,
    /// When the worker's timer will fire.
    pub(super) armed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerState {
    /// Waits for work; its turn among the idle.
    Idle { turn: u64 },
    /// Holds a request since this moment.
    Busy { delivery: u64, request: RequestId, since: Instant },
    /// Took longer than `attempt_timeout`: the request was given to another, the worker still has to answer.
    Overdue { delivery: u64, since: Instant },
}

impl Worker {
    /// When silence will mean that the worker is gone; `None` while it need not speak.
    pub(super) fn expiry(&self) -> Option<Instant> {
        let obliged = matches!(self.state, WorkerState::Idle { .. }) || self.beats_while_busy;
        obliged.then(|| self.heartbeat.expiry())
    }

    /// When the worker's attempt has lasted too long.
    pub(super) fn attempt_ends(&self, limit: Option<Duration>) -> Option<Instant> {
        match (self.state, limit) {
            (WorkerState::Busy { since, .. }, Some(limit)) => Some(since + limit),
            _ => None,
        }
    }

    /// When the worker next needs attention.
    pub(super) fn due(&self, attempt_timeout: Option<Duration>) -> Instant {
        let beat = self.heartbeat.next_beat();
        self.expiry().into_iter().chain(self.attempt_ends(attempt_timeout)).fold(beat, Instant::min)
    }

    /// A HEARTBEAT came; whether it wants an answer.
    pub(super) fn beat_heard(&mut self, now: Instant, interval: Duration) -> bool {
        // One beat may have crossed the request on its way; one that comes a whole interval later has not.
        if let WorkerState::Busy { since, .. } | WorkerState::Overdue { since, .. } = self.state {
            self.beats_while_busy |= now.saturating_duration_since(since) > interval;
        }
        self.heartbeat.beat_heard(now)
    }
}
