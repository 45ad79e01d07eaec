//! A request on its way to its one outcome.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, ServiceError};

use super::super::client::{ReplyMode, call_limit};
use super::super::mdpx::{Command, Failure};
use super::super::outputs::Outputs;
use super::{Asked, SessionConfig, SessionOutput};

#[derive(Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) deadline: Instant,
    /// How much time each part of the reply gives anew; `None` where the deadline is the caller's own.
    pub(super) renewal: Option<Duration>,
    /// Whether it is outstanding on this connection.
    pub(super) on_wire: bool,
    /// Whether it was sent on any connection: then it may have run.
    pub(super) was_sent: bool,
    /// How many parts have come.
    pub(super) parts: u32,
    /// Parts that wait for the last one ([`ReplyMode::Whole`]).
    pub(super) joined: Option<Box<Joined>>,
}

#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) frames: Vec<Bytes>,
    /// How much memory they take, about.
    pub(super) cost: usize,
}

impl Request {
    pub(super) fn new(config: &SessionConfig, asked: Asked) -> Request {
        let timeout = asked.terms.options.timeout.unwrap_or(config.timeout);
        let retries = asked.terms.options.retries.unwrap_or(config.retries);
        let (limit, explicit) = call_limit(timeout, retries, asked.terms.options.deadline.or(config.deadline));
        Request {
            deadline: asked.submitted + limit,
            renewal: (!explicit).then_some(limit),
            asked,
            on_wire: false,
            was_sent: false,
            parts: 0,
            joined: None,
        }
    }

    /// Says its REQUEST.
    pub(super) fn say(&self, now: Instant, number: u64, acked: u64, outputs: &mut Outputs<SessionOutput>) {
        let left = self.deadline.saturating_duration_since(now);
        let endless = self.renewal.is_some() && self.asked.mode == ReplyMode::Parts;
        let max_attempts = self.asked.terms.options.max_attempts.unwrap_or(0);
        let command = Command::Request {
            number,
            acked,
            ttl_ms: if endless { 0 } else { milliseconds(left).max(1) },
            max_attempts: u16::try_from(max_attempts).unwrap_or(u16::MAX),
            fail_fast: self.asked.terms.options.fail_fast,
            service: self.asked.terms.service.as_bytes(),
        };
        outputs.say_with(&command, &self.asked.body);
    }

    /// Whether it may be sent to a broker that knows nothing of it.
    pub(super) fn is_repeatable(&self) -> Result<(), Error> {
        let service = &self.asked.terms.service;
        if self.was_sent && self.asked.terms.options.max_attempts == Some(1) {
            let text = format!("the broker was lost while {service:?} was asked; the request may have run");
            return Err(Error::new(ErrorKind::WorkerLost, text));
        }
        if self.parts > 0 && self.asked.mode == ReplyMode::Parts {
            let text = format!("the broker was lost in the middle of {service:?}'s streamed reply");
            return Err(Error::new(ErrorKind::BrokerUnreachable, text));
        }
        Ok(())
    }
}

pub(super) fn error(failure: Failure<'_>) -> Error {
    let kind = ErrorKind::from_number(failure.kind).unwrap_or(ErrorKind::Internal);
    if kind == ErrorKind::ServiceError {
        return ServiceError::new(failure.code, failure.text).retryable(failure.retryable).into();
    }
    Error::new(kind, if failure.text.is_empty() { kind.description() } else { failure.text })
}

/// Rounded up: who asks for a moment more than nothing does not ask for nothing.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}
