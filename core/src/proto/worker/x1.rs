//! A worker of MDPX: many deliveries in hand, each owed one answer.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{ErrorKind, Result, ServiceError};
use crate::message::Message;
use crate::proto::discovery::{self, Spoken};
use crate::proto::heartbeat::Heartbeat;
use crate::proto::mdpx::{self, Command, Failure, SessionId};

use super::hand::{Held, ReplyTo, RequestKey, Waiting};
use super::outcomes::OutcomeKey;
use super::{Answer, State, Worker, WorkerOutput, too_large};

/// No broker is believed to want beats more often, or more seldom, than this.
const BEAT_MIN: Duration = Duration::from_millis(10);
const BEAT_MAX: Duration = Duration::from_secs(3600);

impl Worker {
    pub(super) fn handle_x1(&mut self, now: Instant, frames: Vec<Bytes>) {
        if self.fence.is_some() && !frames.first().is_some_and(|header| mdpx::is_header(header)) {
            return match discovery::read_answer(frames) {
                Some(_) => self.pass_fence(now),
                None => self.dropped("something else than the answer to mmi.protocols"),
            };
        }
        let mut frames = frames.into_iter();
        let Some(header) = frames.next() else { return };
        if !mdpx::is_batch(&header) {
            return self.hear(now, header, frames);
        }
        let layout = match mdpx::read(&header, frames.len()) {
            Ok(read) => read.layout,
            Err(reason) => return self.dropped(reason),
        };
        let connection = self.connections;
        for message in layout.messages(&header).take_while(|message| mdpx::may_join(&[message])) {
            self.hear(now, message, Vec::new().into_iter());
            // It may have ended the connection: the rest is dropped with it.
            if !matches!(self.state, State::Registered | State::Greeting) || self.connections != connection {
                break;
            }
        }
    }

    /// A message came, alone or with others.
    fn hear(&mut self, now: Instant, header: Bytes, frames: std::vec::IntoIter<Bytes>) {
        let read = match mdpx::read(&header, frames.len()) {
            Ok(read) => read,
            Err(reason) => return self.dropped(reason),
        };
        match read.command {
            Command::Deliver { delivery, session, number, ttl_ms, attempt } => {
                let body = read.layout.into_message(header, frames);
                let deadline = Some(ttl_ms)
                    .filter(|ttl| *ttl > 0)
                    .and_then(|ttl| now.checked_add(Duration::from_millis(u64::from(ttl))));
                let key = (session != SessionId::default()).then_some(RequestKey { session, number });
                let attempt = u32::from(attempt.max(1));
                self.on_deliver(now, Waiting { delivery, body, attempt, deadline, key });
            }
            Command::WorkerCancel { delivery } => {
                self.heartbeat.heard(now);
                self.on_cancel(now, delivery);
            }
            Command::Heartbeat => {
                self.failures = 0;
                if self.heartbeat.beat_heard(now) {
                    self.say(now, &Command::Heartbeat);
                }
            }
            Command::WorkerWelcome { heartbeat_ms, liveness, max_message } => {
                let interval = Duration::from_millis(u64::from(heartbeat_ms)).clamp(BEAT_MIN, BEAT_MAX);
                self.heartbeat = Heartbeat::new(now, interval, u32::from(liveness.max(1)));
                let largest = usize::try_from(max_message).unwrap_or(usize::MAX);
                self.limit = self.config.max_message_bytes.min(largest);
                if self.state == State::Greeting {
                    self.state = State::Registered;
                    self.connected();
                }
            }
            Command::Disconnect { kind, text } => {
                let kind = ErrorKind::from_number(kind).map_or("", ErrorKind::name);
                log::info!("{}: the broker ended the connection: {kind} {text}", self.config.service);
                let reason = format!("the broker ended the connection: {text}");
                self.detach(now, &reason);
            }
            _ => self.dropped("a command that no worker is told"),
        }
    }

    /// Registers, or says how much more may be in hand than was said before.
    pub(super) fn say_ready(&mut self, now: Instant) {
        let service = self.config.service.clone();
        self.announced = self.capacity();
        let command = Command::Ready {
            capacity: self.announced,
            heartbeat_ms: u32::try_from(self.config.heartbeat.as_millis()).unwrap_or(u32::MAX).max(1),
            liveness: u8::try_from(self.config.liveness).unwrap_or(u8::MAX),
            service: service.as_bytes(),
        };
        self.say(now, &command);
    }

    pub(super) fn say(&mut self, now: Instant, command: &Command<'_>) {
        self.heartbeat.sent(now);
        self.outputs.join(command);
    }

    pub(super) fn is_x1(&self) -> bool {
        self.spoken == Some(Spoken::X1)
    }

    /// How much may be in hand: less what still runs for a connection that is lost.
    fn capacity(&self) -> u32 {
        let all = self.config.concurrency.saturating_add(self.config.prefetch);
        u32::try_from(all).unwrap_or(u32::MAX).saturating_sub(self.stale)
    }

    fn on_deliver(&mut self, now: Instant, request: Waiting) {
        if self.state != State::Registered {
            return self.break_off(now, "a delivery before WELCOME");
        }
        if self.in_hand >= self.announced {
            return self.break_off(now, "more deliveries than the capacity");
        }
        self.alive(now);
        self.in_hand += 1;
        if self.drain_ends.is_some() {
            self.give_back(now, request.delivery);
        } else if self.waiting.is_empty() && self.has_hands() {
            self.start(now, request);
        } else {
            self.waiting.push_back(request);
        }
    }

    /// The broker breaks the protocol. It is left, which gives everything back to it.
    fn break_off(&mut self, now: Instant, text: &'static str) {
        log::warn!("{}: the broker broke the protocol: {text}; reconnecting", self.config.service);
        self.say(now, &Command::Disconnect { kind: ErrorKind::Protocol.number(), text });
        // It would do so again at once.
        self.failures = self.failures.max(1);
        self.detach(now, text);
    }

    /// Whether another handler may run.
    fn has_hands(&self) -> bool {
        self.running.len() < self.config.concurrency
    }

    /// Gives what waits to handlers that are free.
    pub(super) fn start_waiting(&mut self, now: Instant) {
        while self.has_hands() {
            let Some(next) = self.waiting.pop_front() else { return };
            self.start(now, next);
        }
    }

    /// It is this request's turn.
    fn start(&mut self, now: Instant, request: Waiting) {
        if request.deadline.is_some_and(|deadline| now >= deadline) {
            return self.give_back(now, request.delivery);
        }
        let key = self.outcomes.is_enabled().then(|| OutcomeKey::of(&request.body, request.key)).flatten();
        if let Some(key) = &key {
            if let Some(answer) = self.outcomes.get(now, key) {
                return self.say_outcome(now, request.delivery, 0, answer);
            }
            let leader = self.outcomes.running(key).and_then(|number| self.running.get_mut(&number));
            if let Some(leader) = leader {
                return leader.followers.push(request);
            }
        }
        self.last_number += 1;
        let number = self.last_number;
        if let Some(key) = &key {
            self.outcomes.begin(key.clone(), number);
        }
        let Waiting { delivery, body, attempt, deadline, key: request_key } = request;
        let held = Held { key, ..Held::new(ReplyTo::X1 { delivery, parts: 0 }) };
        self.running.insert(number, held);
        self.outputs.push(WorkerOutput::Request { number, body, attempt, deadline, key: request_key });
    }

    /// Nobody waits for this delivery any more.
    fn on_cancel(&mut self, now: Instant, delivery: u64) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.delivery == delivery) {
            self.waiting.remove(at);
            return self.say_outcome(now, delivery, 0, Answer::Cancelled);
        }
        for (number, held) in &mut self.running {
            let follower = held.followers.iter().position(|waiting| waiting.delivery == delivery);
            if let Some(at) = follower {
                held.followers.remove(at);
            } else if held.current && held.delivery() == Some(delivery) {
                held.given_up = true;
            } else {
                continue;
            }
            // Where another waits for the outcome too, the handler goes on for that.
            if held.is_forsaken() {
                self.outputs.push(WorkerOutput::Cancelled { number: *number });
            }
            if follower.is_some() {
                self.say_outcome(now, delivery, 0, Answer::Cancelled);
            }
            return;
        }
    }

    pub(super) fn answer_x1(&mut self, now: Instant, number: u64, answer: Answer) -> Result<()> {
        let Some(held) = self.running.get_mut(&number) else { return Ok(()) };
        let ReplyTo::X1 { delivery, parts } = &mut held.reply_to else { return Ok(()) };
        if let Answer::Partial(body) | Answer::Final(body) = &answer
            && body.byte_len() > self.limit
        {
            return Err(too_large(body.byte_len(), self.limit));
        }
        if let Answer::Partial(body) = answer {
            let command = Command::WorkerPartial { delivery: *delivery, sequence: *parts };
            *parts = parts.saturating_add(1);
            if held.current && !held.cancelled {
                self.say_with(now, &command, &body);
            }
            return Ok(());
        }
        let (delivery, parts) = (*delivery, *parts);
        let Some(held) = self.release(number) else { return Ok(()) };
        if held.key.is_some() {
            self.share_outcome(now, held, delivery, parts, answer);
        } else if held.current {
            self.say_outcome(now, delivery, parts, answer);
        }
        self.finish(now);
        Ok(())
    }

    /// The outcome of a request whose repeats are answered by it too.
    fn share_outcome(&mut self, now: Instant, held: Held, delivery: u64, parts: u32, answer: Answer) {
        let whole = parts == 0;
        // What a handler says that was told to stop is no outcome for those who still want one.
        let lasts = whole
            && match &answer {
                Answer::Final(_) => true,
                Answer::Failure(failure) => !failure.retryable && !held.cancelled,
                Answer::Partial(_) | Answer::Cancelled => false,
            };
        let same = lasts || (whole && !held.cancelled && matches!(answer, Answer::Failure(_)));
        for follower in held.followers {
            if same {
                self.say_outcome(now, follower.delivery, 0, answer.clone());
            } else {
                self.waiting.push_front(follower);
            }
        }
        if lasts && let Some(key) = held.key {
            self.outcomes.keep(now, key, answer.clone());
        }
        if held.current {
            self.say_outcome(now, delivery, parts, answer);
        }
    }

    /// Answers a delivery for good.
    fn say_outcome(&mut self, now: Instant, delivery: u64, parts: u32, answer: Answer) {
        self.in_hand = self.in_hand.saturating_sub(1);
        match answer {
            Answer::Final(body) | Answer::Partial(body) => {
                self.say_with(now, &Command::WorkerFinal { delivery, sequence: parts }, &body);
            }
            Answer::Failure(failure) => self.say_failure(now, delivery, ErrorKind::ServiceError, &failure),
            Answer::Cancelled => {
                let failure = ServiceError { code: 0, ..super::cancelled() };
                self.say_failure(now, delivery, ErrorKind::Cancelled, &failure);
            }
        }
    }

    fn say_failure(&mut self, now: Instant, delivery: u64, kind: ErrorKind, failure: &ServiceError) {
        let ServiceError { code, ref text, retryable } = *failure;
        let failure = Failure { kind: kind.number(), retryable, code, text };
        self.say(now, &Command::WorkerError { delivery, failure });
    }

    /// Says something that has a body.
    fn say_with(&mut self, now: Instant, command: &Command<'_>, body: &Message) {
        self.heartbeat.sent(now);
        self.outputs.say_with(command, body);
    }

    /// No handler has seen this delivery: it goes to another worker.
    fn give_back(&mut self, now: Instant, delivery: u64) {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.say(now, &Command::Return { delivery });
    }

    /// Gives back everything that no handler has seen.
    pub(super) fn give_back_unstarted(&mut self, now: Instant) {
        let followers = self.running.values_mut().flat_map(|held| std::mem::take(&mut held.followers));
        let unstarted: Vec<_> = self.waiting.drain(..).chain(followers).map(|waiting| waiting.delivery).collect();
        for delivery in unstarted {
            self.give_back(now, delivery);
        }
        let forsaken = self.running.iter_mut().filter_map(|(number, held)| held.is_forsaken().then_some(*number));
        let mut forsaken: Vec<_> = forsaken.collect();
        forsaken.sort_unstable();
        for number in forsaken {
            self.outputs.push(WorkerOutput::Cancelled { number });
        }
    }

    /// A request that was put out turns out to have reached no handler.
    pub(super) fn take_back_x1(&mut self, now: Instant, held: Held, delivery: u64) {
        for follower in held.followers {
            self.waiting.push_front(follower);
        }
        if held.current && held.cancelled {
            self.say_outcome(now, delivery, 0, Answer::Cancelled);
        } else if held.current {
            self.give_back(now, delivery);
        }
        if self.drain_ends.is_some() {
            self.give_back_unstarted(now);
        }
        self.finish(now);
    }

    /// The connection is lost, and with it everything in hand: the broker gives it to others.
    pub(super) fn lose_deliveries(&mut self) {
        self.waiting.clear();
        self.in_hand = 0;
        self.stale = 0;
        let mut told = Vec::new();
        for (number, held) in &mut self.running {
            held.followers.clear();
            held.current = false;
            self.stale = self.stale.saturating_add(1);
            if held.delivery().is_some() && !held.cancelled {
                held.cancelled = true;
                told.push(*number);
            }
        }
        told.sort_unstable();
        for number in told {
            self.outputs.push(WorkerOutput::Cancelled { number });
        }
    }

    /// A handler is done: there is room for what waits, and after a lost connection for more.
    pub(super) fn go_on(&mut self, now: Instant) {
        if self.announced < self.capacity() {
            self.say_ready(now);
        }
        self.start_waiting(now);
    }
}
