//! What must hold after a run.

use std::time::Duration;

use majordomo::proto::broker::{Broker, Stats};
use majordomo::{Error, ErrorKind};

use crate::sessions::{Asking, Fate};
use crate::world::{KEEPER, World};

impl World {
    pub(crate) fn asked(&self) -> usize {
        let older: usize = self.clients.iter().map(|client| client.asked as usize).sum();
        older + self.sessions.iter().map(|peer| peer.requests.len()).sum::<usize>()
    }

    pub(crate) fn answered(&self) -> usize {
        let older =
            self.clients.iter().flat_map(|client| client.outcomes.values()).filter(|outcome| outcome[0]).count();
        older + self.askings().filter(|asking| asking.outcomes == [Fate::Answered]).count()
    }

    fn askings(&self) -> impl Iterator<Item = &Asking> {
        self.sessions.iter().flat_map(|peer| peer.requests.values())
    }

    /// Requests that were under way when their broker died run again; no others do.
    pub(crate) fn check_reruns(&self) {
        for asking in self.askings() {
            let runs = self.runs.get(&asking.text).copied().unwrap_or_default();
            let orphaned = self.orphaned.get(&asking.text).copied().unwrap_or_default();
            assert!(runs <= 1 + orphaned, "seed {}: {:?} ran {runs} times", self.seed, asking.text);
        }
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
        for asking in self.askings() {
            let (text, outcomes) = (&asking.text, &asking.outcomes);
            assert_eq!(outcomes.len(), 1, "seed {seed}: {text:?} has exactly one outcome: {outcomes:?}");
            let runs = self.runs.get(text).copied().unwrap_or_default();
            if asking.once && !asking.older {
                assert!(runs <= 1, "seed {seed}: {text:?} may run once and ran {runs} times");
            }
            if text.starts_with("keep") && !asking.older {
                assert!(runs <= 1, "seed {seed}: {text:?} of {KEEPER:?} ran {runs} times");
            }
        }
        if let Some(broker) = &self.broker {
            let stats: Stats = broker.stats(self.clock.instant(self.now));
            let counters = stats.counters;
            assert_eq!((stats.queued, stats.queued_bytes), (0, 0), "seed {seed}: nothing waits for ever");
            assert_eq!(
                counters.accepted,
                counters.answered
                    + counters.expired
                    + counters.exhausted
                    + counters.abandoned
                    + counters.cancelled
                    + counters.failed
                    + stats.in_flight as u64,
                "seed {seed}: every accepted request has one fate: {stats:?}"
            );
            assert_eq!(counters.malformed, 0, "seed {seed}: our own peers say nothing malformed");
        }
    }

    /// After a while nothing is kept, and once everybody has gone nothing is left.
    pub(crate) fn wind_up(&mut self) {
        let seed = self.seed;
        let gone = |world: &World| world.now > world.wound_up;
        self.wound_up = self.now + Duration::from_secs(10);
        self.network.end_silence(self.now);
        self.run_until(Duration::from_secs(500), gone);
        for peer in self.workers.iter().filter(|peer| peer.machine.is_some()) {
            let owed = peer.link.map_or(0, |link| self.ledger.owed(link));
            assert_eq!(owed, 0, "seed {seed}: every delivery is answered");
        }
        let stats = self.broker_stats();
        assert_eq!(stats.kept_bytes, 0, "seed {seed}: what has arrived is acknowledged: {stats:?}");
        let now = self.clock.instant(self.now);
        for index in 0..self.sessions.len() {
            self.sessions[index].machine.close(&Error::new(ErrorKind::Closed, "the end"));
            self.drive_session(index);
        }
        for index in 0..self.workers.len() {
            if let Some(machine) = &mut self.workers[index].machine {
                machine.close(now);
                self.drive_worker(index);
            }
        }
        self.wound_up = self.now + Duration::from_secs(10);
        self.run_until(Duration::from_secs(600), gone);
        let stats = self.broker_stats();
        let left = (stats.sessions, stats.workers, stats.services, stats.in_flight, stats.kept_bytes);
        assert_eq!(left, (0, 0, 0, 0, 0), "seed {seed}: nothing is left behind: {stats:?}");
        assert_eq!(self.broker.as_ref().map(Broker::held), Some(0), "seed {seed}: no request is left behind");
    }

    fn broker_stats(&self) -> Stats {
        let broker = self.broker.as_ref().expect("the broker is back");
        broker.stats(self.clock.instant(self.now))
    }
}
