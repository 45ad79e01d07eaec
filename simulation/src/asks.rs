//! The account of requests, from their callers' side.

use bytes::Bytes;
use majordomo::{Error, ErrorKind, Message};

use super::network::{Link, MS, Moment};
use super::plan::{KEEPER, NOBODY};
use super::script::{Act, Ask, Ending, Kind, Script};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The promise.
    pub promise: &'static str,
    /// What happened instead.
    pub detail: String,
}

/// What a script allows to go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    /// Somebody may be taken for dead who is not, and what was sent may be lost without a word.
    pub(super) deceit: bool,
    /// The broker's limits are so small that it has to refuse.
    pub(super) refusals: bool,
    /// Connections end, workers go, or attempts are given up: streams may break.
    pub(super) losses: bool,
}

impl Allowed {
    pub(super) fn by(script: &Script) -> Allowed {
        let broker = &script.setting.broker;
        let (refusals, losses) = (broker.max_services < 100, broker.attempt_timeout.is_some());
        let mut allowed = Allowed { refusals, losses, ..Allowed::default() };
        for planned in &script.acts {
            match &planned.act {
                Act::Cut { how: Ending::Silent, .. } | Act::Stall { .. } | Act::Freeze { .. } => allowed.deceit = true,
                Act::Ask(_) => {}
                _ => allowed.losses = true,
            }
        }
        allowed
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub(super) ask: &'a Ask,
    /// Its body: what it is and its number.
    pub(super) text: String,
    /// The number of its service among all.
    pub(super) service: u8,
    pub(super) is_asked: bool,
    /// Its number in its session.
    pub(super) number: u64,
    /// Whether it was asked over an older protocol at last.
    pub(super) older: bool,
    pub(super) parts: Vec<Bytes>,
    pub(super) outcome: Option<Fate>,
    /// Whether its caller gave it up while it had no outcome.
    pub(super) cancelled: bool,
    /// Whether its caller has died.
    pub(super) is_orphan: bool,
    /// How often its handler ran.
    pub(super) runs: u32,
    /// How often it was in a worker's hands when its broker died.
    pub(super) orphaned: u32,
    /// Whether a handler gave a part of its reply.
    pub(super) parted: bool,
    /// How often it has come to this broker, as far as that makes it another request there.
    pub(super) arrivals: u32,
    pub(super) arrived: Moment,
    /// The broker's input that brought it.
    pub(super) first_input: u64,
    /// Whether its service had a worker then.
    pub(super) was_served: bool,
    /// How often it was handed out by this broker.
    pub(super) delivered: u32,
    /// How often it had been when its broker said that it failed.
    pub(super) spent: u32,
    /// Who holds it: the connection, the delivery, and since when.
    pub(super) hand: Option<(Link, u64, Moment)>,
    /// Whether the broker has said a part of its reply.
    pub(super) part_said: bool,
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// With the service's answer, its own failure included.
    Answered,
    /// In the middle of a stream, which cannot be begun again.
    Broken,
    /// As its caller has brought about: given up, in too little time, at once or not at all.
    AsAsked,
    /// By something that went wrong.
    Failed,
}

pub(super) fn service_number(name: &str) -> u8 {
    match name {
        KEEPER => 100,
        NOBODY => 101,
        _ => name.strip_prefix('s').and_then(|number| number.parse().ok()).unwrap_or(102),
    }
}

/// The number of the request that has this text as its body.
pub(super) fn number_of(text: &[u8]) -> Option<usize> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    text[space + 1..].iter().try_fold(0usize, |number, digit| {
        digit.is_ascii_digit().then(|| number.wrapping_mul(10).wrapping_add(usize::from(digit - b'0')))
    })
}

impl<'a> Asking<'a> {
    pub(super) fn new(ask: &'a Ask) -> Asking<'a> {
        let kind = match ask.kind {
            Kind::Echo => "echo",
            Kind::Fail => "fail",
            Kind::Retry => "retry",
            Kind::Keep => "keep",
            Kind::Question => "question",
        };
        Asking {
            ask,
            text: format!("{kind} {}", ask.id),
            service: service_number(&ask.service),
            is_asked: false,
            number: 0,
            older: false,
            parts: Vec::new(),
            outcome: None,
            cancelled: false,
            is_orphan: false,
            runs: 0,
            orphaned: 0,
            parted: false,
            arrivals: 0,
            arrived: 0,
            first_input: 0,
            was_served: false,
            delivered: 0,
            spent: 0,
            hand: None,
            part_said: false,
        }
    }

    pub(super) fn body(&self) -> Message {
        match self.ask.kind {
            Kind::Question => {
                Message::from_frames([self.ask.service.clone(), self.text.clone()].map(Bytes::from).into())
            }
            _ => Message::from(&*self.text),
        }
    }

    /// What the request is sent to.
    pub(super) fn target(&self) -> &str {
        if self.ask.kind == Kind::Question { "mmi.service" } else { &self.ask.service }
    }

    /// When its time is over at the latest, where its call may take so long by default.
    pub(super) fn limit(&self, now: Moment, deadline: u64) -> Moment {
        now + self.ask.hurry.unwrap_or(deadline) * MS
    }

    /// Whether an older protocol carries it, as far as is known.
    pub(super) fn is_older(&self) -> bool {
        self.older || self.number == 0
    }

    /// How often it may be handed out.
    pub(super) fn most(&self, max_attempts: u32) -> u32 {
        if self.ask.once && !self.is_older() { 1 } else { max_attempts }
    }

    /// Judges the outcome. `max_attempts` is the broker's. `in_line` is whether the request had to wait for its client's own others until a moment ago.
    pub(super) fn judge(
        &self,
        outcome: &Result<Message, Error>,
        allowed: Allowed,
        max_attempts: u32,
        in_line: bool,
    ) -> Result<Fate, Failure> {
        let wrong = |promise, detail: String| Err(Failure { promise, detail: format!("{}: {detail}", self.text) });
        let error = match outcome {
            Ok(last) if self.ask.kind == Kind::Question => {
                let status = last.first();
                return match status {
                    Some(b"200" | b"404") => Ok(Fate::Answered),
                    _ => wrong("every answer is the right one", format!("{status:?}")),
                };
            }
            Ok(last) => {
                let last_frame = last.frames().last().map(|frame| &frame[..]);
                return if last_frame != Some(self.text.as_bytes()) {
                    wrong("every answer is the right one", format!("{last_frame:?}"))
                } else if self.parts.len() + last.len() > 3 {
                    wrong("a reply is one stream, not the pieces of two", format!("{:?}", self.parts))
                } else {
                    Ok(Fate::Answered)
                };
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let ask = self.ask;
        let most = self.most(max_attempts);
        // Somebody went, or was taken for gone.
        let lossy = allowed.losses || allowed.deceit;
        let unserved = ask.service == NOBODY;
        let late = ask.hurry.is_some() || unserved || in_line;
        let broken = text.contains("in the middle") || text.contains("first part") || !self.parts.is_empty();
        let fine = |fine: bool, fate: Fate| {
            if fine { Ok(fate) } else { wrong("requests fail for good reasons only", text.clone()) }
        };
        match error.kind() {
            ErrorKind::ServiceError => {
                let failure = error.service_error();
                let code = if ask.kind == Kind::Retry { 503 } else { 418 };
                let own = matches!(ask.kind, Kind::Fail | Kind::Retry)
                    && failure.is_some_and(|failure| failure.code == code && failure.text == self.text);
                fine(own, Fate::Answered)
            }
            ErrorKind::Cancelled => fine(self.cancelled, Fate::AsAsked),
            ErrorKind::NoWorker => fine(ask.fail_fast, Fate::AsAsked),
            ErrorKind::QueueFull | ErrorKind::Denied => fine(allowed.refusals, Fate::AsAsked),
            _ if broken => fine(self.parted && (lossy || late || allowed.refusals), Fate::Broken),
            // The client's own word where the broker went, or has forgotten the client.
            ErrorKind::WorkerLost if text.contains("the broker was lost") => fine(ask.once && lossy, Fate::Failed),
            ErrorKind::WorkerLost => fine(most == 1 && self.spent == 1 && lossy, Fate::Failed),
            ErrorKind::AttemptsExhausted => fine(most > 1 && self.spent == most && lossy, Fate::Failed),
            ErrorKind::Timeout | ErrorKind::Expired | ErrorKind::BrokerUnreachable if late => Ok(Fate::AsAsked),
            // What is kept for clients that are away is bounded.
            ErrorKind::Expired if text.contains("not kept any more") => fine(allowed.refusals, Fate::Failed),
            // The older protocols cannot say that an attempt is lost for good.
            ErrorKind::Timeout | ErrorKind::BrokerUnreachable if most == 1 && self.is_older() => {
                fine(lossy || allowed.refusals, Fate::Failed)
            }
            ErrorKind::Expired | ErrorKind::Timeout | ErrorKind::BrokerUnreachable => {
                fine(allowed.deceit || allowed.refusals, Fate::Failed)
            }
            _ => fine(false, Fate::Failed),
        }
    }
}
