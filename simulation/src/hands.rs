//! What is seen of workers: who is registered, holds what, and was heard when.

use bytes::Bytes;
use majordomo::Message;
use majordomo::proto::mdp::{self, Part, ToBroker, ToWorker, Version};
use majordomo::proto::mdpx::{Command, Header};

use super::asks::{number_of, service_number};
use super::ledger::{Ledger, read};
use super::network::{Link, MS, Moment};

/// However slow a peer beats, this is the longest interval that it is believed to have.
const SLOWEST: Moment = 60_000 * MS;

/// A worker's connection.
#[derive(Default)]
pub(super) struct Hand {
    pub(super) service: u8,
    is_x1: bool,
    pub(super) is_registered: bool,
    /// The input that registered it, or said that it drains.
    pub(super) since: u64,
    pub(super) capacity: usize,
    pub(super) is_draining: bool,
    pub(super) held: Vec<Held>,
    /// Deliveries that the worker has got and not answered.
    pub(super) given: Vec<u64>,
    pub(super) heard: Moment,
    pub(super) interval: Moment,
    pub(super) slowest: Moment,
    pub(super) beats_while_busy: bool,
    /// Whether the worker has said READY, and DISCONNECT.
    pub(super) said_ready: bool,
    pub(super) said_goodbye: bool,
}

pub(super) struct Held {
    pub(super) delivery: u64,
    pub(super) ask: Option<usize>,
    pub(super) since: Moment,
}

impl Ledger<'_> {
    pub(super) fn hand_of(&self, link: Link) -> Option<&Hand> {
        self.hands.get(link)?.as_deref()
    }

    pub(super) fn unregister(&mut self, link: Link) {
        let Some(at) = self.registered.iter().position(|registered| *registered == link) else { return };
        self.registered.swap_remove(at);
        let Some(hand) = &mut self.hands[link] else { return };
        hand.is_registered = false;
        for held in std::mem::take(&mut hand.held) {
            if let Some(asking) = held.ask.and_then(|id| self.asks.get_mut(id)?.as_mut())
                && asking.hand.is_some_and(|(holder, delivery, _)| (holder, delivery) == (link, held.delivery))
            {
                asking.hand = None;
            }
        }
    }

    fn hand(&mut self, link: Link) -> &mut Hand {
        if self.hands.len() <= link {
            self.hands.resize_with(link + 1, || None);
        }
        self.hands[link].get_or_insert_default()
    }

    fn register(&mut self, now: Moment, link: Link, interval: Moment) {
        let input = self.input;
        let hand = self.hand(link);
        (hand.is_registered, hand.since, hand.heard, hand.interval) = (true, input, now, interval);
        if !self.registered.contains(&link) {
            self.registered.push(link);
        }
    }

    /// The broker gets this of a worker.
    pub(super) fn of_worker(&mut self, now: Moment, link: Link, frames: &[Bytes]) {
        let (interval, input) = (self.setting.heartbeat * MS, self.input);
        let Some(header) = read(frames) else { return self.of_older_worker(now, link, frames) };
        let hand = self.hand(link);
        match header.command {
            Command::Ready { capacity, service, .. } => {
                hand.capacity = capacity as usize;
                hand.service = service_number(&String::from_utf8_lossy(service));
                (hand.is_x1, hand.heard, hand.beats_while_busy) = (true, now, true);
            }
            Command::WorkerPartial { .. } => hand.heard = now,
            Command::WorkerFinal { delivery, .. } => self.answers(now, link, delivery, true),
            Command::WorkerError { delivery, .. } => self.answers(now, link, delivery, true),
            Command::Return { delivery } => {
                let id = hand.held.iter().find(|held| held.delivery == delivery).and_then(|held| held.ask);
                self.answers(now, link, delivery, false);
                if let Some(asking) = id.and_then(|id| self.asking(id)) {
                    asking.delivered = asking.delivered.saturating_sub(1);
                }
            }
            Command::Drain => (hand.heard, hand.is_draining, hand.since) = (now, true, input),
            Command::Heartbeat => hand.beat(now, interval),
            Command::Disconnect { kind, text } => {
                let text = text.to_owned();
                self.hold(kind == 0, "nobody breaks the protocol", || format!("a worker complains: {text}"));
                self.unregister(link);
            }
            _ => {}
        }
    }

    fn of_older_worker(&mut self, now: Moment, link: Link, frames: &[Bytes]) {
        let interval = self.setting.heartbeat * MS;
        match mdp::read_to_broker(frames.to_vec()) {
            Ok(ToBroker::Ready { service, .. }) => {
                self.register(now, link, interval);
                let hand = self.hand(link);
                (hand.capacity, hand.service) = (1, service_number(&String::from_utf8_lossy(&service)));
            }
            Ok(ToBroker::Answer { address, part, .. }) => {
                let Some(delivery) = delivery_of(&address) else { return };
                if part == Part::Final {
                    self.answers(now, link, delivery, true);
                } else {
                    self.hand(link).heard = now;
                }
            }
            Ok(ToBroker::Heartbeat { .. }) => self.hand(link).beat(now, interval),
            Ok(ToBroker::Disconnect { .. }) => self.unregister(link),
            _ => {}
        }
    }

    fn answers(&mut self, now: Moment, link: Link, delivery: u64, counts: bool) {
        let hand = self.hand(link);
        hand.heard = now;
        let Some(at) = hand.held.iter().position(|held| held.delivery == delivery) else { return };
        let held = hand.held.remove(at);
        let Some(id) = held.ask else { return };
        let Some(asking) = self.asking(id) else { return };
        if asking.hand.is_some_and(|(holder, number, _)| (holder, number) == (link, delivery)) {
            asking.hand = None;
        }
        if counts {
            self.answered.push(id);
        }
    }

    /// The broker says this to a worker, wherever in its present output. Whoever it sends away has nothing any more.
    pub(super) fn will_tell(&mut self, link: Link, frames: &[Bytes], version: Version) {
        if farewell(frames, version).is_some() {
            self.leaving.push(link);
        }
    }

    /// The broker has said what it had to say.
    pub(super) fn end_output(&mut self) {
        self.leaving.clear();
    }

    /// The broker says this to a worker. `is_sound` says that its connection has never kept anything back.
    pub(super) fn told_worker(&mut self, now: Moment, link: Link, frames: &[Bytes], version: Version, is_sound: bool) {
        if let Some(text) = farewell(frames, version) {
            let input = self.input;
            let hand = self.hand(link);
            let fine = !hand.is_registered || hand.since == input || !is_sound;
            let fine = fine || self.allowed.deceit;
            self.hold(fine, "nobody alive is taken for dead", || format!("the worker on connection {link}: {text}"));
            return self.unregister(link);
        }
        let Some(header) = read(frames) else {
            if let Ok(ToWorker::Request { address, body }) = mdp::read_to_worker(version, frames.to_vec()) {
                let id = body.last().and_then(|frame| number_of(frame));
                self.delivers(now, link, delivery_of(&address).unwrap_or(0), id);
            }
            return;
        };
        match header.command {
            Command::WorkerWelcome { heartbeat_ms, .. } => self.register(now, link, u64::from(heartbeat_ms) * MS),
            Command::Deliver { delivery, .. } => {
                let body: Message = header.layout.into_message(frames[0].clone(), frames[1..].iter().cloned());
                let id = body.first().and_then(number_of);
                self.delivers(now, link, delivery, id);
            }
            Command::WorkerCancel { delivery } => {
                let Some(held) = self.hand(link).held.iter_mut().find(|held| held.delivery == delivery) else { return };
                let id = held.ask.take();
                if let Some(asking) = id.and_then(|id| self.asking(id))
                    && asking.hand.is_some_and(|(holder, number, _)| (holder, number) == (link, delivery))
                {
                    asking.hand = None;
                }
            }
            _ => {}
        }
    }

    fn delivers(&mut self, now: Moment, link: Link, delivery: u64, id: Option<usize>) {
        let (setting, input) = (self.setting, self.input);
        let hand = self.hand(link);
        hand.held.push(Held { delivery, ask: id, since: now });
        // What came in one message with DRAIN, and before it, may have brought work.
        let is_known = hand.is_registered && (!hand.is_draining || hand.since == input);
        let (held, capacity) = (hand.held.len(), hand.capacity);
        self.hold(held <= capacity, "no worker holds more than its capacity", || format!("{held} of {capacity}"));
        self.hold(is_known, "work goes to workers that want it only", || format!("connection {link} gets {id:?}"));
        let Some(asking) = id.and_then(|id| self.asks.get_mut(id)?.as_mut()) else {
            return self.hold(false, "what is delivered was asked", || format!("delivery {delivery}"));
        };
        let older = asking.is_older();
        // Asked again over an older protocol, it is another request each time.
        let most = asking.most(setting.max_attempts) * if older { asking.arrivals.max(1) } else { 1 };
        asking.delivered += 1;
        let delivered = asking.delivered;
        let overdue = |since: Moment| setting.attempt_timeout.is_some_and(|limit| now >= since + limit * MS);
        // Words to several peers may overtake each other in one output: the later delivery is the one that counts.
        let (before, after) = match asking.hand.replace((link, delivery, now)) {
            Some(later) if later.1 > delivery => {
                asking.hand = Some(later);
                (Some((link, delivery, now)), later)
            }
            before => (before, (link, delivery, now)),
        };
        let other = before.filter(|(link, _, since)| !older && !overdue(*since) && !self.leaving.contains(link));
        self.hold(delivered <= most, "attempts are bounded", || format!("attempt {delivered} of {most} at {id:?}"));
        self.hold(other.is_none(), "a request is in one hand at a time", || {
            format!("{id:?} is held by {after:?} and by {other:?}, too")
        });
    }

    /// A worker gets this.
    pub(super) fn at_worker(&mut self, link: Link, frames: &[Bytes]) {
        if let Some(Header { command: Command::Deliver { delivery, .. }, .. }) = read(frames) {
            self.hand(link).given.push(delivery);
        }
    }

    /// A worker says this: only who holds a delivery answers it, and only once.
    pub(super) fn by_worker(&mut self, link: Link, frames: &[Bytes]) {
        let hand = self.hand(link);
        let Some(header) = read(frames) else {
            match mdp::read_to_broker(frames.to_vec()) {
                Ok(ToBroker::Ready { .. }) => hand.said_ready = true,
                Ok(ToBroker::Disconnect { .. }) => hand.said_goodbye = true,
                _ => {}
            }
            return;
        };
        let holds = match header.command {
            Command::WorkerPartial { delivery, .. } => hand.given.contains(&delivery),
            Command::WorkerFinal { delivery, .. }
            | Command::WorkerError { delivery, .. }
            | Command::Return { delivery } => {
                let before = hand.given.len();
                hand.given.retain(|given| *given != delivery);
                hand.given.len() < before
            }
            Command::Ready { .. } => {
                hand.said_ready = true;
                true
            }
            Command::Disconnect { .. } => {
                hand.said_goodbye = true;
                true
            }
            _ => true,
        };
        self.hold(holds, "a delivery is answered by its holder, once", || format!("{:?}", header.command));
    }

    /// Whether a worker that had a name on this connection left it without a word.
    pub(super) fn left_silently(&self, link: Link) -> bool {
        self.hand_of(link).is_some_and(|hand| hand.said_ready && !hand.said_goodbye)
    }

    /// What the worker on this connection still owes.
    pub(super) fn owed(&self, link: Link) -> usize {
        self.hand_of(link).map_or(0, |hand| hand.given.len())
    }
}

impl Hand {
    fn beat(&mut self, now: Moment, interval: Moment) {
        if let Some(held) = self.held.last() {
            self.beats_while_busy |= now - held.since > interval;
        }
        self.slowest = self.slowest.max(now - self.heard).min(SLOWEST);
        self.heard = now;
    }
}

/// What sends a worker away.
pub(super) fn farewell(frames: &[Bytes], version: Version) -> Option<&str> {
    match read(frames) {
        Some(Header { command: Command::Disconnect { text, .. }, .. }) => Some(text),
        Some(_) => None,
        None => match mdp::read_to_worker(version, frames.to_vec()) {
            Ok(ToWorker::Disconnect) => Some("DISCONNECT"),
            _ => None,
        },
    }
}

/// The delivery that a client address of ours stands for.
fn delivery_of(address: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(address.get(8..16)?.try_into().ok()?))
}
