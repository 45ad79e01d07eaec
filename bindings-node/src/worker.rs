//! The worker, and the requests that it is given.

use std::cell::RefCell;
use std::time::Instant;

use majordomo::{Request, ServiceError, aio};
use napi_derive::napi;

use crate::environment::{Environment, lock};
use crate::error::{Result, invalid, thrown};
use crate::message::{Frames, with_properties};
use crate::options::WorkerOptions;

/// A worker of one service.
#[napi]
pub struct NativeWorker {
    worker: aio::Worker,
}

#[napi]
impl NativeWorker {
    /// Makes a worker and registers it. Requests, and one last event when it ends, come through `environment` under
    /// `token`.
    #[napi(constructor, catch_unwind)]
    pub fn new(environment: &Environment, token: i64, options: WorkerOptions) -> Result<Self> {
        let token = token.cast_unsigned();
        let options = options.to_core()?.on_event(environment.hook(token));
        let worker = aio::Worker::with_inbox(options, &environment.workers, token).map_err(|error| thrown(&error))?;
        lock(&environment.open).insert(token, worker.clone());
        Ok(NativeWorker { worker })
    }

    /// Takes no more work, finishes what is in hand, then ends.
    #[napi(catch_unwind)]
    pub fn drain(&self) {
        // The end is told by the last event; nobody waits for the future.
        drop(self.worker.drain());
    }

    /// Ends at once.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.worker.close();
    }
}

/// A request in the hands of a worker. One that is collected unanswered is answered with an error.
#[napi]
pub struct NativeRequest {
    /// Gone as soon as it is answered, so that its body does not wait for the garbage collector.
    request: RefCell<Option<Request>>,
    id: u64,
    attempt: u32,
    deadline: Option<Instant>,
}

#[napi]
impl NativeRequest {
    pub(crate) fn new(request: Request) -> Self {
        let (id, attempt, deadline) = (request.id(), request.attempt(), request.deadline());
        NativeRequest { request: RefCell::new(Some(request)), id, attempt, deadline }
    }

    /// The number that an event of its cancellation names it by.
    #[napi(catch_unwind)]
    pub fn id(&self) -> i64 {
        self.id.cast_signed()
    }

    /// Which attempt at the request this is, from 1.
    #[napi(catch_unwind)]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Milliseconds that the caller still waits; nothing where there is no limit.
    #[napi(catch_unwind)]
    pub fn remaining(&self) -> Option<f64> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64() * 1000.0)
    }

    /// Whether nobody waits for the answer any more.
    #[napi(catch_unwind)]
    pub fn is_cancelled(&self) -> bool {
        self.request.borrow().as_ref().is_some_and(Request::is_cancelled)
    }

    /// Whether it is answered.
    #[napi(catch_unwind)]
    pub fn is_answered(&self) -> bool {
        self.request.borrow().is_none()
    }

    /// Sends the reply, the last part of a streaming one.
    #[napi(catch_unwind)]
    pub fn reply(
        &self,
        #[napi(ts_arg_type = "Array<Uint8Array>")] body: Frames<'_>,
        names: Option<Vec<String>>,
        #[napi(ts_arg_type = "Array<Uint8Array>")] values: Option<Frames<'_>>,
    ) -> Result<()> {
        let body = with_properties(&body, names, values)?;
        self.answer(|request| request.reply(body))
    }

    /// Sends a part of the reply; more will follow.
    #[napi(catch_unwind)]
    pub fn partial(
        &self,
        #[napi(ts_arg_type = "Array<Uint8Array>")] body: Frames<'_>,
        names: Option<Vec<String>>,
        #[napi(ts_arg_type = "Array<Uint8Array>")] values: Option<Frames<'_>>,
    ) -> Result<()> {
        let body = with_properties(&body, names, values)?;
        match &*self.request.borrow() {
            Some(request) => request.partial(body).map_err(|error| thrown(&error)),
            None => Err(answered()),
        }
    }

    /// Answers with a failure; where it is `retryable`, another worker gets the request while it has attempts left.
    #[napi(catch_unwind)]
    pub fn fail(&self, code: u32, text: String, retryable: bool) -> Result<()> {
        let failure = ServiceError::new(code, text).retryable(retryable);
        self.answer(|request| request.fail_with(failure))
    }

    /// A request whose answer is refused (too large, for example) can still be answered.
    fn answer(&self, send: impl FnOnce(&Request) -> majordomo::Result<()>) -> Result<()> {
        let mut slot = self.request.borrow_mut();
        let request = slot.as_ref().ok_or_else(answered)?;
        send(request).map_err(|error| thrown(&error))?;
        *slot = None;
        Ok(())
    }
}

fn answered() -> napi::Error<crate::error::Code> {
    invalid("this request is already answered")
}
