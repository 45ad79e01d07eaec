//! Outcomes that are kept, so that a repeat of a request is answered without running the handler again.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::FixedState;

use crate::message::Message;
use crate::properties::Properties;

use super::{Answer, RequestKey};

/// What an outcome takes besides its bytes and those of its key.
const COST: usize = 256;

/// What a repeat is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum OutcomeKey {
    /// The application's own key.
    Given(Bytes),
    /// The client's session and number.
    Numbered(RequestKey),
}

impl OutcomeKey {
    /// The key of a request; `None` where a repeat of it cannot be told.
    pub(super) fn of(body: &Message, key: Option<RequestKey>) -> Option<OutcomeKey> {
        let given = body.properties().get(Properties::IDEMPOTENCY_KEY).map(Bytes::copy_from_slice);
        given.map(OutcomeKey::Given).or(key.map(OutcomeKey::Numbered))
    }

    fn size(&self) -> usize {
        match self {
            OutcomeKey::Given(key) => key.len(),
            OutcomeKey::Numbered(_) => 0,
        }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

/// The outcomes of the last requests. Those that were not asked for longest go first.
#[derive(Debug)]
pub(super) struct Outcomes {
    limits: Limits,
    kept: HashMap<OutcomeKey, Kept, FixedState>,
    /// The keys by their last use.
    by_use: BTreeMap<u64, OutcomeKey>,
    last_use: u64,
    bytes: usize,
    /// The machine's numbers of the requests that are being worked on.
    running: HashMap<OutcomeKey, u64, FixedState>,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    since: Instant,
    used: u64,
    cost: usize,
}

impl Outcomes {
    /// `seed` keeps clients from choosing keys that collide.
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        Outcomes {
            limits,
            kept: HashMap::with_hasher(FixedState::with_seed(seed)),
            by_use: BTreeMap::new(),
            last_use: 0,
            bytes: 0,
            running: HashMap::with_hasher(FixedState::with_seed(seed)),
        }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_enabled(&self) -> bool {
        self.limits.count > 0
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The outcome of this request, if it is kept.
    pub(super) fn get(&mut self, now: Instant, key: &OutcomeKey) -> Option<Answer> {
        let kept = self.kept.get_mut(key)?;
        if now.saturating_duration_since(kept.since) >= self.limits.age {
            self.remove(&key.clone());
            return None;
        }
        self.last_use += 1;
        self.by_use.remove(&kept.used);
        kept.used = self.last_use;
        self.by_use.insert(self.last_use, key.clone());
        Some(kept.answer.clone())
    }

    /// The number under which this request is being worked on.
    pub(super) fn running(&self, key: &OutcomeKey) -> Option<u64> {
        self.running.get(key).copied()
    }

    pub(super) fn begin(&mut self, key: OutcomeKey, number: u64) {
        self.running.insert(key, number);
    }

    /// The request is not worked on any more.
    pub(super) fn end(&mut self, key: &OutcomeKey) {
        self.running.remove(key);
    }

    /// Keeps an outcome, and makes room for it.
    pub(super) fn keep(&mut self, now: Instant, key: OutcomeKey, answer: Answer) {
        let cost = COST + key.size() + size(&answer);
        self.remove(&key);
        if cost > self.limits.bytes {
            return;
        }
        while self.kept.len() >= self.limits.count || self.bytes + cost > self.limits.bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.remove(&oldest);
        }
        self.last_use += 1;
        self.bytes += cost;
        self.by_use.insert(self.last_use, key.clone());
        self.kept.insert(key, Kept { answer: apart(answer), since: now, used: self.last_use, cost });
        self.drop_aged(now);
    }

    /// What was not used for so long is too old, whenever it was made.
    pub(super) fn drop_aged(&mut self, now: Instant) {
        while let Some((_, oldest)) = self.by_use.first_key_value() {
            let since = self.kept.get(oldest).map(|kept| kept.since);
            if since.is_some_and(|since| now.saturating_duration_since(since) < self.limits.age) {
                break;
            }
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &OutcomeKey) {
        if let Some(kept) = self.kept.remove(key) {
            self.by_use.remove(&kept.used);
            self.bytes -= kept.cost;
        }
    }
}

fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Partial(body) | Answer::Final(body) => body.cost(),
        Answer::Failure(failure) => failure.text.len(),
        Answer::Cancelled => 0,
    }
}

/// The same in memory of its own: what a handler gave may be a few bytes of a large buffer, which would be kept too.
fn apart(answer: Answer) -> Answer {
    match answer {
        Answer::Partial(body) => Answer::Partial(body.apart()),
        Answer::Final(body) => Answer::Final(body.apart()),
        Answer::Failure(_) | Answer::Cancelled => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> OutcomeKey {
        OutcomeKey::Given(Bytes::from_static(name.as_bytes()))
    }

    fn reply(size: usize) -> Answer {
        Answer::Final(Message::from(vec![0; size]))
    }

    fn outcomes(count: usize, bytes: usize) -> Outcomes {
        Outcomes::new(Limits { count, bytes, age: Duration::from_secs(10) }, 1)
    }

    #[test]
    fn the_outcome_that_was_not_used_longest_makes_room() {
        let now = Instant::now();
        let mut outcomes = outcomes(2, 1 << 20);
        outcomes.keep(now, key("a"), reply(1));
        outcomes.keep(now, key("b"), reply(1));
        assert!(outcomes.get(now, &key("a")).is_some());
        outcomes.keep(now, key("c"), reply(1));
        let kept = ["a", "b", "c"].map(|name| outcomes.get(now, &key(name)).is_some());
        assert_eq!(kept, [true, false, true]);
    }

    #[test]
    fn the_bytes_are_bounded_and_counted_back() {
        let now = Instant::now();
        let one = COST + 1 + size(&reply(1000));
        let mut outcomes = outcomes(100, 2 * one);
        for name in ["a", "b", "c", "c"] {
            outcomes.keep(now, key(name), reply(1000));
        }
        let kept = ["a", "b", "c"].map(|name| outcomes.get(now, &key(name)).is_some());
        assert_eq!(kept, [false, true, true]);
        outcomes.keep(now, key("huge"), reply(1 << 20));
        assert!(outcomes.get(now, &key("huge")).is_none() && outcomes.get(now, &key("b")).is_some());
        assert_eq!(outcomes.bytes, 2 * one);
    }

    #[test]
    fn keys_and_empty_frames_count_and_a_small_part_of_a_large_buffer_does_not_keep_the_rest() {
        let now = Instant::now();
        let mut outcomes = outcomes(100, 100_000);
        let long = |name: u8| OutcomeKey::Given(Bytes::from(vec![name; 40_000]));
        (0..3).for_each(|name| outcomes.keep(now, long(name), reply(1)));
        assert_eq!(outcomes.kept.len(), 2, "a third key has no room");
        outcomes.keep(now, key("frames"), Answer::Final(Message::from_frames(vec![Bytes::new(); 5000])));
        assert!(outcomes.get(now, &key("frames")).is_none(), "empty frames take memory too");
        let large = Bytes::from(vec![7; 1 << 20]);
        outcomes.keep(now, key("slice"), Answer::Final(Message::from([large.slice(..2), large.slice(5..5)])));
        assert!(large.is_unique());
        let kept = outcomes.get(now, &key("slice"));
        assert!(matches!(kept, Some(Answer::Final(body)) if body == Message::from([&[7, 7][..], &[]])));
    }

    #[test]
    fn an_outcome_is_forgotten_when_it_is_old() {
        let now = Instant::now();
        let mut outcomes = outcomes(100, 1 << 20);
        outcomes.keep(now, key("a"), reply(1));
        let later = now + Duration::from_secs(10);
        outcomes.keep(later, key("b"), reply(1));
        assert_eq!((outcomes.kept.len(), outcomes.by_use.len()), (1, 1), "nobody had to ask for it");
        assert!(outcomes.get(later, &key("a")).is_none() && outcomes.get(later, &key("b")).is_some());
        outcomes.drop_aged(later + Duration::from_secs(10));
        assert_eq!((outcomes.kept.len(), outcomes.bytes), (0, 0), "nothing had to come");
    }
}
