//! A world's run from beginning to end, and what must hold at its end.

use majordomo::Error;
use majordomo::ErrorKind;
use majordomo::proto::broker::Stats;

use super::asks::Fate;
use super::script::{Act, Kind};
use super::world::World;

/// So long, in milliseconds, everything may take to come to an end.
const SETTLES_WITHIN: u64 = 150_000;
/// So long it may take until nothing is kept any more, or everybody is gone.
const CLEARS_WITHIN: u64 = 20_000;

/// What came of a world's run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests that were asked.
    pub asked: usize,
    /// Questions to the broker itself.
    pub questions: u64,
    /// Requests that were answered.
    pub answered: usize,
    /// Requests whose outcome was what their caller brought about, or whose caller died.
    pub as_asked: usize,
    /// Streams that broke.
    pub broken: usize,
    /// Requests that failed by what went wrong.
    pub failed: usize,
    /// Faults that happened.
    pub faults: usize,
    /// How often the request ran that ran most often.
    pub most_runs: u32,
    /// Whether requests ran again for no other reason than that they were under way when their broker died.
    pub reran_for_broker: bool,
    /// Requests that the last broker took in, and those that it gave up.
    pub accepted: u64,
    /// See `accepted`.
    pub exhausted: u64,
    /// A digest of all that was sent.
    pub digest: u64,
}

impl World<'_> {
    /// Runs the world to its end.
    pub(super) fn live(&mut self) -> Report {
        self.begin();
        let settled = self.run(SETTLES_WITHIN, World::is_settled);
        let (acts, stats) = (self.acts_left, self.stats());
        let waiting: Vec<_> = self.ledger.asks().filter(|asking| asking.is_asked && asking.outcome.is_none()).collect();
        let waiting: Vec<_> = waiting.iter().map(|asking| asking.text.clone()).collect();
        self.ledger
            .hold(settled, "everything comes to an end", || format!("{acts} acts, {waiting:?} are to come; {stats:?}"));
        let report = self.report();
        self.check_outcomes();
        if self.ledger.failure.is_none() {
            self.wind_up();
        }
        report
    }

    fn report(&self) -> Report {
        let mut report = Report { digest: self.digest.unwrap_or(0), reran_for_broker: true, ..Report::default() };
        for asking in self.ledger.asks().filter(|asking| asking.is_asked) {
            report.asked += 1;
            report.questions += u64::from(asking.ask.kind == Kind::Question);
            report.most_runs = report.most_runs.max(asking.runs);
            report.reran_for_broker &= asking.number == 0 || asking.older || asking.runs <= 1 + asking.orphaned;
            match asking.outcome {
                Some(Fate::Answered) => report.answered += 1,
                Some(Fate::Broken) => report.broken += 1,
                Some(Fate::Failed) => report.failed += 1,
                Some(Fate::AsAsked) | None => report.as_asked += 1,
            }
        }
        report.faults = self.script.acts.iter().filter(|planned| !matches!(planned.act, Act::Ask(_))).count();
        if let Some(broker) = &self.broker {
            let counters = broker.stats(self.clocks.broker(self.now)).counters;
            (report.accepted, report.exhausted) = (counters.accepted, counters.exhausted);
        }
        report
    }

    fn check_outcomes(&mut self) {
        let open = self.ledger.asks().find(|asking| asking.is_asked && !asking.is_orphan && asking.outcome.is_none());
        let open = open.map(|asking| asking.text.clone());
        self.ledger.hold(open.is_none(), "every request has an outcome", || format!("{open:?} has none"));
    }

    /// After a while nothing is kept, and once everybody has gone nothing is left.
    fn wind_up(&mut self) {
        self.network.end_silence(self.now);
        self.wake_all();
        let cleared = self.run(CLEARS_WITHIN, World::is_clear);
        let (stats, owed) = (self.stats(), self.owed());
        let workers = self.workers.len();
        self.ledger.hold(owed == 0, "every delivery is answered", || format!("{owed} are owed"));
        self.ledger.hold(stats.kept_bytes == 0, "what has arrived is acknowledged", || format!("{stats:?}"));
        self.ledger.hold(cleared, "everybody finds the broker again", || format!("of {workers} workers: {stats:?}"));
        self.is_ending = true;
        for index in 0..self.sessions.len() {
            self.sessions[index].machine.close(&Error::new(ErrorKind::Closed, "the end"));
            self.drive_session(index);
        }
        for index in 0..self.workers.len() {
            self.leave(index);
        }
        let is_empty = |stats: &Stats| (stats.sessions, stats.workers, stats.services, stats.in_flight) == (0, 0, 0, 0);
        let empty = self.ledger.failure.is_some()
            || self.run(CLEARS_WITHIN, |world| world.broker.is_some() && is_empty(&world.stats()));
        let stats = self.stats();
        let held = self.broker.as_ref().map_or(0, |broker| broker.held());
        self.ledger.hold(empty && held == 0, "nothing is left behind", || format!("{held}: {stats:?}"));
    }

    fn is_clear(&self) -> bool {
        let refuses = self.ledger.allowed.refusals;
        let stats = self.stats();
        self.broker.is_some()
            && stats.kept_bytes == 0
            && (refuses || stats.workers == self.workers.len())
            && self.workers.iter().all(|worker| worker.machine.is_some())
            && self.owed() == 0
    }

    fn owed(&self) -> usize {
        self.workers.iter().filter_map(|peer| peer.link).map(|link| self.ledger.owed(link)).sum()
    }

    fn stats(&self) -> Stats {
        self.broker.as_ref().map(|broker| broker.stats(self.clocks.broker(self.now))).unwrap_or_default()
    }
}
