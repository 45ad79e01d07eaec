//! What a worker has in hand.

use std::time::Instant;

use bytes::Bytes;

use crate::message::Message;
use crate::proto::mdpx::SessionId;

use super::outcomes::OutcomeKey;

/// Names a request of an MDPX client: the same in every attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The client's session.
    pub session: SessionId,
    /// The request's number within the session.
    pub number: u64,
}

/// A request that a handler has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) reply_to: ReplyTo,
    /// Whether the connection that it came by still stands; otherwise the broker has given it to somebody else.
    pub(super) current: bool,
    /// Whether its own caller has given it up; repeats may still wait for its outcome.
    pub(super) given_up: bool,
    /// Whether nobody waits for the answer any more.
    pub(super) cancelled: bool,
    /// What a repeat of it would be known by, where outcomes are kept.
    pub(super) key: Option<OutcomeKey>,
    /// Repeats that wait for its outcome.
    pub(super) followers: Vec<Waiting>,
}

/// What an answer needs to find its way.
#[derive(Debug)]
pub(super) enum ReplyTo {
    Older {
        address: Bytes,
        /// Parts that 0.1 cannot send on their own, kept for the final one.
        joined: Vec<Bytes>,
        joined_bytes: usize,
    },
    X1 {
        delivery: u64,
        /// How many parts have been given.
        parts: u32,
    },
}

/// A delivery of MDPX that no handler has seen.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) delivery: u64,
    pub(super) body: Message,
    pub(super) attempt: u32,
    pub(super) deadline: Option<Instant>,
    pub(super) key: Option<RequestKey>,
}

impl Held {
    pub(super) fn new(reply_to: ReplyTo) -> Held {
        Held { reply_to, current: true, given_up: false, cancelled: false, key: None, followers: Vec::new() }
    }

    /// Whether nobody waits for the answer any more and that is news.
    pub(super) fn is_forsaken(&mut self) -> bool {
        let news = self.given_up && self.followers.is_empty() && !self.cancelled;
        self.cancelled |= news;
        news
    }

    pub(super) fn delivery(&self) -> Option<u64> {
        match self.reply_to {
            ReplyTo::X1 { delivery, .. } => Some(delivery),
            ReplyTo::Older { .. } => None,
        }
    }
}
