//! The worker, and the requests that it is given.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use majordomo::{Message, Request, aio};
use napi_derive::napi;

use crate::environment::{Environment, lock};
use crate::error::{Result, invalid, thrown};
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
        let worker = aio::Worker::with_inbox(options, environment.workers(), token).map_err(|error| thrown(&error))?;
        if let Some(watch) = environment.watch() {
            worker.watched_by(watch);
        }
        lock(&environment.shared().open).insert(token, worker.clone());
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

/// The requests that workers have in hand, by the worker's token and the request's own number. They are numbers to
/// JavaScript: an object of the engine's that belongs to one of ours lives until all of its memory is swept.
#[derive(Default)]
pub(crate) struct Requests(Mutex<HashMap<(u64, u64), Request>>);

impl Requests {
    pub(crate) fn put(&self, token: u64, request: Request) {
        let unanswered = lock(&self.0).insert((token, request.id()), request);
        drop(unanswered);
    }

    pub(crate) fn is_cancelled(&self, token: i64, number: i64) -> bool {
        lock(&self.0).get(&key(token, number)).is_some_and(Request::is_cancelled)
    }

    pub(crate) fn partial(&self, token: i64, number: i64, body: Message) -> Result<()> {
        match lock(&self.0).get(&key(token, number)) {
            Some(request) => request.partial(body).map_err(|error| thrown(&error)),
            None => Err(answered()),
        }
    }

    /// Gives the last answer. A request whose answer is refused (too large, for example) can still be answered.
    pub(crate) fn answer(
        &self,
        token: i64,
        number: i64,
        send: impl FnOnce(&Request) -> majordomo::Result<()>,
    ) -> Result<()> {
        let mut requests = lock(&self.0);
        let Entry::Occupied(entry) = requests.entry(key(token, number)) else { return Err(answered()) };
        send(entry.get()).map_err(|error| thrown(&error))?;
        let request = entry.remove();
        drop(requests);
        drop(request);
        Ok(())
    }

    /// One that is unanswered is answered with an error.
    pub(crate) fn abandon(&self, token: i64, number: i64) {
        let request = lock(&self.0).remove(&key(token, number));
        drop(request);
    }
}

fn key(token: i64, number: i64) -> (u64, u64) {
    (token.cast_unsigned(), number.cast_unsigned())
}

fn answered() -> napi::Error<crate::error::Code> {
    invalid("this request is already answered")
}
