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
    /// How long a silence is too long.
    patience: Duration,
}

/// However fast a peer beats, it is not answered more often than this.
const FASTEST: Duration = Duration::from_millis(10);
/// However slow a peer beats, this is the longest interval that it is believed to have.
const SLOWEST: Duration = Duration::from_secs(60);

impl Heartbeat {
    pub(super) fn new(now: Instant, interval: Duration, liveness: u32) -> Self {
        Heartbeat {
            interval,
            liveness,
            last_sent: now,
            last_heard: now,
            last_beat_heard: now,
            slowest: Duration::ZERO,
            patience: interval * liveness,
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

    /// A HEARTBEAT was heard; whether it wants an answer now, because the peer beats faster than we do.
    ///
    /// A beat that follows on the heels of something we sent may itself be an answer, and is not answered: two sides can
    /// never keep each other going, and a beat that comes too early changes nothing for those to come.
    pub(super) fn beat_heard(&mut self, now: Instant) -> bool {
        let gap = now.saturating_duration_since(self.last_beat_heard);
        self.last_beat_heard = now;
        self.slowest = self.slowest.max(self.silence(now)).min(SLOWEST);
        self.patience = self.interval.max(self.slowest) * self.liveness;
        self.heard(now);
        // Three quarters: two sides with the same setting need no answers, whatever their jitter.
        gap < self.interval * 3 / 4 && now.saturating_duration_since(self.last_sent) >= (gap / 2).max(FASTEST)
    }

    /// When the next HEARTBEAT is due.
    pub(super) fn next_beat(&self) -> Instant {
        self.last_sent + self.interval
    }

    /// The same for a side that has many peers: together with others that are due about then.
    pub(super) fn next_beat_in_slots(&self, epoch: Instant) -> Instant {
        slot(epoch, self.last_sent, self.interval)
    }

    /// Whether a HEARTBEAT may as well go out now, while there is something to be done for this peer anyway. Twice as often
    /// as it must at most.
    pub(super) fn is_nearly_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_sent) >= self.interval / 2
    }

    /// When the peer's silence has lasted too long.
    pub(super) fn expiry(&self) -> Instant {
        self.last_heard + self.patience
    }

    /// How long the peer has been silent.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_heard)
    }
}

/// When a side that has said something at `last_sent` is to be heard again: when an interval is over, and up to a 64th of
/// it later, so that it falls together with what else is due. One wake-up then serves many peers.
///
/// Slots begin at `epoch`. Their length is a power of two of nanoseconds: those of any two intervals fall together too.
fn slot(epoch: Instant, last_sent: Instant, interval: Duration) -> Instant {
    let due = last_sent + interval;
    let most = nanoseconds(interval) / 64;
    let length: u64 = most.checked_ilog2().map_or(1, |power| 1 << power);
    let behind = nanoseconds(due.saturating_duration_since(epoch)) % length;
    due + Duration::from_nanos(if behind == 0 { 0 } else { length - behind })
}

/// Five hundred years fit.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_of_many_peers_fall_together_and_none_is_early_or_much_too_late() {
        let epoch = Instant::now();
        for interval in [1, 10, 100, 833, 2500, 60_000].map(Duration::from_millis) {
            let mut slots = std::collections::BTreeSet::new();
            for peer in 0..10_000 {
                let last_sent = epoch + interval * peer / 10_000;
                let due = slot(epoch, last_sent, interval);
                assert!(due >= last_sent + interval, "{interval:?}: none is said too early");
                assert!(due - last_sent - interval <= interval / 64, "{interval:?}: nobody waits much longer");
                slots.insert(due);
            }
            assert!(slots.len() <= 130, "{interval:?}: {} moments for 10,000 peers", slots.len());
        }
    }

    #[test]
    fn slots_of_different_intervals_fall_together() {
        let epoch = Instant::now();
        let at = |interval| slot(epoch, epoch + Duration::from_secs(7), Duration::from_millis(interval));
        let since = |instant: Instant| (instant - epoch).as_nanos();
        assert_eq!(since(at(2500)) % (1 << 25), 0);
        assert_eq!(since(at(833)) % (1 << 23), 0);
    }
}
