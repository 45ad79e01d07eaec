//! A request in a worker's hands.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, ServiceError};
use crate::fork::Origin;
use crate::message::Message;
use crate::properties::Properties;
use crate::proto::worker::Answer;
use crate::wait::{Check, keep_waiting};

use super::cancel::{CancelToken, Cancellations};

/// Where answers go: a session of a blocking or an asynchronous worker.
pub(crate) trait Responder: Send + Sync {
    /// Sends an answer, or a part of one, to the request of this number; whether there is room for more.
    fn answer(&self, id: u64, answer: Answer) -> Result<bool>;

    /// Waits until there is room for more, asking `check` meanwhile.
    fn await_room(&self, check: Check<'_>) -> Result<()>;

    /// Which requests are cancelled.
    fn cancellations(&self) -> &Cancellations;

    /// The service that is asked.
    fn service(&self) -> &str;
}

/// What a machine has put out.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// The number that the request is answered by.
    pub(crate) id: u64,
    pub(crate) body: Message,
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
}

/// A request that waits for its answer. Any thread may give it.
///
/// A request that is dropped without an answer is answered by a failure of code 500, so that neither the caller nor the
/// worker waits for ever. If the connection over which the request came is lost, the broker has given it to
/// another worker: an answer is then dropped and logged.
pub struct Request {
    delivered: Delivered,
    origin: Origin,
    answered: AtomicBool,
    /// Held while a part is given, so that nothing is sent after the last one.
    giving: Mutex<()>,
    responder: Arc<dyn Responder>,
}

impl Request {
    pub(crate) fn new(delivered: Delivered, responder: Arc<dyn Responder>) -> Request {
        let (origin, answered, giving) = (Origin::here(), AtomicBool::new(false), Mutex::new(()));
        Request { delivered, origin, answered, giving, responder }
    }

    /// What the client sent.
    pub fn body(&self) -> &Message {
        &self.delivered.body
    }

    /// Takes the body out, for a handler that passes it on: [`Request::body`] is empty from then on.
    pub fn take_body(&mut self) -> Message {
        std::mem::take(&mut self.delivered.body)
    }

    /// What the client sent beside the body: the properties of [`Request::body`].
    pub fn properties(&self) -> &Properties {
        self.delivered.body.properties()
    }

    /// The service that was asked.
    pub fn service(&self) -> &str {
        self.responder.service()
    }

    /// The request's number, unique within its worker: what [`WorkerEventKind::Cancelled`] names it by.
    ///
    /// [`WorkerEventKind::Cancelled`]: crate::aio::WorkerEventKind::Cancelled
    pub fn id(&self) -> u64 {
        self.delivered.id
    }

    /// Which attempt at the request this is, from 1; 1 where the protocol does not say (MDP/0.1 and 0.2).
    pub fn attempt(&self) -> u32 {
        self.delivered.attempt
    }

    /// When the caller stops waiting; `None` where it has set no limit, or the protocol does not say (MDP/0.1 and 0.2).
    pub fn deadline(&self) -> Option<Instant> {
        self.delivered.deadline
    }

    /// How long the caller still waits; `None` as with [`Request::deadline`], and zero after it.
    pub fn remaining(&self) -> Option<Duration> {
        self.delivered.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody waits for the answer any more: the caller has given the request up or has run out of time, or the
    /// connection that it came by is lost (MDPX only). It may still be answered; the answer is dropped.
    pub fn is_cancelled(&self) -> bool {
        self.origin.is_here() && !self.is_answered() && self.responder.cancellations().is_cancelled(self.id())
    }

    /// A token that tells when the request is cancelled.
    pub fn cancel_token(&self) -> CancelToken {
        if !self.origin.is_here() || self.is_answered() {
            return CancelToken::idle();
        }
        let token = self.responder.cancellations().token(self.id());
        if self.is_answered() {
            // The answer was given in between, and has not seen the token.
            self.responder.cancellations().forget(self.id());
        }
        token
    }

    /// Whether the request has had its answer.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Answers the request. After [`Request::partial`]s, this is the last part.
    ///
    /// # Errors
    /// `InvalidArgument` for a second answer; `TooLarge` over `max_message_bytes`: the request can still be answered;
    /// `Closed` in a forked child.
    pub fn reply(&self, body: impl Into<Message>) -> Result<()> {
        self.answer(Answer::Final(body.into())).map(drop)
    }

    /// Sends a part of the answer; more follow. MDP/0.1 has no parts: they are kept and sent with the final reply. A blocking
    /// worker waits here while the connection has no room.
    ///
    /// # Errors
    /// As [`Request::reply`].
    pub fn partial(&self, body: impl Into<Message>) -> Result<()> {
        self.partial_with(body, &mut keep_waiting)
    }

    /// Sends a part as [`Request::partial`] does, asking `check` while it waits for room.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the wait: the part goes out all the same, and the request can still be answered.
    /// Otherwise as [`Request::reply`].
    pub fn partial_with(&self, body: impl Into<Message>, check: Check<'_>) -> Result<()> {
        // Waits without the lock, so that another thread can answer meanwhile.
        if self.answer(Answer::Partial(body.into()))? { Ok(()) } else { self.responder.await_room(check) }
    }

    /// Answers that the handler failed: the caller gets a `ServiceError` with this code and text.
    ///
    /// # Errors
    /// As [`Request::reply`], but never `TooLarge`: a long text is cut.
    pub fn fail(&self, code: u32, text: &str) -> Result<()> {
        self.fail_with(ServiceError::new(code, text))
    }

    /// Answers that the handler failed. Where the failure is retryable, another worker gets the request while it has
    /// attempts left (MDPX only).
    ///
    /// # Errors
    /// As [`Request::fail`].
    pub fn fail_with(&self, failure: ServiceError) -> Result<()> {
        self.answer(Answer::Failure(failure)).map(drop)
    }

    fn answer(&self, answer: Answer) -> Result<bool> {
        // First of all: the lock may be held by a thread that a forked child does not have.
        self.origin.check("request")?;
        let _giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_answered() {
            return Err(Error::invalid("this request has already been answered"));
        }
        let last = !matches!(answer, Answer::Partial(_));
        let has_room = self.responder.answer(self.id(), answer)?;
        if last {
            self.answered.store(true, Ordering::Release);
            self.responder.cancellations().forget(self.id());
        }
        Ok(has_room)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_answered() {
            let answer = if self.is_cancelled() {
                Answer::Cancelled
            } else {
                Answer::Failure(ServiceError::new(500, "the request was dropped without an answer"))
            };
            // Nobody is left to be told of an error.
            let _ = self.answer(answer);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("service", &self.service())
            .field("frames", &self.body().len())
            .field("answered", &self.is_answered())
            .finish_non_exhaustive()
    }
}
