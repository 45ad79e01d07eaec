//! The worker, and the requests that it is given.

use std::cell::RefCell;

use majordomo::{Message, Request, aio};
use napi_derive::napi;

use crate::environment::{Environment, lock};
use crate::error::{Result, invalid, thrown};
use crate::message::{Frames, message};
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
        let worker =
            aio::Worker::with_inbox(options.to_core()?, &environment.workers, token).map_err(|error| thrown(&error))?;
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
}

#[napi]
impl NativeRequest {
    pub(crate) fn new(request: Request) -> Self {
        NativeRequest { request: RefCell::new(Some(request)) }
    }

    /// Whether it is answered.
    #[napi(catch_unwind)]
    pub fn is_answered(&self) -> bool {
        self.request.borrow().is_none()
    }

    /// Sends the reply, the last part of a streaming one.
    #[napi(catch_unwind)]
    pub fn reply(&self, #[napi(ts_arg_type = "Array<Uint8Array>")] body: Frames<'_>) -> Result<()> {
        let body: Message = message(&body);
        self.answer(|request| request.reply(body))
    }

    /// Sends a part of the reply; more will follow.
    #[napi(catch_unwind)]
    pub fn partial(&self, #[napi(ts_arg_type = "Array<Uint8Array>")] body: Frames<'_>) -> Result<()> {
        match &*self.request.borrow() {
            Some(request) => request.partial(message(&body)).map_err(|error| thrown(&error)),
            None => Err(answered()),
        }
    }

    /// Answers with a failure.
    #[napi(catch_unwind)]
    pub fn fail(&self, code: u32, text: String) -> Result<()> {
        self.answer(|request| request.fail(code, &text))
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
