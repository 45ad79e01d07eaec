//! When to say that we are alive, and when the other side's silence means that it is gone.

use std::time::{Duration, Instant};

/// One side's account of both directions of a connection.
///
/// Intervals need not be set equal on both sides: a peer that beats faster than we do is answered at its own pace, so
/// that its patience is never exceeded.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    liveness: u32,
    last_sent: Instant,
    last_heard: Instant,
    last_beat_heard: Instant,
    /// Shortest useful interval seen from the peer; `None` while it is no shorter than ours.
    peer_interval: Option<Duration>,
    /// Longest silence that a HEARTBEAT of the peer has ended: a peer that beats slower than we do is given more time.
    slowest: Duration,
}

/// However fast a peer beats, we beat no faster than this.
const FASTEST: Duration = Duration::from_millis(10);

impl Heartbeat {
    pub(super) fn new(now: Instant, interval: Duration, liveness: u32) -> Self {
        Heartbeat {
            interval,
            liveness,
            last_sent: now,
            last_heard: now,
            last_beat_heard: now,
            peer_interval: None,
            slowest: Duration::ZERO,
        }
    }

    /// Anything was sent: it counts as a sign of life.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Anything was heard: it counts as a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// A HEARTBEAT was heard; whether it changed our own pace.
    pub(super) fn beat_heard(&mut self, now: Instant) -> bool {
        let gap = now.saturating_duration_since(self.last_beat_heard).max(FASTEST);
        self.last_beat_heard = now;
        self.slowest = self.slowest.max(self.silence(now)).min(self.interval * 4);
        self.heard(now);
        // Three quarters: two sides with the same setting must not chase each other's jitter downwards.
        let faster = (gap < self.interval * 3 / 4).then_some(gap);
        let changed = faster != self.peer_interval;
        self.peer_interval = faster;
        changed
    }

    /// When the next HEARTBEAT is due.
    pub(super) fn next_beat(&self) -> Instant {
        self.last_sent + self.peer_interval.unwrap_or(self.interval)
    }

    /// When the peer's silence has lasted too long.
    pub(super) fn expiry(&self) -> Instant {
        self.last_heard + self.interval.max(self.slowest) * self.liveness
    }

    /// How long the peer has been silent.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_heard)
    }
}
