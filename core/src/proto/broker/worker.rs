//! A registered worker, as the broker sees it.

use std::time::{Duration, Instant};

use crate::proto::heartbeat::Heartbeat;
use crate::proto::mdp::Version;
use crate::proto::moment::earliest;
use crate::proto::window::Window;

use super::ready::Place;
use super::request::RequestId;
use super::service::ServiceKey;

/// Where a worker is in the table of workers, as long as it is there.
pub(super) type WorkerKey = usize;

/// What is spoken with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Mdp(Version),
    X1,
}

impl Wire {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Wire::Mdp(version) => version.name(),
            Wire::X1 => "x1",
        }
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    /// Tells this registration from an earlier one of the same routing id.
    pub(super) serial: u64,
    pub(super) wire: Wire,
    pub(super) service: ServiceKey,
    pub(super) heartbeat: Heartbeat,
    /// What the worker holds, by delivery, the oldest first.
    pub(super) held: Window<Delivery>,
    /// How much it holds at most.
    pub(super) capacity: u32,
    /// Whether it wants nothing more.
    pub(super) draining: bool,
    /// Whether it takes several messages in one.
    pub(super) takes_batches: bool,
    /// Its place among the workers of its service that have room.
    pub(super) place: Option<Place>,
    /// Whether that place is to be made anew.
    pub(super) has_moved: bool,
    /// Whether the worker has shown that it beats while its handler runs. A Guide worker does not, so only of one that
    /// does is silence while busy a sign of death.
    pub(super) beats_while_busy: bool,
    /// When the worker's timer will fire.
    pub(super) armed: Option<Instant>,
}

/// A request in a worker's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// `None` where nobody waits for the answer any more, which the worker still owes.
    pub(super) request: Option<RequestId>,
    pub(super) since: Instant,
}

impl Worker {
    /// How much the worker holds.
    pub(super) fn load(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn has_room(&self) -> bool {
        !self.draining && self.load() < self.capacity
    }

    /// When silence will mean that the worker is gone; `None` while it need not speak.
    pub(super) fn expiry(&self) -> Option<Instant> {
        let obliged = self.held.is_empty() || self.beats_while_busy;
        obliged.then(|| self.heartbeat.expiry())
    }

    /// When the oldest attempt in the worker's hands has lasted too long.
    pub(super) fn attempt_ends(&self, limit: Option<Duration>) -> Option<Instant> {
        let limit = limit?;
        self.held.iter().find(|(_, delivery)| delivery.request.is_some()).map(|(_, delivery)| delivery.since + limit)
    }

    /// When the worker next needs attention; the broker began at `started`.
    pub(super) fn due(&self, started: Instant, attempt_timeout: Option<Duration>) -> Instant {
        let beat = self.heartbeat.next_beat_in_slots(started);
        earliest([self.expiry(), self.attempt_ends(attempt_timeout)]).map_or(beat, |due| due.min(beat))
    }

    /// A HEARTBEAT came; whether one is to go back. Ours goes with the worker's as soon as it may: at one go, with all that
    /// belongs to the worker at hand, it costs less than at a moment of its own.
    pub(super) fn beat_heard(&mut self, now: Instant, interval: Duration) -> bool {
        // One beat may have crossed the request on its way; one that comes a whole interval later has not.
        if let Some((_, Delivery { since, .. })) = self.held.last() {
            self.beats_while_busy |= now.saturating_duration_since(*since) > interval;
        }
        let due = self.heartbeat.is_nearly_due(now);
        self.heartbeat.beat_heard(now) || due
    }
}
