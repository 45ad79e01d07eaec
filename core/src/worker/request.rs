//! A request in a worker's hands.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result, ServiceError};
use crate::fork::Origin;
use crate::message::Message;
use crate::proto::worker::Answer;

/// Where answers go: a session of a blocking or an asynchronous worker.
pub(crate) trait Responder: Send + Sync {
    /// Sends an answer, or a part of one, to the request that the session's machine gave this number.
    fn answer(&self, number: u64, answer: Answer) -> Result<()>;
}

/// A request that waits for its answer. Any thread may give it.
///
/// A request that is dropped without an answer is answered by a failure of code 500, so that neither the caller nor the
/// worker waits for ever. If the connection over which the request came is lost, the broker has given it to
/// another worker: an answer is then dropped and logged.
pub struct Request {
    body: Message,
    service: Arc<str>,
    number: u64,
    origin: Origin,
    answered: AtomicBool,
    /// Held while a part is given, so that nothing is sent after the last one.
    giving: Mutex<()>,
    responder: Arc<dyn Responder>,
}

impl Request {
    pub(crate) fn new(body: Message, service: Arc<str>, number: u64, responder: Arc<dyn Responder>) -> Request {
        let (origin, answered, giving) = (Origin::here(), AtomicBool::new(false), Mutex::new(()));
        Request { body, service, number, origin, answered, giving, responder }
    }

    /// What the client sent.
    pub fn body(&self) -> &Message {
        &self.body
    }

    /// The service that was asked.
    pub fn service(&self) -> &str {
        &self.service
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
        self.answer(Answer::Final(body.into()))
    }

    /// Sends a part of the answer; more follow. MDP/0.1 has no parts: they are kept and sent with the final reply. A blocking
    /// worker waits here while the connection has no room.
    ///
    /// # Errors
    /// As [`Request::reply`].
    pub fn partial(&self, body: impl Into<Message>) -> Result<()> {
        self.answer(Answer::Partial(body.into()))
    }

    /// Answers that the handler failed: the caller gets a `ServiceError` with this code and text.
    ///
    /// # Errors
    /// As [`Request::reply`], but never `TooLarge`: a long text is cut.
    pub fn fail(&self, code: u32, text: &str) -> Result<()> {
        self.answer(Answer::Failure(ServiceError::new(code, text)))
    }

    fn answer(&self, answer: Answer) -> Result<()> {
        // First of all: the lock may be held by a thread that a forked child does not have.
        self.origin.check("request")?;
        let _giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_answered() {
            return Err(Error::invalid("this request has already been answered"));
        }
        let last = !matches!(answer, Answer::Partial(_));
        self.responder.answer(self.number, answer)?;
        if last {
            self.answered.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_answered() {
            // Nobody is left to be told of an error.
            let _ = self.fail(500, "the request was dropped without an answer");
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("service", &self.service)
            .field("frames", &self.body.len())
            .field("answered", &self.is_answered())
            .finish_non_exhaustive()
    }
}
