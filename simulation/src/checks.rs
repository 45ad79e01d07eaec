//! What the broker must agree with after every step, and what was seen must show.

use bytes::Bytes;
use majordomo::proto::broker::{Broker, Stats};

use super::asks::Asking;
use super::ledger::{Before, Ledger};
use super::network::{Link, MS, Moment};

/// The broker's liveness: what its options say by default.
const LIVENESS: u64 = 3;
/// What a waiting request counts in bytes beside its body, at least.
const OVERHEAD: usize = 64;

/// What waits for a service, as far as is known.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    service: u8,
    requests: usize,
    bytes: usize,
    /// Whether something that waits was taken in by the present input.
    is_new: bool,
}

impl Ledger<'_> {
    /// The broker agrees with all that was seen. `timely` is whether its timers have had their turn.
    pub(super) fn check(&mut self, now: Moment, timely: bool, broker: &Broker<Bytes>, instant: std::time::Instant) {
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
        // What was taken in already may come back: it is not dropped for a limit.
        let before = &self.before.counters;
        let came_back = counters.redelivered > before.redelivered || counters.undeliverable > before.undeliverable;
        let may_grow = counters.accepted == before.accepted || came_back;
        let (most, most_bytes) = (setting.max_queued.0, setting.max_queued_bytes.0);
        let fits = may_grow || stats.queued <= self.before.queued.max(most);
        self.hold(fits, "queues are bounded", || format!("{} of {most}", stats.queued));
        let fits = may_grow || stats.queued_bytes <= self.before.queued_bytes.max(most_bytes);
        self.hold(fits, "bytes that wait are bounded", || format!("{} of {most_bytes}", stats.queued_bytes));
        let fits = stats.kept_bytes <= most_bytes;
        self.hold(fits, "what is kept for clients is bounded", || format!("{} of {most_bytes}", stats.kept_bytes));
        self.before = Before { counters, queued: stats.queued, queued_bytes: stats.queued_bytes };
        let known = self.registered.len();
        self.hold(stats.workers == known, "who registered is known", || format!("{known} workers, {}", stats.workers));
        let waiting = self.check_requests(now, timely, held);
        self.check_waiting(&waiting, &stats, may_grow);
    }

    /// What waits is counted, and for each service within its limits.
    fn check_waiting(&mut self, waiting: &[Waiting], stats: &Stats, may_grow: bool) {
        let (most, most_bytes) = (self.setting.max_queued.1, self.setting.max_queued_bytes.1);
        let (mut requests, mut bytes) = (0, 0);
        for waits in waiting {
            (requests, bytes) = (requests + waits.requests, bytes + waits.bytes);
            let grew = waits.is_new && !may_grow;
            self.hold(!grew || waits.requests <= most, "a service's queue is bounded", || {
                format!("{waits:?} of {most}")
            });
            self.hold(!grew || waits.bytes <= most_bytes, "bytes that wait for a service are bounded", || {
                format!("{waits:?} of {most_bytes}")
            });
        }
        let counted = requests <= stats.queued && bytes <= stats.queued_bytes;
        self.hold(counted, "what waits is counted", || format!("{requests} of {bytes} bytes, at least: {stats:?}"));
        self.hold(stats.queued > 0 || stats.queued_bytes == 0, "bytes are given back", || format!("{stats:?}"));
    }

    /// Dead workers are noticed within their lease: the broker's liveness times the interval, or the longest silence that
    /// one of their heartbeats has ended on this connection. `awake` is when the broker last began to look.
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
    fn check_requests(&mut self, now: Moment, timely: bool, held: usize) -> Vec<Waiting> {
        let (setting, input) = (self.setting, self.input);
        let mut known = 0;
        let mut problem = None;
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut waits = |asking: &Asking<'_>| {
            let at = waiting.iter().position(|waits| waits.service == asking.service).unwrap_or_else(|| {
                waiting.push(Waiting { service: asking.service, ..Waiting::default() });
                waiting.len() - 1
            });
            waiting[at].requests += 1;
            waiting[at].bytes += asking.text.len() + OVERHEAD;
            waiting[at].is_new |= asking.first_input == input;
        };
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
                if !asking.older {
                    waits(asking);
                }
                if timely && now > asking.arrived + ttl && asking.delivered == 0 {
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
            if asking.hand.is_some() {
                continue;
            }
            waits(asking);
            if has_room(asking.service) {
                problem = problem.or(Some(("no worker has room while work waits", *id)));
            }
        }
        self.hold(known <= held, "no request is forgotten", || format!("{known} are known of, {held} are held"));
        if let Some((promise, id)) = problem {
            self.hold(false, promise, || format!("request {id}"));
        }
        waiting
    }
}
