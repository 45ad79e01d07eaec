//! What must hold after a run.

use majordomo::proto::broker::Stats;

use crate::world::World;

impl World {
    pub(crate) fn asked(&self) -> usize {
        self.clients.iter().map(|client| client.asked as usize).sum()
    }

    pub(crate) fn answered(&self) -> usize {
        self.clients.iter().flat_map(|client| client.outcomes.values()).filter(|outcome| outcome[0]).count()
    }

    pub(crate) fn most_runs_of_one_request(&self) -> u32 {
        self.runs.values().copied().max().unwrap_or(0)
    }

    /// Answers that came without the client having had to ask again, and streams that broke, make up all that was asked.
    pub(crate) fn check_all_answered(&self) {
        assert_eq!(
            self.answered() + self.broken_streams,
            self.asked(),
            "seed {}: every request is answered, but for streams that broke in the middle",
            self.seed
        );
    }

    /// The broker itself hands a lost worker's request on: clients ask again only for streams that broke.
    pub(crate) fn check_nobody_asked_twice(&self) {
        let stats = self.broker.as_ref().map(|broker| broker.stats(self.clock.instant(self.now)));
        let (accepted, exhausted) = stats.map_or((0, 0), |stats| (stats.counters.accepted, stats.counters.exhausted));
        assert_eq!(
            accepted as usize + self.broken_streams,
            self.asked() + exhausted as usize,
            "seed {}: no client has to ask twice",
            self.seed
        );
    }

    /// What holds in every run, whatever the faults.
    pub(crate) fn check_promises(&self) {
        let seed = self.seed;
        assert!(self.settled, "seed {seed}: everything comes to an end, and nothing is held for ever");
        for (index, client) in self.clients.iter().enumerate() {
            for number in 1..=client.asked {
                let outcomes = client.outcomes.get(&number).map_or(0, Vec::len);
                assert_eq!(outcomes, 1, "seed {seed}: request {number} of client {index} has exactly one outcome");
            }
        }
        if let Some(broker) = &self.broker {
            let stats: Stats = broker.stats(self.clock.instant(self.now));
            let counters = stats.counters;
            assert_eq!((stats.queued, stats.queued_bytes), (0, 0), "seed {seed}: nothing waits for ever");
            assert!(stats.in_flight <= stats.workers, "seed {seed}: credit of one per worker");
            assert_eq!(
                counters.accepted,
                counters.answered + counters.expired + counters.exhausted + counters.abandoned + stats.in_flight as u64,
                "seed {seed}: every accepted request has one fate: {stats:?}"
            );
            assert_eq!(counters.malformed, 0, "seed {seed}: our own peers say nothing malformed");
        }
    }
}
