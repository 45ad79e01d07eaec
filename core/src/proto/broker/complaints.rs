//! What is said of peers that do wrong: one line for each of them and interval, and not more than some lines in all. A peer that
//! does wrong a million times must not fill a disk.

use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use super::Map;

/// How long nothing more is said of a peer.
const INTERVAL: Duration = Duration::from_secs(10);
/// Of so many peers something is said in an interval.
const MOST: usize = 16;

#[derive(Debug)]
pub(super) struct Complaints {
    /// Of whom something was said in this interval.
    said: Map<Box<[u8]>, ()>,
    since: Option<Instant>,
    /// What was not said.
    unsaid: u64,
}

impl Complaints {
    pub(super) fn new(hash: FixedState) -> Complaints {
        Complaints { said: Map::with_hasher(hash), since: None, unsaid: 0 }
    }

    /// Whether something may be said of `whom` now, at this level.
    pub(super) fn may_say(&mut self, level: log::Level, now: Instant, whom: &[u8]) -> bool {
        log::log_enabled!(level) && self.is_first(now, whom)
    }

    fn is_first(&mut self, now: Instant, whom: &[u8]) -> bool {
        if self.since.is_none_or(|since| now >= since + INTERVAL) {
            if self.unsaid > 0 {
                log::warn!("{} more complaints of peers were not logged", self.unsaid);
            }
            self.said.clear();
            (self.since, self.unsaid) = (Some(now), 0);
        }
        let first = self.said.len() < MOST && !self.said.contains_key(whom);
        if first {
            self.said.insert(whom.into(), ());
        } else {
            self.unsaid += 1;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_peer_and_interval_and_some_in_all() {
        let mut complaints = Complaints::new(FixedState::with_seed(1));
        let start = Instant::now();
        for round in 0..3u32 {
            let now = start + INTERVAL * round;
            let said = (0..100_000u32).filter(|number| complaints.is_first(now, &(number % 10).to_be_bytes())).count();
            assert_eq!(said, 10);
            let said = (0..100_000u32).filter(|number| complaints.is_first(now, &number.to_be_bytes())).count();
            assert_eq!(said, MOST - 10);
            assert_eq!(complaints.said.len(), MOST, "the table has a limit");
        }
    }
}
