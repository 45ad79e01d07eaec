//! What the broker must agree with after every step, and what was seen must show.

use bytes::Bytes;
use majordomo::proto::broker::Broker;

use super::ledger::Ledger;
use super::network::{Link, MS, Moment};

/// The broker's liveness: what its options say by default.
const LIVENESS: u64 = 3;

impl Ledger<'_> {
    /// The broker agrees with all that was seen. `awake` is when it last began to look.
    pub(super) fn check(&mut self, now: Moment, awake: Moment, broker: &Broker<Bytes>, instant: std::time::Instant) {
        let (stats, held, setting) = (broker.stats(instant), broker.held(), self.setting);
        let counters = stats.counters;
        let ended = counters.answered
            + counters.expired
            + counters.exhausted
            + counters.abandoned
            + counters.cancelled
            + counters.failed;
        self.hold(counters.accepted == ended + held as u64, "every request taken in has one fate", || {
            format!("{stats:?}")
        });
        self.hold(stats.queued + stats.in_flight == held, "every request waits or is held", || {
            format!("{held}: {stats:?}")
        });
        self.hold(counters.malformed == 0, "nobody breaks the protocol", || format!("{stats:?}"));
        let tables = stats.workers <= setting.max_workers
            && stats.services <= setting.max_services
            && stats.sessions <= setting.max_sessions;
        self.hold(tables, "tables are bounded", || format!("{stats:?}"));
        let (before, queued) = self.before;
        let most = setting.max_queued.0;
        // What was taken in already may come back: it is not dropped for a limit.
        let came_back = counters.redelivered > before.redelivered || counters.undeliverable > before.undeliverable;
        let grew = counters.accepted > before.accepted && stats.queued > queued && !came_back;
        self.hold(!grew || stats.queued <= most, "queues are bounded", || format!("{} of {most}", stats.queued));
        self.before = (counters, stats.queued);
        let known = self.registered.len();
        self.hold(stats.workers == known, "who registered is known", || format!("{known} workers, {}", stats.workers));
        self.check_workers(now, awake);
        self.check_requests(now, held);
    }

    /// Dead workers are noticed within their lease.
    pub(super) fn check_workers(&mut self, now: Moment, awake: Moment) {
        for index in 0..self.registered.len() {
            let link = self.registered[index];
            let Some(hand) = self.hand_of(link) else { continue };
            let lease = hand.interval.max(hand.slowest) * LIVENESS;
            let obliged = hand.held.is_empty() || hand.beats_while_busy;
            let silent = now.saturating_sub(hand.heard.max(awake));
            self.hold(!obliged || silent <= lease, "a dead worker is noticed within its lease", || {
                format!("connection {link} has been silent for {} ms of {}", silent / MS, lease / MS)
            });
        }
    }

    /// No request is forgotten, waits for ever, or waits beside a worker that has room.
    fn check_requests(&mut self, now: Moment, held: usize) {
        let setting = self.setting;
        let mut known = 0;
        let mut problem = None;
        let has_room = |service: u8| {
            self.registered
                .iter()
                .filter_map(|link| self.hand_of(*link))
                .any(|hand| hand.service == service && !hand.is_draining && hand.held.len() < hand.capacity)
        };
        let ttl = setting.request_ttl * MS;
        for book in &self.books {
            known += book.open.len();
            if book.open.len() > setting.credit as usize {
                problem = problem.or(Some(("credit is bounded", book.open[0])));
            }
            for id in &book.open {
                let Some(asking) = &self.asks[*id] else { continue };
                if asking.hand.is_some() {
                    continue;
                }
                if now > asking.arrived + ttl && asking.delivered == 0 {
                    problem = problem.or(Some(("no request waits longer than it may", *id)));
                }
                // Asked again over an older protocol, it is two requests, and the one's answer leaves the other in its hand.
                let is_held = |link: &Link| {
                    self.hand_of(*link).is_some_and(|hand| hand.held.iter().any(|held| held.ask == Some(*id)))
                };
                if has_room(asking.service) && !(asking.older && self.registered.iter().any(is_held)) {
                    problem = problem.or(Some(("no worker has room while work waits", *id)));
                }
            }
        }
        for (id, _) in &self.older {
            let Some(asking) = &self.asks[*id] else { continue };
            // What was asked again is two requests here, and what cannot be said has ended in silence.
            let overdue = |since: Moment| setting.attempt_timeout.is_some_and(|limit| now >= since + limit * MS);
            let lost = asking.hand.is_none_or(|(.., since)| overdue(since))
                && (asking.part_said || asking.delivered >= setting.max_attempts);
            if asking.arrivals > 1 || lost || now >= asking.arrived + ttl {
                continue;
            }
            known += 1;
            if asking.hand.is_none() && has_room(asking.service) {
                problem = problem.or(Some(("no worker has room while work waits", *id)));
            }
        }
        self.hold(known <= held, "no request is forgotten", || format!("{known} are known of, {held} are held"));
        if let Some((promise, id)) = problem {
            self.hold(false, promise, || format!("request {id}"));
        }
    }
}
