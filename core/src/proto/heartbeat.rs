//! When to say that we are alive, and when the other side's silence means that it is gone.

use std::time::{Duration, Instant};

/// One side's account of both directions of a connection.
///
/// Intervals need not be set equal on both sides. A peer that beats faster than we do gets an answer to its beats, so that
/// its patience is never exceeded; one that beats slower is given more time.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    liveness: u32,
    last_sent: Instant,
    last_heard: Instant,
    last_beat_heard: Instant,
    /// Longest silence that a HEARTBEAT of the peer has ended.
    slowest: Duration,
}

/// However fast a peer beats, it is not answered more often than this.
const FASTEST: Duration = Duration::from_millis(10);
/// However slow a peer beats, this is the longest interval that it is believed to have.
const SLOWEST: Duration = Duration::from_secs(60);

impl Heartbeat {
    pub(super) fn new(now: Instant, interval: Duration, liveness: u32) -> Self {
        Heartbeat { interval, liveness, last_sent: now, last_heard: now, last_beat_heard: now, slowest: Duration::ZERO }
    }

    /// Anything was sent: it counts as a sign of life.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Anything was heard: it counts as a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// A HEARTBEAT was heard; whether it wants an answer now, because the peer beats faster than we do.
    ///
    /// A beat that follows on the heels of something we sent may itself be an answer, and is not answered: two sides can
    /// never keep each other going, and a beat that comes too early changes nothing for those to come.
    pub(super) fn beat_heard(&mut self, now: Instant) -> bool {
        let gap = now.saturating_duration_since(self.last_beat_heard);
        self.last_beat_heard = now;
        self.slowest = self.slowest.max(self.silence(now)).min(SLOWEST);
        self.heard(now);
        // Three quarters: two sides with the same setting need no answers, whatever their jitter.
        gap < self.interval * 3 / 4 && now.saturating_duration_since(self.last_sent) >= (gap / 2).max(FASTEST)
    }

    /// When the next HEARTBEAT is due.
    pub(super) fn next_beat(&self) -> Instant {
        self.last_sent + self.interval
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
